//! `opslog undo`: takes back the last commits.

use serde_json::json;

use crate::args::{Target, UndoOptions};
use crate::failure::{Failure, Status, note};
use crate::open;
use crate::output::Output;

pub(crate) fn run(
    target: Target<'_>,
    options: &UndoOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let store = open::write(target)?;
    let mut undone = 0;
    while undone < options.count && store.undo()? {
        undone += 1;
    }
    open::close(&store);
    let commits = if undone == 1 { "commit" } else { "commits" };
    output.outcome(
        &format!("took back {undone} {commits}"),
        &json!({"undone": undone}),
    )?;
    if undone == 0 {
        return Err(Failure::new(Status::NotFound, "there is nothing to undo"));
    }
    if undone < options.count {
        output.flush()?;
        note("there is nothing more to undo");
    }
    Ok(())
}
