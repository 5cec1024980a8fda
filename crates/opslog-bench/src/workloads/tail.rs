//! P12: a reader looks for what a writer wrote.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use opslog::{Store, WriteMode};

use super::prepare::log_file;
use super::{Figure, Growth, Needs, Unit, Workload};
use crate::Result;
use crate::documents::{Task, tasks};
use crate::goals::{Against, Goal};
use crate::measure::{Outcome, Stopwatch};
use crate::runner::Case;

pub(super) const P12: Workload = Workload {
    id: "P12",
    title: "tail of a log (short: a hundredth of its length)",
    figures: &[
        Figure {
            key: "nothing-short",
            title: "nothing new, short log",
            unit: Unit::Seconds,
            goals: &[],
        },
        Figure {
            key: "nothing",
            title: "nothing new",
            unit: Unit::Seconds,
            goals: &[
                Goal::Within {
                    of: Against::Figure("nothing-short"),
                    factor: 1.5,
                },
                Goal::Within {
                    of: Against::Subject("limit"),
                    factor: 4.0,
                },
            ],
        },
        Figure {
            key: "new-short",
            title: "100 new operations, short log",
            unit: Unit::Seconds,
            goals: &[],
        },
        Figure {
            key: "new",
            title: "100 new operations",
            unit: Unit::Seconds,
            goals: &[Goal::Within {
                of: Against::Figure("new-short"),
                factor: 1.5,
            }],
        },
    ],
    subjects: &["opslog", "limit", "reference"],
    needs: Needs::Nothing,
    sizes: (100_000, 10_000),
    growth: Growth::Size,
    run,
};

/// New operations that a reader finds at once.
const NEW: u32 = 100;
/// How often a reader looks.
const LOOKS: u32 = 200;

fn run(case: &Case) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let logs = [
        (case.size.div_ceil(100), "nothing-short", "new-short"),
        (case.size, "nothing", "new"),
    ];
    for (operations, nothing, new) in logs {
        let directory = case.directory.join(operations.to_string());
        let writer = Store::builder()
            .write_mode(WriteMode::asynchronous())
            .checkpoint_threshold(u64::MAX)
            .checkpoint_on_close(false)
            .open(&directory)?;
        set_all(&writer, 0, operations)?;
        if case.subject == "limit" {
            writer.close()?;
            limit_looks(&directory, nothing, &mut outcome)?;
        } else {
            looks(
                &directory,
                &writer,
                operations,
                (nothing, new),
                &mut outcome,
            )?;
            writer.close()?;
        }
    }
    Ok(outcome)
}

fn set_all(writer: &Store<Task>, first: u32, count: u32) -> Result<()> {
    for (id, task) in tasks(first, count, 0) {
        writer.set(&id, &task)?;
    }
    Ok(writer.flush()?)
}

fn looks(
    directory: &Path,
    writer: &Store<Task>,
    operations: u32,
    (nothing, new): (&str, &str),
    outcome: &mut Outcome,
) -> Result<()> {
    let reader: Store<Task> = Store::builder().read_only(true).open(directory)?;
    let stopwatch = Stopwatch::start();
    for _ in 0..LOOKS {
        expect(reader.tail()?.operations.len(), 0)?;
    }
    outcome.time(nothing, LOOKS.into(), stopwatch.elapsed());
    set_all(writer, operations, NEW)?;
    let stopwatch = Stopwatch::start();
    expect(reader.tail()?.operations.len(), NEW as usize)?;
    outcome.time(new, 1, stopwatch.elapsed());
    Ok(())
}

fn expect(found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{found} new operations instead of {expected}").into())
}

/// A read of the manifest and one at the end of the log: what has to be looked at to know that there is nothing new.
fn limit_looks(directory: &Path, key: &str, outcome: &mut Outcome) -> Result<()> {
    let manifest = directory.join("manifest.json");
    let log = File::open(log_file(directory)?)?;
    let end = log.metadata()?.len();
    let mut buffer = [0; 4096];
    let stopwatch = Stopwatch::start();
    for _ in 0..LOOKS {
        std::hint::black_box(std::fs::read(&manifest)?);
        log.read_at(&mut buffer, end)?;
    }
    outcome.time(key, LOOKS.into(), stopwatch.elapsed());
    Ok(())
}
