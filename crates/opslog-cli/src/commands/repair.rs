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
    if !report.differing.is_empty() {
        let documents = count(report.differing.len() as u64, "document");
        warn(&format!(
            "what is kept of {documents} is not what the last operation says: compare with 'opslog history'"
        ));
    }
    if options.dry_run {
        return say_what_is_planned(&report);
    }
    let lost = report.lost.len() as u64 + report.nameless;
    if lost == 0 {
        return Ok(());
    }
    let documents = count(lost, "document");
    let failure = Failure::new(
        Status::Lost,
        format!("{documents} of what was damaged could not be saved"),
    );
    Err(failure.with_hint(
        "the rest of the store is sound; what the damaged files still hold is kept, as the report says",
    ))
}

/// Says that nothing was changed, if there is something to repair.
fn say_what_is_planned(report: &RepairReport) -> Result<(), Failure> {
    if !report.is_needed() {
        return Ok(());
    }
    note("nothing was changed");
    let parts = count(report.unreadable.len() as u64, "part");
    let failure = Failure::new(
        Status::Corrupt,
        format!("{parts} of the store cannot be read"),
    );
    Err(failure.with_hint("'opslog repair' without --dry-run does what is said here"))
}

fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn print_table(report: &RepairReport, dry_run: bool, output: &mut Output) -> Result<(), Failure> {
    for part in &report.unreadable {
        output.line(&describe(part))?;
    }
    let is_unproven = |id: &&String| !report.differing.contains(*id);
    let unproven: Vec<String> = report
        .doubtful
        .iter()
        .filter(is_unproven)
        .cloned()
        .collect();
    for (ids, what) in [
        (&report.recovered, "recovered"),
        (
            &report.differing,
            "kept, though the last operation says otherwise",
        ),
        (&unproven, "kept, but not vouched for"),
        (&report.lost, "lost, or as they were before"),
    ] {
        if !ids.is_empty() {
            let line = format!("{what}: {}", list(ids));
            output.line(&line)?;
        }
    }
    if report.nameless > 0 {
        let documents = count(report.nameless, "document");
        output.line(&format!("lost, and not known by id: {documents}"))?;
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
    let mut line = json!({
        "needed": report.is_needed(),
        "unreadable": unreadable.collect::<Vec<_>>(),
        "recovered": report.recovered,
        "doubtful": report.doubtful,
        "differing": report.differing,
        "lost": report.lost,
        "nameless": report.nameless,
        "kept": report.kept,
    });
    // A store that is sound is not counted.
    if report.is_needed() {
        line["documents"] = report.documents.into();
        line["operations"] = report.operations.into();
    }
    output.line(&line.to_string())
}
