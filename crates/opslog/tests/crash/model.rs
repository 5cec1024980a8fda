//! What a store should hold: documents in order, operations, archives, and which commits can be taken back how.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use opslog::{Operation, Result, Since, Store, UndoMode};
use serde_json::Value;

/// Ids and documents, in insertion order.
pub(crate) type Documents = Vec<(String, Value)>;

/// One set (`Some`) or delete (`None`).
pub(crate) type Write = (String, Option<Value>);

/// An operation as `ops` should show it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Op {
    pub(crate) id: String,
    pub(crate) data: Option<Value>,
    pub(crate) prev: Option<Value>,
    pub(crate) undo: bool,
}

/// What a store was seen to hold.
#[derive(Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) documents: Documents,
    pub(crate) ops: Vec<Op>,
    pub(crate) archives: BTreeMap<String, Documents>,
    pub(crate) version: u32,
}

/// Short: ids with the `number` of each document.
impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |document: &Value| match document.get("from") {
            Some(from) => format!("{} from {from}", document["number"]),
            None => document["number"].to_string(),
        };
        let list = |documents: &Documents| {
            let list = documents
                .iter()
                .map(|(id, document)| format!("{id}={}", number(document)));
            list.collect::<Vec<_>>().join(" ")
        };
        write!(f, "version {}: {}", self.version, list(&self.documents))?;
        for op in &self.ops {
            let undo = if op.undo { "undo " } else { "" };
            let data = op.data.as_ref().map(number);
            let prev = op.prev.as_ref().map(number);
            write!(f, "\n    {undo}{} {data:?} was {prev:?}", op.id)?;
        }
        for (period, documents) in &self.archives {
            write!(f, "\n    archive {period}: {}", list(documents))?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Commit {
    ops: usize,
    before: Documents,
    undo: bool,
    /// Whether a checkpoint came after it, so that it is not cut off the log.
    sealed: bool,
}

/// How a commit was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undone {
    Nothing,
    CutOff,
    Reversed,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) seen: Seen,
    commits: Vec<Commit>,
    /// Commits below this one cannot be taken back.
    floor: usize,
    /// Of a store of agents.
    agents: Option<Registers>,
}

/// What a store of agents knows of ids.
#[derive(Debug, Clone, Default)]
struct Registers {
    /// Documents stand in the order in which they were created, also those that came back: after how many operations each one was.
    births: BTreeMap<String, usize>,
    /// Those that were archived since, which no undo brings back.
    archived: BTreeSet<String>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            seen: Seen {
                documents: Vec::new(),
                ops: Vec::new(),
                archives: BTreeMap::new(),
                version: 1,
            },
            commits: Vec::new(),
            floor: 0,
            agents: None,
        }
    }
}

impl Model {
    pub(crate) fn get(&self, id: &str) -> Option<&Value> {
        find(&self.seen.documents, id).map(|place| &self.seen.documents[place].1)
    }

    /// The model of a store of agents.
    pub(crate) fn of_agents() -> Self {
        Self {
            agents: Some(Registers::default()),
            ..Self::default()
        }
    }

    pub(crate) fn commit(&mut self, writes: &[Write]) {
        self.append(writes, false);
    }

    fn append(&mut self, writes: &[Write], undo: bool) {
        let before = self.seen.documents.clone();
        for (id, data) in writes {
            let prev = apply(&mut self.seen.documents, id, data.as_ref());
            if let Some(registers) = &mut self.agents
                && prev.is_none()
                && !undo
            {
                registers.births.insert(id.clone(), self.seen.ops.len());
                registers.archived.remove(id);
            }
            self.seen.ops.push(Op {
                id: id.clone(),
                data: data.clone(),
                prev,
                undo,
            });
        }
        if let Some(registers) = &self.agents {
            let born = |id: &String| registers.births[id];
            self.seen.documents.sort_by_key(|(id, _)| born(id));
        }
        self.commits.push(Commit {
            ops: writes.len(),
            before,
            undo,
            sealed: false,
        });
    }

    pub(crate) fn undo(&mut self, mode: UndoMode) -> Undone {
        let mut taken_back = 0;
        let found = (self.floor..self.commits.len()).rev().find(|index| {
            match (self.commits[*index].undo, taken_back) {
                (true, _) => taken_back += 1,
                (false, 0) => return true,
                (false, _) => taken_back -= 1,
            }
            false
        });
        let Some(index) = found else {
            return Undone::Nothing;
        };
        let commit = self.commits[index].clone();
        let is_last = index + 1 == self.commits.len();
        if is_last && !commit.sealed && mode == UndoMode::Truncate {
            let kept = self.seen.ops.len() - commit.ops;
            self.seen.ops.truncate(kept);
            self.seen.documents = commit.before;
            self.commits.pop();
            return Undone::CutOff;
        }
        let first: usize = self.commits[..index].iter().map(|commit| commit.ops).sum();
        let mut reverse: Vec<Write> = self.seen.ops[first..first + commit.ops]
            .iter()
            .rev()
            .map(|op| (op.id.clone(), op.prev.clone()))
            .collect();
        if let Some(registers) = &self.agents {
            // What an agent takes back are documents, each once, not operations.
            reverse.reverse();
            for (id, document) in &mut reverse {
                if registers.archived.contains(id) {
                    *document = None;
                }
            }
        }
        self.append(&reverse, true);
        Undone::Reversed
    }

