//! `Residency::OnDemand` and `ChangesOnly`: a store whose documents stay on storage says the same as one that has them in memory.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails where it stands, and says its seed"
)]

use std::path::Path;

use opslog::backend::Backend;
use opslog::{
    CheckpointMode, ErrorKind, FsBackend, MemoryBackend, Residency, Store, StoreBuilder, UndoMode,
    Write, WriteMode,
};
use serde_json::{Value, json};

#[path = "agents_proof/hooked.rs"]
#[allow(dead_code, reason = "some of it is for the tests of agents")]
mod hooked;

use hooked::Hooked;

const ON_DEMAND: Residency = Residency::OnDemand { cache_bytes: 4096 };

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn id(&mut self) -> String {
        ["é \"quoted\"", "__proto__", "line\nbreak", "🦀"]
            .get(usize::try_from(self.below(64)).unwrap())
            .map_or_else(|| format!("id-{}", self.below(150)), ToString::to_string)
    }

    fn document(&mut self) -> Value {
        json!({"n": self.below(1_000_000), "kind": self.below(5), "text": "x".repeat(usize::try_from(self.below(300)).unwrap())})
    }
}

fn builder(residency: Residency, seed: u64) -> StoreBuilder<Value> {
    let mut random = Random(seed);
    let modes = [
        WriteMode::Immediate,
        WriteMode::group(),
        WriteMode::asynchronous(),
    ];
    let undo = [UndoMode::Truncate, UndoMode::Append];
    Store::builder()
        .residency(residency)
        .write_mode(modes[usize::try_from(random.below(3)).unwrap()])
        .undo_mode(undo[usize::try_from(random.below(2)).unwrap()])
        // An undo of a sealed delete puts the document last: checkpoints must come at the same operation in both stores.
        .checkpoint_mode(CheckpointMode::Blocking)
        .checkpoint_threshold(20 + random.below(60))
}

fn compare(ours: &Store, model: &Store, random: &mut Random) {
    assert_eq!(ours.count().unwrap(), model.count().unwrap());
    assert!(ours.entries().unwrap() == model.entries().unwrap());
    for _ in 0..30 {
        let id = random.id();
        assert_eq!(ours.get(&id).unwrap(), model.get(&id).unwrap(), "{id}");
        assert_eq!(ours.get_json(&id).unwrap(), model.get_json(&id).unwrap());
        assert_eq!(ours.has(&id).unwrap(), model.has(&id).unwrap(), "{id}");
    }
    let id = random.id();
    let data = |store: &Store| -> Vec<_> {
        let history = store.history(&id).unwrap();
        history
            .into_iter()
            .map(|op| (op.kind, op.id, op.prev, op.data))
            .collect()
    };
    assert!(data(ours) == data(model));
    let kind = |document: &Value, _: &str| document["kind"] == 3;
    assert_eq!(ours.filter(kind).unwrap(), model.filter(kind).unwrap());
    assert_eq!(
        ours.count_where(kind).unwrap(),
        model.count_where(kind).unwrap()
    );
    let view = ours.view().unwrap();
    let in_model = model.view().unwrap();
    assert_eq!(view.len(), in_model.len());
    for (entry, expected) in view.iter().zip(in_model.iter()) {
        let (entry, expected) = (entry.unwrap(), expected.unwrap());
        assert_eq!((entry.id(), entry.json()), (expected.id(), expected.json()));
        assert_eq!(entry.shared_json(), expected.shared_json());
    }
}

