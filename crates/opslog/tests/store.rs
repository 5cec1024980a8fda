//! The store as a user sees it, in a directory and in memory.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use opslog::backend::{Backend as _, SimulatedDisk};
use opslog::{
    CheckpointMode, DamageKind, ErrorKind, FsBackend, MemoryBackend, Retention, Since, Store,
    UndoMode, WriteMode,
};
use serde_json::{Value, json};

#[path = "crash/watched.rs"]
#[allow(dead_code, reason = "some of it is for tests/crash.rs")]
mod watched;

use watched::Watched;

fn ids(store: &Store) -> String {
    let entries = store.entries().unwrap();
    entries
        .into_iter()
        .map(|(id, _)| id)
        .collect::<Vec<_>>()
        .join(",")
}

fn modes() -> [WriteMode; 3] {
    let long = Duration::from_hours(1);
    [
        WriteMode::Immediate,
        WriteMode::Group {
            size: 4,
            interval: long,
        },
        WriteMode::Async {
            size: 4,
            interval: long,
        },
    ]
}

#[test]
fn documents_survive_a_reopen_in_every_write_mode() {
    for mode in modes() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            Store::<Value>::builder()
                .write_mode(mode)
                .open(directory.path())
                .unwrap()
        };
        let store = open();
        for n in 0..10 {
            store
                .set(&format!("id-{n}"), &json!({"n": n, "text": "é\n\"🦀\""}))
                .unwrap();
        }
        store.set("id-3", &json!({"n": 33})).unwrap();
        store.delete("id-4").unwrap();
        store.set("id-4", &json!({"n": 44})).unwrap();
        let before = store.entries().unwrap();
        store.close().unwrap();
        let store = open();
        assert_eq!(store.entries().unwrap(), before, "{mode:?}");
        assert_eq!(
            ids(&store),
            "id-0,id-1,id-2,id-3,id-5,id-6,id-7,id-8,id-9,id-4"
        );
        store.set("id-9", &json!({"n": 99})).unwrap();
        drop(store);
        let store = open();
        assert_eq!(store.get("id-9").unwrap().unwrap()["n"], 99);
    }
}

#[test]
fn undo_goes_back_through_batches_checkpoints_and_reopens() {
    for undo_mode in [UndoMode::Truncate, UndoMode::Append] {
        for mode in modes() {
            let backend = MemoryBackend::new();
            let open = || {
                Store::<Value>::builder()
                    .write_mode(mode)
                    .undo_mode(undo_mode)
                    .open_backend(backend.clone())
                    .unwrap()
            };
            let mut states = Vec::new();
            let mut store = open();
            for step in 0..30 {
                let mut documents = store.entries().unwrap();
                documents.sort_by(|a, b| a.0.cmp(&b.0));
                states.push(documents);
                match step % 5 {
                    0 | 1 => store
                        .set(
                            &format!("id-{}", step % 7),
                            &json!({"step": step, "same": "value of some length"}),
                        )
                        .unwrap(),
                    2 => store
                        .batch(|batch| {
                            batch.set("x", &json!({"step": step}))?;
                            batch.set("y", &json!({"step": step}))?;
                            batch.delete("x")
                        })
                        .unwrap(),
                    3 => {
                        let first = store.entries().unwrap().swap_remove(0).0;
                        store.delete(&first).unwrap();
                    }
                    _ => store
                        .set("y", &json!({"step": step, "more": true}))
                        .unwrap(),
                }
                if step == 11 || step == 19 {
                    store.compact().unwrap();
                }
                if step == 23 {
                    store.close().unwrap();
                    store = open();
                }
            }
            while let Some(expected) = states.pop() {
                assert!(store.undo().unwrap());
                let mut documents = store.entries().unwrap();
                documents.sort_by(|a, b| a.0.cmp(&b.0));
                assert_eq!(
                    documents,
                    expected,
                    "{undo_mode:?} {mode:?} {}",
                    states.len()
                );
            }
            assert!(!store.undo().unwrap());
            drop(store);
            assert_eq!(open().count().unwrap(), 0);
        }
    }
}

#[test]
fn undo_of_a_delete_restores_the_place_in_memory_and_on_storage() {
    let backend = MemoryBackend::new();
    let store: Store = Store::builder().open_backend(backend.clone()).unwrap();
    for id in ["a", "b", "c"] {
        store.set(id, &json!({})).unwrap();
    }
    store.delete("a").unwrap();
    assert!(store.undo().unwrap());
    assert_eq!(ids(&store), "a,b,c");
    drop(store);
    let store: Store = Store::builder().open_backend(backend).unwrap();
    assert_eq!(ids(&store), "a,b,c");
}

