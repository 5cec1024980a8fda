//! The one path of every write: a commit, that is a list of operations, goes through `commit` to the log.
//!
//! A commit is encoded into the newest group of the queue, under the writer lock. One caller becomes *leader*: it takes the oldest group and the
//! log, releases the lock, writes the group with one `append` and one `sync`, and settles it; those who queued meanwhile form the next group.
//!
//! Invariants: groups reach the log in the order of their sequence numbers, each at the offset that its lines name (`at`); in `Immediate` mode
//! a group becomes visible after its sync and in that order; a group that fails before its sync leaves no trace, in the log or in memory.
//! What happens to a group from there on is in `queue`.

use std::sync::Arc;
use std::time::Duration;

use arcstr::{ArcStr, Substr};
use hashbrown::HashMap;
use jiff::Timestamp;
use smallvec::{SmallVec, smallvec};

use crate::backend::Log;
use crate::document::{self, Document, Stored};
use crate::engine::{Engine, Group, GroupOutcome, Pending, Writer};
use crate::format::op_line::BatchMark;
use crate::merge::Stamp;
use crate::options::WriteMode;
use crate::state::Change;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::{Error, Result, time};

/// Bytes that wait for the disk before a writer in `Async` or `Group` mode has to wait too.
const QUEUE_LIMIT: usize = 16 << 20;
/// In `Group` mode a writer waits for the disk when so many times `size` operations wait for it.
const GROUPS_AHEAD: u64 = 4;
/// Bytes after which a group that waits for the disk is full, and the next one is begun.
const GROUP_LIMIT: usize = 4 << 20;

pub(crate) mod each;
mod line;
mod queue;
mod stamp;

use line::Line;
use queue::{SYNC_FAILED, poisoned};
use stamp::{stage_stamped, stamp_drafts};

/// A set or delete on its way into a commit.
pub(crate) enum Draft<T> {
    Set(Stored<T>),
    Delete(Substr),
}

/// What a document was before an operation.
enum Before<T> {
    Nothing,
    Document(Stored<T>),
    /// It could not be read whether there was one; the caller says so.
    Unreadable {
        existed: bool,
    },
}

impl<T> Before<T> {
    fn document(&self) -> Option<&Stored<T>> {
        match self {
            Self::Document(document) => Some(document),
            Self::Nothing | Self::Unreadable { .. } => None,
        }
    }

    fn existed(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Document(_) => true,
            Self::Unreadable { existed } => *existed,
        }
    }
}

impl<T> From<Option<Stored<T>>> for Before<T> {
    fn from(document: Option<Stored<T>>) -> Self {
        document.map_or(Self::Nothing, Self::Document)
    }
}

/// The drafts of a commit; that of one needs no allocation.
pub(crate) type Drafts<T> = SmallVec<[Draft<T>; 1]>;

impl<T> Draft<T> {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Set(document) => document.id(),
            Self::Delete(id) => id,
        }
    }

    /// The id, to be kept: shared, not copied.
    fn shared_id(&self) -> Substr {
        match self {
            Self::Set(document) => document.shared_id(),
            Self::Delete(id) => id.clone(),
        }
    }

    pub(crate) fn document(&self) -> Option<&Stored<T>> {
        match self {
            Self::Set(document) => Some(document),
            Self::Delete(_) => None,
        }
    }
}

pub(crate) type Guard<'e, T> = MutexGuard<'e, Writer<T>>;

impl<T: Document> Engine<T> {
    /// Sets one document.
    pub(crate) fn set(&self, id: &str, document: &T) -> Result<()> {
        self.commit_one(Draft::Set(document::encode(id, document)?), &Intent::Write)
    }

