//! The table of `docs/format.md` §5, a test a row, and the ways in which its rows can meet.

#![allow(
    clippy::single_range_in_vec_init,
    clippy::disallowed_macros,
    reason = "a list of one damaged range; a test may say what it has done"
)]

use super::*;
use crate::backend::{Backend, MemoryBackend};
use crate::format::op_line::{OpKind, Prev};

const SECTOR: usize = 512;

/// A log being written, as a writer that syncs each write before the next one would.
#[derive(Default, Clone)]
struct TestLog {
    bytes: Vec<u8>,
    seq: u64,
    /// Where each operation's line is, its newline included.
    lines: Vec<Range<usize>>,
}

impl TestLog {
    /// One write of one commit a word: `"a bcd e"` sets `a`, then `b`, `c` and `d` as a batch, then `e`.
    fn write(&mut self, commits: &str) -> &mut Self {
        self.write_sized(commits, 0)
    }

    /// As `write`, with this many bytes of text in each document.
    fn write_sized(&mut self, commits: &str, size: usize) -> &mut Self {
        let at = self.bytes.len() as u64;
        for commit in commits.split_whitespace() {
            let count = u32::try_from(commit.len()).unwrap();
            for (index, id) in (0..).zip(commit.chars()) {
                let batch = (count > 1).then_some(BatchMark { index, count });
                let start = self.body(&id.to_string(), batch, size);
                op_line::encode_trailer(&mut self.bytes, start, self.seq, at);
                self.seq += 1;
                self.lines.push(start..self.bytes.len());
            }
        }
        self
    }

    /// A line as the reference writes it.
    fn reference(&mut self, id: &str) -> &mut Self {
        let start = self.body(id, None, 0);
        self.bytes.extend_from_slice(b"}\n");
        self.seq += 1;
        self.lines.push(start..self.bytes.len());
        self
    }

    fn body(&mut self, id: &str, batch: Option<BatchMark>, size: usize) -> usize {
        let start = self.bytes.len();
        let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(size));
        let line = OpLine {
            ts: "2026-01-02T03:04:05.678Z",
            kind: OpKind::Set,
            id: id.into(),
            prev: Prev::None,
            data: Some(&data),
            agent: None,
            clock: None,
            blind: false,
            undo: false,
            batch,
            origin: op_line::Origin::default(),
            seq: None,
            at: None,
        };
        op_line::encode_body(&mut self.bytes, &line);
        start
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Makes line `index` bad, its newline kept.
    fn spoil(&mut self, index: usize) -> &mut Self {
        let middle = self.lines[index].start + 10;
        self.bytes[middle] ^= 0x2a;
        self
    }

    /// Makes line `index` blank.
    fn blank(&mut self, index: usize) -> &mut Self {
        let line = self.lines[index].clone();
        self.bytes[line].fill(b'\n');
        self
    }

    /// Takes line `index` out, as a foreign hand would.
    fn take_out(&mut self, index: usize) -> &mut Self {
        let line = self.lines[index].clone();
        self.bytes.drain(line.clone());
        for later in &mut self.lines[index + 1..] {
            *later = later.start - line.len()..later.end - line.len();
        }
        self
    }

    fn start(&self, index: usize) -> u64 {
        self.lines[index].start as u64
    }

    fn end(&self, index: usize) -> u64 {
        self.lines[index].end as u64
    }

    fn read(&self) -> Found {
        read_bytes(&self.bytes)
    }
}

fn log() -> TestLog {
    TestLog::default()
}

/// What reading came to.
#[derive(Debug)]
struct Found {
    ids: String,
    seqs: Vec<u64>,
    outcome: Outcome,
}

fn read_bytes(bytes: &[u8]) -> Found {
    read_from(bytes, 0, Some(0))
}

fn read_from(bytes: &[u8], position: u64, seq: Option<u64>) -> Found {
    let backend = MemoryBackend::new();
    backend.put("log", bytes).unwrap();
    let object = backend.open("log").unwrap();
    let (mut ids, mut seqs) = (String::new(), Vec::new());
    let outcome = read(&*object, Start { position, seq }, &mut |line| {
        assert!(bytes[usize::try_from(line.offset).unwrap()..].starts_with(line.raw));
        ids.push_str(&line.op.id);
        seqs.push(line.seq);
        Ok(())
    })
    .unwrap();
    assert_eq!(outcome.count, ids.chars().count() as u64);
    Found { ids, seqs, outcome }
}

