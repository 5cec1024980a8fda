//! What the kept operations say of documents, `repair` believes, and not a file whose checksum does not hold.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something unexpected happens"
)]

use std::collections::BTreeMap;

use opslog::{Backend, MemoryBackend, RepairReport, Store};
use serde_json::json;

fn open(backend: &MemoryBackend) -> Store {
    let builder = Store::builder().checkpoint_on_close(false);
    builder.open_backend(backend.clone()).unwrap()
}

/// Six documents, of which two went to an archive, and one of these is there again.
fn store() -> MemoryBackend {
    let backend = MemoryBackend::new();
    let store = open(&backend);
    for n in 0..6 {
        let text = json!({"number": n, "word": format!("word{n}")});
        store.set(&format!("id{n}"), &text).unwrap();
    }
    let old = |_: &_, id: &str| ["id1", "id2"].contains(&id);
    store.archive(old, Some("old")).unwrap();
    store.set("id2", &json!({"word": "again"})).unwrap();
    store.set("id3", &json!({"word": "new"})).unwrap();
    store.compact().unwrap();
    store.set("id4", &json!({"word": "last"})).unwrap();
    store.close().unwrap();
    backend
}

fn name(backend: &MemoryBackend, prefix: &str, end: &str) -> String {
    let mut names = backend.list(prefix).unwrap().into_iter();
    names.find(|file| file.name.ends_with(end)).unwrap().name
}

/// Changes the first `from` in the file to `to`.
fn damage(backend: &MemoryBackend, file: &str, from: &str, to: &str) {
    let text = String::from_utf8(backend.read(file).unwrap()).unwrap();
    assert!(text.contains(from), "{text}");
    let changed = text.replacen(from, to, 1);
    backend.put(file, changed.as_bytes()).unwrap();
}

/// The documents, and those of the segment `old`.
fn content(backend: &MemoryBackend) -> [BTreeMap<String, String>; 2] {
    let store = open(backend);
    let entries = store.entries().unwrap().into_iter();
    let documents = entries.map(|(id, document)| (id, document.to_string()));
    let archived = store.load_archive("old").unwrap_or_default().into_iter();
    let archived = archived.map(|(id, document)| (id, document.to_string()));
    [documents.collect(), archived.collect()]
}

/// Repairs the store; nothing may be wrong with it then.
fn repair(backend: &MemoryBackend) -> RepairReport {
    let report = opslog::repair_backend(backend).unwrap();
    assert!(opslog::verify_backend(backend).unwrap().is_sound());
    report
}

#[track_caller]
fn assert_certain(report: &RepairReport, recovered: &[&str]) {
    assert_eq!(report.recovered, recovered, "{report:?}");
    let uncertain = [&report.doubtful, &report.differing, &report.lost];
    assert!(uncertain.iter().all(|ids| ids.is_empty()), "{report:?}");
}

#[test]
fn an_operation_behind_an_archive_is_believed_and_not_the_damaged_snapshot() {
    for (from, to, recovered) in [
        ("\"word0\"", "\"wird0\"", "id0"),
        ("\"word4\"", "\"word4", "id4"),
        ("\"again\"", "\"agoin\"", "id2"),
        ("\"id5\"", "\"ix5\"", "id5"),
        // A document that is in the archive, and was not in the snapshot.
        ("\"id5\"", "\"id1\"", "id5"),
    ] {
        let backend = store();
        let truth = content(&backend);
        damage(&backend, &name(&backend, "snapshots/", ".jsonl"), from, to);
        let report = repair(&backend);
        assert_certain(&report, &[recovered]);
        assert_eq!(content(&backend), truth, "{from} {to}");
    }
}

#[test]
fn a_snapshot_that_is_missing_comes_back_without_what_an_archive_took() {
    let backend = store();
    let truth = content(&backend);
    let snapshot = name(&backend, "snapshots/", ".jsonl");
    backend.delete(&snapshot).unwrap();
    assert_certain(&repair(&backend), &["id0", "id2", "id3", "id4", "id5"]);
    assert_eq!(content(&backend), truth);
}

