//! The operations themselves: `history` of one document, `ops` since a time or a cursor, across checkpoints as far as logs are kept.

use std::cell::RefCell;

use crate::agents::Others;
use crate::backend::{Backend, Object};
use crate::document::Document;
use crate::engine::{Engine, lock};
use crate::format::manifest::Manifest;
use crate::merge::Agent;
use crate::op::{Cursor, Operation, Place, Since};
use crate::open::missing_file_is_damage;
use crate::oplog::{self, LogLine, Start};
use crate::sync::atomic::Ordering;
use crate::{Error, ErrorKind, Result, paths, time};

/// How often a read starts over because a checkpoint replaced the logs meanwhile.
const TRIES: usize = 20;

/// A kept log, as far as it counts.
#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// Whose it is; `None` for one of the single writer.
    pub(crate) agent: Option<Agent>,
    /// The number of its first operation.
    pub(crate) seq: u64,
    /// How many operations and bytes count; `None` for the active log.
    pub(crate) sealed: Option<(u64, u64)>,
    /// Operations from this number on are in the log, but not settled, and do not count.
    pub(crate) settled_seq: u64,
}

/// The first `size` bytes of an object.
pub(crate) struct Prefix {
    pub(crate) object: Box<dyn Object>,
    pub(crate) size: u64,
}

impl Object for Prefix {
    fn size(&self) -> Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        self.object.read_at(offset, buffer)
    }
}

/// The kept logs of `manifest`, oldest first.
pub(crate) fn kept_logs(manifest: &Manifest) -> Vec<Part> {
    let ours = manifest.ours.as_ref();
    let sealed = ours.into_iter().flat_map(|ours| &ours.sealed);
    let mut parts: Vec<Part> = sealed
        .map(|log| Part {
            name: log.path.clone(),
            agent: log.agent.as_deref().map(Agent::from),
            seq: log.seq,
            sealed: Some((log.ops, log.bytes)),
            settled_seq: u64::MAX,
        })
        .collect();
    let is_agents = |name: &str| paths::parse_agent_ops(name).is_some();
    // In a store of the reference's agents this is one of theirs.
    if !is_agents(&manifest.active_ops) {
        // While there are agents it is empty, and must not come between their replaced logs and the others.
        let place = if manifest.is_shared() {
            parts
                .iter()
                .rposition(|part| part.agent.is_none())
                .map_or(0, |last| last + 1)
        } else {
            parts.len()
        };
        let first_seq = ours.map_or(0, |ours| ours.log_seq);
        parts.insert(place, Part::active(&manifest.active_ops, None, first_seq));
    }
    match ours {
        Some(ours) => parts.extend(ours.agents.iter().filter_map(|facts| {
            let log = facts.log.as_ref()?;
            Some(Part::active(log, Some(&facts.id), facts.seq))
        })),
        None => parts.extend(
            manifest
                .active_agent_ops
                .iter()
                .flatten()
                .map(|(agent, log)| Part::active(log, Some(agent), 0)),
        ),
    }
    parts
}

impl Part {
    fn active(name: &str, agent: Option<&str>, seq: u64) -> Self {
        Self {
            name: name.to_owned(),
            agent: agent.map(Agent::from),
            seq,
            sealed: None,
            settled_seq: u64::MAX,
        }
    }

    pub(crate) fn open(&self, backend: &dyn Backend) -> Result<Box<dyn Object>> {
        let object = backend.open(&self.name)?;
        Ok(match self.sealed {
            Some((_, size)) => Box::new(Prefix { object, size }),
            None => object,
        })
    }

    /// Hands each operation to `sink`. Damage in a replaced log is left out, and said in the log of `tracing`.
    pub(crate) fn read(
        &self,
        backend: &dyn Backend,
        sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
    ) -> Result<()> {
        let object = self.open(backend)?;
        if self.sealed.is_none() {
            let start = Start {
                position: 0,
                seq: Some(self.seq),
            };
            let mut settled = |line: &LogLine<'_>| {
                if line.seq < self.settled_seq {
                    sink(line)?;
                }
                Ok(())
            };
            return oplog::read(&*object, start, &mut settled)
                .map(drop)
                .map_err(|error| error.at_path(&self.name));
        }
        let outcome = oplog::read_sealed(&*object, self.seq, sink)
            .map_err(|error| error.at_path(&self.name))?;
        for damage in outcome.damage {
            tracing::warn!(
                path = self.name,
                offset = damage.range.start,
                reason = damage.reason,
                "a part of the history is damaged and left out"
            );
        }
        Ok(())
    }

    /// Whether it may have operations from number `seq` on.
    pub(crate) fn reaches(&self, seq: u64) -> bool {
        self.sealed.is_none_or(|(ops, _)| self.seq + ops > seq)
    }
}

