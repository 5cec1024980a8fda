//! P7 and P8: reading what is in memory.

use std::hint::black_box;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Figure, Growth, Kind, Needs, Unit, Workload};
use crate::Result;
use crate::documents::{Task, id, is_wanted, random_number, tasks};
use crate::goals::{Against, Goal};
use crate::measure::{Outcome, Stopwatch};
use crate::runner::Case;
use crate::subjects::{self, Durability, OPSLOG};

pub(super) const P7: Workload = Workload {
    id: "P7",
    title: "get, random, decoded",
    figures: &[
        Figure {
            key: "first",
            title: "the first get of a document",
            unit: Unit::Seconds,
            goals: &[Goal::Within {
                of: Against::Subject("limit"),
                factor: 1.2,
            }],
        },
        Figure {
            key: "later",
            title: "a later get",
            unit: Unit::Seconds,
            goals: &[
                Goal::Within {
                    of: Against::Subject("limit"),
                    factor: 1.5,
                },
                Goal::Better {
                    than: Against::Peers,
                    factor: 4.0,
                },
                Goal::Better {
                    than: Against::Subject("reference"),
                    factor: 1.5,
                },
            ],
        },
    ],
    subjects: SUBJECTS,
    needs: Needs::Shared(Kind::Snapshot),
    sizes: (1_000_000, 5_000),
    growth: Growth::Size,
    run: gets,
};

pub(super) const P8: Workload = Workload {
    id: "P8",
    title: "filter, decoded",
    figures: &[
        Figure {
            key: "first",
            title: "the first filter",
            unit: Unit::Seconds,
            goals: &[Goal::Within {
                of: Against::Subject("limit"),
                factor: 1.2,
            }],
        },
        Figure {
            key: "later",
            title: "a later filter",
            unit: Unit::Seconds,
            goals: &[
                Goal::Within {
                    of: Against::Subject("limit"),
                    factor: 2.0,
                },
                Goal::Better {
                    than: Against::Subject("reference"),
                    factor: 1.0,
                },
            ],
        },
    ],
    subjects: SUBJECTS,
    needs: Needs::Shared(Kind::Snapshot),
    sizes: (1_000_000, 5_000),
    growth: Growth::Size,
    run: filters,
};

const SUBJECTS: &[&str] = &[
    "opslog",
    "limit",
    "reference",
    "sqlite",
    "redb",
    "fjall",
    "lmdb",
];

/// The ids of all documents in a random order, another one for each turn. The ids themselves lie in memory in that order, so that reading them costs nothing.
fn shuffled(documents: u32, turn: u32) -> Vec<String> {
    let mut numbers: Vec<u32> = (0..documents).collect();
    for place in (1..documents).rev() {
        let other = random_number(place ^ (turn << 28), place + 1);
        numbers.swap(place as usize, other as usize);
    }
    numbers.into_iter().map(id).collect()
}

fn gets(case: &Case) -> Result<Outcome> {
    let mut orders = [
        ("first", shuffled(case.size, 0)),
        ("later", shuffled(case.size, 1)),
    ];
    let mut outcome = Outcome::default();
    if case.subject == "limit" {
        limit_gets(case, &orders, &mut outcome)?;
        return Ok(outcome);
    }
    if case.subject != OPSLOG {
        // They decode each time: a part of the documents shows what one costs.
        for (_, ids) in &mut orders {
            ids.truncate(ids.len().div_ceil(4));
        }
    }
    let subject = subjects::open(&case.subject, &case.directory, Durability::Synced)?;
    for (key, ids) in &orders {
        let stopwatch = Stopwatch::start();
        let mut sum = 0;
        for id in ids {
            sum += subject.priority(id)?.ok_or("a document is missing")?;
        }
        black_box(sum);
        outcome.time(key, ids.len() as u64, stopwatch.elapsed());
    }
    subject.close()?;
    Ok(outcome)
}

/// A hash map of texts that are looked up and decoded, and one of decoded documents.
fn limit_gets(
    case: &Case,
    [(_, ids), (_, later)]: &[(&str, Vec<String>); 2],
    outcome: &mut Outcome,
) -> Result<()> {
    let texts: HashMap<Box<str>, Box<str>> = tasks(0, case.size, 0)
        .into_iter()
        .map(|(id, task)| Ok((id.into(), serde_json::to_string(&task)?.into())))
        .collect::<Result<_>>()?;
    let mut decoded: Vec<Arc<Task>> = Vec::with_capacity(ids.len());
    let stopwatch = Stopwatch::start();
    for id in ids {
        let text = texts.get(id.as_str()).ok_or("a document is missing")?;
        decoded.push(Arc::new(serde_json::from_str(text)?));
    }
    outcome.time("first", ids.len() as u64, stopwatch.elapsed());
    let mut documents: HashMap<Box<str>, Arc<Task>> = HashMap::with_capacity(ids.len());
    for (id, task) in ids.iter().zip(decoded) {
        documents.insert(id.as_str().into(), task);
    }
    let stopwatch = Stopwatch::start();
    let mut sum = 0;
    for id in later {
        let task = documents.get(id.as_str()).ok_or("a document is missing")?;
        sum += Arc::clone(task).priority;
    }
    black_box(sum);
    outcome.time("later", later.len() as u64, stopwatch.elapsed());
    Ok(())
}

fn filters(case: &Case) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    if case.subject == "limit" {
        limit_filters(case, &mut outcome)?;
        return Ok(outcome);
    }
    let subject = subjects::open(&case.subject, &case.directory, Durability::Synced)?;
    for key in ["first", "later"] {
        let stopwatch = Stopwatch::start();
        let found = subject.filter(is_wanted)?;
        outcome.time(key, 1, stopwatch.elapsed());
        outcome.checksum = Some(crate::measure::Checksum {
            count: found.count() as u64,
            sum: 0,
        });
    }
    subject.close()?;
    Ok(outcome)
}

/// Decoding a list of texts, and looking through a list of decoded documents, in memory in their order.
fn limit_filters(case: &Case, outcome: &mut Outcome) -> Result<()> {
    let texts: Vec<Box<str>> = tasks(0, case.size, 0)
        .into_iter()
        .map(|(_, task)| Ok(serde_json::to_string(&task)?.into()))
        .collect::<Result<_>>()?;
    let mut documents: Vec<Arc<Task>> = Vec::with_capacity(texts.len());
    let stopwatch = Stopwatch::start();
    for text in &texts {
        documents.push(Arc::new(serde_json::from_str(text)?));
    }
    let wanted = |task: &&Arc<Task>| is_wanted(task);
    let found: Vec<Arc<Task>> = documents.iter().filter(wanted).cloned().collect();
    outcome.time("first", 1, stopwatch.elapsed());
    drop(found);
    let stopwatch = Stopwatch::start();
    let found: Vec<Arc<Task>> = documents.iter().filter(wanted).cloned().collect();
    outcome.time("later", 1, stopwatch.elapsed());
    black_box(found);
    Ok(())
}
