//! Seeing what the other agents wrote.

use super::{Others, read_agent};
use crate::commit::Guard;
use crate::document::{Document, Stored};
use crate::engine::{Engine, Writer, lock};
use crate::follow::{Position, Tail};
use crate::format::manifest::Manifest;
use crate::merge::Agent;
use crate::op::{Cursor, Operation};
use crate::open::{load_consistent, read_manifest};
use crate::oplog::{Damage, DamageKind};
use crate::{Error, ErrorKind, Result};

/// How many operations are kept for who asks for news.
const UNTOLD_MAX: usize = 10_000;

impl<T: Document> Engine<T> {
    /// Merges what the other agents wrote since the last look; the answer has what was seen on other occasions, too.
    pub(crate) fn look_at_agents(&self) -> Result<Tail> {
        self.look_by_the_way()?;
        if self.agent.is_some() {
            self.roll_if_folded()?;
        }
        Ok(std::mem::take(&mut *lock(&self.untold)))
    }

    /// Merges what the other agents wrote, and keeps it to be told when somebody asks for news.
    pub(super) fn look_by_the_way(&self) -> Result<()> {
        self.ensure_not_batching()?;
        let tail = self.look_now()?;
        let mut untold = lock(&self.untold);
        untold.rewound |= tail.rewound;
        untold.operations.extend(tail.operations);
        if untold.operations.len() > UNTOLD_MAX {
            // Nobody asks.
            untold.operations = Vec::new();
            untold.rewound = true;
        }
        Ok(())
    }

    fn look_now(&self) -> Result<Tail> {
        let mut others = lock(&self.others);
        match self.read_on_agents(&mut others) {
            Ok(Some(tail)) => Ok(tail),
            Ok(None) => self.load_anew(&mut others),
            // A log that went away while it was read: somebody compacted in between.
            Err(error) if error.kind() == ErrorKind::NotFound => self.load_anew(&mut others),
            Err(error) => Err(error),
        }
    }

    /// `None` when the store has to be loaded anew.
    fn read_on_agents(&self, others: &mut Others) -> Result<Option<Tail>> {
        let backend = &*self.backend;
        let manifest = read_manifest(backend)?
            .ok_or_else(|| Error::not_found("the store is gone").at_path(backend.location()))?;
        if manifest.ours.is_none() {
            return self.look_at_reference(others, &manifest);
        }
        if !goes_on(&self.manifest(), &manifest) {
            return Ok(None);
        }
        let mut next = Others::new();
        let mut found = Vec::new();
        // An agent that is seen for the first time may be in the snapshot already.
        let nothing = Position::at("", 0, 0, 0);
        let others_facts = manifest
            .agents()
            .filter(|facts| self.agent.as_deref() != Some(&facts.id));
        for facts in others_facts {
            let agent = Agent::from(&*facts.id);
            let from = others.get(&agent).unwrap_or(&nothing);
            let read = read_agent(backend, &manifest, facts, Some(from), &mut |line| {
                found.push(Operation::from_line(line)?);
                Ok(())
            })?;
            let Some(read) = read else {
                return Ok(None);
            };
            for damage in read.damage {
                tell_of_damage(&damage.log, &damage.damage);
            }
            next.insert(agent, read.position);
        }
        let operations = in_order(found, others);
        // First the clock, then the documents: whoever writes upon what it sees must win against it.
        observe(&mut lock(&self.writer), &manifest, &next);
        self.merge_found(&operations, &manifest)?;
        *others = next;
        self.take_note(manifest, others);
        Ok(Some(Tail {
            operations,
            rewound: false,
        }))
    }

    fn merge_found(&self, operations: &[Operation], manifest: &Manifest) -> Result<()> {
        let older = self.options.older_version(manifest);
        let mut documents = Vec::with_capacity(operations.len());
        for operation in operations {
            let document = operation
                .data
                .as_ref()
                .map(|data| Stored::<T>::new(&operation.id, data.as_str()));
            documents.push(match (document, older) {
                (Some(document), Some(from)) => {
                    Some(self.options.migrate_for_reading(document, from)?)
                }
                (document, _) => document,
            });
        }
        if self.options.skip_load {
            return Ok(());
        }
        let mut state = self.state_mut();
        for (operation, document) in operations.iter().zip(documents) {
            if let Some(order) = &operation.order {
                state.merge(&operation.id, document, order.clone());
            }
        }
        state.settle();
        Ok(())
    }