    /// Sets one document given as JSON text.
    pub(crate) fn set_json(&self, id: &str, text: &str) -> Result<()> {
        self.commit_one(Draft::Set(document::encode_text(id, text)?), &Intent::Write)
    }

    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        self.commit_one(Draft::Delete(ArcStr::from(id).into()), &Intent::Write)
    }

    pub(crate) fn commit_one(&self, draft: Draft<T>, intent: &Intent) -> Result<()> {
        let writer = self.writer()?;
        self.commit(writer, smallvec![draft], intent)
    }

    /// Commits `drafts` as one: all or nothing, in memory, on storage, and after a crash. Returns when the write mode's promise holds.
    pub(crate) fn commit<'e>(
        &'e self,
        mut writer: Guard<'e, T>,
        drafts: Drafts<T>,
        intent: &Intent,
    ) -> Result<()> {
        if drafts.is_empty() {
            return Ok(());
        }
        if writer.queued_bytes >= QUEUE_LIMIT && !self.options.write_mode.is_immediate() {
            writer = self.flush_queue(writer)?;
            self.ensure_open()?;
        }
        let outcome = self.enqueue(&mut writer, drafts, intent)?;
        match self.options.write_mode {
            WriteMode::Immediate => {
                writer = self.wait(writer, &outcome);
                outcome.get().cloned().unwrap_or(Ok(()))?;
            }
            WriteMode::Group { size, interval } => {
                if writer.queued_ops() >= GROUPS_AHEAD.saturating_mul(size as u64) {
                    writer = self.wait_noting_failure(writer, &outcome);
                } else {
                    self.flush_soon(&writer, size, interval);
                }
            }
            WriteMode::Async { size, interval } => self.flush_soon(&writer, size, interval),
        }
        self.checkpoint_if_due(writer);
        Ok(())
    }

    /// Has the store's thread write what is queued: now, if it is as much as `size` operations.
    fn flush_soon(&self, writer: &Writer<T>, size: usize, interval: Duration) {
        if writer.queued_ops() >= size as u64 {
            self.background.flush_now();
        } else {
            self.background.flush_within(interval);
        }
    }

    /// As [`commit`](Self::commit) in `Immediate` mode, whatever the mode, with the lock held throughout: when it fails it leaves no trace. The writer must be quiet.
    pub(crate) fn commit_now<'e>(
        &'e self,
        mut writer: Guard<'e, T>,
        drafts: Drafts<T>,
        intent: &Intent,
    ) -> Result<()> {
        self.enqueue(&mut writer, drafts, intent)?;
        let writer = self.quiesce(writer)?;
        self.checkpoint_if_due(writer);
        Ok(())
    }

    /// Puts a commit at the end of the queue. When it fails, nothing was changed.
    fn enqueue(
        &self,
        writer: &mut Writer<T>,
        drafts: Drafts<T>,
        intent: &Intent,
    ) -> Result<Arc<GroupOutcome>> {
        let before = self.documents_before(writer, &drafts, intent)?;
        let now = writer.tick();
        let ops = drafts.len() as u64;
        let first_seq = writer.next_seq;
        let stamped = self.agent.as_ref().map(|agent| {
            let register = |writer: &Writer<T>, id: &str| match writer.pending.get(id) {
                Some(pending) => pending.register.clone(),
                None => self.state().register(id),
            };
            stamp_drafts(writer, agent, &drafts, intent, register)
        });
        let group = writer.open_group(self.options.write_mode);
        let bytes_before = group.bytes.len();
        let count = u32::try_from(drafts.len())
            .map_err(|_| Error::invalid("a batch must have fewer than 2^32 operations"))?;
        let mut prev_text = Vec::new();
        for (index, (draft, before)) in (0_u32..).zip(drafts.iter().zip(&before)) {
            let batch = (count > 1).then_some(BatchMark { index, count });
            let blind = match before {
                Before::Nothing => self.options.skip_load,
                Before::Document(_) => false,
                Before::Unreadable { .. } => true,
            };
            let stamped = stamped.as_ref().and_then(|all| all.get(index as usize));
            let line = Line {
                ts: &now,
                draft,
                before: before.document(),
                batch,
                blind,
                undo: !intent.is_write(),
                agent: self.agent.as_deref().zip(stamped),
            };
            line.encode(group, first_seq + u64::from(index), &mut prev_text);
        }
        group.ops += ops;
        self.arrived.fetch_add(ops, Ordering::Relaxed);
        let outcome = Arc::clone(&group.outcome);
        let added = group.bytes.len() - bytes_before;
        writer.queued_bytes += added;
        writer.end += added as u64;
        writer.next_seq += ops;
        writer.ops_since_checkpoint += ops;
        match stamped {
            None => {
                let is_taking_back = matches!(intent, Intent::Undo);
                let at_once = !self.options.write_mode.is_immediate() && !is_taking_back;
                self.stage(writer, drafts, &before, first_seq, at_once);
            }
            Some(stamped) => stage_stamped(writer, drafts, stamped, first_seq),
        }
        Ok(outcome)
    }

    /// What each operation's document was before it, earlier operations of the same commit included.
    fn documents_before(
        &self,
        writer: &Writer<T>,
        drafts: &[Draft<T>],
        intent: &Intent,
    ) -> Result<SmallVec<[Before<T>; 1]>> {
        let mut within: HashMap<&str, Option<&Stored<T>>> = match drafts.len() {
            0 | 1 => HashMap::new(),
            several => HashMap::with_capacity(several),
        };
        let mut all = SmallVec::with_capacity(drafts.len());
        for draft in drafts {
            let before = match within.get(draft.id()) {
                Some(known) => known.cloned().into(),
                None => self.before(writer, draft.id(), intent)?,
            };
            // What an agent takes back may have gone meanwhile, by another agent's hand.
            let may_be_gone = matches!(intent, Intent::TakeBack(_));
            if !before.existed() && !may_be_gone && matches!(draft, Draft::Delete(_)) {
                return Err(not_found(draft.id()));
            }
            if drafts.len() > 1 {
                within.insert(draft.id(), draft.document());
            }
            all.push(before);
        }
        Ok(all)
    }

    /// What the document of `id` is, before a commit that may change it.
    fn before(&self, writer: &Writer<T>, id: &str, intent: &Intent) -> Result<Before<T>> {
        match (self.newest(writer, id), intent) {
            (Err(error), Intent::Accepted { existed }) => {
                tracing::warn!(%error, id, "what was before this change cannot be read, and is not kept");
                Ok(Before::Unreadable { existed: *existed })
            }
            (newest, _) => newest.map(Before::from),
        }
    }

    /// The newest document of `id`, commits that are not visible yet included.
    pub(crate) fn newest(&self, writer: &Writer<T>, id: &str) -> Result<Option<Stored<T>>> {
        if let Some(pending) = writer.pending.get(id) {
            return Ok(pending.document.clone());
        }
        self.stored(id)
    }

    /// Makes an encoded commit visible, or, in `Immediate` mode, keeps it until its group is settled.
    fn stage(
        &self,
        writer: &mut Writer<T>,
        drafts: Drafts<T>,
        before: &[Before<T>],
        first_seq: u64,
        at_once: bool,
    ) {
        let mut state = at_once.then(|| self.state_mut());
        for (seq, (draft, before)) in (first_seq..).zip(drafts.into_iter().zip(before)) {
            if !at_once {
                let newest = Pending {
                    seq,
                    document: draft.document().cloned(),
                    register: None,
                };
                writer.pending.insert(draft.shared_id(), newest);
            }
            let change = match draft {
                Draft::Set(document) => Change::Set {
                    document,
                    update: before.existed(),
                },
                Draft::Delete(id) => Change::Delete(id),
            };
            match (&mut state, writer.queue.back_mut()) {
                (Some(state), _) => state.apply(change),
                (None, Some(group)) => group.changes.push(change),
                (None, None) => {}
            }
        }
    }
}

