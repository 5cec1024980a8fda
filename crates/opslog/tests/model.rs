//! Random histories of calls, on a store and on a plain model, compared after every call.
//!
//! Every failure prints the seed, the configuration and the calls made. `OPSLOG_MODEL_SEED=<n>` runs one seed only.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_macros,
    reason = "the helpers of tests fail the test, and say what they have done"
)]

#[path = "crash/model.rs"]
#[allow(dead_code, reason = "some of it is for tests/crash.rs")]
mod model;

use std::time::Duration;

use opslog::backend::seeded;
use opslog::{
    CheckpointMode, Cursor, ErrorKind, MemoryBackend, Since, Store, StoreBuilder, UndoMode,
    WriteMode,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use model::{Documents, Model, Seen, Undone, Write, documents, look, migrated, op, sorted};

const STEPS: usize = 90;

/// How the store of a history is opened.
#[derive(Debug, Clone, Copy)]
struct Config {
    mode: WriteMode,
    undo: UndoMode,
    checkpoints: CheckpointMode,
    threshold: u64,
    on_disk: bool,
}

impl Config {
    fn drawn(choose: &mut impl FnMut(usize) -> usize) -> Self {
        let size = [1, 3, 1000][choose(3)];
        let interval = Duration::from_millis([1, 3_600_000][choose(2)]);
        Self {
            mode: [
                WriteMode::Immediate,
                WriteMode::Group { size, interval },
                WriteMode::Async { size, interval },
            ][choose(3)],
            undo: [UndoMode::Truncate, UndoMode::Append][choose(2)],
            checkpoints: [CheckpointMode::Blocking, CheckpointMode::Background][choose(2)],
            threshold: [1, 4, 15, 1_000_000][choose(4)],
            on_disk: choose(4) == 0,
        }
    }

    /// Whether it is known when a checkpoint is made, and so how an undo is.
    fn is_deterministic(self) -> bool {
        self.checkpoints == CheckpointMode::Blocking || self.threshold == 1_000_000
    }
}

enum Place {
    Memory(MemoryBackend),
    Disk(TempDir),
}

/// A cursor that was handed out.
struct Held {
    cursor: Cursor,
    /// The operations up to its own.
    before: Vec<model::Op>,
    /// Whether its operation was cut off the log.
    taken_back: bool,
}

struct History {
    config: Config,
    place: Place,
    store: Option<Store>,
    model: Model,
    cursors: Vec<Held>,
    log: Vec<String>,
    number: i64,
}

impl History {
    fn new(config: Config) -> Self {
        let place = if config.on_disk {
            Place::Disk(tempfile::tempdir().unwrap())
        } else {
            Place::Memory(MemoryBackend::new())
        };
        let mut history = Self {
            config,
            place,
            store: None,
            model: Model::default(),
            cursors: Vec::new(),
            log: Vec::new(),
            number: 0,
        };
        history.open(1);
        history
    }

    fn open(&mut self, version: u32) {
        let config = self.config;
        let builder: StoreBuilder<Value> = Store::builder()
            .write_mode(config.mode)
            .undo_mode(config.undo)
            .checkpoint_mode(config.checkpoints)
            .checkpoint_threshold(config.threshold)
            .os_buffered(true)
            .version(version)
            .migrate(|document, from| Ok(migrated(document, from)));
        let store = match &self.place {
            Place::Memory(backend) => builder.open_backend(backend.clone()),
            Place::Disk(directory) => builder.open(directory.path()),
        };
        let store = store.unwrap();
        assert!(store.open_report().damage.is_empty());
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// A blocking checkpoint is made in the write that reaches the threshold; what one in the background has sealed, `undo` finds out.
    fn checkpoint_if_due(&mut self) {
        let blocking = self.config.checkpoints == CheckpointMode::Blocking;
        if blocking && self.model.unsealed_ops() as u64 >= self.config.threshold {
            self.model.seal();
        }
    }

    fn commit(&mut self, writes: &[Write]) {
        self.model.commit(writes);
        self.checkpoint_if_due();
    }

    fn step(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        self.number += 1;
        match choose(40) {
            0..12 => self.set(choose),
            12..16 => self.delete(choose),
            16..21 => self.batch(choose),
            21..29 => self.undo(),
            29 => self.compact(),
            30 => self.archive(choose),
            31 => self.flush(),
            32..35 => self.close_and_open(),
            35 => self.drop_and_open(),
            36 if choose(3) == 0 => self.migrate(),
            _ => self.take_cursor(),
        }
    }

    fn id(choose: &mut impl FnMut(usize) -> usize) -> String {
        let odd = ["__proto__", "é🦀", "a\nb", " ", "\"quoted\\"];
        match choose(12) {
            number @ 0..5 => odd[number].to_owned(),
            number => format!("id-{number}"),
        }
    }

    fn document(&self, choose: &mut impl FnMut(usize) -> usize) -> Value {
        let mut document = json!({"number": self.number, "same": "some text in all of them"});
        for field in 0..choose(4) {
            document[format!("field {field}")] = match choose(4) {
                0 => json!(null),
                1 => json!({"deep": [self.number, "é\n\u{2028}"]}),
                2 => json!("x".repeat(choose(200))),
                _ => json!(choose(3)),
            };
        }
        document
    }

    fn set(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        let (id, document) = (Self::id(choose), self.document(choose));
        self.log.push(format!("set {id:?} {}", self.number));
        self.store().set(&id, &document).unwrap();
        self.commit(&[(id, Some(document))]);
    }

    fn delete(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        let id = Self::id(choose);
        self.log.push(format!("delete {id:?}"));
        let answer = self.store().delete(&id);
        if self.model.get(&id).is_some() {
            answer.unwrap();
            self.commit(&[(id, None)]);
        } else {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound);
        }
    }

    fn batch(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        let mut within = self.model.clone();
        let mut writes: Vec<Write> = Vec::new();
        for _ in 0..choose(5) {
            let id = Self::id(choose);
            let deletes = within.get(&id).is_some() && choose(3) == 0;
            let data = (!deletes).then(|| self.document(choose));
            within.commit(&[(id.clone(), data.clone())]);
            writes.push((id, data));
        }
        let fails = choose(5) == 0;
        self.log.push(format!("batch {writes:?} fails {fails}"));
        let expected = within.seen.documents;
        let answer = self.store().batch(|batch| {
            for (id, data) in &writes {
                match data {
                    Some(document) => batch.set(id, document)?,
                    None => batch.delete(id)?,
                }
            }
            let entries = batch.entries()?;
            let seen: Documents = entries
                .into_iter()
                .map(|(id, document)| (id, Value::clone(&document)))
                .collect();
            assert_eq!(batch.count()?, seen.len());
            if fails {
                batch.delete("there is no such document")?;
            }
            Ok(seen)
        });
        if fails {
            assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound);
            return;
        }
        self.same_documents(answer.unwrap(), expected);
        if !writes.is_empty() {
            self.commit(&writes);
        }
    }

    fn undo(&mut self) {
        self.log.push("undo".to_owned());
        let before = self.model.seen.ops.len();
        let answer = self.store().undo().unwrap();
        if !self.config.is_deterministic() && answer {
            // Whether a checkpoint had sealed the commit shows in the log only.
            let cut_off = self.store().ops(Since::Start).unwrap().len() < before;
            if !cut_off {
                self.model.seal();
            }
        }
        match self.model.undo(self.config.undo) {
            Undone::Nothing => assert!(!answer),
            Undone::CutOff => {
                assert!(answer);
                let kept = self.model.seen.ops.len();
                for held in &mut self.cursors {
                    held.taken_back |= held.before.len() > kept;
                }
            }
            Undone::Reversed => {
                assert!(answer);
                self.checkpoint_if_due();
            }
        }
    }

    fn compact(&mut self) {
        self.log.push("compact".to_owned());
        self.store().compact().unwrap();
        self.model.seal();
    }

    fn archive(&mut self, choose: &mut impl FnMut(usize) -> usize) {
        let picked = Self::id(choose);
        let also = Self::id(choose);
        let period = ["2020-Q1", "old ones"][choose(2)];
        self.log
            .push(format!("archive {picked:?} {also:?} to {period}"));
        let picks = |id: &str| id == picked || id == also;
        let moved = self
            .store()
            .archive(|_, id| picks(id), Some(period))
            .unwrap();
        assert_eq!(moved, self.model.archive(period, picks));
    }

    fn flush(&mut self) {
        self.log.push("flush".to_owned());
        self.store().flush().unwrap();
    }

    fn close_and_open(&mut self) {
        self.log.push("close, open".to_owned());
        let store = self.store.take().unwrap();
        store.close().unwrap();
        assert_eq!(store.count().unwrap_err().kind(), ErrorKind::Closed);
        drop(store);
        self.model.seal();
        self.open(self.model.seen.version);
    }

    fn drop_and_open(&mut self) {
        self.log.push("drop, open".to_owned());
        self.store = None;
        self.open(self.model.seen.version);
    }

    fn migrate(&mut self) {
        self.log.push("migrate".to_owned());
        self.store = None;
        let to = self.model.seen.version + 1;
        self.open(to);
        self.model.migrate(to);
    }

    fn take_cursor(&mut self) {
        let operations = self.store().ops(Since::Start).unwrap();
        if let Some(last) = operations.last() {
            self.cursors.push(Held {
                cursor: last.cursor.clone(),
                before: operations.iter().map(op).collect(),
                taken_back: false,
            });
        }
    }

    /// With checkpoints in the background an undo may put a document last or in its old place.
    fn same_documents(&self, found: Documents, expected: Documents) {
        if self.config.is_deterministic() {
            assert_eq!(found, expected);
        } else {
            assert_eq!(sorted(found), sorted(expected));
        }
    }

    fn check(&self) {
        let store = self.store();
        self.same_documents(documents(store).unwrap(), self.model.seen.documents.clone());
        assert_eq!(store.count().unwrap(), self.model.seen.documents.len());
        for id in ["id-7", "__proto__", "é🦀"] {
            let expected = self.model.get(id);
            assert_eq!(store.get(id).unwrap().as_deref(), expected);
            assert_eq!(store.has(id).unwrap(), expected.is_some());
        }
    }

    /// All that there is to see; in the modes that buffer it flushes.
    fn check_all(&self) {
        let store = self.store();
        let Seen {
            documents,
            ops,
            archives,
            version,
        } = look(store).unwrap();
        let expected = &self.model.seen;
        self.same_documents(documents, expected.documents.clone());
        assert_eq!(ops, expected.ops);
        assert_eq!(archives, expected.archives);
        assert_eq!(version, expected.version);
        for id in ["id-7", "__proto__", "é🦀"] {
            let history = store.history(id).unwrap();
            let expected = expected.ops.iter().filter(|op| op.id == id);
            assert!(history.iter().map(op).eq(expected.cloned()), "{id}");
        }
        for Held {
            cursor,
            before,
            taken_back,
        } in &self.cursors
        {
            match store.ops(cursor.clone()) {
                Ok(after) => {
                    // The same operation in the same millisecond cannot be told from the one taken back.
                    assert!(expected.ops.starts_with(before), "{cursor}");
                    let after: Vec<_> = after.iter().map(op).collect();
                    assert_eq!(after, expected.ops[before.len()..], "{cursor}");
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                    assert!(taken_back, "{error}");
                }
            }
        }
        if self.config.is_deterministic() {
            let ops_since = store.stats().unwrap().ops_since_checkpoint;
            assert_eq!(ops_since, self.model.unsealed_ops() as u64);
        }
    }
}