#[test]
fn a_batch_is_all_or_nothing_and_sees_its_own_writes() {
    let store = Store::<Value>::in_memory().unwrap();
    store.set("a", &json!({"n": 1})).unwrap();
    let error = store
        .batch(|batch| {
            batch.set("b", &json!({"n": 2}))?;
            batch.delete("a")?;
            assert!(!batch.has("a")?);
            assert_eq!(batch.count()?, 1);
            assert_eq!(batch.get("b")?.unwrap()["n"], 2);
            batch.delete("missing")
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(ids(&store), "a");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.batch(|batch| -> opslog::Result<()> {
            batch.set("b", &json!({}))?;
            panic!("in the middle")
        })
    }));
    assert!(panicked.is_err());
    store
        .batch(|batch| {
            batch.set("z", &json!({}))?;
            batch.delete("a")?;
            batch.set("a", &json!({"n": 3}))?;
            let seen: Vec<String> = batch.entries()?.into_iter().map(|(id, _)| id).collect();
            assert_eq!(seen, ["z", "a"]);
            Ok(())
        })
        .unwrap();
    assert_eq!(ids(&store), "z,a");
    assert_eq!(store.history("a").unwrap().len(), 3);
    store.batch(|_| Ok(())).unwrap();
}

#[test]
fn history_and_cursors_reach_across_checkpoints_as_far_as_retention_keeps() {
    for (retention, kept) in [(Retention::All, 12), (Retention::None, 2)] {
        let store = Store::<Value>::builder()
            .history_retention(retention)
            .open_backend(MemoryBackend::new())
            .unwrap();
        let mut cursors = Vec::new();
        for n in 0..12 {
            store.set("a", &json!({"n": n})).unwrap();
            cursors.push(
                store
                    .ops(Since::Start)
                    .unwrap()
                    .last()
                    .unwrap()
                    .cursor
                    .clone(),
            );
            if n == 3 || n == 9 {
                store.compact().unwrap();
            }
        }
        assert_eq!(store.history("a").unwrap().len(), kept);
        assert_eq!(store.ops(&cursors[10]).unwrap().len(), 1);
        if kept == 12 {
            for (n, cursor) in cursors.iter().enumerate() {
                assert_eq!(store.ops(cursor).unwrap().len(), 11 - n);
            }
        } else {
            assert_eq!(
                store.ops(&cursors[2]).unwrap_err().kind(),
                ErrorKind::NotFound
            );
        }
        let last = cursors.last().unwrap();
        assert!(store.undo().unwrap());
        assert!(matches!(
            store.ops(last).unwrap_err().kind(),
            ErrorKind::Conflict
        ));
    }
}

