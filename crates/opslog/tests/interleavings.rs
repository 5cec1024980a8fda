//! Group commit, checkpoint hand-over, publication of views and close, under schedulers that try many interleavings of their threads.
//!
//! Built with `--cfg shuttle` only: `scripts/interleavings` does. The store's locks, threads and clock are then shuttle's (`src/sync.rs`), and every call to the
//! simulated disk is a place where another thread may go on. Each scenario runs under a random scheduler and under PCT, which finds
//! bugs that need few ordered switches. A failure prints the seed; `OPSLOG_INTERLEAVINGS_SEED` repeats it, `OPSLOG_INTERLEAVINGS` sets how many are tried.

#![cfg(shuttle)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_macros,
    reason = "the helpers of tests fail the test, and say what they have done"
)]

#[path = "crash/watched.rs"]
#[allow(dead_code, reason = "some of it is for tests/crash.rs")]
mod watched;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use opslog::backend::{Faulty, FsBackend, SimulatedDisk, seeded};
use opslog::testing::{self, Bug};
use opslog::{
    CheckpointMode, ErrorKind, Since, Store, StoreBuilder, Timestamp, UndoMode, WriteMode,
};
use serde_json::{Value, json};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use shuttle::{Config, Runner};

use watched::Watched;

const GROUP: WriteMode = WriteMode::Group {
    size: 2,
    // The thread that flushes finds it due at once: time does not go by while it waits.
    interval: Duration::ZERO,
};

fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.replace('_', "").parse();
    Some(number.unwrap_or_else(|error| panic!("{name}={value}: {error}")))
}

/// Runs `scenario` in many interleavings.
fn explore(name: &str, scenario: fn()) {
    explore_one_in(1, name, scenario);
}

/// As `explore`, in one of so many as the others, for a scenario that takes that much longer.
fn explore_one_in(part: u64, name: &str, scenario: fn()) {
    let seed = number_from_environment("OPSLOG_INTERLEAVINGS_SEED").unwrap_or(1);
    let count = number_from_environment("OPSLOG_INTERLEAVINGS").unwrap_or(20_000) / part;
    let half = usize::try_from(count / 2).unwrap().max(1);
    let random = RandomScheduler::new_from_seed(seed, half);
    let pct = PctScheduler::new_from_seed(seed, 3, half);
    let tried = run(name, "random", seed, random, scenario) + run(name, "PCT", seed, pct, scenario);
    eprintln!("{name}: {tried} interleavings from seed {seed}");
}

fn run(
    name: &str,
    scheduler_name: &str,
    seed: u64,
    scheduler: impl Scheduler + 'static,
    scenario: fn(),
) -> usize {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.silence_warnings = true;
    let runner = Runner::new(scheduler, config);
    catch_unwind(AssertUnwindSafe(|| runner.run(scenario))).unwrap_or_else(|panic| {
        eprintln!("{name} fails under the {scheduler_name} scheduler with OPSLOG_INTERLEAVINGS_SEED={seed}");
        std::panic::resume_unwind(panic)
    })
}

/// A disk on which other threads may go on before each call.
struct World {
    disk: SimulatedDisk,
}

impl World {
    fn new() -> Self {
        // The same interleaving makes the same files.
        testing::freeze(Timestamp::UNIX_EPOCH, 0);
        Self {
            disk: SimulatedDisk::new(),
        }
    }

    fn open(&self, builder: StoreBuilder<Value>) -> Store {
        let turn = AtomicUsize::new(0);
        let watched = Watched::new(self.disk.clone(), move |_, _| {
            turn.fetch_add(1, Ordering::SeqCst);
        });
        let backend = FsBackend::on(Arc::new(watched), "/store").with_padding(512, 512);
        builder.open_backend(backend).unwrap()
    }

    /// What a crash now leaves: with a seed the power goes, else only the process.
    fn after_crash(&self, seed: Option<u64>) -> Store {
        let disk = match seed {
            Some(seed) => self.disk.crash_state(seeded(seed)),
            None => self.disk.killed(),
        };
        let backend = FsBackend::on(Arc::new(disk), "/store").with_padding(512, 512);
        let store: Store = Store::builder().open_backend(backend).unwrap();
        assert!(
            store
                .open_report()
                .damage
                .iter()
                .all(|damage| { damage.kind == opslog::DamageKind::Torn })
        );
        store
    }
}