/// Does the same to both stores.
fn step(ours: &Store, model: &Store, random: &mut Random, archives: &mut u64) {
    match random.below(100) {
        0..50 => {
            let (id, document) = (random.id(), random.document());
            ours.set(&id, &document).unwrap();
            model.set(&id, &document).unwrap();
        }
        50..65 => {
            let id = random.id();
            let ours = ours.delete(&id).map_err(|error| error.kind());
            assert_eq!(ours, model.delete(&id).map_err(|error| error.kind()));
        }
        65..72 => {
            let id = random.id();
            for store in [ours, model] {
                let _ = store.delete(&id);
                store.set(&id, &json!({"again": true})).unwrap();
            }
        }
        72..80 => {
            let ids: Vec<String> = (0..random.below(8)).map(|_| random.id()).collect();
            let document = random.document();
            let fill = |store: &Store| {
                store.batch(|batch| {
                    for (n, id) in ids.iter().enumerate() {
                        if n % 3 == 2 && batch.has(id)? {
                            batch.delete(id)?;
                        } else {
                            batch.set(id, &document)?;
                        }
                    }
                    Ok((batch.count()?, batch.entries()?))
                })
            };
            assert!(fill(ours).unwrap() == fill(model).unwrap());
        }
        80..94 => assert_eq!(ours.undo().unwrap(), model.undo().unwrap()),
        94..97 => {
            ours.compact().unwrap();
            model.compact().unwrap();
        }
        97 | 98 if *archives < 3 => {
            *archives += 1;
            let old = |document: &Value, _: &str| document["kind"] == 1;
            let moved = ours.archive(old, Some("old")).unwrap();
            assert_eq!(moved, model.archive(old, Some("old")).unwrap());
            if moved > 0 {
                assert_eq!(
                    ours.load_archive("old").unwrap(),
                    model.load_archive("old").unwrap()
                );
            }
        }
        _ => {
            ours.flush().unwrap();
            model.flush().unwrap();
        }
    }
}

/// The same random calls on both kinds of store, closed and opened again in between.
fn run(seed: u64, open: &dyn Fn(StoreBuilder<Value>) -> Store) {
    let mut random = Random(seed);
    let memory = MemoryBackend::new();
    let mut archives = 0;
    for round in 0..8 {
        let settings = random.below(1 << 20);
        // Now and then the directory is used by a store that has its documents in memory.
        let residency = match round {
            5 => Residency::Memory,
            _ if seed % 2 == 1 => Residency::ChangesOnly,
            _ => ON_DEMAND,
        };
        let ours = open(builder(residency, settings));
        let model = builder(Residency::Memory, settings)
            .open_backend(memory.clone())
            .unwrap();
        compare(&ours, &model, &mut random);
        for n in 0..60 {
            step(&ours, &model, &mut random, &mut archives);
            if n % 20 == 0 {
                compare(&ours, &model, &mut random);
            }
        }
        compare(&ours, &model, &mut random);
        if random.below(3) > 0 {
            ours.close().unwrap();
            model.close().unwrap();
        }
    }
}

#[test]
fn an_on_demand_store_says_what_a_resident_one_says() {
    for seed in 0..8 {
        println!("seed {seed}");
        let backend = MemoryBackend::new();
        run(seed, &|builder| {
            builder.open_backend(backend.clone()).unwrap()
        });
    }
}

#[test]
fn an_on_demand_store_in_a_directory_says_what_a_resident_one_says() {
    for seed in 100..102 {
        println!("seed {seed}");
        let directory = tempfile::tempdir().unwrap();
        run(seed, &|builder| {
            builder.os_buffered(true).open(directory.path()).unwrap()
        });
    }
}

fn fill(store: &Store, documents: u32) {
    store
        .batch(|batch| {
            for n in 0..documents {
                batch.set(&format!("id-{n}"), &json!({"n": n, "text": "some text"}))?;
            }
            Ok(())
        })
        .unwrap();
}

fn index_names(backend: &dyn Backend) -> Vec<String> {
    let objects = backend.list("snapshots/").unwrap().into_iter();
    let names = objects.map(|object| object.name);
    names
        .filter(|name| Path::new(name).extension() == Some("index".as_ref()))
        .collect()
}

fn right_answers(store: &Store) {
    assert_eq!(store.count().unwrap(), 1000);
    for n in 0..1000 {
        let document = store.get(&format!("id-{n}")).unwrap();
        assert_eq!(document.expect("it is there")["n"], n);
    }
    assert!(!store.has("id-1000").unwrap());
    assert_eq!(store.entries().unwrap()[999].0, "id-999");
}

#[test]
fn an_index_goes_with_its_snapshot() {
    let backend = MemoryBackend::new();
    let store = builder(ON_DEMAND, 1).open_backend(backend.clone()).unwrap();
    for _ in 0..3 {
        fill(&store, 100);
        store.compact().unwrap();
        let snapshot = store.manifest().unwrap().current_snapshot;
        assert_eq!(
            index_names(&backend),
            [snapshot.replace(".jsonl", ".index")]
        );
    }
    store.close().unwrap();
    let stray = "snapshots/snap-5.index";
    backend.put(stray, b"left by a crash").unwrap();
    let store = builder(Residency::Memory, 1)
        .open_backend(backend.clone())
        .unwrap();
    assert_eq!(index_names(&backend).len(), 1);
    assert!(backend.read(stray).is_err());
    store.set("another", &json!({})).unwrap();
    store.compact().unwrap();
    assert!(index_names(&backend).is_empty());
}

