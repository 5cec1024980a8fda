//! What all flows share: the open store, its locks, and the rule for them.
//!
//! **One writer lock.** `writer` guards everything that changes: the log, its buffer, the manifest. Whoever writes the log to storage
//! takes it out of the writer (`log` is `None` meanwhile) and releases the lock, so that others can queue their commits. `state` holds what is
//! visible; it is write-locked only to apply finished commits, never during I/O. Order: `checkpointing`, then `follower` or `others`, then `writer`, then `state`.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, PoisonError};

use arcstr::Substr;
use hashbrown::HashMap;

use crate::agents::Others;
use crate::backend::{Backend, LockGuard, Log};
use crate::background::Background;
use crate::clock::LamportClock;
use crate::document::Stored;
use crate::follow::{Position, Tail};
use crate::format::manifest::Manifest;
use crate::merge::{Agent, Register};
use crate::options::Options;
use crate::recover::OpenReport;
use crate::state::{Change, State};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, thread_local,
};
use crate::{Error, ErrorKind, Result};

pub(crate) struct Engine<T> {
    pub(crate) options: Options,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) report: OpenReport,
    state: RwLock<State<T>>,
    manifest: RwLock<Arc<Manifest>>,
    pub(crate) writer: Mutex<Writer<T>>,
    /// A group was settled, or the log was given back.
    pub(crate) settled: Condvar,
    /// Operations queued since a leader began to gather them.
    pub(crate) arrived: AtomicU64,
    /// How often replaced logs were to be merged.
    pub(crate) merges: AtomicU64,
    /// Held while a checkpoint is made, so that there is one at a time.
    pub(crate) checkpointing: Mutex<()>,
    pub(crate) follower: Mutex<Position>,
    /// How far the other agents' logs were read; of an agent, or of a reader of a store of agents.
    pub(crate) others: Mutex<Others>,
    /// What other agents wrote, seen while something else was done, that nobody who asks for news has been told of.
    pub(crate) untold: Mutex<Tail>,
    /// Under which id this store writes, beside other agents.
    pub(crate) agent: Option<Agent>,
    pub(crate) background: Background,
    closed: AtomicBool,
    /// The number of the first operation that is not settled: on its way to the log, or failed. Of no meaning in a read-only store.
    pub(crate) settled_seq: AtomicU64,
    /// The thread that is inside a batch, which must not wait for the writer lock that it holds.
    batching: AtomicU64,
}

/// All that changes when something is written.
pub(crate) struct Writer<T> {
    /// `None` while a leader writes to it, and in a read-only store.
    pub(crate) log: Option<Box<dyn Log>>,
    pub(crate) log_name: String,
    /// Commits on their way to the log, oldest first.
    pub(crate) queue: VecDeque<Group<T>>,
    /// Bytes in `queue`.
    pub(crate) queued_bytes: usize,
    /// Offset in the log at which the next group begins.
    pub(crate) end: u64,
    pub(crate) next_seq: u64,
    /// What each id that is not visible yet will be.
    pub(crate) pending: HashMap<Substr, Pending<T>>,
    pub(crate) ops_since_checkpoint: u64,
    /// After a failed checkpoint: the number of operations before which the next one is not tried.
    pub(crate) checkpoint_not_before: u64,
    /// When a checkpoint is being made: the number of the first operation that it does not contain.
    pub(crate) sealing: Option<u64>,
    /// Why nothing can be written any more.
    pub(crate) poison: Option<Error>,
    /// A failure in the background that nobody has been told of.
    pub(crate) failure: Option<Error>,
    /// Operations in the group that was settled last.
    pub(crate) cohort: u64,
    /// How many wait to have the log to themselves; new leaders stand back.
    pub(crate) waiting_for_log: usize,
    /// The time of the newest operation, in milliseconds since 1970 and as text.
    pub(crate) last_millisecond: i64,
    pub(crate) last_time: Arc<str>,
    pub(crate) spare: Vec<u8>,
    pub(crate) lock: Option<Box<dyn LockGuard>>,
    /// The agent's clock, in a store with several.
    pub(crate) clock: LamportClock,
}

/// The newest document of an id, on its way to the log.
pub(crate) struct Pending<T> {
    /// The number of the operation that made it.
    pub(crate) seq: u64,
    pub(crate) document: Option<Stored<T>>,
    /// In a store with several agents.
    pub(crate) register: Option<Register>,
}

