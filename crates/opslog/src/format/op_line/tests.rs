use super::*;
use proptest::prelude::*;

const TIME: &str = "2026-01-01T00:00:00.000Z";

fn set<'a>(id: &'a str, data: &'a str) -> OpLine<'a> {
    OpLine {
        ts: TIME,
        kind: OpKind::Set,
        id: Cow::Borrowed(id),
        prev: Prev::None,
        data: Some(data),
        agent: None,
        clock: None,
        blind: false,
        undo: false,
        batch: None,
        origin: Origin::default(),
        seq: Some(0),
        at: Some(0),
    }
}

/// The whole line, without its newline.
fn encode(line: &OpLine<'_>) -> Vec<u8> {
    let mut out = b"before\n".to_vec();
    let start = out.len();
    encode_body(&mut out, line);
    encode_trailer(&mut out, start, line.seq.unwrap_or(0), line.at.unwrap_or(0));
    assert_eq!(out.pop(), Some(b'\n'));
    out.split_off(start)
}

/// The line with a right checksum, whatever it says.
fn sealed(text: &str) -> Vec<u8> {
    format!(
        "{text},\"crc\":\"{:08x}\"}}",
        crc32c::crc32c(text.as_bytes())
    )
    .into_bytes()
}

fn reason(line: &str) -> String {
    match decode(line.as_bytes()) {
        Err(Flaw::Malformed(reason)) => reason,
        other => format!("{other:?}"),
    }
}

#[test]
fn a_line_looks_as_documented() {
    let mut line = set("a", "{\"x\":2}");
    line.prev = Prev::Delta("{\"$set\":{\"x\":1}}");
    line.agent = Some(Cow::Borrowed("me"));
    line.clock = Some(7);
    line.blind = true;
    line.undo = true;
    line.batch = Some(BatchMark { index: 1, count: 2 });
    (line.seq, line.at) = (Some(120), Some(4096));
    let text = String::from_utf8(encode(&line)).expect("UTF-8");
    let (checked, crc) = text.split_at(text.len() - 18);
    assert_eq!(
        checked,
        "{\"ts\":\"2026-01-01T00:00:00.000Z\",\"op\":\"set\",\"id\":\"a\",\"prev\":{\"$set\":{\"x\":1}},\"data\":{\"x\":2},\"agent\":\"me\",\"clock\":7,\"encoding\":\"delta\",\"blind\":true,\"undo\":true,\"batch\":[1,2],\"seq\":120,\"at\":4096"
    );
    assert_eq!(
        crc,
        format!(",\"crc\":\"{:08x}\"}}", crc32c::crc32c(checked.as_bytes()))
    );
    assert!(split_checksum(text.as_bytes()).is_some());
    assert_eq!(decode(text.as_bytes()), Ok(line));
}

#[test]
fn the_body_is_the_same_in_every_log() {
    let mut line = set("a", "{\"seq\":1,\"at\":2}");
    let first = encode(&line);
    (line.seq, line.at) = (Some(u64::MAX), Some(123_456));
    let second = encode(&line);
    assert_ne!(first, second);
    assert_eq!(body(&first), body(&second));
    assert_eq!(body_check(&first), body_check(&second));
    assert!(body(&first).ends_with(b"\"at\":2}"));
    let foreign = b"{\"ts\":\"t\",\"data\":{},\"seq\":1,\"at\":2}";
    assert_eq!(body(foreign), foreign.strip_suffix(b"}").unwrap());
    assert_eq!(body(b""), b"");
}

#[test]
fn the_reference_s_lines_are_read() {
    let line = decode(b"{\"ts\":\"2026-01-01T00:00:00.000Z\",\"op\":\"delete\",\"id\":\"a\\n\",\"prev\":{\"x\":1},\"agent\":\"me\",\"clock\":3,\"encoding\":\"full\"}").expect("valid");
    assert_eq!(
        (line.kind, &*line.id, line.prev),
        (OpKind::Delete, "a\n", Prev::Full("{\"x\":1}"))
    );
    assert_eq!(
        (line.agent.as_deref(), line.clock, line.data, line.seq),
        (Some("me"), Some(3), None, None)
    );
    let line = decode(b" { \"zzz\" : [1] , \"data\" : { \"x\" : 1 } ,\t\"prev\":null,\"id\":\"\\u0061\",\"op\":\"set\",\"ts\":\"2026-01-01T00:00:00.000Z\"} \r").expect("valid");
    assert_eq!(
        (&*line.id, line.data, line.prev),
        ("a", Some("{ \"x\" : 1 }"), Prev::None)
    );
}