#[test]
fn archived_documents_are_in_the_archive_only_and_segments_merge() {
    let backend = MemoryBackend::new();
    let store: Store = Store::builder().open_backend(backend.clone()).unwrap();
    for n in 0..10 {
        store.set(&format!("{n}"), &json!({"n": n})).unwrap();
    }
    let below = |limit: i64| move |document: &Value, _: &str| document["n"].as_i64() < Some(limit);
    assert_eq!(store.archive(below(3), Some("old")).unwrap(), 3);
    assert_eq!(store.archive(below(5), Some("old")).unwrap(), 2);
    assert_eq!(store.archive(below(5), Some("old")).unwrap(), 0);
    assert_eq!(store.count().unwrap(), 5);
    let archived: Vec<String> = store
        .load_archive("old")
        .unwrap()
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(archived, ["0", "1", "2", "3", "4"]);
    assert_eq!(store.archive_segments().unwrap().len(), 1);
    assert_eq!(
        store.load_archive("ol").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        store.archive(below(9), Some("../x")).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(store.stats().unwrap().archived_documents, 5);
    assert!(!store.undo().unwrap());
    store.close().unwrap();
    let store: Store = Store::builder().open_backend(backend).unwrap();
    assert_eq!(ids(&store), "5,6,7,8,9");
    assert_eq!(store.load_archive("old").unwrap().len(), 5);
}

#[test]
fn a_reader_follows_the_writer_across_checkpoints_and_undos() {
    let backend = MemoryBackend::new();
    let writer: Store = Store::builder().open_backend(backend.clone()).unwrap();
    writer.set("a", &json!({"n": 1})).unwrap();
    let reader: Store = Store::builder()
        .read_only(true)
        .open_backend(backend)
        .unwrap();
    assert_eq!(ids(&reader), "a");
    assert!(reader.tail().unwrap().operations.is_empty());
    for round in 0..20 {
        writer.set("b", &json!({"round": round})).unwrap();
        let tail = reader.tail().unwrap();
        assert_eq!((tail.operations.len(), tail.rewound), (1, false));
        if round % 3 == 0 {
            writer.compact().unwrap();
        }
        writer.set(&format!("c{round}"), &json!({})).unwrap();
        if round % 5 == 4 {
            reader.refresh().unwrap();
            assert!(writer.undo().unwrap());
            writer.set("d", &json!({"round": round})).unwrap();
            assert!(reader.tail().unwrap().rewound);
        }
        reader.refresh().unwrap();
        assert_eq!(reader.entries().unwrap(), writer.entries().unwrap());
        assert_eq!(reader.history("b").unwrap(), writer.history("b").unwrap());
    }
    assert_eq!(
        reader.set("x", &json!({})).unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    writer.archive(|_, id| id == "a", None).unwrap();
    reader.refresh().unwrap();
    assert_eq!(ids(&reader), ids(&writer));
}

#[test]
fn skip_load_writes_blindly_and_loses_nothing() {
    let backend = MemoryBackend::new();
    let store: Store = Store::builder().open_backend(backend.clone()).unwrap();
    for n in 0..50 {
        store.set(&format!("{n}"), &json!({"n": n})).unwrap();
    }
    store.close().unwrap();
    let blind: Store = Store::builder()
        .skip_load(true)
        .checkpoint_threshold(10)
        .open_backend(backend.clone())
        .unwrap();
    assert_eq!(blind.count().unwrap(), 0);
    for n in 40..240 {
        blind
            .set(&format!("{n}"), &json!({"n": n, "blind": true}))
            .unwrap();
    }
    assert_eq!(blind.count().unwrap(), 200);
    assert_eq!(blind.compact().unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(
        blind.archive(|_, _| true, None).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    blind.close().unwrap();
    let store: Store = Store::builder().open_backend(backend).unwrap();
    assert_eq!(store.count().unwrap(), 240);
    assert_eq!(store.get("45").unwrap().unwrap()["blind"], true);
    for _ in 0..200 {
        assert!(store.undo().unwrap());
    }
    assert_eq!(store.count().unwrap(), 50);
    assert!(store.get("45").unwrap().unwrap().get("blind").is_none());
}

#[test]
fn a_migration_covers_snapshot_and_log_or_changes_nothing() {
    let backend = MemoryBackend::new();
    let store: Store = Store::builder().open_backend(backend.clone()).unwrap();
    store.set("a", &json!({"n": 1})).unwrap();
    store.compact().unwrap();
    store.set("b", &json!({"n": 2})).unwrap();
    drop(store);
    let failing = Store::<Value>::builder()
        .version(2)
        .migrate(|document, _| {
            if document["n"] == 2 {
                Err("no".into())
            } else {
                Ok(document)
            }
        })
        .open_backend(backend.clone());
    assert!(failing.unwrap_err().to_string().contains("'b'"));
    let store: Store = Store::builder()
        .version(2)
        .migrate(|mut document, from| {
            document["from"] = from.into();
            Ok(document)
        })
        .open_backend(backend.clone())
        .unwrap();
    assert_eq!(store.get("a").unwrap().unwrap()["from"], 1);
    assert_eq!(store.get("b").unwrap().unwrap()["from"], 1);
    drop(store);
    let older = Store::<Value>::builder()
        .version(1)
        .open_backend(backend.clone());
    assert_eq!(older.unwrap_err().kind(), ErrorKind::UnsupportedVersion);
    let store: Store = Store::builder().open_backend(backend).unwrap();
    assert_eq!(store.get("b").unwrap().unwrap()["from"], 1);
}

/// At 1,000 operations, then at each fourfold of a store that is filled, then after as many updates as there are documents.
#[test]
fn checkpoints_come_as_rarely_as_the_store_is_large() {
    let store: Store<Value> = Store::builder()
        .checkpoint_mode(CheckpointMode::Blocking)
        .open_backend(MemoryBackend::new())
        .unwrap();
    let mut checkpoints = Vec::new();
    for operation in 1..=9_000 {
        store
            .set(&format!("{}", operation % 4_500), &json!({}))
            .unwrap();
        if store.stats().unwrap().ops_since_checkpoint == 0 {
            checkpoints.push(operation);
        }
    }
    assert_eq!(checkpoints, [1_000, 4_000, 8_000]);
}

/// The log is extended ahead of need: what comes is written into the padding that a reader has seen, or behind it.
#[test]
fn a_reader_that_found_nothing_sees_what_comes_then() {
    let directory = tempfile::tempdir().unwrap();
    let writer: Store<Value> = Store::open(directory.path()).unwrap();
    writer.set("a", &json!({})).unwrap();
    let reader: Store<Value> = Store::builder()
        .read_only(true)
        .open(directory.path())
        .unwrap();
    for n in 0..40 {
        for _ in 0..3 {
            assert!(reader.tail().unwrap().operations.is_empty());
        }
        let text = "x".repeat([10, 9_000][n % 2]);
        writer.set("b", &json!({"n": n, "text": text})).unwrap();
        assert_eq!(reader.tail().unwrap().operations.len(), 1);
        assert_eq!(reader.get("b").unwrap().unwrap()["n"], n);
        if n % 5 == 4 {
            assert!(reader.tail().unwrap().operations.is_empty());
            writer.undo().unwrap();
            assert!(reader.tail().unwrap().rewound);
            assert_eq!(reader.get("b").unwrap().unwrap()["n"], n - 1);
        }
    }
}

/// While the disk is busy a writer in `Group` mode goes on, but not for ever.
#[test]
fn a_writer_in_group_mode_is_a_few_groups_ahead_of_the_disk_at_most() {
    const SIZE: usize = 2;
    let is_busy = Arc::new((Mutex::new(false), Condvar::new()));
    let set_busy = |busy| {
        *is_busy.0.lock().unwrap() = busy;
        is_busy.1.notify_all();
    };
    let disk = SimulatedDisk::new();
    let wait = Arc::clone(&is_busy);
    let watched = Watched::new(disk.clone(), move |_, _| {
        let busy = wait.0.lock().unwrap();
        drop(wait.1.wait_while(busy, |busy| *busy).unwrap());
    });
    let store: Store = Store::builder()
        .write_mode(WriteMode::Group {
            size: SIZE,
            interval: Duration::from_hours(1),
        })
        .open_backend(FsBackend::on(Arc::new(watched), "/store"))
        .unwrap();
    set_busy(true);
    let accepted = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..50 {
                store.set(&n.to_string(), &json!({})).unwrap();
                accepted.store(n + 1, Ordering::SeqCst);
            }
        });
        while accepted.load(Ordering::SeqCst) < 4 * SIZE - 1 {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(20));
        let ahead = accepted.load(Ordering::SeqCst);
        set_busy(false);
        // As many may be on their way as wait.
        assert!(ahead < 2 * 4 * SIZE, "{ahead} operations ahead");
    });
    store.flush().unwrap();
    let killed = FsBackend::on(Arc::new(disk.killed()), "/store");
    let reopened: Store = Store::builder().open_backend(killed).unwrap();
    assert_eq!(reopened.count().unwrap(), 50);
}

