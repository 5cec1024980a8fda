//! The faults of the reference (`@backloghq/opslog` 0.8.1), each with the tests that fail on a store that has it.
//!
//! | # | fault | tests |
//! |---|---|---|
//! | 1 | nothing is ever synced | `an_immediate_write_is_synced_before_it_returns`, `a_new_store_is_on_stable_storage_when_open_returns`, `a_checkpoint_syncs_what_it_writes_before_it_removes_what_it_replaces` |
//! | 2 | a failed snapshot write is taken for success | `a_snapshot_that_could_not_be_written_is_not_switched_to` |
//! | 3 | a torn last line swallows the next operation | `a_torn_last_line_does_not_swallow_the_next_operation` |
//! | 4 | a batch cut by a crash is half applied | `a_batch_cut_by_a_crash_is_not_half_applied` |
//! | 5 | a failed append leaves traces | `a_failed_append_leaves_no_trace_in_memory_in_history_or_in_the_next_checkpoint`, `an_append_cut_by_a_full_disk_does_not_eat_the_next_write` |
//! | 6 | undo cuts the wrong operation | `undo_counts_bytes_and_not_characters`, `undo_takes_one_operation_whatever_the_length_of_its_line`, `undo_takes_back_the_newest_operation_before_it_is_flushed` |
//! | 7 | a batch overtakes buffered writes | `a_batch_does_not_overtake_buffered_writes` |
//! | 8 | several writers erase each other's work | (the tests of the multi-writer store) |
//! | 9 | locks | `a_dead_process_s_locks_stop_nothing`, `of_two_openers_of_a_dead_process_s_store_exactly_one_wins`, `the_process_of_another_user_counts_as_alive`, `an_empty_lock_that_is_being_written_is_not_stolen`, `a_failed_open_does_not_keep_the_lock` |
//! | 10 | what cannot be read is taken for nothing | `a_store_that_cannot_be_read_is_not_taken_for_an_empty_one` |
//! | 11 | damage opens without an error | `a_snapshot_cut_at_a_line_boundary_is_noticed`, `a_missing_log_is_noticed`, `a_corrupt_middle_line_is_noticed_and_kept` |
//! | 12 | checkpoints cost too much and leave their files | `checkpoints_write_in_proportion_to_what_changed`, `replaced_files_are_removed` |
//! | 13 | readers go blind, or read everything again | `a_reader_sees_what_is_written_after_checkpoints`, `a_look_with_nothing_new_costs_the_same_however_long_the_log` |
//! | 14 | history and undo vanish at a checkpoint | `history_and_undo_reach_back_across_checkpoints_and_reopens` |
//! | 15 | values that JSON cannot express | `a_value_that_would_be_lost_is_refused`, `a_value_that_cannot_be_serialised_does_not_stop_later_checkpoints` |
//! | 16 | paths leave the directory | `no_name_leads_out_of_the_store_or_onto_its_own_files`, `a_manifest_that_names_files_outside_is_refused` |
//! | 17 | migration skips the log | `a_migration_covers_the_operations_after_the_snapshot` |
//! | 18 | documents change without an operation | `changing_a_document_after_get_or_set_does_not_change_the_store` |
//! | 19 | async mode | `async_writes_are_checkpointed`, `a_failed_flush_in_the_background_is_told`, `flush_covers_every_write_accepted_before_it` |
//! | 20 | streaming reads the whole file, past the backend | `streaming_a_snapshot_reads_it_piece_by_piece`, `streaming_goes_through_the_backend` |
//!
//! Most run on the simulated disk, where calls can be counted, made to fail, and the power be cut.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test fails by panicking, helpers included; the tests damage files from outside, and say when they must be skipped"
)]

use std::sync::{Arc, Barrier};
use std::time::Duration;

use opslog::backend::{Backend, Call, CallKind, Fault, SimulatedDisk};
use opslog::{
    Blobs, CheckpointMode, ErrorKind, FsBackend, MemoryBackend, Result, Retention, Since, Store,
    StoreBuilder, WriteMode,
};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_hours(1);

/// A store's directory on a simulated disk.
struct Machine(SimulatedDisk);

impl Machine {
    fn new() -> Self {
        Self(SimulatedDisk::new())
    }

    fn backend(&self) -> FsBackend {
        FsBackend::on(Arc::new(self.0.clone()), "/store").with_padding(256, 256)
    }

    fn try_open(&self, builder: StoreBuilder) -> Result<Store> {
        builder.open_backend(self.backend())
    }

    fn open_with(&self, builder: StoreBuilder) -> Store {
        self.try_open(builder).unwrap()
    }

    fn open(&self) -> Store {
        self.open_with(Store::builder())
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let objects = self.backend().list(prefix).unwrap();
        let mut names: Vec<_> = objects.into_iter().map(|object| object.name).collect();
        names.sort();
        names
    }

    fn file(&self, name: &str) -> Vec<u8> {
        self.0.content(format!("/store/{name}")).unwrap()
    }

