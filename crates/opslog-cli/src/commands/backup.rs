//! `opslog backup`: a copy of the store, checked.

use std::path::Path;

use indicatif::HumanBytes;
use opslog::BackupReport;
use serde_json::{Value, json};

use crate::args::BackupOptions;
use crate::failure::Failure;
use crate::open::no_store;
use crate::output::Output;

pub(crate) fn run(
    directory: &Path,
    options: &BackupOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let report = opslog::backup(directory, &options.to).map_err(no_store)?;
    output.outcome(&sentence(&report), &facts(&report))
}

/// What was copied, for people.
pub(super) fn sentence(report: &BackupReport) -> String {
    format!(
        "copied and checked {} files, {}: {} documents, {} archived ones, {} operations",
        report.files,
        HumanBytes(report.bytes),
        report.documents,
        report.archived,
        report.operations
    )
}

/// What was copied, for programs.
pub(super) fn facts(report: &BackupReport) -> Value {
    json!({
        "files": report.files,
        "bytes": report.bytes,
        "documents": report.documents,
        "archived": report.archived,
        "operations": report.operations,
    })
}