fn document(number: usize) -> Value {
    json!({"number": number})
}

fn contents(store: &Store) -> Vec<(String, Value)> {
    let entries = store.entries().unwrap().into_iter();
    entries
        .map(|(id, document)| (id, Value::clone(&document)))
        .collect()
}

/// The documents that the operations make.
fn replayed(store: &Store) -> Vec<(String, Value)> {
    let mut documents: Vec<(String, Value)> = Vec::new();
    for op in store.ops(Since::Start).unwrap() {
        let place = documents.iter().position(|(id, _)| *id == op.id);
        match (place, op.data.map(|data| data.decode().unwrap())) {
            (Some(place), Some(data)) => documents[place].1 = data,
            (Some(place), None) => drop(documents.remove(place)),
            (None, Some(data)) => documents.push((op.id, data)),
            (None, None) => panic!("a delete of nothing"),
        }
    }
    documents
}

/// The history makes what is visible, and a store opened from the disk shows the same.
fn is_whole(world: &World, store: Store) {
    store.flush().unwrap();
    let visible = contents(&store);
    let sorted = |mut documents: Vec<(String, Value)>| {
        documents.sort_by(|a, b| a.0.cmp(&b.0));
        documents
    };
    assert_eq!(
        sorted(replayed(&store)),
        sorted(visible.clone()),
        "history and memory"
    );
    assert_eq!(
        contents(&world.after_crash(Some(1))),
        visible,
        "power cut and memory"
    );
    drop(store);
    assert_eq!(
        contents(&world.after_crash(None)),
        visible,
        "disk and memory"
    );
}

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// What `set` has acknowledged survives a power cut, whoever led its group.
fn group_commit() {
    let world = Arc::new(World::new());
    let store = world.open(Store::builder());
    let writers = (0..3).map(|writer| {
        let (world, store) = (Arc::clone(&world), store.clone());
        thread::spawn(move || {
            for number in 0..2 {
                let id = format!("{writer}-{number}");
                store.set(&id, &document(number)).unwrap();
                assert!(store.has(&id).unwrap());
                let seed = 10 * writer + number as u64;
                assert!(
                    world.after_crash(Some(seed)).has(&id).unwrap(),
                    "{id} is lost"
                );
            }
        })
    });
    join(writers.collect());
    assert_eq!(store.count().unwrap(), 6);
    is_whole(&world, store);
}

