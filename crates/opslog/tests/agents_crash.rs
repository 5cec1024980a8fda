//! Two agents on a simulated disk: the power goes, or one of them dies, or a call fails, at every file-system call of theirs.
//!
//! What is left is opened by agents, a reader and a single writer: they agree, and everything acknowledged is accounted for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_macros,
    reason = "the helpers of tests fail the test, and say what they have done"
)]

#[path = "agents_proof/check.rs"]
mod check;
#[path = "crash/watched.rs"]
#[allow(dead_code, reason = "some of it is for tests/crash.rs")]
mod watched;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opslog::backend::{Fault, FileSystem, FsBackend, SimulatedDisk, seeded};
use opslog::{CheckpointMode, ErrorKind, Result, Store};
use serde_json::{Value, json};

use check::{Acknowledged, documents};
use watched::Watched;

/// How many states of a power cut are drawn at each place.
const STATES_DRAWN: u64 = 3;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn backend(file_system: impl FileSystem) -> FsBackend {
    FsBackend::on(Arc::new(file_system), "/store").with_padding(512, 512)
}

fn open(file_system: impl FileSystem, agent: &str) -> Result<Store> {
    Store::builder()
        .agent_id(agent)
        .checkpoint_mode(CheckpointMode::Blocking)
        .open_backend(backend(file_system))
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Set(&'static str),
    Delete(&'static str),
    Batch,
    Undo,
    Refresh,
    Compact,
    Archive,
    Close,
    Drop,
    Open,
}

/// What the two agents, 0 and 1, do in turn.
const SCRIPT: [(usize, Step); 34] = [
    (0, Step::Open),
    (0, Step::Set("x")),
    (1, Step::Open),
    (1, Step::Set("x")),
    (0, Step::Batch),
    (1, Step::Refresh),
    (1, Step::Set("y")),
    (1, Step::Compact),
    (0, Step::Set("x")),
    (0, Step::Refresh),
    (0, Step::Set("z")),
    (1, Step::Delete("x")),
    (0, Step::Drop),
    (1, Step::Compact),
    (0, Step::Open),
    (0, Step::Undo),
    (1, Step::Refresh),
    (1, Step::Undo),
    (0, Step::Set("old")),
    (1, Step::Refresh),
    (1, Step::Archive),
    (0, Step::Batch),
    (0, Step::Compact),
    (1, Step::Set("x")),
    (1, Step::Close),
    (0, Step::Set("z")),
    (1, Step::Open),
    (1, Step::Batch),
    (0, Step::Drop),
    (0, Step::Open),
    (0, Step::Refresh),
    (0, Step::Close),
    (1, Step::Set("w")),
    (1, Step::Close),
];

const NAMES: [&str; 2] = ["a", "b"];

/// What was acknowledged, and the number of the next value.
#[derive(Default)]
struct Told {
    acknowledged: Vec<Acknowledged>,
    next: u64,
}

impl Told {
    fn value(&mut self) -> Value {
        self.next += 1;
        json!({"v": self.next})
    }

    fn stored(&mut self, agent: usize, id: &str, value: Option<Value>) {
        self.acknowledged
            .push((NAMES[agent].to_owned(), id.to_owned(), value));
    }
}

/// Does one step; an agent that is not open is opened.
fn step<F: FileSystem + Clone>(
    stores: &mut [Option<Store>; 2],
    disks: &[F; 2],
    (agent, step): (usize, Step),
    told: &Mutex<Told>,
) -> Result<()> {
    if stores[agent].is_none() {
        stores[agent] = Some(open(disks[agent].clone(), NAMES[agent])?);
    }
    let store = stores[agent].as_ref().unwrap();
    match step {
        Step::Open => {}
        Step::Set(id) => {
            let value = lock(told).value();
            store.set(id, &value)?;
            lock(told).stored(agent, id, Some(value));
        }
        Step::Delete(id) => match store.delete(id) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            deleted => {
                deleted?;
                lock(told).stored(agent, id, None);
            }
        },
        Step::Batch => {
            let one = lock(told).value();
            let other = lock(told).value();
            store.batch(|batch| {
                batch.set("x", &one)?;
                batch.set("batch", &other)
            })?;
            lock(told).stored(agent, "x", Some(one));
            lock(told).stored(agent, "batch", Some(other));
        }
        Step::Undo => drop(store.undo()?),
        Step::Refresh => store.refresh()?,
        Step::Compact => store.compact()?,
        Step::Archive => drop(store.archive(|_, id| id == "old" || id == "y", Some("p"))?),
        Step::Close => {
            let closed = store.close();
            stores[agent] = None;
            closed?;
        }
        Step::Drop => stores[agent] = None,
    }
    Ok(())
}

/// Everything acknowledged is there, all views agree, and all can go on.
fn check(disk: &SimulatedDisk, acknowledged: &[Acknowledged]) -> std::result::Result<(), String> {
    let said = |what: &'static str| move |error: opslog::Error| format!("{what}: {error:?}");
    let (a, b) = (
        open(disk.clone(), "a").map_err(said("a opens"))?,
        open(disk.clone(), "b").map_err(said("b opens"))?,
    );
    for agent in [&a, &b] {
        agent.refresh().map_err(said("look"))?;
    }
    let reader: Store = Store::builder()
        .read_only(true)
        .open_backend(backend(disk.clone()))
        .map_err(said("reader"))?;
    let seen = documents(&reader);
    if documents(&a) != seen || documents(&b) != seen {
        return Err(format!(
            "reader {seen:?}, a {:?}, b {:?}",
            documents(&a),
            documents(&b)
        ));
    }
    check::account(&reader, acknowledged)?;
    a.set("later", &json!({"v": 0})).map_err(said("a writes"))?;
    b.refresh().map_err(said("look"))?;
    b.compact().map_err(said("compact"))?;
    drop(a);
    b.close().map_err(said("close"))?;
    drop((b, reader));
    let report = opslog::verify_backend(&backend(disk.clone())).map_err(said("verify"))?;
    if !report.is_sound() {
        return Err(format!("{report:?}"));
    }
    let single: Store = Store::builder()
        .open_backend(backend(disk.clone()))
        .map_err(said("single writer"))?;
    let mut expected = seen;
    expected.push(("later".to_owned(), json!({"v": 0})));
    if documents(&single) != expected {
        return Err(format!(
            "single writer {:?}, not {expected:?}",
            documents(&single)
        ));
    }
    check::account(&single, acknowledged)
}

#[test]
fn power_cut_or_kill_of_all_at_any_call_loses_nothing_acknowledged() {
    let told: Arc<Mutex<Told>> = Arc::default();
    let states = Arc::new(AtomicUsize::new(0));
    let places = Arc::new(AtomicUsize::new(0));
    let failure: Arc<Mutex<Option<String>>> = Arc::default();
    let watched = {
        let (told, states, places) = (Arc::clone(&told), Arc::clone(&states), Arc::clone(&places));
        let failure = Arc::clone(&failure);
        Watched::new(SimulatedDisk::new(), move |disk, call| {
            if lock(&failure).is_some() {
                return;
            }
            places.fetch_add(1, Ordering::Relaxed);
            let acknowledged = lock(&told).acknowledged.clone();
            let mut found = vec![
                ("killed".to_owned(), disk.killed()),
                ("nothing unsynced".to_owned(), disk.crash_state(|_| 0)),
                ("all applied".to_owned(), disk.crash_state(|_| 1)),
            ];
            for seed in 0..STATES_DRAWN {
                let seed = seed + STATES_DRAWN * call as u64;
                found.push((format!("seed {seed}"), disk.crash_state(seeded(seed))));
            }
            if disk.unsynced_changes() == 0 {
                found.truncate(1);
            }
            for (name, state) in found {
                states.fetch_add(1, Ordering::Relaxed);
                if let Err(reason) = check(&state, &acknowledged) {
                    *lock(&failure) = Some(format!("before call {call}, {name}: {reason}"));
                    return;
                }
            }
        })
    };
    let disks = [watched.clone(), watched.clone()];
    let mut stores = [None, None];
    for (number, now) in SCRIPT.into_iter().enumerate() {
        step(&mut stores, &disks, now, &told).unwrap();
        watched.look();
        if let Some(reason) = lock(&failure).take() {
            panic!("step {number}, {now:?}: {reason}");
        }
    }
    eprintln!("{places:?} places, {states:?} states");
    assert!(places.load(Ordering::Relaxed) > 100);
}

#[test]
fn agent_that_dies_at_any_call_blocks_nobody_and_loses_nothing() {
    let mut cases = 0;
    for (number, now) in SCRIPT.into_iter().enumerate() {
        let dying = now.0;
        for call in 0.. {
            let disk = SimulatedDisk::new();
            let told = Mutex::default();
            let watched = {
                let process = 10 + u32::try_from(dying).unwrap();
                let due = Arc::new(AtomicUsize::new(usize::MAX));
                let counted = Arc::clone(&due);
                let view = disk.as_process(process);
                let dies = Watched::new(view, move |disk, _| {
                    let due = counted.load(Ordering::Relaxed);
                    if due == 0 {
                        disk.set_alive(process, false);
                    }
                    counted.store(due.saturating_sub(1), Ordering::Relaxed);
                });
                (dies, due)
            };
            let other = Watched::new(disk.as_process(20), |_, _| {});
            let (dies, due) = watched;
            let mut disks = [other.clone(), other];
            disks[dying] = dies;
            let mut stores = [None, None];
            for before in SCRIPT.into_iter().take(number) {
                step(&mut stores, &disks, before, &told).unwrap();
            }
            due.store(call, Ordering::Relaxed);
            let survived = step(&mut stores, &disks, now, &told).is_ok();
            let came = due.load(Ordering::Relaxed) == 0 || !survived;
            due.store(0, Ordering::Relaxed);
            disk.set_alive(10 + u32::try_from(dying).unwrap(), false);
            stores[dying] = None;
            let other = 1 - dying;
            disks[dying] = Watched::new(disk.as_process(30), |_, _| {});
            let said = || format!("step {number}, {now:?}, dead before its change {call}");
            for (agent, work) in [
                (other, Step::Refresh),
                (other, Step::Set("x")),
                (other, Step::Compact),
                (dying, Step::Set("x")),
                (other, Step::Refresh),
                (other, Step::Compact),
                (dying, Step::Undo),
            ] {
                step(&mut stores, &disks, (agent, work), &told)
                    .unwrap_or_else(|error| panic!("{}: {agent} {work:?}: {error:?}", said()));
            }
            drop(stores);
            let acknowledged = lock(&told).acknowledged.clone();
            check(&disk, &acknowledged).unwrap_or_else(|reason| panic!("{}: {reason}", said()));
            cases += 1;
            if !came {
                break;
            }
        }
    }
    eprintln!("{cases} deaths");
    assert!(cases > 100);
}

/// Does the script; an agent whose step fails goes on, or, where it is poisoned, is opened again.
fn with_failures(disk: &SimulatedDisk) -> (Vec<Acknowledged>, usize) {
    let told = Mutex::default();
    let disks = [disk.clone(), disk.clone()];
    let mut stores = [None, None];
    let mut failed = 0;
    for now in SCRIPT {
        if let Err(error) = step(&mut stores, &disks, now, &told) {
            failed += 1;
            if matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Closed) {
                stores[now.0] = None;
            }
        }
    }
    drop(stores);
    (lock(&told).acknowledged.clone(), failed)
}

#[test]
fn failing_call_loses_nothing_acknowledged() {
    let disk = SimulatedDisk::new();
    assert_eq!(with_failures(&disk).1, 0);
    let (mut cases, mut failed) = (0, 0);
    for call in (0..disk.calls()).step_by(2) {
        let fault = match call / 2 % 3 {
            0 => Fault::Eio,
            1 => Fault::SyncFailure,
            _ => Fault::Enospc,
        };
        let disk = SimulatedDisk::new();
        disk.fail(call, fault);
        let (acknowledged, failures) = with_failures(&disk);
        disk.mend();
        cases += 1;
        failed += failures;
        // In turn: as it is, killed, and after a power cut.
        let left = match call / 6 % 3 {
            0 => disk,
            1 => disk.killed(),
            _ => disk.crash_state(seeded(call as u64)),
        };
        check(&left, &acknowledged)
            .unwrap_or_else(|reason| panic!("{fault:?} at call {call}: {reason}"));
    }
    eprintln!("{cases} cases, {failed} failed calls");
    assert!(failed > 0);
}
