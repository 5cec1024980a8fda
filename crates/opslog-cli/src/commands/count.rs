//! `opslog count`: a bare number.

use std::path::Path;

use crate::args::CountOptions;
use crate::failure::Failure;
use crate::open;
use crate::output::Output;
use crate::selection::Selection;

pub(crate) fn run(
    directory: &Path,
    options: &CountOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let selection = Selection::new(&options.selection)?;
    let store = open::read(directory)?;
    let mut count = 0;
    if selection.is_everything() {
        count = store.count()?;
    } else {
        selection.each(&store, |_, _| {
            count += 1;
            Ok(true)
        })?;
    }
    output.line(&count.to_string())?;
    Ok(())
}
