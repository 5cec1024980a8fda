//! `opslog agents`: who has written to the store.

use std::path::Path;

use serde_json::json;

use crate::failure::{Failure, note};
use crate::open;
use crate::output::Output;

pub(crate) fn run(directory: &Path, output: &mut Output) -> Result<(), Failure> {
    let store = open::read(directory)?;
    let agents = store.agents()?;
    if !output.is_table() {
        for agent in agents {
            let facts = json!({
                "agent": agent.id,
                "clock": agent.clock,
                "ops": agent.ops,
                "unfoldedOps": agent.unfolded_ops,
                "lastSeen": format!("{:.3}", agent.last_seen),
                "log": agent.log,
            });
            output.line(&facts.to_string())?;
        }
        return Ok(());
    }
    if agents.is_empty() {
        note("no agents: only single writers have used the store");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = agents
        .into_iter()
        .map(|agent| {
            vec![
                agent.id,
                agent.clock.to_string(),
                agent.unfolded_ops.to_string(),
                format!("{:.0}", agent.last_seen),
                agent
                    .log
                    .unwrap_or_else(|| "none: all is in the snapshot".to_owned()),
            ]
        })
        .collect();
    output.table(
        &["agent", "clock", "unfolded operations", "last seen", "log"],
        &rows,
    )?;
    Ok(())
}
