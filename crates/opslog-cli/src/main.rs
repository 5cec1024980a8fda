//! The `opslog` command: import, query, undo and inspect opslog stores.
//!
//! This file dispatches; `args` says what can be asked for, each module in `commands` answers one verb, and `output` alone writes to
//! the standard output. Commands that only read open the store read-only, so they work beside a live writer and create nothing.

mod args;
mod commands;
mod expression;
mod failure;
mod fields;
mod input;
mod open;
mod output;
mod pretty;
mod selection;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::{Arguments, Command};
use crate::failure::{Failure, Status};
use crate::output::Output;

fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Err(failure) = args::refuse_needless_agent(&matches) {
        return failure.report().into();
    }
    let mut output = Output::new(&arguments.output);
    let result = run(&arguments, &mut output);
    // What was found before a failure is worth having, so it goes out in any case.
    let flushed = output.flush();
    match result.and(flushed) {
        Ok(()) => Status::Done.into(),
        Err(failure) => failure.report().into(),
    }
}

fn run(arguments: &Arguments, output: &mut Output) -> Result<(), Failure> {
    let data = || arguments.directory();
    let target = || arguments.target();
    match &arguments.command {
        Command::Import(options) => commands::import::run(target()?, options, output),
        Command::Export(options) => commands::export::run(data()?, options, output),
        Command::Get(options) => commands::get::run(data()?, options, output),
        Command::Set(options) => commands::set::run(target()?, options, output),
        Command::Delete(options) => commands::delete::run(target()?, options, output),
        Command::List(options) => commands::list::run(data()?, options, output),
        Command::Query(options) => commands::query::run(data()?, options, output),
        Command::Count(options) => commands::count::run(data()?, options, output),
        Command::History(options) => commands::history::run(data()?, options, output),
        Command::Undo(options) => commands::undo::run(target()?, options, output),
        Command::Log(options) => commands::log::run(data()?, options, output),
        Command::Compact => commands::compact::run(target()?, output),
        Command::Archive(options) => commands::archive::run(target()?, options, output),
        Command::Segments(options) => commands::segments::run(data()?, options, output),
        Command::Agents => commands::agents::run(data()?, output),
        Command::Stats => commands::stats::run(data()?, output),
        Command::Verify => commands::verify::run(data()?, output),
        Command::Repair(options) => commands::repair::run(data()?, options, output),
        Command::Backup(options) => commands::backup::run(data()?, options, output),
        Command::Restore(options) => commands::restore::run(data()?, options, output),
        Command::Completions(options) => commands::completions::run(options, output),
    }
}
