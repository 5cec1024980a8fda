//! `opslog delete`: one commit, so all that are named go, or none.

use std::collections::HashSet;

use serde_json::json;

use crate::args::{DeleteOptions, Target};
use crate::failure::Failure;
use crate::open;
use crate::output::Output;

pub(crate) fn run(
    target: Target<'_>,
    options: &DeleteOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    let store = open::write(target)?;
    let deleted = store.batch(|batch| {
        let mut deleted = HashSet::new();
        for id in &options.ids {
            let again = deleted.contains(id.as_str());
            let missing = options.ignore_missing && !batch.has(id)?;
            if !again && !missing {
                batch.delete(id)?;
                deleted.insert(id.as_str());
            }
        }
        Ok(deleted.len())
    })?;
    open::close(&store);
    output.outcome(&format!("deleted {deleted}"), &json!({"deleted": deleted}))?;
    Ok(())
}
