//! `opslog segments`: the archive segments, or the documents of one.

use std::path::Path;

use serde_json::json;

use crate::args::SegmentsOptions;
use crate::commands::list::Listing;
use crate::failure::{Failure, note};
use crate::open;
use crate::output::Output;

pub(crate) fn run(
    directory: &Path,
    options: &SegmentsOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let store = open::read(directory)?;
    if let Some(segment) = &options.segment {
        let documents = store.load_archive(segment)?;
        let mut listing = Listing::new(&options.page, output);
        for (id, document) in &documents {
            if !listing.push(id, document.get())? {
                break;
            }
        }
        listing.finish()?;
        return Ok(());
    }
    let files = store.archive_segments()?;
    let mut rows: Vec<Vec<String>> = Vec::new();
    for name in names(&files) {
        let documents = store.load_archive(name)?.len();
        if output.is_table() {
            rows.push(vec![name.to_owned(), documents.to_string()]);
        } else {
            output.line(&json!({"segment": name, "documents": documents}).to_string())?;
        }
    }
    if output.is_table() && rows.is_empty() {
        note("no archive segments");
    } else if output.is_table() {
        output.table(&["segment", "documents"], &rows)?;
    }
    Ok(())
}

/// The names of the segments that `files` hold, each once: `archive/archive-2026-Q4.1700000000000.json` belongs to `2026-Q4`.
fn names(files: &[String]) -> Vec<&str> {
    let mut names = Vec::new();
    for file in files {
        let name = file.rsplit('/').next().unwrap_or(file);
        let name = name.strip_prefix("archive-").unwrap_or(name);
        let name = name.strip_suffix(".json").unwrap_or(name);
        let name = match name.rsplit_once('.') {
            Some((period, mark)) if mark.bytes().all(|byte| byte.is_ascii_digit()) => period,
            _ => name,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_rewritten_segment_keeps_its_name() {
        let files = [
            "archive/archive-2026-Q3.json",
            "archive/archive-2026-Q4.1700000000000.json",
            "archive/archive-2026-Q3.17.json",
            "archive/archive-a.b.json",
        ];
        let files = files.map(str::to_owned);
        assert_eq!(names(&files), ["2026-Q3", "2026-Q4", "a.b"]);
    }
}