    fn plant(&self, name: &str, bytes: &[u8]) {
        self.0.plant(format!("/store/{name}"), bytes).unwrap();
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&self.file("manifest.json")).unwrap()
    }

    fn log_name(&self) -> String {
        self.manifest()["activeOps"].as_str().unwrap().to_owned()
    }

    /// The log without its padding.
    fn log(&self) -> Vec<u8> {
        let mut bytes = self.file(&self.log_name());
        let kept = bytes.trim_ascii_end().len();
        bytes.truncate(kept + usize::from(kept > 0));
        bytes
    }

    /// The calls that `f` makes.
    fn trace(&self, f: impl FnOnce()) -> Vec<Call> {
        self.0.record();
        f();
        self.0.trace()
    }
}

fn ids(store: &Store) -> Vec<String> {
    let entries = store.entries().unwrap();
    entries.into_iter().map(|(id, _)| id).collect()
}

fn put(store: &Store, id: &str, n: i64) {
    store.set(id, &json!({ "n": n })).unwrap();
}

fn n(store: &Store, id: &str) -> Option<i64> {
    store.get(id).unwrap().and_then(|found| found["n"].as_i64())
}

fn group() -> WriteMode {
    WriteMode::Group {
        size: 1000,
        interval: HOUR,
    }
}

fn asynchronous() -> WriteMode {
    WriteMode::Async {
        size: 1000,
        interval: HOUR,
    }
}

/// The place of the first call of this kind on a path that has `part` in it, at or after `from`.
fn place(calls: &[Call], from: usize, kind: CallKind, part: &str) -> usize {
    let found = calls.iter().enumerate().skip(from);
    let mut found = found
        .filter(|(_, call)| call.kind == kind && call.path.to_string_lossy().contains(part))
        .map(|(index, _)| index);
    let first = found.next();
    first.unwrap_or_else(|| panic!("no {kind:?} of {part} after call {from} of {calls:#?}"))
}

// 1

#[test]
fn an_immediate_write_is_synced_before_it_returns() {
    let machine = Machine::new();
    let store = machine.open();
    let writes: [&dyn Fn(); 4] = [
        &|| put(&store, "a", 1),
        &|| {
            store
                .batch(|batch| batch.set("b", &json!({})).and_then(|()| batch.delete("a")))
                .unwrap();
        },
        &|| store.delete("b").unwrap(),
        &|| assert!(store.undo().unwrap()),
    ];
    for write in writes {
        let calls = machine.trace(write);
        let last = calls
            .iter()
            .rposition(|call| matches!(call.kind, CallKind::Write | CallKind::SetLength));
        let synced = calls
            .iter()
            .rposition(|call| matches!(call.kind, CallKind::SyncData | CallKind::SyncAll));
        assert!(last.is_some() && last < synced, "{calls:#?}");
        assert_eq!(machine.0.unsynced_changes(), 0);
    }
    assert_eq!(ids(&store), ["b"]);
}

#[test]
fn a_new_store_is_on_stable_storage_when_open_returns() {
    let machine = Machine::new();
    let store = machine.open();
    put(&store, "a", 1);
    let all = machine.0.each_crash_state(10_000, |disk| {
        let store = Machine(disk).open();
        assert_eq!(n(&store, "a"), Some(1));
    });
    assert!(all, "more outcomes than were looked at");
}

#[test]
fn a_checkpoint_syncs_what_it_writes_before_it_removes_what_it_replaces() {
    let machine = Machine::new();
    let store = machine.open_with(Store::builder().history_retention(Retention::None));
    put(&store, "a", 1);
    let old_snapshot = store.manifest().unwrap().current_snapshot;
    let old_log = store.manifest().unwrap().active_ops;
    let calls = machine.trace(|| store.compact().unwrap());
    let mut at = 0;
    for (kind, part) in [
        (CallKind::Create, "snapshots/snap-"),
        (CallKind::Write, "snapshots/snap-"),
        (CallKind::SyncAll, "snapshots/snap-"),
        (CallKind::HardLink, "snapshots/snap-"),
        (CallKind::SyncDir, "snapshots"),
        (CallKind::Create, "ops/ops-"),
        (CallKind::SyncDir, "ops"),
        (CallKind::Create, "manifest.json"),
        (CallKind::Write, "manifest.json"),
        (CallKind::SyncAll, "manifest.json"),
        (CallKind::Rename, "manifest.json"),
        (CallKind::SyncDir, "/store"),
        (CallKind::Remove, &*old_snapshot),
    ] {
        at = place(&calls, at, kind, part) + 1;
    }
    let switched = place(&calls, 0, CallKind::Rename, "manifest.json");
    assert!(place(&calls, 0, CallKind::Remove, &old_log) > switched);
}

// 2

