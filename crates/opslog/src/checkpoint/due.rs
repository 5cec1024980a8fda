//! When a checkpoint is made without being asked for: after so many operations, or when documents that stay on storage have used their memory.

use crate::Error;
use crate::commit::Guard;
use crate::document::Document;
use crate::engine::{Engine, Writer, lock};
use crate::options::{CheckpointMode, Residency};

/// Bytes of changed documents that are kept in memory whatever the budget: a checkpoint for less would cost more than it frees.
const OVERLAY_LEAST: u64 = 1 << 20;

/// Operations that are read again in about a millisecond; a checkpoint takes ten, and the syncs of writers wait for its syncs.
const THRESHOLD_LEAST: u64 = 1_000;

/// How much of its memory a store with documents on storage has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Budget {
    Kept,
    /// A checkpoint moves what was changed to storage.
    CheckpointDue,
    /// Writers wait for the checkpoint.
    Used,
}

impl<T: Document> Engine<T> {
    pub(crate) fn checkpoint_if_due(&self, writer: Guard<'_, T>) {
        let budget = if writer.ops_since_checkpoint > writer.checkpoint_not_before {
            self.budget()
        } else {
            Budget::Kept
        };
        let is_due = self.is_past_threshold(&writer) || budget != Budget::Kept;
        if self.options.skip_load || !is_due {
            return;
        }
        let is_running = writer.sealing.is_some();
        let background = self.options.checkpoint_mode == CheckpointMode::Background;
        match (background, budget) {
            (true, Budget::Kept | Budget::CheckpointDue) => {
                if !is_running {
                    self.background.checkpoint_now();
                }
            }
            (true, Budget::Used) if is_running => {
                drop(writer);
                drop(lock(&self.checkpointing));
            }
            _ => {
                drop(writer);
                if let Err(error) = self.checkpoint() {
                    self.note_checkpoint_failure(&error);
                }
            }
        }
    }

    /// What is left of the memory that documents read on demand may take: a quarter is for lines read lately, the rest for documents changed since
    /// the snapshot.
    fn budget(&self) -> Budget {
        let Residency::OnDemand { cache_bytes } = self.options.residency else {
            return Budget::Kept;
        };
        let taken = self.state().overlay_bytes();
        let due = (cache_bytes as u64 / 2).max(OVERLAY_LEAST);
        if taken <= due {
            Budget::Kept
        } else if taken <= due + due / 2 {
            Budget::CheckpointDue
        } else {
            Budget::Used
        }
    }

    /// Whether there were so many operations since the last checkpoint that one is due.
    pub(crate) fn is_past_threshold(&self, writer: &Writer<T>) -> bool {
        let ops = writer.ops_since_checkpoint;
        if ops < writer.checkpoint_not_before || ops < self.checkpoint_threshold() {
            return false;
        }
        // While a store is being filled, its log is hardly longer than the snapshot would be, which would soon be replaced: one at each fourfold of the documents
        // instead of each doubling saves two thirds of the copying.
        self.options.checkpoint_threshold.is_some() || 4 * ops >= 3 * self.state().len() as u64
    }

    /// The fewest operations after which a checkpoint is due: so many that its cost per write does not grow with the store.
    fn checkpoint_threshold(&self) -> u64 {
        match self.options.checkpoint_threshold {
            Some(threshold) => threshold.max(1),
            None => self.manifest().stats.active_records.max(THRESHOLD_LEAST),
        }
    }

    /// A failed automatic checkpoint loses nothing; it is tried again after as many operations.
    pub(crate) fn note_checkpoint_failure(&self, error: &Error) {
        tracing::warn!(%error, "the automatic checkpoint failed; the log keeps everything");
        let threshold = self.checkpoint_threshold();
        let mut writer = lock(&self.writer);
        writer.checkpoint_not_before = writer.ops_since_checkpoint + threshold;
    }
}
