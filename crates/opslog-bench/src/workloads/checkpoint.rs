//! P9 and P10: writing a large store, and its checkpoint.

use std::time::Instant;

use opslog::{Store, WriteMode};

use super::prepare::{Kind, sets_beside_checkpoint, snapshot_file};
use super::{Figure, Growth, Needs, Unit, Workload, finish};
use crate::Result;
use crate::documents::{Task, id, random_number, task};
use crate::goals::{Against, Goal};
use crate::limit;
use crate::measure::{
    Outcome, Stopwatch, peak_memory, reset_peak_memory, resident_memory, written_bytes,
};
use crate::runner::Case;
use crate::subjects::{self, Durability, OPSLOG};

pub(super) const P9: Workload = Workload {
    id: "P9",
    title: "default settings on a large store: random updates, opslog's checkpoint among them",
    figures: &[
        Figure {
            key: "set",
            title: "durable sets",
            unit: Unit::PerSecond,
            goals: &[
                Goal::Within {
                    of: Against::Subject("opslog:empty"),
                    factor: 1.5,
                },
                Goal::Better {
                    than: Against::Peers,
                    factor: 1.0,
                },
            ],
        },
        Figure {
            key: "longest",
            title: "the longest wait of one set",
            unit: Unit::Seconds,
            goals: &[Goal::AtMost(0.02)],
        },
        Figure {
            key: "written",
            title: "bytes written per byte accepted (opslog: over twice as many sets as documents)",
            unit: Unit::Times,
            goals: &[Goal::AtMost(4.0)],
        },
    ],
    subjects: &[
        "opslog",
        "opslog:empty",
        "reference",
        "sqlite",
        "redb",
        "fjall",
        "lmdb",
    ],
    needs: Needs::Own(Kind::NearCheckpoint),
    sizes: (100_000, 2_000),
    growth: Growth::Size,
    run: sets_beside_checkpoints,
};

pub(super) const P10: Workload = Workload {
    id: "P10",
    title: "checkpoint (limit: a copy of the snapshot, synced)",
    figures: &[
        Figure {
            key: "checkpoint",
            title: "checkpoint",
            unit: Unit::Seconds,
            goals: &[
                Goal::Within {
                    of: Against::Subject("limit"),
                    factor: 2.0,
                },
                Goal::Better {
                    than: Against::Subject("reference"),
                    factor: 10.0,
                },
            ],
        },
        Figure {
            key: "memory",
            title: "memory beyond the store",
            unit: Unit::Bytes,
            goals: &[Goal::AtMost(64.0 * 1024.0 * 1024.0)],
        },
    ],
    subjects: &["opslog", "limit", "reference"],
    needs: Needs::Own(Kind::Snapshot),
    sizes: (1_000_000, 5_000),
    growth: Growth::Size,
    run: checkpoint,
};

/// The updates of P9, prepared, so that only storing them is timed.
fn updates(documents: u32, count: u32) -> Vec<(String, Task)> {
    let update = |step| {
        let number = random_number(step, documents);
        (id(number), task(number, step % 7 + 1))
    };
    (0..count).map(update).collect()
}

fn sets_beside_checkpoints(case: &Case) -> Result<Outcome> {
    let mut case = case.clone();
    if case.subject == "opslog:empty" {
        OPSLOG.clone_into(&mut case.subject);
        case.directory = case.directory.join("empty");
        std::fs::create_dir(&case.directory)?;
        let mut outcome = Outcome::default();
        timed_updates(&case, &mut outcome)?;
        outcome.checksum = None;
        return Ok(outcome);
    }
    let mut outcome = Outcome::default();
    timed_updates(&case, &mut outcome)?;
    if case.subject == OPSLOG {
        let written = written_per_accepted(&case)?;
        outcome.value("written", written, 0.0);
    }
    Ok(outcome)
}

fn timed_updates(case: &Case, outcome: &mut Outcome) -> Result<()> {
    let updates = updates(case.size, sets_beside_checkpoint(case.size));
    let subject = subjects::open(&case.subject, &case.directory, Durability::Synced)?;
    let mut longest = 0.0_f64;
    let stopwatch = Stopwatch::start();
    let mut before = Instant::now();
    for (id, task) in &updates {
        subject.set(id, task)?;
        let now = Instant::now();
        longest = longest.max((now - before).as_secs_f64());
        before = now;
    }
    outcome.rate("set", updates.len() as u64, stopwatch.elapsed());
    outcome.value("longest", longest, 0.0);
    finish(subject, case, outcome)
}

/// Writes until several checkpoints were due, and divides the bytes handed to the system by those of the documents.
fn written_per_accepted(case: &Case) -> Result<f64> {
    let updates = updates(case.size, 2 * case.size);
    let mut accepted = 0;
    for (id, task) in &updates {
        accepted += id.len() + serde_json::to_string(task)?.len();
    }
    let store: Store<Task> = Store::builder()
        .write_mode(WriteMode::group())
        .open(&case.directory)?;
    let before = written_bytes()?;
    for (id, task) in &updates {
        store.set(id, task)?;
    }
    store.close()?;
    Ok((written_bytes()? - before) as f64 / accepted as f64)
}

fn checkpoint(case: &Case) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if case.subject == "limit" {
        let file = snapshot_file(&case.directory)?;
        let elapsed = limit::copy(&file, &case.directory.join("copy"))?;
        outcome.time("checkpoint", 1, elapsed);
        return Ok(outcome);
    }
    let store: Store<Task> = Store::open(&case.directory)?;
    store.set(&id(0), &task(0, 1))?;
    reset_peak_memory()?;
    let before = resident_memory()?;
    let stopwatch = Stopwatch::start();
    store.compact()?;
    outcome.time("checkpoint", 1, stopwatch.elapsed());
    let beyond = peak_memory()?.saturating_sub(before);
    outcome.value("memory", beyond as f64, 0.0);
    store.close()?;
    Ok(outcome)
}
