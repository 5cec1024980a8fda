//! Taking back the last commit.
//!
//! The newest commit in the active log is cut off it; the cost does not depend on the log's length. A commit that a checkpoint has sealed, or is
//! about to seal, is taken back by appending its reverse, marked `undo`. Walking back, a marked commit and the one it took back cancel out.

use std::collections::BTreeMap;

use arcstr::ArcStr;

use crate::commit::{Draft, Drafts, Guard, Intent};
use crate::document::{Document, Json, Stored};
use crate::engine::Engine;
use crate::format::op_line::{self, BatchMark, OpLine};
use crate::history::kept_logs;
use crate::op::previous_document;
use crate::open::missing_file_is_damage;
use crate::oplog::Backward;
use crate::options::UndoMode;
use crate::sync::atomic::Ordering;
use crate::{Error, ErrorKind, Result};

/// What an undo has come to for one id.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// store.set("a", &serde_json::json!({"n": 2}))?;
/// let undone = store.undo_commit()?.expect("there was a commit");
/// assert_eq!(undone[0].id, "a");
/// assert_eq!(undone[0].document.as_ref().expect("it was there before").as_str(), r#"{"n":1}"#);
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undone {
    /// The id.
    pub id: String,
    /// The document that it has again; `None` where there was none.
    pub document: Option<Json>,
}

/// What a commit says of a document before it.
enum Previous<T> {
    Known(Option<Stored<T>>),
    /// It was written blindly.
    Unknown,
}

/// One commit as it lies in a log.
pub(crate) struct Commit {
    /// Where its first line begins, when it is in the active log.
    offset: u64,
    /// Its lines, newest first.
    pub(crate) lines: Vec<Vec<u8>>,
    in_active_log: bool,
    /// The number of its first operation.
    seq: u64,
}

impl<T: Document> Engine<T> {
    /// Takes back the last commit that was not taken back yet, and gives it; `None` when there is none.
    pub(crate) fn undo(&self) -> Result<Option<Commit>> {
        if self.agent.is_some() {
            return self.undo_as_agent();
        }
        let mut writer = self.quiesce(self.writer()?)?;
        let Some((commit, is_last)) = self.commit_to_undo(&writer)? else {
            return Ok(None);
        };
        let sealed = writer.sealing.is_some_and(|seq| commit.seq < seq);
        let cut_off = is_last
            && commit.in_active_log
            && !sealed
            && self.options.undo_mode == UndoMode::Truncate;
        if cut_off {
            self.cut_off(&mut writer, &commit)?;
        } else {
            let drafts = self.reverse(&writer, &commit)?;
            // As durable as a cut, in every write mode, and not done where the storage refuses it.
            self.commit_now(writer, drafts, &Intent::Undo)?;
        }
        Ok(Some(commit))
    }

    /// As [`undo`](Self::undo), and gives what the ids have again that the commit had changed.
    pub(crate) fn undo_commit(&self) -> Result<Option<Vec<Undone>>> {
        let Some(commit) = self.undo()? else {
            return Ok(None);
        };
        let undone = commit.before()?.into_iter().map(|(id, before)| {
            let document = match (self.stored(&id), before) {
                (Ok(document), _) => document,
                // It is done, and what cannot be read now the commit has said.
                (Err(_), Previous::Known(before)) => before,
                (Err(error), Previous::Unknown) => return Err(error),
            };
            let document = document.map(|document| document.json());
            Ok(Undone { id, document })
        });
        undone.collect::<Result<_>>().map(Some)
    }

    /// The commit that is next to be taken back, and whether it is the very last one of the store.
    pub(crate) fn commit_to_undo(&self, writer: &Guard<'_, T>) -> Result<Option<(Commit, bool)>> {
        let manifest = self.manifest();
        let floor = match self.agent.as_deref() {
            Some(agent) => manifest
                .agents()
                .find(|facts| facts.id == agent)
                .map_or(0, |facts| facts.undo_floor),
            None => manifest.ours.as_ref().map_or(0, |ours| ours.undo_floor),
        };
        let mut next_seq = writer.next_seq;
        let mut taken_back = 0_u64;
        let mut is_last = true;
        let mut parts = kept_logs(&manifest);
        parts.retain(|part| part.agent == self.agent);
        for part in parts.iter().rev() {
            let in_active_log = part.sealed.is_none();
            let end = part.sealed.map_or(writer.end, |(_, size)| size);
            let object = part.open(&*self.backend).map_err(missing_file_is_damage)?;
            let mut lines = Backward::new(&*object, end);
            while next_seq > floor
                && let Some(mut commit) = last_commit(&mut lines, &part.name)?
            {
                next_seq = next_seq.saturating_sub(commit.lines.len() as u64);
                commit.seq = next_seq;
                commit.in_active_log = in_active_log;
                if commit.is_undo() {
                    taken_back += 1;
                } else if taken_back > 0 {
                    taken_back -= 1;
                } else {
                    let in_bounds = next_seq >= floor;
                    return Ok(in_bounds.then_some((commit, is_last)));
                }
                is_last = false;
            }
        }
        Ok(None)
    }

