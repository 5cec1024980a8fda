//! P1, P3 and P4: one thread writes.

use std::fs;

use opslog::{Store, WriteMode};

use super::{Figure, Growth, Needs, Unit, Workload, finish};
use crate::Result;
use crate::documents::{Task, tasks};
use crate::goals::{Against, Goal};
use crate::limit;
use crate::measure::{Outcome, Stopwatch};
use crate::runner::Case;
use crate::subjects::opslog::Opslog;
use crate::subjects::{self, Durability, Subject};

/// Documents in one batch of P4.
const BATCH: usize = 100;

pub(super) const P1: Workload = Workload {
    id: "P1",
    title: "durable set, one thread",
    figures: &[Figure {
        key: "set",
        title: "sets",
        unit: Unit::PerSecond,
        goals: &[
            Goal::Better {
                than: Against::Subject("limit:growing"),
                factor: 1.2,
            },
            Goal::Better {
                than: Against::Subject("limit:in-place"),
                factor: 0.9,
            },
            Goal::Better {
                than: Against::Peers,
                factor: 1.0,
            },
        ],
    }],
    subjects: &[
        "opslog",
        "limit:in-place",
        "limit:growing",
        "reference",
        "sqlite",
        "redb",
        "fjall",
        "lmdb",
    ],
    needs: Needs::Nothing,
    sizes: (4_000, 200),
    growth: Growth::Before,
    run: single_sets,
};

pub(super) const P3: Workload = Workload {
    id: "P3",
    title: "buffered set, one thread",
    figures: &[
        Figure {
            key: "group",
            title: "sets in Group mode, until accepted",
            unit: Unit::PerSecond,
            goals: BUFFERED_GOALS,
        },
        Figure {
            key: "group-synced",
            title: "sets in Group mode, until all are on stable storage",
            unit: Unit::PerSecond,
            goals: &[CPU_GOAL],
        },
        Figure {
            key: "async",
            title: "sets in Async mode, until accepted",
            unit: Unit::PerSecond,
            goals: BUFFERED_GOALS,
        },
        Figure {
            key: "async-synced",
            title: "sets in Async mode, until all are on stable storage",
            unit: Unit::PerSecond,
            goals: &[CPU_GOAL],
        },
    ],
    subjects: &[
        "opslog",
        "limit",
        "limit:keeping",
        "reference",
        "sqlite",
        "redb",
        "fjall",
        "lmdb",
    ],
    needs: Needs::Nothing,
    sizes: (200_000, 5_000),
    growth: Growth::Size,
    run: buffered_sets,
};

const BUFFERED_GOALS: &[Goal] = &[
    Goal::Better {
        than: Against::Subject("reference"),
        factor: 8.0,
    },
    Goal::Better {
        than: Against::Peers,
        factor: 1.0,
    },
];

const CPU_GOAL: Goal = Goal::CpuWithin {
    of: "limit",
    factor: 2.0,
};

pub(super) const P4: Workload = Workload {
    id: "P4",
    title: "durable batches of 100, one thread",
    figures: &[Figure {
        key: "set",
        title: "documents",
        unit: Unit::PerSecond,
        goals: &[
            Goal::Better {
                than: Against::Peers,
                factor: 1.0,
            },
            Goal::Better {
                than: Against::Subject("limit"),
                factor: 0.9,
            },
        ],
    }],
    subjects: &[
        "opslog",
        "limit",
        "limit:keeping",
        "reference",
        "sqlite",
        "redb",
        "fjall",
        "lmdb",
    ],
    needs: Needs::Nothing,
    sizes: (100_000, 2_000),
    growth: Growth::Before,
    run: batches,
};

fn single_sets(case: &Case) -> Result<Outcome> {
    let documents = tasks(case.before, case.size, 0);
    let mut outcome = Outcome::default();
    if let Some(limit) = case.subject.strip_prefix("limit:") {
        let lines = limit::op_lines(&documents)?;
        let elapsed = match limit {
            "growing" => limit::append_growing(&case.directory, &lines)?,
            _ => limit::append_in_place(&case.directory, &lines)?,
        };
        outcome.rate("set", case.size.into(), elapsed);
        return Ok(outcome);
    }
    let subject = subjects::open(&case.subject, &case.directory, Durability::Synced)?;
    let stopwatch = Stopwatch::start();
    set_all(&*subject, &documents)?;
    outcome.rate("set", case.size.into(), stopwatch.elapsed());
    finish(subject, case, &mut outcome)?;
    Ok(outcome)
}

fn buffered_sets(case: &Case) -> Result<Outcome> {
    let documents = tasks(case.before, case.size, 0);
    let mut outcome = Outcome::default();
    let modes = [
        ("group", "group-synced", WriteMode::group()),
        ("async", "async-synced", WriteMode::asynchronous()),
    ];
    for (key, synced, mode) in modes {
        let part = Case {
            directory: case.directory.join(key),
            ..case.clone()
        };
        fs::create_dir_all(&part.directory)?;
        if case.subject.starts_with("limit") {
            let keeps = case.subject == "limit:keeping";
            let (accepted, durable) = limit::append_buffered(&part.directory, &documents, keeps)?;
            outcome.rate(key, case.size.into(), accepted);
            outcome.rate(synced, case.size.into(), durable);
            continue;
        }
        // Peers have one way to leave syncing for later, and do it twice.
        let subject: Box<dyn Subject> = if case.subject == subjects::OPSLOG {
            let builder = Store::builder().write_mode(mode);
            Box::new(Opslog::build(&part.directory, builder)?)
        } else {
            subjects::open(&case.subject, &part.directory, Durability::Buffered)?
        };
        let stopwatch = Stopwatch::start();
        set_all(&*subject, &documents)?;
        let accepted = stopwatch.elapsed();
        subject.flush()?;
        outcome.rate(key, case.size.into(), accepted);
        outcome.rate(synced, case.size.into(), stopwatch.elapsed());
        finish(subject, &part, &mut outcome)?;
    }
    Ok(outcome)
}

fn batches(case: &Case) -> Result<Outcome> {
    let documents = tasks(case.before, case.size, 0);
    let mut outcome = Outcome::default();
    if case.subject.starts_with("limit") {
        let keeps = case.subject == "limit:keeping";
        let elapsed = limit::append_batches(&case.directory, &documents, BATCH, keeps)?;
        outcome.rate("set", case.size.into(), elapsed);
        return Ok(outcome);
    }
    let subject = subjects::open(&case.subject, &case.directory, Durability::Synced)?;
    let stopwatch = Stopwatch::start();
    for batch in documents.chunks(BATCH) {
        subject.set_batch(batch)?;
    }
    outcome.rate("set", case.size.into(), stopwatch.elapsed());
    finish(subject, case, &mut outcome)?;
    Ok(outcome)
}

fn set_all(subject: &dyn Subject, documents: &[(String, Task)]) -> Result<()> {
    for (id, task) in documents {
        subject.set(id, task)?;
    }
    Ok(())
}
