//! Runs scripts, takes the states that a crash may leave at each place, and opens and checks each one that is new.
//!
//! The clock stands still and random numbers are counted, so the same calls make the same bytes: a state is known by its fingerprint, is counted once
//! whichever way it came about, and is checked once for everything that it may have to hold. A failure names the seed that repeats it, with the script and the
//! choices of the crash made as short as they can be.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opslog::backend::{FileSystem, SimulatedDisk, seeded};
use opslog::{DamageKind, Store, Timestamp, testing};
use serde_json::json;

use super::flawed::{self, Flaw};
use super::model::{Model, documents, look, op, sorted};
use super::script::{Base, Call, Config, Plan};
use super::watched::Watched;

/// How thoroughly the crashes of a job are looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Up to so many states of a place are all taken.
    pub(crate) all: usize,
    /// Where there are more, so many are drawn.
    pub(crate) drawn: u64,
    /// At each place of the recovery of one in so many states the power goes again.
    pub(crate) twice_in: usize,
}

/// A script whose crashes are looked at from one of its calls on.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) seed: u64,
    pub(crate) base: Base,
    pub(crate) script: Vec<Call>,
    pub(crate) config: Config,
    /// 0 is the open, 1 the script's first call.
    pub(crate) from: usize,
    pub(crate) effort: Effort,
}

/// What was done, by all threads.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) jobs: AtomicUsize,
    pub(crate) places: AtomicUsize,
    /// States taken, the same ones counted again.
    pub(crate) taken: AtomicUsize,
    /// States opened and checked.
    pub(crate) opened: AtomicUsize,
    pub(crate) opened_twice: AtomicUsize,
    images: Mutex<HashSet<u64>>,
    checked: Mutex<HashSet<u64>>,
    settled: Mutex<HashSet<u64>>,
}

/// Explores jobs with several threads until one fails or there are states enough.
pub(crate) struct Explorer {
    pub(crate) census: Census,
    flaw: Option<Flaw>,
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Lets this thread's clock stand still.
pub(crate) fn freeze(number: u64) {
    let time = Timestamp::from_second(1_700_000_000).unwrap_or_default();
    testing::freeze(time, number);
}

impl Census {
    pub(crate) fn distinct(&self) -> usize {
        lock(&self.images).len()
    }

    pub(crate) fn say(&self, what: &str) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        eprintln!(
            "{what}: {} scripts, {} places, {} states taken, {} distinct ones; {} opened and checked, {} after a second crash",
            count(&self.jobs),
            count(&self.places),
            count(&self.taken),
            self.distinct(),
            count(&self.opened),
            count(&self.opened_twice),
        );
    }

    /// Counts a state; says whether it has to be checked for what it may hold.
    fn is_new(&self, state: &SimulatedDisk, allowed_hash: u64) -> bool {
        Self::add(&self.taken);
        let image = state.fingerprint();
        lock(&self.images).insert(image);
        lock(&self.checked).insert(hash((image, allowed_hash)))
    }

