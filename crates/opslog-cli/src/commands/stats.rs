//! `opslog stats`: figures about the store.

use std::path::Path;

use indicatif::HumanBytes;
use serde_json::json;

use crate::failure::Failure;
use crate::open;
use crate::output::Output;

pub(crate) fn run(directory: &Path, output: &mut Output) -> Result<(), Failure> {
    let store = open::read(directory)?;
    let stats = store.stats()?;
    let manifest = store.manifest()?;
    let live = stats.snapshot_bytes + stats.log_bytes;
    let total = live + stats.history_bytes + stats.archive_bytes;
    if !output.is_table() {
        let facts = json!({
            "documents": stats.active_documents,
            "opsSinceCheckpoint": stats.ops_since_checkpoint,
            "archivedDocuments": stats.archived_documents,
            "archiveSegments": stats.archive_segments,
            "bytes": {
                "snapshot": stats.snapshot_bytes,
                "log": stats.log_bytes,
                "history": stats.history_bytes,
                "archive": stats.archive_bytes,
                "total": total,
                "memory": stats.memory_bytes,
            },
            "damage": stats.damage,
            "version": manifest.version,
            "created": format!("{:.3}", manifest.created),
            "lastCheckpoint": format!("{:.3}", manifest.last_checkpoint),
            "checkpointMilliseconds": stats.last_checkpoint.as_ref().map(|checkpoint| checkpoint.duration.as_millis()),
            "snapshot": manifest.current_snapshot,
            "log": manifest.active_ops,
        });
        output.line(&facts.to_string())?;
        return Ok(());
    }
    let bytes = |bytes: u64| HumanBytes(bytes).to_string();
    let checkpoint = match &stats.last_checkpoint {
        Some(cost) => format!("{:.0}, took {:?}", cost.at, cost.duration),
        None => format!("{:.0}", manifest.last_checkpoint),
    };
    let segments = match stats.archive_segments {
        1 => "1 segment".to_owned(),
        count => format!("{count} segments"),
    };
    let rows = [
        ("documents", stats.active_documents.to_string()),
        (
            "operations since the checkpoint",
            stats.ops_since_checkpoint.to_string(),
        ),
        (
            "archived documents",
            format!("{} in {segments}", stats.archived_documents),
        ),
        ("snapshot", bytes(stats.snapshot_bytes)),
        ("log", bytes(stats.log_bytes)),
        ("history", bytes(stats.history_bytes)),
        ("archive", bytes(stats.archive_bytes)),
        ("total on disk", bytes(total)),
        ("documents in memory", bytes(stats.memory_bytes)),
        ("damaged parts of the log", stats.damage.to_string()),
        ("version of the documents", manifest.version.to_string()),
        ("created", format!("{:.0}", manifest.created)),
        ("last checkpoint", checkpoint),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
    output.table(&["figure", "value"], &rows)?;
    Ok(())
}
