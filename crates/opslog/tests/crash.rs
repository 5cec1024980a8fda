//! Crashes and failures at every file-system call (`docs/durability.md` §7), on a simulated disk.
//!
//! A script of store calls runs once on a disk that is looked at before every call that follows a change. There the states are taken that
//! a power cut, or the death of the process, may leave; each is opened and compared with what it may hold: everything
//! acknowledged, then a part of what was accepted, in order, and of the call in flight all or nothing. A failure prints script, call index and seed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_macros,
    reason = "the helpers of tests fail the test, and say what they have done"
)]

#[path = "crash/faults.rs"]
mod faults;
#[path = "crash/model.rs"]
#[allow(dead_code, reason = "some of it is for tests/model.rs")]
mod model;
#[path = "crash/script.rs"]
mod script;
#[path = "crash/watched.rs"]
mod watched;

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opslog::backend::{FileSystem, SimulatedDisk, exhaustive, seeded};
use opslog::{DamageKind, Store};
use serde_json::json;

use model::{Model, documents, look, sorted};
use script::{CALLS, Call, Config, Plan, prepared, prepared_with_many_logs};
use watched::Watched;

/// Up to so many states a place are all looked at; where there are more, so many are drawn.
const STATES_ALL: usize = 12;
const STATES_DRAWN: u64 = 8;

/// What is known of the run when somebody looks at its disk.
struct Run {
    /// What a crash may leave: the last acknowledged state first.
    allowed: Vec<Model>,
    config: Config,
    what: String,
    seen: HashSet<u64>,
    places: usize,
    states: usize,
    failure: Option<String>,
}

/// Which states are taken at each place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    PowerCut,
    Killed,
    /// A power cut or a kill, and then a power cut at any place of the next open.
    Twice,
}

impl Run {
    fn look(&mut self, disk: &SimulatedDisk, call: usize, death: Death) {
        if self.failure.is_some() {
            return;
        }
        self.places += 1;
        let mut states = vec![("killed".to_owned(), disk.killed())];
        if death != Death::Killed {
            states.extend(crash_states(disk, call));
        }
        for (name, state) in states {
            let before = content(&state);
            if !self.seen.insert(hash(&before)) {
                continue;
            }
            self.states += 1;
            // Checking further than the first open costs more, and is done for some.
            let thorough = self.states.is_multiple_of(4);
            let checked = match death {
                Death::Twice => self.die_again(&state),
                _ => check(&state, &self.allowed, self.config, thorough).map(drop),
            };
            if let Err(reason) = checked {
                let found: Vec<String> = before
                    .iter()
                    .map(|(path, content)| format!("--- {}\n{}", path.display(), text(content)))
                    .collect();
                self.failure = Some(format!(
                    "{}, before call {call}, state {name}: {reason}\n{}",
                    self.what,
                    found.join("\n")
                ));
                return;
            }
        }
    }
}

impl Run {
    /// Opens a crash state, and lets the power go again at every place of that; once it is open, what it shows must stay.
    fn die_again(&mut self, state: &SimulatedDisk) -> Result<(), String> {
        let config = self.config;
        let again = Arc::new(Mutex::new((self.allowed.clone(), Ok(()), 0)));
        let watched = {
            let again = Arc::clone(&again);
            Watched::new(state.killed(), move |disk, call| {
                let mut again = again.lock().unwrap_or_else(PoisonError::into_inner);
                for seed in 0..2 {
                    let state = disk.crash_state(seeded(seed + 100 * call as u64));
                    again.2 += 1;
                    if again.1.is_ok() {
                        again.1 =
                            check(&state, &again.0, config, false)
                                .map(drop)
                                .map_err(|reason| {
                                    format!(
                                        "second crash before call {call}, seed {seed}: {reason}"
                                    )
                                });
                    }
                }
            })
        };
        let store = config
            .open(watched.clone(), None, false)
            .map_err(|error| format!("open: {error:?}"))?;
        let seen = look(&store).map_err(|error| format!("look: {error:?}"))?;
        again
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .retain(|model| model.seen == seen);
        watched.look();
        drop(store);
        watched.look();
        let again = again.lock().unwrap_or_else(PoisonError::into_inner);
        self.states += again.2;
        again.1.clone()
    }
}

fn text(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(content).replace("xxxxx", "");
    text.trim_end_matches('\n').replace("\n\n", "")
}

/// The states that a power cut may leave now, with names to find them again.
fn crash_states(disk: &SimulatedDisk, call: usize) -> Vec<(String, SimulatedDisk)> {
    let mut states = Vec::new();
    let all = exhaustive(STATES_ALL, |choose| {
        states.push((format!("number {}", states.len()), disk.crash_state(choose)));
    });
    if !all {
        states.truncate(1);
        let drawn = (0..STATES_DRAWN).map(|number| {
            let seed = number + 1000 * call as u64;
            (format!("seed {seed}"), disk.crash_state(seeded(seed)))
        });
        states.extend(drawn);
        states.push(("all applied".to_owned(), disk.crash_state(|_| 1)));
    }
    states
}