/// What is written where a commit was cut off may have its length, its number and its time, and end with the same line.
#[test]
fn a_reader_sees_what_takes_the_place_of_what_was_undone() {
    opslog::testing::freeze(opslog::Timestamp::UNIX_EPOCH, 0);
    let directory = tempfile::tempdir().unwrap();
    let writer: Store<Value> = Store::open(directory.path()).unwrap();
    let reader: Store<Value> = Store::builder()
        .read_only(true)
        .open(directory.path())
        .unwrap();
    let put = |n: i64| {
        writer.batch(|batch| {
            batch.set("a", &json!({ "n": n }))?;
            batch.set("b", &json!({}))
        })
    };
    put(1).unwrap();
    reader.refresh().unwrap();
    writer.undo().unwrap();
    put(2).unwrap();
    assert!(reader.tail().unwrap().rewound);
    assert_eq!(reader.get("a").unwrap().unwrap()["n"], 2);
}

/// The npm package knows nothing of padding, and writes behind it.
#[test]
fn a_reader_that_has_seen_padding_sees_what_is_appended_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let writer: Store<Value> = Store::open(directory.path()).unwrap();
    writer.set("a", &json!({"n": 0})).unwrap();
    let reader: Store<Value> = Store::builder()
        .read_only(true)
        .open(directory.path())
        .unwrap();
    assert!(reader.tail().unwrap().operations.is_empty());
    let mut logs = std::fs::read_dir(directory.path().join("ops")).unwrap();
    let log = logs.next().unwrap().unwrap().path();
    let mut file = std::fs::File::options().append(true).open(log).unwrap();
    for n in 0..3 {
        let line = json!({
            "ts": "2026-01-01T00:00:00.000Z", "op": "set", "id": "b", "data": {"n": n}, "prev": null,
        });
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
        assert_eq!(reader.tail().unwrap().operations.len(), 1);
        assert_eq!(reader.get("b").unwrap().unwrap()["n"], n);
        assert!(reader.tail().unwrap().operations.is_empty());
    }
}