#[test]
fn an_invalid_line_is_refused_with_the_reason() {
    let good = "{\"ts\":\"2026-01-01T00:00:00.000Z\",\"op\":\"set\",\"id\":\"a\",\"prev\":null,\"data\":{}}";
    assert!(decode(good.as_bytes()).is_ok());
    let long = format!("\"{}\"", "é".repeat(ID_BYTES_MAX / 2 + 1));
    for (from, to, expected) in [
        ("{\"ts\"", "[\"ts\"", "not JSON"),
        (
            "\"2026-01-01T00:00:00.000Z\"",
            "\"yesterday\"",
            "ts must be",
        ),
        ("\"2026-01-01T00:00:00.000Z\"", "5", "ts must be"),
        ("\"set\"", "\"put\"", "op must be"),
        ("\"set\"", "\"delete\"", "must not have data"),
        (
            "\"id\":\"a\"",
            "\"id\":\"\"",
            "id must be a non-empty string",
        ),
        ("\"id\":\"a\"", "\"id\":1", "id must be a non-empty string"),
        ("\"id\":\"a\"", "\"idd\":1", "id is missing"),
        ("\"id\":\"a\"", "\"id\":\"\\ud800\"", "lone surrogate"),
        ("\"a\"", &long, "65538 bytes"),
        ("\"prev\":null", "\"prev\":[]", "prev must be"),
        ("\"prev\":null,", "", "prev is missing"),
        ("\"data\":{}", "\"data\":[]", "data of a set"),
        ("\"data\":{}", "\"data\":null", "data of a set"),
        (",\"data\":{}", "", "data of a set"),
        (
            "\"data\":{}",
            "\"data\":{},\"encoding\":\"zip\"",
            "encoding must be",
        ),
        ("\"data\":{}", "\"data\":{},\"clock\":-1", "clock must be"),
        ("\"data\":{}", "\"data\":{},\"clock\":1.5", "clock must be"),
        ("\"data\":{}", "\"data\":{},\"agent\":\"\"", "agent must be"),
        (
            "\"data\":{}",
            "\"data\":{},\"seq\":1",
            "checksum is missing",
        ),
    ] {
        let line = good.replace(from, to);
        assert_ne!(line, good);
        assert!(reason(&line).contains(expected), "{}", reason(&line));
    }
    assert_eq!(decode(b"{\"ts\":\"\xff\"}"), Err(Flaw::NotUtf8));
    assert!(reason("[1]").contains("not a JSON object"));
    assert!(reason("").contains("not JSON"));
}

#[test]
fn the_longest_id_is_accepted() {
    let id = "x".repeat(ID_BYTES_MAX);
    assert_eq!(
        decode(&encode(&set(&id, "{}"))).map(|line| line.id.len()),
        Ok(ID_BYTES_MAX)
    );
    let id = "x".repeat(ID_BYTES_MAX + 1);
    assert!(matches!(
        decode(&encode(&set(&id, "{}"))),
        Err(Flaw::Malformed(_))
    ));
}

#[test]
fn lone_surrogates_and_any_depth_pass_through_data() {
    let deep = format!(
        "{{\"a\":\"\\ud800\",\"b\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(
        decode(&encode(&set("a", &deep))).map(|line| line.data),
        Ok(Some(&*deep))
    );
    let foreign =
        format!("{{\"ts\":\"{TIME}\",\"op\":\"set\",\"id\":\"a\",\"prev\":null,\"data\":{deep}}}");
    assert_eq!(
        decode(foreign.as_bytes()).map(|line| line.data),
        Ok(Some(&*deep))
    );
}

#[test]
fn a_checksummed_line_in_another_layout_is_checked_in_full() {
    let line = sealed(
        "{\"op\":\"delete\",\"ts\":\"2026-01-01T00:00:00.000Z\",\"id\":\"a\",\"prev\":{},\"at\":5, \"batch\":[0,2],\"seq\":4",
    );
    let decoded = decode(&line).expect("valid");
    assert_eq!(
        (decoded.seq, decoded.at, decoded.batch),
        (Some(4), Some(5), Some(BatchMark { index: 0, count: 2 }))
    );
    for text in [
        "{\"ts\":\"2026-01-01T00:00:00.000Z\",\"op\":\"delete\",\"id\":\"a\",\"prev\":{},\"batch\":[2,2],\"seq\":4",
        "{\"ts\":\"2026-01-01T00:00:00.000Z\",\"op\":\"delete\",\"id\":\"a\",\"prev\":{},\"batch\":[0],\"seq\":4",
        "{\"ts\":\"2026-01-01T00:00:00.000Z\",\"op\":\"delete\",\"id\":\"a\",\"prev\":{},\"seq\":99999999999999999999",
        "{\"ts\":\"2026-01-01T00:00:00.000Z\",\"op\":\"delete\",\"id\":\"a\",\"prev\":{},\"undo\":1",
    ] {
        assert!(
            matches!(decode(&sealed(text)), Err(Flaw::Malformed(_))),
            "{text}"
        );
    }
}

