//! Every file-system call of a script fails once, in every way in which it can.
//!
//! A call then succeeds, or it fails and leaves no trace; after a failed sync the store is poisoned. Whatever happened, the store can be
//! opened again, and holds what was acknowledged.

use opslog::backend::{CallKind, Fault, SimulatedDisk, seeded};
use opslog::{Error, ErrorKind, Store, testing};
use serde_json::json;

use super::explore::{check, check_again, dump, freeze};
use super::flawed::{Flaw, plant};
use super::model::{Documents, Model, documents, look};
use super::planted::Found;
use super::script::{Base, CALLS, Call, Config, Plan};

/// What can go wrong at a call of this kind, and at those that follow it.
fn faults(kind: CallKind) -> Vec<Vec<Fault>> {
    let mut faults = vec![vec![Fault::Eio], vec![Fault::Eintr]];
    match kind {
        CallKind::Write => {
            faults.push(vec![Fault::Enospc]);
            for count in [1, 100, 300, 513] {
                faults.push(vec![Fault::ShortWrite(count)]);
                faults.push(vec![Fault::ShortWrite(count), Fault::Eio]);
            }
            faults.push(vec![Fault::ShortWrite(300), Fault::Enospc, Fault::Enospc]);
        }
        CallKind::CreateDir | CallKind::Create | CallKind::HardLink => {
            faults.push(vec![Fault::Enospc]);
        }
        CallKind::SyncData | CallKind::SyncAll => {
            faults.extend([vec![Fault::Enospc], vec![Fault::SyncFailure]]);
        }
        _ => {}
    }
    faults
}

/// A script with one call that fails.
struct Case<'a> {
    script: &'a [Call],
    config: Config,
    call: usize,
    faults: &'a [Fault],
}

/// How the case went on.
#[derive(Default)]
pub(crate) struct Counts {
    cases: usize,
    succeeded: usize,
    failed: usize,
    poisoned: usize,
}

struct Driver<'a> {
    case: &'a Case<'a>,
    disk: SimulatedDisk,
    store: Option<Store>,
    /// What is visible.
    model: Model,
    /// What a reopen may find instead: what was accepted and is not durable.
    older: Vec<Model>,
}

type Checked<V = ()> = Result<V, String>;

fn said(doing: &'static str) -> impl Fn(Error) -> String {
    move |error| format!("{doing}: {error:?}")
}