#[test]
fn answers_are_right_whatever_became_of_the_index() {
    let backend = MemoryBackend::new();
    let store = builder(ON_DEMAND, 1).open_backend(backend.clone()).unwrap();
    fill(&store, 999);
    store.compact().unwrap();
    let name = index_names(&backend).remove(0);
    let foreign = backend.read(&name).unwrap();
    fill(&store, 1000);
    store.compact().unwrap();
    drop(store);
    let name = index_names(&backend).remove(0);
    let good = backend.read(&name).unwrap();
    let mut bad = vec![
        None,
        Some(foreign),
        Some(Vec::new()),
        Some(good[..good.len() / 2].to_vec()),
    ];
    for position in (0..good.len()).step_by(good.len() / 23) {
        let mut flipped = good.clone();
        flipped[position] ^= 8;
        bad.push(Some(flipped));
    }
    for bad in bad {
        for read_only in [true, false] {
            match &bad {
                Some(bytes) => backend.put(&name, bytes).unwrap(),
                None => backend.delete(&name).unwrap(),
            }
            let store = builder(ON_DEMAND, 1)
                .read_only(read_only)
                .checkpoint_on_close(false)
                .open_backend(backend.clone())
                .unwrap();
            right_answers(&store);
            if read_only {
                assert_eq!(backend.read(&name).ok(), bad, "nothing was written");
            } else {
                store.set("id-7", &json!({"n": 7})).unwrap();
                right_answers(&store);
            }
        }
    }
}

#[test]
fn a_reader_follows_checkpoints_and_lets_old_snapshots_go() {
    for seed in 0..5 {
        let mut random = Random(seed);
        let directory = tempfile::tempdir().unwrap();
        let residency = [ON_DEMAND, Residency::ChangesOnly][usize::try_from(seed % 2).unwrap()];
        let writer = builder(residency, seed)
            .os_buffered(true)
            .open(directory.path())
            .unwrap();
        let reader = builder(residency, seed)
            .read_only(true)
            .open(directory.path())
            .unwrap();
        let model = builder(Residency::Memory, seed)
            .open_backend(MemoryBackend::new())
            .unwrap();
        let mut archives = 0;
        for round in 0..25 {
            for _ in 0..random.below(30) {
                step(&writer, &model, &mut random, &mut archives);
            }
            writer.flush().unwrap();
            if round % 3 == 0 {
                writer.compact().unwrap();
                model.compact().unwrap();
            }
            reader.refresh().unwrap();
            compare(&reader, &writer, &mut random);
            if round % 3 == 0 {
                assert_eq!(open_and_deleted(directory.path()), 0, "seed {seed}");
            }
        }
    }
}

/// How many snapshots in `directory` this process holds open though they are deleted; 0 where the system does not say.
fn open_and_deleted(directory: &Path) -> usize {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else {
        return 0;
    };
    let prefix = directory.join("snapshots");
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let deleted = targets.filter(|target| {
        target.starts_with(&prefix) && target.to_string_lossy().ends_with("(deleted)")
    });
    deleted.count()
}

/// What a line says of the document before it may be wrong when an earlier line is lost.
#[test]
fn a_log_with_a_lost_line_gives_the_same_documents() {
    let backend = MemoryBackend::new();
    let store = builder(Residency::Memory, 1)
        .write_mode(WriteMode::Immediate)
        .checkpoint_threshold(1000)
        .open_backend(backend.clone())
        .unwrap();
    for id in ["a", "b", "c"] {
        store.set(id, &json!({"in": "snapshot"})).unwrap();
    }
    store.compact().unwrap();
    for id in ["b", "d"] {
        for n in 0..2 {
            store.set(id, &json!({"n": n})).unwrap();
            store.delete(id).unwrap();
        }
        store.set(id, &json!({"last": true})).unwrap();
        store.set(id, &json!({"very": "last"})).unwrap();
    }
    let log_name = store.manifest().unwrap().active_ops;
    drop(store);
    let log = backend.read(&log_name).unwrap();
    let starts = log.split(|byte| *byte == b'\n').scan(0, |start, line| {
        let this = *start;
        *start += line.len() + 1;
        (!line.is_empty()).then_some(this)
    });
    for start in starts.collect::<Vec<_>>() {
        let mut damaged = log.clone();
        damaged[start + 3] ^= 1;
        backend.put(&log_name, &damaged).unwrap();
        let entries = |residency| {
            let builder = builder(residency, 1).read_only(true);
            let store = builder.open_backend(backend.clone()).unwrap();
            assert_eq!(store.count().unwrap(), store.entries().unwrap().len());
            store.entries().unwrap()
        };
        assert_eq!(entries(ON_DEMAND), entries(Residency::Memory), "{start}");
    }
}

