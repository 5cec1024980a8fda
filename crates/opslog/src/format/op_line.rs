//! One line of an op log (`docs/format.md` §2).
//!
//! A line with a checksum was written by opslog, and is cut up in one pass, which checks that its documents are JSON: a checksum says that a line is as it was
//! written, not who wrote it. Any other line is the reference's. The log's writer encodes; readers and recovery decode.

use std::borrow::Cow;

use super::json;
use crate::merge::{Mark, Order, Stamp, StampText};
use crate::time::parse_timestamp;

mod any_layout;

use any_layout::decode_any;

/// The longest id, in bytes.
pub(crate) const ID_BYTES_MAX: usize = 65_536;

/// `,"crc":"xxxxxxxx"}`
const CHECKSUM_BYTES: usize = 18;
const CHECKSUM_KEY: &[u8] = b",\"crc\":\"";

/// What an operation does to its document.
///
/// ```
/// assert_ne!(opslog::OpKind::Set, opslog::OpKind::Delete);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// The document is created or replaced.
    Set,
    /// The document is removed.
    Delete,
}

/// What the document was before the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prev<'a> {
    /// There was none (or, in a blind line, nobody knew).
    None,
    /// The whole document, as JSON text.
    Full(&'a str),
    /// The reverse patch, as JSON text.
    Delta(&'a str),
}

/// The place of a line in its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchMark {
    /// From 0, always below `count`.
    pub(crate) index: u32,
    /// How many lines the commit has.
    pub(crate) count: u32,
}

/// What an agent's line says beyond its stamp; empty in the lines of a single writer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin<'a> {
    /// The stamp that counts, where it is not that of the clock: the least one, where the operation is to change nothing.
    pub(crate) takes: Option<StampText<'a>>,
    /// When the document was created; nothing where this operation creates it.
    pub(crate) born: Option<StampText<'a>>,
    /// What the register's stamp was before, as the agent saw it; nothing where there was no register.
    pub(crate) over: Option<StampText<'a>>,
}

/// One operation, with its JSON parts as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpLine<'a> {
    pub(crate) ts: &'a str,
    pub(crate) kind: OpKind,
    pub(crate) id: Cow<'a, str>,
    pub(crate) prev: Prev<'a>,
    /// The document: present exactly when `kind` is [`OpKind::Set`].
    pub(crate) data: Option<&'a str>,
    pub(crate) agent: Option<Cow<'a, str>>,
    pub(crate) clock: Option<u64>,
    pub(crate) blind: bool,
    pub(crate) undo: bool,
    pub(crate) batch: Option<BatchMark>,
    pub(crate) origin: Origin<'a>,
    pub(crate) seq: Option<u64>,
    pub(crate) at: Option<u64>,
}

/// Why a line is not an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is not UTF-8.
    NotUtf8,
    /// Its bytes are not those that were written.
    Checksum { stored: u32, computed: u32 },
    /// It is not a valid operation, for this reason.
    Malformed(String),
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("the line is not UTF-8"),
            Self::Checksum { stored, computed } => write!(
                f,
                "the line's checksum is {computed:08x}, but {stored:08x} was written"
            ),
            Self::Malformed(reason) => f.write_str(reason),
        }
    }
}

/// Appends the part of the line that stays the same when it is copied to another log: all keys before `seq`.
pub(crate) fn encode_body(out: &mut Vec<u8>, line: &OpLine<'_>) {
    out.extend_from_slice(b"{\"ts\":");
    json::write_string(out, line.ts);
    out.extend_from_slice(match line.kind {
        OpKind::Set => b",\"op\":\"set\",\"id\":",
        OpKind::Delete => b",\"op\":\"delete\",\"id\":",
    });
    json::write_string(out, &line.id);
    out.extend_from_slice(b",\"prev\":");
    out.extend_from_slice(match line.prev {
        Prev::None => b"null",
        Prev::Full(text) | Prev::Delta(text) => text.as_bytes(),
    });
    if let Some(data) = line.data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_bytes());
    }
    if let Some(agent) = &line.agent {
        out.extend_from_slice(b",\"agent\":");
        json::write_string(out, agent);
    }
    if let Some(clock) = line.clock {
        out.extend_from_slice(b",\"clock\":");
        json::write_number(out, clock);
    }
    if let Prev::Delta(_) = line.prev {
        out.extend_from_slice(b",\"encoding\":\"delta\"");
    }
    if line.blind {
        out.extend_from_slice(b",\"blind\":true");
    }
    if line.undo {
        out.extend_from_slice(b",\"undo\":true");
    }
    if let Some(batch) = line.batch {
        out.extend_from_slice(b",\"batch\":[");
        json::write_number(out, batch.index.into());
        out.push(b',');
        json::write_number(out, batch.count.into());
        out.push(b']');
    }
    let Origin { takes, born, over } = &line.origin;
    for (key, stamp) in [
        (",\"takes\":", takes),
        (",\"born\":", born),
        (",\"over\":", over),
    ] {
        if let Some(stamp) = stamp {
            out.extend_from_slice(key.as_bytes());
            encode_stamp(out, stamp);
        }
    }
}

