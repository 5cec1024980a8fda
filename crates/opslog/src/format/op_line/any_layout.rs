//! A line in any layout: the reference's, or one of ours that another hand has written anew. It is checked in full.

use std::borrow::Cow;

use super::{
    BatchMark, Flaw, ID_BYTES_MAX, OpKind, OpLine, Origin, decode_stamp, malformed, prev_of,
};
use crate::format::json;
use crate::merge::StampText;
use crate::time::parse_timestamp;

/// The members of a line that mean something, as they are written. Of a repeated key the last one counts, as for the reference.
#[derive(Default)]
struct Fields<'a> {
    ts: Option<&'a str>,
    op: Option<&'a str>,
    id: Option<&'a str>,
    prev: Option<&'a str>,
    data: Option<&'a str>,
    agent: Option<&'a str>,
    clock: Option<&'a str>,
    encoding: Option<&'a str>,
    blind: Option<&'a str>,
    undo: Option<&'a str>,
    batch: Option<&'a str>,
    takes: Option<&'a str>,
    born: Option<&'a str>,
    over: Option<&'a str>,
    seq: Option<&'a str>,
    at: Option<&'a str>,
    crc: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut fields = Self::default();
        for (raw_key, value) in json::members(text)? {
            let field = match &*json::unescape_key(raw_key) {
                "ts" => &mut fields.ts,
                "op" => &mut fields.op,
                "id" => &mut fields.id,
                "prev" => &mut fields.prev,
                "data" => &mut fields.data,
                "agent" => &mut fields.agent,
                "clock" => &mut fields.clock,
                "encoding" => &mut fields.encoding,
                "blind" => &mut fields.blind,
                "undo" => &mut fields.undo,
                "batch" => &mut fields.batch,
                "takes" => &mut fields.takes,
                "born" => &mut fields.born,
                "over" => &mut fields.over,
                "seq" => &mut fields.seq,
                "at" => &mut fields.at,
                "crc" => &mut fields.crc,
                _ => continue,
            };
            *field = Some(value);
        }
        Some(fields)
    }

    /// Whether it has a key that only opslog writes, and never without a checksum.
    fn is_ours(&self) -> bool {
        [
            self.blind, self.undo, self.batch, self.takes, self.born, self.over, self.seq, self.at,
            self.crc,
        ]
        .iter()
        .any(Option::is_some)
    }
}

/// Checks and reads a line in any layout.
pub(super) fn decode_any(text: &str, has_checksum: bool) -> Result<OpLine<'_>, Flaw> {
    json::validate(text).map_err(|reason| malformed(format!("not JSON: {reason}")))?;
    let fields = Fields::read(text).ok_or_else(|| malformed("not a JSON object"))?;
    // Otherwise a flipped bit in the key of the checksum would turn the check off.
    if !has_checksum && fields.is_ours() {
        return Err(malformed("written by opslog, but its checksum is missing"));
    }
    let kind = match fields.op {
        Some("\"set\"") => OpKind::Set,
        Some("\"delete\"") => OpKind::Delete,
        _ => return Err(malformed("op must be \"set\" or \"delete\"")),
    };
    let delta = match fields.encoding {
        None | Some("\"full\"") => false,
        Some("\"delta\"") => true,
        Some(_) => return Err(malformed("encoding must be \"full\" or \"delta\"")),
    };
    let prev = match fields.prev {
        None => return Err(malformed("prev is missing")),
        Some("null") => None,
        Some(prev) if prev.starts_with('{') => Some(prev),
        Some(_) => return Err(malformed("prev must be an object or null")),
    };
    let data = match (kind, fields.data) {
        (OpKind::Set, Some(data)) if data.starts_with('{') => Some(data),
        (OpKind::Set, _) => return Err(malformed("data of a set must be an object")),
        (OpKind::Delete, None) => None,
        (OpKind::Delete, Some(_)) => return Err(malformed("a delete must not have data")),
    };
    Ok(OpLine {
        ts: read_time(fields.ts)?,
        kind,
        id: read_id(fields.id)?,
        prev: prev_of(prev, delta),
        data,
        agent: fields
            .agent
            .map(|raw| read_string(raw, "agent"))
            .transpose()?,
        clock: read_number(fields.clock, "clock")?,
        blind: read_flag(fields.blind, "blind")?,
        undo: read_flag(fields.undo, "undo")?,
        batch: fields.batch.map(read_batch).transpose()?,
        origin: Origin {
            takes: fields
                .takes
                .map(|raw| read_stamp(raw, "takes"))
                .transpose()?,
            born: fields.born.map(|raw| read_stamp(raw, "born")).transpose()?,
            over: fields.over.map(|raw| read_stamp(raw, "over")).transpose()?,
        },
        seq: read_number(fields.seq, "seq")?,
        at: read_number(fields.at, "at")?,
    })
}

fn read_stamp<'a>(raw: &'a str, field: &str) -> Result<StampText<'a>, Flaw> {
    decode_stamp(raw)
        .ok_or_else(|| malformed(format!("{field} must be a stamp such as [5,\"agent\"]")))
}

fn read_time(raw: Option<&str>) -> Result<&str, Flaw> {
    raw.and_then(|raw| raw.strip_prefix('"')?.strip_suffix('"'))
        .filter(|ts| parse_timestamp(ts).is_some())
        .ok_or_else(|| malformed("ts must be an ISO 8601 time"))
}

fn read_id(raw: Option<&str>) -> Result<Cow<'_, str>, Flaw> {
    let id = read_string(raw.ok_or_else(|| malformed("id is missing"))?, "id")?;
    if id.len() > ID_BYTES_MAX {
        return Err(malformed(format!(
            "id has {} bytes, and at most {ID_BYTES_MAX} are allowed",
            id.len()
        )));
    }
    Ok(id)
}

fn read_string<'a>(raw: &'a str, name: &str) -> Result<Cow<'a, str>, Flaw> {
    if !raw.starts_with('"') || raw == "\"\"" {
        return Err(malformed(format!("{name} must be a non-empty string")));
    }
    json::unescape(raw).ok_or_else(|| {
        malformed(format!(
            "{name} has a lone surrogate (half a character), which UTF-8 cannot express"
        ))
    })
}

fn read_number(raw: Option<&str>, name: &str) -> Result<Option<u64>, Flaw> {
    raw.map(|raw| {
        serde_json::from_str(raw)
            .map_err(|_| malformed(format!("{name} must be a non-negative integer")))
    })
    .transpose()
}

fn read_flag(raw: Option<&str>, name: &str) -> Result<bool, Flaw> {
    match raw {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(malformed(format!("{name} must be true"))),
    }
}

fn read_batch(raw: &str) -> Result<BatchMark, Flaw> {
    serde_json::from_str::<(u32, u32)>(raw)
        .ok()
        .filter(|(index, count)| index < count)
        .map(|(index, count)| BatchMark { index, count })
        .ok_or_else(|| malformed("batch must be [index, count] with index below count"))
}
