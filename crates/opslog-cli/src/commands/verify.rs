//! `opslog verify`: what the library's check of every file has found.

use std::path::Path;

use opslog::{DamageKind, DamageReport, FileCheck};
use serde_json::json;

use crate::failure::{Failure, Status};
use crate::open::no_store;
use crate::output::{Output, printable};

const TORN: &str = "torn";
const DAMAGED: &str = "damaged";

pub(crate) fn run(directory: &Path, output: &mut Output) -> Result<(), Failure> {
    let report = opslog::verify(directory).map_err(no_store)?;
    if output.is_table() {
        print_table(&report.files, output)?;
    } else {
        for file in &report.files {
            print_line(file, output)?;
        }
    }
    if report.is_sound() {
        return Ok(());
    }
    let damaged = report.files.iter().filter(|file| state(file) == DAMAGED);
    let message = match damaged.count() {
        1 => "1 file of the store is damaged".to_owned(),
        count => format!("{count} files of the store are damaged"),
    };
    let failure = Failure::new(Status::Corrupt, message);
    Err(failure.with_hint("restore a backup; or 'opslog repair' saves what is readable ('repair --dry-run' says what that is)"))
}

/// A row a file, and below them a line for each place where something is wrong.
fn print_table(files: &[FileCheck], output: &mut Output) -> Result<(), Failure> {
    let rows = files.iter().map(|file| {
        vec![
            file.path.clone(),
            file.bytes.to_string(),
            file.items.to_string(),
            state(file).to_owned(),
        ]
    });
    let rows: Vec<_> = rows.collect();
    output.table(&["file", "bytes", "items", "state"], &rows)?;
    for place in files.iter().flat_map(|file| &file.damage) {
        let what = if is_torn(place) {
            "unfinished write, cut off by the next writer"
        } else {
            &place.reason
        };
        output.line(&printable(&format!(
            "{} at byte {}, {} bytes: {what}",
            place.path, place.offset, place.bytes
        )))?;
    }
    Ok(())
}

fn print_line(file: &FileCheck, output: &mut Output) -> Result<(), Failure> {
    let damage = file.damage.iter().map(|place| {
        json!({
            "kind": if is_torn(place) { TORN } else { DAMAGED },
            "offset": place.offset,
            "bytes": place.bytes,
            "reason": place.reason,
        })
    });
    let line = json!({
        "path": file.path,
        "bytes": file.bytes,
        "items": file.items,
        "state": state(file),
        "damage": damage.collect::<Vec<_>>(),
    });
    output.line(&line.to_string())
}

/// The worst that was found in the file.
fn state(file: &FileCheck) -> &'static str {
    if file.damage.is_empty() {
        "ok"
    } else if file.damage.iter().all(is_torn) {
        TORN
    } else {
        DAMAGED
    }
}

/// Whether it is only a write that was never acknowledged.
fn is_torn(place: &DamageReport) -> bool {
    place.kind == DamageKind::Torn
}
