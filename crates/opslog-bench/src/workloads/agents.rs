//! P14: several agents write to one store, each waiting for its own writes to be durable.

use std::sync::Barrier;
use std::thread;

use opslog::Store;

use super::{Figure, Growth, Needs, Unit, Workload};
use crate::Result;
use crate::documents::{Task, tasks};
use crate::goals::{Against, Goal};
use crate::limit;
use crate::measure::{Elapsed, Outcome, Stopwatch};
use crate::runner::Case;
use crate::subjects::{self, Durability};

pub(super) const P14: Workload = Workload {
    id: "P14",
    title: "durable set by several agents at once",
    figures: &[
        figure("agents-1", "sets by 1 agent", &[]),
        figure("agents-2", "sets by 2 agents", &GOALS),
        figure("agents-4", "sets by 4 agents", &GOALS),
        figure("agents-8", "sets by 8 agents", &GOALS),
    ],
    subjects: &["opslog", "limit"],
    needs: Needs::Nothing,
    sizes: (20_000, 200),
    growth: Growth::Before,
    run,
};

const AGENTS: [u32; 4] = [1, 2, 4, 8];

/// What the disk can do for as many writers, each in a file of its own, is where more agents stop helping.
const GOALS: [Goal; 1] = [Goal::Better {
    than: Against::Subject("limit"),
    factor: 0.9,
}];

const fn figure(key: &'static str, title: &'static str, goals: &'static [Goal]) -> Figure {
    Figure {
        key,
        title,
        unit: Unit::PerSecond,
        goals,
    }
}

fn run(case: &Case) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut first = case.before;
    for agents in AGENTS {
        let documents = tasks(first, case.size, 0);
        first += case.size;
        let share = documents.len().div_ceil(agents as usize);
        let shares: Vec<&[(String, Task)]> = documents.chunks(share).collect();
        let elapsed = if case.subject == "limit" {
            in_files(case, &shares)?
        } else {
            by_agents(case, &shares)?
        };
        outcome.rate(&format!("agents-{agents}"), case.size.into(), elapsed);
    }
    if case.subject != "limit" {
        let again = subjects::open(&case.subject, &case.directory, Durability::Synced)?;
        outcome.checksum = Some(subjects::checksum(&*again)?);
        again.close()?;
    }
    Ok(outcome)
}

/// One agent for each share, with a handle of its own, as in a process of its own.
fn by_agents(case: &Case, shares: &[&[(String, Task)]]) -> Result<Elapsed> {
    let stores: Vec<Store<Task>> = (0..shares.len())
        .map(|number| {
            let builder = Store::builder().agent_id(format!("agent-{number}"));
            Ok(builder.open(&case.directory)?)
        })
        .collect::<Result<_>>()?;
    let elapsed = at_once(shares, |number, documents| {
        for (id, task) in documents {
            stores[number].set(id, task)?;
        }
        Ok(())
    })?;
    for store in stores {
        store.close()?;
    }
    Ok(elapsed)
}

/// The limit: each share written in place into a file of its own, and synced line by line.
fn in_files(case: &Case, shares: &[&[(String, Task)]]) -> Result<Elapsed> {
    let mut lines = Vec::new();
    let mut directories = Vec::new();
    for (number, share) in shares.iter().enumerate() {
        lines.push(limit::op_lines(share)?);
        let directory = case.directory.join(format!("{}-{number}", shares.len()));
        std::fs::create_dir_all(&directory)?;
        limit::file_of(
            &directory.join("in-place"),
            lines[number].iter().map(Vec::len).sum(),
        )?;
        directories.push(directory);
    }
    at_once(shares, |number, _| {
        limit::write_in_place(&directories[number].join("in-place"), &lines[number])
    })
}

/// Runs `write` for each share in a thread of its own.
fn at_once(
    shares: &[&[(String, Task)]],
    write: impl Fn(usize, &[(String, Task)]) -> Result<()> + Sync,
) -> Result<Elapsed> {
    let write = &write;
    let barrier = Barrier::new(shares.len() + 1);
    thread::scope(|scope| {
        let writers: Vec<_> = shares
            .iter()
            .enumerate()
            .map(|(number, share)| {
                let barrier = &barrier;
                scope.spawn(move || -> Result<()> {
                    barrier.wait();
                    write(number, share)
                })
            })
            .collect();
        barrier.wait();
        let stopwatch = Stopwatch::start();
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        Ok(stopwatch.elapsed())
    })
}