    fn add(counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Explorer {
    pub(crate) fn new(flaw: Option<Flaw>) -> Arc<Self> {
        Arc::new(Self {
            census: Census::default(),
            flaw,
            stop: AtomicBool::new(false),
            failure: Mutex::default(),
        })
    }

    /// Runs the jobs until there are `target` distinct states.
    ///
    /// # Errors
    ///
    /// What failed, and how to repeat it.
    pub(crate) fn explore(
        self: &Arc<Self>,
        jobs: impl Iterator<Item = Job> + Send,
        target: usize,
    ) -> Result<(), String> {
        let jobs = Mutex::new(jobs);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    flawed::plant(self.flaw);
                    while !self.stop.load(Ordering::Relaxed) && self.census.distinct() < target {
                        let Some(job) = lock(&jobs).next() else {
                            return;
                        };
                        if let Err(reason) = self.run(&job)
                            && !self.stop.swap(true, Ordering::Relaxed)
                        {
                            *lock(&self.failure) = Some(self.report(&job, reason));
                        }
                    }
                });
            }
        });
        lock(&self.failure).take().map_or(Ok(()), Err)
    }

    /// Makes the script of a failed job as short as can be, and says all about it.
    fn report(self: &Arc<Self>, job: &Job, reason: String) -> String {
        if self.flaw.is_some() {
            return reason;
        }
        let (mut shortest, mut reason) = (job.clone(), reason);
        shortest.from = 0;
        let mut number = 0;
        while number < shortest.script.len() {
            let mut shorter = shortest.clone();
            shorter.script.remove(number);
            // A new explorer, since this one has seen the states already.
            match Self::new(None).run(&shorter) {
                Err(shorter_reason) => (shortest, reason) = (shorter, shorter_reason),
                Ok(()) => number += 1,
            }
        }
        format!(
            "seed {} (repeat with OPSLOG_CRASH_SEED={}): {:?}\nthe shortest script that fails is {:?} on {:?} with {:?}: {reason}",
            job.seed, job.seed, job.script, shortest.script, shortest.base, shortest.config
        )
    }

    /// Runs a job; a panic within is its failure.
    pub(crate) fn run(self: &Arc<Self>, job: &Job) -> Result<(), String> {
        Census::add(&self.census.jobs);
        catch_unwind(AssertUnwindSafe(|| self.survive(job))).unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panic: {}", text.unwrap_or_default()))
        })
    }

    fn survive(self: &Arc<Self>, job: &Job) -> Result<(), String> {
        let config = job.config;
        let (disk, mut model) = job.base.prepared().clone();
        freeze(1_000);
        let look = Arc::new(Mutex::new(Look::new(self, job, model.clone())));
        let watched = Watched::new(disk.killed(), {
            let look = Arc::clone(&look);
            move |disk, call| lock(&look).look(disk, call)
        });
        let mut store = None;
        // The first open is part of it.
        let calls = std::iter::once(Call::Flush).chain(job.script.iter().copied());
        for (number, call) in calls.enumerate() {
            let plan = if call == Call::CompactBeside {
                plan_beside(&look, &model, number, config, store.as_ref())
            } else {
                Plan::new(call, 10 * number, &model, config)
            };
            lock(&look).begin(number >= job.from, &plan);
            let answer = plan.run(&mut store, &watched, config);
            lock(&look).failed()?;
            answer.map_err(|error| format!("{call:?}: {error:?}"))?;
            lock(&look).end(&plan);
            watched.look();
            lock(&look).failed()?;
            model = plan.after;
            let seen = store.as_ref().map(self::look).ok_or("no store is open")?;
            let seen = seen.map_err(|error| format!("look at the live store: {error:?}"))?;
            if seen != model.seen {
                return Err(format!("live: {seen:?}\nexpected {:?}", model.seen));
            }
        }
        drop(store);
        {
            let mut look = lock(&look);
            look.failed()?;
            look.allow_only(model);
        }
        watched.look();
        lock(&look).failed()
    }
}

/// A checkpoint during which a document is set.
fn plan_beside(
    look: &Arc<Mutex<Look>>,
    model: &Model,
    number: usize,
    config: Config,
    store: Option<&Store>,
) -> Plan {
    let beside = Plan::new(Call::Create, 10 * number, model, config);
    let mut sealed = model.clone();
    sealed.seal();
    let after = Plan::new(Call::Create, 10 * number, &sealed, config).after;
    let (look, mut store) = (Arc::clone(look), store.cloned());
    flawed::meanwhile(move || {
        lock(&look).begin_beside(&beside);
        // A failure shows in what is there afterwards.
        drop(beside.run(&mut store, &SimulatedDisk::new(), config));
        lock(&look).end(&beside);
    });
    Plan::compact(after)
}

/// What is known of a job when its disk is looked at.
struct Look {
    explorer: Arc<Explorer>,
    config: Config,
    effort: Effort,
    seed: u64,
    is_on: bool,
    /// What a crash may leave: the last durable state first.
    allowed: Vec<Model>,
    allowed_hash: u64,
    failure: Option<String>,
}

impl Look {
    fn new(explorer: &Arc<Explorer>, job: &Job, model: Model) -> Self {
        let mut look = Self {
            explorer: Arc::clone(explorer),
            config: job.config,
            effort: job.effort,
            seed: job.seed,
            is_on: false,
            allowed: Vec::new(),
            allowed_hash: 0,
            failure: None,
        };
        look.allow_only(model);
        look
    }

    fn allow_only(&mut self, model: Model) {
        self.allowed = vec![model];
        self.note_allowed();
    }

    fn note_allowed(&mut self) {
        self.allowed_hash = allowed_hash(&self.allowed, self.config);
    }

    fn begin(&mut self, is_on: bool, plan: &Plan) {
        self.is_on = is_on;
        self.begin_beside(plan);
    }

    fn begin_beside(&mut self, plan: &Plan) {
        self.allowed.push(plan.after.clone());
        self.note_allowed();
    }

    fn end(&mut self, plan: &Plan) {
        if plan.durable {
            self.allow_only(plan.after.clone());
        }
    }

