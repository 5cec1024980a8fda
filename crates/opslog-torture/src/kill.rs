//! `kill -9`: the process dies, the operating system goes on.

use std::time::Duration;

use crate::model::{Documents, Mode, Plan, check_thread, read};
use crate::writer::{Running, store_in};
use crate::{Arguments, Outcome, random, say};

/// Cycles of a run, if not said otherwise.
const ROUNDS: u64 = 520;

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let rounds = arguments.rounds.unwrap_or(ROUNDS);
    let place = tempfile::tempdir()?;
    let directory = store_in(place.path());
    let mut state = arguments.seed;
    let mut settled = Documents::new();
    let mut commits = 0;
    for cycle in 0..rounds {
        let mode = Mode::ALL[usize::try_from(cycle % 4)?];
        let plan = Plan {
            seed: arguments.seed,
            cycle,
            threads: if cycle % 3 == 0 { 4 } else { 1 },
            mode,
        };
        let mut writer = Running::start(&directory, plan)?;
        let heard = writer.wait(Duration::from_micros(random(&mut state) % 25_000))?;
        let said = writer.kill(heard, true)?;
        commits += check(plan, &said, &directory, &mut settled)
            .map_err(|fault| format!("kill, seed {}, cycle {cycle}: {fault}", arguments.seed))?;
    }
    say(&format!(
        "kill: {rounds} processes killed, {commits} commits checked, seed {}",
        arguments.seed
    ));
    Ok(())
}

/// Compares the store with what was said, and with what earlier cycles left. Answers how many commits of this cycle are there.
pub(crate) fn check(
    plan: Plan,
    said: &[crate::model::Said],
    directory: &std::path::Path,
    settled: &mut Documents,
) -> Outcome<u64> {
    let found = read(directory)?;
    let mut commits = 0;
    for (number, said) in (0..).zip(said) {
        commits += check_thread(plan, number, *said, &found)?;
    }
    let own = format!("{}/", plan.cycle);
    let others = found.iter().filter(|(id, _)| !id.starts_with(&own));
    if !others.eq(settled.iter()) {
        return Err("documents of earlier cycles have changed".into());
    }
    *settled = found;
    Ok(commits)
}