    /// Keeps the manifest, and what it says of this agent.
    fn take_note(&self, manifest: Manifest, others: &Others) {
        let mut writer = lock(&self.writer);
        writer.ops_since_checkpoint = match &self.agent {
            Some(agent) => {
                let folded = manifest.agent(agent).map_or(0, |facts| facts.folded);
                writer.next_seq.saturating_sub(folded)
            }
            None => unfolded(&manifest, others),
        };
        drop(writer);
        self.set_manifest(manifest);
    }

    /// Loads the store anew, with what this agent has settled; the operations that came, as far as they are kept, are in the answer.
    fn load_anew(&self, others: &mut Others) -> Result<Tail> {
        let mut writer: Option<Guard<'_, T>> = match self.agent {
            Some(_) => Some(self.quiesce(lock(&self.writer))?),
            None => None,
        };
        let mut loaded = load_consistent(&self.options, &*self.backend)?;
        if let Some(agent) = self.agent.as_deref() {
            if loaded
                .manifest
                .agent(agent)
                .is_none_or(|facts| facts.log.is_none())
            {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "another program has taken the store over and left this agent out; close it, and open it again",
                )
                .at_path(self.backend.location()));
            }
            loaded.others.remove(agent);
        }
        if let Some(writer) = &mut writer {
            observe(writer, &loaded.manifest, &loaded.others);
        }
        let seen = std::mem::replace(&mut *others, loaded.others);
        if !self.options.skip_load {
            *self.state_mut() = loaded.state;
        }
        drop(writer);
        *lock(&self.follower) = loaded.position;
        self.take_note(loaded.manifest, others);
        // The documents are there already: who asks is told so, whether or not the operations can be.
        let operations = self.ops_between(&seen, others).inspect_err(
            |error| tracing::warn!(%error, "the operations that came meanwhile cannot be told"),
        );
        Ok(Tail {
            operations: operations.unwrap_or_default(),
            rewound: true,
        })
    }

    /// The reference's agents do not say what they replace: anything new means to load anew.
    fn look_at_reference(&self, others: &Others, manifest: &Manifest) -> Result<Option<Tail>> {
        let known = self.manifest();
        let mut same = known.current_snapshot == manifest.current_snapshot
            && known.active_agent_ops == manifest.active_agent_ops;
        for position in others.values() {
            same = same && self.backend.open(&position.log)?.size()? == position.offset;
        }
        Ok(same.then(Tail::default))
    }
}

/// Moves the clock above what was read.
fn observe<T>(writer: &mut Writer<T>, manifest: &Manifest, others: &Others) {
    let clock = manifest.ours.as_ref().map_or(0, |ours| ours.clock);
    let clocks = others.values().map(|position| position.clock);
    writer.clock.observe(clocks.fold(clock, u64::max));
}

fn tell_of_damage(log: &str, damage: &Damage) {
    if damage.kind == DamageKind::Damaged {
        tracing::warn!(
            path = log,
            offset = damage.range.start,
            reason = damage.reason,
            "a part of an agent's log is damaged and left out"
        );
    }
}

/// Whether what changed between two manifests can be seen in the agents' logs.
fn goes_on(known: &Manifest, now: &Manifest) -> bool {
    let stamps = |manifest: &Manifest| {
        let ours = manifest.ours.as_ref();
        ours.is_some_and(|ours| ours.stamps.is_some())
    };
    stamps(known)
        && stamps(now)
        && known.version == now.version
        && known.active_ops == now.active_ops
        && known.archive_segments == now.archive_segments
}

fn unfolded(manifest: &Manifest, others: &Others) -> u64 {
    let each = manifest.agents().map(|facts| {
        let read = others
            .get(&*facts.id)
            .map_or(0, |position| position.next_seq);
        read.saturating_sub(facts.folded)
    });
    each.sum()
}

/// Sorts what came from several agents, and gives it cursors that begin with what was `seen`.
fn in_order(mut operations: Vec<Operation>, seen: &Others) -> Vec<Operation> {
    let mut cursor = Cursor::start();
    for (agent, position) in seen {
        if let Some(place) = position.place() {
            cursor.pass(Some(agent), place);
        }
    }
    operations.sort_by(|one, other| {
        (one.clock, &one.agent, one.seq).cmp(&(other.clock, &other.agent, other.seq))
    });
    for operation in &mut operations {
        let agent = operation.agent.as_deref().map(Agent::from);
        if let Some(place) = operation.cursor.place(None) {
            cursor.pass(agent.as_ref(), place);
        }
        operation.cursor.clone_from(&cursor);
    }
    operations
}
