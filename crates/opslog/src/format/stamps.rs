//! Stamps files (`docs/format.md` §3b): the stamps of a snapshot's documents, and the tombstones.
//!
//! A line a document, in the snapshot's order, then a line a tombstone. Nothing but the count ties a line to its document, so the file counts only
//! where the checksum in the manifest holds.

use std::borrow::Cow;

use super::json;
use super::op_line::{decode_stamp, encode_stamp};
use crate::merge::{Order, Stamp};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Document(Order),
    Deleted(Cow<'a, str>, Stamp),
}

/// Appends the line of a document: `{"stamp":[5,"a"],"born":[3,"b"]}`, `born` where it is another one.
pub(crate) fn encode_document(out: &mut Vec<u8>, order: &Order) {
    out.extend_from_slice(b"{\"stamp\":");
    encode_stamp(out, &order.stamp.text());
    if order.born != order.stamp {
        out.extend_from_slice(b",\"born\":");
        encode_stamp(out, &order.born.text());
    }
    out.extend_from_slice(b"}\n");
}

/// Appends the line of a tombstone: `{"id":"task-1","stamp":[5,"a"]}`.
pub(crate) fn encode_deleted(out: &mut Vec<u8>, id: &str, stamp: &Stamp) {
    out.extend_from_slice(b"{\"id\":");
    json::write_string(out, id);
    out.extend_from_slice(b",\"stamp\":");
    encode_stamp(out, &stamp.text());
    out.extend_from_slice(b"}\n");
}

/// Reads a line, which comes without its newline; `None` if it is not one of these.
pub(crate) fn decode(line: &[u8]) -> Option<Line<'_>> {
    let text = std::str::from_utf8(line).ok()?;
    json::validate(text).ok()?;
    let members = json::members(text)?;
    let field = |name| super::snapshot::field(&members, name);
    let stamp = decode_stamp(field("stamp")?)?.to_stamp();
    if let Some(id) = field("id") {
        return Some(Line::Deleted(json::unescape(id)?, stamp));
    }
    let born = match field("born") {
        Some(born) => decode_stamp(born)?.to_stamp(),
        None => stamp.clone(),
    };
    Some(Line::Document(Order { stamp, born }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::Mark;

    #[test]
    fn decoding_undoes_encoding() {
        let born = Stamp::new(3, &"b".into());
        let stamp = Stamp::new(5, &"a".into()).marked(Mark(1));
        let order = Order { stamp, born };
        let mut out = Vec::new();
        encode_document(&mut out, &order);
        encode_deleted(&mut out, "é\n\"", &order.stamp);
        encode_document(&mut out, &Order::default());
        assert_eq!(
            String::from_utf8_lossy(&out),
            "{\"stamp\":[5,\"a\",1],\"born\":[3,\"b\"]}\n{\"id\":\"é\\n\\\"\",\"stamp\":[5,\"a\",1]}\n{\"stamp\":[0,\"\"]}\n"
        );
        let lines: Vec<_> = out.split(|byte| *byte == b'\n').map(decode).collect();
        assert_eq!(lines[0], Some(Line::Document(order.clone())));
        assert_eq!(lines[1], Some(Line::Deleted("é\n\"".into(), order.stamp)));
        assert_eq!(lines[2], Some(Line::Document(Order::default())));
        assert_eq!(lines[3], None);
    }
}
