//! P2: several threads write, each waiting for its own writes to be durable.

use std::sync::Barrier;
use std::thread;

use super::{Figure, Growth, Needs, Unit, Workload, finish};
use crate::Result;
use crate::documents::{Task, tasks};
use crate::goals::{Against, Goal};
use crate::limit;
use crate::measure::{Elapsed, Outcome, Stopwatch};
use crate::runner::Case;
use crate::subjects::{self, Durability, Subject};

pub(super) const P2: Workload = Workload {
    id: "P2",
    title: "durable set, several threads",
    figures: &[
        figure("threads-1", "sets by 1 thread", &[]),
        figure("threads-4", "sets by 4 threads", &goals(2.0)),
        figure("threads-16", "sets by 16 threads", &goals(6.0)),
        figure("threads-64", "sets by 64 threads", &goals(12.0)),
    ],
    subjects: &[
        "opslog",
        "limit",
        "reference",
        "sqlite",
        "redb",
        "fjall",
        "lmdb",
    ],
    needs: Needs::Nothing,
    sizes: (3_000, 200),
    growth: Growth::Before,
    run,
};

/// Threads, and how many times the workload's size they write.
const STEPS: [(u32, u32); 4] = [(1, 1), (4, 1), (16, 2), (64, 4)];

const fn goals(times_one_thread: f64) -> [Goal; 3] {
    [
        Goal::Better {
            than: Against::Figure("threads-1"),
            factor: times_one_thread,
        },
        Goal::Better {
            than: Against::Subject("limit"),
            factor: 0.8,
        },
        Goal::Better {
            than: Against::Peers,
            factor: 1.0,
        },
    ]
}

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
    let limit = case.subject == "limit";
    let subject = if limit {
        None
    } else {
        Some(subjects::open(
            &case.subject,
            &case.directory,
            Durability::Synced,
        )?)
    };
    let mut first = case.before;
    for (threads, times) in STEPS {
        let documents = tasks(first, case.size * times, 0);
        first += case.size * times;
        let elapsed = match &subject {
            Some(subject) => in_parallel(&**subject, &documents, threads)?,
            None => limit::append_by_leaders(&case.directory, &documents, threads)?,
        };
        let key = format!("threads-{threads}");
        outcome.rate(&key, documents.len() as u64, elapsed);
    }
    if let Some(subject) = subject {
        finish(subject, case, &mut outcome)?;
    }
    Ok(outcome)
}

/// Each of `threads` sets its share, one document at a time.
fn in_parallel(
    subject: &dyn Subject,
    documents: &[(String, Task)],
    threads: u32,
) -> Result<Elapsed> {
    let barrier = Barrier::new(threads as usize + 1);
    let share = documents.len().div_ceil(threads as usize);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..threads as usize)
            .map(|thread| {
                let documents = documents.iter().skip(thread * share).take(share);
                let barrier = &barrier;
                scope.spawn(move || -> Result<()> {
                    barrier.wait();
                    for (id, task) in documents {
                        subject.set(id, task)?;
                    }
                    Ok(())
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