impl Found {
    #[track_caller]
    fn is_clean(&self, ids: &str, end: usize) {
        assert_eq!(self.ids, ids);
        assert_eq!(self.outcome.damage, []);
        assert_eq!(self.outcome.end, end as u64);
        assert_eq!(self.outcome.next_seq, ids.chars().count() as u64);
    }

    /// The log is cut at `offset`, and ends there with `ids`.
    #[track_caller]
    fn is_torn(&self, ids: &str, offset: u64) {
        assert_eq!(self.ids, ids, "{:?}", self.outcome);
        let [damage] = &self.outcome.damage[..] else {
            panic!("{:?}", self.outcome);
        };
        assert_eq!(damage.kind, DamageKind::Torn, "{damage:?}");
        assert_eq!(damage.range, offset..u64::MAX, "{damage:?}");
        assert_eq!(self.outcome.end, offset);
        assert!(self.outcome.terminated);
        assert_eq!(self.outcome.next_seq, ids.chars().count() as u64);
    }

    /// Nothing is cut, the log ends behind all lines, and `ranges` are reported as damage.
    #[track_caller]
    fn is_damaged(&self, ids: &str, end: u64, ranges: &[Range<u64>]) {
        assert_eq!(self.ids, ids, "{:?}", self.outcome);
        let kinds = self.outcome.damage.iter().map(|damage| damage.kind);
        assert!(kinds.eq(ranges.iter().map(|_| DamageKind::Damaged)));
        let found = self.outcome.damage.iter().map(|damage| &damage.range);
        assert!(found.eq(ranges), "{:?} {ranges:?}", self.outcome.damage);
        assert_eq!(self.outcome.end, end);
    }
}

#[test]
fn row_1_good_lines_are_kept() {
    let mut log = log();
    log.write("a b cd").write("e").write("fgh i");
    let found = log.read();
    found.is_clean("abcdefghi", log.bytes.len());
    assert!(found.outcome.terminated);
    assert!(found.seqs.into_iter().eq(0..9));
    read_bytes(b"").is_clean("", 0);
}

#[test]
fn row_1_reading_may_begin_at_any_commit() {
    let mut log = log();
    log.write("a b").write("c");
    let found = read_from(&log.bytes, log.start(1), Some(1));
    assert_eq!((found.ids.as_str(), &found.seqs[..]), ("bc", &[1, 2][..]));
    let found = read_from(&log.bytes, log.start(1), None);
    assert_eq!((found.ids.as_str(), &found.seqs[..]), ("bc", &[1, 2][..]));
}

#[test]
fn row_2_blank_lines_at_the_end_are_padding() {
    for padding in ["\n", "\n\n\n", "  \n\t\n", "\r\n \r\n", "  "] {
        let mut log = log();
        log.write("a").write("b");
        let end = log.bytes.len();
        log.raw(padding.as_bytes());
        log.read().is_clean("ab", end);
    }
    read_bytes(&[b'\n'; 5000]).is_clean("", 0);
}

#[test]
fn row_3_good_last_line_without_newline_is_kept() {
    for commits in ["a b", "a bcd"] {
        let mut log = log();
        log.write("z").write(commits);
        log.bytes.pop();
        let found = log.read();
        let ids = format!("z{}", commits.replace(' ', ""));
        found.is_clean(&ids, log.bytes.len());
        assert!(!found.outcome.terminated);
    }
    let mut log = log();
    log.reference("a").reference("b");
    log.bytes.pop();
    log.read().is_clean("ab", log.bytes.len());
}

#[test]
fn row_4_last_line_cut_at_any_byte_is_torn() {
    let mut log = log();
    log.write("a").write("b");
    let start = log.lines[1].start;
    for end in start + 1..log.bytes.len() - 1 {
        read_bytes(&log.bytes[..end]).is_torn("a", start as u64);
    }
}

