//! A store's own thread: it does the jobs that the event loop queues, in order, and tells it how each ended.
//!
//! Invariant: jobs are done and told in the order in which they were queued, and nobody else changes the store. Writes that came together are
//! done together, so that hundreds of calls that were not awaited share one sync.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opslog::{DamageKind, Error, ErrorKind, Operation, Result, Store, Tail, Write};
use serde_json::json;

use crate::answer::{accepted, is_too_long};
use crate::failure::{self, Failure, argument, invalid};
use crate::load::{Documents, quoted};
use crate::options::Options;
use crate::store::Opaque;

/// How long the end of a process waits for what was accepted to be flushed.
const END_WAIT: Duration = Duration::from_secs(5);

/// For more documents that lie in another order, all are loaded anew.
const ORDER_MOST: usize = 10_000;

pub(crate) enum Job {
    /// Lines of writes, each a commit of its own.
    Writes(String),
    /// Lines of writes that are one commit.
    Batch(String),
    Undo,
    Compact,
    Flush,
    /// The ids of documents (a JSON array) that go to a segment.
    Archive {
        ids: String,
        segment: Option<String>,
    },
    LoadArchive(String),
    Tail,
    /// Which documents lie in another order than the event loop has them: `[[id, the id before it: empty for the first, null when it has none of `id`]…]`.
    Order(String),
    /// All documents anew.
    Reload,
    Close,
}

/// What the event loop is told.
pub(crate) struct Told {
    /// How many calls have ended.
    pub(crate) count: u32,
    /// `[[index, failure]…]` of those that failed.
    pub(crate) failures: Option<String>,
    /// JSON text of what the call gives.
    pub(crate) value: Option<String>,
    pub(crate) ops_since_checkpoint: u64,
    /// The manifest, if it has changed.
    pub(crate) manifest: Option<String>,
    /// Whether a checkpoint has brought what other agents wrote.
    pub(crate) brings_news: bool,
}

pub(crate) type Tell = Box<dyn Fn(Told) + Send>;

/// The jobs, shared by the event loop and the thread.
#[derive(Default)]
pub(crate) struct Jobs {
    state: Mutex<State>,
    /// A job came, or none will come any more.
    came: Condvar,
    /// The thread has done what it had, or has ended.
    done: Condvar,
}

#[derive(Default)]
struct State {
    queue: Vec<Job>,
    no_more: bool,
    /// The thread has jobs that are no longer in the queue.
    is_busy: bool,
    has_ended: bool,
}

impl Jobs {
    pub(crate) fn push(&self, job: Job) {
        let mut state = self.state();
        let is_first = state.queue.is_empty();
        state.queue.push(job);
        drop(state);
        if is_first {
            self.came.notify_one();
        }
    }

