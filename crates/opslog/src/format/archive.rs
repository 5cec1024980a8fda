//! Archive segments (`docs/format.md` §6): one two-space JSON object each, laid out as the reference does.

use super::json;
use super::snapshot::{field, read_header, read_records};

/// A decoded archive segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) version: u32,
    pub(crate) period: String,
    pub(crate) timestamp: String,
    /// Ids and compact documents, in the order in the file.
    pub(crate) documents: Vec<(String, String)>,
}

/// The bytes of a segment.
pub(crate) fn encode<'a>(
    version: u32,
    period: &str,
    timestamp: &str,
    documents: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(b"{\n  \"version\": ");
    json::write_number(&mut out, version.into());
    out.extend_from_slice(b",\n  \"period\": ");
    json::write_string(&mut out, period);
    out.extend_from_slice(b",\n  \"timestamp\": ");
    json::write_string(&mut out, timestamp);
    out.extend_from_slice(b",\n  \"records\": {");
    let mut is_empty = true;
    for (id, data) in documents {
        if !is_empty {
            out.push(b',');
        }
        is_empty = false;
        json::write_line_break(&mut out, 2);
        json::write_string(&mut out, id);
        out.extend_from_slice(b": ");
        json::write_pretty(&mut out, data, 2);
    }
    if !is_empty {
        json::write_line_break(&mut out, 1);
    }
    out.extend_from_slice(b"}\n}");
    out
}

/// Reads a segment, checking all of it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Segment, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the segment is not UTF-8".to_owned())?;
    json::validate(text).map_err(|reason| format!("the segment is not JSON: {reason}"))?;
    let members = json::members(text).ok_or("the segment is not a JSON object")?;
    let header = read_header(&members)?;
    let period = field(&members, "period")
        .and_then(json::unescape)
        .filter(|period| !period.is_empty())
        .ok_or("period must be a non-empty string")?;
    Ok(Segment {
        version: header.version,
        period: period.into_owned(),
        timestamp: header.timestamp,
        documents: read_records(&members)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn segments_look_like_the_reference_s() {
        let documents = [
            ("a", "{\"x\":[1.50,{}],\"y\":[],\"z\":{\"k\":\"b, c\"}}"),
            ("b", "{}"),
        ];
        let text = String::from_utf8(encode(1, "2026-Q1", "t", documents)).expect("UTF-8");
        assert_eq!(
            text,
            r#"{
  "version": 1,
  "period": "2026-Q1",
  "timestamp": "t",
  "records": {
    "a": {
      "x": [
        1.50,
        {}
      ],
      "y": [],
      "z": {
        "k": "b, c"
      }
    },
    "b": {}
  }
}"#
        );
        let empty = String::from_utf8(encode(1, "p", "t", [])).expect("UTF-8");
        assert!(empty.ends_with("\"records\": {}\n}"), "{empty}");
    }

    #[test]
    fn a_bad_segment_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "not JSON"),
            ("[]", "not a JSON object"),
            (
                "{\"version\":1,\"timestamp\":\"t\",\"records\":{}}",
                "period",
            ),
            (
                "{\"version\":1,\"timestamp\":\"t\",\"period\":\"p\",\"records\":[]}",
                "records",
            ),
            (
                "{\"version\":1,\"timestamp\":\"t\",\"period\":\"p\",\"records\":{\"a\":1}}",
                "\"a\"",
            ),
        ] {
            let error = decode(text.as_bytes()).expect_err("refused");
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(period in ".+", documents in proptest::collection::btree_map(".*", ".*", 0..8)) {
            let documents: Vec<(String, String)> = documents
                .into_iter()
                .map(|(id, value)| (id, serde_json::json!({ "x": [value, {}, []], "y": { "z": 1 } }).to_string()))
                .collect();
            let bytes = encode(3, &period, "t", documents.iter().map(|(id, data)| (&**id, &**data)));
            let tree: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            prop_assert_eq!(&bytes, &serde_json::to_vec_pretty(&tree).expect("JSON"));
            prop_assert_eq!(decode(&bytes), Ok(Segment { version: 3, period, timestamp: "t".to_owned(), documents }));
        }

        #[test]
        fn nothing_makes_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
