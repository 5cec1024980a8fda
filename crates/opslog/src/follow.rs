//! Seeing what another process wrote: `refresh`, `tail`, `watch`.
//!
//! A reader remembers its place in the log. With nothing new it reads a few bytes; with k new operations, those. When the writer has made a checkpoint it goes on in
//! the new log by sequence number; when the writer has taken back what the reader had seen, the reader loads the store anew and says so.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::backend::Object;
use crate::document::{Document, Json, Stored};
use crate::engine::{Engine, lock};
use crate::format::manifest::Manifest;
use crate::format::op_line;
use crate::history::kept_logs;
use crate::op::{Cursor, Operation, Place, Since};
use crate::open::{load_all, load_consistent, read_manifest};
use crate::oplog::{self, LogLine, Outcome, Start};
use crate::pieces::fill;
use crate::replay::replay;
use crate::{Error, ErrorKind, Result, time};

/// What came since the last look.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// let tail = store.tail()?;
/// assert!(tail.operations.is_empty() && !tail.rewound);
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tail {
    /// The new operations, oldest first.
    pub operations: Vec<Operation>,
    /// Whether the store was loaded anew, because what had been seen was taken back, or is not kept any more; then the documents may have changed by
    /// more than `operations`.
    pub rewound: bool,
}

/// How far a reader has read.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    pub(crate) log: String,
    /// Where the next line begins.
    pub(crate) offset: u64,
    pub(crate) next_seq: u64,
    /// The last line read of `log`.
    pub(crate) last: Option<LastLine>,
    last_time: Option<String>,
    /// The last operation read of the logs before.
    passed: Option<Place>,
    /// The size of the log when there was nothing but padding behind `offset`: up to a megabyte, which need not be read again.
    blank_to: Option<u64>,
    /// The greatest clock read.
    pub(crate) clock: u64,
    /// The last group write that was read, or begun to be.
    pub(crate) group: GroupStart,
}

/// Where a group write begins in an agent's log: all before it is settled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GroupStart {
    pub(crate) offset: u64,
    pub(crate) seq: u64,
    /// The greatest clock before it.
    pub(crate) clock: u64,
    at: Option<u64>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct LastLine {
    offset: u64,
    pub(crate) seq: u64,
    bytes: Vec<u8>,
}

impl LastLine {
    pub(crate) fn check(&self) -> u32 {
        op_line::body_check(&self.bytes)
    }
}

impl Position {
    /// At the beginning of the log that `manifest` names.
    pub(crate) fn start(manifest: &Manifest, first_seq: u64) -> Self {
        Self::at(&manifest.active_ops, 0, first_seq, 0)
    }

    /// Before operation `seq`, at `offset` of `log`; operations before it have clocks up to `clock`.
    pub(crate) fn at(log: &str, offset: u64, seq: u64, clock: u64) -> Self {
        Self {
            log: log.to_owned(),
            offset,
            next_seq: seq,
            last: None,
            last_time: None,
            passed: None,
            blank_to: None,
            clock,
            group: GroupStart {
                offset,
                seq,
                clock,
                at: None,
            },
        }
    }

    /// The same place, in another log, of which nothing was read yet.
    pub(crate) fn into_log(self, log: &str) -> Self {
        Self::at(log, 0, self.next_seq, self.clock).having_passed(self)
    }

    /// With the last line that `before` has read.
    pub(crate) fn having_passed(self, before: Self) -> Self {
        Self {
            passed: before.place(),
            last_time: before.last_time,
            ..self
        }
    }