/// All files of a disk, without the locks.
fn content(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = disk.list(&folder) else {
            continue;
        };
        for entry in entries {
            let path = folder.join(&entry.name);
            if entry.is_dir {
                folders.push(path);
            } else if !entry.name.contains("lock") {
                let content = disk.content(&path).unwrap_or_default();
                found.push((path, content));
            }
        }
    }
    found.sort();
    found
}

fn hash(content: &[(PathBuf, Vec<u8>)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// Opens what a crash left; says which of the allowed states it is.
fn check(
    disk: &SimulatedDisk,
    allowed: &[Model],
    config: Config,
    thorough: bool,
) -> Result<usize, String> {
    let said = |doing: &'static str| move |error: opslog::Error| format!("{doing}: {error:?}");
    let store = config
        .open(disk.clone(), None, false)
        .map_err(said("open"))?;
    let damaged = |report: &opslog::DamageReport| report.kind == DamageKind::Damaged;
    if store.open_report().damage.iter().any(damaged) {
        return Err(format!("damage is reported: {:?}", store.open_report()));
    }
    let seen = look(&store).map_err(said("look"))?;
    // The newest that fits: a call that changes nothing visible is equal to the one before.
    let Some(found) = allowed.iter().rposition(|model| model.seen == seen) else {
        let expected: Vec<_> = allowed.iter().map(|model| &model.seen).collect();
        return Err(format!("found {seen:?}\nallowed are {expected:?}"));
    };
    if thorough {
        check_histories(&store, &allowed[found]).map_err(said("history"))??;
    }
    drop(store);
    let after = content(disk);
    if let Some((path, _)) = after
        .iter()
        .find(|(path, _)| path.extension().is_some_and(|end| end == "tmp"))
    {
        return Err(format!("{} is left over", path.display()));
    }
    if thorough {
        check_further(disk, &allowed[found], config, &after).map_err(said("later"))??;
    }
    Ok(found)
}

fn check_histories(store: &Store, model: &Model) -> opslog::Result<Result<(), String>> {
    for id in model.seen.ops.iter().map(|op| &op.id) {
        let history = store.history(id)?;
        let expected = model.seen.ops.iter().filter(|op| op.id == *id);
        if !history.iter().map(model::op).eq(expected.cloned()) {
            return Ok(Err(format!("the history of {id} is {history:#?}")));
        }
    }
    Ok(Ok(()))
}

/// A second open changes nothing; then the store can be used, and takes back what it has.
fn check_further(
    disk: &SimulatedDisk,
    model: &Model,
    config: Config,
    after: &[(PathBuf, Vec<u8>)],
) -> opslog::Result<Result<(), String>> {
    let store = config.open(disk.clone(), None, false)?;
    let (seen, report) = (look(&store)?, store.open_report().clone());
    drop(store);
    if seen != model.seen || !report.damage.is_empty() || content(disk) != after {
        return Ok(Err(format!(
            "the second open finds something else: {seen:?} {report:?}"
        )));
    }
    let store = config.open(disk.clone(), None, false)?;
    store.set("later", &json!({"later": true}))?;
    store.delete("later")?;
    let mut undone = model.clone();
    undone.commit(&[("later".to_owned(), Some(json!({"later": true})))]);
    undone.commit(&[("later".to_owned(), None)]);
    for _ in 0..3 {
        store.undo()?;
        // Whether a checkpoint has sealed the commit decides about its place.
        undone.undo(config.undo);
    }
    drop(store);
    let store = config.open(disk.clone(), None, false)?;
    let found = sorted(documents(&store)?);
    if found != sorted(undone.seen.documents) {
        return Ok(Err(format!("after three undos it holds {found:#?}")));
    }
    store.close()?;
    Ok(Ok(()))
}

fn lock(run: &Mutex<Run>) -> MutexGuard<'_, Run> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `script` and looks at all states that a death at any of its file-system calls may leave. Returns the numbers of places and states.
fn survive(
    (disk, model): &(SimulatedDisk, Model),
    script: &[Call],
    config: Config,
    death: Death,
) -> (usize, usize) {
    let run = Arc::new(Mutex::new(Run {
        allowed: vec![model.clone()],
        config,
        what: format!("{script:?} with {config:?}"),
        seen: HashSet::new(),
        places: 0,
        states: 0,
        failure: None,
    }));
    let watched = {
        let run = Arc::clone(&run);
        Watched::new(disk.killed(), move |disk, call| {
            lock(&run).look(disk, call, death);
        })
    };
    let mut store = None;
    let mut model = model.clone();
    let fail = |failure: Option<String>| {
        if let Some(failure) = failure {
            panic!("{failure}");
        }
    };
    // The first open is part of it.
    for (number, plan) in std::iter::once(None)
        .chain(script.iter().map(Some))
        .enumerate()
    {
        let plan = match plan {
            None => Plan::new(Call::Flush, 0, &model, config),
            Some(call) => Plan::new(*call, 10 * number, &model, config),
        };
        {
            let mut run = lock(&run);
            run.allowed.push(plan.after.clone());
            run.seen.clear();
        }
        let answer = plan.run(&mut store, &watched, config);
        fail(lock(&run).failure.take());
        answer.unwrap_or_else(|error| panic!("{script:?} {config:?}: {error:?}"));
        model = plan.after;
        if plan.durable {
            let mut run = lock(&run);
            run.allowed = vec![model.clone()];
            run.seen.clear();
        }
        watched.look();
        fail(lock(&run).failure.take());
        let seen = store
            .as_ref()
            .map(look)
            .expect("it is open")
            .expect("it can be read");
        assert_eq!(seen, model.seen, "{script:?} {config:?} live");
    }
    lock(&run).allowed.push(model.clone());
    drop(store);
    fail(lock(&run).failure.take());
    {
        let mut run = lock(&run);
        run.allowed = vec![model];
        run.seen.clear();
    }
    watched.look();
    let mut run = lock(&run);
    fail(run.failure.take());
    (run.places, run.states)
}

fn scripts_of(calls: usize) -> Vec<Vec<Call>> {
    let mut scripts = vec![Vec::new()];
    for _ in 0..calls {
        scripts = scripts
            .iter()
            .flat_map(|script| CALLS.map(|call| [&script[..], &[call]].concat()))
            .collect();
    }
    scripts
}

/// Counts of places and states, said at the end of a test.
#[derive(Default)]
struct Total {
    places: usize,
    states: usize,
}

impl Total {
    fn add(&mut self, (places, states): (usize, usize)) {
        self.places += places;
        self.states += states;
    }

    fn say(&self, what: &str) {
        let Self { places, states } = self;
        eprintln!("{what}: {places} places, {states} different states");
        assert!(*states > 0);
    }
}

#[test]
fn crash_in_one_call_leaves_all_or_nothing_of_it() {
    let mut total = Total::default();
    let base = prepared();
    for config in Config::all() {
        for script in scripts_of(1) {
            total.add(survive(&base, &script, config, Death::PowerCut));
        }
    }
    total.say("scripts of one call, all modes");
}

#[test]
fn crash_in_two_calls_leaves_a_prefix_of_what_was_done() {
    let mut total = Total::default();
    let base = prepared();
    for script in scripts_of(2) {
        let config = Config::immediate();
        total.add(survive(&base, &script, config, Death::PowerCut));
    }
    total.say("scripts of two calls");
}

#[test]
fn crash_in_three_calls_leaves_a_prefix_of_what_was_done() {
    let mut total = Total::default();
    let base = prepared();
    let mut choose = seeded(2026);
    let configs = Config::all();
    for _ in 0..60 {
        let script = [(); 3].map(|()| CALLS[choose(CALLS.len())]);
        let config = configs[choose(configs.len())];
        total.add(survive(&base, &script, config, Death::PowerCut));
    }
    total.say("drawn scripts of three calls, all modes");
}

#[test]
fn crash_while_a_store_is_created_leaves_a_store_or_none() {
    let mut total = Total::default();
    let base = (SimulatedDisk::new(), Model::default());
    for config in Config::all() {
        for call in [Call::Create, Call::Batch, Call::Reopen] {
            total.add(survive(&base, &[call], config, Death::PowerCut));
        }
    }
    total.say("creation");
}

#[test]
fn killed_process_loses_nothing_that_was_handed_to_the_system() {
    let mut total = Total::default();
    let base = prepared();
    for mut config in Config::all() {
        for os_buffered in [false, true] {
            config.os_buffered = os_buffered;
            for script in scripts_of(1) {
                let script = [&[Call::Create][..], &script, &[Call::Batch]].concat();
                total.add(survive(&base, &script, config, Death::Killed));
            }
        }
    }
    total.say("kills");
}

#[test]
fn crash_while_recovering_from_a_crash_loses_nothing_more() {
    let mut total = Total::default();
    let base = prepared();
    for script in scripts_of(1) {
        let config = Config::immediate();
        total.add(survive(&base, &script, config, Death::Twice));
    }
    total.say("second crashes");
}

#[test]
fn crash_while_replaced_logs_are_merged_loses_no_history() {
    let mut total = Total::default();
    let base = prepared_with_many_logs();
    for script in [
        &[Call::Compact][..],
        &[Call::Archive],
        &[Call::Undo, Call::Compact],
    ] {
        let config = Config::immediate();
        total.add(survive(&base, script, config, Death::PowerCut));
    }
    total.say("merges");
}
