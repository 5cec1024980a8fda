//! Stores of different document types, and the life of a handle: clones, threads, watching, closing and dropping.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, helpers included"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use opslog::backend::{Faulty, SimulatedDisk};
use opslog::{
    Document, Error, ErrorKind, FsBackend, MemoryBackend, Store, StoreBuilder, Tail, View,
    WriteMode,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_hours(1);
const TICK: Duration = Duration::from_millis(1);
/// How long to wait for what a thread is about to do, before the test is given up.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Task {
    title: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(rename = "isDone")]
    done: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Shape {
    Circle { radius: f64 },
    Square { side: u64 },
    Nothing,
}

fn task(title: &str) -> Task {
    Task {
        title: title.to_owned(),
        tags: Vec::new(),
        done: false,
        due_at: None,
    }
}

fn modes() -> [WriteMode; 3] {
    [
        WriteMode::Immediate,
        WriteMode::Group {
            size: 1000,
            interval: HOUR,
        },
        WriteMode::Async {
            size: 1000,
            interval: HOUR,
        },
    ]
}

/// Stores `documents`, and reads them back through a checkpoint and a reopen.
fn round_trip<T: Document + PartialEq + std::fmt::Debug>(
    documents: &[T],
) -> BTreeMap<String, String> {
    let backend = MemoryBackend::new();
    let store: Store<T> = Store::builder().open_backend(backend.clone()).unwrap();
    for (number, document) in documents.iter().enumerate() {
        store.set(&number.to_string(), document).unwrap();
    }
    let holds = |store: &Store<T>| {
        let all = store.all().unwrap();
        assert!(all.iter().map(|document| &**document).eq(documents));
    };
    holds(&store);
    drop(store);
    for _ in 0..2 {
        let store: Store<T> = Store::builder().open_backend(backend.clone()).unwrap();
        holds(&store);
        store.close().unwrap();
    }
    let store: Store = Store::builder().open_backend(backend).unwrap();
    let view = store.view().unwrap();
    view.iter()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.id().to_owned(), entry.json().to_string())
        })
        .collect()
}

