//! `opslog compact`: a checkpoint now.

use indicatif::HumanBytes;
use serde_json::json;

use crate::args::Target;
use crate::failure::Failure;
use crate::open;
use crate::output::Output;

pub(crate) fn run(target: Target<'_>, output: &mut Output) -> Result<(), Failure> {
    let store = open::write(target)?;
    store.compact()?;
    let stats = store.stats()?;
    open::close(&store);
    output.outcome(
        &format!(
            "wrote a snapshot of {} documents, {}",
            stats.active_documents,
            HumanBytes(stats.snapshot_bytes)
        ),
        &json!({"documents": stats.active_documents, "snapshotBytes": stats.snapshot_bytes}),
    )?;
    Ok(())
}