#[test]
fn row_4_any_bad_byte_in_the_last_line_is_torn() {
    let mut log = log();
    log.write("a").write("b");
    let start = log.lines[1].start;
    for position in start..log.bytes.len() - 1 {
        for flip in [0x2a, 0xff] {
            let mut bad = log.bytes.clone();
            bad[position] ^= flip;
            read_bytes(&bad).is_torn("a", start as u64);
        }
    }
}

/// A flipped bit in the last write was taken for a write cut short, and everything behind it was cut off with it, though it had been acknowledged.
#[test]
fn row_6_one_flipped_bit_in_the_last_write_is_damage_and_what_follows_is_kept() {
    let mut log = log();
    log.write("a").write("b c d");
    let last = log.lines[2].clone();
    for position in last.clone() {
        let mut bad = log.bytes.clone();
        bad[position] ^= 0x04;
        let found = read_bytes(&bad);
        let damage = &found.outcome.damage[0];
        assert_eq!(damage.kind, DamageKind::Damaged, "byte {position}");
        assert_eq!(damage.range.start, last.start as u64, "byte {position}");
        // Without its newline it hides the line behind it.
        let left = if position + 1 == last.end {
            "ab"
        } else {
            "abd"
        };
        assert_eq!(found.ids, left, "byte {position}");
    }
    let last = log.lines[3].clone();
    for position in last {
        let mut bad = log.bytes.clone();
        bad[position] ^= 0x40;
        let found = read_bytes(&bad);
        assert_eq!(found.ids, "abc");
        assert_eq!(found.outcome.damage[0].kind, DamageKind::Damaged);
    }
}

#[test]
fn row_4_cut_last_line_of_the_reference_is_torn() {
    let mut log = log();
    log.reference("a").reference("b");
    let start = log.lines[1].start;
    for end in start + 1..log.bytes.len() - 1 {
        read_bytes(&log.bytes[..end]).is_torn("a", start as u64);
    }
}

#[test]
fn row_4_nul_bytes_of_an_extension_are_torn() {
    for count in [1, 511, 4096, 1 << 20] {
        let mut log = log();
        log.write("a");
        let end = log.end(0);
        log.raw(&vec![0; count]);
        log.read().is_torn("a", end);
    }
    read_bytes(&[0; 100]).is_torn("", 0);
}

#[test]
fn row_4_nul_bytes_behind_padding_are_torn() {
    let mut log = log();
    log.write("a");
    let end = log.end(0);
    log.raw(b"\n\n\n\n").raw(&[0; 600]).raw(b"\n\n");
    log.read().is_torn("a", end);
}

#[test]
fn row_5_missing_lines_of_the_last_write_are_torn() {
    for spoil in [TestLog::spoil, TestLog::blank] {
        for bad in 1..4 {
            let mut log = log();
            log.write("a").write("b c d e");
            spoil(&mut log, bad);
            let kept = &"abcde"[..bad];
            let cut = log.start(bad);
            log.read().is_torn(kept, cut);
        }
    }
}

#[test]
fn row_5_several_bad_spots_of_one_write_are_cut_at_the_first() {
    let mut log = log();
    log.write("a").write("b c d e f g");
    log.spoil(2).blank(4);
    let cut = log.start(2);
    log.read().is_torn("ab", cut);
    log.spoil(6);
    log.read().is_torn("ab", cut);
    log.spoil(1);
    let cut = log.start(1);
    log.read().is_torn("a", cut);
}

#[test]
fn row_5_jump_within_the_last_write_is_torn() {
    let mut log = log();
    log.write("a").write("b c d");
    log.take_out(1);
    let cut = log.end(0);
    log.read().is_torn("a", cut);
}

#[test]
fn row_6_bad_bytes_before_a_later_write_are_damage() {
    for spoil in [TestLog::spoil, TestLog::blank] {
        for bad in 0..3 {
            let mut log = log();
            log.write("a").write("b").write("c").write("d");
            spoil(&mut log, bad);
            let range = log.start(bad)..log.end(bad);
            let kept = "abcd".replace(['a', 'b', 'c'][bad], "");
            let found = log.read();
            found.is_damaged(&kept, log.bytes.len() as u64, &[range]);
            let kept_seqs = (0..4).filter(|seq| *seq != bad as u64);
            assert!(found.seqs.into_iter().eq(kept_seqs));
            assert_eq!(found.outcome.next_seq, 4);
        }
    }
}