#[test]
fn a_snapshot_that_could_not_be_written_is_not_switched_to() {
    let fill = |store: &Store| (0..20).for_each(|n| put(store, &format!("{n}"), n));
    let calls = {
        let machine = Machine::new();
        let store = machine.open();
        fill(&store);
        machine.trace(|| store.compact().unwrap()).len()
    };
    for full_for_good in [false, true] {
        for call in 0..calls {
            let machine = Machine::new();
            let store = machine.open();
            fill(&store);
            let call = machine.0.calls() + call;
            if full_for_good {
                machine.0.fill_up_from(call);
            } else {
                machine.0.fail(call, Fault::Enospc);
            }
            let compacted = store.compact();
            machine.0.mend();
            assert_eq!(store.count().unwrap(), 20);
            if compacted.is_ok() || compacted.unwrap_err().kind() != ErrorKind::Poisoned {
                put(&store, "later", 1);
            }
            let expected = store.entries().unwrap();
            drop(store);
            assert_eq!(machine.open().entries().unwrap(), expected);
        }
    }
}

// 3

#[test]
fn a_torn_last_line_does_not_swallow_the_next_operation() {
    let machine = Machine::new();
    let store = machine.open();
    put(&store, "first", 1);
    let whole = machine.log().len();
    put(&store, "torn", 2);
    drop(store);
    let log = machine.log();
    for length in whole + 1..log.len() - 1 {
        let machine = Machine(machine.0.killed());
        machine.plant(&machine.log_name(), &log[..length]);
        let store = machine.open();
        assert_eq!(ids(&store), ["first"], "cut at {length}");
        assert_eq!(store.open_report().damage.len(), 1);
        put(&store, "next", 3);
        let killed = Machine(machine.0.killed());
        assert_eq!(ids(&killed.open()), ["first", "next"], "cut at {length}");
    }
}

// 4

#[test]
fn a_batch_cut_by_a_crash_is_not_half_applied() {
    let machine = Machine::new();
    let store = machine.open();
    put(&store, "before", 1);
    let start = machine.log().len();
    store
        .batch(|batch| {
            batch.set("x", &json!({"n": 1}))?;
            batch.delete("before")?;
            batch.set("y", &json!({"n": 2}))
        })
        .unwrap();
    drop(store);
    let log = machine.log();
    for length in (start..=log.len()).rev().step_by(2) {
        let machine = Machine(machine.0.killed());
        machine.plant(&machine.log_name(), &log[..length]);
        let store = machine.open();
        let whole = length >= log.len() - 1;
        let expected = if whole {
            vec!["x", "y"]
        } else {
            vec!["before"]
        };
        assert_eq!(ids(&store), expected, "cut at {length}");
    }
}

// 5

#[test]
fn a_failed_append_leaves_no_trace_in_memory_in_history_or_in_the_next_checkpoint() {
    let machine = Machine::new();
    let store = machine.open();
    put(&store, "a", 1);
    machine.0.fill_up_from(0);
    let refused = [
        store.set("a", &json!({"n": 2})).unwrap_err(),
        store.set("b", &json!({})).unwrap_err(),
        store.batch(|batch| batch.delete("a")).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("free some space"), "{error}");
    }
    assert_eq!(n(&store, "a"), Some(1));
    assert!(!store.has("b").unwrap());
    machine.0.mend();
    assert_eq!(store.ops(Since::Start).unwrap().len(), 1);
    put(&store, "c", 3);
    store.compact().unwrap();
    store.close().unwrap();
    let store = machine.open();
    assert_eq!(ids(&store), ["a", "c"]);
    assert_eq!(n(&store, "a"), Some(1));
    assert_eq!(store.history("a").unwrap().len(), 1);
}

#[test]
fn an_append_cut_by_a_full_disk_does_not_eat_the_next_write() {
    for cut in [1, 20, 100] {
        let machine = Machine::new();
        let store = machine.open();
        put(&store, "a", 1);
        let next = machine.0.calls();
        machine.0.fail(next, Fault::ShortWrite(cut));
        // Whatever follows within the call fails too, cleaning up included.
        for call in next + 1..next + 10 {
            machine.0.fail(call, Fault::Enospc);
        }
        let refused = store.set("b", &json!({"text": "x".repeat(1000)}));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
        machine.0.mend();
        put(&store, "c", 3);
        let killed = Machine(machine.0.killed());
        let store = killed.open();
        assert_eq!(ids(&store), ["a", "c"], "cut at {cut}");
        assert!(store.open_report().damage.is_empty());
    }
}

// 6

#[test]
fn undo_counts_bytes_and_not_characters() {
    let machine = Machine::new();
    let store = machine.open();
    store.set("é", &json!({"text": "ééé🦀"})).unwrap();
    store.set("b", &json!({"text": "ünï"})).unwrap();
    store.set("🦀", &json!({"text": "é"})).unwrap();
    assert!(store.undo().unwrap());
    assert_eq!(ids(&store), ["é", "b"]);
    drop(store);
    let store = machine.open();
    assert_eq!(ids(&store), ["é", "b"]);
    assert!(store.undo().unwrap());
    drop(store);
    assert_eq!(ids(&machine.open()), ["é"]);
}

