//! JSON as text: where values end, what the members of an object are, without building a tree.
//!
//! A document is kept as its text, so most of what opslog does with JSON is to cut and join it. Nothing here
//! recurses: nesting of any depth is accepted (only documents have a limit, which
//! `document` sets). Text that is not valid JSON gives a wrong or no answer, but never a panic.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use memchr::{memchr, memchr2};
use serde::de::IgnoredAny;

/// Up to this many keys a scan for one key beats a hash table.
pub(crate) const FEW_KEYS: usize = 16;

/// One member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// The key it means. A key that no Rust string can hold (it has a lone surrogate) stands here as it is written, in quotes.
    pub(crate) key: Cow<'a, str>,
    /// The key as it is written, in quotes.
    pub(crate) raw_key: &'a str,
    /// The value as it is written.
    pub(crate) value: &'a str,
}

/// Appends `text` as a JSON string, the way `JSON.stringify` writes it.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is valid JSON and a vector takes every byte");
}

/// Appends `number` in decimal.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number)
        .expect("a number is valid JSON and a vector takes every byte");
}

/// Whether `text` is exactly one JSON value, and if not, why. Any depth is accepted.
pub(crate) fn validate(text: &str) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// The end of the JSON object that `text` begins with; `None` if it does not begin with one. Any depth is accepted.
pub(crate) fn object_end(text: &str) -> Option<usize> {
    if !text.starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}

/// The end of the JSON value that begins at `start`, in text known to be valid.
pub(crate) fn skip_value(bytes: &[u8], start: usize) -> Option<usize> {
    match bytes.get(start)? {
        b'"' => skip_string(bytes, start),
        b'{' | b'[' => skip_container(bytes, start),
        _ => {
            let rest = bytes.get(start..)?;
            let length = rest.iter().position(|byte| ends_scalar(*byte));
            let length = length.unwrap_or(rest.len());
            (length > 0).then_some(start + length)
        }
    }
}

/// The first position at or after `start` that is not white space.
pub(crate) fn skip_space(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    let length = rest.iter().position(|byte| !is_space(*byte));
    start + length.unwrap_or(rest.len())
}

/// What a JSON string (with its quotes) means. `None` if no Rust string can hold it (lone surrogates) or it is not one.
pub(crate) fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

/// Like [`unescape`], but a string that cannot be held stands for itself, quotes included.
pub(crate) fn unescape_key(raw: &str) -> Cow<'_, str> {
    unescape(raw).unwrap_or(Cow::Borrowed(raw))
}

/// The keys (in quotes) and values of an object as they are written, in order, repeated keys included.
pub(crate) fn members(object: &str) -> Option<Vec<(&str, &str)>> {
    let bytes = object.as_bytes();
    let mut found = Vec::new();
    let mut position = skip_space(bytes, 0);
    if bytes.get(position) != Some(&b'{') {
        return None;
    }
    position = skip_space(bytes, position + 1);
    if bytes.get(position) == Some(&b'}') {
        return is_end(bytes, position + 1).then_some(found);
    }
    loop {
        if bytes.get(position) != Some(&b'"') {
            return None;
        }
        let key_end = skip_string(bytes, position)?;
        let colon = skip_space(bytes, key_end);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let value_start = skip_space(bytes, colon + 1);
        let value_end = skip_value(bytes, value_start)?;
        found.push((
            object.get(position..key_end)?,
            object.get(value_start..value_end)?,
        ));
        let next = skip_space(bytes, value_end);
        match bytes.get(next)? {
            b',' => position = skip_space(bytes, next + 1),
            b'}' => return is_end(bytes, next + 1).then_some(found),
            _ => return None,
        }
    }
}

/// The members of an object. `None` if it is not one, or a key occurs twice.
pub(crate) fn top_level(object: &str) -> Option<Vec<Member<'_>>> {
    let members: Vec<Member<'_>> = members(object)?
        .into_iter()
        .map(|(raw_key, value)| Member {
            key: unescape_key(raw_key),
            raw_key,
            value,
        })
        .collect();
    let unique = if members.len() <= FEW_KEYS {
        let mut rest = members.as_slice();
        let mut unique = true;
        while let Some((first, others)) = rest.split_first() {
            unique &= others.iter().all(|other| other.key != first.key);
            rest = others;
        }
        unique
    } else {
        let mut seen = HashSet::with_capacity(members.len());
        members.iter().all(|member| seen.insert(&*member.key))
    };
    unique.then_some(members)
}

/// `text` without the white space between its tokens.
pub(crate) fn compact(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut position = skip_space(bytes, 0);
    while let Some(byte) = bytes.get(position) {
        let end = if *byte == b'"' {
            skip_string(bytes, position).unwrap_or(bytes.len())
        } else {
            let rest = bytes.get(position..).unwrap_or_default();
            let length = rest
                .iter()
                .position(|byte| *byte == b'"' || is_space(*byte));
            position + length.unwrap_or(rest.len())
        };
        out.push_str(text.get(position..end).unwrap_or_default());
        position = skip_space(bytes, end);
    }
    out
}