/// An operation's place in the order of all, and what was made of it.
struct Ordered {
    /// Its clock; agents' operations lie in this order, the single writer's in that of the log.
    clock: u64,
    agent: Option<Agent>,
    place: Place,
    operation: Option<Operation>,
}

/// Reads `parts` and hands every operation that `is_wanted` picks to `sink`, in the order of all, with its cursor, which begins as `cursor`. Logs of the single
/// writer come in their turn; those of agents between them are merged, by clock.
fn read_in_order(
    backend: &dyn Backend,
    parts: &[Part],
    mut cursor: Cursor,
    is_wanted: &dyn Fn(&Part, &LogLine<'_>) -> bool,
    sink: &mut dyn FnMut(Operation),
) -> Result<()> {
    for run in parts.chunk_by(|one, next| one.agent.is_some() == next.agent.is_some()) {
        let mut ordered = Vec::new();
        for part in run {
            part.read(backend, &mut |line| {
                let operation = if is_wanted(part, line) {
                    Some(Operation::from_line(line)?)
                } else {
                    None
                };
                let place = Place::of(line);
                if let Some(agent) = &part.agent {
                    ordered.push(Ordered {
                        clock: line.op.clock.unwrap_or(0),
                        agent: Some(Agent::clone(agent)),
                        place,
                        operation,
                    });
                } else {
                    cursor.pass(None, place);
                    if let Some(mut operation) = operation {
                        operation.cursor.clone_from(&cursor);
                        sink(operation);
                    }
                }
                Ok(())
            })?;
        }
        ordered.sort_by(|one, other| {
            let key = |ordered: &Ordered| (ordered.clock, ordered.agent.clone(), ordered.place.seq);
            key(one).cmp(&key(other))
        });
        for ordered in ordered {
            // Behind a cursor, the logs are read from their beginning.
            let seen = cursor.place(ordered.agent.as_deref());
            if seen.is_some_and(|seen| seen.seq >= ordered.place.seq) {
                continue;
            }
            cursor.pass(ordered.agent.as_ref(), ordered.place);
            if let Some(mut operation) = ordered.operation {
                operation.cursor.clone_from(&cursor);
                sink(operation);
            }
        }
    }
    Ok(())
}

impl<T: Document> Engine<T> {
    /// All kept operations of one document, oldest first.
    pub(crate) fn history(&self, id: &str) -> Result<Vec<Operation>> {
        self.read_operations(&|_, line| line.op.id == id)
    }

    /// The kept operations after `since`, oldest first.
    pub(crate) fn ops(&self, since: &Since) -> Result<Vec<Operation>> {
        match since {
            Since::Cursor(cursor) => self.with_kept_logs(|parts| self.ops_behind(parts, cursor)),
            _ => self.read_operations(&|_, line| is_after(line, since)),
        }
    }

    fn read_operations(
        &self,
        is_wanted: &dyn Fn(&Part, &LogLine<'_>) -> bool,
    ) -> Result<Vec<Operation>> {
        self.with_kept_logs(|parts| {
            let mut operations = Vec::new();
            let mut sink = |operation| operations.push(operation);
            read_in_order(&*self.backend, parts, Cursor::start(), is_wanted, &mut sink)?;
            Ok(operations)
        })
    }

    /// The kept operations of other agents between two places in each one's logs.
    pub(crate) fn ops_between(&self, from: &Others, to: &Others) -> Result<Vec<Operation>> {
        let next_seq = |places: &Others, part: &Part| {
            let agent = part.agent.as_deref()?;
            Some(places.get(agent)?.next_seq)
        };
        self.with_kept_logs(|parts| {
            let new: Vec<Part> = parts
                .iter()
                .filter(|part| part.reaches(next_seq(from, part).unwrap_or(0)))
                .cloned()
                .collect();
            let is_wanted = |part: &Part, line: &LogLine<'_>| {
                let from = next_seq(from, part).unwrap_or(0);
                next_seq(to, part).is_some_and(|to| (from..to).contains(&line.seq))
            };
            let mut operations = Vec::new();
            let mut sink = |operation| operations.push(operation);
            read_in_order(&*self.backend, &new, Cursor::start(), &is_wanted, &mut sink)?;
            Ok(operations)
        })
    }

    fn ops_behind(&self, parts: &[Part], cursor: &Cursor) -> Result<Vec<Operation>> {
        let place = |part: &Part| cursor.place(part.agent.as_deref());
        let unread: Vec<Part> = parts
            .iter()
            .filter(|part| place(part).is_none_or(|place| part.reaches(place.seq)))
            .cloned()
            .collect();
        let found = RefCell::new(Vec::new());
        let is_wanted = |part: &Part, line: &LogLine<'_>| {
            let Some(place) = place(part) else {
                return true;
            };
            if place == Place::of(line) {
                found.borrow_mut().push(part.agent.clone());
            }
            line.seq > place.seq
        };
        let mut operations = Vec::new();
        let mut sink = |operation| operations.push(operation);
        read_in_order(
            &*self.backend,
            &unread,
            cursor.clone(),
            &is_wanted,
            &mut sink,
        )?;
        let found = found.into_inner();
        for (agent, place) in cursor.places() {
            if !found.iter().any(|found| found.as_deref() == agent) {
                let mut kept = parts.iter().filter(|part| part.agent.as_deref() == agent);
                let first = kept.next().map_or(u64::MAX, |part| part.seq);
                return Err(lost_cursor(place.seq, first));
            }
        }
        Ok(operations)
    }

    /// Calls `read` with the kept logs, which have everything that was accepted so far; again when a checkpoint removed one of them meanwhile.
    fn with_kept_logs<R>(&self, mut read: impl FnMut(&[Part]) -> Result<R>) -> Result<R> {
        self.ensure_open()?;
        self.settle_for_reading()?;
        let mut tries = 0;
        loop {
            let manifest = self.current_manifest()?;
            tries += 1;
            let mut parts = kept_logs(&manifest);
            let agent = self.agent.as_deref();
            let own = |part: &&mut Part| part.agent.as_deref() == agent && part.sealed.is_none();
            if let Some(active) = parts.iter_mut().find(own) {
                active.settled_seq = self.settled_seq();
            }
            match read(&parts) {
                Err(error)
                    if error.path().is_some()
                        && error.kind() == ErrorKind::NotFound
                        && tries < TRIES => {}
                result => return result.map_err(missing_file_is_damage),
            }
        }
    }
}