#[test]
fn undo_takes_one_operation_whatever_the_length_of_its_line() {
    let machine = Machine::new();
    let line_length = |text: usize| {
        let before = machine.log().len();
        let store = machine.open();
        let document = json!({"text": "x".repeat(text)});
        store.set("long", &document).unwrap();
        drop(store);
        machine.log().len() - before
    };
    put(&machine.open(), "first", 1);
    put(&machine.open(), "second", 2);
    let overhead = line_length(1000) - 1000;
    assert!(machine.open().undo().unwrap());
    for length in [4095, 4096, 4097, 65_535, 65_536, 65_537] {
        // An offset in the line takes more digits as it grows, so the length is looked for.
        let found = (0..8).any(|less| {
            let exact = line_length(length - overhead - less) == length;
            if !exact {
                assert!(machine.open().undo().unwrap());
            }
            exact
        });
        assert!(found, "no line of {length} bytes was made");
        let store = machine.open();
        assert!(store.undo().unwrap());
        assert_eq!(ids(&store), ["first", "second"], "{length} bytes");
        drop(store);
        assert_eq!(ids(&machine.open()), ["first", "second"], "{length} bytes");
    }
}

#[test]
fn undo_takes_back_the_newest_operation_before_it_is_flushed() {
    for mode in [group(), asynchronous()] {
        let machine = Machine::new();
        let store = machine.open_with(Store::builder().write_mode(mode));
        put(&store, "a", 1);
        store.flush().unwrap();
        put(&store, "b", 2);
        put(&store, "c", 3);
        assert!(store.undo().unwrap());
        assert_eq!(ids(&store), ["a", "b"]);
        store.flush().unwrap();
        assert_eq!(ids(&Machine(machine.0.killed()).open()), ["a", "b"]);
    }
}

// 7

#[test]
fn a_batch_does_not_overtake_buffered_writes() {
    for mode in [group(), asynchronous()] {
        let machine = Machine::new();
        let store = machine.open_with(Store::builder().write_mode(mode));
        put(&store, "a", 1);
        put(&store, "b", 1);
        store
            .batch(|batch| {
                batch.set("a", &json!({"n": 2}))?;
                batch.set("c", &json!({"n": 2}))
            })
            .unwrap();
        put(&store, "b", 3);
        let prefixes = [
            json!([]),
            json!([["a", 1]]),
            json!([["a", 1], ["b", 1]]),
            json!([["a", 2], ["b", 1], ["c", 2]]),
            json!([["a", 2], ["b", 3], ["c", 2]]),
        ];
        let found = |machine: Machine| {
            let store = machine.open();
            let all = ids(&store)
                .into_iter()
                .map(|id| json!([id, n(&store, &id)]));
            Value::Array(all.collect())
        };
        machine.0.each_crash_state(1000, |disk| {
            let found = found(Machine(disk));
            assert!(prefixes.contains(&found), "{mode:?}: {found}");
        });
        store.flush().unwrap();
        assert_eq!(found(Machine(machine.0.killed())), prefixes[4]);
    }
}

// 9

/// The id of a process that has ended.
fn dead_process() -> u32 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[test]
fn a_dead_process_s_locks_stop_nothing() {
    let directory = tempfile::tempdir().unwrap();
    put(&Store::open(directory.path()).unwrap(), "a", 1);
    let dead = dead_process();
    // `.compact-lock` is the reference's, and has no process id in it.
    std::fs::write(directory.path().join(".compact-lock"), "").unwrap();
    for content in [
        dead.to_string(),
        format!("{dead}\n"),
        format!("{dead}\nopslog\n"),
    ] {
        std::fs::write(directory.path().join(".lock"), content).unwrap();
        let store = Store::<Value>::open(directory.path()).unwrap();
        put(&store, "a", 2);
        store.compact().unwrap();
        store.close().unwrap();
        assert!(!directory.path().join(".lock").exists());
    }
}

#[test]
fn of_two_openers_of_a_dead_process_s_store_exactly_one_wins() {
    // In memory where there is such a folder: the lock itself is always synced, and a thousand syncs take their time.
    let directory = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let open = || {
        let builder = Store::<Value>::builder().os_buffered(true);
        builder.checkpoint_on_close(false).open(directory.path())
    };
    drop(open().unwrap());
    let dead = dead_process();
    for round in 0..1000 {
        let content = match round % 2 {
            0 => dead.to_string(),
            _ => format!("{dead}\nopslog\n"),
        };
        std::fs::write(directory.path().join(".lock"), content).unwrap();
        let barrier = Barrier::new(2);
        let opened = std::thread::scope(|scope| {
            let opener = || {
                barrier.wait();
                open()
            };
            [scope.spawn(opener), scope.spawn(opener)].map(|thread| thread.join().unwrap())
        });
        let refusals: Vec<_> = opened
            .iter()
            .filter_map(|store| store.as_ref().err())
            .collect();
        assert_eq!(refusals.len(), 1, "round {round}: {opened:?}");
        assert!(refusals[0].is_locked(), "round {round}: {:?}", refusals[0]);
    }
}

