//! Damage of a log stays damage: whatever is cut off behind it, now or later, nothing takes it for a torn write afterwards, and what lies behind it is not lost with it.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something unexpected happens"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use opslog::backend::{Fault, FsBackend, SimulatedDisk, seeded};
use opslog::{
    Backend, CheckpointMode, DamageKind, DamageReport, ErrorKind, MemoryBackend, Residency, Store,
};
use serde_json::json;

/// A log with lines that its writes may have left.
#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    seq: u64,
}

impl Log {
    /// A line of the write that began at `at`, and where it is.
    fn line(&mut self, at: usize, id: &str, batch: &str) -> std::ops::Range<usize> {
        let start = self.bytes.len();
        let line = format!(
            "{{\"ts\":\"2026-01-02T03:04:05.678Z\",\"op\":\"set\",\"id\":\"{id}\",\"prev\":null,\"data\":{{}}{batch},\"seq\":{},\"at\":{at}",
            self.seq
        );
        let crc = crc32c::crc32c(line.as_bytes());
        let line = format!("{line},\"crc\":\"{crc:08x}\"}}\n");
        self.bytes.extend_from_slice(line.as_bytes());
        self.seq += 1;
        start..self.bytes.len()
    }

    /// A write of one line of its own.
    fn write(&mut self, id: &str) -> std::ops::Range<usize> {
        self.line(self.bytes.len(), id, "")
    }

    /// The first lines of a batch.
    fn torn_batch(&mut self) -> std::ops::Range<usize> {
        let at = self.bytes.len();
        self.line(at, "x", ",\"batch\":[0,3]");
        self.line(at, "y", ",\"batch\":[1,3]");
        at..self.bytes.len()
    }

    fn spoil(&mut self, line: std::ops::Range<usize>) {
        self.bytes[line][20..24].fill(b'?');
    }
}

/// What a log holds that is damaged in its last whole write, and ends in a torn batch: the damaged line, the batch, and the ids that are left.
struct Specimen {
    log: Log,
    damaged: std::ops::Range<usize>,
    left: Vec<&'static str>,
}

/// With nothing between the damage and the torn batch; and with a line between them that the damaged write brought, so that nothing but the batch says that it was synced.
fn specimens() -> [Specimen; 2] {
    let mut log = Log::default();
    log.write("a");
    let damaged = log.write("b");
    log.spoil(damaged.clone());
    log.torn_batch();
    let alone = Specimen {
        log,
        damaged,
        left: vec!["a"],
    };
    let mut log = Log::default();
    log.write("a");
    let damaged = log.write("b");
    log.spoil(damaged.clone());
    log.line(damaged.start, "c", "");
    log.torn_batch();
    let followed = Specimen {
        log,
        damaged,
        left: vec!["a", "c"],
    };
    [alone, followed]
}

fn backend(disk: &SimulatedDisk) -> FsBackend {
    FsBackend::on(Arc::new(disk.clone()), "/store").with_padding(512, 512)
}

fn open(backend: impl Backend) -> opslog::Result<Store> {
    Store::builder()
        .checkpoint_mode(CheckpointMode::Blocking)
        .checkpoint_on_close(false)
        .open_backend(backend)
}

fn read(backend: impl Backend) -> opslog::Result<Store> {
    Store::builder().read_only(true).open_backend(backend)
}

fn ids(store: &Store) -> Vec<String> {
    let entries = store.entries().unwrap();
    entries.into_iter().map(|(id, _)| id).collect()
}

/// Puts a store with this log on `backend`; returns the log's name.
fn put(backend: &impl Backend, open_it: impl FnOnce() -> Store, log: &[u8]) -> String {
    let store = open_it();
    let name = store.manifest().unwrap().active_ops;
    store.close().unwrap();
    backend.put(&name, log).unwrap();
    name
}

fn damaged(found: &[DamageReport]) -> Vec<(String, usize)> {
    let damaged = found
        .iter()
        .filter(|damage| damage.kind == DamageKind::Damaged);
    damaged
        .map(|damage| (damage.path.clone(), usize::try_from(damage.offset).unwrap()))
        .collect()
}

fn verified(backend: &dyn Backend) -> Vec<(String, usize)> {
    let report = opslog::verify_backend(backend).unwrap();
    let found: Vec<DamageReport> = report
        .files
        .into_iter()
        .flat_map(|file| file.damage)
        .collect();
    damaged(&found)
}

#[test]
fn damage_in_front_of_a_torn_batch_is_damage_at_every_open() {
    for specimen in specimens() {
        let backend = MemoryBackend::new();
        let log = put(
            &backend,
            || open(backend.clone()).unwrap(),
            &specimen.log.bytes,
        );
        let place = [(log.clone(), specimen.damaged.start)];
        // Reading judges the same as often as it is done, and changes nothing.
        for _ in 0..2 {
            let reader = read(backend.clone()).unwrap();
            assert_eq!(ids(&reader), specimen.left);
            assert_eq!(damaged(&reader.open_report().damage), place);
            assert_eq!(verified(&backend), place);
            assert_eq!(backend.read(&log).unwrap(), specimen.log.bytes);
        }
        let store = open(backend.clone()).unwrap();
        assert_eq!(ids(&store), specimen.left);
        assert_eq!(damaged(&store.open_report().damage), place);
        drop(store);
        for _ in 0..2 {
            assert_eq!(verified(&backend), place, "what is kept for history");
            let reader = read(backend.clone()).unwrap();
            assert_eq!(ids(&reader), specimen.left);
            let store = open(backend.clone()).unwrap();
            assert_eq!(ids(&store), specimen.left);
            assert_eq!(store.open_report().damage, [], "it is settled");
        }
        let kept = backend.read(&format!("{log}.damaged")).unwrap();
        let bytes = &specimen.log.bytes[specimen.damaged];
        assert!(memchr::memmem::find(&kept, bytes).is_some());
        let report = opslog::repair_backend(&backend).unwrap();
        assert!(report.is_needed(), "{report:?}");
        let store = open(backend.clone()).unwrap();
        assert_eq!(ids(&store), specimen.left);
        let operations = store.ops(opslog::Since::Start).unwrap();
        assert_eq!(operations.len(), specimen.left.len());
        assert_eq!(verified(&backend), []);
    }
}