impl Driver<'_> {
    fn run(&mut self, counts: &mut Counts) -> Checked {
        counts.cases += 1;
        let mut failed = false;
        for number in 0..=self.case.script.len() {
            let call = match number.checked_sub(1) {
                None => Call::Flush,
                Some(index) => self.case.script[index],
            };
            let config = self.case.config;
            let mut plan = Plan::new(call, 10 * number, &self.model, config);
            if let Err(error) = plan.run(&mut self.store, &self.disk, config) {
                if failed {
                    return Err(format!("{call:?} fails for no reason: {error:?}"));
                }
                failed = true;
                if !self.accept_failure(&plan, &error, counts)? {
                    continue;
                }
                // The fault is over, so now it works; unless a failed close and a new open have done it already.
                plan = Plan::new(call, 10 * number + 5, &self.model, config);
                plan.run(&mut self.store, &self.disk, config)
                    .map_err(said("once more"))?;
            }
            if plan.durable {
                self.older.clear();
            } else {
                self.older.push(self.model.clone());
            }
            self.model = plan.after;
            self.is_seen("after the call")?;
        }
        if !failed {
            counts.succeeded += 1;
        }
        self.can_be_used()
    }

    /// Judges a failure; says whether the call is to be made again.
    fn accept_failure(&mut self, plan: &Plan, error: &Error, counts: &mut Counts) -> Checked<bool> {
        let harmless = |fault: &Fault| matches!(fault, Fault::Eintr | Fault::ShortWrite(_));
        if self.case.faults.iter().all(harmless) {
            return Err(format!("this must not show: {error:?}"));
        }
        counts.failed += 1;
        if self.case.config.agent.is_some() {
            // Looking at what an agent shows reads the manifest, and the faults are for the call.
            self.disk.mend();
        }
        if error.path().is_none() || !error.message().contains("; ") {
            return Err(format!("it does not say where, or what to do: {error:?}"));
        }
        let Some(store) = self.store.clone() else {
            // A failed open, or a failed close: the lock is free, and what was acknowledged is there.
            return self.reopen(plan).map(|()| false);
        };
        if error.kind() != ErrorKind::Poisoned {
            if !matches!(error.kind(), ErrorKind::Unavailable) {
                return Err(format!("an odd kind: {error:?}"));
            }
            drop(store);
            self.is_seen("after the failed call")?;
            self.survives_power_cut(&[])?;
            return Ok(true);
        }
        counts.poisoned += 1;
        self.is_poisoned(&store, plan)?;
        self.survives_power_cut(std::slice::from_ref(&plan.after))?;
        if self.case.call.is_multiple_of(2) {
            match store.close() {
                Err(error) if error.kind() == ErrorKind::Poisoned => {}
                other => return Err(format!("close of a poisoned store: {other:?}")),
            }
        }
        drop(store);
        self.store = None;
        self.reopen(plan).map(|()| false)
    }

    /// Nothing that was accepted is lost, and nothing that was refused comes back, but for what is in `maybe`.
    fn survives_power_cut(&self, maybe: &[Model]) -> Checked {
        let known = [&self.older[..], std::slice::from_ref(&self.model), maybe].concat();
        let frozen = testing::frozen();
        let mut states = vec![self.disk.killed()];
        states.extend((0..4).map(|seed| self.disk.crash_state(seeded(seed))));
        for state in states {
            check(&state, &known, self.case.config)
                .map_err(|reason| format!("a crash after the failure: {reason}"))?;
        }
        if let Some((time, number)) = frozen {
            testing::freeze(time, number);
        }
        Ok(())
    }

    /// Opens again, and goes on with what is there.
    fn reopen(&mut self, plan: &Plan) -> Checked {
        let store = self
            .case
            .config
            .open(self.disk.clone(), None, true)
            .map_err(said("open after a failure"))?;
        let seen = look(&store).map_err(said("look after a failure"))?;
        let mut allowed = self.older.clone();
        allowed.extend([self.model.clone(), plan.after.clone()]);
        let Some(found) = allowed.iter().rposition(|model| model.seen == seen) else {
            let allowed: Vec<_> = allowed.iter().map(|model| &model.seen).collect();
            return Err(format!("opened again: {seen:?}\nallowed {allowed:?}"));
        };
        self.model = allowed.swap_remove(found);
        self.older.clear();
        self.store = Some(store);
        Ok(())
    }

    fn is_seen(&self, when: &str) -> Checked {
        if self.disk.calls() <= self.case.call {
            // Looking would make calls itself, and nothing has gone wrong yet.
            return Ok(());
        }
        let store = self.store.as_ref().ok_or("no store is open")?;
        let visible: Documents = documents(store).map_err(said("documents"))?;
        let flushes = !self.case.config.is_immediate();
        // Looking at operations flushes what is buffered, which is part of some scripts; the documents are enough then.
        let seen = if flushes {
            visible == self.model.seen.documents
        } else {
            look(store).map_err(said("look"))? == self.model.seen
        };
        if seen {
            return Ok(());
        }
        Err(format!(
            "{when}: {:?}\nexpected {:?}",
            look(store),
            self.model.seen
        ))
    }

    fn is_poisoned(&self, store: &Store, plan: &Plan) -> Checked {
        self.is_seen_poisoned(store, plan)?;
        let refused = [
            ("set", store.set("x", &json!({}))),
            ("delete", store.delete("id-1060")),
            ("batch", store.batch(|batch| batch.set("x", &json!({})))),
            ("undo", store.undo().map(drop)),
            ("compact", store.compact()),
            ("archive", store.archive(|_, _| true, None).map(drop)),
            ("flush", store.flush()),
        ];
        for (name, answer) in refused {
            match answer {
                Err(error) if error.kind() == ErrorKind::Poisoned => {}
                other => return Err(format!("{name} of a poisoned store: {other:?}")),
            }
        }
        self.is_seen_poisoned(store, plan)
    }

    /// Nothing of the failed call is visible, but that an undo may have taken the operations off the log.
    fn is_seen_poisoned(&self, store: &Store, plan: &Plan) -> Checked {
        let visible = documents(store).map_err(said("documents, poisoned"))?;
        // What was accepted stays visible, also an undo that was accepted.
        let accepted = !self.case.config.is_immediate() && visible == plan.after.seen.documents;
        if visible != self.model.seen.documents && !accepted {
            return Err(format!("poisoned: {visible:?}"));
        }
        if self.case.config.is_immediate() {
            let ops = look(store).map_err(said("look, poisoned"))?.ops;
            let cut = plan.after.seen.ops.len() < self.model.seen.ops.len();
            if ops != self.model.seen.ops && !(cut && ops == plan.after.seen.ops) {
                return Err(format!("poisoned: {:?}", look(store)));
            }
        }
        Ok(())
    }

    /// Writes work, and all that was acknowledged is durable.
    fn can_be_used(&mut self) -> Checked {
        // Names are made of milliseconds, so that a script may once need fewer calls than before.
        self.disk.mend();
        let config = self.case.config;
        let store = self.store.take().ok_or("no store is open")?;
        let last = json!({"number": 9999});
        store.set("last", &last).map_err(said("a later set"))?;
        store.flush().map_err(said("a later flush"))?;
        self.model.commit(&[("last".to_owned(), Some(last))]);
        let expected = [self.model.clone()];
        for seed in 0..2 {
            let state = self.disk.crash_state(seeded(seed));
            check(&state, &expected, config)
                .map_err(|reason| format!("a power cut at the end: {reason}"))?;
        }
        if self.case.call.is_multiple_of(2) {
            store.close().map_err(said("the last close"))?;
        }
        drop(store);
        check(&self.disk, &expected, config)
            .and_then(|found| check_again(&self.disk, found, config, true))
            .map_err(|reason| format!("at last: {reason}"))
    }
}

