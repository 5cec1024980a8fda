//! Which scripts are explored: all sequences of up to three calls in each way to open a store, then random long ones.

use opslog::backend::seeded;

use super::explore::{Effort, Explorer, Job};
use super::flawed::Flaw;
use super::planted::Found;
use super::script::{Base, CALLS, Call, Config};

/// From this seed on scripts are drawn.
const LONG: u64 = 1_000_000;
/// With fewer states than this to check, not all sequences of three calls are run.
const ALL_SEQUENCES_FROM: usize = 100_000;

fn number_from_environment(name: &str) -> Option<usize> {
    let value = std::env::var(name).ok()?;
    let number = value.replace('_', "").parse();
    Some(number.unwrap_or_else(|error| panic!("{name}={value}: {error}")))
}

/// All sequences of `calls` calls.
fn scripts(calls: usize) -> impl Iterator<Item = Vec<Call>> {
    let count = CALLS.len().pow(u32::try_from(calls).unwrap_or(u32::MAX));
    (0..count).map(move |number| {
        let digits = (0..calls).scan(number, |rest, _| {
            let call = CALLS[*rest % CALLS.len()];
            *rest /= CALLS.len();
            Some(call)
        });
        digits.collect()
    })
}

/// The sequences of up to three calls; each is looked at in its last call, since those before are the last of a shorter one.
pub(crate) fn sequences() -> impl Iterator<Item = Job> + Send {
    let bases = [
        (Base::Agents, 3),
        (Base::Used, 3),
        (Base::Empty, 2),
        (Base::EmptyForAgents, 2),
        (Base::ManyLogs, 1),
    ];
    let scripts = (0..=3).flat_map(move |calls| {
        let bases = bases.into_iter().filter(move |(_, most)| calls <= *most);
        bases.flat_map(move |(base, _)| {
            Config::all_on(base)
                .into_iter()
                .flat_map(move |config| scripts(calls).map(move |script| (base, config, script)))
        })
    });
    scripts.zip(0..).map(|((base, config, script), seed)| Job {
        seed,
        base,
        config,
        from: script.len(),
        effort: match script.len() {
            0 | 1 => Effort {
                all: 600,
                drawn: 200,
                twice_in: 32,
            },
            2 => Effort {
                all: 60,
                drawn: 30,
                twice_in: 128,
            },
            _ => Effort {
                all: 24,
                drawn: 12,
                twice_in: 512,
            },
        },
        script,
    })
}

fn long(seed: u64) -> Job {
    let mut choose = seeded(seed);
    let bases = [
        Base::Used,
        Base::Agents,
        Base::Empty,
        Base::EmptyForAgents,
        Base::ManyLogs,
    ];
    let base = bases[choose(bases.len())];
    let configs = Config::all_on(base);
    Job {
        seed,
        base,
        config: configs[choose(configs.len())],
        from: 0,
        script: (0..4 + choose(17))
            .map(|_| CALLS[choose(CALLS.len())])
            .collect(),
        effort: Effort {
            all: 8,
            drawn: 8,
            twice_in: 512,
        },
    }
}

/// The job of a seed.
fn job(seed: u64) -> Option<Job> {
    if seed >= LONG {
        return Some(long(seed));
    }
    sequences().find(|job| job.seed == seed)
}

#[test]
fn crash_loses_nothing_acknowledged_and_leaves_no_commit_half() {
    let explorer = Explorer::new(None);
    let outcome = if let Some(seed) = number_from_environment("OPSLOG_CRASH_SEED") {
        let job = job(seed as u64).expect("there is a script of this seed");
        explorer.explore(std::iter::once(job), usize::MAX)
    } else {
        let target = number_from_environment("OPSLOG_CRASH_STATES").unwrap_or(20_000);
        let limit = if target < ALL_SEQUENCES_FROM {
            target
        } else {
            usize::MAX
        };
        explorer.explore(sequences(), limit).and_then(|()| {
            explorer.census.say("sequences");
            explorer.explore((LONG..).map(long), target)
        })
    };
    explorer.census.say("crash states");
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(explorer.census.distinct() > 0);
}

/// Explores the shortest sequences with a flaw planted.
pub(crate) fn find(flaw: Flaw) -> Found {
    let explorer = Explorer::new(Some(flaw));
    // An agent's open swaps the manifest, which is where some flaws show at once.
    let jobs = sequences()
        .take_while(|job| job.script.len() <= 2)
        .filter(|job| job.config.agent.is_none());
    let found = explorer.explore(jobs, 20_000).err();
    let opened = explorer
        .census
        .opened
        .load(std::sync::atomic::Ordering::Relaxed);
    (opened, found)
}