#[test]
fn a_view_outlives_its_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let store = builder(ON_DEMAND, 3).open(directory.path()).unwrap();
    fill(&store, 1000);
    store.compact().unwrap();
    let view = store.view().unwrap();
    for n in 0..3 {
        store.set("id-5", &json!({"n": n})).unwrap();
        store.delete(&format!("id-{}", n + 10)).unwrap();
        store.compact().unwrap();
    }
    assert_eq!(view.len(), 1000);
    let seen: Vec<_> = view.iter().map(|entry| entry.unwrap().json()).collect();
    assert_eq!(seen.len(), 1000);
    assert_eq!(seen[5].decode::<Value>().unwrap()["n"], 5);
}

#[test]
fn a_migration_changes_every_document() {
    let backend = MemoryBackend::new();
    let store = builder(ON_DEMAND, 3).open_backend(backend.clone()).unwrap();
    fill(&store, 1000);
    store.compact().unwrap();
    store.set("id-3", &json!({"n": 33})).unwrap();
    store.delete("id-4").unwrap();
    store.close().unwrap();
    for (version, read_only) in [(2, true), (2, false), (3, false)] {
        let store = builder(ON_DEMAND, 3)
            .version(version)
            .read_only(read_only)
            .migrate(|mut document, from| {
                document["from"] = json!(from);
                Ok(document)
            })
            .open_backend(backend.clone())
            .unwrap();
        assert_eq!(store.count().unwrap(), 999);
        let migrated = store.count_where(|document, _| document["from"] == version - 1);
        assert_eq!(migrated.unwrap(), 999);
        assert_eq!(store.get("id-3").unwrap().unwrap()["n"], 33);
        assert!(!store.undo().unwrap_or(false));
        store.close().unwrap();
    }
}

/// A store of the reference has no checksums, or is one JSON object: it works, and the first checkpoint brings it to the present form.
#[test]
fn stores_of_the_reference_are_read_on_demand_too() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference");
    for entry in std::fs::read_dir(fixtures).unwrap() {
        let fixture = entry.unwrap().path();
        let backend = MemoryBackend::new();
        copy(&FsBackend::new(&fixture), &backend);
        let Ok(resident) = builder(Residency::Memory, 1)
            .read_only(true)
            .open_backend(backend.clone())
        else {
            continue;
        };
        let expected = resident.entries().unwrap();
        let version = resident.manifest().unwrap().version;
        drop(resident);
        let store = builder(ON_DEMAND, 1)
            .version(version)
            .open_backend(backend.clone())
            .unwrap();
        assert_eq!(store.entries().unwrap(), expected, "{}", fixture.display());
        store.set("new", &json!({})).unwrap();
        store.compact().unwrap();
        for (id, document) in &expected {
            assert_eq!(store.get(id).unwrap().as_ref(), Some(document));
        }
        assert_eq!(index_names(&backend).len(), 1);
    }
}

fn copy(from: &FsBackend, to: &MemoryBackend) {
    for object in from.list("").unwrap() {
        to.put(&object.name, &from.read(&object.name).unwrap())
            .unwrap();
    }
}

/// The real documents, or made ones where the file is not there.
fn documents() -> Vec<Value> {
    match std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/packages.jsonl"
    )) {
        Ok(text) => text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
        Err(_) => (0..5000)
            .map(|n| json!({"n": n, "text": "x".repeat(300)}))
            .collect(),
    }
}

#[test]
fn memory_stays_within_the_budget() {
    memory_stays_within(CheckpointMode::Blocking);
}

#[test]
fn memory_stays_within_the_budget_beside_checkpoints_in_the_background() {
    memory_stays_within(CheckpointMode::Background);
}

