//! `opslog archive`: moves documents out of the active set.

use std::collections::HashSet;

use serde_json::json;

use crate::args::{ArchiveOptions, Target};
use crate::failure::{Failure, Status, note};
use crate::open;
use crate::output::Output;
use crate::selection::Selection;

pub(crate) fn run(
    target: Target<'_>,
    options: &ArchiveOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let selection = Selection::new(&options.selection)?;
    if selection.is_everything() && !options.all {
        return Err(Failure::new(
            Status::Usage,
            "which documents are to be archived was not said",
        )
        .with_hint("give an expression or --where, or --all for every document"));
    }
    let store = open::write(target)?;
    // An expression that fails for one document must not leave the others archived, so the choice is made first; nobody else can write meanwhile.
    let mut picked = HashSet::new();
    selection.each(&store, |id, _| {
        picked.insert(id.to_owned());
        Ok(true)
    })?;
    let archived = store.archive(|_, id| picked.contains(id), options.segment.as_deref())?;
    open::close(&store);
    output.outcome(
        &format!("archived {archived}"),
        &json!({"archived": archived}),
    )?;
    if output.is_table() && archived > 0 {
        output.flush()?;
        let undo = if target.agent.is_some() {
            "undo does not bring archived documents back"
        } else {
            "undo does not go behind an archive, nor bring its documents back"
        };
        note(&format!(
            "{undo}; 'opslog segments NAME --json | opslog import -' does, and leaves the segment as it is"
        ));
    }
    Ok(())
}
