//! `opslog history`: the operations of one document.

use std::path::Path;

use crate::args::HistoryOptions;
use crate::commands::log::print;
use crate::failure::{Failure, Status};
use crate::open;
use crate::output::Output;

pub(crate) fn run(
    directory: &Path,
    options: &HistoryOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let store = open::read(directory)?;
    let operations = store.history(&options.id)?;
    if operations.is_empty() {
        return Err(Failure::new(
            Status::NotFound,
            format!("no operations of '{}' are kept", options.id),
        ));
    }
    for operation in &operations {
        print(operation, output)?;
    }
    Ok(())
}
