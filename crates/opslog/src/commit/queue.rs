//! What brings queued groups to the log: one caller leads, the others wait; and what has to be alone with the log.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::Log;
use crate::commit::Guard;
use crate::document::Document;
use crate::engine::{Engine, Group, GroupOutcome, Writer, lock};
use crate::sync::atomic::Ordering;
use crate::sync::{Instant, thread};
use crate::testing::{Bug, is_planted};
use crate::{Error, ErrorKind, Result};

/// How long a leader waits for those who wrote with the last group. A sync takes a few times as long.
const GATHER_TIME: Duration = Duration::from_micros(80);

/// How a write that reached the log's device, or did not, ended.
enum WriteFailure {
    /// Nothing of it is in the log.
    NotWritten(Error),
    /// What is in the log is unknown.
    Unknown(Error),
}

impl<T: Document> Engine<T> {
    /// Waits until the group with `outcome` is settled, leading where nobody else does.
    pub(crate) fn wait<'e>(
        &'e self,
        mut writer: Guard<'e, T>,
        outcome: &GroupOutcome,
    ) -> Guard<'e, T> {
        while outcome.get().is_none() {
            if writer.log.is_some() && writer.waiting_for_log == 0 {
                writer = self.lead(writer);
            } else {
                writer = self.sleep(writer);
            }
        }
        writer
    }

    /// As `wait`, for commits that are accepted already: a failure is told to the next caller.
    pub(super) fn wait_noting_failure<'e>(
        &'e self,
        writer: Guard<'e, T>,
        outcome: &GroupOutcome,
    ) -> Guard<'e, T> {
        let mut writer = self.wait(writer, outcome);
        if let Some(Err(error)) = outcome.get() {
            writer.failure.get_or_insert_with(|| error.clone());
        }
        writer
    }

    fn sleep<'e>(&'e self, writer: Guard<'e, T>) -> Guard<'e, T> {
        self.settled
            .wait(writer)
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes the oldest group while others may queue.
    fn lead<'e>(&'e self, mut writer: Guard<'e, T>) -> Guard<'e, T> {
        if writer.queue.is_empty() {
            return writer;
        }
        let Some(mut log) = writer.log.take() else {
            return writer;
        };
        writer = self.gather(writer);
        let Some(mut group) = writer.queue.pop_front() else {
            writer.log = Some(log);
            return writer;
        };
        drop(writer);
        let result = write(&mut *log, &group.bytes);
        if result.is_ok() || is_planted(Bug::FailedCommitVisible) {
            self.publish(&mut group);
        }
        let mut writer = lock(&self.writer);
        writer.log = Some(log);
        self.settle(&mut writer, group, result);
        self.settled.notify_all();
        writer
    }

    /// Gives those whose commits were settled together the last time a moment to come back, so that they share this sync too: without it a
    /// leader syncs only about half of those who write (in a prototype with 16 threads: 16,000 a second without, 34,000 with it). A lone writer does not wait.
    fn gather<'e>(&'e self, writer: Guard<'e, T>) -> Guard<'e, T> {
        let waits = self.options.write_mode.is_immediate()
            && writer
                .queue
                .front()
                .is_some_and(|group| group.ops < writer.cohort);
        if !waits {
            return writer;
        }
        let cohort = writer.cohort;
        self.arrived.store(writer.queued_ops(), Ordering::Relaxed);
        drop(writer);
        let began = Instant::now();
        while self.arrived.load(Ordering::Relaxed) < cohort && began.elapsed() < GATHER_TIME {
            thread::yield_now();
        }
        lock(&self.writer)
    }

    /// Waits until nobody else uses the log. The caller has it for as long as it keeps the lock.
    pub(crate) fn wait_for_log<'e>(&'e self, mut writer: Guard<'e, T>) -> Guard<'e, T> {
        writer.waiting_for_log += 1;
        while writer.log.is_none() && writer.poison.is_none() {
            writer = self.sleep(writer);
        }
        writer.waiting_for_log -= 1;
        self.settled.notify_all();
        writer
    }

    /// Waits for the log and writes everything that is queued, without letting anybody in between: then the state, the log and what was
    /// acknowledged are the same.
    pub(crate) fn quiesce<'e>(&'e self, writer: Guard<'e, T>) -> Result<Guard<'e, T>> {
        let (writer, result) = self.drain(writer);
        result.map(|()| writer)
    }

    /// As [`quiesce`](Self::quiesce), and the writer lock is kept whatever came of it.
    pub(crate) fn drain<'e>(&'e self, writer: Guard<'e, T>) -> (Guard<'e, T>, Result<()>) {
        let mut writer = self.wait_for_log(writer);
        let mut failed = writer.poison.clone();
        while failed.is_none()
            && let Some(mut log) = writer.log.take()
        {
            let Some(mut group) = writer.queue.pop_front() else {
                writer.log = Some(log);
                break;
            };
            let result = write(&mut *log, &group.bytes);
            if result.is_ok() {
                self.publish(&mut group);
            }
            writer.log = Some(log);
            let outcome = Arc::clone(&group.outcome);
            self.settle(&mut writer, group, result);
            failed = outcome.get().and_then(|outcome| outcome.clone().err());
        }
        self.settled.notify_all();
        let failed = failed.or_else(|| writer.poison.clone());
        (writer, failed.map_or(Ok(()), Err))
    }

    /// Writes what is queued now; writers may go on meanwhile.
    pub(crate) fn flush_queue<'e>(&'e self, mut writer: Guard<'e, T>) -> Result<Guard<'e, T>> {
        loop {
            if let Some(poison) = &writer.poison {
                return Err(poison.clone());
            }
            if let Some(newest) = writer.queue.back() {
                let outcome = Arc::clone(&newest.outcome);
                writer = self.wait(writer, &outcome);
                return match outcome.get() {
                    Some(Err(error)) => Err(error.clone()),
                    _ => Ok(writer),
                };
            }
            if writer.log.is_some() {
                return Ok(writer);
            }
            // The newest group is in flight; when it fails it is back in the queue.
            writer = self.sleep(writer);
        }
    }

    /// Makes what a durable group changed visible.
    fn publish(&self, group: &mut Group<T>) {
        if group.changes.is_empty() {
            return;
        }
        let mut state = self.state_mut();
        for change in group.changes.drain(..) {
            state.apply(change);
        }
        state.settle();
    }

    /// Records how the write of `group` ended.
    fn settle(
        &self,
        writer: &mut Writer<T>,
        group: Group<T>,
        result: std::result::Result<(), WriteFailure>,
    ) {
        match result {
            Ok(()) => {
                writer.queued_bytes -= group.bytes.len();
                writer.cohort = group.ops;
                let next = group.first_seq + group.ops;
                writer.pending.retain(|_, pending| pending.seq >= next);
                self.settled_seq.store(next, Ordering::Release);
                writer.spare = group.bytes;
                let _ = group.outcome.set(Ok(()));
            }
            Err(WriteFailure::NotWritten(error))
                if self.options.write_mode.is_immediate() || !group.changes.is_empty() =>
            {
                writer.fail_all(group, &error);
            }
            Err(WriteFailure::NotWritten(error)) => {
                // Visible already, and still in memory: it stays in the queue, and is written when the storage takes it.
                // Those behind it are not tried: whoever waits for them would wait for as long as the storage refuses.
                writer.queue.push_front(group);
                for group in &mut writer.queue {
                    let _ = std::mem::take(&mut group.outcome).set(Err(error.clone()));
                }
            }
            Err(WriteFailure::Unknown(error)) => {
                let poison = poisoned(SYNC_FAILED, &error);
                writer.fail_all(group, &poison);
                writer.poison = (!is_planted(Bug::FailedSyncForgotten)).then_some(poison);
            }
        }
    }
}

fn write(log: &mut dyn Log, bytes: &[u8]) -> std::result::Result<(), WriteFailure> {
    log.append(bytes).map_err(WriteFailure::NotWritten)?;
    log.sync().map_err(WriteFailure::Unknown)
}

/// Why nothing is written any more, mostly.
pub(super) const SYNC_FAILED: &str = "a sync failed, so what is on storage is unknown";

pub(super) fn poisoned(why: &str, cause: &Error) -> Error {
    let error = Error::new(
        ErrorKind::Poisoned,
        format!(
            "{why}: {}; reads go on, reopen the store to write",
            cause.message()
        ),
    )
    .caused_by(cause.clone());
    match cause.path() {
        Some(path) => error.at_path(path),
        None => error,
    }
}