#[test]
fn row_6_good_lines_of_a_damaged_write_are_kept() {
    let mut log = log();
    log.write("a b c d").write("e");
    log.spoil(1);
    let end = log.bytes.len() as u64;
    let range = log.start(1)..log.end(1);
    log.read().is_damaged("acde", end, &[range]);
    log.spoil(2);
    let range = log.start(1)..log.end(2);
    log.read().is_damaged("ade", end, &[range]);
}

#[test]
fn row_6_jump_before_a_later_write_is_damage() {
    let mut log = log();
    log.write("a").write("b").write("c");
    log.take_out(1);
    let end = log.end(0);
    let found = log.read();
    found.is_damaged("ac", log.bytes.len() as u64, &[end..end]);
    assert_eq!(found.seqs, [0, 2]);
}

#[test]
fn row_6_missing_start_of_the_log_is_damage() {
    let mut log = log();
    log.write("a").write("b").write("c");
    log.take_out(0);
    log.read().is_damaged("bc", log.bytes.len() as u64, &[0..0]);
}

#[test]
fn row_6_repeated_line_is_damage() {
    let mut log = log();
    log.write("a").write("b");
    let again = log.bytes[log.lines[0].clone()].to_vec();
    log.raw(&again).write("c");
    // The copy says that its write began before the spot, so it waits for `c`, which says that all was synced.
    let found = log.read();
    assert_eq!(found.outcome.damage.len(), 1);
    assert_eq!(found.outcome.damage[0].kind, DamageKind::Damaged);
    assert!(found.ids.starts_with("ab") && found.ids.ends_with('c'));
}

#[test]
fn row_6_bad_bytes_before_a_line_of_the_reference_are_damage() {
    let mut log = log();
    log.write("a b").reference("r");
    log.spoil(1);
    let range = log.start(1)..log.end(1);
    log.read()
        .is_damaged("ar", log.bytes.len() as u64, &[range]);
}

#[test]
fn row_6_foreign_line_is_damage() {
    for foreign in ["null", "[]", "{}", "hello", r#"{"op":"set"}"#, "\u{feff}"] {
        let mut log = log();
        log.write("a");
        let start = log.bytes.len() as u64;
        log.raw(foreign.as_bytes()).raw(b"\n");
        let end = log.bytes.len() as u64;
        log.read().is_torn("a", start);
        log.write("b");
        let found = log.read();
        found.is_damaged("ab", log.bytes.len() as u64, &[start..end]);
    }
}

#[test]
fn row_6_line_that_is_no_operation_though_its_checksum_holds_is_damage_wherever_it_is() {
    for (body, reason) in [
        (
            r#"{"ts":"2026-01-02T03:04:05.678Z","op":"set","id":"x","prev":null,"data":{nonsense}"#,
            "not JSON",
        ),
        (
            r#"{"ts":"2026-01-02T03:04:05.678Z","op":"set","id":"x","prev":{"a":},"data":{}"#,
            "not JSON",
        ),
        (
            r#"{"ts":"2026-01-02T03:04:05.678Z","op":"set","id":"x","prev":null,"data":{"a":1]}"#,
            "not JSON",
        ),
        (
            "{\"ts\":\"2026-01-02T03:04:05.678Z\",\"op\":\"set\",\"id\":\"\u{1}\",\"prev\":null,\"data\":{}",
            "not JSON",
        ),
        (
            r#"{"ts":"2026-01-02T03:04:05.678Z","op":"make","id":"x","prev":null,"data":{}"#,
            "op must be",
        ),
        (
            r#"{"ts":"2026-01-02T03:04:05.678Z","op":"set","id":"x","prev":null,"data":7"#,
            "data of a set",
        ),
    ] {
        let mut log = log();
        log.write("a");
        let start = log.bytes.len();
        log.bytes.extend_from_slice(body.as_bytes());
        op_line::encode_trailer(&mut log.bytes, start, 1, start as u64);
        let end = log.bytes.len() as u64;
        let found = log.read();
        assert_eq!(found.ids, "a", "{body}");
        let damage = &found.outcome.damage[0];
        assert_eq!(damage.kind, DamageKind::Damaged, "{body}");
        assert_eq!(damage.range.start, start as u64, "{body}");
        assert!(damage.reason.contains(reason), "{damage:?}");
        log.write("b");
        let found = log.read();
        found.is_damaged("ab", log.bytes.len() as u64, &[start as u64..end]);
    }
}

