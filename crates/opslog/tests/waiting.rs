//! Whoever waits is told, in time: on a full disk, beside a checkpoint, inside a batch.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use opslog::backend::{Backend as _, Faulty};
use opslog::{Error, ErrorKind, MemoryBackend, Store, WriteMode};
use serde_json::{Value, json};

#[path = "agents_proof/hooked.rs"]
#[allow(dead_code, reason = "some of it is for the tests of agents")]
mod hooked;

use hooked::Hooked;

const HOUR: Duration = Duration::from_hours(1);

fn full() -> Error {
    Error::new(ErrorKind::Unavailable, "no space left")
}

/// What of the log is on storage, in bytes.
fn written(backend: &MemoryBackend, store: &Store) -> u64 {
    let log = store.manifest().unwrap().active_ops;
    backend.open(&log).unwrap().size().unwrap()
}

/// Accepts more than one write takes, so that two groups wait.
fn two_groups(store: &Store) {
    for n in 0..6 {
        let text = "x".repeat(1 << 20);
        store.set(&n.to_string(), &json!({ "text": text })).unwrap();
    }
}

#[test]
fn who_waits_for_a_full_disk_is_told_and_nothing_is_lost_when_there_is_room() {
    let memory = MemoryBackend::new();
    let backend = Faulty::new(memory.clone());
    let open = || -> Store {
        Store::builder()
            .write_mode(WriteMode::Async {
                size: usize::MAX,
                interval: HOUR,
            })
            .open_backend(backend.clone())
            .unwrap()
    };
    let store = open();
    two_groups(&store);
    backend.fail_from(0, full());
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(store.history("0").is_err());
    assert!(store.compact().is_err());
    backend.mend();
    store.flush().unwrap();
    two_groups(&store);
    backend.fail_from(0, full());
    assert!(store.close().is_err());
    backend.mend();
    let store = open();
    assert_eq!(store.count().unwrap(), 6);
    two_groups(&store);
    backend.fail_from(0, full());
    drop(store);
}

#[test]
fn a_flush_in_the_background_that_failed_is_tried_again() {
    let memory = MemoryBackend::new();
    let backend = Faulty::new(memory.clone());
    let store: Store = Store::builder()
        .write_mode(WriteMode::Group {
            size: 50,
            interval: Duration::from_millis(1),
        })
        .open_backend(backend.clone())
        .unwrap();
    backend.fail(backend.calls(), full());
    store.set("a", &json!({})).unwrap();
    while written(&memory, &store) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    // And is told once.
    assert!(store.set("b", &json!({})).is_err());
    store.set("b", &json!({})).unwrap();
}

#[test]
fn a_flush_does_not_wait_for_a_checkpoint() {
    let memory = MemoryBackend::new();
    let backend = Hooked::new(memory.clone());
    let store: Store = Store::builder()
        .write_mode(WriteMode::Group {
            size: 3,
            interval: HOUR,
        })
        .checkpoint_threshold(2)
        .open_backend(backend.clone())
        .unwrap();
    let gate = Arc::new((Mutex::new(Gate::Open), Condvar::new()));
    let closing = Arc::clone(&gate);
    // Behind the write and the sync of what is in the log, and the creation of the snapshot.
    backend.before(3, move || {
        let mut state = closing.0.lock().unwrap();
        *state = Gate::Closed;
        closing.1.notify_all();
        drop(
            closing
                .1
                .wait_while(state, |gate| *gate == Gate::Closed)
                .unwrap(),
        );
    });
    store.set("a", &json!({})).unwrap();
    store.set("b", &json!({})).unwrap();
    let state = gate.0.lock().unwrap();
    drop(
        gate.1
            .wait_while(state, |gate| *gate == Gate::Open)
            .unwrap(),
    );
    let before = written(&memory, &store);
    for id in ["c", "d", "e"] {
        store.set(id, &json!({})).unwrap();
    }
    while written(&memory, &store) == before {
        thread::sleep(Duration::from_millis(1));
    }
    *gate.0.lock().unwrap() = Gate::Open;
    gate.1.notify_all();
    store.close().unwrap();
    let store: Store = Store::builder().open_backend(memory).unwrap();
    assert_eq!(store.count().unwrap(), 5);
}

#[derive(PartialEq)]
enum Gate {
    Open,
    Closed,
}

#[test]
fn calls_inside_a_batch_that_would_wait_for_it_are_refused() {
    let store = Store::<Value>::in_memory().unwrap();
    store.set("a", &json!({})).unwrap();
    let calls: [(&str, &dyn Fn() -> opslog::Result<()>); 9] = [
        ("set", &|| store.set("b", &json!({}))),
        ("undo", &|| store.undo().map(drop)),
        ("flush", &|| store.flush()),
        ("compact", &|| store.compact()),
        ("archive", &|| store.archive(|_, _| true, None).map(drop)),
        ("close", &|| store.close()),
        ("stats", &|| store.stats().map(drop)),
        ("agents", &|| store.agents().map(drop)),
        ("batch", &|| store.batch(|_| Ok(()))),
    ];
    for (name, call) in calls {
        let error = store.batch(|_| call()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        assert!(error.to_string().contains("batch"), "{name}");
        let mut refused = 0;
        let archive = |_: &Value, _: &str| {
            refused +=
                usize::from(call().is_err_and(|error| error.kind() == ErrorKind::InvalidInput));
            false
        };
        store.archive(archive, None).unwrap();
        assert_eq!(refused, 1, "{name}");
    }
    assert_eq!(store.count().unwrap(), 1);
}