/// Appends `[clock,"agent"]`, or `[clock,"agent",mark]`.
pub(crate) fn encode_stamp(out: &mut Vec<u8>, stamp: &StampText<'_>) {
    out.push(b'[');
    json::write_number(out, stamp.clock);
    out.push(b',');
    json::write_string(out, &stamp.agent);
    if stamp.mark != Mark::WRITTEN {
        out.push(b',');
        json::write_number(out, stamp.mark.0.into());
    }
    out.push(b']');
}

/// Reads what [`encode_stamp`] writes.
pub(crate) fn decode_stamp(text: &str) -> Option<StampText<'_>> {
    let mut rest = Rest { text, position: 0 };
    let stamp = rest.stamp()?;
    (rest.position == text.len()).then_some(stamp)
}

impl OpLine<'_> {
    /// What the operation writes to the register of its id; `None` where it has no stamp.
    pub(crate) fn order(&self) -> Option<Order> {
        let (clock, agent) = (self.clock?, self.agent.as_deref()?);
        let stamp = match &self.origin.takes {
            Some(stamp) => stamp.to_stamp(),
            None => Stamp::new(clock, &agent.into()),
        };
        let born = match &self.origin.born {
            Some(born) => born.to_stamp(),
            None => stamp.clone(),
        };
        Some(Order { stamp, born })
    }
}

/// Appends the rest of the line whose body begins at `body_start`: `seq`, `at`, the checksum and the newline.
pub(crate) fn encode_trailer(out: &mut Vec<u8>, body_start: usize, seq: u64, at: u64) {
    out.extend_from_slice(b",\"seq\":");
    json::write_number(out, seq);
    out.extend_from_slice(b",\"at\":");
    json::write_number(out, at);
    let checksum = crc32c::crc32c(out.get(body_start..).unwrap_or_default());
    out.extend_from_slice(CHECKSUM_KEY);
    super::write_checksum(out, checksum);
    out.extend_from_slice(b"\"}\n");
}

/// The line's bytes before `,"seq":` if it has a checksum, otherwise before its closing brace: the same in every log it is copied to.
pub(crate) fn body(line: &[u8]) -> &[u8] {
    split_checksum(line)
        .and_then(|(checked, _)| strip_number(checked, b",\"at\":"))
        .and_then(|rest| strip_number(rest, b",\"seq\":"))
        .unwrap_or_else(|| {
            let line = line.trim_ascii();
            line.strip_suffix(b"}").unwrap_or(line).trim_ascii_end()
        })
}

/// The checksum of the line's [`body`].
pub(crate) fn body_check(line: &[u8]) -> u32 {
    crc32c::crc32c(body(line))
}

/// The operation in `line`, which comes without its newline.
pub(crate) fn decode(line: &[u8]) -> Result<OpLine<'_>, Flaw> {
    let Some((checked, digits)) = split_checksum(line) else {
        let text = std::str::from_utf8(line).map_err(|_| Flaw::NotUtf8)?;
        return decode_any(text, false);
    };
    let stored = super::read_checksum(digits)
        .ok_or_else(|| malformed("crc must be eight lowercase hexadecimal digits"))?;
    let computed = crc32c::crc32c(checked);
    if stored != computed {
        return Err(Flaw::Checksum { stored, computed });
    }
    let text = std::str::from_utf8(checked).map_err(|_| Flaw::NotUtf8)?;
    if let Some(operation) = decode_canonical(text) {
        return Ok(operation);
    }
    decode_any(std::str::from_utf8(line).map_err(|_| Flaw::NotUtf8)?, true)
}

/// Whether the line is as it was written: it has a checksum, which holds. A line that is, and is no operation, is not torn.
pub(crate) fn is_whole(line: &[u8]) -> bool {
    split_checksum(line).is_some_and(|(checked, digits)| {
        super::read_checksum(digits) == Some(crc32c::crc32c(checked))
    })
}

/// The checked bytes and the digits of the checksum.
fn split_checksum(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (checked, trailer) = line.split_at_checked(line.len().checked_sub(CHECKSUM_BYTES)?)?;
    let digits = trailer.strip_prefix(CHECKSUM_KEY)?.strip_suffix(b"\"}")?;
    Some((checked, digits))
}

/// What stands before `key` and the number at the end.
fn strip_number<'a>(bytes: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let digits = bytes
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if digits == 0 {
        return None;
    }
    bytes.get(..bytes.len() - digits)?.strip_suffix(key)
}