    /// A checkpoint was made.
    pub(crate) fn seal(&mut self) {
        for commit in &mut self.commits {
            commit.sealed = true;
        }
    }

    /// Operations since the last checkpoint.
    pub(crate) fn unsealed_ops(&self) -> usize {
        let unsealed = self.commits.iter().filter(|commit| !commit.sealed);
        unsealed.map(|commit| commit.ops).sum()
    }

    /// Moves documents to a segment; returns how many.
    pub(crate) fn archive(&mut self, period: &str, picks: impl Fn(&str) -> bool) -> usize {
        let (gone, kept): (Documents, Documents) = std::mem::take(&mut self.seen.documents)
            .into_iter()
            .partition(|(id, _)| picks(id));
        self.seen.documents = kept;
        if gone.is_empty() {
            return 0;
        }
        let segment = self.seen.archives.entry(period.to_owned()).or_default();
        for (id, document) in &gone {
            apply(segment, id, Some(document));
        }
        self.seal();
        match &mut self.agents {
            Some(registers) => registers
                .archived
                .extend(gone.iter().map(|(id, _)| id.clone())),
            None => self.bar_undo(),
        }
        gone.len()
    }

    /// Nothing that is there can be taken back.
    pub(crate) fn bar_undo(&mut self) {
        self.floor = self.commits.len();
    }

    /// Brings all documents to a version.
    pub(crate) fn migrate(&mut self, to: u32) {
        for (_, document) in &mut self.seen.documents {
            *document = migrated(document.clone(), self.seen.version);
        }
        self.seen.version = to;
        self.seal();
        self.bar_undo();
    }
}

/// What the migration of the tests makes of a document.
pub(crate) fn migrated(mut document: Value, from: u32) -> Value {
    document["from"] = from.into();
    document
}

fn find(documents: &Documents, id: &str) -> Option<usize> {
    documents.iter().position(|(found, _)| found == id)
}

fn apply(documents: &mut Documents, id: &str, data: Option<&Value>) -> Option<Value> {
    match (find(documents, id), data) {
        (Some(place), Some(data)) => Some(std::mem::replace(&mut documents[place].1, data.clone())),
        (Some(place), None) => Some(documents.remove(place).1),
        (None, Some(data)) => {
            documents.push((id.to_owned(), data.clone()));
            None
        }
        (None, None) => None,
    }
}

/// All that a store shows.
pub(crate) fn look(store: &Store) -> Result<Seen> {
    let mut archives = BTreeMap::new();
    for path in store.archive_segments()? {
        let period = period_of(&path);
        let documents = store.load_archive(&period)?;
        let documents: Documents = documents
            .into_iter()
            .map(|(id, document)| (id, Value::clone(&document)))
            .collect();
        assert!(
            archives.insert(period, documents).is_none(),
            "two files of one segment"
        );
    }
    Ok(Seen {
        documents: documents(store)?,
        ops: store.ops(Since::Start)?.iter().map(op).collect(),
        archives,
        version: store.manifest()?.version,
    })
}

pub(crate) fn documents(store: &Store) -> Result<Documents> {
    let entries = store.entries()?;
    Ok(entries
        .into_iter()
        .map(|(id, document)| (id, Value::clone(&document)))
        .collect())
}

pub(crate) fn op(operation: &Operation) -> Op {
    let decode = |text: &opslog::Json| text.decode().expect("the store holds JSON");
    Op {
        id: operation.id.clone(),
        data: operation.data.as_ref().map(decode),
        prev: operation.prev.as_ref().map(decode),
        undo: operation.undo,
    }
}

/// `archive/archive-<period>.json` or `archive/archive-<period>.<ms>.json`; periods of the tests have no dots.
fn period_of(path: &str) -> String {
    let name = path.strip_prefix("archive/archive-").expect("its prefix");
    name.split('.').next().unwrap_or_default().to_owned()
}

pub(crate) fn sorted(mut documents: Documents) -> Documents {
    documents.sort_by(|a, b| a.0.cmp(&b.0));
    documents
}