    /// No more jobs will come: the thread does what is queued, flushes and ends; waits for that, within bounds.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.no_more = true;
        self.came.notify_one();
        let state = self
            .done
            .wait_timeout_while(state, END_WAIT, |state| !state.has_ended);
        drop(state);
    }

    /// Returns when everything that was queued is done.
    pub(crate) fn wait_until_idle(&self) {
        let is_idle = |state: &State| state.has_ended || state.queue.is_empty() && !state.is_busy;
        let mut state = self.state();
        while !is_idle(&state) {
            state = self
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Everything that is queued, or nothing once no more will come.
    fn take(&self) -> Option<Vec<Job>> {
        let mut state = self.state();
        state.is_busy = false;
        self.done.notify_all();
        while state.queue.is_empty() && !state.no_more {
            state = self
                .came
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let jobs = std::mem::take(&mut state.queue);
        state.is_busy = true;
        (!jobs.is_empty()).then_some(jobs)
    }

    pub(crate) fn note_end(&self) {
        self.state().has_ended = true;
        self.done.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Worker {
    store: Store<Opaque>,
    documents: Arc<Documents>,
    is_immediate: bool,
    is_shared: bool,
    is_beside_writer: bool,
    tell: Tell,
    /// What the event loop was told last.
    manifest: String,
    ops: u64,
    /// What others wrote and the event loop could not be told, because reading the documents failed.
    untold: Cell<Option<Vec<Operation>>>,
}

impl Worker {
    pub(crate) fn new(
        store: Store<Opaque>,
        documents: Arc<Documents>,
        options: &Options,
        tell: Tell,
    ) -> Self {
        Self {
            store,
            documents,
            is_immediate: options.is_immediate(),
            is_shared: options.is_shared(),
            is_beside_writer: options.is_beside_writer(),
            tell,
            manifest: String::new(),
            ops: 0,
            untold: Cell::default(),
        }
    }

    /// Tells that the store is open.
    pub(crate) fn begin(&mut self) {
        self.tell_one(Ok(Some(self.left_out())));
    }

    /// The parts of logs that were left out, as a JSON array.
    fn left_out(&self) -> String {
        let damage = &self.store.open_report().damage;
        // To one beside a writer, a write that the writer is in the middle of looks torn.
        let told = damage
            .iter()
            .filter(|part| !(self.is_beside_writer && part.kind == DamageKind::Torn));
        array(told.map(|part| {
            let fields = json!({ "path": part.path, "offset": part.offset, "bytes": part.bytes, "reason": part.reason });
            fields.to_string()
        }))
    }

    pub(crate) fn work(mut self, jobs: &Jobs) {
        while let Some(batch) = jobs.take() {
            let mut lines = String::new();
            for job in batch {
                if let Job::Writes(more) = job {
                    lines.push_str(&more);
                    continue;
                }
                self.write(&std::mem::take(&mut lines));
                let is_last = matches!(job, Job::Close);
                let result = self.run(job);
                self.tell_one(result);
                if is_last {
                    return;
                }
            }
            self.write(&lines);
        }
        // Nobody is left to be told; a failure leaves what the write mode allows.
        let _ = self.store.flush();
    }

    fn run(&self, job: Job) -> Result<Option<String>> {
        match job {
            Job::Writes(_) => Err(invalid("writes are collected")),
            Job::Batch(lines) => self.batch(&lines).map(|()| None),
            Job::Undo => self.undo().map(Some),
            Job::Compact => self.store.compact().map(|()| None),
            Job::Flush => self.store.flush().map(|()| None),
            Job::Archive { ids, segment } => self.archive(&ids, segment.as_deref()).map(Some),
            Job::LoadArchive(segment) => self.load_archive(&segment).map(Some),
            Job::Tail => self.tail().map(Some),
            Job::Order(places) => self.order(&places).map(Some),
            Job::Reload => self.documents.load(&self.store).map(|()| None),
            Job::Close => self.store.close().map(|()| None),
        }
    }

    fn write(&mut self, lines: &str) {
        if lines.is_empty() {
            return;
        }
        let lines = match parse(lines) {
            Ok(lines) => lines,
            Err(error) => return self.tell_one(Err(error)),
        };
        let writes = lines.iter().map(Line::as_write);
        let results = if self.is_immediate {
            self.store.write_each(writes)
        } else {
            let accepted = lines.iter().map(|line| (line.as_write(), line.existed));
            accepted
                .map(|(write, existed)| self.write_accepted(write, existed))
                .collect()
        };
        let failures: Vec<(usize, Failure)> = results
            .iter()
            .enumerate()
            .filter_map(|(index, result)| Some((index, Failure::from(result.as_ref().err()?))))
            .collect();
        self.tell(results.len(), &failures, None, true);
    }

    /// A write that the event loop has accepted and shows already. A failed flush, which the store tells to its next caller, must not keep it out.
    fn write_accepted(&self, write: Write<'_>, existed: bool) -> Result<()> {
        let attempt = || self.store.write_accepted(write, existed);
        let first = attempt();
        match &first {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                attempt()?;
                first
            }
            _ => first,
        }
    }

    fn batch(&self, lines: &str) -> Result<()> {
        let lines = parse(lines)?;
        self.store.batch(|batch| {
            for line in &lines {
                match line.as_write() {
                    Write::Set { id, json } => batch.set_json(id, json)?,
                    Write::Delete { id } => batch.delete(id)?,
                }
            }
            Ok(())
        })
    }

    fn undo(&self) -> Result<String> {
        let ops = || self.store.stats().map(|stats| stats.ops_since_checkpoint);
        let before = ops()?;
        let Some(undone) = self.store.undo_commit()? else {
            return Ok("null".to_owned());
        };
        // A commit with more operations than documents may have deleted and set one, which puts it last.
        let may_move = self.is_shared || before.abs_diff(ops()?) != undone.len() as u64;
        let changed = array(undone.into_iter().map(|undone| {
            let place = undone.document.map(|text| self.documents.add(text));
            json(&(undone.id, place))
        }));
        Ok(format!(r#"{{"changed":{changed},"mayMove":{may_move}}}"#))
    }

    fn archive(&self, ids: &str, segment: Option<&str>) -> Result<String> {
        let ids: HashSet<String> = argument(ids)?;
        let count = self.store.archive(|_, id| ids.contains(id), segment)?;
        Ok(count.to_string())
    }

    fn load_archive(&self, segment: &str) -> Result<String> {
        let documents = self.store.load_archive_json(segment)?;
        let pairs = documents
            .iter()
            .map(|(id, document)| format!("[{},{}]", quoted(id), document.as_str()));
        Ok(array(pairs))
    }

    fn tail(&self) -> Result<String> {
        let mut tail = self.store.tail()?;
        if let Some(untold) = self.untold.take() {
            tail.operations.splice(0..0, untold);
            tail.rewound = true;
        }
        let told = self.tail_text(&tail);
        if told.is_err() {
            // The store has them, and will not give them again.
            self.untold.set(Some(tail.operations));
        }
        told
    }

    fn tail_text(&self, tail: &Tail) -> Result<String> {
        if tail.rewound {
            self.documents.load(&self.store)?;
        }
        let operations: Vec<String> = tail.operations.iter().map(Operation::to_json).collect();
        let bytes: usize = operations.iter().map(|text| text.len() + 1).sum();
        // What has changed is told by ids, of which an escaped byte takes six, and places.
        let ids = tail.operations.iter().map(|operation| &operation.id);
        let changed_bytes: usize = ids.map(|id| id.as_str().len() * 6 + 16).sum();
        if !tail.rewound && is_too_long(bytes + changed_bytes) {
            // The documents come all the same; the operations that brought them cannot be told.
            self.documents.load(&self.store)?;
            return Ok(tail_answer("[]", true, "[]"));
        }
        let mut ids: Vec<&str> = tail
            .operations
            .iter()
            .map(|operation| operation.id.as_str())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let changed = if tail.rewound {
            "[]".to_owned()
        } else {
            self.changed(ids)?
        };
        Ok(tail_answer(&array(operations), tail.rewound, &changed))
    }

    /// The ids of all documents, in their order, from the first on that has not the one before it that `places` says; `null` when these are too many.
    fn order(&self, places: &str) -> Result<String> {
        let places: HashMap<String, Option<String>> =
            argument::<Vec<_>>(places)?.into_iter().collect();
        let view = self.store.view()?;
        let mut order = Vec::new();
        let mut before = String::new();
        for entry in view.iter() {
            let entry = entry?;
            let is_moved = |known: &Option<String>| known.as_ref() != Some(&before);
            if !order.is_empty() || places.get(entry.id()).is_some_and(is_moved) {
                if order.len() == ORDER_MOST {
                    return Ok("null".to_owned());
                }
                order.push(quoted(entry.id()));
            }
            before.clear();
            before.push_str(entry.id());
        }
        Ok(array(order))
    }

    /// `[[id, place of its text, or null when it is gone]…]`
    fn changed<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut pairs = Vec::new();
        for id in ids {
            let place = self
                .store
                .get_json(id)?
                .map(|text| self.documents.add(text));
            pairs.push(json(&(id, place)));
        }
        Ok(array(pairs))
    }

    fn tell_one(&mut self, result: Result<Option<String>>) {
        let answer = |value: Option<String>| value.map(accepted).transpose();
        match result.and_then(answer) {
            Ok(value) => self.tell(1, &[], value, false),
            Err(error) => self.tell(1, &[(0, Failure::from(&error))], None, false),
        }
    }

    /// Tells how the next `count` calls ended; `value` is what the last of them gives.
    fn tell(
        &mut self,
        count: usize,
        failures: &[(usize, Failure)],
        value: Option<String>,
        is_write: bool,
    ) {
        let ops = self
            .store
            .stats()
            .map_or(0, |stats| stats.ops_since_checkpoint);
        // Operations alone do not change the manifest.
        let is_plain = value.is_none() && ops > self.ops;
        let manifest = if is_plain { None } else { self.manifest_text() };
        let manifest = manifest.filter(|text| *text != self.manifest);
        if let Some(text) = &manifest {
            self.manifest.clone_from(text);
        }
        self.ops = ops;
        let brings_news = self.is_shared && !is_plain && is_write;
        (self.tell)(Told {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            failures: (!failures.is_empty()).then(|| json(&failures)),
            value,
            ops_since_checkpoint: ops,
            manifest,
            brings_news,
        });
    }

    /// What the manifest says, as JavaScript shows it.
    fn manifest_text(&self) -> Option<String> {
        let manifest = self.store.manifest().ok()?;
        let facts = json!({
            "currentSnapshot": manifest.current_snapshot,
            "activeOps": manifest.active_ops,
            "archiveSegments": manifest.archive_segments,
            "stats": {
                "activeRecords": manifest.active_documents,
                "archivedRecords": manifest.archived_documents,
                "opsCount": 0,
                "created": time(manifest.created),
                "lastCheckpoint": time(manifest.last_checkpoint),
            },
        });
        Some(facts.to_string())
    }
}

/// An open that failed.
pub(crate) fn tell_failed_open(tell: &Tell, error: &Error) {
    tell(Told {
        count: 1,
        failures: Some(format!("[[0,{}]]", failure::text(error))),
        value: None,
        ops_since_checkpoint: 0,
        manifest: None,
        brings_news: false,
    });
}

struct Line<'a> {
    id: Cow<'a, str>,
    document: Option<&'a str>,
    /// Whether there was a document, as far as the event loop knows.
    existed: bool,
}

impl Line<'_> {
    fn as_write(&self) -> Write<'_> {
        match self.document {
            Some(json) => Write::Set { id: &self.id, json },
            None => Write::Delete { id: &self.id },
        }
    }
}

/// Lines of `"id"<tab>{…}` for a set, with `+` before it when there was no document, and of `"id"` for a delete. JSON text as JavaScript writes it has
/// no raw control character.
fn parse(lines: &str) -> Result<Vec<Line<'_>>> {
    lines.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Result<Line<'_>> {
    let rest = line.strip_prefix('+');
    let existed = rest.is_none();
    let line = rest.unwrap_or(line);
    let (id, document) = match line.split_once('\t') {
        Some((id, document)) => (id, Some(document)),
        None => (line, None),
    };
    let plain = id
        .get(1..id.len().saturating_sub(1))
        .filter(|plain| !plain.contains('\\'));
    let id = match plain {
        Some(plain) => Cow::Borrowed(plain),
        None => Cow::Owned(argument(id)?),
    };
    Ok(Line {
        id,
        document,
        existed,
    })
}

fn tail_answer(operations: &str, rewound: bool, changed: &str) -> String {
    format!(r#"{{"operations":{operations},"rewound":{rewound},"changed":{changed}}}"#)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain values have a JSON form")
}

pub(crate) fn array(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}

fn time(time: opslog::Timestamp) -> String {
    format!("{time:.3}")
}