#[test]
fn a_struct_is_stored_as_its_serde_attributes_say() {
    let long = Task {
        tags: vec!["é".into()],
        done: true,
        due_at: Some(u64::MAX),
        ..task("long")
    };
    let stored = round_trip(&[task("short"), long]);
    assert_eq!(stored["0"], r#"{"title":"short","isDone":false}"#);
    assert_eq!(
        stored["1"],
        r#"{"title":"long","tags":["é"],"isDone":true,"dueAt":18446744073709551615}"#
    );
}

#[test]
fn an_enum_is_stored_with_its_tag() {
    let shapes = [
        Shape::Circle { radius: 0.1 },
        Shape::Square { side: u64::MAX },
        Shape::Nothing,
    ];
    let stored = round_trip(&shapes);
    assert_eq!(stored["0"], r#"{"type":"circle","radius":0.1}"#);
    assert_eq!(stored["2"], r#"{"type":"nothing"}"#);
}

#[test]
fn values_and_maps_are_documents_too() {
    round_trip(&[json!({"z": 1, "a": [null, {"é": "🦀\n"}], "f": 1.0e300, "n": -0.0})]);
    round_trip(&[BTreeMap::from([("a".to_owned(), 1_i64)])]);
    round_trip(&[serde_json::Map::new()]);
}

#[test]
fn raw_json_keeps_the_text_of_its_numbers() {
    let backend = MemoryBackend::new();
    let open =
        || -> Store<Box<RawValue>> { Store::builder().open_backend(backend.clone()).unwrap() };
    let text = r#"{"price":1.50,"huge":123456789012345678901234567890,"tiny":1e-400,"zero":-0}"#;
    let raw = RawValue::from_string(text.to_owned()).unwrap();
    let store = open();
    store.set("a", &raw).unwrap();
    store.set("b", &raw).unwrap();
    store.set_json("b", r#"{"price": 1.500}"#).unwrap();
    assert_eq!(store.get("b").unwrap().unwrap().get(), r#"{"price":1.500}"#);
    assert!(store.undo().unwrap());
    for _ in 0..3 {
        let store = open_after_close(&store, open);
        for id in ["a", "b"] {
            assert_eq!(store.get(id).unwrap().unwrap().get(), text);
        }
        store.close().unwrap();
    }
}

fn open_after_close<T: Document>(store: &Store<T>, open: impl Fn() -> Store<T>) -> Store<T> {
    store.close().unwrap();
    open()
}

#[test]
fn a_document_that_does_not_fit_the_type_is_named_and_harms_nothing_else() {
    let backend = MemoryBackend::new();
    let values: Store = Store::builder().open_backend(backend.clone()).unwrap();
    values
        .set("good", &json!({"title": "x", "isDone": true}))
        .unwrap();
    values.set("odd", &json!({"title": 1})).unwrap();
    values.close().unwrap();
    let tasks: Store<Task> = Store::builder().open_backend(backend).unwrap();
    let errors = [
        tasks.get("odd").unwrap_err(),
        tasks.all().unwrap_err(),
        tasks.filter(|_, _| true).unwrap_err(),
        tasks.archive(|_, _| true, None).unwrap_err(),
        tasks.batch(|batch| batch.get("odd").map(drop)).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(
            text.contains("'odd'") && text.contains("does not fit"),
            "{text}"
        );
    }
    assert!(tasks.get("good").unwrap().unwrap().done);
    assert_eq!(
        tasks.get_json("odd").unwrap().unwrap().as_str(),
        r#"{"title":1}"#
    );
    tasks.compact().unwrap();
    tasks.set("odd", &task("mended")).unwrap();
    assert_eq!(tasks.all().unwrap().len(), 2);
    tasks.delete("odd").unwrap();
}

#[test]
fn handles_are_shared_among_threads() {
    fn is_shared<S: Clone + Send + Sync + 'static>() {}
    fn is_sent<S: Send + Sync + 'static>() {}
    is_shared::<Store>();
    is_shared::<Store<Task>>();
    is_shared::<Store<Box<RawValue>>>();
    is_shared::<StoreBuilder<Task>>();
    is_shared::<Error>();
    is_shared::<MemoryBackend>();
    is_shared::<FsBackend>();
    is_sent::<View<Task>>();
}

#[test]
fn readers_beside_writers_see_whole_commits_only() {
    let store: Store = Store::builder()
        .checkpoint_threshold(50)
        .open_backend(MemoryBackend::new())
        .unwrap();
    let both = |n: u64| {
        store.batch(|batch| {
            batch.set("debit", &json!({"n": n}))?;
            batch.set("credit", &json!({"n": n}))
        })
    };
    both(0).unwrap();
    let done = AtomicBool::new(false);
    let looks = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut newest = 0;
                while !done.load(Ordering::Relaxed) || looks.load(Ordering::Relaxed) == 0 {
                    let entries = store.entries().unwrap();
                    let n = |id: &str| {
                        let found = entries.iter().find(|(found, _)| found == id);
                        found.unwrap().1["n"].as_u64().unwrap()
                    };
                    assert_eq!(n("debit"), n("credit"));
                    assert!(n("debit") >= newest, "time went back");
                    newest = n("debit");
                    let single = store.get("credit").unwrap().unwrap()["n"].as_u64().unwrap();
                    assert!(single >= newest);
                    let view = store.view().unwrap();
                    assert_eq!(view.iter().count(), view.len());
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let writers = [1, 2].map(|writer| {
            let store = &store;
            scope.spawn(move || {
                for n in 0..200 {
                    store.set(&format!("{writer}-{n}"), &json!({})).unwrap();
                }
            })
        });
        for n in 1..=300 {
            both(n).unwrap();
        }
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.count().unwrap(), 402);
}

#[test]
fn close_on_one_clone_closes_all() {
    let store: Store = Store::in_memory().unwrap();
    store.set("a", &json!({})).unwrap();
    let view = store.view().unwrap();
    let other = store.clone();
    std::thread::spawn(move || other.close().unwrap())
        .join()
        .unwrap();
    let calls = [
        store.get("a").map(drop),
        store.get_json("a").map(drop),
        store.has("a").map(drop),
        store.all().map(drop),
        store.entries().map(drop),
        store.filter(|_, _| true).map(drop),
        store.count().map(drop),
        store.count_where(|_, _| true).map(drop),
        store.view().map(drop),
        store.set("a", &json!({})),
        store.delete("a"),
        store.batch(|_| Ok(())),
        store.undo().map(drop),
        store.history("a").map(drop),
        store.ops(opslog::Since::Start).map(drop),
        store.log_ops(opslog::Since::Start).map(drop),
        store.stream_snapshot().map(drop),
        store.compact(),
        store.archive(|_, _| true, None).map(drop),
        store.load_archive("x").map(drop),
        store.archive_segments().map(drop),
        store.stats().map(drop),
        store.manifest().map(drop),
        store.refresh(),
        store.tail().map(drop),
        store.watch(TICK, |_| {}),
        store.flush(),
        store.sync(),
    ];
    for (number, call) in calls.into_iter().enumerate() {
        let error = call.expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::Closed, "call {number}: {error:?}");
    }
    store.close().unwrap();
    assert_eq!(view.len(), 1);
}

#[test]
fn close_lets_writers_of_other_threads_finish_or_refuses_them() {
    for mode in modes() {
        let backend = MemoryBackend::new();
        let builder = || Store::<Value>::builder().write_mode(mode);
        let store = builder().open_backend(backend.clone()).unwrap();
        let acknowledged = std::thread::scope(|scope| {
            let writers = [0, 1, 2].map(|writer| {
                let store = store.clone();
                scope.spawn(move || {
                    let refused = (0..).find_map(|n| {
                        let refused = store.set(&format!("{writer}-{n}"), &json!({})).err();
                        refused.map(|error| (n, error))
                    });
                    let (acknowledged, error) = refused.unwrap();
                    assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
                    acknowledged
                })
            });
            while store.count().unwrap() < 100 {
                std::thread::yield_now();
            }
            store.close().unwrap();
            writers.map(|writer| writer.join().unwrap())
        });
        let store = builder().open_backend(backend).unwrap();
        assert_eq!(
            store.count().unwrap(),
            acknowledged.iter().sum::<usize>(),
            "{mode:?}"
        );
    }
}

#[test]
fn what_was_accepted_survives_a_drop_without_close_in_every_write_mode() {
    for mode in modes() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let builder = Store::<Value>::builder()
                .write_mode(mode)
                .checkpoint_on_close(true);
            builder.open(directory.path()).unwrap()
        };
        let store = open();
        let snapshot = store.manifest().unwrap().current_snapshot;
        let clone = store.clone();
        store.set("a", &json!({"n": 1})).unwrap();
        drop(store);
        clone
            .batch(|batch| batch.set("b", &json!({"n": 2})))
            .unwrap();
        drop(clone);
        let store = open();
        assert_eq!(store.count().unwrap(), 2, "{mode:?}");
        assert!(store.open_report().damage.is_empty());
        assert_eq!(
            store.manifest().unwrap().current_snapshot,
            snapshot,
            "no checkpoint is made"
        );
    }
}

#[test]
fn a_dropped_store_can_be_opened_again_at_once() {
    for mode in [
        WriteMode::Immediate,
        WriteMode::Group {
            size: 2,
            interval: TICK,
        },
        WriteMode::Async {
            size: 1,
            interval: TICK,
        },
    ] {
        let backend = MemoryBackend::new();
        for round in 0..300 {
            let store = Store::<Value>::builder()
                .write_mode(mode)
                .checkpoint_threshold(1)
                .open_backend(backend.clone())
                .unwrap_or_else(|error| panic!("{mode:?}, round {round}: {error:?}"));
            assert_eq!(store.count().unwrap(), 3 * round);
            for n in 0..3 {
                // The store's own thread is busy with a flush or a checkpoint by now.
                store.set(&format!("{round}-{n}"), &json!({})).unwrap();
            }
        }
    }
}

#[test]
fn a_second_open_in_one_process_is_refused_while_the_first_lives() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Store::<Value>::open(directory.path());
    let store = open().unwrap();
    let error = open().unwrap_err();
    assert!(error.is_locked());
    assert!(error.to_string().contains("another handle"), "{error}");
    let clone = store.clone();
    drop(store);
    assert!(open().unwrap_err().is_locked(), "a clone still has it");
    clone.close().unwrap();
    let again = open().unwrap();
    drop(clone);
    assert!(
        open().unwrap_err().is_locked(),
        "the closed handle took the lock of the new one away"
    );
    drop(again);
    open().unwrap();
}

/// What a watcher is told, one after the other.
struct Told {
    receiver: mpsc::Receiver<opslog::Result<Tail>>,
}

impl Told {
    fn watch(store: &Store) -> Self {
        let (sender, receiver) = mpsc::channel();
        store
            .watch(TICK, move |news| drop(sender.send(news)))
            .unwrap();
        Self { receiver }
    }

    fn next(&self) -> opslog::Result<Tail> {
        self.receiver
            .recv_timeout(PATIENCE)
            .expect("the watcher is told")
    }
}

#[test]
fn watch_tells_every_operation_once_and_in_order_across_checkpoints() {
    let backend = MemoryBackend::new();
    let writer: Store = Store::builder().open_backend(backend.clone()).unwrap();
    let reader: Store = Store::builder()
        .read_only(true)
        .open_backend(backend)
        .unwrap();
    let told = Told::watch(&reader);
    let mut expected = Vec::new();
    for n in 0..100 {
        writer.set(&n.to_string(), &json!({})).unwrap();
        expected.push(n.to_string());
        if n % 10 == 9 {
            writer.compact().unwrap();
        }
    }
    let mut found = Vec::new();
    while found.len() < expected.len() {
        // A reader that falls several checkpoints behind loads the store anew, and is still told every operation.
        let tail = told.next().unwrap();
        found.extend(tail.operations.into_iter().map(|operation| operation.id));
    }
    assert_eq!(found, expected);
    assert_eq!(reader.count().unwrap(), 100);
    assert!(writer.undo().unwrap());
    while reader.count().unwrap() != 99 {
        told.next().unwrap();
    }
}

fn told_ids(tail: &Tail) -> Vec<String> {
    let operations = tail.operations.iter();
    operations.map(|operation| operation.id.clone()).collect()
}

#[test]
fn a_reader_that_fell_several_checkpoints_behind_is_told_every_operation() {
    let backend = MemoryBackend::new();
    let writer: Store = Store::builder().open_backend(backend.clone()).unwrap();
    let open = || -> Store {
        Store::builder()
            .read_only(true)
            .open_backend(backend.clone())
            .unwrap()
    };
    let from_the_start = open();
    let set_and_compact = |id: &str| {
        writer.set(id, &json!({})).unwrap();
        writer.compact().unwrap();
    };
    set_and_compact("a");
    let at_a_checkpoint = open();
    set_and_compact("b");
    set_and_compact("c");
    writer.set("d", &json!({})).unwrap();
    assert_eq!(
        told_ids(&from_the_start.tail().unwrap()),
        ["a", "b", "c", "d"]
    );
    assert_eq!(told_ids(&at_a_checkpoint.tail().unwrap()), ["b", "c", "d"]);
    for reader in [from_the_start, at_a_checkpoint] {
        assert_eq!(reader.entries().unwrap(), writer.entries().unwrap());
        assert!(reader.tail().unwrap().operations.is_empty());
    }
}

#[test]
fn a_look_that_fails_midway_loses_no_operation() {
    for call in 0.. {
        let backend = MemoryBackend::new();
        let writer: Store = Store::builder().open_backend(backend.clone()).unwrap();
        writer.set("seen", &json!({})).unwrap();
        let faulty = Faulty::new(backend);
        let reader: Store = Store::builder()
            .read_only(true)
            .open_backend(faulty.clone())
            .unwrap();
        writer.set("a", &json!({})).unwrap();
        writer.compact().unwrap();
        writer.set("b", &json!({})).unwrap();
        let error = Error::new(ErrorKind::Unavailable, "the network is down");
        faulty.fail(faulty.calls() + call, error);
        let first = reader.tail();
        faulty.mend();
        let done = first.is_ok();
        let mut told = first.map_or(Vec::new(), |tail| told_ids(&tail));
        told.extend(told_ids(&reader.tail().unwrap()));
        assert_eq!(told, ["a", "b"], "failure at call {call}");
        assert_eq!(reader.entries().unwrap(), writer.entries().unwrap());
        if done {
            assert!(call > 3, "no call was made to fail");
            break;
        }
    }
}

#[test]
fn watch_tells_errors_and_goes_on_when_they_are_mended() {
    let backend = MemoryBackend::new();
    let writer: Store = Store::builder().open_backend(backend.clone()).unwrap();
    let faulty = Faulty::new(backend);
    let reader: Store = Store::builder()
        .read_only(true)
        .open_backend(faulty.clone())
        .unwrap();
    let told = Told::watch(&reader);
    faulty.fail_from(0, Error::new(ErrorKind::Unavailable, "the network is down"));
    let error = told.next().unwrap_err();
    assert_eq!(error.message(), "the network is down");
    faulty.mend();
    writer.set("a", &json!({})).unwrap();
    let tail = std::iter::repeat_with(|| told.next())
        .find_map(Result::ok)
        .unwrap();
    assert_eq!(tail.operations[0].id, "a");
}

#[test]
fn after_unwatch_or_close_nothing_is_told() {
    let backend = MemoryBackend::new();
    let writer: Store = Store::builder().open_backend(backend.clone()).unwrap();
    let reader: Store = Store::builder()
        .read_only(true)
        .open_backend(backend)
        .unwrap();
    for end in [Store::unwatch, |store: &Store| store.close().unwrap()] {
        let told = Told::watch(&reader);
        writer.set("a", &json!({})).unwrap();
        assert_eq!(told.next().unwrap().operations.len(), 1);
        end(&reader);
        writer.set("b", &json!({})).unwrap();
        // The callback is gone, and its sender with it.
        assert!(told.receiver.recv().is_err());
        drop(reader.refresh());
    }
    reader.unwatch();
}

#[test]
fn a_second_watch_replaces_the_first() {
    let backend = MemoryBackend::new();
    let writer: Store = Store::builder().open_backend(backend.clone()).unwrap();
    let reader: Store = Store::builder()
        .read_only(true)
        .open_backend(backend)
        .unwrap();
    let first = Told::watch(&reader);
    let second = Told::watch(&reader);
    assert!(first.receiver.recv().is_err());
    writer.set("a", &json!({})).unwrap();
    assert_eq!(second.next().unwrap().operations.len(), 1);
}

#[test]
fn a_store_may_be_dropped_closed_or_unwatched_from_within_its_callback() {
    let ends: [fn(Store); 3] = [
        drop,
        |store| store.close().unwrap(),
        |store| {
            store.unwatch();
            assert_eq!(store.count().unwrap(), 1);
        },
    ];
    for end in ends {
        let backend = MemoryBackend::new();
        let writer: Store = Store::builder().open_backend(backend.clone()).unwrap();
        let reader: Store = Store::builder()
            .read_only(true)
            .open_backend(backend)
            .unwrap();
        let held = Arc::new(Mutex::new(Some(reader.clone())));
        let (sender, receiver) = mpsc::channel();
        let inside = Arc::clone(&held);
        reader
            .watch(TICK, move |_| {
                let store = inside.lock().unwrap().take();
                if let Some(store) = store {
                    end(store);
                    sender.send(()).unwrap();
                }
            })
            .unwrap();
        // The callback has the only handle.
        drop(reader);
        writer.set("a", &json!({})).unwrap();
        receiver
            .recv_timeout(PATIENCE)
            .expect("the callback comes to its end");
        // The callback is dropped with its sender, so the thread has ended.
        assert!(
            receiver
                .recv_timeout(PATIENCE)
                .is_err_and(|error| error == mpsc::RecvTimeoutError::Disconnected)
        );
    }
}

#[test]
fn dropping_the_last_handle_ends_the_watch() {
    let store: Store = Store::in_memory().unwrap();
    let told = Told::watch(&store);
    drop(store);
    assert!(told.receiver.recv().is_err());
}

#[test]
fn a_poisoned_store_can_be_read_dropped_and_opened_again() {
    let disk = SimulatedDisk::new();
    let open = || {
        let backend = FsBackend::on(Arc::new(disk.clone()), "/store").with_padding(256, 256);
        Store::<Value>::builder().open_backend(backend).unwrap()
    };
    let store = open();
    store.set("a", &json!({})).unwrap();
    // The write of the next operation, then its sync.
    disk.fail(disk.calls() + 1, opslog::backend::Fault::SyncFailure);
    let error = store.set("b", &json!({})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    assert!(error.to_string().contains("reopen the store"), "{error}");
    assert!(store.has("a").unwrap());
    assert_eq!(
        store.set("c", &json!({})).unwrap_err().kind(),
        ErrorKind::Poisoned
    );
    drop(store);
    let store = open();
    assert!(store.has("a").unwrap());
    store.set("c", &json!({})).unwrap();
}