#[test]
fn row_6_damage_then_a_torn_end_are_told_apart() {
    let mut log = log();
    log.write("a").write("b").write("c").write("d e");
    log.spoil(1).spoil(3);
    let found = log.read();
    assert_eq!(found.ids, "ac");
    let kinds: Vec<_> = found
        .outcome
        .damage
        .iter()
        .map(|damage| (damage.kind, damage.range.clone()))
        .collect();
    let damaged = (DamageKind::Damaged, log.start(1)..log.end(1));
    let torn = (DamageKind::Torn, log.start(3)..u64::MAX);
    assert_eq!(kinds, [damaged, torn]);
    assert_eq!(found.outcome.end, log.start(3));
    assert_eq!(found.outcome.next_seq, 3);
}

#[test]
fn row_6_two_damaged_writes_are_two_damages() {
    let mut log = log();
    log.write("a b").write("c").write("d e").write("f");
    log.spoil(1).spoil(3);
    let ranges = [log.start(1)..log.end(1), log.start(3)..log.end(3)];
    log.read()
        .is_damaged("acef", log.bytes.len() as u64, &ranges);
}

#[test]
fn row_7_batch_cut_at_any_byte_is_torn_whole() {
    let mut log = log();
    log.write("a").write("bcd");
    let start = log.lines[1].start;
    for end in start + 1..log.bytes.len() - 1 {
        read_bytes(&log.bytes[..end]).is_torn("a", start as u64);
    }
    log.read().is_clean("abcd", log.bytes.len());
}

#[test]
fn row_7_commits_before_a_torn_batch_in_the_same_write_are_kept() {
    let mut log = log();
    log.write("a").write("b cd efg h");
    for bad in 4..7 {
        for spoil in [TestLog::spoil, TestLog::blank] {
            let mut log = log.clone();
            spoil(&mut log, bad);
            let cut = log.start(4);
            log.read().is_torn("abcd", cut);
        }
    }
}

#[test]
fn row_7_batch_followed_by_padding_is_torn() {
    let mut log = log();
    log.write("a").write("bcd");
    let cut = log.start(1);
    log.blank(3).raw(&[b'\n'; 700]);
    log.read().is_torn("a", cut);
}

#[test]
fn row_8_damaged_batch_is_left_out_whole() {
    for bad in 1..4 {
        let mut log = log();
        log.write("a").write("bcd").write("e").write("fg");
        log.spoil(bad);
        let found = log.read();
        assert_eq!(found.ids, "aefg");
        assert!(found.seqs.into_iter().eq([0, 4, 5, 6]));
        assert_eq!(found.outcome.end, log.bytes.len() as u64);
        let damage = &found.outcome.damage;
        assert!(damage.iter().all(|one| one.kind == DamageKind::Damaged));
        // Every byte of the batch is in what is kept aside.
        for byte in log.start(1)..log.end(3) {
            assert!(
                damage.iter().any(|one| one.range.contains(&byte)),
                "{bad} {byte}"
            );
        }
    }
}

#[test]
fn row_8_ends_of_two_damaged_batches_are_not_taken_for_one() {
    // In one write: a single line, and two batches; then a later write, so that all of it had been synced.
    let mut log = log();
    log.write("a bcd efg").write("h");
    log.spoil(0).spoil(2).spoil(3).spoil(4);
    // What is left of the batches is lines 0 of the first and 1 and 2 of the second.
    assert_eq!(log.read().ids, "h");
}

#[test]
fn row_8_batch_whose_middle_was_taken_out_is_left_out() {
    let mut log = log();
    log.write("a").write("bcd").write("e");
    log.take_out(2);
    assert_eq!(log.read().ids, "ae");
    log.take_out(1);
    assert_eq!(log.read().ids, "ae");
}