/// Runs `test` of this program again as a user who is not root; true if this is that run, or the first one has no such rights to drop.
fn is_unprivileged(test: &str) -> bool {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("test");
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), everybody).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let run = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", test, "--nocapture"])
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .output();
    match run {
        Err(error) => eprintln!("SKIPPED {test}: cannot run setpriv: {error}"),
        Ok(output) => assert!(output.status.success(), "{output:?}"),
    }
    false
}

#[test]
fn the_process_of_another_user_counts_as_alive() {
    if !is_unprivileged("the_process_of_another_user_counts_as_alive") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // The first process is root's.
    std::fs::write(directory.path().join(".lock"), "1").unwrap();
    let error = Store::<Value>::open(directory.path()).unwrap_err();
    assert!(error.is_locked(), "{error:?}");
    assert!(error.to_string().contains("process 1;"), "{error}");
    let left = std::fs::read(directory.path().join(".lock")).unwrap();
    assert_eq!(left, b"1");
}

#[test]
fn an_empty_lock_that_is_being_written_is_not_stolen() {
    let machine = Machine::new();
    drop(machine.open());
    machine.plant(".lock", b"");
    let error = machine.try_open(Store::builder()).unwrap_err();
    assert!(error.is_locked(), "{error:?}");
    assert!(machine.names("").contains(&".lock".to_owned()));
    machine.0.advance(Duration::from_mins(1));
    machine.open();
}

#[test]
fn a_failed_open_does_not_keep_the_lock() {
    let machine = Machine::new();
    put(&machine.open(), "a", 1);
    let manifest = machine.file("manifest.json");
    machine.plant("manifest.json", b"{");
    let error = machine.try_open(Store::builder()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!machine.names("").contains(&".lock".to_owned()));
    machine.plant("manifest.json", &manifest);
    let refused = Store::builder().migrate(|_, _| Err("no".into())).version(2);
    machine.try_open(refused).unwrap_err();
    assert_eq!(ids(&machine.open()), ["a"]);
    let calls = machine.trace(|| drop(machine.open())).len();
    for call in 0..calls {
        machine.0.fail(machine.0.calls() + call, Fault::Eio);
        drop(machine.try_open(Store::builder()));
        machine.0.mend();
        assert_eq!(ids(&machine.open()), ["a"], "call {call}");
    }
}

// 10

#[test]
fn a_store_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let machine = Machine::new();
    let store = machine.open();
    put(&store, "in the snapshot", 1);
    store.compact().unwrap();
    put(&store, "in the log", 2);
    drop(store);
    let writer: fn() -> StoreBuilder = Store::builder;
    let reader = || Store::builder().read_only(true);
    for builder in [writer, reader] {
        let calls = {
            let machine = Machine(machine.0.killed());
            machine.trace(|| drop(machine.open_with(builder()))).len()
        };
        for call in 0..calls {
            let machine = Machine(machine.0.killed());
            machine.0.fail(machine.0.calls() + call, Fault::Eio);
            let expected = ["in the snapshot", "in the log"];
            match machine.try_open(builder()) {
                Ok(store) => assert_eq!(ids(&store), expected, "call {call}"),
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Poisoned),
                    "call {call}: {error:?}"
                ),
            }
            machine.0.mend();
            assert_eq!(ids(&machine.open()), expected, "call {call}");
        }
    }
}

// 11

#[test]
fn a_snapshot_cut_at_a_line_boundary_is_noticed() {
    let machine = Machine::new();
    let store = machine.open();
    (0..5).for_each(|n| put(&store, &format!("{n}"), n));
    store.close().unwrap();
    let name = machine.manifest()["currentSnapshot"]
        .as_str()
        .unwrap()
        .to_owned();
    let whole = machine.file(&name);
    let boundaries = (0..whole.len() - 1).filter(|index| whole[*index] == b'\n');
    for boundary in boundaries {
        machine.plant(&name, &whole[..=boundary]);
        let error = machine.try_open(Store::builder()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert!(error.to_string().contains("snap-"), "{error}");
    }
}

#[test]
fn a_missing_log_is_noticed() {
    let machine = Machine::new();
    put(&machine.open(), "a", 1);
    let name = machine.log_name();
    machine.backend().delete(&name).unwrap();
    let error = machine.try_open(Store::builder()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.to_string().contains(&name), "{error}");
}

#[test]
fn a_corrupt_middle_line_is_noticed_and_kept() {
    let machine = Machine::new();
    let store = machine.open();
    for id in ["a", "b", "c"] {
        put(&store, id, 1);
    }
    drop(store);
    let mut log = machine.log();
    let middle = log.len() / 2;
    log[middle] ^= 1;
    machine.plant(&machine.log_name(), &log);
    let strict = machine.try_open(Store::builder().strict(true));
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::Corrupt);
    let name = machine.log_name();
    let store = machine.open();
    assert_eq!(ids(&store), ["a", "c"]);
    assert_eq!(store.open_report().damage.len(), 1);
    assert_eq!(store.stats().unwrap().damage, 1);
    let kept = machine.file(&format!("{name}.damaged"));
    assert!(
        log.windows(kept.len() - 1)
            .any(|part| part == &kept[..kept.len() - 1])
    );
}

