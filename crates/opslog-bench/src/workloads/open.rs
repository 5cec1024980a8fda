//! P5, P5b, P6 and P11: opening a store that is there.

use std::path::Path;
use std::thread;

use hashbrown::HashMap;
use opslog::{Residency, Store, StoreBuilder};

use super::prepare::{Kind, documents_of_log, log_file, snapshot_file};
use super::{Figure, Growth, Needs, Unit, Workload};
use crate::Result;
use crate::documents::{Task, id};
use crate::goals::{Against, Goal};
use crate::limit;
use crate::measure::{Outcome, Stopwatch, peak_memory, resident_memory};
use crate::runner::Case;
use crate::subjects::opslog::Opslog;
use crate::subjects::{self, Durability, OPSLOG, Subject};

/// Bytes of documents that P5b lets the store keep in memory.
const CACHE_BYTES: usize = 16 << 20;

pub(super) const P5: Workload = Workload {
    id: "P5",
    title: "open into memory (limit: read, find lines, enter ids; the embedded stores are read into a hash map)",
    figures: &[Figure {
        key: "open",
        title: "open",
        unit: Unit::Seconds,
        goals: &[
            Goal::Better {
                than: Against::Subject("reference"),
                factor: 12.0,
            },
            Goal::Within {
                of: Against::Subject("limit"),
                factor: 2.0,
            },
        ],
    }],
    subjects: &[
        "opslog",
        "limit",
        "limit:scan",
        "reference",
        "sqlite",
        "redb",
        "fjall",
        "lmdb",
    ],
    needs: Needs::Shared(Kind::Snapshot),
    sizes: (1_000_000, 5_000),
    growth: Growth::Size,
    run: open_all,
};

pub(super) const P6: Workload = Workload {
    id: "P6",
    title: "memory after opening (limit: the snapshot's bytes)",
    figures: &[Figure {
        key: "memory",
        title: "resident",
        unit: Unit::Bytes,
        goals: &[
            Goal::Within {
                of: Against::Subject("limit:file"),
                factor: 1.3,
            },
            Goal::Within {
                of: Against::Subject("reference"),
                factor: 0.45,
            },
        ],
    }],
    subjects: &["opslog", "limit:file", "reference"],
    needs: Needs::Shared(Kind::Snapshot),
    sizes: (1_000_000, 5_000),
    growth: Growth::Size,
    run: open_all,
};

pub(super) const P5B: Workload = Workload {
    id: "P5b",
    title: "open and get one document, not resident",
    figures: &[
        Figure {
            key: "first-get",
            title: "open and get",
            unit: Unit::Seconds,
            goals: &[Goal::AtMost(0.03)],
        },
        Figure {
            key: "memory",
            title: "peak memory, mapped files included",
            unit: Unit::Bytes,
            goals: &[Goal::AtMost(40.0 * 1024.0 * 1024.0)],
        },
    ],
    subjects: &["opslog", "reference", "sqlite", "redb", "fjall", "lmdb"],
    needs: Needs::Shared(Kind::Snapshot),
    sizes: (1_000_000, 5_000),
    growth: Growth::Size,
    run: first_get,
};

pub(super) const P11: Workload = Workload {
    id: "P11",
    title: "replay a log (updates of a tenth as many documents)",
    figures: &[Figure {
        key: "open",
        title: "open",
        unit: Unit::Seconds,
        goals: &[Goal::Better {
            than: Against::Subject("reference"),
            factor: 10.0,
        }],
    }],
    subjects: &["opslog", "limit", "limit:scan", "reference"],
    needs: Needs::Shared(Kind::Log),
    sizes: (1_000_000, 5_000),
    growth: Growth::Size,
    run: replay,
};

fn open_all(case: &Case) -> Result<Outcome> {
    match case.subject.as_str() {
        OPSLOG => open_opslog(case, Store::builder(), case.size),
        "limit:file" => {
            let mut outcome = Outcome::default();
            let bytes = snapshot_file(&case.directory)?.metadata()?.len();
            outcome.value("memory", bytes as f64, 0.0);
            Ok(outcome)
        }
        name if name.starts_with("limit") => {
            limit_open(case, &snapshot_file(&case.directory)?, case.size, case.size)
        }
        _ => load_peer(case),
    }
}

/// The count is asked for as well, so that an open cannot put the work off.
fn open_opslog(case: &Case, builder: StoreBuilder<Task>, expected: u32) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let stopwatch = Stopwatch::start();
    let store = builder.open(&case.directory)?;
    expect(store.count()?, expected)?;
    outcome.time("open", 1, stopwatch.elapsed());
    outcome.value("memory", resident_memory()? as f64, 0.0);
    let mut checksum = crate::measure::Checksum::default();
    for entry in store.view()?.iter() {
        let entry = entry?;
        checksum.add(entry.id(), entry.json().as_str());
    }
    outcome.checksum = Some(checksum);
    store.close()?;
    Ok(outcome)
}

/// A log has more `lines` than ids.
fn limit_open(case: &Case, file: &Path, ids: u32, lines: u32) -> Result<Outcome> {
    let cores = thread::available_parallelism()?.get();
    let mut outcome = Outcome::default();
    let stopwatch = Stopwatch::start();
    if case.subject == "limit:scan" {
        expect(limit::scan(file, cores)?, lines)?;
    } else {
        expect(limit::load(file, cores)?, ids)?;
    }
    outcome.time("open", 1, stopwatch.elapsed());
    Ok(outcome)
}

fn load_peer(case: &Case) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let stopwatch = Stopwatch::start();
    let subject = subjects::open(&case.subject, &case.directory, Durability::Synced)?;
    let mut documents: HashMap<Box<str>, Box<str>> = HashMap::new();
    subject.for_each(&mut |id, document| {
        documents.insert(id.into(), document.into());
    })?;
    expect(documents.len(), case.size)?;
    outcome.time("open", 1, stopwatch.elapsed());
    outcome.checksum = Some(subjects::checksum(&*subject)?);
    subject.close()?;
    Ok(outcome)
}

fn first_get(case: &Case) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let wanted = id(case.size / 2);
    let stopwatch = Stopwatch::start();
    let subject: Box<dyn Subject> = if case.subject == OPSLOG {
        let residency = Residency::OnDemand {
            cache_bytes: CACHE_BYTES,
        };
        let builder = Store::builder().residency(residency);
        Box::new(Opslog::build(&case.directory, builder)?)
    } else {
        subjects::open(&case.subject, &case.directory, Durability::Synced)?
    };
    if subject.priority(&wanted)?.is_none() {
        return Err(format!("{wanted} is not there").into());
    }
    outcome.time("first-get", 1, stopwatch.elapsed());
    outcome.value("memory", peak_memory()? as f64, 0.0);
    subject.close()?;
    Ok(outcome)
}

fn replay(case: &Case) -> Result<Outcome> {
    let expected = documents_of_log(case.size);
    if case.subject == OPSLOG {
        return open_opslog(case, Store::builder().read_only(true), expected);
    }
    limit_open(case, &log_file(&case.directory)?, expected, case.size)
}

fn expect(found: usize, expected: u32) -> Result<()> {
    if found == expected as usize {
        return Ok(());
    }
    Err(format!("{found} documents instead of {expected}").into())
}
