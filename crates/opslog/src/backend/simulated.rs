//! A file system in memory that can fail and lose power at any call, for crash tests.
//!
//! It keeps what is *live* (what the running program sees) apart from what is *durable* (what was synced): a
//! [crash](SimulatedDisk::crash_state) keeps the durable part and any part of the rest. Invariant: it never loses what a real
//! disk would keep, and loses whatever POSIX allows a real one to lose.
//!
//! A crash test runs a workload on a disk, with `fail(k, Fault::CrashBefore)` for each `k` up to `calls()` of an
//! undisturbed run, and then opens the store again on `crash_state(…)`: with a [`seeded`] chooser some random
//! outcome, with [`each_crash_state`](SimulatedDisk::each_crash_state) every one of them.

mod calls;
mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use disk::{Disk, NodeId};

/// The process id under which a new disk is used.
const FIRST_PROCESS: u32 = 1_000_001;

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The call fails with an input/output error and does nothing.
    Eio,
    /// The call fails since the disk is full, and does nothing.
    Enospc,
    /// The call is interrupted by a signal, and does nothing.
    Eintr,
    /// A write writes this many bytes at most, and says so. Other calls are not affected.
    ShortWrite(usize),
    /// A sync fails, and the system forgets what was to be written: the program still reads it, but no later
    /// sync makes it durable. Calls other than syncs fail as with `Eio`.
    SyncFailure,
    /// The power goes before the call: it fails and so does every call after it.
    CrashBefore,
}

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the call of that name")]
pub enum CallKind {
    CreateDir,
    IsDir,
    Open,
    Create,
    Rename,
    HardLink,
    Remove,
    RemoveDir,
    SyncDir,
    List,
    Lock,
    Read,
    Write,
    SetLength,
    Length,
    Age,
    SyncData,
    SyncAll,
}

impl CallKind {
    /// Whether a full disk makes it fail.
    fn needs_space(self) -> bool {
        matches!(
            self,
            Self::CreateDir | Self::Create | Self::HardLink | Self::Write
        )
    }
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub kind: CallKind,
    /// On which file or directory (for renames and links: the new name).
    pub path: PathBuf,
}

/// A disk in memory, as one process sees it. Clones share the disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    shared: Arc<Shared>,
    process_id: u32,
}

struct Shared {
    state: Mutex<State>,
    unlocked: Condvar,
}

struct State {
    disk: Disk,
    calls: usize,
    plan: BTreeMap<usize, Fault>,
    full_from: usize,
    trace: Option<Vec<Call>>,
    crashed: bool,
    /// Which files are locked, and by whom.
    locks: BTreeMap<NodeId, Vec<Holding>>,
    locks_taken: u64,
    alive: BTreeSet<u32>,
    clock: Duration,
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDisk {
    /// An empty disk with only the directory `/`.
    pub fn new() -> Self {
        Self::from_disk(Disk::new(), Duration::ZERO, FIRST_PROCESS)
    }

    fn from_disk(disk: Disk, clock: Duration, process_id: u32) -> Self {
        let state = State {
            disk,
            calls: 0,
            plan: BTreeMap::new(),
            full_from: usize::MAX,
            trace: None,
            crashed: false,
            locks: BTreeMap::new(),
            locks_taken: 0,
            alive: BTreeSet::from([process_id]),
            clock,
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                unlocked: Condvar::new(),
            }),
            process_id,
        }
    }

    /// How many calls were made so far.
    pub fn calls(&self) -> usize {
        self.state().calls
    }

    /// Makes the call with this index (from 0, over all calls on this disk) go wrong.
    pub fn fail(&self, call_index: usize, fault: Fault) {
        self.state().plan.insert(call_index, fault);
    }

    /// From this call on the disk is full: writes and new files fail, until it is `mend`ed.
    pub fn fill_up_from(&self, call_index: usize) {
        self.state().full_from = call_index;
    }

    /// Takes back all faults that are still to come.
    pub fn mend(&self) {
        let mut state = self.state();
        state.plan.clear();
        state.full_from = usize::MAX;
    }

    /// The power goes: from now on every call fails. Locks are released.
    pub fn crash(&self) {
        self.state().crash();
        self.shared.unlocked.notify_all();
    }

    /// Whether the power has gone.
    pub fn is_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Begins to record calls.
    pub fn record(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// The calls made since `record`.
    pub fn trace(&self) -> Vec<Call> {
        self.state().trace.clone().unwrap_or_default()
    }

    /// A disk as it may be found after the power went now. `choose(n)` answers one of `0..n`, and so picks the outcome: each
    /// change that was not synced is there, or not, or (a write) torn. This disk is not changed.
    #[must_use]
    pub fn crash_state(&self, mut choose: impl FnMut(usize) -> usize) -> Self {
        let state = self.state();
        let disk = state.disk.after_crash(&mut choose);
        Self::from_disk(disk, state.clock, self.process_id + 1)
    }

    /// Calls `visit` with every disk that may be found after the power went now, up to `limit` of them. Returns whether
    /// those were all.
    pub fn each_crash_state(&self, limit: usize, mut visit: impl FnMut(Self)) -> bool {
        exhaustive(limit, |choose| visit(self.crash_state(choose)))
    }

    /// The disk as it is found after the program was killed now, while the system lives on: nothing is lost, locks are
    /// released. This disk is not changed.
    #[must_use]
    pub fn killed(&self) -> Self {
        let state = self.state();
        Self::from_disk(state.disk.clone(), state.clock, self.process_id + 1)
    }

    /// How many changes are not durable.
    pub fn unsynced_changes(&self) -> usize {
        self.state().disk.pending()
    }

    /// The same disk, as another process sees it.
    #[must_use]
    pub fn as_process(&self, process_id: u32) -> Self {
        self.state().alive.insert(process_id);
        Self {
            shared: Arc::clone(&self.shared),
            process_id,
        }
    }

    /// Starts or ends a process. The calls of a process that has ended fail, and its locks are released.
    pub fn set_alive(&self, process_id: u32, alive: bool) {
        let mut state = self.state();
        if alive {
            state.alive.insert(process_id);
        } else {
            state.alive.remove(&process_id);
            for holdings in state.locks.values_mut() {
                holdings.retain(|holding| holding.process_id != process_id);
            }
        }
        drop(state);
        self.shared.unlocked.notify_all();
    }

    /// Lets time go by, for the age of files.
    pub fn advance(&self, time: Duration) {
        self.state().clock += time;
    }

    /// A number for what is on the disk, as one sees it live: names and contents, but for lock files and for the numbers in the names of temporary
    /// files, which mean nothing.
    pub fn fingerprint(&self) -> u64 {
        self.state().disk.fingerprint()
    }

    /// The live content of a file, if there is one.
    pub fn content(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state();
        let node = state.disk.find(path.as_ref()).ok()?;
        Some(state.disk.file(node).ok()?.live().to_vec())
    }

    /// Gives a file this content, durably, without counting as a call: for damage and for the files of others.
    ///
    /// # Errors
    ///
    /// `NotFound` if its directory does not exist.
    pub fn plant(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let now = state.clock;
        let node = if let Ok(node) = state.disk.find(path.as_ref()) {
            node
        } else {
            let node = state.disk.create_file(path.as_ref(), now)?;
            let folder = state.disk.find(super::fs::parent(path.as_ref()))?;
            state.disk.sync_folder(folder)?;
            node
        };
        let content = state.disk.file_mut(node)?;
        content.plant(bytes);
        content.written = now;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and lets it fail if it is to. A fault that the call itself must act out is handed to it.
    fn begin(
        &self,
        kind: CallKind,
        path: &Path,
    ) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.state();
        if state.crashed {
            return Err(io::Error::other("the simulated disk has crashed"));
        }
        if !state.alive.contains(&self.process_id) {
            return Err(io::Error::other("the simulated process is dead"));
        }
        let index = state.calls;
        state.calls += 1;
        if let Some(trace) = &mut state.trace {
            let path = path.to_owned();
            trace.push(Call { kind, path });
        }
        if index >= state.full_from && kind.needs_space() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match state.plan.remove(&index) {
            Some(Fault::Eio) => Err(io::Error::from_raw_os_error(EIO)),
            Some(Fault::Enospc) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Eintr) => Err(io::ErrorKind::Interrupted.into()),
            Some(Fault::CrashBefore) => {
                state.crash();
                drop(state);
                self.shared.unlocked.notify_all();
                Err(io::Error::other("the simulated disk has crashed"))
            }
            Some(Fault::SyncFailure) if !matches!(kind, CallKind::SyncData | CallKind::SyncAll) => {
                Err(io::Error::from_raw_os_error(EIO))
            }
            fault => Ok((state, fault)),
        }
    }
}