/// A failed sync fails all that were in its group and behind it, and shows none of it.
fn failing_group() {
    let world = Arc::new(World::new());
    let store = world.open(Store::builder());
    store.set("before", &document(0)).unwrap();
    world
        .disk
        .fail(world.disk.calls() + 1, opslog::backend::Fault::SyncFailure);
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writers = (0..3).map(|writer| {
        let (acknowledged, store) = (Arc::clone(&acknowledged), store.clone());
        thread::spawn(move || {
            let id = format!("{writer}");
            let answer = store.set(&id, &document(1));
            assert_eq!(store.has(&id).unwrap(), answer.is_ok(), "{answer:?}");
            if answer.is_ok() {
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    join(writers.collect());
    assert_eq!(
        store.count().unwrap(),
        1 + acknowledged.load(Ordering::SeqCst)
    );
    drop(store);
    assert!(world.after_crash(Some(1)).has("before").unwrap());
}

/// A checkpoint loses nothing that is written beside it, whoever starts it.
fn checkpoint() {
    let world = Arc::new(World::new());
    let store = world.open(
        Store::builder()
            .checkpoint_mode(CheckpointMode::Background)
            .checkpoint_threshold(2),
    );
    let mut threads: Vec<_> = (0..2)
        .map(|writer| {
            let store = store.clone();
            thread::spawn(move || {
                for number in 0..3 {
                    store
                        .set(&format!("{writer}-{number}"), &document(number))
                        .unwrap();
                }
            })
        })
        .collect();
    let compacting = store.clone();
    threads.push(thread::spawn(move || compacting.compact().unwrap()));
    join(threads);
    assert_eq!(store.count().unwrap(), 6);
    assert_eq!(store.ops(Since::Start).unwrap().len(), 6);
    is_whole(&world, store);
}

/// Whoever looks sees whole batches, and never an older one after a newer one.
fn publication() {
    let world = Arc::new(World::new());
    let store = world.open(Store::builder());
    let batch = |store: &Store, number: usize| {
        store.batch(|batch| {
            batch.set("a", &document(number))?;
            batch.set("b", &document(number))
        })
    };
    batch(&store, 0).unwrap();
    let writing = store.clone();
    let writer = thread::spawn(move || {
        for number in 1..4 {
            batch(&writing, number).unwrap();
        }
    });
    let looking = store.clone();
    let reader = thread::spawn(move || {
        let mut last = 0;
        for _ in 0..4 {
            let seen = contents(&looking);
            assert_eq!(seen[0].1, seen[1].1, "half a batch is seen");
            let number = usize::try_from(seen[0].1["number"].as_u64().unwrap()).unwrap();
            assert!(number >= last, "{number} after {last}");
            last = number;
        }
    });
    let compacting = store.clone();
    let compact = thread::spawn(move || compacting.compact().unwrap());
    join(vec![writer, reader, compact]);
    is_whole(&world, store);
}

/// A write beside a close is there, or was refused; afterwards the store can be opened again.
fn close() {
    let world = Arc::new(World::new());
    let store = world.open(Store::builder());
    let acknowledged: Vec<_> = (0..2).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let mut threads: Vec<_> = (0..2)
        .map(|writer| {
            let (store, acknowledged) = (store.clone(), Arc::clone(&acknowledged[writer]));
            thread::spawn(move || {
                for number in 1..4 {
                    match store.set(&format!("{writer}"), &document(number)) {
                        Ok(()) => acknowledged.store(number, Ordering::SeqCst),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}"),
                    }
                }
            })
        })
        .collect();
    for _ in 0..2 {
        let closing = store.clone();
        threads.push(thread::spawn(move || closing.close().unwrap()));
    }
    join(threads);
    let store = world.open(Store::builder());
    for (writer, acknowledged) in acknowledged.iter().enumerate() {
        let found = store.get(&format!("{writer}")).unwrap();
        let found = found.map_or(0, |document| document["number"].as_u64().unwrap());
        assert_eq!(
            found,
            acknowledged.load(Ordering::SeqCst) as u64,
            "of writer {writer}"
        );
    }
}

/// What was accepted into a buffer is there after a flush, and after the last handle is dropped, whoever that is.
fn buffer() {
    let world = Arc::new(World::new());
    let store = world.open(Store::builder().write_mode(GROUP));
    let writers = (0..2).map(|writer| {
        let (world, store) = (Arc::clone(&world), store.clone());
        thread::spawn(move || {
            for number in 0..3 {
                store
                    .set(&format!("{writer}-{number}"), &document(number))
                    .unwrap();
            }
            store.flush().unwrap();
            let survivor = world.after_crash(Some(writer));
            assert!(
                survivor.has(&format!("{writer}-2")).unwrap(),
                "it was flushed"
            );
        })
    });
    let writers: Vec<_> = writers.collect();
    store.set("last", &document(9)).unwrap();
    drop(store);
    join(writers);
    assert_eq!(world.after_crash(Some(1)).count().unwrap(), 7);
    drop(world.open(Store::builder()));
}

/// Undo beside writers and a checkpoint takes back whole commits, in memory and on the disk.
fn undo() {
    let world = Arc::new(World::new());
    let store = world.open(Store::builder().undo_mode(UndoMode::Truncate));
    store.set("first", &document(0)).unwrap();
    let mut threads: Vec<_> = (0..2)
        .map(|writer| {
            let store = store.clone();
            thread::spawn(move || {
                store.set(&format!("{writer}"), &document(1)).unwrap();
                assert!(store.undo().unwrap());
            })
        })
        .collect();
    let compacting = store.clone();
    threads.push(thread::spawn(move || compacting.compact().unwrap()));
    join(threads);
    assert_eq!(store.count().unwrap(), 1);
    is_whole(&world, store);
}

/// What was accepted beside a `close` that succeeds is on storage.
fn batch_beside_close() {
    let world = Arc::new(World::new());
    let builder = Store::builder()
        .write_mode(GROUP)
        .checkpoint_on_close(false);
    let store = world.open(builder);
    let flushing = store.clone();
    let flusher = thread::spawn(move || {
        // Whether it is before the close or after it.
        let _ = flushing.set("x", &document(0));
        let _ = flushing.flush();
    });
    let batching = store.clone();
    let batcher =
        thread::spawn(move || batching.batch(|batch| batch.set("a", &document(1))).is_ok());
    let closing = store.clone();
    let closer = thread::spawn(move || closing.close().is_ok());
    flusher.join().unwrap();
    let accepted = batcher.join().unwrap();
    let closed = closer.join().unwrap();
    drop(store);
    if accepted && closed {
        assert!(world.after_crash(None).has("a").unwrap(), "a batch is lost");
    }
}

/// Everybody is told that the disk is full, whoever gives up first.
fn full_disk() {
    let world = World::new();
    let disk = FsBackend::on(Arc::new(world.disk), "/store").with_padding(512, 512);
    let backend = Faulty::new(disk);
    let builder = Store::<Value>::builder()
        .write_mode(WriteMode::Async {
            size: usize::MAX,
            interval: Duration::from_hours(1),
        })
        .checkpoint_on_close(false);
    let store = builder.open_backend(backend.clone()).unwrap();
    let text = "x".repeat(3 << 20);
    for id in ["a", "b", "c"] {
        store.set(id, &json!({ "text": text })).unwrap();
    }
    let error = opslog::Error::new(ErrorKind::Unavailable, "no space left");
    backend.fail_from(0, error);
    let (flushing, reading, closing) = (store.clone(), store.clone(), store);
    join(vec![
        thread::spawn(move || assert!(flushing.flush().is_err())),
        thread::spawn(move || assert!(reading.history("a").is_err())),
        thread::spawn(move || assert!(closing.close().is_err())),
    ]);
}

#[test]
fn batch_beside_close_is_kept_or_refused() {
    explore("batch beside close", batch_beside_close);
}

#[test]
fn full_disk_leaves_nobody_waiting() {
    // Each writes some megabytes, so that there are two groups.
    explore_one_in(20, "full disk", full_disk);
}

#[test]
fn group_commit_acknowledges_only_what_is_durable() {
    explore("group commit", group_commit);
}

#[test]
fn failed_sync_shows_nothing_of_its_group() {
    explore("failing group", failing_group);
}

#[test]
fn checkpoint_loses_nothing_that_is_written_beside_it() {
    explore("checkpoint", checkpoint);
}

#[test]
fn view_is_of_whole_commits_in_their_order() {
    explore("publication", publication);
}

#[test]
fn close_refuses_or_keeps_what_is_written_beside_it() {
    explore("close", close);
}

#[test]
fn buffered_writes_survive_flush_and_the_last_handle() {
    explore("buffer", buffer);
}

#[test]
fn undo_beside_others_takes_back_whole_commits() {
    explore("undo", undo);
}

/// A check that cannot fail is worth nothing.
#[test]
fn planted_bugs_are_found() {
    for (bug, scenario) in [
        (Bug::CheckpointDropsTail, checkpoint as fn()),
        (Bug::FailedCommitVisible, failing_group),
    ] {
        testing::plant(Some(bug));
        let found = catch_unwind(|| {
            run(
                "planted",
                "random",
                1,
                RandomScheduler::new_from_seed(1, 1_000),
                scenario,
            );
        });
        testing::plant(None);
        assert!(found.is_err(), "nobody finds {bug:?}");
        eprintln!("{bug:?}: found");
    }
}