    fn failed(&mut self) -> Result<(), String> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn look(&mut self, disk: &SimulatedDisk, call: usize) {
        if !self.is_on || self.failure.is_some() {
            return;
        }
        Census::add(&self.explorer.census.places);
        let frozen = testing::frozen();
        let meanwhile = flawed::take_meanwhile();
        let found = self.look_at_states(disk, call);
        self.failure = found.err();
        flawed::put_back(meanwhile);
        if let Some((time, number)) = frozen {
            testing::freeze(time, number);
        }
    }

    fn look_at_states(&self, disk: &SimulatedDisk, call: usize) -> Result<(), String> {
        let fail = |name: String, reason: String, state: &SimulatedDisk| {
            format!("before call {call}, {name}: {reason}\n{}", dump(state))
        };
        let killed = disk.killed();
        self.visit(&killed)
            .map_err(|reason| fail("the process is killed".to_owned(), reason, &disk.killed()))?;
        let mut failure = None;
        let mut visit = |choose: &mut dyn FnMut(usize) -> usize| {
            if failure.is_some() {
                return;
            }
            let mut choices = Vec::new();
            let state = disk.crash_state(|count| {
                choices.push(choose(count));
                choices[choices.len() - 1]
            });
            if let Err(reason) = self.visit(&state) {
                failure = Some(self.simplest(disk, choices, reason));
            }
        };
        if !opslog::backend::exhaustive(self.effort.all, &mut visit) {
            for number in 0..self.effort.drawn {
                visit(&mut seeded(hash((self.seed, call, number))));
            }
            visit(&mut |_| 1);
        }
        match failure {
            None => Ok(()),
            Some((choices, reason)) => {
                let state = disk.crash_state(replay(&choices));
                Err(fail(format!("choices {choices:?}"), reason, &state))
            }
        }
    }

    /// The choices of a failing crash with as many of them 0, that is lost, as still fail.
    fn simplest(
        &self,
        disk: &SimulatedDisk,
        mut choices: Vec<usize>,
        mut reason: String,
    ) -> (Vec<usize>, String) {
        for index in 0..choices.len() {
            let mut simpler = choices.clone();
            if std::mem::take(&mut simpler[index]) > 0
                && let Err(simpler_reason) = self.check(&disk.crash_state(replay(&simpler)), false)
            {
                (choices, reason) = (simpler, simpler_reason);
            }
        }
        (choices, reason)
    }

    /// Checks a state, unless it was.
    fn visit(&self, state: &SimulatedDisk) -> Result<(), String> {
        let census = &self.explorer.census;
        if !census.is_new(state, self.allowed_hash) {
            return Ok(());
        }
        let number = census.opened.fetch_add(1, Ordering::Relaxed) + 1;
        if number.is_multiple_of(self.effort.twice_in) {
            self.die_again(&state.killed())?;
        }
        self.check(state, number.is_multiple_of(16))
    }

    /// Opens a crash state, and lets the power go again at every place of that; once it is open, what it shows must stay.
    fn die_again(&self, state: &SimulatedDisk) -> Result<(), String> {
        freeze(2_000);
        let again = Arc::new(Mutex::new(Again {
            allowed: self.allowed.clone(),
            allowed_hash: self.allowed_hash,
            failure: None,
        }));
        let (explorer, config) = (Arc::clone(&self.explorer), self.config);
        let watched = {
            let again = Arc::clone(&again);
            Watched::new(state.killed(), move |disk, call| {
                let frozen = testing::frozen();
                for seed in 0..3 {
                    let state = disk.crash_state(seeded(hash((seed, call))));
                    lock(&again).visit(&explorer.census, &state, config);
                }
                if let Some((time, number)) = frozen {
                    testing::freeze(time, number);
                }
            })
        };
        let store = config
            .open(watched.clone(), None, false)
            .map_err(|error| format!("open: {error:?}"))?;
        let seen = look(&store).map_err(|error| format!("look: {error:?}"))?;
        {
            let mut again = lock(&again);
            again.allowed.retain(|model| model.seen == seen);
            again.allowed_hash = allowed_hash(&again.allowed, config);
        }
        watched.look();
        drop(store);
        watched.look();
        lock(&again).failure.take().map_or(Ok(()), Err)
    }

    fn check(&self, state: &SimulatedDisk, thorough: bool) -> Result<(), String> {
        freeze(3_000);
        let found = check(state, &self.allowed, self.config)?;
        let settled = hash((state.fingerprint(), format!("{:?}", self.config)));
        if lock(&self.explorer.census.settled).insert(settled) {
            check_again(state, found, self.config, thorough)?;
        }
        Ok(())
    }
}

/// What is known when a second crash comes.
struct Again {
    allowed: Vec<Model>,
    allowed_hash: u64,
    failure: Option<String>,
}

