//! What must hold whatever the bytes are: the bodies of the fuzz targets in `fuzz/`, and of a test over their corpus.
//!
//! Each function takes any bytes, and panics where a claim does not hold. Since a fuzzer does not find checksums by chance, most also put the right ones in place.

use std::borrow::Cow;

use crate::backend::{Backend, MemoryBackend};
use crate::format::{archive, index, json, manifest, op_line, snapshot};
use crate::oplog::{self, Backward, DamageKind, Start};
use crate::{ErrorKind, Residency, Store, delta, paths, salvage};

/// What separates the files in the input of [`directory`].
const FILE_MARK: &[u8] = b"\n=== ";

/// One line of a log: decoding does not panic, and what it answers is encoded to a line that decodes to the same.
pub fn op_line(bytes: &[u8]) {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    same_again(line);
    let mut with_checksum = line.to_vec();
    op_line::encode_trailer(&mut with_checksum, 0, 7, 0);
    with_checksum.pop();
    same_again(&with_checksum);
    let _ = op_line::body(line);
    drop(salvage::ids_in(bytes));
}

fn same_again(line: &[u8]) {
    let Ok(op) = op_line::decode(line) else {
        return;
    };
    let mut encoded = Vec::new();
    op_line::encode_body(&mut encoded, &op);
    match (op.seq, op.at) {
        (Some(seq), Some(at)) => {
            op_line::encode_trailer(&mut encoded, 0, seq, at);
            encoded.pop();
        }
        // The reference's lines end so.
        _ => encoded.push(b'}'),
    }
    let again = op_line::decode(&encoded);
    let is_ours = op.seq.is_some() && op.at.is_some();
    let is_reference =
        op.seq.is_none() && op.at.is_none() && !op.blind && !op.undo && op.batch.is_none();
    if is_ours || is_reference {
        assert_eq!(
            again.as_ref(),
            Ok(&op),
            "{}",
            String::from_utf8_lossy(&encoded)
        );
    }
}

/// A log: reading it does not panic, ends inside it, and reading what was kept gives the same without damage at its end.
pub fn log(bytes: &[u8]) {
    read_log(bytes);
    read_log(&with_checksums(bytes, 0));
}

fn read_log(bytes: &[u8]) {
    let backend = MemoryBackend::new();
    let read = |bytes: &[u8]| {
        backend.put("log", bytes).expect("memory takes every byte");
        let object = backend.open("log").expect("it was put");
        let mut lines = Vec::new();
        let start = Start {
            position: 0,
            seq: Some(0),
        };
        let outcome = oplog::read(&*object, start, &mut |line| {
            lines.push((line.seq, line.raw.to_vec()));
            Ok(())
        });
        (outcome.expect("memory can be read"), lines)
    };
    let (outcome, lines) = read(bytes);
    assert_eq!(outcome.count, lines.len() as u64);
    assert!(outcome.end <= bytes.len() as u64 && outcome.last_write <= bytes.len() as u64);
    let kept = bytes
        .get(..usize::try_from(outcome.end).expect("it is in memory"))
        .expect("it ends inside");
    let torn = |damage: &oplog::Damage| damage.kind == DamageKind::Torn;
    // That something is damaged and not torn, only what comes behind it may tell, and that may be cut off.
    if outcome.damage.iter().all(torn) {
        let (again, lines_again) = read(kept);
        assert_eq!(lines, lines_again);
        assert!(again.damage.is_empty(), "{again:?}");
    }
    let object = backend.open("log").expect("it was put");
    let mut backward = Backward::new(&*object, outcome.end);
    let mut offset = outcome.end;
    while let Some((at, _)) = backward.next().expect("memory can be read") {
        assert!(at < offset);
        offset = at;
    }
    let sealed = oplog::read_sealed(&*object, 0, &mut |_| Ok(())).expect("memory can be read");
    assert!(
        sealed
            .damage
            .iter()
            .all(|damage| damage.kind == DamageKind::Damaged)
    );
    let _ = oplog::flipped_bit(bytes);
}