    /// Hands the lines behind it in `log`, which is its log, to `sink`, and moves behind them. `None` when the last line that was read is not there any more.
    pub(crate) fn read_on(
        &mut self,
        log: &dyn Object,
        sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
    ) -> Result<Option<Outcome>> {
        let size = log.size()?;
        let next = self.next_seq;
        let has_grown = match self.look_behind(log)? {
            Behind::AnotherLine => return Ok(None),
            Behind::Nothing if self.blank_to == Some(size) => {
                let outcome = Outcome::empty(next, 0);
                return Ok(Some(Outcome {
                    end: self.offset,
                    ..outcome
                }));
            }
            Behind::Nothing | Behind::Something => self.blank_to != Some(size),
        };
        let start = Start {
            position: self.offset,
            seq: Some(next),
        };
        let mut pass = |line: &LogLine<'_>| {
            if line.seq >= next {
                sink(line)?;
            }
            self.pass(line);
            Ok(())
        };
        // In padding only opslog writes, line after line; the reference makes the file longer.
        let outcome = if has_grown {
            oplog::read(log, start, &mut pass)?
        } else {
            oplog::read_until_padding(log, start, &mut pass)?
        };
        self.offset = outcome.end;
        self.blank_to = outcome.damage.is_empty().then_some(size);
        Ok(Some(outcome))
    }

    /// Looks at the last line, and at the bytes that follow it.
    fn look_behind(&self, log: &dyn Object) -> Result<Behind> {
        // The last line's newline may come first.
        const FOLLOWING: usize = 2;
        let (offset, line) = match &self.last {
            Some(last) => (last.offset, &*last.bytes),
            None => (self.offset, &[][..]),
        };
        let known = usize::try_from(self.offset - offset).unwrap_or(line.len());
        let mut bytes = vec![0; known + FOLLOWING];
        let read = fill(log, offset, &mut bytes, 0)?;
        bytes.truncate(read);
        let Some(found) = bytes.get(..line.len()) else {
            return Ok(Behind::AnotherLine);
        };
        if op_line::body(found) != op_line::body(line) {
            return Ok(Behind::AnotherLine);
        }
        let following = bytes.get(line.len()..).unwrap_or_default();
        let is_blank = following.iter().all(|byte| *byte == b'\n');
        Ok(if is_blank {
            Behind::Nothing
        } else {
            Behind::Something
        })
    }

    /// Moves behind `line`. Called for every line of a log that is replayed, so it only copies: no allocation, and no checksum until one is asked for.
    pub(crate) fn pass(&mut self, line: &LogLine<'_>) {
        if line.op.at.is_none() || line.op.at != self.group.at {
            self.group = GroupStart {
                offset: line.offset,
                seq: line.seq,
                clock: self.clock,
                at: line.op.at,
            };
        }
        self.clock = self.clock.max(line.op.clock.unwrap_or(0));
        self.offset = line.offset + line.raw.len() as u64;
        self.next_seq = line.seq + 1;
        let last = self.last.get_or_insert_default();
        last.offset = line.offset;
        last.seq = line.seq;
        last.bytes.clear();
        last.bytes.extend_from_slice(line.raw);
        let time = self.last_time.get_or_insert_default();
        time.clear();
        time.push_str(line.op.ts);
    }

    /// The last operation read, in whatever log it was.
    pub(crate) fn place(&self) -> Option<Place> {
        let last = self.last.as_ref().map(|last| Place {
            seq: last.seq,
            check: last.check(),
        });
        last.or(self.passed)
    }

    /// The time of the last line, in milliseconds since 1970; 0 without one.
    pub(crate) fn last_millisecond(&self) -> i64 {
        let time = self.last_time.as_deref().and_then(time::parse_timestamp);
        time.map_or(0, jiff::Timestamp::as_millisecond)
    }
}

/// What a reader finds at the place that it has come to.
enum Behind {
    /// The last line that was read is not there any more.
    AnotherLine,
    /// Padding, or the end of the log.
    Nothing,
    Something,
}

/// What a look at the log found.
enum Look {
    New(Vec<Operation>),
    /// What had been read is no longer there.
    Gone,
}

impl<T: Document> Engine<T> {
    /// Applies what other processes wrote since the last look.
    pub(crate) fn tail(&self) -> Result<Tail> {
        self.ensure_open()?;
        if !self.options.read_only && self.agent.is_none() {
            // The only writer has seen everything.
            return Ok(Tail::default());
        }
        if self.is_batching() {
            // Nothing comes between the operations of a batch, whose thread has the writer lock.
            return Ok(Tail::default());
        }
        if !self.reads_agents() {
            return self.tail_single();
        }
        let mut tail = self.look_at_agents()?;
        if !self.reads_agents() {
            // The last agent has left, and a single writer may have come.
            let since = self.tail_single()?;
            tail.operations.extend(since.operations);
            tail.rewound |= since.rewound;
        }
        Ok(tail)
    }