    /// Cuts the last commit off the log and out of the state.
    fn cut_off(&self, writer: &mut Guard<'_, T>, commit: &Commit) -> Result<()> {
        let mut previous = Vec::new();
        for raw in &commit.lines {
            let op = op_line::decode(raw).map_err(|flaw| unreadable(&flaw.to_string()))?;
            let before =
                previous_document(&op).map_err(|()| unreadable("its patch does not apply"))?;
            let certain = !op.blind || self.options.skip_load;
            previous.push((op.kind, op.id.into_owned(), before, certain));
        }
        if previous.iter().any(|(.., certain)| !certain) {
            // What cannot be loaded now could not be afterwards.
            drop(self.load_state()?);
        }
        let Some(log) = writer.log.as_mut() else {
            return Err(Error::new(
                ErrorKind::Closed,
                "store is closed; open it again",
            ));
        };
        if let Err(error) = log.truncate(commit.offset) {
            return Err(writer.poison(&error));
        }
        let ops = commit.lines.len() as u64;
        writer.end = commit.offset;
        writer.next_seq = commit.seq;
        writer.skip_millisecond();
        self.settled_seq.store(commit.seq, Ordering::Release);
        writer.ops_since_checkpoint = writer.ops_since_checkpoint.saturating_sub(ops);
        let restored = {
            let mut state = self.state_mut();
            previous.into_iter().all(|(kind, id, before, certain)| {
                certain && state.take_back(kind, &id, before).is_ok()
            })
        };
        if !restored && !self.options.skip_load {
            // A log of the reference, or one written blindly, does not always say what was before.
            let why = "the last commit was taken back, but what is left could not be read";
            self.reload_state(writer)
                .map_err(|error| writer.poison_since(why, &error))?;
        }
        Ok(())
    }

    /// The operations that take `commit` back.
    fn reverse(&self, writer: &Guard<'_, T>, commit: &Commit) -> Result<Drafts<T>> {
        let mut drafts = Drafts::new();
        for raw in &commit.lines {
            let op = op_line::decode(raw).map_err(|flaw| unreadable(&flaw.to_string()))?;
            refuse_blind(&op)?;
            let before: Option<Stored<T>> =
                previous_document(&op).map_err(|()| unreadable("its patch does not apply"))?;
            match before {
                Some(document) => drafts.push(Draft::Set(document)),
                None => drafts.push(Draft::Delete(ArcStr::from(op.id).into())),
            }
        }
        // A document that the commit created may have gone to an archive or been lost with damage; there is nothing to delete then.
        let mut present = Drafts::new();
        for draft in drafts {
            let known = match &draft {
                Draft::Set(_) => true,
                Draft::Delete(id) => {
                    self.newest(writer, id)?.is_some()
                        || present.iter().any(|other: &Draft<T>| other.id() == &**id)
                }
            };
            if known {
                present.push(draft);
            }
        }
        if present.is_empty() {
            return Err(Error::new(
                ErrorKind::Conflict,
                "the documents of the last commit are gone; there is nothing to take back",
            ));
        }
        Ok(present)
    }
}

impl Commit {
    /// The ids it changed, each once, and what it says of the document before.
    fn before<T>(&self) -> Result<BTreeMap<String, Previous<T>>> {
        let mut all = BTreeMap::new();
        for line in self.lines.iter().rev() {
            let op = op_line::decode(line).map_err(|flaw| unreadable(&flaw.to_string()))?;
            if all.contains_key(&*op.id) {
                continue;
            }
            let before =
                previous_document(&op).map_err(|()| unreadable("its patch does not apply"))?;
            let before = if op.blind {
                Previous::Unknown
            } else {
                Previous::Known(before)
            };
            all.insert(op.id.into_owned(), before);
        }
        Ok(all)
    }

    fn is_undo(&self) -> bool {
        let first = self.lines.first().map(|line| op_line::decode(line));
        matches!(first, Some(Ok(op)) if op.undo)
    }
}

/// The commit before the ones that `lines` has handed out; `None` at the start of the log.
///
/// # Errors
///
/// `Corrupt` where the log is damaged: what lies before that cannot be taken back without knowing what was there.
fn last_commit(lines: &mut Backward<'_>, log: &str) -> Result<Option<Commit>> {
    let mut commit = Vec::new();
    let mut due: Option<BatchMark> = None;
    loop {
        let Some((start, line)) = lines.next()? else {
            if commit.is_empty() {
                return Ok(None);
            }
            return Err(unreadable("its first lines are missing").at_path(log));
        };
        let damaged = |reason: &str| unreadable(reason).at_path(log).at_offset(start);
        let op = op_line::decode(&line).map_err(|flaw| damaged(&flaw.to_string()))?;
        let mark = op.batch.unwrap_or(BatchMark { index: 0, count: 1 });
        let expected = due.unwrap_or(BatchMark {
            index: mark.count - 1,
            count: mark.count,
        });
        if mark != expected {
            return Err(damaged("some of its lines are missing"));
        }
        commit.push(line);
        if mark.index == 0 {
            return Ok(Some(Commit {
                offset: start,
                lines: commit,
                in_active_log: false,
                seq: 0,
            }));
        }
        due = Some(BatchMark {
            index: mark.index - 1,
            count: mark.count,
        });
    }
}

/// What was written blindly says nothing of what was before.
pub(crate) fn refuse_blind(op: &OpLine<'_>) -> Result<()> {
    if !op.blind {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "the last change of '{}' was made in skip_load mode, or when what was before could not be read; set the document instead",
            op.id
        ),
    ))
}

pub(crate) fn unreadable(reason: &str) -> Error {
    Error::corrupt(format!(
        "the last commit cannot be read, so it is not taken back: {reason}"
    ))
}