/// All calls of the undisturbed script, from the open on.
fn calls_of(base: Base, script: &[Call], config: Config) -> Vec<CallKind> {
    let (disk, mut model) = base.prepared().clone();
    let disk = disk.killed();
    disk.record();
    let mut store = None;
    freeze(1_000);
    for (number, call) in std::iter::once(&Call::Flush).chain(script).enumerate() {
        let plan = Plan::new(*call, 10 * number, &model, config);
        plan.run(&mut store, &disk, config).expect("nothing fails");
        model = plan.after;
    }
    let trace = disk.trace();
    drop(store);
    trace.iter().map(|call| call.kind).collect()
}

fn each_fault(
    base: Base,
    script: &[Call],
    config: Config,
    skip: usize,
    counts: &mut Counts,
) -> Checked {
    let calls = calls_of(base, script, config).into_iter().enumerate();
    for (call, kind) in calls.skip(skip) {
        for faults in faults(kind) {
            let case = Case {
                script,
                config,
                call,
                faults: &faults,
            };
            let (disk, model) = base.prepared().clone();
            let disk = disk.killed();
            for (index, fault) in (call..).zip(&faults) {
                disk.fail(index, *fault);
            }
            freeze(1_000);
            let mut driver = Driver {
                case: &case,
                disk: disk.clone(),
                store: None,
                model,
                older: Vec::new(),
            };
            driver.run(counts).map_err(|reason| {
                driver.store = None;
                format!(
                    "{script:?} on {base:?} with {config:?}, {faults:?} from call {call} on ({kind:?}): {reason}\n{}",
                    dump(&disk)
                )
            })?;
        }
    }
    Ok(())
}

/// The scripts of the suite: an open, then each call in each way to open a store.
fn each_script(counts: &mut Counts) -> Checked {
    let ways = [Base::Used, Base::Agents].map(|base| {
        let configs = Config::all_on(base).into_iter();
        configs.map(move |config| (base, config))
    });
    for (base, config) in ways.into_iter().flatten() {
        let opening = calls_of(base, &[], config).len();
        each_fault(base, &[], config, 0, counts)?;
        for call in CALLS {
            // Where it is buffered, a write meets the disk at the flush.
            let script = if config.is_immediate() {
                vec![call]
            } else {
                vec![Call::Create, call, Call::Flush]
            };
            each_fault(base, &script, config, opening, counts)?;
        }
    }
    each_fault(Base::Empty, &[Call::Create], Config::immediate(), 0, counts)
}

/// Runs the suite with a flaw planted.
pub(crate) fn find(flaw: Flaw) -> Found {
    plant(Some(flaw));
    let mut counts = Counts::default();
    let found = each_script(&mut counts).err();
    plant(None);
    (counts.cases, found)
}

#[test]
fn failure_of_any_call_leaves_no_trace_or_poisons_the_store() {
    let mut counts = Counts::default();
    if let Err(failure) = each_script(&mut counts) {
        panic!("{failure}");
    }
    eprintln!(
        "faults: {} cases, {} succeeded all the same, {} failed, {} poisoned",
        counts.cases, counts.succeeded, counts.failed, counts.poisoned
    );
}

#[test]
fn failure_while_replaced_logs_are_merged_loses_no_history() {
    let (base, config) = (Base::ManyLogs, Config::immediate());
    let opening = calls_of(base, &[], config).len();
    let mut counts = Counts::default();
    if let Err(failure) = each_fault(base, &[Call::Compact], config, opening, &mut counts) {
        panic!("{failure}");
    }
    eprintln!("merges: {} cases, {} failed", counts.cases, counts.failed);
}