#[test]
fn glued_lines_are_torn_at_the_end_and_damage_before_it() {
    let mut log = log();
    log.write("a").write("b").write("c");
    let newline = log.lines[1].end - 1;
    log.bytes[newline] = b' ';
    let cut = log.start(1);
    log.read().is_torn("a", cut);
    let range = log.start(1)..log.end(2);
    log.write("d");
    log.read()
        .is_damaged("ad", log.bytes.len() as u64, &[range]);
}

#[test]
fn torn_line_that_swallowed_a_later_one_costs_only_those_two() {
    // What the reference does after a crash: it appends behind a torn line without ending it.
    let mut log = log();
    log.reference("a").reference("b");
    log.bytes.truncate(log.lines[1].end - 20);
    let start = log.start(1);
    log.reference("c");
    let end = log.bytes.len() as u64;
    log.reference("d");
    log.read()
        .is_damaged("ad", log.bytes.len() as u64, &[start..end]);
}

#[test]
fn lines_of_the_reference_count_on_from_ours() {
    let mut log = log();
    log.write("a").reference("b").reference("c").write("d e");
    let found = log.read();
    found.is_clean("abcde", log.bytes.len());
    assert!(found.seqs.into_iter().eq(0..5));
    let mut log = TestLog::default();
    log.reference("a").write("b").reference("c");
    log.read().is_clean("abc", log.bytes.len());
}

#[test]
fn our_torn_write_behind_lines_of_the_reference_is_torn() {
    let mut log = log();
    log.reference("a").reference("b").write("c d e");
    log.spoil(2);
    let cut = log.start(2);
    log.read().is_torn("ab", cut);
}

#[test]
fn nul_run_in_the_middle_is_judged_like_bad_bytes() {
    let mut log = log();
    log.write("a").write("b c d");
    let middle = log.lines[2].clone();
    log.bytes[middle].fill(0);
    let cut = log.start(2);
    log.read().is_torn("ab", cut);
    log.write("e");
    // Without its newline the run hides the line behind it as well.
    let range = log.start(2)..log.end(3);
    log.read()
        .is_damaged("abe", log.bytes.len() as u64, &[range]);
}

#[test]
fn any_byte_changed_anywhere_costs_at_most_its_own_commit_or_the_last_write() {
    let mut log = log();
    log.write("a").write("b cde").write("f").write("g hi");
    let whole = "abcdefghi";
    for position in 0..log.bytes.len() {
        for flip in [0x01_u8, 0x2a, 0x80] {
            let mut bad = log.bytes.clone();
            bad[position] ^= flip;
            let found = read_bytes(&bad);
            let hit = log.lines.iter().position(|line| line.contains(&position));
            let hit = hit.expect("every byte is in a line");
            let newline = position + 1 == log.lines[hit].end;
            let what = format!("byte {position} of line {hit}: {found:?}");
            // A batch is there whole or not at all.
            for batch in ["cde", "hi"] {
                let there = batch.chars().filter(|id| found.ids.contains(*id)).count();
                assert!(there == 0 || there == batch.len(), "{what}");
            }
            // One bit alone was not flipped by a write that was cut short.
            if hit < 6 || flip.is_power_of_two() {
                // The writes behind it say that it had been synced. A lost newline takes the next line with it.
                let lost = if newline { hit..hit + 2 } else { hit..hit + 1 };
                for (index, id) in whole.chars().enumerate() {
                    let batch = [2..5, 7..9]
                        .into_iter()
                        .find(|batch| batch.contains(&index));
                    let own = lost.contains(&index)
                        || batch.is_some_and(|batch| lost.clone().any(|hit| batch.contains(&hit)));
                    assert!(own || found.ids.contains(id), "{what}");
                }
            } else {
                assert!(whole.starts_with(&found.ids), "{what}");
                assert!(found.ids.len() >= 6, "{what}");
            }
            assert!(
                !found.outcome.damage.is_empty() || found.ids == whole,
                "{what}"
            );
        }
    }
}