fn memory_stays_within(mode: CheckpointMode) {
    let budget = 3 << 20;
    let directory = tempfile::tempdir().unwrap();
    let store: Store = Store::builder()
        .residency(Residency::OnDemand {
            cache_bytes: budget,
        })
        .checkpoint_mode(mode)
        .write_mode(WriteMode::group())
        .os_buffered(true)
        .open(directory.path())
        .unwrap();
    let documents = documents();
    let within = || {
        let bytes = store.stats().unwrap().memory_bytes;
        assert!(bytes <= budget as u64, "{bytes}");
    };
    for (n, document) in documents.iter().enumerate() {
        store.set(&format!("package-{n}"), document).unwrap();
        within();
    }
    assert_eq!(store.count().unwrap(), documents.len());
    let mut random = Random(9);
    for n in 0..documents.len() {
        let at = usize::try_from(random.below(documents.len() as u64)).unwrap();
        let id = format!("package-{at}");
        assert_eq!(*store.get(&id).unwrap().unwrap(), documents[at], "{n}");
        within();
    }
    for (n, (id, document)) in store.entries().unwrap().into_iter().enumerate() {
        assert_eq!(id, format!("package-{n}"));
        assert_eq!(*document, documents[n]);
    }
}

/// What a reader of a newer version has migrated is in memory, and stays migrated.
#[test]
fn a_reader_that_migrates_follows_checkpoints() {
    for residency in [Residency::Memory, ON_DEMAND, Residency::ChangesOnly] {
        let memory = MemoryBackend::new();
        let writer: Store = Store::builder().open_backend(memory.clone()).unwrap();
        writer.set("a", &json!({})).unwrap();
        for filled in [false, true] {
            if filled {
                writer.compact().unwrap();
            }
            let reader: Store = Store::builder()
                .residency(residency)
                .read_only(true)
                .version(2)
                .migrate(|mut document, _| {
                    document["version"] = json!(2);
                    Ok(document)
                })
                .open_backend(memory.clone())
                .unwrap();
            writer.set("b", &json!({})).unwrap();
            writer.compact().unwrap();
            writer.set("c", &json!({})).unwrap();
            reader.tail().unwrap();
            for (id, document) in reader.entries().unwrap() {
                assert_eq!(*document, json!({"version": 2}), "{id}");
            }
            assert_eq!(reader.count().unwrap(), 3);
        }
    }
}

