//! One operation as `history` and `ops` show it, and cursors into the sequence of operations.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use smallvec::{SmallVec, smallvec};

use crate::document::{Json, Stored};
use crate::format::op_line::{self, BatchMark, OpKind, OpLine, Origin, Prev};
use crate::merge::{Agent, Order, Stamp};
use crate::oplog::LogLine;
use crate::{Error, Result, delta, time};

/// One set or delete, as the log has it.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// let operation = &store.history("a")?[0];
/// assert_eq!((operation.kind, operation.prev.is_none()), (opslog::OpKind::Set, true));
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// When it was accepted, UTC, to the millisecond.
    pub ts: Timestamp,
    /// Set or delete.
    pub kind: OpKind,
    /// The document's id.
    pub id: String,
    /// The document from then on; `None` for a delete.
    pub data: Option<Json>,
    /// The whole document before it; `None` for a create (and where [`blind`](Self::blind) is true).
    pub prev: Option<Json>,
    /// Whether what was before is not known: it was written without loading the store, or when the document before it could not be read.
    pub blind: bool,
    /// Whether it belongs to a commit that takes back an earlier one.
    pub undo: bool,
    /// Its place in its batch and the number of operations in it; `None` for a commit of one.
    pub batch: Option<(u32, u32)>,
    /// The agent that wrote it, in a multi-writer store.
    pub agent: Option<String>,
    /// That agent's Lamport clock.
    pub clock: Option<u64>,
    /// The place just behind it, for [`Store::ops`](crate::Store::ops).
    pub cursor: Cursor,
    /// Its number among those of its log's writer.
    pub(crate) seq: u64,
    /// What it writes to its register, in a store of agents.
    pub(crate) order: Option<Order>,
}

impl Operation {
    pub(crate) fn from_line(line: &LogLine<'_>) -> Result<Self> {
        let op = &line.op;
        let unreadable = |what: &str| {
            Error::corrupt(format!(
                "the {what} of operation {} cannot be read",
                line.seq
            ))
            .at_offset(line.offset)
        };
        Ok(Self {
            ts: time::parse_timestamp(op.ts).ok_or_else(|| unreadable("time"))?,
            kind: op.kind,
            id: op.id.clone().into_owned(),
            data: op.data.map(|text| Json::from(text.to_owned())),
            prev: previous(op)
                .map_err(|()| unreadable("previous document"))?
                .map(Json::from),
            blind: op.blind,
            undo: op.undo,
            batch: op.batch.map(|BatchMark { index, count }| (index, count)),
            agent: op.agent.as_ref().map(|agent| agent.clone().into_owned()),
            clock: op.clock,
            cursor: Cursor::single(Place::of(line)),
            seq: line.seq,
            order: op.order(),
        })
    }

    /// Whether it is only a mark in the log: an agent's undo leaves a document that another agent has written since, or that was archived, as it is. Whoever follows the
    /// operations passes over it. In JSON it is a delete that `takes` the least stamp, `[0,""]`.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// assert!(!store.history("a")?[0].changes_nothing());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn changes_nothing(&self) -> bool {
        let stamp = self.order.as_ref().map(|order| &order.stamp);
        stamp.is_some_and(|stamp| *stamp == Stamp::default())
    }

    /// The operation as one line of JSON with the keys of the log: `ts`, `op`, `id`, `prev` (whole), `data`, and so on.
    ///
    /// ```
    /// use opslog::Store;
    /// let store: Store = Store::in_memory()?;
    /// store.set("a", &serde_json::json!({"n": 1}))?;
    /// let line = store.history("a")?[0].to_json();
    /// assert!(line.ends_with(r#""op":"set","id":"a","prev":null,"data":{"n":1}}"#));
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        let ts = time::format_timestamp(self.ts);
        let nothing = Stamp::default();
        let mut out = Vec::new();
        let prev = self
            .prev
            .as_ref()
            .map_or(Prev::None, |prev| Prev::Full(prev.as_str()));
        op_line::encode_body(
            &mut out,
            &OpLine {
                ts: &ts,
                kind: self.kind,
                id: self.id.as_str().into(),
                prev,
                data: self.data.as_ref().map(Json::as_str),
                agent: self.agent.as_deref().map(Into::into),
                clock: self.clock,
                blind: self.blind,
                undo: self.undo,
                batch: self.batch.map(|(index, count)| BatchMark { index, count }),
                origin: Origin {
                    takes: self.changes_nothing().then(|| nothing.text()),
                    ..Origin::default()
                },
                seq: None,
                at: None,
            },
        );
        out.push(b'}');
        String::from_utf8(out).expect("JSON made of strings is UTF-8")
    }
}