/// Calls `visit` with `log` in every way in which each sector of its bytes from `from` on may be there, blank, or NULs.
fn each_loss_of_sectors(log: &TestLog, from: usize, mut visit: impl FnMut(&[u8])) -> usize {
    let mut length = log.bytes.len();
    length += SECTOR - length % SECTOR;
    let mut padded = log.bytes.clone();
    padded.resize(length, b'\n');
    let sectors: Vec<Range<usize>> = (from / SECTOR..length / SECTOR)
        .map(|sector| (sector * SECTOR).max(from)..(sector + 1) * SECTOR)
        .collect();
    let ways = 3_usize.pow(u32::try_from(sectors.len()).unwrap());
    for way in 0..ways {
        let mut bytes = padded.clone();
        let mut rest = way;
        for sector in &sectors {
            match rest % 3 {
                0 => {}
                1 => bytes[sector.clone()].fill(b'\n'),
                _ => bytes[sector.clone()].fill(0),
            }
            rest /= 3;
        }
        visit(&bytes);
    }
    ways
}

#[test]
fn missing_sectors_of_the_last_write_leave_a_prefix_and_nothing_acknowledged_is_lost() {
    let mut ways = 0;
    for (synced, last, size) in [
        ("", "a b c d e", 300),
        ("a", "b c d e f g h i j", 120),
        ("ab c", "d efg h ij", 200),
        ("a b c d", "efghijk", 230),
        ("a", "b", 2000),
        ("ab", "cd e", 700),
        ("a b", "c d e f g h i j k l", 20),
    ] {
        let mut log = log();
        if !synced.is_empty() {
            log.write_sized(synced, size);
        }
        let from = log.bytes.len();
        log.write_sized(last, size);
        let acknowledged = synced.replace(' ', "");
        // All ways in which the survivors may end: behind a commit.
        let mut prefixes = vec![acknowledged.clone()];
        for commit in last.split(' ') {
            prefixes.push(format!("{}{commit}", prefixes.last().unwrap()));
        }
        ways += each_loss_of_sectors(&log, from, |bytes| {
            let found = read_bytes(bytes);
            assert!(prefixes.contains(&found.ids), "{found:?}");
            let torn = |damage: &Damage| damage.kind == DamageKind::Torn;
            assert!(found.outcome.damage.iter().all(torn), "{found:?}");
            // What the next open finds once the log has been cut.
            let mut cut = bytes[..usize::try_from(found.outcome.end).unwrap()].to_vec();
            if !found.outcome.terminated {
                cut.push(b'\n');
            }
            read_bytes(&cut).is_clean(&found.ids, cut.len());
        });
    }
    eprintln!("{ways} losses of sectors");
}

#[test]
fn missing_sectors_of_a_synced_write_are_reported_and_later_writes_kept() {
    let mut log = log();
    log.write_sized("a b cd e", 300);
    let end = log.bytes.len();
    let full = end / SECTOR;
    log.write("f").write("gh");
    for lost in 1..1_usize << full {
        let mut bytes = log.bytes.clone();
        for sector in (0..full).filter(|sector| lost >> sector & 1 == 1) {
            bytes[sector * SECTOR..(sector + 1) * SECTOR].fill(b'\n');
        }
        let found = read_bytes(&bytes);
        assert!(found.ids.ends_with("fgh"), "{found:?}");
        assert_eq!(found.ids.contains('c'), found.ids.contains('d'));
        assert!(!found.outcome.damage.is_empty());
        assert!(
            found
                .outcome
                .damage
                .iter()
                .all(|damage| damage.kind == DamageKind::Damaged)
        );
        assert_eq!(found.outcome.end, bytes.len() as u64);
        assert_eq!(found.outcome.next_seq, 8);
    }
}

#[test]
fn last_write_cut_at_any_byte_leaves_a_prefix_of_commits() {
    let mut log = log();
    log.write("ab").write("c def g hi");
    let from = log.lines[2].start;
    for filler in [&b""[..], &[b'\n'; 900], &[0; 900]] {
        for end in from..=log.bytes.len() {
            let mut bytes = log.bytes[..end].to_vec();
            bytes.extend_from_slice(filler);
            let found = read_bytes(&bytes);
            assert!(
                ["ab", "abc", "abcdef", "abcdefg", "abcdefghi"].contains(&found.ids.as_str()),
                "{found:?}"
            );
            let whole = found.ids.len().checked_sub(1).unwrap();
            assert!(found.outcome.end >= log.end(whole) - 1);
        }
    }
}
