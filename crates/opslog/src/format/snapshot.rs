//! Snapshots (`docs/format.md` §3): a header line, then a line a document; and the legacy form, one JSON object.
//!
//! A snapshot whose checksum holds is cut up without parsing its documents; any other is checked in full.

use std::borrow::Cow;
use std::ops::Range;

use super::json;

/// The first line of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The store's schema version, at least 1.
    pub(crate) version: u32,
    /// When the snapshot was written; not checked, since nothing depends on it.
    pub(crate) timestamp: String,
}

/// Where the parts of a document's line are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineRanges {
    /// The id without its quotes.
    pub(crate) id: Range<usize>,
    pub(crate) data: Range<usize>,
    /// Whether the id has escapes: then it is [`json::unescape`] of the id *with* its quotes.
    pub(crate) escaped: bool,
}

/// Appends the header line.
pub(crate) fn encode_header(out: &mut Vec<u8>, version: u32, timestamp: &str) {
    out.extend_from_slice(b"{\"version\":");
    json::write_number(out, version.into());
    out.extend_from_slice(b",\"timestamp\":");
    json::write_string(out, timestamp);
    out.extend_from_slice(b"}\n");
}

/// Appends a document's line. `data` is its JSON text without line breaks.
pub(crate) fn encode_document(out: &mut Vec<u8>, id: &str, data: &str) {
    out.extend_from_slice(b"{\"id\":");
    json::write_string(out, id);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"}\n");
}

/// Reads the header line.
pub(crate) fn decode_header(line: &[u8]) -> Result<Header, String> {
    let text = std::str::from_utf8(line).map_err(|_| "the header is not UTF-8".to_owned())?;
    json::validate(text).map_err(|reason| format!("the header is not JSON: {reason}"))?;
    let members = json::members(text).ok_or("the header is not a JSON object")?;
    read_header(&members)
}

/// Cuts up a line exactly as [`encode_document`] writes it, without its newline, in a file whose checksum holds. The document is not checked.
pub(crate) fn decode_line_trusted(line: &str) -> Option<LineRanges> {
    const ID_START: usize = "{\"id\":\"".len();
    const DATA_KEY: &str = ",\"data\":";
    if !line.starts_with("{\"id\":\"") {
        return None;
    }
    let id_end = json::skip_value(line.as_bytes(), ID_START - 1)?;
    let data = line
        .get(id_end..)?
        .strip_prefix(DATA_KEY)?
        .strip_suffix('}')?;
    let id = ID_START..id_end - 1;
    let escaped = memchr::memchr(b'\\', line.get(id.clone())?.as_bytes()).is_some();
    let data_start = id_end + DATA_KEY.len();
    (data.starts_with('{') && data.ends_with('}')).then(|| LineRanges {
        id,
        data: data_start..data_start + data.len(),
        escaped,
    })
}

/// Reads a document's line in any layout: its id, and its data as it is written.
pub(crate) fn decode_line(line: &str) -> Result<(Cow<'_, str>, &str), String> {
    json::validate(line).map_err(|reason| format!("the line is not JSON: {reason}"))?;
    let members = json::members(line).ok_or("the line is not a JSON object")?;
    let raw_id = field(&members, "id").ok_or("id is missing")?;
    if !raw_id.starts_with('"') {
        return Err("id must be a string".to_owned());
    }
    let id = json::unescape(raw_id)
        .ok_or("id has a lone surrogate (half a character), which UTF-8 cannot express")?;
    let data = field(&members, "data")
        .filter(|data| data.starts_with('{'))
        .ok_or("data must be an object")?;
    Ok((id, data))
}

/// Whether a file that begins with `start` (at least its first line, or some kilobytes) is a legacy snapshot.
pub(crate) fn is_legacy(start: &[u8]) -> bool {
    let start = start.trim_ascii_start();
    let line = match memchr::memchr(b'\n', start) {
        Some(end) => start.get(..end).unwrap_or_default(),
        None => start,
    };
    if !line.starts_with(b"{") {
        return false;
    }
    // A header is a whole object on one line, without records. A pretty-printed object ends later.
    match std::str::from_utf8(line).ok().and_then(json::members) {
        Some(members) => field(&members, "records").is_some(),
        None => true,
    }
}