/// Why a commit is made.
pub(crate) enum Intent {
    Write,
    /// It is accepted already, whatever can be read: the caller knows whether there was a document.
    Accepted {
        existed: bool,
    },
    /// It takes back an earlier one, as a new commit like any other.
    Undo,
    /// It takes back an earlier one of this agent: of each operation, what it does.
    TakeBack(Vec<TakenBack>),
}

impl Intent {
    fn is_write(&self) -> bool {
        matches!(self, Self::Write | Self::Accepted { .. })
    }
}

/// What taking back an operation comes to.
#[derive(Clone)]
pub(crate) enum TakenBack {
    /// The document, if there is one, was created then.
    Restored { born: Option<Stamp> },
    /// Another agent has written since, and that stays.
    Nothing,
}

impl<T> Writer<T> {
    /// Nothing is written any more, since what is on storage is unknown.
    pub(crate) fn poison(&mut self, cause: &Error) -> Error {
        self.poison_since(SYNC_FAILED, cause)
    }

    /// Nothing is written any more, for the reason `why`.
    pub(crate) fn poison_since(&mut self, why: &str, cause: &Error) -> Error {
        let poison = poisoned(why, cause);
        self.poison = Some(poison.clone());
        poison
    }

    /// Goes on in `log`. What lies behind the end that counts of the old one stays where it is, for those who are reading it.
    pub(crate) fn change_log(&mut self, log: Box<dyn Log>, name: String) {
        self.end = log.end();
        self.leave_log();
        self.log = Some(log);
        self.log_name = name;
    }

