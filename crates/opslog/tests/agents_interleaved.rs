//! Two agents at once, without chance: before every single call that one agent's work makes to the backend, another agent does all of its own.
//!
//! At the end everything acknowledged is accounted for, and all views agree. `OPSLOG_INTERLEAVED=all` takes every place for single works, and more of the pairs; without it, one in some.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_macros,
    reason = "the helpers of tests fail the test, and say what they have done"
)]

#[path = "agents_proof/check.rs"]
mod check;
#[path = "agents_proof/hooked.rs"]
mod hooked;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opslog::backend::Backend;
use opslog::{ErrorKind, MemoryBackend, Store};
use serde_json::{Value, json};

use check::{Acknowledged, documents};
use hooked::Hooked;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Set,
    Update,
    Delete,
    Batch,
    Undo,
    Compact,
    Archive,
    Refresh,
    Close,
    Die,
    Reopen,
    SkipLoad,
}

const WORK: [Work; 12] = [
    Work::Set,
    Work::Update,
    Work::Delete,
    Work::Batch,
    Work::Undo,
    Work::Compact,
    Work::Archive,
    Work::Refresh,
    Work::Close,
    Work::Die,
    Work::Reopen,
    Work::SkipLoad,
];

/// How the store is when the two begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Empty,
    /// Both have written, and nothing is folded.
    Unfolded,
    /// One has compacted, and nobody has looked since.
    Folded,
    /// A third agent died with operations of its own.
    ThirdDead,
    /// The second agent is dead.
    SecondDead,
    /// Both have seen a delete, and its tombstone is due to be forgotten.
    Deleted,
}

const BEFORE: [Before; 6] = [
    Before::Empty,
    Before::Unfolded,
    Before::Folded,
    Before::ThirdDead,
    Before::SecondDead,
    Before::Deleted,
];

struct Agent<B: Backend + Clone> {
    id: &'static str,
    backend: B,
    store: Option<Store>,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    acknowledged: Vec<Acknowledged>,
    next: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Backend + Clone> Agent<B> {
    fn new(id: &'static str, backend: B, told: &Arc<Mutex<Told>>) -> Self {
        Self {
            id,
            backend,
            store: None,
            told: Arc::clone(told),
        }
    }

    fn value(&self) -> Value {
        let mut told = lock(&self.told);
        told.next += 1;
        json!({"v": told.next})
    }

    fn told(&self, id: &str, value: Option<Value>) {
        let entry = (self.id.to_owned(), id.to_owned(), value);
        lock(&self.told).acknowledged.push(entry);
    }

    fn store(&mut self) -> opslog::Result<&Store> {
        if self.store.is_none() {
            let builder = Store::builder().agent_id(self.id);
            self.store = Some(builder.open_backend(self.backend.clone())?);
        }
        Ok(self.store.as_ref().expect("it was just opened"))
    }

    fn set(&mut self, id: &str) -> opslog::Result<()> {
        let value = self.value();
        let store = self.store()?;
        store.set(id, &value)?;
        let seen = store.get(id)?;
        assert_eq!(
            seen.as_deref(),
            Some(&value),
            "{} does not see its own write of {id}",
            self.id
        );
        self.told(id, Some(value));
        Ok(())
    }

    fn delete(&mut self, id: &str) -> opslog::Result<()> {
        match self.store()?.delete(id) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.told(id, None);
                Ok(())
            }
        }
    }

    fn work(&mut self, work: Work) -> opslog::Result<()> {
        match work {
            Work::Set => {
                let id = format!("{}-{}", self.id, lock(&self.told).next);
                self.set(&id)
            }
            Work::Update => self.set("x"),
            Work::Delete => self.delete("x"),
            Work::Batch => {
                let (one, other) = (self.value(), self.value());
                self.store()?.batch(|batch| {
                    batch.set("x", &one)?;
                    batch.set("y", &other)
                })?;
                self.told("x", Some(one));
                self.told("y", Some(other));
                Ok(())
            }
            Work::Undo => match self.store()?.undo() {
                // A commit of a run that did not load the store.
                Err(error)
                    if error.kind() == ErrorKind::Conflict
                        && error.message().contains("skip_load") =>
                {
                    Ok(())
                }
                undone => undone.map(drop),
            },
            Work::Compact => self.store()?.compact(),
            Work::Archive => self
                .store()?
                .archive(|_, id| id == "x" || id == "old", Some("p"))
                .map(drop),
            Work::Refresh => self.store()?.refresh(),
            Work::Close => {
                self.store()?.close()?;
                self.store = None;
                Ok(())
            }
            Work::Die => {
                self.store()?;
                self.store = None;
                Ok(())
            }
            Work::Reopen => {
                self.store = None;
                self.set("x")
            }
            Work::SkipLoad => {
                self.store = None;
                let builder = Store::builder().agent_id(self.id).skip_load(true);
                self.store = Some(builder.open_backend(self.backend.clone())?);
                self.set("x")?;
                self.store = None;
                Ok(())
            }
        }
    }
}

