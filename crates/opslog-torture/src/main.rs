//! Torture of the store on real file systems: power cuts, full disks, `kill -9`, failing system calls.
//!
//! A process of its own writes, and says on a pipe what it tries and what was acknowledged. Then it dies, or its file system does; the store is opened again, and must hold everything
//! that was acknowledged, and of the rest the oldest part, nothing half. See `docs/durability.md` §7. Seeds are printed; `--seed` repeats a run.

mod calls;
mod full;
mod kill;
mod model;
mod mount;
mod power;
mod writer;

use std::io::Write as _;
use std::process::ExitCode;

const USAGE: &str = "opslog-torture [power|full|kill|calls|all] [--rounds N] [--seed N]
  power  power cuts on ext4 and XFS in a loop device (root; N for each, 110 if not said)
  full   a full tmpfs and a full ext4 (root)
  kill   kill -9 (N cycles, 520 if not said)
  calls  system calls of the opslog command that fail (strace)";

/// What ends a run: a claim that does not hold, or a tool that fails.
type Fault = Box<dyn std::error::Error>;
type Outcome<T = ()> = Result<T, Fault>;

/// What was asked for.
struct Arguments {
    rounds: Option<u64>,
    seed: u64,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.first().map(String::as_str) {
        Some("write") => writer::run(words.get(1..).unwrap_or_default()),
        Some(suite) => arguments(words.get(1..).unwrap_or_default())
            .and_then(|arguments| run(suite, &arguments)),
        None => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            say(&format!("FAILED: {fault}"));
            ExitCode::FAILURE
        }
    }
}

fn arguments(words: &[String]) -> Outcome<Arguments> {
    let mut arguments = Arguments {
        rounds: None,
        seed: u64::from(std::process::id()),
    };
    for pair in words.chunks(2) {
        match pair {
            [name, value] if name == "--rounds" => arguments.rounds = Some(value.parse()?),
            [name, value] if name == "--seed" => arguments.seed = value.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(arguments)
}

fn run(suite: &str, arguments: &Arguments) -> Outcome {
    match suite {
        "power" => power::run(arguments),
        "full" => full::run(arguments),
        "kill" => kill::run(arguments),
        "calls" => calls::run(),
        "all" => {
            kill::run(arguments)?;
            calls::run()?;
            full::run(arguments)?;
            power::run(arguments)
        }
        _ => Err(USAGE.into()),
    }
}

/// Writes a line to the standard output.
fn say(line: &str) {
    // A reader that went away is no reason to stop.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The next number of a small generator (`SplitMix64`): the same numbers for the same seed.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
