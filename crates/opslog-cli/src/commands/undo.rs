//! `opslog undo`: takes back the last commits.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use opslog::Since;
use serde_json::json;

use crate::args::{Target, UndoOptions};
use crate::failure::{Failure, Status, note, warn};
use crate::open::{self, Documents};
use crate::output::Output;

pub(crate) fn run(
    target: Target<'_>,
    options: &UndoOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let store = open::write(target)?;
    let began = Timestamp::now();
    let (undone, failure) = take_back(&store, options.count)?;
    let unchanged = target
        .agent
        .filter(|_| undone > 0)
        .map(|agent| unchanged(&store, agent, began));
    match &failure {
        // After that, the store may take nothing any more, not even a checkpoint.
        Some(_) => drop(store),
        None => open::close(&store),
    }
    let commits = if undone == 1 { "commit" } else { "commits" };
    let mut facts = json!({"undone": undone});
    if let Some(unchanged) = &unchanged {
        facts["unchanged"] = json!(unchanged);
    }
    output.outcome(&format!("took back {undone} {commits}"), &facts)?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    if undone == 0 {
        return Err(Failure::new(Status::NotFound, "there is nothing to undo"));
    }
    output.flush()?;
    for id in unchanged.into_iter().flatten() {
        note(&format!(
            "nothing changed in '{id}': another agent has written it since, or it was archived"
        ));
    }
    if undone < options.count {
        note("there is nothing more to undo");
    }
    Ok(())
}

/// Takes back up to `count` commits. Those before a failure stay taken back, and are told with it.
fn take_back(store: &Documents, count: u32) -> Result<(u32, Option<Failure>), Failure> {
    for undone in 0..count {
        match store.undo() {
            Ok(true) => {}
            Ok(false) => return Ok((undone, None)),
            Err(error) if undone == 0 => return Err(error.into()),
            Err(error) => {
                let left = count - undone;
                let hint = format!(
                    "{undone} of {count} were taken back before; 'opslog undo -n {left}' goes on once this is mended"
                );
                return Ok((undone, Some(Failure::from(error).with_hint(hint))));
            }
        }
    }
    Ok((count, None))
}

/// The documents of what `agent` has taken back since `began` that stay as they are, since another agent has written them later, or they were archived.
fn unchanged(store: &Documents, agent: &str, began: Timestamp) -> BTreeSet<String> {
    let before = began
        .checked_sub(SignedDuration::from_millis(1))
        .unwrap_or(began);
    let operations = store
        .ops(Since::Time(before))
        .inspect_err(|error| warn(&format!("what the undo came to cannot be said: {error}")))
        .unwrap_or_default();
    operations
        .into_iter()
        .filter(|operation| {
            operation.undo
                && operation.agent.as_deref() == Some(agent)
                && operation.changes_nothing()
        })
        .map(|operation| operation.id)
        .collect()
}