struct Scene {
    memory: MemoryBackend,
    hooked: Hooked<MemoryBackend>,
    told: Arc<Mutex<Told>>,
    first: Agent<Hooked<MemoryBackend>>,
    second: Arc<Mutex<Agent<MemoryBackend>>>,
}

impl Scene {
    fn new(before: Before) -> opslog::Result<Self> {
        let memory = MemoryBackend::new();
        let hooked = Hooked::new(memory.clone());
        let told = Arc::default();
        let mut first = Agent::new("b", hooked.clone(), &told);
        let mut second = Agent::new("a", memory.clone(), &told);
        if before != Before::Empty {
            second.set("x")?;
            first.set("x")?;
            first.set("old")?;
            second.work(Work::Refresh)?;
            second.set("x")?;
            second.set("y")?;
        }
        match before {
            Before::Empty | Before::Unfolded => {}
            Before::Folded => {
                second.work(Work::Compact)?;
                second.set("z")?;
            }
            Before::ThirdDead => {
                let mut third = Agent::new("c", memory.clone(), &told);
                third.set("x")?;
                third.set("z")?;
            }
            Before::SecondDead => second.work(Work::Die)?,
            Before::Deleted => {
                first.work(Work::Refresh)?;
                first.set("x")?;
                second.work(Work::Refresh)?;
                second.delete("x")?;
                for _ in 0..2 {
                    second.work(Work::Compact)?;
                    first.work(Work::Refresh)?;
                    first.work(Work::Compact)?;
                    second.work(Work::Refresh)?;
                }
            }
        }
        Ok(Self {
            memory,
            hooked,
            told,
            first,
            second: Arc::new(Mutex::new(second)),
        })
    }

    /// All views agree, and everything is accounted for.
    fn check(&mut self) -> Result<(), String> {
        let said = |what: &'static str| move |error: opslog::Error| format!("{what}: {error:?}");
        let mut second = lock(&self.second);
        second.work(Work::Refresh).map_err(said("second looks"))?;
        self.first
            .work(Work::Refresh)
            .map_err(said("first looks"))?;
        second.work(Work::Update).map_err(said("second writes"))?;
        self.first
            .work(Work::Refresh)
            .map_err(said("first looks"))?;
        second.work(Work::Refresh).map_err(said("second looks"))?;
        let reader: Store = Store::builder()
            .read_only(true)
            .open_backend(self.memory.clone())
            .map_err(said("a reader opens"))?;
        let views = [
            documents(self.first.store().unwrap()),
            documents(second.store().unwrap()),
            documents(&reader),
        ];
        if views.iter().any(|view| *view != views[0]) {
            return Err(format!("first, second and reader see {views:?}"));
        }
        let acknowledged = lock(&self.told).acknowledged.clone();
        check::account(&reader, &acknowledged)?;
        let report = opslog::verify_backend(&self.memory).map_err(said("verify"))?;
        if !report.is_sound() {
            return Err(format!("{report:?}"));
        }
        // The last to go leave everything to whoever comes.
        second.work(Work::Close).map_err(said("second closes"))?;
        self.first.work(Work::Close).map_err(said("first closes"))?;
        let single: Store = Store::builder()
            .open_backend(self.memory.clone())
            .map_err(said("a single writer opens"))?;
        if documents(&single) != views[0] {
            return Err(format!("a single writer sees {:?}", documents(&single)));
        }
        check::account(&single, &acknowledged)
    }
}

