//! `opslog undo`: takes back the last commits.

use std::path::Path;

use serde_json::json;

use crate::args::UndoOptions;
use crate::failure::{Failure, Status, note};
use crate::open;
use crate::output::Output;

pub(crate) fn run(
    directory: &Path,
    options: &UndoOptions,
    output: &mut Output,
) -> Result<Status, Failure> {
    let store = open::write(directory)?;
    let mut undone = 0;
    while undone < options.count && store.undo()? {
        undone += 1;
    }
    store.close()?;
    let commits = if undone == 1 { "commit" } else { "commits" };
    output.outcome(
        &format!("took back {undone} {commits}"),
        &json!({"undone": undone}),
    )?;
    if undone == options.count {
        return Ok(Status::Done);
    }
    output.flush()?;
    note("there is nothing more to undo");
    Ok(if undone == 0 {
        Status::NotFound
    } else {
        Status::Done
    })
}
