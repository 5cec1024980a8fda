//! Applying a log to the state of its snapshot.
//!
//! Of a large log all writes but the last are read, checked and cut up by several threads, as long as line follows line: only the last write can be torn,
//! so nothing in them has to be judged, and a write holds whole commits. What is left, and whatever is not as it should be, is read by `oplog::read`, one line after the other.

use crate::Result;
use crate::backend::{Backend, Object};
use crate::document::Stored;
use crate::follow::Position;
use crate::format::manifest::Manifest;
use crate::format::op_line::{self, OpKind, Prev};
use crate::oplog::{self, LogLine, Outcome, Start};
use crate::options::Options;
use crate::pieces::{ALONE_BELOW, Pieces};
use crate::state::{GROUP, IdHasher, Lookup, State};

/// Whether a line of the log, which says what the document was before, is believed that there was one, where looking would need a read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    Previous,
    Nothing,
}

/// Applies the active log to the snapshot's `state`.
pub(crate) fn replay_log<T: Send + Sync>(
    options: &Options,
    backend: &dyn Backend,
    manifest: &Manifest,
    state: &mut State<T>,
    trust: Trust,
) -> Result<(Outcome, Position)> {
    let first_seq = manifest.ours.as_ref().map_or(0, |ours| ours.log_seq);
    let log = backend.open(&manifest.active_ops)?;
    let mut applied = Applied::none(first_seq);
    if !options.skip_load && state.base().is_none() && log.size()? >= ALONE_BELOW {
        applied = apply_writes(&Pieces::new(&*log)?, state, first_seq)?;
    }
    let apply = &mut |line: &LogLine<'_>| {
        let op = &line.op;
        if options.skip_load {
            return Ok(());
        }
        // The reference does not number its lines: it may have read the log otherwise than it is read here.
        let believed = trust == Trust::Previous && op.seq.is_some() && !op.blind;
        if believed && matches!(state.lookup(&op.id), Lookup::InBase(_)) {
            replay_known(state, op.kind, &op.id, op.data, op.prev != Prev::None);
            return Ok(());
        }
        replay(state, op.kind, &op.id, op.data)
    };
    read_rest(&*log, &manifest.active_ops, &applied, apply)
}

/// Hands the lines of the log that were not `applied` to `sink`.
fn read_rest(
    log: &dyn Object,
    name: &str,
    applied: &Applied,
    sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
) -> Result<(Outcome, Position)> {
    // The last write that was applied is read once more, for the position.
    let last = applied.last;
    let mut position = Position::at(name, last.offset, last.seq, last.clock);
    let start = Start {
        position: last.offset,
        seq: Some(last.seq),
    };
    let mut outcome = oplog::read(log, start, &mut |line| {
        position.pass(line);
        if line.offset < applied.end {
            return Ok(());
        }
        sink(line)
    })?;
    outcome.count += last.seq - applied.first_seq;
    Ok((outcome, position))
}

/// Applies one operation of the log.
pub(crate) fn replay<T>(
    state: &mut State<T>,
    kind: OpKind,
    id: &str,
    data: Option<&str>,
) -> Result<()> {
    let known = match state.lookup(id) {
        Lookup::Here(_) => true,
        Lookup::Absent => false,
        Lookup::InBase(base) => base.contains(id)?,
    };
    replay_known(state, kind, id, data, known);
    Ok(())
}

/// As [`replay`], where it is known whether the id has a document.
fn replay_known<T>(state: &mut State<T>, kind: OpKind, id: &str, data: Option<&str>, known: bool) {
    match (kind, data) {
        (OpKind::Set, Some(data)) => state.put(Stored::new(id, data), known),
        _ if known => state.remove(id),
        _ => {}
    }
}

/// How far a log was applied: whole writes from its beginning on.
#[derive(Clone, Copy)]
struct Applied {
    first_seq: u64,
    /// Where the last of them begins.
    last: WriteStart,
    /// Behind the last of them.
    end: u64,
}

impl Applied {
    fn none(first_seq: u64) -> Self {
        Self {
            first_seq,
            last: WriteStart {
                offset: 0,
                seq: first_seq,
                clock: 0,
            },
            end: 0,
        }
    }
}

#[derive(Clone, Copy)]
struct WriteStart {
    offset: u64,
    seq: u64,
    /// The greatest clock before it.
    clock: u64,
}

/// A good line, cut up.
struct Entry<T> {
    offset: u64,
    end: u64,
    seq: Option<u64>,
    at: Option<u64>,
    clock: u64,
    change: Change<T>,
}