// 12

#[test]
fn checkpoints_write_in_proportion_to_what_changed() {
    let machine = Machine::new();
    let store = machine.open_with(Store::builder().checkpoint_mode(CheckpointMode::Blocking));
    let document = |n: usize| json!({"n": n, "text": "some text that makes it longer"});
    let fill = |batch: &mut opslog::Batch<'_, Value>| {
        (0..1000).try_for_each(|n| batch.set(&n.to_string(), &document(n)))
    };
    store.batch(fill).unwrap();
    store.compact().unwrap();
    let (mut snapshot, mut checkpoints, mut written) = (String::new(), 0, 0);
    let calls = machine.trace(|| {
        for n in 0..5000 {
            store.set(&(n % 1000).to_string(), &document(n)).unwrap();
            let manifest = store.manifest().unwrap();
            if manifest.current_snapshot != snapshot {
                snapshot = manifest.current_snapshot;
                checkpoints += 1;
                written += store.stats().unwrap().snapshot_bytes;
            }
        }
    });
    let stats = store.stats().unwrap();
    assert!(checkpoints <= 6, "{checkpoints} checkpoints");
    assert!(written < stats.history_bytes + stats.log_bytes);
    let created = calls.iter().filter(|call| {
        call.kind == CallKind::HardLink && call.path.starts_with("/store/snapshots")
    });
    assert!(created.count() <= 6);
}

#[test]
fn replaced_files_are_removed() {
    for (retention, logs) in [(Retention::None, 1), (Retention::All, 11)] {
        let machine = Machine::new();
        let builder = Store::builder().checkpoint_mode(CheckpointMode::Blocking);
        let store = machine.open_with(
            builder
                .checkpoint_threshold(10)
                .history_retention(retention),
        );
        (0..105).for_each(|n| put(&store, "a", n));
        assert_eq!(machine.names("snapshots/").len(), 1);
        assert_eq!(machine.names("ops/").len(), logs, "{retention:?}");
        let kept: usize = machine
            .names("ops/")
            .iter()
            .map(|log| machine.file(log).len())
            .sum();
        let largest = 11 * (10 * 200 + 256);
        assert!(kept < largest, "{kept} bytes of logs");
        store.close().unwrap();
        assert_eq!(machine.names("snapshots/").len(), 1);
    }
}

// 13

#[test]
fn a_reader_sees_what_is_written_after_checkpoints() {
    let machine = Machine::new();
    let writer = machine.open();
    put(&writer, "a", 0);
    let reader = Machine(machine.0.as_process(7)).open_with(Store::builder().read_only(true));
    for round in 1..10 {
        writer.compact().unwrap();
        put(&writer, "a", round);
        assert_eq!(reader.tail().unwrap().operations.len(), 1);
        assert_eq!(n(&reader, "a"), Some(round));
    }
}

#[test]
fn a_look_with_nothing_new_costs_the_same_however_long_the_log() {
    let look = |operations: usize| {
        let machine = Machine::new();
        let writer = machine.open();
        let document = json!({"text": "x".repeat(100_000)});
        for n in 0..operations {
            writer.set(&n.to_string(), &document).unwrap();
        }
        let reader = machine.open_with(Store::builder().read_only(true));
        let calls = machine.trace(|| assert!(reader.tail().unwrap().operations.is_empty()));
        calls.iter().map(|call| call.kind).collect::<Vec<_>>()
    };
    assert_eq!(look(60), look(2));
}

// 14

#[test]
fn history_and_undo_reach_back_across_checkpoints_and_reopens() {
    let machine = Machine::new();
    for round in 0..4 {
        let store = machine.open();
        put(&store, "a", round);
        store.compact().unwrap();
        put(&store, "b", round);
        store.close().unwrap();
    }
    let store = machine.open();
    assert_eq!(store.history("a").unwrap().len(), 4);
    assert_eq!(store.ops(Since::Start).unwrap().len(), 8);
    for round in (0..4).rev() {
        assert_eq!((n(&store, "a"), n(&store, "b")), (Some(round), Some(round)));
        assert!(store.undo().unwrap());
        assert!(store.undo().unwrap());
    }
    assert!(!store.undo().unwrap());
    assert_eq!(store.count().unwrap(), 0);
}

// 15

