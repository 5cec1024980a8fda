//! The store as an agent sees it at one moment, and how much of it can be folded.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::Others;
use super::fold::settle_log;
use super::garbage::Garbage;
use crate::backend::Backend;
use crate::checkpoint::{Cut, NewSnapshot};
use crate::document::Document;
use crate::engine::Engine;
use crate::follow::Position;
use crate::format::manifest::{FileFacts, Manifest};
use crate::merge::{Agent, Mark, Stamp};
use crate::oplog::{self, DamageKind, Start};
use crate::recover::keep_damaged_bytes;
use crate::state::{Frozen, Stamps};
use crate::{ErrorKind, Result};

/// The store as this agent sees it at one moment.
pub(super) struct Picture<T> {
    pub(super) base: Arc<Manifest>,
    pub(super) documents: Frozen<T>,
    pub(super) stamps: Stamps,
    pub(super) others: Others,
    pub(super) dead: Dead,
    pub(super) cut: Cut,
    /// The agent's own clock.
    pub(super) clock: u64,
    pub(super) listed: Garbage,
    pub(super) began: Instant,
}

/// Agents whose processes had ended before their logs were read, with these logs: they are whole, and nobody will write to them. An agent that comes back has another log.
#[derive(Default)]
pub(super) struct Dead(pub(super) BTreeMap<Agent, String>);

impl Dead {
    pub(super) fn has_left(&self, agent: &str, log: &str) -> bool {
        self.0.get(agent).is_some_and(|left| left == log)
    }
}

/// A place in an agent's log before which everything is settled.
pub(super) struct Settled {
    pub(super) seq: u64,
    pub(super) offset: u64,
    /// Everything behind it has a greater clock.
    pub(super) clock: u64,
}

impl<T> Picture<T> {
    pub(super) fn own_end(&self) -> Settled {
        Settled {
            seq: self.cut.seq,
            offset: self.cut.end,
            clock: self.clock,
        }
    }

    /// The snapshot that is in place, where it has stamps.
    pub(super) fn present(&self) -> Option<(NewSnapshot, FileFacts)> {
        let ours = self.base.ours.as_ref()?;
        let snapshot = NewSnapshot {
            name: self.base.current_snapshot.clone(),
            facts: ours.snapshot,
        };
        Some((snapshot, ours.stamps?))
    }

    /// Whether everything that was read is in the snapshot.
    pub(super) fn is_folded(&self, own: Option<&str>) -> bool {
        self.base.agents().all(|facts| {
            let read = self
                .others
                .get(&*facts.id)
                .map(|position| position.next_seq);
            if own == Some(&facts.id) {
                facts.folded == self.cut.seq
            } else {
                read.is_none_or(|read| read == facts.folded)
            }
        })
    }

    /// Of a living agent, nobody else knows whether its last write will stay.
    pub(super) fn settled(&self, agent: &str, position: &Position) -> Settled {
        if self.dead.has_left(agent, &position.log) {
            Settled {
                seq: position.next_seq,
                offset: position.offset,
                clock: position.clock,
            }
        } else {
            Settled {
                seq: position.group.seq,
                offset: position.group.offset,
                clock: position.group.clock,
            }
        }
    }

    /// The greatest clock that no agent with a log can write at or below any more.
    pub(super) fn promise<E: Document>(&self, engine: &Engine<E>) -> u64 {
        let others = self
            .base
            .agents()
            .filter(|facts| facts.log.is_some() && engine.agent.as_deref() != Some(&facts.id));
        let alive = others.filter(|facts| {
            let log = facts.log.as_deref();
            !log.is_some_and(|log| self.dead.has_left(&facts.id, log))
        });
        let clocks = alive.map(|facts| {
            let position = self.others.get(&*facts.id);
            let read = position.map_or(0, |position| self.settled(&facts.id, position).clock);
            facts.clock.max(read)
        });
        clocks.chain([self.clock]).min().unwrap_or(0)
    }

    /// The last writes of dead agents are folded and sealed: they must be there after a power cut, though their agent may have been killed before its sync.
    pub(super) fn settle_dead(&self, backend: &dyn Backend) -> Result<()> {
        for (agent, log) in &self.dead.0 {
            let Some(position) = self
                .others
                .get(agent)
                .filter(|position| position.log == *log)
            else {
                continue;
            };
            let settled = self
                .keep_damaged(backend, agent, log)
                .and_then(|is_damaged| settle_log(backend, log, position, is_damaged));
            match settled {
                Ok(()) => {}
                // Its agent came back, and somebody has removed what it had left.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Copies what a dead agent's log has that is no operation to a file beside it, before it is cut off; says whether any of it is damage.
    fn keep_damaged(&self, backend: &dyn Backend, agent: &str, log: &str) -> Result<bool> {
        let Some(facts) = self.base.agent(agent) else {
            return Ok(false);
        };
        let start = Start {
            position: facts.offset,
            seq: Some(facts.folded),
        };
        let outcome = oplog::read(&*backend.open(log)?, start, &mut |_| Ok(()))?;
        keep_damaged_bytes(backend, log, &outcome.damage)?;
        let mut kinds = outcome.damage.iter().map(|damage| damage.kind);
        Ok(kinds.any(|kind| kind == DamageKind::Damaged))
    }

    /// Turns the stamps of the documents `gone` into tombstones, which it returns.
    pub(super) fn bury(&mut self, gone: &HashSet<&str>) -> Result<Vec<(Box<str>, Stamp)>> {
        let mut tombstones = Vec::new();
        let mut kept = Vec::with_capacity(self.stamps.documents.len());
        for (document, order) in self.documents.iter().zip(self.stamps.documents.drain(..)) {
            let document = document?;
            if gone.contains(document.id()) {
                let stamp = order.stamp.marked(Mark::ARCHIVED);
                tombstones.push((Box::from(document.id()), stamp));
            } else {
                kept.push(order);
            }
        }
        self.stamps.documents = kept;
        self.stamps.deleted.extend(tombstones.iter().cloned());
        Ok(tombstones)
    }
}

impl Stamps {
    /// Without the tombstones that no operation can come to meet any more.
    pub(super) fn without_forgotten(&self, clock: u64) -> Self {
        let needed = self.deleted.iter().filter(|(_, stamp)| stamp.clock > clock);
        Self {
            documents: self.documents.clone(),
            deleted: needed.cloned().collect(),
        }
    }
}