    fn tail_single(&self) -> Result<Tail> {
        let mut position = lock(&self.follower);
        let before = position.clone();
        match self.look(&mut position) {
            Ok(Look::New(operations)) => Ok(Tail {
                operations,
                rewound: false,
            }),
            Ok(Look::Gone) => self.rewind(&mut position, &before),
            // A file that went away while it was read: a checkpoint came in between.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.rewind(&mut position, &before)
            }
            Err(error) => {
                // What was read before the failure is read again, so that the next look tells it.
                *position = before;
                Err(error)
            }
        }
    }

    fn look(&self, position: &mut Position) -> Result<Look> {
        let backend = &*self.backend;
        let manifest = read_manifest(backend)?
            .ok_or_else(|| Error::not_found("the store is gone").at_path(backend.location()))?;
        if manifest.is_shared() {
            // Agents have begun to write.
            return Ok(Look::Gone);
        }
        if has_changed_otherwise(&self.manifest(), &manifest) {
            return Ok(Look::Gone);
        }
        if manifest.active_ops != position.log {
            return self.follow_checkpoint(position, manifest);
        }
        self.read_on(position)
    }

    /// Applies the lines behind `position`.
    fn read_on(&self, position: &mut Position) -> Result<Look> {
        let log = self.backend.open(&position.log)?;
        let mut operations = Vec::new();
        let outcome = position.read_on(&*log, &mut |line| {
            operations.push(Operation::from_line(line)?);
            Ok(())
        })?;
        if outcome.is_none() {
            return Ok(Look::Gone);
        }
        if operations.is_empty() {
            return Ok(Look::New(operations));
        }
        self.apply(&operations)?;
        let mut writer = lock(&self.writer);
        writer.ops_since_checkpoint += operations.len() as u64;
        writer.next_seq = position.next_seq;
        writer.end = position.offset;
        Ok(Look::New(operations))
    }

    /// Makes what came visible, all at once.
    fn apply(&self, operations: &[Operation]) -> Result<()> {
        let older = self.options.older_version(&self.manifest());
        let mut documents = Vec::with_capacity(operations.len());
        for operation in operations {
            documents.push(match (&operation.data, older) {
                (Some(data), Some(from)) => {
                    let document = Stored::<T>::new(&operation.id, data.as_str());
                    Some(self.options.migrate_for_reading(document, from)?.json())
                }
                (data, _) => data.clone(),
            });
        }
        let mut state = self.state_mut();
        for (operation, document) in operations.iter().zip(&documents) {
            let data = document.as_ref().map(Json::as_str);
            replay(&mut state, operation.kind, &operation.id, data)?;
        }
        Ok(())
    }

    /// The writer has begun a new log: reads the rest of the old one, then on in the new one, by sequence number.
    fn follow_checkpoint(&self, position: &mut Position, manifest: Manifest) -> Result<Look> {
        let Some(ours) = &manifest.ours else {
            return Ok(Look::Gone);
        };
        let archives = |manifest: &Manifest| manifest.archive_segments.clone();
        let barrier = self
            .manifest()
            .ours
            .as_ref()
            .map_or(0, |ours| ours.undo_floor);
        if archives(&manifest) != archives(&self.manifest()) || ours.undo_floor != barrier {
            // Documents went to an archive, or were migrated, without an operation.
            return Ok(Look::Gone);
        }
        // Documents that stay on storage are read from the new snapshot from now on: the old one is gone, and only held open.
        // A reader that migrates has what it migrated in memory.
        let is_on_storage = self.options.residency.is_on_storage()
            && self.options.older_version(&manifest).is_none();
        let fresh = if is_on_storage {
            Some(load_all(&self.options, &*self.backend, manifest.clone())?)
        } else {
            None
        };
        let Some((mut operations, mut ahead, mut ops_in_log)) =
            self.operations_behind(position, &manifest)?
        else {
            return Ok(Look::Gone);
        };
        match fresh {
            Some(fresh) => {
                // What came after it was loaded is for the next look.
                operations.retain(|operation| operation.seq < fresh.position.next_seq);
                let told = position.next_seq + operations.len() as u64;
                if told != fresh.position.next_seq {
                    return Ok(Look::Gone);
                }
                ahead = fresh.position;
                ops_in_log = fresh.outcome.count;
                *self.state_mut() = fresh.state;
            }
            None => self.apply(&operations)?,
        }
        {
            let mut writer = lock(&self.writer);
            writer.ops_since_checkpoint = ops_in_log;
            writer.next_seq = ahead.next_seq;
            writer.end = ahead.offset;
            writer.log_name.clone_from(&ahead.log);
        }
        *position = ahead;
        self.set_manifest(manifest);
        Ok(Look::New(operations))
    }

    /// The operations behind `position` in the logs that `manifest` names, with the place behind them and how many are in the active log;
    /// `None` when the last one that was read is not there any more, or some of those behind it are not.
    fn operations_behind(
        &self,
        position: &Position,
        manifest: &Manifest,
    ) -> Result<Option<(Vec<Operation>, Position, u64)>> {
        let mut parts = kept_logs(manifest);
        parts.retain(|part| part.agent.is_none());
        if parts
            .first()
            .is_none_or(|part| part.seq > position.next_seq)
        {
            return Ok(None);
        }
        let first_seq = manifest.ours.as_ref().map_or(0, |ours| ours.log_seq);
        let mut ahead = Position::start(manifest, first_seq);
        ahead.last_time.clone_from(&position.last_time);
        let last = position.last.as_ref();
        let from = last.map_or(position.next_seq, |last| last.seq);
        let mut still_there = last.is_none();
        let mut operations = Vec::new();
        let mut ops_in_log = 0;
        for part in parts.iter().filter(|part| part.reaches(from)) {
            part.read(&*self.backend, &mut |line| {
                if part.sealed.is_none() {
                    ahead.pass(line);
                    ops_in_log += 1;
                }
                if line.seq >= position.next_seq {
                    operations.push(Operation::from_line(line)?);
                } else if let Some(last) = last
                    && last.seq == line.seq
                {
                    still_there = op_line::body(line.raw) == op_line::body(&last.bytes);
                }
                Ok(())
            })?;
        }
        Ok(still_there.then_some((operations, ahead, ops_in_log)))
    }

    /// Loads the store anew; the operations that came since `before`, as far as they are kept, are in the answer.
    fn rewind(&self, position: &mut Position, before: &Position) -> Result<Tail> {
        let loaded = load_consistent(&self.options, &*self.backend)?;
        *position = loaded.position;
        *lock(&self.others) = loaded.others;
        *self.state_mut() = loaded.state;
        self.set_manifest(loaded.manifest);
        {
            let mut writer = lock(&self.writer);
            writer.ops_since_checkpoint = loaded.outcome.count;
            writer.next_seq = loaded.outcome.next_seq;
            writer.end = loaded.outcome.end;
            writer.log_name.clone_from(&position.log);
        }
        let since = before
            .place()
            .map_or(Since::Start, |place| Since::Cursor(Cursor::single(place)));
        let mut operations = match self.ops(&since) {
            Ok(operations) => operations,
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        // What came after the documents were loaded is for the next look.
        operations
            .retain(|operation| (before.next_seq..position.next_seq).contains(&operation.seq));
        Ok(Tail {
            operations,
            rewound: true,
        })
    }

    /// Brings the documents up to date.
    pub(crate) fn refresh(&self) -> Result<()> {
        self.tail().map(drop)
    }
}