/// The lines of `bytes` as opslog would have written them, but for those that begin with `!`, which stay as they are without it.
fn with_checksums(bytes: &[u8], first_seq: u64) -> Vec<u8> {
    let mut log = Vec::new();
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    for (seq, line) in (first_seq..).zip(lines) {
        if let Some(raw) = line.strip_prefix(b"!") {
            log.extend_from_slice(raw);
            log.push(b'\n');
            continue;
        }
        let begin = log.len();
        log.extend_from_slice(line.strip_suffix(b"}").unwrap_or(line));
        let at = if seq % 3 == 0 { begin } else { begin / 2 };
        op_line::encode_trailer(&mut log, begin, seq, at as u64);
    }
    log
}

/// A snapshot: both ways to cut up a line agree, and documents are encoded to lines that decode to the same.
pub fn snapshot(bytes: &[u8]) {
    let backend = MemoryBackend::new();
    backend
        .put("snapshot", bytes)
        .expect("memory takes every byte");
    let object = backend.open("snapshot").expect("it was put");
    let remains = salvage::snapshot(&*object).expect("memory can be read");
    for (id, data) in &remains.documents {
        let mut line = Vec::new();
        snapshot::encode_document(&mut line, id, data);
        line.pop();
        let line = std::str::from_utf8(&line).expect("made of strings");
        assert_eq!(
            snapshot::decode_line(line),
            Ok((Cow::Borrowed(&**id), &**data))
        );
        let ranges = snapshot::decode_line_trusted(line).expect("it is as opslog writes it");
        assert_eq!(line.get(ranges.data), Some(&**data));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for line in text.lines() {
            let _ = snapshot::decode_line_trusted(line);
        }
        drop(snapshot::decode_legacy(text));
    }
    drop(snapshot::decode_header(bytes));
    let _ = index::decode_footer(bytes);
    let _ = index::decode_block(bytes, 0).map(Iterator::count);
}

/// A manifest: what decodes is encoded to bytes that decode to the same.
pub fn manifest(bytes: &[u8]) {
    for decoded in [manifest::decode(bytes), manifest::decode_unchecked(bytes)] {
        let Ok(decoded) = decoded else { continue };
        let again = manifest::decode(&manifest::encode(&decoded));
        assert_eq!(again.ok(), Some(decoded));
    }
}

/// An archive segment: what decodes is encoded to bytes that decode to the same, and can be salvaged whole.
pub fn archive(bytes: &[u8]) {
    drop(salvage::segment(bytes));
    let Ok(segment) = archive::decode(bytes) else {
        return;
    };
    let documents = segment
        .documents
        .iter()
        .map(|(id, data)| (id.as_str(), data.as_str()));
    let encoded = archive::encode(
        segment.version,
        &segment.period,
        &segment.timestamp,
        documents,
    );
    assert_eq!(archive::decode(&encoded).as_ref(), Ok(&segment));
    let salvaged = salvage::segment(&encoded);
    assert!(salvaged.unreadable.is_empty() || segment.documents.is_empty());
    assert_eq!(salvaged.documents, segment.documents);
}

/// Two documents, a line each: the reverse patch turns the second back into the first. And any two texts as document and patch.
pub fn delta(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some((old, new)) = text.split_once('\n') else {
        return;
    };
    let valid = |text: &str| json::validate(text).is_ok();
    if !valid(old) || !valid(new) {
        return;
    }
    let (old, new) = (json::compact(old), json::compact(new));
    let mut patch = Vec::new();
    if delta::encode_reverse(&old, &new, &mut patch) {
        let patch = std::str::from_utf8(&patch).expect("made of strings");
        assert!(patch.len() < old.len());
        assert_eq!(delta::apply_reverse(&new, patch).as_deref(), Some(&*old));
    }
    drop(delta::apply_reverse(&old, &new));
}

