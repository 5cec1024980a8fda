use super::*;
use crate::format::index::{BLOCK_BYTES, BLOCK_ENTRIES, Entry, RUN_BLOCKS};

const SNAPSHOT: &str = "snapshots/snap-1.jsonl";
const INDEX: &str = "snapshots/snap-1.index";

/// A snapshot with `ids`, in memory.
fn snapshot(ids: &[String]) -> (MemoryBackend, FileFacts) {
    let mut text = b"{\"version\":1,\"timestamp\":\"2026-01-01T00:00:00.000Z\"}\n".to_vec();
    for (n, id) in ids.iter().enumerate() {
        let data = format!("{{\"n\":{n}}}");
        format::snapshot::encode_document(&mut text, id, &data);
    }
    let backend = MemoryBackend::new();
    backend.put(SNAPSHOT, &text).unwrap();
    let facts = FileFacts {
        bytes: text.len() as u64,
        crc: crc32c::crc32c(&text),
        documents: ids.len() as u64,
    };
    (backend, facts)
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("id-{n} é\"🦀")).collect()
}

fn open(backend: &MemoryBackend, facts: Option<FileFacts>, home: IndexHome) -> Base {
    let object = backend.open(SNAPSHOT).unwrap();
    let base = Base::open(backend, SNAPSHOT, object, facts, home, 4096);
    base.unwrap().unwrap()
}

fn data(base: &Base, id: &str) -> Option<String> {
    let document = base.get::<()>(id).unwrap();
    document.map(|document| document.data().to_owned())
}

fn holds(base: &Base, ids: &[String]) {
    assert_eq!(base.len(), ids.len());
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(data(base, id), Some(format!("{{\"n\":{n}}}")), "{id}");
    }
    for n in 0..100 {
        let absent = format!("absent-{n}");
        assert!(!base.contains(&absent).unwrap(), "{absent}");
    }
    let read: Vec<String> = base
        .documents::<()>()
        .map(|document| document.unwrap().id().to_owned())
        .collect();
    assert_eq!(read, ids);
}

#[test]
fn every_document_is_found_and_nothing_else() {
    for count in [0, 1, 170, 171, 800] {
        let ids = ids(count);
        let (backend, facts) = snapshot(&ids);
        holds(&open(&backend, Some(facts), IndexHome::Storage), &ids);
        assert!(backend.read(INDEX).is_ok(), "it was built and kept");
        holds(&open(&backend, Some(facts), IndexHome::Storage), &ids);
    }
}

#[test]
fn ids_with_one_hash_are_told_apart() {
    let ids = ids(200);
    let (backend, facts) = snapshot(&ids);
    for hash in [|_: &str| 7, |id: &str| id.len() as u64] as [IdHash; 2] {
        let object = backend.open(SNAPSHOT).unwrap();
        let index = index_in_memory(&*object, SNAPSHOT, Some(facts), hash);
        let index = index.unwrap().unwrap();
        holds(
            &Base::new(object, SNAPSHOT, Some(facts), index, hash, 4096),
            &ids,
        );
    }
}

#[test]
fn an_index_that_cannot_be_used_is_built_anew() {
    let ids = ids(500);
    let (backend, facts) = snapshot(&ids);
    drop(open(&backend, Some(facts), IndexHome::Storage));
    let good = backend.read(INDEX).unwrap();
    let (other, other_facts) = snapshot(&ids[1..]);
    drop(open(&other, Some(other_facts), IndexHome::Storage));
    let foreign = other.read(INDEX).unwrap();
    let mut flipped_fence = good.clone();
    flipped_fence[good.len() - 60] ^= 1;
    let mut flipped_end = good.clone();
    flipped_end[good.len() - 1] ^= 1;
    let bad = [
        foreign,
        flipped_fence,
        flipped_end,
        good[..good.len() / 2].to_vec(),
        good[BLOCK_BYTES..].to_vec(),
        b"no index".to_vec(),
        Vec::new(),
    ];
    for bad in bad {
        backend.put(INDEX, &bad).unwrap();
        holds(&open(&backend, Some(facts), IndexHome::Memory), &ids);
        assert_eq!(backend.read(INDEX).unwrap(), bad, "nothing was written");
        holds(&open(&backend, Some(facts), IndexHome::Storage), &ids);
        assert_eq!(backend.read(INDEX).unwrap(), good);
    }
}

