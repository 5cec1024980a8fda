//! `opslog repair`: what the library could save, and what not.

use std::path::Path;

use opslog::{RepairReport, UnreadablePart};
use serde_json::json;

use crate::args::RepairOptions;
use crate::failure::{Failure, Status, note, warn};
use crate::open::no_store;
use crate::output::{Output, printable};

/// How many ids a table lists; JSON has them all.
const LISTED: usize = 20;

pub(crate) fn run(
    directory: &Path,
    options: &RepairOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let report = if options.dry_run {
        opslog::plan_repair(directory)
    } else {
        opslog::repair(directory)
    }
    .map_err(no_store)?;
    if !output.is_table() {
        print_json(&report, output)?;
    } else if report.is_needed() {
        print_table(&report, options.dry_run, output)?;
    } else {
        output.line("nothing to repair")?;
    }
    if !report.lost.is_empty() && !options.dry_run {
        let documents = count(report.lost.len(), "document");
        warn(&format!(
            "{documents} of what was damaged could not be saved"
        ));
    }
    if !options.dry_run || !report.is_needed() {
        return Ok(());
    }
    note("nothing was changed");
    let parts = count(report.unreadable.len(), "part");
    let failure = Failure::new(
        Status::Corrupt,
        format!("{parts} of the store cannot be read"),
    );
    Err(failure.with_hint("'opslog repair' without --dry-run does what is said here"))
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn print_table(report: &RepairReport, dry_run: bool, output: &mut Output) -> Result<(), Failure> {
    for part in &report.unreadable {
        output.line(&describe(part))?;
    }
    for (ids, what) in [
        (&report.recovered, "recovered"),
        (&report.doubtful, "kept, but not vouched for"),
        (&report.lost, "lost, or as they were before"),
    ] {
        if !ids.is_empty() {
            let line = format!("{what}: {}", list(ids));
            output.line(&line)?;
        }
    }
    for name in &report.kept {
        let line = format!("what was replaced is kept in {name}");
        output.line(&printable(&line))?;
    }
    let verb = if dry_run { "would have" } else { "has" };
    let documents = report.documents;
    let operations = report.operations;
    output.line(&format!(
        "the store {verb} {documents} documents and {operations} operations"
    ))
}

fn describe(part: &UnreadablePart) -> String {
    let place = &part.place;
    let mut line = format!(
        "{} at byte {}, {} bytes: {}",
        place.path, place.offset, place.bytes, place.reason
    );
    if !part.ids.is_empty() {
        line = format!("{line}; ids in it: {}", list(&part.ids));
    }
    printable(&line)
}

/// The first of `ids`, fit for a terminal.
fn list(ids: &[String]) -> String {
    let mut line = ids
        .iter()
        .take(LISTED)
        .map(|id| printable(id))
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(more) = ids.len().checked_sub(LISTED).filter(|more| *more > 0) {
        line = format!("{line} and {more} more");
    }
    line
}

fn print_json(report: &RepairReport, output: &mut Output) -> Result<(), Failure> {
    let unreadable = report.unreadable.iter().map(|part| {
        json!({
            "path": part.place.path,
            "offset": part.place.offset,
            "bytes": part.place.bytes,
            "reason": part.place.reason,
            "ids": part.ids,
        })
    });
    let line = json!({
        "needed": report.is_needed(),
        "unreadable": unreadable.collect::<Vec<_>>(),
        "recovered": report.recovered,
        "doubtful": report.doubtful,
        "lost": report.lost,
        "kept": report.kept,
        "documents": report.documents,
        "operations": report.operations,
    });
    output.line(&line.to_string())
}