#[test]
fn damage_stays_damage_when_the_commit_behind_it_is_taken_back() {
    let mut log = Log::default();
    log.write("a");
    let b = log.write("b");
    log.spoil(b.clone());
    log.write("c");
    let backend = MemoryBackend::new();
    let name = put(&backend, || open(backend.clone()).unwrap(), &log.bytes);
    let store = open(backend.clone()).unwrap();
    assert_eq!(ids(&store), ["a", "c"]);
    assert!(store.undo().unwrap());
    drop(store);
    assert_eq!(verified(&backend), [(name, b.start)]);
    let store = open(backend.clone()).unwrap();
    assert_eq!(ids(&store), ["a"]);
    assert_eq!(store.ops(opslog::Since::Start).unwrap().len(), 3);
}

#[test]
fn an_agent_that_takes_over_a_damaged_log_says_so() {
    for specimen in specimens() {
        let backend = MemoryBackend::new();
        let log = put(
            &backend,
            || open(backend.clone()).unwrap(),
            &specimen.log.bytes,
        );
        let place = [(log, specimen.damaged.start)];
        let strict: opslog::Result<Store> = Store::builder()
            .agent_id("one")
            .strict(true)
            .open_backend(backend.clone());
        assert_eq!(strict.unwrap_err().kind(), ErrorKind::Corrupt);
        for round in 0..2 {
            let agent: Store = Store::builder()
                .agent_id("one")
                .open_backend(backend.clone())
                .unwrap();
            assert_eq!(ids(&agent), specimen.left);
            let told = damaged(&agent.open_report().damage);
            assert_eq!(told, if round == 0 { &place[..] } else { &[] });
            assert_eq!(verified(&backend), place);
        }
    }
}

#[test]
fn a_damaged_log_is_not_written_to_blindly() {
    let [specimen, _] = specimens();
    let backend = MemoryBackend::new();
    let log = put(
        &backend,
        || open(backend.clone()).unwrap(),
        &specimen.log.bytes,
    );
    let blind: opslog::Result<Store> = Store::builder()
        .skip_load(true)
        .open_backend(backend.clone());
    let error = blind.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("without skip_load"), "{error}");
    assert_eq!(backend.read(&log).unwrap(), specimen.log.bytes);
    drop(open(backend.clone()).unwrap());
    let blind: Store = Store::builder()
        .skip_load(true)
        .open_backend(backend)
        .unwrap();
    blind.set("new", &json!({})).unwrap();
}

#[test]
fn a_damaged_log_under_documents_that_stay_on_storage_is_settled_too() {
    let [_, specimen] = specimens();
    let backend = MemoryBackend::new();
    put(
        &backend,
        || open(backend.clone()).unwrap(),
        &specimen.log.bytes,
    );
    for round in 0..3 {
        let store: Store = Store::builder()
            .residency(Residency::OnDemand {
                cache_bytes: 1 << 20,
            })
            .open_backend(backend.clone())
            .unwrap();
        assert_eq!(ids(&store), specimen.left);
        assert_eq!(store.open_report().damage.is_empty(), round > 0);
    }
}

#[test]
fn a_power_cut_while_damage_is_settled_takes_neither_the_word_of_it_nor_what_follows_it() {
    for specimen in specimens() {
        let whole = SimulatedDisk::new();
        let store = || open(backend(&whole)).unwrap();
        let log = put(&backend(&whole), store, &specimen.log.bytes);
        let whole = whole.killed();
        let calls = {
            let disk = whole.killed();
            drop(open(backend(&disk)).unwrap());
            disk.calls()
        };
        let mut states = BTreeSet::new();
        for call in 0..=calls {
            let disk = whole.killed();
            disk.fail(call, Fault::CrashBefore);
            drop(open(backend(&disk)));
            for seed in 0..8 {
                let state = disk.crash_state(seeded(seed * 1_000 + call as u64));
                if !states.insert(state.fingerprint()) {
                    continue;
                }
                let place = [(log.clone(), specimen.damaged.start)];
                assert_eq!(verified(&backend(&state)), place, "call {call} seed {seed}");
                assert_eq!(ids(&read(backend(&state)).unwrap()), specimen.left);
                drop(open(backend(&state)).unwrap());
                assert_eq!(verified(&backend(&state)), place, "call {call} seed {seed}");
                let store = open(backend(&state)).unwrap();
                assert_eq!(ids(&store), specimen.left);
                assert_eq!(store.open_report().damage, []);
            }
        }
        assert!(states.len() > 10, "{}", states.len());
    }
}