/// The number of the input/output error on every Unix.
const EIO: i32 = 5;

/// A lock that a process has.
struct Holding {
    process_id: u32,
    kind: LockKind,
    /// Tells two holdings apart.
    number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LockKind {
    Exclusive,
    Shared,
}

impl State {
    fn crash(&mut self) {
        self.crashed = true;
        self.locks.clear();
    }

    /// Takes the lock of a file if it is free; the number is that of the holding.
    fn take_lock(
        &mut self,
        path: &Path,
        process_id: u32,
        kind: LockKind,
    ) -> io::Result<Option<(NodeId, u64)>> {
        let node = match self.disk.find(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let now = self.clock;
                self.disk.create_file(path, now)?
            }
            found => found?,
        };
        let holdings = self.locks.entry(node).or_default();
        let in_the_way = |holding: &Holding| [kind, holding.kind].contains(&LockKind::Exclusive);
        if holdings.iter().any(in_the_way) {
            return Ok(None);
        }
        self.locks_taken += 1;
        let number = self.locks_taken;
        holdings.push(Holding {
            process_id,
            kind,
            number,
        });
        Ok(Some((node, number)))
    }
}

/// A chooser for [`SimulatedDisk::crash_state`] that chooses at random, always the same way for the same seed (xorshift64*).
pub fn seeded(seed: u64) -> impl FnMut(usize) -> usize {
    // Neighbouring seeds must not begin alike, and the state must not be zero.
    let mut state =
        (seed.wrapping_add(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xBF58_476D_1CE4_E5B9) | 1;
    move |count| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let random = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(random % count).unwrap_or(0)
    }
}

/// Calls `visit` once for every way its choices can go, up to `limit` times; `visit` must make the same choices after the same
/// answers. Returns whether those were all.
pub fn exhaustive(limit: usize, mut visit: impl FnMut(&mut dyn FnMut(usize) -> usize)) -> bool {
    // The answers given, each with the number of ways there were: counted up like the digits of a number.
    let mut answers: Vec<(usize, usize)> = Vec::new();
    for _ in 0..limit {
        let mut asked = 0;
        visit(&mut |count| {
            if asked == answers.len() {
                answers.push((0, count));
            }
            asked += 1;
            answers.get(asked - 1).map_or(0, |(answer, _)| *answer)
        });
        while answers
            .last()
            .is_some_and(|(answer, count)| answer + 1 >= *count)
        {
            answers.pop();
        }
        match answers.last_mut() {
            Some((answer, _)) => *answer += 1,
            None => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests;
