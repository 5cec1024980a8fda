//! The stores that workloads begin with.

use std::fs;
use std::path::{Path, PathBuf};

use opslog::{Retention, Store, StoreBuilder, WriteMode};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::documents::{Task, id, random_number, task, tasks};
use crate::runner::Case;
use crate::subjects::{self, Durability, OPSLOG};

/// A kind of prepared store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// So many documents, checkpointed where the store knows that.
    Snapshot,
    /// So many operations in the log, updates of a tenth as many documents, and nothing in the snapshot.
    Log,
    /// As `Snapshot`, and updates until half of [`sets_beside_checkpoint`] are missing to opslog's next automatic checkpoint.
    NearCheckpoint,
}

impl Kind {
    /// What `owner` has of the kind: peers do not know opslog's checkpoints.
    pub(crate) fn of(self, owner: &str) -> Self {
        match self {
            Self::NearCheckpoint if owner != OPSLOG => Self::Snapshot,
            kind => kind,
        }
    }
}

/// How many documents go into one batch.
const BATCH: u32 = 10_000;

/// How many sets P9 does on a store of so many documents.
pub(super) fn sets_beside_checkpoint(documents: u32) -> u32 {
    (documents / 20).clamp(50, 5_000)
}

/// How many documents a log of so many operations is about.
pub(super) fn documents_of_log(operations: u32) -> u32 {
    (operations / 10).max(1)
}

/// Makes the store that `case` asks for.
pub(super) fn prepare(case: &Case, kind: Kind) -> Result<()> {
    if case.subject != OPSLOG {
        let subject = subjects::open(&case.subject, &case.directory, Durability::Buffered)?;
        for batch in batches(case.size) {
            subject.set_batch(&batch)?;
        }
        subject.flush()?;
        return subject.close();
    }
    let store = builder().open(&case.directory)?;
    match kind {
        Kind::Log => updates(&store, documents_of_log(case.size), case.size, 7)?,
        Kind::Snapshot | Kind::NearCheckpoint => {
            for batch in batches(case.size) {
                store
                    .batch(|writes| batch.iter().try_for_each(|(id, task)| writes.set(id, task)))?;
            }
            store.compact()?;
        }
    }
    if kind == Kind::NearCheckpoint {
        // The default threshold: as many operations as the snapshot has documents, and at least 1,000.
        let missing = sets_beside_checkpoint(case.size) / 2;
        // The documents stay as they are, so that all subjects begin with equal ones.
        updates(&store, case.size, case.size.max(1_000) - missing, 1)?;
    }
    store.close()?;
    Ok(())
}

/// A store that makes no checkpoint of its own accord and keeps no history.
fn builder() -> StoreBuilder<Task> {
    Store::builder()
        .write_mode(WriteMode::asynchronous())
        .history_retention(Retention::None)
        .checkpoint_threshold(u64::MAX)
        .checkpoint_on_close(false)
}

fn batches(documents: u32) -> impl Iterator<Item = Vec<(String, Task)>> {
    let starts = (0..documents).step_by(BATCH as usize);
    starts.map(move |first| tasks(first, BATCH.min(documents - first), 0))
}

/// So many operations: each document once, then random ones, to each of so many revisions in turn.
fn updates(store: &Store<Task>, documents: u32, operations: u32, revisions: u32) -> Result<()> {
    for step in 0..operations {
        let number = if step < documents {
            step
        } else {
            random_number(step, documents)
        };
        store.set(&id(number), &task(number, step % revisions))?;
    }
    Ok(())
}

/// The snapshot of an opslog store that is not open.
pub(super) fn snapshot_file(directory: &Path) -> Result<PathBuf> {
    file(directory, "currentSnapshot")
}

/// Its log.
pub(super) fn log_file(directory: &Path) -> Result<PathBuf> {
    file(directory, "activeOps")
}

fn file(directory: &Path, key: &str) -> Result<PathBuf> {
    let manifest = fs::read(directory.join("manifest.json"))?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
    let name = manifest[key].as_str();
    let name = name.ok_or_else(|| format!("the manifest has no {key}"))?;
    Ok(directory.join(name))
}