impl Again {
    fn visit(&mut self, census: &Census, state: &SimulatedDisk, config: Config) {
        if self.failure.is_none() && census.is_new(state, self.allowed_hash) {
            Census::add(&census.opened_twice);
            freeze(3_000);
            self.failure = check(state, &self.allowed, config).err().map(|reason| {
                format!(
                    "the power goes again while it is opened: {reason}\n{}",
                    dump(state)
                )
            });
        }
    }
}

/// Two checks with the same number are the same. Of the configuration only the residency and the agent have a part in what an open does.
fn allowed_hash(allowed: &[Model], config: Config) -> u64 {
    let allowed: Vec<_> = allowed.iter().map(|model| &model.seen).collect();
    hash(format!(
        "{:?} {:?} {allowed:?}",
        config.residency, config.agent
    ))
}

fn replay(choices: &[usize]) -> impl FnMut(usize) -> usize {
    let mut choices = choices.iter().copied();
    move |count| choices.next().unwrap_or(0).min(count - 1)
}

/// Opens what a crash left; says which of the allowed states it is.
pub(crate) fn check<'m>(
    disk: &SimulatedDisk,
    allowed: &'m [Model],
    config: Config,
) -> Result<&'m Model, String> {
    let store = config
        .open(disk.clone(), None, false)
        .map_err(|error| format!("open: {error:?}"))?;
    let damaged = |report: &opslog::DamageReport| report.kind == DamageKind::Damaged;
    if store.open_report().damage.iter().any(damaged) {
        return Err(format!("damage is reported: {:?}", store.open_report()));
    }
    let seen = look(&store).map_err(|error| format!("look: {error:?}"))?;
    // The newest that fits: a call that changes nothing visible is equal to the one before.
    allowed
        .iter()
        .rev()
        .find(|model| model.seen == seen)
        .ok_or_else(|| {
            let expected: Vec<_> = allowed.iter().map(|model| &model.seen).collect();
            format!("found {seen:?}\nallowed are {expected:?}")
        })
}

/// A second open finds the same, and changes nothing; if `thorough`, the store can then be used, and takes back what it has.
pub(crate) fn check_again(
    disk: &SimulatedDisk,
    model: &Model,
    config: Config,
    thorough: bool,
) -> Result<(), String> {
    let before = disk.fingerprint();
    // Agents leave that to the next swap of the snapshot: another one may be about to use the file.
    if config.agent.is_none()
        && let Some((path, _)) = content(disk)
            .iter()
            .find(|(path, _)| path.extension().is_some_and(|end| end == "tmp"))
    {
        return Err(format!("{} is left over", path.display()));
    }
    let said = |error: opslog::Error| format!("the second time: {error:?}");
    let store = config.open(disk.clone(), None, false).map_err(said)?;
    let (seen, report) = (look(&store).map_err(said)?, store.open_report().clone());
    if thorough {
        check_histories(&store, model).map_err(said)??;
    }
    drop(store);
    // An agent begins a new log whenever it opens the store.
    let is_changed = config.agent.is_none() && disk.fingerprint() != before;
    if seen != model.seen || !report.damage.is_empty() || is_changed {
        return Err(format!(
            "the second open finds something else: {seen:?} {report:?}"
        ));
    }
    if thorough {
        use_further(disk, model, config).map_err(said)??;
    }
    Ok(())
}

fn check_histories(store: &Store, model: &Model) -> opslog::Result<Result<(), String>> {
    for id in model.seen.ops.iter().map(|op| &op.id) {
        let history = store.history(id)?;
        let expected = model.seen.ops.iter().filter(|op| op.id == *id);
        if !history.iter().map(op).eq(expected.cloned()) {
            return Ok(Err(format!("the history of {id} is {history:#?}")));
        }
    }
    Ok(Ok(()))
}

fn use_further(
    disk: &SimulatedDisk,
    model: &Model,
    config: Config,
) -> opslog::Result<Result<(), String>> {
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
    let expected = sorted(undone.seen.documents);
    if found != expected {
        return Ok(Err(format!(
            "after three undos it holds {found:?}\nexpected {expected:?}"
        )));
    }
    store.close()?;
    Ok(Ok(()))
}

/// All files of a disk, without the locks.
fn content(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/")];
    while let Some(folder) = folders.pop() {
        for entry in disk.list(&folder).unwrap_or_default() {
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

/// What is on a disk, to be read.
pub(crate) fn dump(disk: &SimulatedDisk) -> String {
    let files = content(disk).into_iter().map(|(path, content)| {
        let text = String::from_utf8_lossy(&content).replace("xxxxx", "");
        let text = text.trim_end_matches('\n').replace("\n\n", "");
        format!("--- {}\n{text}\n", path.display())
    });
    files.collect()
}