/// Whether documents have changed by more than the operations of a single writer: they were migrated, or agents came, folded their work into another snapshot, and left.
fn has_changed_otherwise(known: &Manifest, now: &Manifest) -> bool {
    let folded = |manifest: &Manifest| -> Vec<(String, u64)> {
        let agents = manifest.agents();
        agents
            .map(|facts| (facts.id.clone(), facts.folded))
            .collect()
    };
    let same_log = now.active_ops == known.active_ops;
    now.version != known.version
        || folded(now) != folded(known)
        || same_log && now.current_snapshot != known.current_snapshot
}

/// A thread that looks for news.
pub(crate) struct Watch {
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Calls `callback` with the news every `interval`, and with errors, until it is dropped.
    pub(crate) fn start<T: Document>(
        engine: &Arc<Engine<T>>,
        interval: Duration,
        mut callback: impl FnMut(Result<Tail>) + Send + 'static,
    ) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let engine = Arc::downgrade(engine);
        let run = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let Some(engine) = engine.upgrade() else {
                    return;
                };
                match engine.tail() {
                    Ok(tail) if tail.operations.is_empty() && !tail.rewound => {}
                    Err(error) if error.kind() == ErrorKind::Closed => return,
                    news => callback(news),
                }
            }
        };
        let thread = thread::Builder::new()
            .name("opslog-watch".to_owned())
            .spawn(run)
            .map_err(|error| Error::io("start a thread to watch", "", error))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread may have ended already.
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}