/// Reads a legacy snapshot. The documents come out compact, in the order in which the reference has them in memory:
/// JavaScript objects hold integer-like keys first, ascending, and the other keys as they were written.
pub(crate) fn decode_legacy(text: &str) -> Result<(Header, Vec<(String, String)>), String> {
    json::validate(text).map_err(|reason| format!("the snapshot is not JSON: {reason}"))?;
    let members = json::members(text).ok_or("the snapshot is not a JSON object")?;
    let header = read_header(&members)?;
    let documents = read_records(&members)?;
    let (mut indexed, others): (Vec<_>, Vec<_>) = documents
        .into_iter()
        .map(|entry| (array_index(&entry.0), entry))
        .partition(|(index, _)| index.is_some());
    indexed.sort_by_key(|(index, _)| *index);
    indexed.extend(others);
    Ok((
        header,
        indexed.into_iter().map(|(_, entry)| entry).collect(),
    ))
}

/// The documents under `records`, compact, in the order written; of a repeated id the last one counts, in the place of the first.
pub(super) fn read_records(members: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
    let records = field(members, "records")
        .and_then(json::members)
        .ok_or("records must be an object")?;
    let mut documents = Vec::with_capacity(records.len());
    for (raw_id, data) in records {
        let id = json::unescape(raw_id).ok_or_else(|| {
            format!("the id {raw_id} has a lone surrogate (half a character), which UTF-8 cannot express")
        })?;
        if !data.starts_with('{') {
            return Err(format!("document {raw_id} must be an object"));
        }
        documents.push((id.into_owned(), json::compact(data)));
    }
    Ok(json::last_wins(documents))
}

/// The last member called `name`, as it is written.
pub(super) fn field<'a>(members: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    members
        .iter()
        .rev()
        .find(|(raw_key, _)| json::unescape_key(raw_key) == name)
        .map(|(_, value)| *value)
}

pub(super) fn read_header(members: &[(&str, &str)]) -> Result<Header, String> {
    let version = field(members, "version")
        .and_then(|raw| serde_json::from_str::<u32>(raw).ok())
        .filter(|version| *version > 0)
        .ok_or("version must be a positive integer")?;
    let timestamp = field(members, "timestamp")
        .and_then(json::unescape)
        .filter(|timestamp| !timestamp.is_empty())
        .ok_or("timestamp must be a non-empty string")?;
    Ok(Header {
        version,
        timestamp: timestamp.into_owned(),
    })
}

