//! `opslog export`: documents as JSON Lines, on a terminal too, in a form that `import` takes back.

use std::path::Path;

use crate::args::ExportOptions;
use crate::failure::Failure;
use crate::open;
use crate::output::Output;
use crate::selection::Selection;

pub(crate) fn run(
    directory: &Path,
    options: &ExportOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let selection = Selection::new(&options.selection)?;
    let store = open::read(directory)?;
    selection.each(&store, |id, text| {
        output.document(id, text.as_str())?;
        Ok(true)
    })?;
    Ok(())
}