/// Says what was going on when a check fails.
struct Story<'a>(u64, &'a std::cell::RefCell<History>);

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let history = self.1.borrow();
            eprintln!("seed {} {:?}", self.0, history.config);
            for call in &history.log {
                eprintln!("    {call}");
            }
        }
    }
}

/// Returns how many calls were made.
fn run(seed: u64) -> usize {
    let mut choose = seeded(seed);
    let history = std::cell::RefCell::new(History::new(Config::drawn(&mut choose)));
    let _story = Story(seed, &history);
    for _ in 0..STEPS {
        let check_all = choose(6) == 0;
        history.borrow_mut().step(&mut choose);
        history.borrow().check();
        if check_all {
            history.borrow().check_all();
        }
    }
    let mut history = history.borrow_mut();
    history.drop_and_open();
    history.check_all();
    // Undo to the end, which is where an archive, a migration, or nothing was.
    while history.model.clone().undo(history.config.undo) != Undone::Nothing {
        history.undo();
        history.check();
    }
    history.undo();
    history.check_all();
    history.log.len()
}

fn run_all(seeds: std::ops::Range<u64>) {
    let seeds = match std::env::var("OPSLOG_MODEL_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => seeds,
    };
    let calls: usize = seeds.clone().map(run).sum();
    eprintln!("{} histories, {calls} calls", seeds.count());
}

#[test]
fn store_and_model_agree_on_random_histories() {
    run_all(0..120);
}

#[test]
fn store_and_model_agree_on_more_random_histories() {
    run_all(1000..1120);
}