#[test]
fn automatic_checkpoints_keep_the_documents_and_remove_what_they_replace() {
    for mode in [CheckpointMode::Background, CheckpointMode::Blocking] {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::<Value>::builder()
            .checkpoint_threshold(10)
            .checkpoint_mode(mode)
            .history_retention(Retention::None)
            .os_buffered(true)
            .open(directory.path())
            .unwrap();
        for n in 0..500 {
            store.set(&format!("{}", n % 20), &json!({"n": n})).unwrap();
        }
        store.close().unwrap();
        for folder in ["snapshots", "ops"] {
            let count = std::fs::read_dir(directory.path().join(folder))
                .unwrap()
                .count();
            assert_eq!(count, 1, "{folder}");
        }
        let store = Store::<Value>::open(directory.path()).unwrap();
        assert_eq!(store.count().unwrap(), 20);
        assert_eq!(store.get("19").unwrap().unwrap()["n"], 499);
    }
}

#[test]
fn threads_write_and_read_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::<Value>::builder()
        .checkpoint_threshold(200)
        .open(directory.path())
        .unwrap();
    thread::scope(|scope| {
        for thread in 0..8 {
            let store = store.clone();
            scope.spawn(move || {
                for n in 0..100 {
                    store
                        .set(&format!("{thread}-{n}"), &json!({"n": n}))
                        .unwrap();
                    assert!(store.has(&format!("{thread}-{n}")).unwrap());
                    let view = store.view().unwrap();
                    assert_eq!(view.iter().count(), view.len());
                }
            });
        }
    });
    assert_eq!(store.count().unwrap(), 800);
    store.close().unwrap();
    let store = Store::<Value>::open(directory.path()).unwrap();
    assert_eq!(store.count().unwrap(), 800);
}

#[test]
fn the_snapshot_and_the_log_together_are_the_state() {
    let store = Store::<Value>::in_memory().unwrap();
    for n in 0..1000 {
        store.set(&format!("{n}"), &json!({"n": n})).unwrap();
        if n == 600 {
            store.compact().unwrap();
        }
    }
    let snapshot: Vec<_> = store
        .stream_snapshot()
        .unwrap()
        .map(|item| item.unwrap().0)
        .collect();
    let log: Vec<_> = store
        .log_ops(Since::Start)
        .unwrap()
        .map(|item| item.unwrap().id)
        .collect();
    assert_eq!((snapshot.len(), log.len()), (601, 399));
    let all: Vec<_> = store
        .entries()
        .unwrap()
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!([snapshot, log].concat(), all);
}

#[test]
fn the_history_of_many_checkpoints_stays_in_few_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::<Value>::builder()
        .checkpoint_threshold(1)
        .checkpoint_mode(CheckpointMode::Blocking)
        .os_buffered(true)
        .open(directory.path())
        .unwrap();
    let mut cursor = None;
    for n in 0..300 {
        store.set(&format!("{}", n % 3), &json!({"n": n})).unwrap();
        if n == 100 {
            cursor = store
                .ops(Since::Start)
                .unwrap()
                .last()
                .map(|operation| operation.cursor.clone());
        }
    }
    assert!(store.manifest().unwrap().sealed_logs.len() <= 33);
    let numbers = |operations: Vec<opslog::Operation>| -> Vec<i64> {
        let values = operations.iter().map(|operation| {
            operation.data.as_ref().unwrap().decode::<Value>().unwrap()["n"]
                .as_i64()
                .unwrap()
        });
        values.collect()
    };
    assert_eq!(
        numbers(store.ops(Since::Start).unwrap()),
        (0..300).collect::<Vec<_>>()
    );
    assert_eq!(
        numbers(store.ops(cursor.unwrap()).unwrap()),
        (101..300).collect::<Vec<_>>()
    );
    for _ in 0..300 {
        assert!(store.undo().unwrap());
    }
    assert_eq!(store.count().unwrap(), 0);
    assert!(!store.undo().unwrap());
    drop(store);
    let store = Store::<Value>::open(directory.path()).unwrap();
    assert_eq!(store.count().unwrap(), 0);
}