    /// Ends the log, which has been replaced.
    pub(crate) fn leave_log(&mut self) {
        if let Some(mut old) = self.log.take()
            && let Err(error) = old.finish()
        {
            tracing::warn!(%error, log = self.log_name, "the replaced log keeps its padding");
        }
    }

    /// The group that takes new commits: the newest, unless there is none or it is a buffer's worth.
    fn open_group(&mut self, mode: WriteMode) -> &mut Group<T> {
        // A group that failed once keeps its lines; what comes after begins another write, which their `at` must show.
        let full = self
            .queue
            .back()
            .is_none_or(|group| !mode.is_immediate() && group.bytes.len() >= GROUP_LIMIT);
        if full {
            let bytes = std::mem::take(&mut self.spare);
            self.queue
                .push_back(Group::new(self.end, self.next_seq, bytes));
        }
        self.queue.back_mut().expect("a group was just added")
    }

    fn queued_ops(&self) -> u64 {
        self.queue.iter().map(|group| group.ops).sum()
    }

    /// The time of a new operation; it never goes back, so that `ops` by time misses none.
    fn tick(&mut self) -> Arc<str> {
        let now = time::now().as_millisecond();
        if now > self.last_millisecond || self.last_time.is_empty() {
            self.last_millisecond = self.last_millisecond.max(now);
            let time = Timestamp::from_millisecond(self.last_millisecond);
            self.last_time = time::format_timestamp(time.unwrap_or(Timestamp::MAX)).into();
        }
        Arc::clone(&self.last_time)
    }

    /// Gives the next operation a later time than all before it. So a line that comes where another one was cut off is never equal to it, and a reader that
    /// compares the last line that it has read sees what happened.
    pub(crate) fn skip_millisecond(&mut self) {
        self.last_millisecond += 1;
        self.last_time = Arc::default();
    }

    /// Fails `group` and everything queued behind it, which was built on it.
    fn fail_all(&mut self, group: Group<T>, error: &Error) {
        self.end = group.at;
        self.next_seq = group.first_seq;
        self.skip_millisecond();
        self.queue.push_front(group);
        self.abandon(error);
    }

    /// Fails everything that is queued.
    pub(crate) fn abandon(&mut self, error: &Error) {
        for group in std::mem::take(&mut self.queue) {
            self.ops_since_checkpoint = self.ops_since_checkpoint.saturating_sub(group.ops);
            let _ = group.outcome.set(Err(error.clone()));
        }
        self.queued_bytes = 0;
        self.pending.clear();
    }
}

impl<T> Group<T> {
    fn new(at: u64, first_seq: u64, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self {
            at,
            first_seq,
            bytes,
            ops: 0,
            changes: Vec::new(),
            outcome: Arc::default(),
        }
    }
}

pub(crate) fn not_found(id: &str) -> Error {
    Error::not_found(format!("record '{id}' not found"))
}