/// Does `first`, with `second` before the call with index `call`. The answer is whether it came to that call.
fn run(before: Before, first: Work, second: &[Work], call: usize) -> Result<bool, String> {
    let said = |what: &'static str| move |error: opslog::Error| format!("{what}: {error:?}");
    let mut scene = Scene::new(before).map_err(said("preparing"))?;
    let failed: Arc<Mutex<Option<String>>> = Arc::default();
    let action = {
        let (agent, failed, works) = (
            Arc::clone(&scene.second),
            Arc::clone(&failed),
            second.to_vec(),
        );
        move || {
            for work in works {
                if let Err(error) = lock(&agent).work(work) {
                    *lock(&failed) = Some(format!("second {work:?}: {error:?}"));
                }
            }
        }
    };
    scene.hooked.before(call, action);
    scene.first.work(first).map_err(said("first"))?;
    let came = !scene.hooked.clear();
    if let Some(failed) = lock(&failed).take() {
        return Err(failed);
    }
    scene.check()?;
    Ok(came)
}

fn run_all(first: Work, seconds: &[Vec<Work>], stride: usize) {
    let mut cases = 0;
    for (place, before) in BEFORE.into_iter().enumerate() {
        for (number, second) in seconds.iter().enumerate() {
            for call in ((number + place) % stride..).step_by(stride) {
                let outcome = std::panic::catch_unwind(|| run(before, first, second, call))
                    .unwrap_or_else(|_| Err("it panicked".to_owned()));
                match outcome {
                    Ok(true) => cases += 1,
                    Ok(false) => break,
                    Err(reason) => {
                        panic!("{before:?}: {second:?} before call {call} of {first:?}: {reason}")
                    }
                }
            }
        }
    }
    eprintln!("{first:?}: {cases} cases");
    assert!(cases > 0);
}

/// One work of the second agent before each call, and two at some.
fn test(first: Work) {
    let singles: Vec<_> = WORK.iter().map(|work| vec![*work]).collect();
    let all = std::env::var("OPSLOG_INTERLEAVED").is_ok_and(|value| value == "all");
    run_all(first, &singles, if all { 1 } else { 7 });
    let pairs: Vec<_> = WORK
        .iter()
        .flat_map(|one| WORK.iter().map(|other| vec![*one, *other]))
        .collect();
    run_all(first, &pairs, if all { 11 } else { 157 });
}

macro_rules! tests {
    ($($name:ident: $work:ident,)*) => {
        $(
            #[test]
            fn $name() {
                test(Work::$work);
            }
        )*
    };
}

tests! {
    another_agent_comes_between_the_calls_of_an_update: Update,
    another_agent_comes_between_the_calls_of_a_batch: Batch,
    another_agent_comes_between_the_calls_of_an_undo: Undo,
    another_agent_comes_between_the_calls_of_a_compaction: Compact,
    another_agent_comes_between_the_calls_of_an_archive: Archive,
    another_agent_comes_between_the_calls_of_a_look: Refresh,
    another_agent_comes_between_the_calls_of_a_close: Close,
    another_agent_comes_between_the_calls_of_an_opening: Reopen,
    another_agent_comes_between_the_calls_of_an_opening_without_loading: SkipLoad,
}
