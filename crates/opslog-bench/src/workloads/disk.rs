//! P13: disk space after many updates.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use opslog::{Retention, Store, WriteMode};

use super::{Figure, Growth, Needs, Unit, Workload, finish};
use crate::Result;
use crate::documents::{Task, id, random_number, task};
use crate::goals::Goal;
use crate::measure::{Outcome, Stopwatch};
use crate::runner::Case;
use crate::subjects::opslog::Opslog;
use crate::subjects::{self, Durability, OPSLOG, Subject};

pub(super) const P13: Workload = Workload {
    id: "P13",
    title: "updates over a hundredth as many documents, buffered, no history",
    figures: &[
        Figure {
            key: "disk",
            title: "disk space after closing, per byte of ids and documents",
            unit: Unit::Times,
            goals: &[Goal::AtMost(3.0)],
        },
        Figure {
            key: "set",
            title: "sets, until closed",
            unit: Unit::PerSecond,
            goals: &[],
        },
    ],
    subjects: &["opslog", "reference", "sqlite", "redb", "fjall", "lmdb"],
    needs: Needs::Nothing,
    sizes: (1_000_000, 10_000),
    growth: Growth::Size,
    run,
};

/// Each document goes through these revisions.
const REVISIONS: u32 = 4;

fn run(case: &Case) -> Result<Outcome> {
    let documents = case.size.div_ceil(100);
    let ids: Vec<String> = (0..documents).map(id).collect();
    let tasks: Vec<Vec<Task>> = (0..documents)
        .map(|number| {
            (0..REVISIONS)
                .map(|revision| task(number, revision))
                .collect()
        })
        .collect();
    let open = || -> Result<Box<dyn Subject>> {
        if case.subject != OPSLOG {
            return subjects::open(&case.subject, &case.directory, Durability::Buffered);
        }
        let builder = Store::builder()
            .write_mode(WriteMode::asynchronous())
            .history_retention(Retention::None);
        Ok(Box::new(Opslog::build(&case.directory, builder)?))
    };
    let subject = open()?;
    let mut outcome = Outcome::default();
    let stopwatch = Stopwatch::start();
    for step in 0..case.size {
        let number = random_number(step, documents) as usize;
        subject.set(&ids[number], &tasks[number][(step % REVISIONS) as usize])?;
    }
    subject.close()?;
    outcome.rate("set", case.size.into(), stopwatch.elapsed());
    let disk = disk_bytes(&case.directory)?;

    let mut live = 0;
    let subject = open()?;
    subject.for_each(&mut |id, document| live += id.len() + document.len())?;
    outcome.value("disk", disk as f64 / live as f64, 0.0);
    finish(subject, case, &mut outcome)?;
    Ok(outcome)
}

/// The blocks that all files take.
fn disk_bytes(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            entry.metadata()?.blocks() * 512
        };
    }
    Ok(bytes)
}
