//! What readers, backups and agents see while others come, go, and replace files.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by panicking, and looks at the files from outside"
)]

use std::collections::BTreeMap;

use opslog::backend::Backend as _;
use opslog::{
    Blobs as _, ErrorKind, MemoryBackend, Residency, Retention, Since, Store, StoreBuilder,
    backup_backend,
};
use serde_json::{Value, json};

#[path = "agents_proof/hooked.rs"]
#[allow(dead_code, reason = "some of it is for other tests")]
mod hooked;

use hooked::Hooked;

const ON_DEMAND: Residency = Residency::OnDemand {
    cache_bytes: 1 << 20,
};

fn open(builder: StoreBuilder<Value>, backend: &MemoryBackend) -> Store {
    builder.open_backend(backend.clone()).unwrap()
}

fn agent(backend: &MemoryBackend, id: &str) -> Store {
    open(Store::builder().agent_id(id), backend)
}

fn set(store: &Store, id: &str, n: u64) {
    store.set(id, &json!({ "n": n })).unwrap();
}

fn n(store: &Store, id: &str) -> Option<u64> {
    store.get(id).unwrap()?["n"].as_u64()
}

/// Whether the agents only wrote, archived too, or a single writer came after them.
#[test]
fn a_reader_sees_the_work_of_agents_that_came_and_left() {
    for residency in [Residency::Memory, ON_DEMAND, Residency::ChangesOnly] {
        for then in ["nothing", "archive", "single writer", "checkpoint"] {
            let memory = MemoryBackend::new();
            let ann = agent(&memory, "ann");
            set(&ann, "x", 1);
            set(&ann, "old", 1);
            ann.close().unwrap();
            let reader = open(
                Store::builder().read_only(true).residency(residency),
                &memory,
            );
            let ann = agent(&memory, "ann");
            set(&ann, "x", 2);
            set(&ann, "z", 3);
            if then == "archive" {
                ann.archive(|_, id| id == "old", Some("p")).unwrap();
            }
            ann.close().unwrap();
            if then == "single writer" || then == "checkpoint" {
                let single = open(Store::builder(), &memory);
                set(&single, "y", 5);
                if then == "checkpoint" {
                    single.compact().unwrap();
                }
            }
            reader.refresh().unwrap();
            let seen = (n(&reader, "x"), n(&reader, "z"), n(&reader, "old"));
            let old = (then != "archive").then_some(1);
            assert_eq!(seen, (Some(2), Some(3), old), "{then}");
        }
    }
}

fn marking(version: u32) -> StoreBuilder<Value> {
    Store::builder()
        .version(version)
        .migrate(move |mut document: Value, _| {
            document["version"] = json!(version);
            Ok(document)
        })
}

#[test]
fn a_reader_of_a_newer_version_sees_what_agents_write() {
    let memory = MemoryBackend::new();
    let ann = open(Store::builder().agent_id("ann").version(1), &memory);
    set(&ann, "x", 1);
    let reader = open(marking(2).read_only(true), &memory);
    set(&ann, "x", 2);
    set(&ann, "y", 3);
    ann.delete("x").unwrap();
    set(&ann, "x", 4);
    reader.refresh().unwrap();
    assert_eq!((n(&reader, "x"), n(&reader, "y")), (Some(4), Some(3)));
    assert_eq!(reader.get("y").unwrap().unwrap()["version"], 2);
}

#[test]
fn a_reader_sees_a_migration_that_follows_another() {
    for residency in [Residency::Memory, ON_DEMAND, Residency::ChangesOnly] {
        let memory = MemoryBackend::new();
        let store = open(marking(1), &memory);
        set(&store, "x", 1);
        store.close().unwrap();
        open(marking(2), &memory).close().unwrap();
        let reader = open(
            Store::builder().read_only(true).residency(residency),
            &memory,
        );
        assert_eq!(reader.get("x").unwrap().unwrap()["version"], 2);
        open(marking(3), &memory).close().unwrap();
        reader.refresh().unwrap();
        assert_eq!(reader.get("x").unwrap().unwrap()["version"], 3);
    }
}