#[test]
fn a_reader_several_checkpoints_behind_reads_only_what_is_new() {
    let backend = MemoryBackend::new();
    let writer: Store = Store::builder()
        .checkpoint_threshold(3)
        .checkpoint_mode(CheckpointMode::Blocking)
        .open_backend(backend.clone())
        .unwrap();
    writer.set("a", &json!({})).unwrap();
    let reader: Store = Store::builder()
        .read_only(true)
        .open_backend(backend)
        .unwrap();
    for round in 0..12 {
        for n in 0..(round * 5) % 120 {
            writer
                .set(&format!("{round}-{n}"), &json!({"n": n}))
                .unwrap();
        }
        let tail = reader.tail().unwrap();
        assert_eq!(
            (tail.operations.len(), tail.rewound),
            ((round * 5) % 120, false)
        );
        assert_eq!(reader.entries().unwrap(), writer.entries().unwrap());
    }
}

#[test]
fn no_file_ever_takes_the_name_of_one_that_was_removed() {
    let backend = MemoryBackend::new();
    let store: Store = Store::builder().open_backend(backend.clone()).unwrap();
    let (mut now, mut gone) = (HashSet::new(), HashSet::new());
    for n in 0..400 {
        store.set("a", &json!({"n": n})).unwrap();
        store.compact().unwrap();
        let names = ["ops/", "snapshots/"].map(|folder| backend.list(folder).unwrap());
        let names = names.into_iter().flatten().map(|info| info.name);
        let names: HashSet<String> = names.collect();
        gone.extend(now.difference(&names).cloned());
        assert!(names.is_disjoint(&gone), "after {n} checkpoints");
        now = names;
    }
    assert!(gone.len() > 400, "{}", gone.len());
}

#[test]
fn a_reader_of_a_newer_version_shows_migrated_documents_and_writes_nothing() {
    let backend = MemoryBackend::new();
    let writer: Store = Store::builder().open_backend(backend.clone()).unwrap();
    writer.set("a", &json!({"n": 1})).unwrap();
    let reader: Store = Store::builder()
        .read_only(true)
        .version(2)
        .migrate(|mut document, from| {
            document["from"] = from.into();
            Ok(document)
        })
        .open_backend(backend)
        .unwrap();
    for n in 0..4 {
        writer.set("b", &json!({"n": n})).unwrap();
        if n == 1 {
            writer.compact().unwrap();
        }
        if n == 2 {
            reader.refresh().unwrap();
            writer.undo().unwrap();
        }
        reader.refresh().unwrap();
        for (id, document) in reader.entries().unwrap() {
            assert_eq!(document["from"], 1, "{id} {n}");
        }
    }
    assert_eq!(writer.manifest().unwrap().version, 1);
    assert!(writer.get("a").unwrap().unwrap().get("from").is_none());
}

#[test]
fn a_reader_beside_a_busy_writer_never_takes_what_is_being_written_for_damage() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Store::<Value>::builder()
        .history_retention(Retention::None)
        .open(directory.path())
        .unwrap();
    writer.set("first", &json!({})).unwrap();
    let busy = std::sync::atomic::AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            let text = "x".repeat(1000);
            for n in 1..300 {
                if !busy.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let written = writer.batch(|batch| {
                    for k in 0..20 {
                        batch.set(&format!("{k}"), &json!({"n": n, "text": text}))?;
                    }
                    Ok(())
                });
                written.unwrap();
                if n % 17 == 0 {
                    writer.compact().unwrap();
                }
                if n % 5 == 0 {
                    writer.undo().unwrap();
                }
            }
        });
        for _ in 0..60 {
            let reader: Store = Store::builder()
                .read_only(true)
                .open(directory.path())
                .unwrap();
            let mut damage = reader.open_report().damage.iter();
            assert!(damage.all(|damage| damage.kind == DamageKind::Torn));
            reader.refresh().unwrap();
            let report = opslog::verify(directory.path()).unwrap();
            assert!(report.is_sound(), "{report:?}");
        }
        busy.store(false, std::sync::atomic::Ordering::Relaxed);
    });
}