/// Commits that one write takes to the log.
pub(crate) struct Group<T> {
    pub(crate) at: u64,
    pub(crate) first_seq: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) ops: u64,
    /// What becomes visible once it is settled; empty where it is visible already.
    pub(crate) changes: Vec<Change<T>>,
    pub(crate) outcome: Arc<GroupOutcome>,
}

/// How a group ended; unset while it has not.
pub(crate) type GroupOutcome = OnceLock<Result<()>>;

impl<T> Writer<T> {
    pub(crate) fn new(log_name: String) -> Self {
        Self {
            log: None,
            log_name,
            queue: VecDeque::new(),
            queued_bytes: 0,
            end: 0,
            next_seq: 0,
            pending: HashMap::new(),
            ops_since_checkpoint: 0,
            checkpoint_not_before: 0,
            sealing: None,
            poison: None,
            failure: None,
            cohort: 0,
            waiting_for_log: 0,
            last_millisecond: 0,
            last_time: Arc::default(),
            spare: Vec::new(),
            lock: None,
            clock: LamportClock::default(),
        }
    }
}

/// What `open` found and made, from which an engine is built.
pub(crate) struct Parts<T> {
    pub(crate) options: Options,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) report: OpenReport,
    pub(crate) state: State<T>,
    pub(crate) manifest: Manifest,
    pub(crate) writer: Writer<T>,
    pub(crate) position: Position,
    pub(crate) others: Others,
    pub(crate) agent: Option<Agent>,
}

impl<T> Engine<T> {
    pub(crate) fn new(parts: Parts<T>) -> Self {
        let settled_seq = parts.writer.next_seq;
        Self {
            options: parts.options,
            backend: parts.backend,
            report: parts.report,
            state: RwLock::new(parts.state),
            manifest: RwLock::new(Arc::new(parts.manifest)),
            writer: Mutex::new(parts.writer),
            settled: Condvar::new(),
            arrived: AtomicU64::new(0),
            merges: AtomicU64::new(0),
            checkpointing: Mutex::new(()),
            follower: Mutex::new(parts.position),
            others: Mutex::new(parts.others),
            untold: Mutex::default(),
            agent: parts.agent,
            background: Background::default(),
            closed: AtomicBool::new(false),
            settled_seq: AtomicU64::new(settled_seq),
            batching: AtomicU64::new(0),
        }
    }

    pub(crate) fn ensure_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Closed,
                "store is closed; open it again",
            ));
        }
        Ok(())
    }

    /// Marks the store as closed; `false` if it was already.
    pub(crate) fn mark_closed(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    /// The visible documents, to read.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State<T>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The visible documents, to apply finished commits.
    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn manifest(&self) -> Arc<Manifest> {
        let manifest = self.manifest.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&manifest)
    }

    pub(crate) fn set_manifest(&self, manifest: Manifest) {
        *self
            .manifest
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(manifest);
    }

    /// The writer lock, for a call that changes the store.
    ///
    /// # Errors
    ///
    /// `Closed`; `ReadOnly`; `Poisoned`; `InvalidInput` from within a batch, whose thread has the lock already; once, a failure in the background.
    pub(crate) fn writer(&self) -> Result<MutexGuard<'_, Writer<T>>> {
        self.ensure_open()?;
        if self.options.read_only {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                "store is read-only; open it without read_only to change it",
            ));
        }
        self.ensure_not_batching()?;
        let mut writer = lock(&self.writer);
        self.ensure_open()?;
        if let Some(poison) = &writer.poison {
            return Err(poison.clone());
        }
        match writer.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(writer),
        }
    }

    /// Whether this thread is inside a batch, and so has the writer lock.
    pub(crate) fn is_batching(&self) -> bool {
        self.batching.load(Ordering::Relaxed) == this_thread()
    }

    pub(crate) fn ensure_not_batching(&self) -> Result<()> {
        if self.is_batching() {
            return Err(Error::invalid(
                "inside a batch, use the batch's own handle; this call would wait for the batch to end",
            ));
        }
        Ok(())
    }

    /// Runs `f` as the batch of this thread: other writers wait, and this thread's are refused.
    pub(crate) fn while_batching<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Reset<'a>(&'a AtomicU64);
        impl Drop for Reset<'_> {
            fn drop(&mut self) {
                self.0.store(0, Ordering::Relaxed);
            }
        }
        self.batching.store(this_thread(), Ordering::Relaxed);
        let _reset = Reset(&self.batching);
        f()
    }
}

/// Locks `mutex`. A panic of another holder does not matter: all that these locks guard is changed in steps that leave it whole.
pub(crate) fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number of this thread, never 0.
fn this_thread() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