enum Change<T> {
    /// With the hash of its id.
    Set(u32, Stored<T>),
    Delete(Box<str>),
}

impl<T> Change<T> {
    fn hash(&self) -> Option<u32> {
        match self {
            Self::Set(hash, _) => Some(*hash),
            Self::Delete(_) => None,
        }
    }
}

/// Applies the writes before the last one, up to the first line that is not as it should be, to a `state` without a base. The threads that read do most of the
/// work (1,000,000 operations: 1.2 s of CPU time), and share it.
fn apply_writes<T: Send + Sync>(
    pieces: &Pieces<'_>,
    state: &mut State<T>,
    first_seq: u64,
) -> Result<Applied> {
    let hasher = state.hasher().clone();
    let mut writes = Writes::new(state, first_seq);
    pieces.each(
        |number, buffer| {
            let piece = pieces.read(number, buffer)?;
            let offset = piece.base + piece.lines.start as u64;
            Ok(cut_up(
                buffer.get(piece.lines).unwrap_or_default(),
                offset,
                &hasher,
            ))
        },
        |entries: Vec<Option<Entry<T>>>| {
            let mut entries = entries.into_iter();
            while let group = entries.as_slice()
                && !group.is_empty()
            {
                let group = group.iter().take(GROUP).flatten();
                writes
                    .state
                    .fetch(group.filter_map(|entry| entry.change.hash()));
                let mut group = entries.by_ref().take(GROUP);
                if !group.all(|entry| entry.is_some_and(|entry| writes.add(entry))) {
                    return Ok(false);
                }
            }
            Ok(true)
        },
    )?;
    Ok(writes.applied)
}

/// The lines of `bytes`, which are at `offset` of the log, up to and with the first bad one.
fn cut_up<T>(bytes: &[u8], offset: u64, hasher: &IdHasher) -> Vec<Option<Entry<T>>> {
    let mut entries = Vec::with_capacity(bytes.len() / 400);
    let mut start = 0;
    for newline in memchr::memchr_iter(b'\n', bytes) {
        let line = bytes.get(start..newline).unwrap_or_default();
        let line_offset = offset + start as u64;
        start = newline + 1;
        if line.is_empty() {
            continue;
        }
        let entry = op_line::decode(line).ok().map(|op| Entry {
            offset: line_offset,
            end: offset + start as u64,
            seq: op.seq,
            at: op.at,
            clock: op.clock.unwrap_or(0),
            change: match op.data {
                Some(data) => {
                    let document = Stored::new(&op.id, data);
                    Change::Set(hasher.hash(document.id()), document)
                }
                None => Change::Delete(op.id.as_ref().into()),
            },
        });
        let bad = entry.is_none();
        entries.push(entry);
        if bad {
            break;
        }
    }
    entries
}

/// Applies a write when the next one begins.
struct Writes<'s, T> {
    state: &'s mut State<T>,
    applied: Applied,
    /// The write that is being read: where it began, the `at` of its lines, and what it changes.
    start: WriteStart,
    at: Option<u64>,
    changes: Vec<Change<T>>,
    /// Behind the last line read.
    end: u64,
    next_seq: u64,
    clock: u64,
}

impl<'s, T> Writes<'s, T> {
    fn new(state: &'s mut State<T>, first_seq: u64) -> Self {
        let applied = Applied::none(first_seq);
        Self {
            state,
            applied,
            start: applied.last,
            at: None,
            changes: Vec::new(),
            end: 0,
            next_seq: first_seq,
            clock: 0,
        }
    }

    /// Whether the line is the one that was due, directly behind the last one (a live writer may have written the place anew between two pieces); if not,
    /// nothing behind it may come either.
    fn add(&mut self, entry: Entry<T>) -> bool {
        let follows = entry.offset == self.end && entry.seq.is_none_or(|seq| seq == self.next_seq);
        let begins_write = entry.at.is_none() || entry.at != self.at;
        if !follows {
            return false;
        }
        if begins_write && !self.changes.is_empty() {
            self.apply();
        }
        if begins_write {
            self.start = WriteStart {
                offset: entry.offset,
                seq: self.next_seq,
                clock: self.clock,
            };
            self.at = entry.at;
        }
        self.changes.push(entry.change);
        self.end = entry.end;
        self.next_seq += 1;
        self.clock = self.clock.max(entry.clock);
        true
    }

