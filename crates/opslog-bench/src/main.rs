//! opslog beside its peers and the machine's own limit.
//!
//! `cargo run --release -p opslog-bench -- --peers all` runs the workloads P1 to P14 of the performance document, each subject and round in a
//! process of its own, in turn, and says for each figure how it compares and whether the goal is met. See `--help`.
//!
//! [`workloads`] says what is measured, with which goals; [`subjects`] how each store does it; [`limit`] what the machine can do at best; [`runner`]
//! runs the processes; [`report`] prints.

mod args;
mod documents;
mod goals;
mod growth;
mod limit;
mod measure;
mod report;
mod runner;
mod statistics;
mod subjects;
mod workloads;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::Arguments;
use runner::Case;

/// A failure here ends the program with its text: there is nobody to tell kinds apart.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.child {
        Some(case) => child(case),
        None if arguments.growth => growth::run(&arguments),
        None => compare(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to do when standard error is closed.
            let _ = writeln!(io::stderr(), "opslog-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One subject's part of one round: measures and prints the outcome.
fn child(case: &str) -> Result<bool> {
    let case: Case = serde_json::from_str(case)?;
    let outcome = workloads::run(&case)?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    Ok(true)
}

/// The whole comparison. False when a subject failed, or did other work than the rest.
fn compare(arguments: &Arguments) -> Result<bool> {
    let runner = runner::Runner::new(arguments)?;
    let prints_each = !arguments.json && !arguments.markdown;
    let mut all = Vec::new();
    if prints_each {
        report::print_machine(&runner.machine)?;
    }
    for workload in workloads::chosen(&arguments.only)? {
        let results = runner.run(workload, workload.size(arguments));
        if prints_each {
            report::print(&results)?;
        }
        all.push(results);
    }
    if arguments.markdown {
        report::print_page(&runner.machine, &all)?;
    } else if arguments.json {
        let reports: Vec<_> = all.iter().map(report::to_json).collect();
        report::print_json(&runner.machine, &reports)?;
    }
    Ok(all.iter().all(|results| results.failures.is_empty()))
}