#[test]
fn after_a_migration_a_text_that_differs_is_kept_and_named_apart() {
    let backend = store();
    let migrated = Store::<serde_json::Value>::builder()
        .version(2)
        .migrate(|mut document, _| {
            document["two"] = json!(2);
            Ok(document)
        })
        .open_backend(backend.clone());
    let migrated: Store = migrated.unwrap();
    migrated.set("id0", &json!({"word": "after"})).unwrap();
    migrated.compact().unwrap();
    migrated.close().unwrap();
    let snapshot = name(&backend, "snapshots/", ".jsonl");
    damage(&backend, &snapshot, "\"after\"", "\"aftur\"");
    damage(&backend, &snapshot, "\"word5\"", "\"word6\"");
    let report = repair(&backend);
    assert_eq!(report.recovered, ["id0"], "{report:?}");
    assert_eq!(report.differing, ["id2", "id3", "id4", "id5"], "{report:?}");
    assert_eq!(report.doubtful, report.differing);
    let [documents, _] = content(&backend);
    assert_eq!(documents["id0"], "{\"word\":\"after\"}");
    assert_eq!(documents["id3"], "{\"word\":\"new\",\"two\":2}");
}

#[test]
fn a_damaged_segment_gets_back_what_the_operations_say() {
    for (from, to, recovered) in [
        ("\"word1\"", "\"wird1\"", "id1"),
        ("\"word2\"", "\"word2", "id2"),
        ("\"id1\"", "\"ix1\"", "id1"),
        ("\"id1\"", "id1\"", "id1"),
    ] {
        let backend = store();
        let truth = content(&backend);
        damage(&backend, &name(&backend, "archive/", ".json"), from, to);
        let report = repair(&backend);
        assert_certain(&report, &[recovered]);
        assert_eq!(report.kept.len(), 1, "{report:?}");
        assert_eq!(content(&backend), truth, "{from} {to}");
    }
}

#[test]
fn a_segment_that_is_missing_is_made_anew_from_the_operations() {
    let backend = store();
    let truth = content(&backend);
    let segment = name(&backend, "archive/", ".json");
    backend.delete(&segment).unwrap();
    let planned = opslog::plan_repair_backend(&backend).unwrap();
    let report = repair(&backend);
    assert_eq!(planned.recovered, report.recovered);
    assert_certain(&report, &["id1", "id2"]);
    assert_eq!(content(&backend), truth);
}

#[test]
fn a_missing_segment_whose_operations_are_no_longer_kept_is_told_in_numbers() {
    let backend = store();
    let first = name(&backend, "ops/", ".jsonl");
    backend.delete(&first).unwrap();
    repair(&backend);
    let segment = name(&backend, "archive/", ".json");
    backend.delete(&segment).unwrap();
    let report = repair(&backend);
    let [part] = &report.unreadable[..] else {
        panic!("{report:?}");
    };
    assert_eq!(part.place.path, segment);
    let told = "it is missing; 2 of its 2 documents could not be brought back";
    assert_eq!(part.place.reason, told);
    assert_eq!(report.nameless, 2);
}

#[test]
fn documents_from_before_the_numbers_began_anew_are_kept() {
    let backend = store();
    backend.delete("manifest.json").unwrap();
    for log in backend.list("ops/").unwrap() {
        backend.delete(&log.name).unwrap();
    }
    repair(&backend);
    let store = open(&backend);
    store.set("next", &json!({"word": "next"})).unwrap();
    store.compact().unwrap();
    store.close().unwrap();
    let truth = content(&backend);
    let snapshot = name(&backend, "snapshots/", ".jsonl");
    damage(
        &backend,
        &snapshot,
        "\"word\":\"next\"",
        "\"word\":\"nixt\"",
    );
    let report = repair(&backend);
    assert_eq!(report.recovered, ["next"], "{report:?}");
    assert_eq!(report.doubtful.len(), 5, "{report:?}");
    assert_eq!(content(&backend)[0], truth[0]);
}

/// Ten documents that two agents wrote before a single writer came, and an agent after it.
fn store_of_agents_again() -> MemoryBackend {
    let backend = MemoryBackend::new();
    let agent = |name: &str| -> Store {
        let builder = Store::builder().agent_id(name);
        builder.open_backend(backend.clone()).unwrap()
    };
    for name in ["ann", "ben"] {
        let store = agent(name);
        for n in 0..5 {
            let text = json!({"by": name, "number": n});
            store.set(&format!("{name}{n}"), &text).unwrap();
        }
        store.set("both", &json!({"by": name})).unwrap();
        store.close().unwrap();
    }
    let single: Store = Store::builder().open_backend(backend.clone()).unwrap();
    single.set("single", &json!({})).unwrap();
    single.close().unwrap();
    let ann = agent("ann");
    ann.set("again", &json!({})).unwrap();
    ann.delete("ann4").unwrap();
    drop(ann);
    backend
}