    fn apply(&mut self) {
        for change in self.changes.drain(..) {
            match change {
                Change::Set(hash, document) => self.state.put_new(hash, document),
                Change::Delete(id) => self.state.remove(&id),
            }
        }
        self.applied.last = self.start;
        self.applied.end = self.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;
    use crate::format::op_line::{BatchMark, OpLine};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Ids of the documents that are set (even) or deleted (odd): writes of commits of operations.
    type Log = Vec<Vec<Vec<u8>>>;

    #[derive(Debug, Clone)]
    enum Harm {
        None,
        Flip(usize),
        Cut(usize),
        Blank(usize),
        Remove(usize),
    }

    fn harm() -> impl Strategy<Value = Harm> {
        let place = 0..10_000_usize;
        prop_oneof![
            Just(Harm::None),
            place.clone().prop_map(Harm::Flip),
            place.clone().prop_map(Harm::Cut),
            place.clone().prop_map(Harm::Blank),
            place.prop_map(Harm::Remove),
        ]
    }

    fn lines(log: &Log, ours: bool) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let (mut seq, mut end) = (7, 0);
        for write in log {
            let at = end;
            for commit in write {
                let count = u32::try_from(commit.len()).unwrap();
                for (index, number) in (0..).zip(commit) {
                    let id = format!("id-{}", number / 2);
                    let data = format!(r#"{{"seq":{seq}}}"#);
                    let kind = [OpKind::Set, OpKind::Delete][usize::from(number % 2)];
                    let op = OpLine {
                        ts: "2026-01-02T03:04:05.678Z",
                        kind,
                        id: id.into(),
                        prev: Prev::None,
                        data: (kind == OpKind::Set).then_some(&data),
                        agent: None,
                        clock: (seq % 3 == 0).then_some(seq * 7 % 11),
                        blind: false,
                        undo: false,
                        batch: (count > 1 && ours).then_some(BatchMark { index, count }),
                        origin: op_line::Origin::default(),
                        seq: None,
                        at: None,
                    };
                    let mut line = Vec::new();
                    op_line::encode_body(&mut line, &op);
                    if ours {
                        op_line::encode_trailer(&mut line, 0, seq, at);
                    } else {
                        line.extend_from_slice(b"}\n");
                    }
                    seq += 1;
                    end += line.len() as u64;
                    lines.push(line);
                }
            }
        }
        lines
    }

    fn harmed(mut lines: Vec<Vec<u8>>, harm: &Harm) -> Vec<u8> {
        let number = lines.len().max(1);
        match *harm {
            Harm::Remove(place) if !lines.is_empty() => drop(lines.remove(place % number)),
            Harm::Blank(place) => lines.insert(place % number, b"\n\n\n".to_vec()),
            _ => {}
        }
        let mut bytes = lines.concat();
        let length = bytes.len().max(1);
        match *harm {
            Harm::Flip(place) => {
                if let Some(byte) = bytes.get_mut(place % length) {
                    *byte ^= 1;
                }
            }
            Harm::Cut(place) => bytes.truncate(place % length),
            _ => {}
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Sound or harmed, cut into pieces of any size: documents, their order, the damage and the position are those of reading it line by line.
        #[test]
        fn writes_applied_from_pieces_are_those_read_line_by_line(
            log in vec(vec(vec(0..12_u8, 1..4), 1..4), 0..8),
            harm in harm(),
            ours in any::<bool>(),
            piece_bytes in prop_oneof![1..400_u64, Just(1 << 20)],
        ) {
            let backend = MemoryBackend::new();
            backend.put("log", &harmed(lines(&log, ours), &harm)).unwrap();
            let object = backend.open("log").unwrap();
            let found = |pieces: Option<Pieces<'_>>| {
                let mut state: State<()> = State::default();
                let applied = match pieces {
                    Some(pieces) => apply_writes(&pieces, &mut state, 7).unwrap(),
                    None => Applied::none(7),
                };
                let rest = read_rest(&*object, "log", &applied, &mut |line| {
                    replay(&mut state, line.op.kind, &line.op.id, line.op.data)
                });
                let documents: Vec<String> = state
                    .freeze()
                    .iter()
                    .map(|document| document.unwrap().data().to_owned())
                    .collect();
                (applied.end, format!("{:?} {documents:?}", rest.unwrap()))
            };
            let (end, in_pieces) = found(Some(Pieces::of_size(&*object, piece_bytes).unwrap()));
            prop_assert_eq!(in_pieces, found(None).1);
            // All writes but the last one are applied so.
            if matches!(harm, Harm::None) && ours && log.len() > 1 {
                let last = lines(&log[..1].to_vec(), true).concat().len() as u64;
                prop_assert!(end >= last);
            }
        }
    }
}
