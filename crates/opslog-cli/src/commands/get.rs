//! `opslog get`: the bare document.

use std::path::Path;

use crate::args::GetOptions;
use crate::failure::{Failure, Status};
use crate::open;
use crate::output::Output;

pub(crate) fn run(
    directory: &Path,
    options: &GetOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let store = open::read(directory)?;
    let Some(text) = store.get_json(&options.id)? else {
        return Err(Failure::new(
            Status::NotFound,
            format!("record '{}' not found", options.id),
        ));
    };
    output.json(text.as_str())?;
    Ok(())
}