#[test]
fn a_snapshot_that_gets_shorter_while_it_is_read_is_an_error() {
    for length in [0, 1 << 20, (1 << 20) + 5000, (3 << 20) + 5000] {
        let directory = tempfile::tempdir().unwrap();
        let store: Store = Store::builder()
            .residency(Residency::ChangesOnly)
            .os_buffered(true)
            .open(directory.path())
            .unwrap();
        store
            .batch(|batch| {
                let document = json!({"text": "x".repeat(1000)});
                (0..4000).try_for_each(|n| batch.set(&format!("id-{n}"), &document))
            })
            .unwrap();
        store.compact().unwrap();
        let view = store.view().unwrap();
        let mut entries = view.iter();
        assert!(entries.by_ref().take(2000).all(|entry| entry.is_ok()));
        let snapshot = store.manifest().unwrap().current_snapshot;
        let path = directory.path().join(snapshot);
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(length).unwrap();
        let error = entries.find_map(Result::err).expect("it is noticed");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let error = store.compact().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn what_has_changed_since_the_snapshot_is_kept_whatever_it_takes_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let store: Store = Store::builder()
        .residency(Residency::ChangesOnly)
        .checkpoint_threshold(u64::MAX)
        .write_mode(WriteMode::group())
        .os_buffered(true)
        .open(directory.path())
        .unwrap();
    let memory = || store.stats().unwrap().memory_bytes;
    let documents = documents();
    let mut bytes = 0;
    for (n, document) in documents.iter().enumerate() {
        let id = format!("package-{n}");
        store.set(&id, document).unwrap();
        bytes += (id.len() + document.to_string().len()) as u64;
    }
    assert_eq!(
        store.stats().unwrap().ops_since_checkpoint,
        documents.len() as u64
    );
    assert_eq!(memory(), bytes);
    store.compact().unwrap();
    assert_eq!(memory(), 0);
    store.set("package-1", &json!({"n": 1})).unwrap();
    let changed = memory();
    for (n, (id, document)) in store.entries().unwrap().into_iter().enumerate().skip(2) {
        assert_eq!((id, &*document), (format!("package-{n}"), &documents[n]));
        assert_eq!(
            *store.get(&format!("package-{n}")).unwrap().unwrap(),
            documents[n]
        );
    }
    assert_eq!(memory(), changed);
}

/// A document that is deleted and set again is the last one, also where that comes while a reader moves to a new snapshot.
#[test]
fn a_reader_that_moves_to_a_new_snapshot_keeps_the_order() {
    let ids = |store: &Store| -> Vec<String> {
        let entries = store.entries().unwrap().into_iter();
        entries.map(|(id, _)| id).collect()
    };
    for calls in 0.. {
        let memory = MemoryBackend::new();
        let writer: Store = Store::builder().open_backend(memory.clone()).unwrap();
        for id in ["z", "a", "y"] {
            writer.set(id, &json!({})).unwrap();
        }
        let backend = Hooked::new(memory);
        let reader: Store = Store::builder()
            .read_only(true)
            .residency(ON_DEMAND)
            .open_backend(backend.clone())
            .unwrap();
        writer.compact().unwrap();
        writer.set("c", &json!({})).unwrap();
        let beside = writer.clone();
        backend.before(calls, move || {
            beside.delete("a").unwrap();
            beside.set("a", &json!({"n": 2})).unwrap();
            beside.set("b", &json!({})).unwrap();
        });
        let mut told = reader.tail().unwrap().operations.len();
        if backend.clear() {
            // The look has fewer calls.
            assert!(calls > 5);
            break;
        }
        told += reader.tail().unwrap().operations.len();
        assert_eq!(ids(&reader), ids(&writer), "before call {calls}");
        assert_eq!(told, 4, "before call {calls}");
    }
}

/// Writes `to` in the place of every `from` in the snapshot's file, which whoever has it open sees.
fn overwrite(store: &Store, directory: &Path, from: &str, to: &str) {
    let path = directory.join(store.manifest().unwrap().current_snapshot);
    let text = std::fs::read_to_string(&path).unwrap().replace(from, to);
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// All ids, and a number of each document.
fn numbers(store: &Store) -> Vec<(String, i64)> {
    let entries = store.entries().unwrap().into_iter();
    let n = |document: &Value| document["n"].as_i64().unwrap();
    entries.map(|(id, document)| (id, n(&document))).collect()
}

fn assert_corrupt<V: std::fmt::Debug>(result: opslog::Result<V>) {
    let error = result.expect_err("it cannot be read");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn what_is_accepted_already_is_written_though_what_was_before_cannot_be_read() {
    let set = |id, json| Write::Set { id, json };
    let modes = [
        WriteMode::Immediate,
        WriteMode::group(),
        WriteMode::asynchronous(),
    ];
    for (residency, mode, undo) in [ON_DEMAND, Residency::ChangesOnly]
        .into_iter()
        .flat_map(|residency| modes.map(|mode| (residency, mode)))
        .flat_map(|(r, m)| [UndoMode::Truncate, UndoMode::Append].map(|undo| (r, m, undo)))
    {
        let directory = tempfile::tempdir().unwrap();
        let open = || -> Store {
            Store::builder()
                .residency(residency)
                .write_mode(mode)
                .undo_mode(undo)
                .checkpoint_on_close(false)
                .os_buffered(true)
                .open(directory.path())
                .unwrap()
        };
        let store = open();
        fill(&store, 10);
        store.compact().unwrap();
        let index = index_names(&FsBackend::new(directory.path())).remove(0);
        let index = directory.path().join(index);
        let sound = std::fs::read(&index).unwrap();
        overwrite(&store, directory.path(), "some text", "xome text");
        // Neither says the index whether there is a document, nor can it be built anew.
        std::fs::write(&index, vec![b'x'; sound.len()]).unwrap();

        assert_corrupt(store.set("id-3", &json!({"n": 33})));
        assert_corrupt(store.delete("id-4"));
        assert_corrupt(store.batch(|batch| batch.set("id-5", &json!({"n": 55}))));
        let accept = |write, existed| store.write_accepted(write, existed).unwrap();
        accept(set("id-3", r#"{"n":33}"#), true);
        accept(Write::Delete { id: "id-4" }, true);
        accept(set("id-5", r#"{"n":55}"#), true);
        accept(set("id-5", r#"{"n":56}"#), true);
        accept(set("new", r#"{"n":1}"#), false);
        store.flush().unwrap();

        assert_eq!(store.count().unwrap(), 10);
        assert_eq!(store.get("id-3").unwrap().unwrap()["n"], 33);
        assert!(!store.has("id-4").unwrap() && store.has("new").unwrap());
        assert_corrupt(store.get("id-7"));
        assert_corrupt(store.compact());
        let operations = store.ops(opslog::Since::Start).unwrap().split_off(10);
        let blind: Vec<bool> = operations.iter().map(|operation| operation.blind).collect();
        assert_eq!(blind, [true, true, true, false, true]);
        let known: Vec<bool> = operations.iter().map(|op| op.prev.is_some()).collect();
        assert_eq!(known, [false, false, false, true, false]);
        let refused = match undo {
            UndoMode::Truncate => ErrorKind::Corrupt,
            _ => ErrorKind::Conflict,
        };
        assert_eq!(store.undo().unwrap_err().kind(), refused);
        if undo == UndoMode::Truncate {
            // What knows what was before it is taken back whatever can be read.
            store.delete("new").unwrap();
            let undone = store.undo_commit().unwrap().unwrap();
            assert_eq!(undone[0].document.as_ref().unwrap().as_str(), r#"{"n":1}"#);
        }
        assert_eq!(store.get("new").unwrap().unwrap()["n"], 1);
        assert_eq!(store.count().unwrap(), 10);
        let kept = [0, 1, 2, 3, 5, 6, 7, 8, 9].map(|n| format!("id-{n}"));
        let kept = kept.into_iter().chain(["new".to_owned()]);
        let expected: Vec<_> = kept.zip([0, 1, 2, 33, 56, 6, 7, 8, 9, 1]).collect();
        overwrite(&store, directory.path(), "xome text", "some text");
        assert_eq!(numbers(&store), expected);
        store.close().unwrap();

        std::fs::write(&index, sound).unwrap();
        let store = open();
        assert_eq!(numbers(&store), expected);
        if undo == UndoMode::Truncate {
            let undo = || {
                let mut undone = store.undo_commit().unwrap().unwrap();
                assert_eq!(undone.len(), 1);
                let undone = undone.remove(0);
                (
                    undone.id,
                    undone.document.map(|json| json.as_str().to_owned()),
                )
            };
            assert_eq!(undo(), ("new".to_owned(), None));
            assert_eq!(undo(), ("id-5".to_owned(), Some(r#"{"n":55}"#.to_owned())));
            store.undo().unwrap();
            assert_eq!(store.get("id-5").unwrap().unwrap()["n"], 5);
            store.set("id-5", &json!({"n": 56})).unwrap();
            store.set("new", &json!({"n": 1})).unwrap();
        }
        store.compact().unwrap();
        assert_eq!(numbers(&store), expected);
        store.close().unwrap();
        let store: Store = Store::builder().open(directory.path()).unwrap();
        assert_eq!(numbers(&store), expected);
    }
}

#[test]
fn an_undo_that_could_not_say_what_was_before_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let open = || -> Store {
        Store::builder()
            .residency(Residency::ChangesOnly)
            .checkpoint_on_close(false)
            .open(directory.path())
            .unwrap()
    };
    let store = open();
    fill(&store, 10);
    store.compact().unwrap();
    overwrite(&store, directory.path(), "some text", "xome text");
    let json = r#"{"n":33}"#;
    store
        .write_accepted(Write::Set { id: "id-3", json }, true)
        .unwrap();
    overwrite(&store, directory.path(), "xome text", "some text");
    let snapshot = directory
        .path()
        .join(store.manifest().unwrap().current_snapshot);
    let away = directory.path().join("away");
    std::fs::rename(&snapshot, &away).unwrap();
    assert!(store.undo().is_err());
    assert_eq!(store.get("id-3").unwrap().unwrap()["n"], 33);
    assert_eq!(store.history("id-3").unwrap().len(), 2);
    std::fs::rename(&away, &snapshot).unwrap();
    assert!(store.undo().unwrap());
    assert_eq!(store.get("id-3").unwrap().unwrap()["n"], 3);
    store.close().unwrap();
    assert_eq!(open().get("id-3").unwrap().unwrap()["n"], 3);
}