impl<T: Document> Engine<T> {
    /// Writes to the log what is visible and still buffered, so that it can be read there. A poisoned store shows what it has.
    pub(crate) fn settle_for_reading(&self) -> Result<()> {
        let buffers = !self.options.read_only && !self.options.write_mode.is_immediate();
        // A batch began with everything written, and its thread has the writer lock.
        if !buffers || self.is_batching() {
            return Ok(());
        }
        match self.flush_queue(lock(&self.writer)) {
            Err(error) if error.kind() != ErrorKind::Poisoned => Err(error),
            _ => Ok(()),
        }
    }

    /// The number of the first operation that may not be shown yet: what is being written is not visible before it is durable, and what a failed sync
    /// left in the log never is.
    pub(crate) fn settled_seq(&self) -> u64 {
        if self.options.read_only {
            return u64::MAX;
        }
        self.settled_seq.load(Ordering::Acquire)
    }
}

pub(crate) fn is_after(line: &LogLine<'_>, since: &Since) -> bool {
    match since {
        Since::Start => true,
        Since::Time(time) => time::parse_timestamp(line.op.ts).is_some_and(|ts| ts > *time),
        Since::Cursor(cursor) => {
            let agent = line.op.agent.as_deref();
            cursor.place(agent).is_none_or(|place| line.seq > place.seq)
        }
    }
}

fn lost_cursor(seq: u64, first: u64) -> Error {
    if seq < first {
        return Error::not_found(format!(
            "operation {seq} is older than what is kept; start over from the documents"
        ));
    }
    Error::new(
        ErrorKind::Conflict,
        format!(
            "operation {seq} was taken back since the cursor was made; start over from the documents or an older cursor"
        ),
    )
}