/// The number that `key` is, if JavaScript counts it as an array index.
fn array_index(key: &str) -> Option<u32> {
    let is_canonical = key == "0" || (key.starts_with(|c: char| ('1'..='9').contains(&c)));
    let index = key.parse().ok().filter(|index| *index < u32::MAX)?;
    is_canonical.then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_look_like_the_reference_s() {
        let mut out = Vec::new();
        encode_header(&mut out, 1, "2026-01-01T00:00:00.000Z");
        encode_document(&mut out, "a\"\n", "{\"x\":1}");
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "{\"version\":1,\"timestamp\":\"2026-01-01T00:00:00.000Z\"}\n{\"id\":\"a\\\"\\n\",\"data\":{\"x\":1}}\n"
        );
    }

    #[test]
    fn a_bad_header_is_refused_with_the_reason() {
        let refused = |line: &[u8], reason: &str| {
            let error = decode_header(line).expect_err("refused");
            assert!(error.contains(reason), "{error}");
        };
        refused(b"", "not JSON");
        refused(b"[]", "not a JSON object");
        refused(b"{\"version\":0,\"timestamp\":\"t\"}", "version");
        refused(b"{\"version\":1.5,\"timestamp\":\"t\"}", "version");
        refused(b"{\"version\":1}", "timestamp");
        refused(b"{\"version\":1,\"timestamp\":3}", "timestamp");
        refused(b"{\"version\":1,\"timestamp\":\"\xff\"}", "UTF-8");
    }

    #[test]
    fn lines_in_any_layout_are_read() {
        let (id, data) =
            decode_line(" { \"data\" : { \"x\" : 1 } , \"z\":[], \"id\" : \"\\u0061\" } ")
                .expect("a line");
        assert_eq!((&*id, data), ("a", "{ \"x\" : 1 }"));
        for line in [
            "",
            "{}",
            "{\"id\":1,\"data\":{}}",
            "{\"id\":\"a\",\"data\":1}",
            "{\"id\":\"\\ud800\",\"data\":{}}",
            "{\"id\":\"a\",\"data\":{}}}",
        ] {
            assert!(decode_line(line).is_err(), "{line}");
        }
    }

    #[test]
    fn legacy_snapshots_are_told_from_headers() {
        assert!(!is_legacy(
            b"{\"version\":1,\"timestamp\":\"t\"}\n{\"id\":\"a\",\"data\":{\"records\":{}}}\n"
        ));
        assert!(!is_legacy(b"{ \"timestamp\":\"records\", \"version\":1 }"));
        assert!(is_legacy(
            b"{\"version\":1,\"timestamp\":\"t\",\"records\":{}}"
        ));
        assert!(is_legacy(
            b"{\"version\":1,\"timestamp\":\"t\",\"records\":{\"a\":{\"x\":"
        ));
        assert!(is_legacy(b"\n{\n  \"version\": 1,\n"));
        assert!(!is_legacy(b""));
    }

    #[test]
    fn legacy_documents_come_in_javascript_s_order() {
        let text = "{\n \"version\": 1, \"timestamp\": \"t\",\n \"records\": {\"b\":{ \"n\" : 1.50 },\"10\":{},\"2\":{},\"02\":{},\"4294967295\":{},\"+3\":{},\"b\":{\"z\":\"a b\"},\"a\":{}}\n}\n";
        let (header, documents) = decode_legacy(text).expect("a legacy snapshot");
        assert_eq!(header.version, 1);
        let ids: Vec<&str> = documents.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["2", "10", "b", "02", "4294967295", "+3", "a"]);
        assert_eq!(
            documents.get(2).map(|(_, data)| data.as_str()),
            Some("{\"z\":\"a b\"}")
        );
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(id in ".*", value in ".*", version in 1_u32..) {
            let data = serde_json::json!({ "x": value }).to_string();
            let mut out = Vec::new();
            encode_document(&mut out, &id, &data);
            let line = std::str::from_utf8(&out).expect("UTF-8").trim_end_matches('\n');
            let ranges = decode_line_trusted(line).expect("canonical");
            prop_assert_eq!(&line[ranges.data], &data);
            prop_assert_eq!(ranges.escaped, line[ranges.id.clone()] != id);
            prop_assert_eq!(json::unescape(&line[ranges.id.start - 1..=ranges.id.end]), Some(Cow::Borrowed(&*id)));
            prop_assert_eq!(decode_line(line), Ok((Cow::Borrowed(&*id), &*data)));
            let mut header = Vec::new();
            encode_header(&mut header, version, &value);
            prop_assert_eq!(decode_header(&header).ok(), (!value.is_empty()).then_some(Header { version, timestamp: value }));
        }

        #[test]
        fn nothing_makes_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[{}\\[\\]\":,\\\\a-dirt0-9 \n]{0,80}") {
            let _ = decode_header(&bytes);
            let _ = is_legacy(&bytes);
            for text in [&*String::from_utf8_lossy(&bytes), &*text, &*format!("{{\"id\":\"{text}")] {
                let _ = decode_line_trusted(text);
                let _ = decode_line(text);
                let _ = decode_legacy(text);
                let _ = is_legacy(text.as_bytes());
            }
        }
    }
}