/// A directory: `\n=== name` begins each file. Nothing panics; what opens can be written to, and what is repaired is sound.
pub fn directory(bytes: &[u8]) {
    let files = |backend: &MemoryBackend| {
        let mut rest = bytes;
        while let Some(mark) = memchr::memmem::find(rest, FILE_MARK) {
            let after = rest.get(mark + FILE_MARK.len()..).unwrap_or_default();
            let name_end = memchr::memchr(b'\n', after).unwrap_or(after.len());
            let (name, content) = after.split_at(name_end);
            let content = content.strip_prefix(b"\n").unwrap_or(content);
            let end = memchr::memmem::find(content, FILE_MARK).unwrap_or(content.len());
            rest = content.get(end..).unwrap_or_default();
            if let Ok(name) = std::str::from_utf8(name)
                && paths::is_own(name)
                && !paths::is_lock(name)
            {
                let content = finished(name, content.get(..end).unwrap_or_default());
                backend
                    .put(name, &content)
                    .expect("memory takes every byte");
            }
        }
    };
    let files = |backend: &MemoryBackend| {
        files(backend);
        vouch(backend);
    };
    let backend = MemoryBackend::new();
    files(&backend);
    drop(crate::verify_backend(&backend));
    for residency in [
        Residency::Memory,
        Residency::OnDemand {
            cache_bytes: 1 << 16,
        },
    ] {
        let opened = Store::<serde_json::Value>::builder()
            .residency(residency)
            .read_only(true)
            .open_backend(backend.clone());
        if let Ok(store) = opened {
            look(&store);
        }
    }
    let planned = crate::plan_repair_backend(&backend);
    let shared = MemoryBackend::new();
    files(&shared);
    if let Ok(agent) = open_as_agent(&shared) {
        look(&agent);
        drop(agent.refresh());
        agent
            .set("more", &serde_json::json!({}))
            .expect("it is open for writing");
        drop(agent.undo());
        drop(agent.close());
    }
    let copy = MemoryBackend::new();
    files(&copy);
    if let Ok(store) = Store::<serde_json::Value>::builder().open_backend(copy.clone()) {
        look(&store);
        store
            .set("more", &serde_json::json!({}))
            .expect("it is open for writing");
        drop(store.undo());
        drop(store.compact());
        drop(store.close());
    }
    match crate::repair_backend(&backend) {
        Ok(report) => {
            let planned = planned.expect("it can be repaired, so it can be planned");
            assert_eq!(
                (&planned.lost, &planned.doubtful),
                (&report.lost, &report.doubtful)
            );
            let verified = crate::verify_backend(&backend).expect("it was repaired");
            assert!(verified.is_sound(), "{verified:?}");
            let opened = Store::<serde_json::Value>::builder().open_backend(backend.clone());
            let store = opened.expect("verify found it sound");
            look(&store);
            drop(store.close());
            look(&open_as_agent(&backend).expect("a single writer could open it"));
        }
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::UnsupportedVersion
            ),
            "{error:?}"
        ),
    }
}

fn open_as_agent(backend: &MemoryBackend) -> crate::Result<Store> {
    Store::builder().agent_id("a").open_backend(backend.clone())
}

/// The file as opslog would have finished it: a log gets checksums, a manifest the checksum that fits.
fn finished(name: &str, content: &[u8]) -> Vec<u8> {
    if paths::parse_ops(name).is_some() || paths::parse_agent_ops(name).is_some() {
        return with_checksums(content, 0);
    }
    if name == paths::MANIFEST
        && let Ok(manifest) = manifest::decode_unchecked(content)
    {
        return manifest::encode(&manifest);
    }
    content.to_vec()
}

/// A manifest that gives `00000000` for the checksum of a file gets the right one, with the file's size: so bytes that are not what they should be are vouched for.
fn vouch(backend: &MemoryBackend) {
    let decoded = backend.read(paths::MANIFEST).ok();
    let Some(mut manifest) = decoded.and_then(|bytes| manifest::decode(&bytes).ok()) else {
        return;
    };
    let fit = |name: &str, bytes: &mut u64, crc: &mut u32| {
        if *crc == 0
            && let Ok(content) = backend.read(name)
        {
            *bytes = content.len() as u64;
            *crc = crc32c::crc32c(&content);
        }
    };
    let Some(ours) = &mut manifest.ours else {
        return;
    };
    let snapshot = &mut ours.snapshot;
    fit(
        &manifest.current_snapshot,
        &mut snapshot.bytes,
        &mut snapshot.crc,
    );
    if let (Some(stamps), Some(name)) = (
        &mut ours.stamps,
        paths::stamps_of(&manifest.current_snapshot),
    ) {
        fit(&name, &mut stamps.bytes, &mut stamps.crc);
    }
    for archive in &mut ours.archives {
        fit(&archive.path, &mut archive.bytes, &mut archive.crc);
    }
    backend
        .put(paths::MANIFEST, &manifest::encode(&manifest))
        .expect("memory takes every byte");
}

fn look(store: &Store) {
    for id in ["a", "b", "x"] {
        drop(store.get(id));
    }
    drop(store.entries());
    drop(store.ops(crate::Since::Start));
    drop(store.history("a"));
    drop(store.load_archive("old"));
    drop(store.stats());
}