#[test]
fn what_agents_wrote_before_a_single_writer_came_comes_back() {
    for (from, to) in [
        // The line is no document any more, with the id and without.
        ("\"ben\",\"number\":3", "\"ben\",\"number\"?3"),
        ("{\"id\":\"ben3\",", "{\"?d\":\"ben3\","),
        // It is another document.
        ("{\"id\":\"ben3\"", "{\"id\":\"ban3\""),
    ] {
        let backend = store_of_agents_again();
        let [truth, _] = content(&store_of_agents_again());
        let snapshot = name(&backend, "snapshots/", ".jsonl");
        damage(&backend, &snapshot, from, to);
        assert_certain(&repair(&backend), &["ben3"]);
        assert_eq!(content(&backend)[0], truth, "{from} {to}");
    }
}

#[test]
fn of_agents_too_a_migrated_text_is_not_replaced_by_the_one_before() {
    let backend = store_of_agents_again();
    let migrated: Store = Store::builder()
        .version(2)
        .migrate(|mut document: serde_json::Value, _| {
            document["two"] = json!(2);
            Ok(document)
        })
        .open_backend(backend.clone())
        .unwrap();
    migrated.close().unwrap();
    let ann = Store::<serde_json::Value>::builder().agent_id("ann");
    let ann = ann.version(2).checkpoint_on_close(false);
    let ann = ann.open_backend(backend.clone()).unwrap();
    ann.set("new", &json!({"word": "new"})).unwrap();
    ann.compact().unwrap();
    drop(ann);
    let copy = MemoryBackend::new();
    for file in backend.list("").unwrap() {
        copy.put(&file.name, &backend.read(&file.name).unwrap())
            .unwrap();
    }
    let [mut truth, _] = content(&copy);
    let snapshot = name(&backend, "snapshots/", ".jsonl");
    damage(&backend, &snapshot, "\"word\":\"new\"", "\"word\":\"nex\"");
    damage(&backend, &snapshot, "\"number\":3", "\"number\":4");
    let report = repair(&backend);
    assert_eq!(report.recovered, ["new"], "{report:?}");
    assert!(report.differing.contains(&"ann3".to_owned()), "{report:?}");
    truth.insert(
        "ann3".to_owned(),
        "{\"by\":\"ann\",\"number\":4,\"two\":2}".to_owned(),
    );
    assert_eq!(content(&backend)[0], truth);
}

/// An operation that does not know what was before it is not the first one of a document that came back.
#[test]
fn what_was_written_blindly_and_archived_stays_in_the_archive() {
    for skip_load in [false, true] {
        let backend = MemoryBackend::new();
        let store = open(&backend);
        for n in 0..6 {
            let text = json!({"word": format!("word{n}")});
            store.set(&format!("id{n}"), &text).unwrap();
        }
        store.compact().unwrap();
        store.close().unwrap();
        let builder = Store::builder().skip_load(skip_load);
        let builder = builder.checkpoint_on_close(false);
        let store: Store = builder.open_backend(backend.clone()).unwrap();
        store.set("id1", &json!({"word": "word1"})).unwrap();
        store.close().unwrap();
        let store = open(&backend);
        let last = store.history("id1").unwrap().pop().unwrap();
        assert_eq!(last.blind, skip_load);
        store
            .archive(|_: &_, id: &str| id == "id1", Some("old"))
            .unwrap();
        store.set("id5", &json!({"word": "new"})).unwrap();
        store.compact().unwrap();
        store.close().unwrap();
        let snapshot = name(&backend, "snapshots/", ".jsonl");
        damage(&backend, &snapshot, "word0", "wxrd0");
        repair(&backend);
        let [documents, archived] = content(&backend);
        let ids: Vec<&String> = documents.keys().collect();
        assert_eq!(ids, ["id0", "id2", "id3", "id4", "id5"]);
        assert_eq!(archived.keys().collect::<Vec<_>>(), ["id1"]);
    }
}
