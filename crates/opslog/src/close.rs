//! Flushing and ending a store.

use std::time::Duration;

use crate::document::Document;
use crate::engine::{Engine, lock};
use crate::{Error, ErrorKind, Result};

/// How long after a flush in the background that failed the next one is tried.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

impl<T: Document> Engine<T> {
    /// Returns when all that was accepted before is on stable storage.
    pub(crate) fn flush(&self) -> Result<()> {
        if self.options.read_only {
            return self.ensure_open();
        }
        self.flush_queue(self.writer()?).map(drop)
    }

    /// Flushes for nobody in particular: a failure is told to the next caller.
    pub(crate) fn flush_in_background(&self) {
        let writer = lock(&self.writer);
        if writer.poison.is_some() || writer.log.is_none() && writer.queue.is_empty() {
            return;
        }
        if let Err(error) = self.flush_queue(writer) {
            tracing::warn!(%error, "a flush in the background failed");
            let is_poisoned = error.kind() == ErrorKind::Poisoned;
            lock(&self.writer).failure.get_or_insert(error);
            if !is_poisoned {
                self.background.flush_again_within(RETRY_INTERVAL);
            }
        }
    }

    /// Flushes, makes a checkpoint where it is worth it, and lets go of everything.
    pub(crate) fn close(&self) -> Result<()> {
        self.ensure_not_batching()?;
        if self.ensure_open().is_err() {
            return Ok(());
        }
        if self.options.read_only {
            self.mark_closed();
            return Ok(());
        }
        let flushed = unless_closed(self.flush());
        let checkpoint = self.options.checkpoint_on_close && !self.options.skip_load;
        if self.agent.is_some() {
            let compacted = if flushed.is_ok() && checkpoint {
                unless_closed(self.compact_at_end())
            } else {
                Ok(())
            };
            let given_up = self.ensure_open().is_err();
            let released = self.release(given_up);
            return flushed.and(compacted).and(released);
        }
        let checkpointed = if flushed.is_ok() && checkpoint && self.is_checkpoint_worthwhile() {
            unless_closed(self.checkpoint())
        } else {
            Ok(())
        };
        let released = self.release(false);
        flushed.and(checkpointed).and(released)
    }

    /// The last agent leaves the store as a single writer would; another one makes the usual checkpoint.
    fn compact_at_end(&self) -> Result<()> {
        if self.is_alone()? {
            self.compact_as_agent(true)
        } else if self.is_checkpoint_worthwhile() {
            self.compact_as_agent(false)
        } else {
            Ok(())
        }
    }

    /// Flushes and releases the lock, without a checkpoint. An agent may have `given_up` its log already.
    fn release(&self, given_up: bool) -> Result<()> {
        if !self.mark_closed() && !given_up {
            return Ok(());
        }
        self.background.stop();
        // A checkpoint by another handle must have ended before the log is taken away.
        let _turn = lock(&self.checkpointing);
        let writer = lock(&self.writer);
        // From here to the end the lock is kept: nobody who waits for it may still be told that his commit is accepted.
        let (mut writer, drained) = if given_up {
            (writer, Ok(()))
        } else {
            self.drain(writer)
        };
        let result = match drained {
            Ok(()) if !given_up => {
                let failure = writer.failure.take();
                let finished = match writer.log.as_mut() {
                    Some(log) => log.finish(),
                    None => Ok(()),
                };
                failure.map_or(finished, Err)
            }
            drained => drained,
        };
        writer.abandon(&closed());
        writer.poison.get_or_insert_with(closed);
        writer.log = None;
        writer.lock = None;
        self.settled.notify_all();
        result
    }
}

/// Another handle may close the store at the same time, and then it does all of this.
fn unless_closed(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
        result => result,
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "store is closed; open it again")
}

impl<T> Drop for Engine<T> {
    fn drop(&mut self) {
        self.background.stop();
        let writer = self
            .writer
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(log) = writer.log.as_mut() else {
            return;
        };
        if writer.poison.is_some() {
            return;
        }
        for group in &writer.queue {
            if let Err(error) = log.append(&group.bytes).and_then(|()| log.sync()) {
                tracing::error!(%error, "what was buffered could not be written when the store was dropped");
                return;
            }
        }
        if let Err(error) = log.finish() {
            tracing::warn!(%error, "the log could not be closed cleanly; the next open will do it");
        }
    }
}
