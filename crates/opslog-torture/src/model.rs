//! What the store must hold: the commits of each thread, as a function of the seed.

use std::collections::BTreeMap;

use opslog::{DamageKind, Store};
use serde_json::{Value, json};

use crate::{Outcome, random};

/// Ids and documents.
pub(crate) type Documents = BTreeMap<String, Value>;

/// How a cycle writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Prefix of all its ids, so that cycles do not meet.
    pub(crate) cycle: u64,
    pub(crate) threads: u64,
    pub(crate) mode: Mode,
}

/// The write mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Immediate,
    Group,
    Async,
    OsBuffered,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Immediate, Self::Group, Self::Async, Self::OsBuffered];
}

/// One commit.
#[derive(Debug, Clone)]
pub(crate) enum Commit {
    Put(Vec<(String, Value)>),
    Delete(String),
    /// Takes back the last one; only where there is one thread.
    Undo,
    Checkpoint,
}

/// The commits of one thread, one after the other, and the documents after each.
pub(crate) struct Thread {
    plan: Plan,
    number: u64,
    state: u64,
    made: u64,
    /// The documents after each commit that was not taken back, the newest last.
    stack: Vec<Documents>,
    /// What the last undo took from the stack.
    undone: Option<Documents>,
}

impl Thread {
    pub(crate) fn new(plan: Plan, number: u64) -> Self {
        Self {
            plan,
            number,
            state: plan.seed ^ (number << 32) ^ plan.cycle,
            made: 0,
            stack: vec![Documents::new()],
            undone: None,
        }
    }

    pub(crate) fn documents(&self) -> &Documents {
        self.stack.last().expect("the first is never taken back")
    }

    /// The next commit, applied to the documents.
    pub(crate) fn next(&mut self) -> Commit {
        self.made += 1;
        let dice = random(&mut self.state);
        let mut documents = self.documents().clone();
        let id = |key: u64| format!("{}/{}/{}", self.plan.cycle, self.number, key % 8);
        // Now and then one that spans several pages.
        let size = if dice.is_multiple_of(23) {
            9000
        } else {
            dice % 300
        };
        let value =
            json!({"n": self.made, "text": "é".repeat(usize::try_from(size / 2).unwrap_or(0))});
        let commit = match (dice >> 20) % 16 {
            0 | 1 => {
                let puts = (0..3).map(|key| (id(dice + key), value.clone()));
                Commit::Put(puts.collect())
            }
            2 if documents.contains_key(&id(dice)) => Commit::Delete(id(dice)),
            3 if self.plan.threads == 1 && self.stack.len() > 1 => {
                self.undone = self.stack.pop();
                return Commit::Undo;
            }
            4 if (dice >> 30).is_multiple_of(4) => return Commit::Checkpoint,
            _ => Commit::Put(vec![(id(dice), value)]),
        };
        match &commit {
            Commit::Put(puts) => documents.extend(puts.iter().cloned()),
            Commit::Delete(id) => drop(documents.remove(id)),
            Commit::Undo | Commit::Checkpoint => {}
        }
        self.stack.push(documents);
        commit
    }
}

impl Thread {
    /// The store has refused the commit that was made last.
    pub(crate) fn refused(&mut self, commit: &Commit) {
        match commit {
            Commit::Put(_) | Commit::Delete(_) => drop(self.stack.pop()),
            Commit::Undo => self.stack.extend(self.undone.take()),
            Commit::Checkpoint => {}
        }
    }
}

/// What a thread said before it died.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Said {
    pub(crate) tried: u64,
    pub(crate) acknowledged: u64,
}

/// All documents of the store, which must open without damage, and again with the same documents.
pub(crate) fn read(directory: &std::path::Path) -> Outcome<Documents> {
    let mut before = None;
    for _ in 0..2 {
        let store: Store = Store::builder()
            .checkpoint_on_close(false)
            .open(directory)?;
        let mut damage = store.open_report().damage.iter();
        if let Some(damage) = damage.find(|damage| damage.kind == DamageKind::Damaged) {
            return Err(format!("opening reports {damage:?}").into());
        }
        let documents: Documents = store
            .entries()?
            .into_iter()
            .map(|(id, document)| (id, (*document).clone()))
            .collect();
        drop(store);
        if before.as_ref().is_some_and(|before| *before != documents) {
            return Err("a second open shows other documents".into());
        }
        before = Some(documents);
    }
    let report = opslog::verify(directory)?;
    if !report.is_sound() {
        return Err(format!("verify finds {report:?}").into());
    }
    Ok(before.unwrap_or_default())
}

/// Compares what `thread` has in the store with its commits: all that was acknowledged must be there, and at most what was tried. Answers how many commits are there.
pub(crate) fn check_thread(plan: Plan, number: u64, said: Said, found: &Documents) -> Outcome<u64> {
    let prefix = format!("{}/{number}/", plan.cycle);
    let mine: Documents = found
        .iter()
        .filter(|(id, _)| id.starts_with(&prefix))
        .map(|(id, value)| (id.clone(), value.clone()))
        .collect();
    let mut thread = Thread::new(plan, number);
    for made in 0..=said.tried {
        if made > 0 {
            thread.next();
        }
        if made >= said.acknowledged && *thread.documents() == mine {
            return Ok(made);
        }
    }
    Err(format!("{plan:?}: thread {number} said {said:?}, and the store has {mine:?}").into())
}