#[test]
fn a_value_that_would_be_lost_is_refused() {
    let machine = Machine::new();
    let store = machine.open();
    for document in [
        json!(1),
        json!("text"),
        json!([1]),
        json!(null),
        json!(true),
    ] {
        let error = store.set("a", &document).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{document}");
    }
    assert_eq!(
        store.set("", &json!({})).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let numbers: Store<std::collections::BTreeMap<String, f64>> = Store::in_memory().unwrap();
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let document = std::collections::BTreeMap::from([("n".to_owned(), number)]);
        let error = numbers.set("a", &document).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!((store.count().unwrap(), numbers.count().unwrap()), (0, 0));
    assert!(machine.log().is_empty());
}

#[test]
fn a_value_that_cannot_be_serialised_does_not_stop_later_checkpoints() {
    #[derive(serde::Deserialize)]
    struct Moody {
        good: bool,
    }
    impl serde::Serialize for Moody {
        fn serialize<S: serde::Serializer>(
            &self,
            serializer: S,
        ) -> std::result::Result<S::Ok, S::Error> {
            if !self.good {
                return Err(serde::ser::Error::custom("not today"));
            }
            std::collections::BTreeMap::from([("good", true)]).serialize(serializer)
        }
    }
    let store: Store<Moody> = Store::in_memory().unwrap();
    store.set("a", &Moody { good: true }).unwrap();
    let error = store.set("a", &Moody { good: false }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("not today"), "{error}");
    store.compact().unwrap();
    assert!(store.get("a").unwrap().unwrap().good);
}

// 16

#[test]
fn no_name_leads_out_of_the_store_or_onto_its_own_files() {
    let directory = tempfile::tempdir().unwrap();
    let store: Store = Store::open(directory.path().join("store")).unwrap();
    put(&store, "a", 1);
    for name in [
        "..", "../x", "/x", "a/b", "a\\b", "", ".hidden", "x\0", "\u{e9}",
    ] {
        let error = store.archive(|_, _| true, Some(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
        let error = store.load_archive(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
    }
    for path in [
        "../x",
        "/etc/x",
        "a/../../x",
        "",
        ".",
        "..",
        "a//b",
        "C:x",
        "a\\b",
        "manifest.json",
        "MANIFEST.JSON",
        ".lock",
        ".opslog.lock",
        "ops/x",
        "snapshots/x",
        "Archive/x",
    ] {
        let error = store.backend().write_blob(path, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}");
        assert!(store.backend().delete_blob(path).is_err(), "{path:?}");
        assert!(store.backend().delete_blob_dir(path).is_err(), "{path:?}");
    }
    let around = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!((around, ids(&store)), (1, vec!["a".to_owned()]));
}

/// The manifest with its checksum made right again.
fn sealed(manifest: &Value) -> Vec<u8> {
    let mut manifest = manifest.clone();
    manifest.as_object_mut().unwrap().shift_remove("checksum");
    let mut text = serde_json::to_string_pretty(&manifest).unwrap();
    text.truncate(text.len() - "\n}".len());
    let checksum = crc32c::crc32c(text.as_bytes());
    format!("{text},\n  \"checksum\": \"{checksum:08x}\"\n}}").into_bytes()
}

#[test]
fn a_manifest_that_names_files_outside_is_refused() {
    let machine = Machine::new();
    let store = machine.open();
    for _ in 0..2 {
        put(&store, "a", 1);
        put(&store, "b", 1);
        store.archive(|_, id| id == "a", Some("2026-Q1")).unwrap();
    }
    drop(store);
    let good = machine.manifest();
    machine.plant("manifest.json", &sealed(&good));
    assert_eq!(ids(&machine.open()), ["b"]);
    for place in [
        "/currentSnapshot",
        "/activeOps",
        "/archiveSegments/0",
        "/opslog/sealed/0/path",
        "/opslog/archives/0/path",
    ] {
        for path in [
            "../outside",
            "/outside",
            "ops/../../outside",
            "manifest.json",
            "blob",
        ] {
            let mut manifest = good.clone();
            *manifest.pointer_mut(place).unwrap() = path.into();
            machine.plant("manifest.json", &sealed(&manifest));
            for read_only in [false, true] {
                let error = machine
                    .try_open(Store::builder().read_only(read_only))
                    .expect_err(place);
                assert_eq!(
                    error.kind(),
                    ErrorKind::Corrupt,
                    "{place} {path}: {error:?}"
                );
                assert!(error.to_string().contains(path), "{error}");
            }
        }
    }
}

// 17

#[test]
fn a_migration_covers_the_operations_after_the_snapshot() {
    let machine = Machine::new();
    let store = machine.open();
    put(&store, "in the snapshot", 1);
    put(&store, "updated in the log", 1);
    store.compact().unwrap();
    put(&store, "updated in the log", 2);
    put(&store, "in the log", 3);
    drop(store);
    let builder = Store::builder().version(2).migrate(|mut document, from| {
        document["was"] = from.into();
        Ok(document)
    });
    drop(machine.open_with(builder));
    let store = machine.open();
    for (_, document) in store.entries().unwrap() {
        assert_eq!(document["was"], 1, "{document}");
    }
    assert_eq!(n(&store, "updated in the log"), Some(2));
    assert_eq!(store.manifest().unwrap().version, 2);
}

// 18

#[test]
fn changing_a_document_after_get_or_set_does_not_change_the_store() {
    let store: Store = Store::in_memory().unwrap();
    let mut document = json!({"list": [1]});
    store.set("a", &document).unwrap();
    document["list"] = json!([2]);
    let mut got = store.get("a").unwrap().unwrap();
    Arc::make_mut(&mut got)["list"] = json!([3]);
    assert_eq!(*store.get("a").unwrap().unwrap(), json!({"list": [1]}));
    let mut listed = store.all().unwrap();
    Arc::make_mut(&mut listed[0])["list"] = json!([4]);
    assert_eq!(
        store.get_json("a").unwrap().unwrap().as_str(),
        r#"{"list":[1]}"#
    );
    assert!(store.undo().unwrap());
    assert!(!store.has("a").unwrap());
}

// 19

#[test]
fn async_writes_are_checkpointed() {
    let machine = Machine::new();
    let builder = Store::builder()
        .write_mode(asynchronous())
        .checkpoint_mode(CheckpointMode::Blocking)
        .history_retention(Retention::None)
        .checkpoint_threshold(10);
    let store = machine.open_with(builder);
    let first = store.manifest().unwrap().current_snapshot;
    (0..100).for_each(|n| put(&store, "a", n));
    assert!(store.stats().unwrap().ops_since_checkpoint < 10);
    assert_ne!(store.manifest().unwrap().current_snapshot, first);
    let killed = Machine(machine.0.killed());
    assert!(n(&killed.open(), "a") >= Some(90));
}

#[test]
fn a_failed_flush_in_the_background_is_told() {
    let machine = Machine::new();
    let mode = WriteMode::Async {
        size: 1,
        interval: HOUR,
    };
    let store = machine.open_with(Store::builder().write_mode(mode));
    machine.0.fill_up_from(0);
    let mut accepted = 0;
    let told = (0..10_000).find_map(|n| {
        std::thread::sleep(Duration::from_millis(1));
        let answer = store.set(&n.to_string(), &json!({"n": n}));
        accepted += usize::from(answer.is_ok());
        answer.err()
    });
    assert_eq!(
        told.expect("somebody is told").kind(),
        ErrorKind::Unavailable
    );
    machine.0.mend();
    // The failure of a last try may not have been told yet.
    drop(store.flush());
    store.flush().unwrap();
    let killed = Machine(machine.0.killed());
    assert_eq!(killed.open().count().unwrap(), accepted);
}

#[test]
fn flush_covers_every_write_accepted_before_it() {
    for mode in [group(), asynchronous()] {
        let machine = Machine::new();
        let store = machine.open_with(Store::builder().write_mode(mode));
        (0..10).for_each(|n| put(&store, &n.to_string(), n));
        store.flush().unwrap();
        let mut outcomes = 0;
        machine.0.each_crash_state(100, |disk| {
            assert_eq!(Machine(disk).open().count().unwrap(), 10);
            outcomes += 1;
        });
        assert!(outcomes > 0);
    }
}

// 20

#[test]
fn streaming_a_snapshot_reads_it_piece_by_piece() {
    let machine = Machine::new();
    let store = machine.open();
    let document = json!({"text": "x".repeat(500_000)});
    for n in 0..20 {
        store.set(&n.to_string(), &document).unwrap();
    }
    store.compact().unwrap();
    let reads = |calls: Vec<Call>| {
        let reads = calls.iter().filter(|call| call.kind == CallKind::Read);
        reads.count()
    };
    let mut stream = None;
    let first = reads(machine.trace(|| {
        let mut opened = store.stream_snapshot().unwrap();
        assert_eq!(opened.next().unwrap().unwrap().0, "0");
        stream = Some(opened);
    }));
    let rest = reads(machine.trace(|| assert_eq!(stream.take().unwrap().count(), 19)));
    assert!(
        first < rest,
        "{first} reads for the first document, {rest} for the others"
    );
}

#[test]
fn streaming_goes_through_the_backend() {
    let store: Store = Store::builder().open_backend(MemoryBackend::new()).unwrap();
    put(&store, "a", 1);
    store.compact().unwrap();
    put(&store, "b", 2);
    let snapshot = store.stream_snapshot().unwrap().map(|item| item.unwrap().0);
    assert_eq!(snapshot.collect::<Vec<_>>(), ["a"]);
    let log = store
        .log_ops(Since::Start)
        .unwrap()
        .map(|item| item.unwrap().id);
    assert_eq!(log.collect::<Vec<_>>(), ["b"]);
}
