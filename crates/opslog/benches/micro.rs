//! Micro-benchmarks of what costs CPU time, through the public API and on a storage in memory.
//!
//! `cargo bench -p opslog --bench micro` measures; `cargo test -p opslog --benches` runs each once, on a few documents. Disks, peers and goals are the business
//! of `crates/opslog-bench`.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot do its work has nothing to measure"
)]

use divan::{Bencher, black_box};
use opslog::{MemoryBackend, Store, WriteMode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

fn main() {
    divan::main();
}

/// About 200 bytes of JSON.
#[derive(Clone, Serialize, Deserialize)]
struct Task {
    title: String,
    status: String,
    priority: u32,
    tags: Vec<String>,
    created: String,
    body: String,
}

fn task(number: usize, revision: usize) -> Task {
    Task {
        title: format!("Review the log reader {number}"),
        status: ["open", "active", "blocked", "done"][(number + revision) % 4].to_owned(),
        priority: 3,
        tags: vec!["storage".to_owned(), "later".to_owned()],
        created: "2026-11-21T12:44:53.661Z".to_owned(),
        body: "the writer waits until every reader has seen what was synced before it answers"
            .to_owned(),
    }
}

fn id(number: usize) -> String {
    format!("task-{number:07}")
}

/// 10,000; few where `cargo test` runs each benchmark once.
fn documents() -> usize {
    if std::env::args().any(|argument| argument == "--bench") {
        10_000
    } else {
        20
    }
}

/// Nothing is synced, and no checkpoint is made but where a benchmark asks for one.
fn open(backend: &MemoryBackend) -> Store<Task> {
    Store::builder()
        .write_mode(WriteMode::asynchronous())
        .checkpoint_threshold(u64::MAX)
        .checkpoint_on_close(false)
        .open_backend(backend.clone())
        .unwrap()
}

/// A store with all documents in the log.
fn filled() -> (MemoryBackend, Store<Task>) {
    let backend = MemoryBackend::new();
    let store = open(&backend);
    for number in 0..documents() {
        store.set(&id(number), &task(number, 0)).unwrap();
    }
    store.flush().unwrap();
    (backend, store)
}

/// A document is encoded, put into the log's buffer and made visible.
#[divan::bench]
fn set_new(bencher: Bencher<'_, '_>) {
    let store = open(&MemoryBackend::new());
    let mut number = 0;
    let task = task(0, 0);
    bencher
        .with_inputs(|| {
            number += 1;
            id(number)
        })
        .bench_local_values(|id| store.set(&id, &task).unwrap());
}

/// As `set_new`, and the reverse patch against the old document.
#[divan::bench]
fn set_update(bencher: Bencher<'_, '_>) {
    let (_backend, store) = filled();
    let mut number = 0;
    bencher
        .with_inputs(|| {
            number += 1;
            let wanted = number % documents();
            (id(wanted), task(wanted, number / documents() + 1))
        })
        .bench_local_values(|(id, task)| store.set(&id, &task).unwrap());
}

/// A batch of a hundred updates.
#[divan::bench]
fn batch_of_100(bencher: Bencher<'_, '_>) {
    let (_backend, store) = filled();
    let mut revision = 0;
    bencher
        .with_inputs(|| {
            revision += 1;
            (0..100.min(documents()))
                .map(|number| (id(number), task(number, revision)))
                .collect::<Vec<_>>()
        })
        .bench_local_refs(|writes| {
            store
                .batch(|batch| writes.iter().try_for_each(|(id, task)| batch.set(id, task)))
                .unwrap();
        });
}

/// A snapshot's lines are found, checked and entered by id.
#[divan::bench]
fn open_snapshot(bencher: Bencher<'_, '_>) {
    let (backend, store) = filled();
    store.compact().unwrap();
    store.close().unwrap();
    bencher.bench_local(|| assert_eq!(open(&backend).count().unwrap(), documents()));
}

/// A log's operations are checked, decoded and applied.
#[divan::bench]
fn open_log(bencher: Bencher<'_, '_>) {
    let (backend, store) = filled();
    store.close().unwrap();
    bencher.bench_local(|| assert_eq!(open(&backend).count().unwrap(), documents()));
}

/// The document is found by its id.
#[divan::bench]
fn get(bencher: Bencher<'_, '_>) {
    let (_backend, store) = filled();
    let mut number = 0;
    bencher
        .with_inputs(|| {
            number += 7919;
            id(number % documents())
        })
        .bench_local_refs(|id| store.get(id).unwrap().unwrap());
}

/// All documents are looked at, having been decoded before.
#[divan::bench]
fn filter(bencher: Bencher<'_, '_>) {
    let (_backend, store) = filled();
    store.all().unwrap();
    bencher.bench_local(|| {
        store
            .filter(|task, _id| task.status == "active")
            .unwrap()
            .len()
    });
}

/// All documents are decoded from their bytes.
#[divan::bench]
fn decode_all(bencher: Bencher<'_, '_>) {
    let (backend, store) = filled();
    store.close().unwrap();
    bencher
        .with_inputs(|| open(&backend))
        .bench_local_refs(|store| store.all().unwrap().len());
}

/// The reverse patch of a decoded object with one changed key.
#[divan::bench]
fn create_delta(bencher: Bencher<'_, '_>) {
    let (old, new) = two_revisions();
    bencher.bench_local(|| opslog::create_delta(Some(black_box(&old)), black_box(&new)));
}

/// And what turns it back.
#[divan::bench]
fn apply_delta(bencher: Bencher<'_, '_>) {
    let (old, new) = two_revisions();
    let patch = opslog::create_delta(Some(&old), &new).unwrap();
    bencher.bench_local(|| opslog::apply_delta(black_box(&new), black_box(&patch)));
}

fn two_revisions() -> (Map<String, Value>, Map<String, Value>) {
    let object = |revision| match json!(task(1, revision)) {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    (object(0), object(1))
}
