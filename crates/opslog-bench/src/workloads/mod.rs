//! What is measured: the workloads P1 to P14, with their goals.
//!
//! A workload runs in a child process, for one subject and one round; what it needs (a store of a million documents, say) was prepared before, in
//! another child. After what is timed, the documents are read back and summed, so that all subjects are known to have done equal work.

mod agents;
mod checkpoint;
mod concurrent;
mod disk;
mod open;
mod prepare;
mod reads;
mod tail;
mod writes;

use crate::Result;
use crate::args::Arguments;
use crate::goals::Goal;
use crate::measure::Outcome;
use crate::runner::{Action, Case};
use crate::subjects::{self, Durability, Subject};

pub(crate) use prepare::Kind;

/// One workload.
pub(crate) struct Workload {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What it measures.
    pub(crate) figures: &'static [Figure],
    /// Who can do it, opslog first, then the limit, then the peers.
    pub(crate) subjects: &'static [&'static str],
    /// What must be there before.
    pub(crate) needs: Needs,
    /// Documents or operations: usually, and with `--quick`.
    pub(crate) sizes: (u32, u32),
    pub(crate) growth: Growth,
    run: fn(&Case) -> Result<Outcome>,
}

/// One thing that a workload measures.
pub(crate) struct Figure {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    pub(crate) goals: &'static [Goal],
}

/// What a figure's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations or documents a second: more is better.
    PerSecond,
    Seconds,
    Bytes,
    /// A multiple of something.
    Times,
}

/// The data that a workload begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// An empty directory.
    Nothing,
    /// A prepared store, which it leaves as it is, so that all rounds share it.
    Shared(Kind),
    /// A prepared store of its own, which it changes.
    Own(Kind),
}

/// What grows from 1,000 to 1,000,000 with `--growth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// The workload's size.
    Size,
    /// The documents that are there before; the size stays.
    Before,
}

const ALL: [&Workload; 15] = [
    &writes::P1,
    &concurrent::P2,
    &writes::P3,
    &writes::P4,
    &open::P5,
    &open::P5B,
    &open::P6,
    &reads::P7,
    &reads::P8,
    &checkpoint::P9,
    &checkpoint::P10,
    &open::P11,
    &tail::P12,
    &disk::P13,
    &agents::P14,
];

impl Workload {
    /// The size to run it with.
    pub(crate) fn size(&self, arguments: &Arguments) -> u32 {
        let (usual, quick) = self.sizes;
        arguments
            .size
            .unwrap_or(if arguments.quick { quick } else { usual })
    }
}

/// The workloads named, or all.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Workload>> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    names.iter().map(|name| find(name)).collect()
}

fn find(name: &str) -> Result<&'static Workload> {
    ALL.into_iter()
        .find(|workload| workload.id.eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let known: Vec<&str> = ALL.iter().map(|workload| workload.id).collect();
            format!(
                "there is no workload '{name}'; choose from {}",
                known.join(", ")
            )
            .into()
        })
}

/// Does, in this process, what the case says.
pub(crate) fn run(case: &Case) -> Result<Outcome> {
    match case.action {
        Action::Prepare(kind) => {
            prepare::prepare(case, kind)?;
            Ok(Outcome::default())
        }
        Action::Run => (find(&case.workload)?.run)(case),
    }
}

/// Closes, opens again, and sums up what is there.
fn finish(subject: Box<dyn Subject>, case: &Case, outcome: &mut Outcome) -> Result<()> {
    subject.close()?;
    let again = subjects::open(&case.subject, &case.directory, Durability::Synced)?;
    outcome.checksum = Some(subjects::checksum(&*again)?);
    again.close()
}