fn object() -> impl Strategy<Value = String> {
    proptest::collection::vec((".{0,8}", ".{0,12}", any::<i32>()), 0..5).prop_map(|members| {
        let members = members
            .into_iter()
            .map(|(key, text, number)| (key, serde_json::json!([text, number, {}])));
        serde_json::Value::Object(members.collect()).to_string()
    })
}

#[derive(Debug, Clone)]
struct Parts {
    id: String,
    prev: Option<String>,
    data: Option<String>,
    agent: Option<String>,
    clock: Option<u64>,
    flags: [bool; 3],
    batch: Option<BatchMark>,
    takes: Option<Stamp>,
    born: Option<Stamp>,
    over: Option<Stamp>,
    seq: u64,
    at: u64,
    milliseconds: i64,
}

prop_compose! {
    fn stamp()(clock in any::<u64>(), agent in "[A-Za-z0-9._\"-]{0,8}", mark in any::<u32>()) -> Stamp {
        Stamp { clock, agent: agent.into(), mark: Mark(mark) }
    }
}

prop_compose! {
    fn parts()(
        id in ".{1,20}|[ -~]{1,10}",
        prev in proptest::option::of(object()),
        data in proptest::option::of(object()),
        agent in proptest::option::of("[A-Za-z0-9._\"-]{1,8}"),
        clock in any::<Option<u64>>(),
        flags in any::<[bool; 3]>(),
        batch in proptest::option::of((0_u32..100, 1_u32..100)),
        takes in proptest::option::of(stamp()),
        born in proptest::option::of(stamp()),
        over in proptest::option::of(stamp()),
        (seq, at) in any::<(u64, u64)>(),
        milliseconds in 0_i64..253_402_207_200_999,
    ) -> Parts {
        let batch = batch.map(|(index, more)| BatchMark { index, count: index + more });
        Parts { id, prev, data, agent, clock, flags, batch, takes, born, over, seq, at, milliseconds }
    }
}

fn with_line<T>(parts: &Parts, use_it: impl FnOnce(&OpLine<'_>) -> T) -> T {
    let timestamp = jiff::Timestamp::from_millisecond(parts.milliseconds).expect("in range");
    let ts = crate::time::format_timestamp(timestamp);
    let [delta, blind, undo] = parts.flags;
    use_it(&OpLine {
        ts: &ts,
        kind: if parts.data.is_some() {
            OpKind::Set
        } else {
            OpKind::Delete
        },
        id: Cow::Borrowed(&parts.id),
        prev: prev_of(parts.prev.as_deref(), delta),
        data: parts.data.as_deref(),
        agent: parts.agent.as_deref().map(Cow::Borrowed),
        clock: parts.clock,
        blind,
        undo,
        batch: parts.batch,
        origin: Origin {
            takes: parts.takes.as_ref().map(Stamp::text),
            born: parts.born.as_ref().map(Stamp::text),
            over: parts.over.as_ref().map(Stamp::text),
        },
        seq: Some(parts.seq),
        at: Some(parts.at),
    })
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(parts in parts()) {
        with_line(&parts, |line| {
            let bytes = encode(line);
            let text = std::str::from_utf8(&bytes).expect("UTF-8");
            prop_assert_eq!(decode(&bytes), Ok(line.clone()));
            prop_assert!(decode_canonical(&text[..text.len() - CHECKSUM_BYTES]).is_some());
            prop_assert_eq!(decode_any(text, true), Ok(line.clone()));
            let mut expected = Vec::new();
            encode_body(&mut expected, line);
            prop_assert_eq!(body(&bytes), expected);
            Ok(())
        })?;
    }

    #[test]
    fn a_flipped_bit_of_a_checksummed_line_is_refused(parts in parts()) {
        with_line(&parts, |line| {
            let bytes = encode(line);
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(decode(&changed).is_err(), "bit {}", bit);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_cut_checksummed_line_is_refused(parts in parts()) {
        with_line(&parts, |line| {
            let bytes = encode(line);
            for end in 0..bytes.len() {
                prop_assert!(decode(&bytes[..end]).is_err(), "cut at {}", end);
            }
            Ok(())
        })?;
    }

    #[test]
    fn nothing_makes_decoding_panic(
        parts in parts(),
        junk in proptest::collection::vec(any::<u8>(), 0..60),
        (from, to) in any::<(proptest::sample::Index, proptest::sample::Index)>(),
    ) {
        let _ = decode(&junk);
        let _ = body_check(&junk);
        let mut bytes = with_line(&parts, encode);
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        bytes.splice(from.min(to)..from.max(to), junk);
        let _ = decode(&bytes);
        let _ = body_check(&bytes);
        // The same with a right checksum, so that the trusting path sees it.
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        text.truncate(text.char_indices().rev().nth(CHECKSUM_BYTES).map_or(0, |(place, _)| place));
        let _ = decode(&sealed(&text));
    }
}
