//! Many commits that wait once.

use std::sync::Arc;

use smallvec::smallvec;

use crate::commit::{Draft, Intent};
use crate::document::{self, Document};
use crate::engine::{Engine, GroupOutcome, lock};
use crate::options::CheckpointMode;
use crate::{Error, ErrorKind, Result};

/// One write of [`Store::write_each`](crate::Store::write_each).
///
/// ```
/// use opslog::Write;
/// let store: opslog::Store = opslog::Store::in_memory()?;
/// let results = store.write_each([Write::Set { id: "a", json: "{}" }, Write::Delete { id: "b" }]);
/// assert!(results[0].is_ok());
/// assert!(results[1].as_ref().is_err_and(opslog::Error::is_not_found));
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write<'a> {
    /// As [`Store::set_json`](crate::Store::set_json).
    Set {
        /// The document's id.
        id: &'a str,
        /// Its JSON text.
        json: &'a str,
    },
    /// As [`Store::delete`](crate::Store::delete).
    Delete {
        /// The document's id.
        id: &'a str,
    },
}

impl<T: Document> Engine<T> {
    /// Commits each write on its own, in order; in `Immediate` mode they share groups, and the caller waits for the last.
    pub(crate) fn write_each<'w>(
        &self,
        writes: impl IntoIterator<Item = Write<'w>>,
    ) -> Vec<Result<()>> {
        let immediate = self.options.write_mode.is_immediate();
        let begun: Vec<Result<Option<Arc<GroupOutcome>>>> = writes
            .into_iter()
            .map(|write| {
                let draft = draft(write)?;
                if immediate {
                    self.begin(draft).map(Some)
                } else {
                    self.commit_one(draft, &Intent::Write).map(|()| None)
                }
            })
            .collect();
        if let Some(last) = begun
            .iter()
            .rev()
            .find_map(|outcome| outcome.as_ref().ok()?.as_ref())
        {
            self.checkpoint_if_due(self.wait(lock(&self.writer), last));
        }
        let outcome = |outcome: Arc<GroupOutcome>| outcome.get().cloned().unwrap_or_else(cut_short);
        begun
            .into_iter()
            .map(|begun| begun?.map_or(Ok(()), outcome))
            .collect()
    }

    /// Commits a write that the caller has accepted, knowing whether there was a document.
    pub(crate) fn write_accepted(&self, write: Write<'_>, existed: bool) -> Result<()> {
        self.commit_one(draft(write)?, &Intent::Accepted { existed })
    }

    /// Queues a commit, and waits for it only where a checkpoint is due that this caller has to make.
    fn begin(&self, draft: Draft<T>) -> Result<Arc<GroupOutcome>> {
        let mut writer = self.writer()?;
        let outcome = self.enqueue(&mut writer, smallvec![draft], &Intent::Write)?;
        if self.options.checkpoint_mode == CheckpointMode::Blocking
            && !self.options.skip_load
            && self.is_past_threshold(&writer)
        {
            writer = self.wait(writer, &outcome);
            self.checkpoint_if_due(writer);
        }
        Ok(outcome)
    }
}

fn draft<T>(write: Write<'_>) -> Result<Draft<T>> {
    Ok(match write {
        Write::Set { id, json } => Draft::Set(document::encode_text(id, json)?),
        Write::Delete { id } => Draft::Delete(id.into()),
    })
}

/// The groups before the one that was waited for are settled too, in order.
fn cut_short() -> Result<()> {
    Err(Error::new(
        ErrorKind::Unavailable,
        "the write did not end; open the store again to see whether it is there",
    ))
}

#[cfg(test)]
mod tests {
    use crate::{CheckpointMode, MemoryBackend, Store, Write, WriteMode};

    fn set(id: &str) -> Write<'_> {
        Write::Set { id, json: "{}" }
    }

    #[test]
    fn each_write_is_a_commit_of_its_own() {
        for mode in [
            WriteMode::Immediate,
            WriteMode::group(),
            WriteMode::asynchronous(),
        ] {
            let store: Store = Store::builder()
                .write_mode(mode)
                .open_backend(MemoryBackend::new())
                .expect("opens");
            let results = store.write_each([
                set("a"),
                Write::Delete { id: "a" },
                Write::Delete { id: "a" },
                Write::Set {
                    id: "b",
                    json: "[1]",
                },
                set("c"),
            ]);
            let succeeded: Vec<bool> = results.iter().map(Result::is_ok).collect();
            assert_eq!(succeeded, [true, true, false, false, true], "{mode:?}");
            assert_eq!(store.count().expect("open"), 1);
            assert!(store.undo().expect("undoes"));
            assert!(store.undo().expect("undoes"));
            assert!(store.has("a").expect("open"), "{mode:?}");
        }
    }

    #[test]
    fn a_blocking_checkpoint_is_made_at_each_threshold() {
        let store: Store = Store::builder()
            .checkpoint_threshold(10)
            .checkpoint_mode(CheckpointMode::Blocking)
            .open_backend(MemoryBackend::new())
            .expect("opens");
        let ids: Vec<String> = (0..25).map(|n| n.to_string()).collect();
        let results = store.write_each(ids.iter().map(|id| set(id)));
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(store.stats().expect("open").ops_since_checkpoint, 5);
    }

    #[test]
    fn nothing_is_written_where_nothing_is_given() {
        let store: Store = Store::in_memory().expect("opens");
        assert!(store.write_each([]).is_empty());
    }
}