/// The snapshot and the operations after it are the documents, also of an agent that has not looked.
#[test]
fn the_operations_of_agents_after_the_snapshot_are_all_there() {
    let memory = MemoryBackend::new();
    let (ann, ben) = (agent(&memory, "ann"), agent(&memory, "ben"));
    set(&ann, "x", 1);
    ann.compact().unwrap();
    ben.refresh().unwrap();
    set(&ann, "x", 2);
    set(&ann, "y", 3);
    let snapshot = ben.stream_snapshot().unwrap().map(Result::unwrap);
    let mut state: BTreeMap<_, _> = snapshot.collect();
    for operation in ben.log_ops(Since::Start).unwrap() {
        let operation = operation.unwrap();
        state.insert(operation.id, operation.data.unwrap());
    }
    assert_eq!(state["x"].as_str(), r#"{"n":2}"#);
    assert_eq!(state["y"].as_str(), r#"{"n":3}"#);
    let all = ann.ops(Since::Start).unwrap();
    let since = || Since::Cursor(all[1].cursor.clone());
    let later: Vec<String> = ann
        .log_ops(since())
        .unwrap()
        .map(|operation| operation.unwrap().id)
        .collect();
    assert_eq!(later, ["y"]);
}

#[test]
fn operations_after_the_snapshot_are_found_beside_a_compaction_and_after_agents() {
    for calls in 0.. {
        let memory = MemoryBackend::new();
        let none = Store::builder().history_retention(Retention::None);
        let ann = open(none.agent_id("ann"), &memory);
        set(&ann, "x", 1);
        let backend = Hooked::new(memory.clone());
        let reader: Store = Store::builder()
            .read_only(true)
            .open_backend(backend.clone())
            .unwrap();
        let beside = ann.clone();
        backend.before(calls, move || beside.compact().unwrap());
        reader.log_ops(Since::Start).unwrap();
        if backend.clear() {
            ann.close().unwrap();
            let single = open(Store::builder(), &memory);
            single.compact().unwrap();
            set(&single, "y", 2);
            let later = reader.log_ops(Since::Start).unwrap();
            assert_eq!(later.map(|op| op.unwrap().id).collect::<Vec<_>>(), ["y"]);
            break;
        }
    }
}

/// A log that is merged into another one, while an undo looks for what others wrote, is found there.
#[test]
fn an_undo_beside_anothers_checkpoints_finds_what_it_wrote() {
    for calls in 0.. {
        let memory = MemoryBackend::new();
        let ben = agent(&memory, "ben");
        let backend = Hooked::new(memory);
        let ann: Store = Store::builder()
            .agent_id("ann")
            .open_backend(backend.clone())
            .unwrap();
        set(&ben, "x", 1);
        ben.compact().unwrap();
        for n in 0..15 {
            set(&ben, "y", n);
            ben.compact().unwrap();
        }
        (0..30).for_each(|n| set(&ann, "z", n));
        // Over ben's, which she has not seen.
        set(&ann, "x", 2);
        ann.refresh().unwrap();
        ben.refresh().unwrap();
        let beside = ben.clone();
        backend.before(calls, move || {
            for n in 0..3 {
                set(&beside, "y", 100 + n);
                beside.compact().unwrap();
            }
        });
        ann.undo().unwrap();
        assert_eq!(n(&ann, "x"), Some(1), "before call {calls}");
        if backend.clear() {
            break;
        }
    }
}

#[test]
fn a_stream_of_a_damaged_snapshot_ends_with_an_error() {
    let memory = MemoryBackend::new();
    let store = open(Store::builder(), &memory);
    set(&store, "a", 1);
    store.compact().unwrap();
    let name = store.manifest().unwrap().current_snapshot;
    store.close().unwrap();
    let text = String::from_utf8(memory.read(&name).unwrap()).unwrap();
    let rotten = text.replace(r#"{"n":1}"#, r#"{"n":9}"#);
    memory.put(&name, rotten.as_bytes()).unwrap();
    // Which does not read the documents.
    let store = open(Store::builder().skip_load(true), &memory);
    let last = store.stream_snapshot().unwrap().last().unwrap();
    assert_eq!(last.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_segment_that_is_merged_while_it_is_read_is_read_again() {
    for calls in 0.. {
        let memory = MemoryBackend::new();
        let writer = open(Store::builder(), &memory);
        set(&writer, "a", 1);
        set(&writer, "b", 2);
        writer.archive(|_, id| id == "a", Some("p")).unwrap();
        let backend = Hooked::new(memory);
        let reader: Store = Store::builder()
            .read_only(true)
            .open_backend(backend.clone())
            .unwrap();
        let beside = writer.clone();
        backend.before(calls, move || {
            beside.archive(|_, id| id == "b", Some("p")).unwrap();
        });
        assert!(!reader.load_archive("p").unwrap().is_empty());
        if backend.clear() {
            break;
        }
    }
}

/// The log is as long as before then, and not what was copied.
#[test]
fn a_backup_beside_an_undo_and_a_commit_of_the_same_length_is_whole() {
    for seals in [false, true] {
        for calls in 0.. {
            let memory = MemoryBackend::new();
            let writer = open(Store::builder(), &memory);
            set(&writer, "a", 1);
            set(&writer, "b", 1);
            let backend = Hooked::new(memory);
            let beside = writer.clone();
            backend.before(calls, move || {
                beside.undo().unwrap();
                set(&beside, "b", 2);
                if seals {
                    beside.compact().unwrap();
                }
            });
            let to = MemoryBackend::new();
            backup_backend(&backend, &to).unwrap();
            let copy = open(Store::builder().read_only(true), &to);
            let history = copy.history("b").unwrap();
            let last = history.last().unwrap().data.as_ref().unwrap();
            let document = copy.get_json("b").unwrap().unwrap();
            assert_eq!(last, &document, "before call {calls}");
            if backend.clear() {
                break;
            }
        }
    }
}

#[test]
fn a_store_stays_where_it_was_opened() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    std::fs::create_dir(&one).unwrap();
    std::fs::create_dir(&two).unwrap();
    std::env::set_current_dir(&one).unwrap();
    let store: Store = Store::open("store").unwrap();
    set(&store, "a", 1);
    std::env::set_current_dir(&two).unwrap();
    store.backend().write_blob("blob", b"1").unwrap();
    store.compact().unwrap();
    set(&store, "b", 2);
    store.close().unwrap();
    assert_eq!(std::fs::read_dir(&two).unwrap().count(), 0);
    let store: Store = Store::open(one.join("store")).unwrap();
    assert_eq!((n(&store, "a"), n(&store, "b")), (Some(1), Some(2)));
    assert_eq!(store.backend().read_blob("blob").unwrap(), b"1");
}