/// Cuts up a line whose checksum holds (given without it) and that has exactly our keys in exactly our order.
fn decode_canonical(text: &str) -> Option<OpLine<'_>> {
    let mut rest = Rest { text, position: 0 };
    rest.skip("{\"ts\":")?;
    let ts = match rest.string()? {
        Cow::Borrowed(ts) => ts,
        Cow::Owned(_) => return None,
    };
    parse_timestamp(ts)?;
    rest.skip(",\"op\":\"")?;
    let kind = if rest.skip("set\"").is_some() {
        OpKind::Set
    } else {
        rest.skip("delete\"")?;
        OpKind::Delete
    };
    rest.skip(",\"id\":")?;
    let id = rest.string()?;
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return None;
    }
    rest.skip(",\"prev\":")?;
    let prev = match rest.skip("null") {
        Some(()) => None,
        None => Some(rest.object()?),
    };
    let data = match kind {
        OpKind::Set => {
            rest.skip(",\"data\":")?;
            Some(rest.object()?)
        }
        OpKind::Delete => None,
    };
    let agent = match rest.skip(",\"agent\":") {
        Some(()) => Some(rest.string()?),
        None => None,
    };
    let clock = rest.number_after(",\"clock\":").ok()?;
    let delta = rest.skip(",\"encoding\":\"delta\"").is_some();
    let blind = rest.skip(",\"blind\":true").is_some();
    let undo = rest.skip(",\"undo\":true").is_some();
    let batch = rest.batch().ok()?;
    let origin = Origin {
        takes: rest.stamp_after(",\"takes\":").ok()?,
        born: rest.stamp_after(",\"born\":").ok()?,
        over: rest.stamp_after(",\"over\":").ok()?,
    };
    let seq = rest.number_after(",\"seq\":").ok()?;
    let at = rest.number_after(",\"at\":").ok()?;
    (rest.position == text.len()).then_some(OpLine {
        ts,
        kind,
        id,
        prev: prev_of(prev, delta),
        data,
        agent,
        clock,
        blind,
        undo,
        batch,
        origin,
        seq,
        at,
    })
}

/// The part of a line that is still to be read.
struct Rest<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Rest<'a> {
    fn skip(&mut self, expected: &str) -> Option<()> {
        let rest = self.text.as_bytes().get(self.position..)?;
        rest.starts_with(expected.as_bytes())
            .then(|| self.position += expected.len())
    }

    fn value(&mut self) -> Option<&'a str> {
        let end = json::skip_value(self.text.as_bytes(), self.position)?;
        let value = self.text.get(self.position..end)?;
        self.position = end;
        Some(value)
    }

    fn object(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.position..)?;
        let object = rest.get(..json::object_end(rest)?)?;
        self.position += object.len();
        Some(object)
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        let raw = self.value()?;
        // JSON has these only as escapes.
        if raw
            .bytes()
            .any(|byte| byte.is_ascii_control() && byte != 0x7f)
        {
            return None;
        }
        json::unescape(raw)
    }

    fn number(&mut self) -> Option<u64> {
        let value = self.value()?;
        value
            .starts_with(|c: char| c.is_ascii_digit())
            .then_some(())?;
        value.parse().ok()
    }

    /// `None` where the key is not there.
    fn number_after(&mut self, key: &str) -> Result<Option<u64>, NotCanonical> {
        match self.skip(key) {
            Some(()) => self.number().map(Some).ok_or(NotCanonical),
            None => Ok(None),
        }
    }

    /// `None` where the key is not there.
    fn batch(&mut self) -> Result<Option<BatchMark>, NotCanonical> {
        match self.skip(",\"batch\":[") {
            Some(()) => self.batch_mark().map(Some).ok_or(NotCanonical),
            None => Ok(None),
        }
    }

    /// `None` where the key is not there.
    fn stamp_after(&mut self, key: &str) -> Result<Option<StampText<'a>>, NotCanonical> {
        match self.skip(key) {
            Some(()) => self.stamp().map(Some).ok_or(NotCanonical),
            None => Ok(None),
        }
    }

    fn stamp(&mut self) -> Option<StampText<'a>> {
        self.skip("[")?;
        let clock = self.number()?;
        self.skip(",")?;
        let agent = self.string()?;
        let mark = match self.skip(",") {
            Some(()) => Mark(self.number()?.try_into().ok()?),
            None => Mark::WRITTEN,
        };
        self.skip("]")?;
        Some(StampText { clock, agent, mark })
    }

    fn batch_mark(&mut self) -> Option<BatchMark> {
        let index = self.number()?.try_into().ok()?;
        self.skip(",")?;
        let count = self.number()?.try_into().ok()?;
        self.skip("]")?;
        (index < count).then_some(BatchMark { index, count })
    }
}

/// A key is there, but its value is not as opslog writes it.
struct NotCanonical;

fn prev_of(prev: Option<&str>, delta: bool) -> Prev<'_> {
    match prev {
        None => Prev::None,
        Some(patch) if delta => Prev::Delta(patch),
        Some(document) => Prev::Full(document),
    }
}

fn malformed(reason: impl Into<String>) -> Flaw {
    Flaw::Malformed(reason.into())
}

#[cfg(test)]
mod tests;