/// The whole document before `op`, from its `prev`, patch or not.
pub(crate) fn previous(op: &OpLine<'_>) -> Result<Option<String>, ()> {
    match (&op.prev, op.data) {
        (Prev::None, _) => Ok(None),
        (Prev::Full(text), _) => Ok(Some((*text).to_owned())),
        (Prev::Delta(patch), Some(data)) => delta::apply_reverse(data, patch).map(Some).ok_or(()),
        (Prev::Delta(_), None) => Err(()),
    }
}

/// As [`previous`], as a document for the state.
pub(crate) fn previous_document<T>(op: &OpLine<'_>) -> Result<Option<Stored<T>>, ()> {
    Ok(previous(op)?.map(|text| Stored::new(&op.id, &text)))
}

/// A place in the sequence of operations: just behind one of them.
///
/// It stays valid across checkpoints and reopens, and can be stored as text. When the operation is taken back by `undo`, using the
/// cursor answers `Conflict`.
///
/// ```
/// use opslog::{Cursor, Store};
/// let store: Store = Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// let seen: Cursor = store.ops(opslog::Since::Start)?[0].cursor.clone();
/// store.set("b", &serde_json::json!({"n": 2}))?;
/// let text = seen.to_string();
/// let new = store.ops(text.parse::<Cursor>()?)?;
/// assert_eq!(new.len(), 1);
/// assert_eq!(new[0].id, "b");
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The last operation before it of each writer, sorted; the single writer has no name.
    places: SmallVec<[(Option<Agent>, Place); 1]>,
}

/// One operation among those of its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    /// Checksum of the operation's line, to notice that it was replaced by another.
    pub(crate) check: u32,
}

impl Place {
    pub(crate) fn of(line: &LogLine<'_>) -> Self {
        Self {
            seq: line.seq,
            check: op_line::body_check(line.raw),
        }
    }
}

impl Cursor {
    /// Before the first operation.
    pub(crate) fn start() -> Self {
        Self {
            places: SmallVec::new(),
        }
    }

    pub(crate) fn single(place: Place) -> Self {
        Self {
            places: smallvec![(None, place)],
        }
    }

    /// Moves behind an operation of `agent`.
    pub(crate) fn pass(&mut self, agent: Option<&Agent>, place: Place) {
        if let Some((_, known)) = self
            .places
            .iter_mut()
            .find(|(known, _)| known.as_ref() == agent)
        {
            *known = place;
        } else {
            self.places.push((agent.cloned(), place));
            self.places.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
    }

    /// The last operation before it of `agent`.
    pub(crate) fn place(&self, agent: Option<&str>) -> Option<Place> {
        let mut places = self.places.iter();
        places
            .find(|(known, _)| known.as_deref() == agent)
            .map(|(_, place)| *place)
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = (Option<&str>, Place)> {
        self.places
            .iter()
            .map(|(agent, place)| (agent.as_deref(), *place))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (agent, place)) in self.places().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if let Some(agent) = agent {
                write!(f, "{agent}:")?;
            }
            write!(f, "{}-{:08x}", place.seq, place.check)?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut cursor = Self::start();
        for part in text.split(',') {
            let (agent, place) = match part.split_once(':') {
                Some((agent, place)) => (Some(Agent::from(agent)), place),
                None => (None, part),
            };
            let place = place.split_once('-').and_then(|(seq, check)| {
                Some(Place {
                    seq: seq.parse().ok()?,
                    check: (check.len() == 8)
                        .then(|| u32::from_str_radix(check, 16).ok())
                        .flatten()?,
                })
            });
            let place = place.ok_or_else(|| {
                Error::invalid(format!("'{text}' is not a cursor such as 42-0123abcd"))
            })?;
            cursor.pass(agent.as_ref(), place);
        }
        Ok(cursor)
    }
}

/// From where on operations are asked for.
///
/// ```
/// use opslog::{Since, Timestamp};
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// assert_eq!(store.ops(Since::Start)?.len(), 1);
/// assert!(store.ops(Timestamp::now())?.is_empty());
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Since {
    /// From the first one that is kept.
    Start,
    /// Those strictly after this time.
    Time(Timestamp),
    /// Those behind this place; exact even within one millisecond.
    Cursor(Cursor),
}

impl From<Timestamp> for Since {
    fn from(time: Timestamp) -> Self {
        Self::Time(time)
    }
}

impl From<&Cursor> for Since {
    fn from(cursor: &Cursor) -> Self {
        Self::Cursor(cursor.clone())
    }
}

impl From<Cursor> for Since {
    fn from(cursor: Cursor) -> Self {
        Self::Cursor(cursor)
    }
}
