//! `opslog restore`: a backup takes the place of the store.

use std::path::Path;

use opslog::{ErrorKind, Existing};
use serde_json::json;

use super::backup;
use crate::args::RestoreOptions;
use crate::failure::{Failure, Status};
use crate::output::Output;

pub(crate) fn run(
    directory: &Path,
    options: &RestoreOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let existing = if options.replace {
        Existing::MoveAside
    } else {
        Existing::Refuse
    };
    let report = opslog::restore(&options.from, directory, existing).map_err(|error| {
        if error.is_not_found() {
            let message = format!("there is no backup in {}", options.from.display());
            return Failure::new(Status::NotFound, message);
        }
        if error.kind() == ErrorKind::Conflict && !options.replace {
            return Failure::new(Status::Conflict, error.to_string())
                .with_hint("with --replace the directory that is there is renamed, and kept");
        }
        error.into()
    })?;
    let mut sentence = backup::sentence(&report.copied);
    let mut facts = backup::facts(&report.copied);
    if let Some(moved) = &report.moved {
        sentence = format!("{sentence}; what was there is now {}", moved.display());
        facts["moved"] = json!(moved.display().to_string());
    }
    output.outcome(&sentence, &facts)
}