#[test]
fn a_damaged_block_is_noticed_and_the_index_built_anew() {
    let ids = ids(500);
    let (backend, facts) = snapshot(&ids);
    drop(open(&backend, Some(facts), IndexHome::Storage));
    let good = backend.read(INDEX).unwrap();
    for position in (0..good.len() - 200).step_by(BLOCK_BYTES / 3) {
        let mut bad = good.clone();
        bad[position] ^= 0x10;
        backend.put(INDEX, &bad).unwrap();
        holds(&open(&backend, Some(facts), IndexHome::Storage), &ids);
    }
    // Two blocks changed places.
    let mut bad = good.clone();
    bad[..2 * BLOCK_BYTES].rotate_left(BLOCK_BYTES);
    backend.put(INDEX, &bad).unwrap();
    holds(&open(&backend, Some(facts), IndexHome::Storage), &ids);
}

#[test]
fn a_damaged_document_is_an_error_wherever_it_is_read() {
    let ids = ids(10);
    let (backend, facts) = snapshot(&ids);
    drop(open(&backend, Some(facts), IndexHome::Storage));
    let mut text = backend.read(SNAPSHOT).unwrap();
    let at = memchr::memmem::find(&text, b"{\"n\":5}").unwrap();
    text[at + 5] = b'6';
    backend.put(SNAPSHOT, &text).unwrap();
    let base = open(&backend, Some(facts), IndexHome::Storage);
    assert_eq!(data(&base, &ids[4]), Some("{\"n\":4}".to_owned()));
    let error = base.get::<()>(&ids[5]).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let last = base.documents::<()>().last().unwrap();
    assert!(last.is_err(), "the checksum of the whole");
    // Nor is it given a new checksum by an index that is built anew.
    backend.delete(INDEX).unwrap();
    let object = backend.open(SNAPSHOT).unwrap();
    let opened = Base::open(
        &backend,
        SNAPSHOT,
        object,
        Some(facts),
        IndexHome::Storage,
        0,
    );
    assert_eq!(opened.map(drop).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(backend.read(INDEX).is_err());
}

#[test]
fn a_snapshot_of_unknown_checksum_gets_no_index_file() {
    let (backend, _) = snapshot(&[]);
    let text = "{\"version\":1,\"timestamp\":\"t\"}\n{ \"data\" : {\"n\" :  0}, \"id\":\"\\u0061\" }\n\n \n{\"id\":\"b\",\"data\":{\"n\":1}}\n\n\n";
    backend.put(SNAPSHOT, text.as_bytes()).unwrap();
    let base = open(&backend, None, IndexHome::Storage);
    holds(&base, &["a".to_owned(), "b".to_owned()]);
    assert!(backend.read(INDEX).is_err());
    let twice = format!("{text}\n{{\"id\":\"a\",\"data\":{{}}}}\n");
    backend.put(SNAPSHOT, twice.as_bytes()).unwrap();
    let object = backend.open(SNAPSHOT).unwrap();
    let opened = Base::open(&backend, SNAPSHOT, object, None, IndexHome::Storage, 0);
    assert!(opened.unwrap().is_none());
}

#[test]
fn an_index_of_several_runs_finds_entries_in_all_of_them() {
    let count = (RUN_BLOCKS * BLOCK_ENTRIES) as u64 + 1000;
    let backend = MemoryBackend::new();
    let facts = FileFacts {
        bytes: 1,
        crc: 2,
        documents: count,
    };
    let mut writer = IndexWriter::create(&backend, INDEX).unwrap();
    let entry = |n: u64| Entry {
        hash: n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        offset: n,
        length: 1,
        crc: 0,
    };
    for n in 0..count {
        writer.push(entry(n)).unwrap();
    }
    writer.finish(&facts).unwrap();
    let index = Index::open(backend.open(INDEX).unwrap(), INDEX, &facts).unwrap();
    for n in (0..count).step_by(997).chain([count - 1]) {
        assert!(
            index.find(entry(n).hash).unwrap().contains(&entry(n)),
            "{n}"
        );
    }
    assert_eq!(index.find(2).unwrap(), []);
}