/// Appends valid JSON as `JSON.stringify(…, null, 2)` lays it out, `depth` levels deep. The text of numbers and strings stays.
pub(crate) fn write_pretty(out: &mut Vec<u8>, text: &str, depth: usize) {
    let bytes = text.as_bytes();
    let mut depth = depth;
    let mut position = skip_space(bytes, 0);
    while let Some(byte) = bytes.get(position) {
        let mut end = position + 1;
        match byte {
            b'{' | b'[' => {
                out.push(*byte);
                let next = skip_space(bytes, end);
                if let Some(close @ (b'}' | b']')) = bytes.get(next) {
                    out.push(*close);
                    end = next + 1;
                } else {
                    depth += 1;
                    write_line_break(out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                write_line_break(out, depth);
                out.push(*byte);
            }
            b',' => {
                out.push(b',');
                write_line_break(out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                end = skip_value(bytes, position).unwrap_or(bytes.len());
                out.extend_from_slice(bytes.get(position..end).unwrap_or_default());
            }
        }
        position = skip_space(bytes, end);
    }
}

/// Appends a line break and the indentation of `depth` levels.
pub(crate) fn write_line_break(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth, b' ');
}

/// The pairs without repeated keys: the last value counts, in the place of the first, as when assigning to a JavaScript object.
pub(crate) fn last_wins(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(pairs.len());
    let mut entries: Vec<(String, String)> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        if let Some(entry) = places.get(&key).and_then(|place| entries.get_mut(*place)) {
            entry.1 = value;
        } else {
            places.insert(key.clone(), entries.len());
            entries.push((key, value));
        }
    }
    entries
}

fn skip_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut position = start + 1;
    loop {
        let found = position + memchr2(b'"', b'\\', bytes.get(position..)?)?;
        if bytes.get(found) == Some(&b'"') {
            return Some(found + 1);
        }
        position = found + 2;
    }
}

fn skip_container(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut position = start;
    loop {
        match bytes.get(position)? {
            b'"' => {
                position = skip_string(bytes, position)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(position + 1);
                }
            }
            _ => {}
        }
        position += 1;
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn ends_scalar(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b',' | b'}' | b']' | b':' | b'"' | b'{' | b'[')
}

fn is_end(bytes: &[u8], position: usize) -> bool {
    skip_space(bytes, position) == bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_are_written_as_json_stringify_does() {
        let mut out = Vec::new();
        write_string(
            &mut out,
            "\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f}\"\\/\u{7f}\u{2028}é😀",
        );
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}\u{2028}é😀\""
        );
    }

    #[test]
    fn values_end_where_they_end() {
        for value in [
            "1",
            "-1.5e+3",
            "null",
            "\"a\\\\\"",
            "\"\\\"}\"",
            "{}",
            "[[],{\"]\":\"}\"}]",
        ] {
            for rest in ["", ",1", "}", "]", " x"] {
                let text = format!("  {value}{rest}");
                assert_eq!(
                    skip_value(text.as_bytes(), 2),
                    Some(2 + value.len()),
                    "{text}"
                );
            }
        }
        for text in ["", "\"a", "\"\\", "[", "{\"}", "}", ","] {
            assert_eq!(skip_value(text.as_bytes(), 0), None, "{text}");
        }
        assert_eq!(skip_value(b"1", 5), None);
    }

    #[test]
    fn any_depth_is_accepted_without_overflowing_the_stack() {
        let deep = format!(
            "{{\"a\":{}{}}}",
            "[".repeat(1_000_000),
            "]".repeat(1_000_000)
        );
        assert_eq!(validate(&deep), Ok(()));
        assert_eq!(compact(&deep), deep);
        assert_eq!(top_level(&deep).map(|members| members.len()), Some(1));
        assert!(validate(deep.trim_end_matches('}')).is_err());
    }

    #[test]
    fn lone_surrogates_pass_inside_documents() {
        assert_eq!(validate("{\"a\":\"\\ud800\"}"), Ok(()));
        assert_eq!(unescape("\"\\ud800\""), None);
        assert_eq!(unescape("\"\\ud83d\\ude00\"").as_deref(), Some("😀"));
    }

    #[test]
    fn validation_refuses_what_is_not_one_value() {
        for text in [
            "",
            "{",
            "{}{}",
            "{'a':1}",
            "{\"a\":01}",
            "[1,]",
            "\"\n\"",
            "NaN",
        ] {
            assert!(validate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_that_occurs_twice_is_found_however_it_is_written() {
        assert_eq!(top_level("{\"a\":1,\"b\":2,\"\\u0061\":3}"), None);
        let many = |last: &str| {
            let keys: Vec<String> = (0..100).map(|n| format!("\"k{n}\":{n}")).collect();
            top_level(&format!("{{{},\"{last}\":0}}", keys.join(","))).map(|members| members.len())
        };
        assert_eq!(many("k50"), None);
        assert_eq!(many("k100"), Some(101));
    }

    fn tree() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::vec((".*", inner), 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn layouts_agree_with_serde_json(tree in tree()) {
            let text = tree.to_string();
            let pretty = serde_json::to_string_pretty(&tree).expect("JSON");
            let mut out = Vec::new();
            write_pretty(&mut out, &text, 0);
            prop_assert_eq!(String::from_utf8(out).expect("UTF-8"), pretty.clone());
            prop_assert_eq!(compact(&pretty), text.clone());
            prop_assert_eq!(skip_value(text.as_bytes(), 0), Some(text.len()));
            for layout in [&text, &pretty] {
                let members = top_level(layout);
                prop_assert_eq!(members.is_some(), tree.is_object());
                for (member, (key, value)) in members.iter().flatten().zip(tree.as_object().into_iter().flatten()) {
                    prop_assert_eq!(&member.key, key);
                    prop_assert_eq!(compact(member.value), value.to_string());
                    prop_assert_eq!(unescape(member.raw_key), Some(Cow::Borrowed(key.as_str())));
                }
            }
        }

        #[test]
        fn no_text_makes_scanning_panic(text in "[{}\\[\\]\":,\\\\ué 0-9\n]{0,80}", start in 0_usize..100) {
            let _ = skip_value(text.as_bytes(), start);
            let _ = top_level(&text);
            let _ = compact(&text);
            let _ = unescape(&text);
            write_pretty(&mut Vec::new(), &text, 0);
        }
    }
}
