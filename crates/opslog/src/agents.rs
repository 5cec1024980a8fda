//! Several agents on one store: the protocol of `docs/multi-writer.md`.
//!
//! Each agent has a log of its own, in which it writes as a single writer does (`commit`). What is different is here: how a store is opened (`join`), how the
//! others' logs are read (`look`), and how the manifest is swapped by compaction and archive (`compact`). The rules that decide which operation wins are in `merge`.

mod archive;
mod compact;
mod fold;
mod garbage;
mod join;
mod look;
mod picture;
mod swap;
mod undo;

use std::collections::{BTreeMap, HashMap};

use crate::adopt::{adopt, adopt_log};
use crate::backend::Backend;
use crate::document::{Document, Stored};
use crate::engine::Engine;
use crate::follow::Position;
use crate::format::manifest::{AgentFacts, Manifest, Ours};
use crate::format::{op_line, stamps};
use crate::history::{Part, kept_logs};
use crate::load::{self, damaged};
use crate::merge::{Agent, compare_as_reference};
use crate::op::Operation;
use crate::open::Loaded;
use crate::oplog::{self, Lines, LogLine, Outcome, Start};
use crate::options::{Options, Residency};
use crate::recover::LogDamage;
use crate::replay::replay;
use crate::state::State;
use crate::{Error, Result, paths};

pub(crate) use fold::fold_all;
pub(crate) use garbage::{may_go, no_longer_named};
pub(crate) use join::open;

/// How far each agent's log was read.
pub(crate) type Others = BTreeMap<Agent, Position>;

impl Manifest {
    /// Whether agents have operations that are not in the snapshot, or logs to write such.
    pub(crate) fn is_shared(&self) -> bool {
        match &self.ours {
            Some(ours) => ours.agents.iter().any(|agent| agent.log.is_some()),
            None => self.active_agent_ops.is_some(),
        }
    }

    pub(crate) fn agents(&self) -> impl Iterator<Item = &AgentFacts> {
        self.ours.iter().flat_map(|ours| &ours.agents)
    }

    pub(crate) fn agent(&self, id: &str) -> Option<&AgentFacts> {
        self.agents().find(|facts| facts.id == id)
    }
}

impl<T: Document> Engine<T> {
    /// Whether the store's logs are those of agents.
    pub(crate) fn reads_agents(&self) -> bool {
        self.agent.is_some() || self.manifest().is_shared()
    }

    /// The operations of all agents that are not in the snapshot, agent by agent.
    pub(crate) fn unfolded_operations(&self, manifest: &Manifest) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        for facts in manifest.agents() {
            let own = self.agent.as_deref() == Some(&facts.id);
            let settled = if own { self.settled_seq() } else { u64::MAX };
            read_agent(&*self.backend, manifest, facts, None, &mut |line| {
                if line.seq < settled {
                    operations.push(Operation::from_line(line)?);
                }
                Ok(())
            })?;
        }
        Ok(operations)
    }
}

/// What was read of an agent's logs.
struct Read {
    position: Position,
    damage: Vec<LogDamage>,
}

/// Hands the operations of an agent to `sink`: those that are not in the snapshot, or those behind `from`. `None` when what was read up to `from` is not
/// there any more, or what lies behind it is only in the snapshot.
fn read_agent(
    backend: &dyn Backend,
    manifest: &Manifest,
    facts: &AgentFacts,
    from: Option<&Position>,
    sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
) -> Result<Option<Read>> {
    let log = facts.log.as_deref().unwrap_or_default();
    if let Some(from) = from
        && from.log == log
        && from.offset > 0
    {
        return read_on(backend, from.clone(), sink);
    }
    let mut position = match from {
        // An agent may have come, written, and gone again, all folded, since it was looked at.
        Some(from) if from.log == log && (!log.is_empty() || from.next_seq >= facts.folded) => {
            from.clone()
        }
        Some(from) => match pass_replaced_logs(backend, manifest, facts, from, sink)? {
            Some(position) => position,
            None => return Ok(None),
        },
        None => Position::at(log, facts.offset, facts.folded, facts.folded_clock),
    };
    let mut read = Read {
        position: position.clone(),
        damage: Vec::new(),
    };
    if log.is_empty() {
        return Ok(Some(read));
    }
    let next_seq = position.next_seq;
    let clock = position.clock;
    if from.is_some_and(|from| from.log != log) {
        // What was seen in the old log is read again in this one, and its clocks are not above `clock`.
        position = Position::at(log, 0, next_seq, 0).having_passed(position);
    }
    let start = match position.offset {
        0 => Start {
            position: 0,
            seq: Some(facts.seq),
        },
        offset => Start {
            position: offset,
            seq: Some(next_seq),
        },
    };
    let verify = from
        .filter(|from| from.log != log)
        .and_then(|from| from.last.as_ref());
    let mut still_there = verify.is_none_or(|last| last.seq < facts.seq);
    let outcome = oplog::read(&*backend.open(log)?, start, &mut |line| {
        if line.seq >= next_seq {
            sink(line)?;
        } else if let Some(last) = verify
            && last.seq == line.seq
        {
            still_there = last.check() == op_line::body_check(line.raw);
        }
        position.pass(line);
        Ok(())
    })
    .map_err(|error| error.at_path(log))?;
    position.next_seq = position.next_seq.max(next_seq);
    position.clock = position.clock.max(clock);
    position.offset = outcome.end;
    read.damage = LogDamage::all(log, &outcome);
    read.position = position;
    Ok(still_there.then_some(read))
}

/// Reads what came in a log since it was read up to `position`.
fn read_on(
    backend: &dyn Backend,
    mut position: Position,
    sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
) -> Result<Option<Read>> {
    let outcome = position
        .read_on(&*backend.open(&position.log)?, sink)
        .map_err(|error| error.at_path(&position.log))?;
    Ok(outcome.map(|outcome| Read {
        damage: LogDamage::all(&position.log, &outcome),
        position,
    }))
}

/// Reads what was left of a log that its agent has replaced; the answer is the beginning of the agent's present log.
fn pass_replaced_logs(
    backend: &dyn Backend,
    manifest: &Manifest,
    facts: &AgentFacts,
    from: &Position,
    sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
) -> Result<Option<Position>> {
    let log = facts.log.as_deref().unwrap_or_default();
    let same_end = facts.folded == from.next_seq && facts.folded_clock == from.clock;
    // The last operation that was read must still be there; where it is the last one in the snapshot, its clock says that it is.
    let first = match &from.last {
        Some(last) if !same_end => last.seq,
        _ => from.next_seq,
    };
    let mut position = from.clone();
    let mut due = first;
    let mut still_there = from
        .last
        .as_ref()
        .is_none_or(|last| same_end || last.seq >= facts.seq);
    for part in replaced_logs(manifest, &facts.id).filter(|part| part.reaches(first)) {
        if part.seq > due {
            return Ok(None);
        }
        due = part.seq + part.sealed.map_or(0, |(ops, _)| ops);
        part.read(backend, &mut |line| {
            if line.seq >= from.next_seq {
                sink(line)?;
                position.pass(line);
            } else if let Some(last) = &from.last
                && last.seq == line.seq
            {
                still_there = last.check() == op_line::body_check(line.raw);
            }
            Ok(())
        })?;
    }
    if due < facts.seq || !still_there {
        return Ok(None);
    }
    Ok(Some(position.into_log(log)))
}

fn replaced_logs<'m>(manifest: &'m Manifest, agent: &'m str) -> impl Iterator<Item = Part> + 'm {
    kept_logs(manifest)
        .into_iter()
        .filter(move |part| part.sealed.is_some() && part.agent.as_deref() == Some(agent))
}

/// Reads the snapshot with its stamps, and merges what agents have in their logs.
pub(crate) fn load<T: Document>(
    options: &Options,
    backend: &dyn Backend,
    manifest: Manifest,
) -> Result<Loaded<T>> {
    let mut state = if options.skip_load {
        State::of_registers()
    } else {
        load_snapshot(options, backend, &manifest)?
    };
    let mut others = Others::new();
    let mut damage = Vec::new();
    let mut count = 0;
    for facts in manifest.agents() {
        let read = read_agent(backend, &manifest, facts, None, &mut |line| {
            count += 1;
            if !options.skip_load {
                merge(&mut state, line)?;
            }
            Ok(())
        })?;
        let Some(read) = read else {
            return Err(lost(facts));
        };
        damage.extend(read.damage);
        others.insert(Agent::from(&*facts.id), read.position);
    }
    state.settle();
    let log_seq = manifest.ours.as_ref().map_or(0, |ours| ours.log_seq);
    let mut position = Position::start(&manifest, log_seq);
    let start = Start {
        position: 0,
        seq: Some(log_seq),
    };
    let single = oplog::read(&*backend.open(&manifest.active_ops)?, start, &mut |line| {
        if options.agent.is_some() {
            return Err(Error::corrupt(
                "a program that knows nothing of agents wrote to the store beside them; open it once without an agent id, while no agent has it open",
            ));
        }
        position.pass(line);
        replay(&mut state, line.op.kind, &line.op.id, line.op.data)
    })
    .map_err(|error| error.at_path(&manifest.active_ops))?;
    damage.extend(LogDamage::all(&manifest.active_ops, &single));
    Ok(Loaded {
        position,
        outcome: Outcome {
            count: count + single.count,
            ..single
        },
        manifest,
        state,
        others,
        damage,
        ours: true,
    })
}

fn merge<T>(state: &mut State<T>, line: &LogLine<'_>) -> Result<()> {
    let Some(order) = line.op.order() else {
        return Err(Error::corrupt(format!(
            "operation {} of an agent's log has no agent or clock",
            line.seq
        ))
        .at_offset(line.offset));
    };
    let document = line.op.data.map(|data| Stored::new(&line.op.id, data));
    state.merge(&line.op.id, document, order);
    Ok(())
}

fn lost(facts: &AgentFacts) -> Error {
    Error::corrupt(format!(
        "operations of agent '{}' are missing; restore them from a backup, nothing was changed",
        facts.id
    ))
}

fn load_snapshot<T: Document>(
    options: &Options,
    backend: &dyn Backend,
    manifest: &Manifest,
) -> Result<State<T>> {
    let options = Options {
        residency: Residency::Memory,
        ..options.clone()
    };
    let mut state = load::load(backend, manifest, &options)?;
    let name = paths::stamps_of(&manifest.current_snapshot).unwrap_or_default();
    let Some(facts) = manifest.ours.as_ref().and_then(|ours| ours.stamps) else {
        return Err(damaged(
            &name,
            "the manifest does not name the snapshot's stamps",
        ));
    };
    let object = backend.open(&name)?;
    let mut lines = Lines::new(&*object, 0);
    let (mut orders, mut deleted) = (Vec::new(), HashMap::new());
    let (mut crc, mut bytes) = (0, 0);
    while let Some(line) = lines.next()? {
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, line.bytes), b"\n");
        bytes = line.end();
        match stamps::decode(line.bytes) {
            Some(stamps::Line::Document(order)) => orders.push(order),
            Some(stamps::Line::Deleted(id, stamp)) => {
                deleted.insert(id.into(), stamp);
            }
            None => return Err(damaged(&name, "a line is no stamp").at_offset(line.offset)),
        }
    }
    if bytes != facts.bytes || crc != facts.crc {
        return Err(damaged(
            &name,
            "the size or checksum of the stamps does not match their content",
        ));
    }
    state.stamp(orders, deleted).map_err(|documents| {
        damaged(
            &name,
            format!("the snapshot has {documents} documents, and not as many stamps"),
        )
    })?;
    Ok(state)
}

/// Makes an agent's logs that the reference has replaced by `log` history; the answer is the number of the first operation of `log`.
fn adopt_replaced_logs(
    backend: &dyn Backend,
    agent: &str,
    log: &str,
    ours: &mut Ours,
) -> Result<u64> {
    let began = |name: &str| {
        let (of, began) = paths::parse_agent_ops(name)?;
        (of == agent).then_some(began)
    };
    let Some(active) = began(log) else {
        return Ok(0);
    };
    let mut logs: Vec<(u64, String)> = backend
        .list(paths::OPS)?
        .into_iter()
        .filter_map(|object| Some((began(&object.name)?, object.name)))
        .filter(|(began, _)| *began < active)
        .collect();
    logs.sort_unstable();
    let mut seq = 0;
    for (_, path) in logs {
        seq = adopt_log(backend, path, seq, Some(agent), ours)?;
    }
    Ok(seq)
}

/// Reads a store that the reference's agents wrote: the snapshot, then all operations one after the other, in the reference's order.
pub(crate) fn load_reference<T: Document>(
    options: &Options,
    backend: &dyn Backend,
    mut manifest: Manifest,
) -> Result<Loaded<T>> {
    let mut state = load::load(backend, &manifest, options)?;
    let mut ours = adopt(backend, &manifest)?;
    let mut operations = Vec::new();
    let mut others = Others::new();
    let mut damage = Vec::new();
    for (agent, log) in manifest.active_agent_ops.iter().flatten() {
        let first = adopt_replaced_logs(backend, agent, log, &mut ours)?;
        let mut position = Position::at(log, 0, first, 0);
        ours.agents.push(AgentFacts {
            id: agent.clone(),
            seen: manifest.stats.last_checkpoint.clone(),
            log: Some(log.clone()),
            seq: first,
            folded: first,
            ..AgentFacts::default()
        });
        let start = Start {
            position: 0,
            seq: Some(first),
        };
        let outcome = oplog::read(&*backend.open(log)?, start, &mut |line| {
            position.pass(line);
            operations.push(Operation::from_line(line)?);
            Ok(())
        })
        .map_err(|error| error.at_path(log))?;
        damage.extend(LogDamage::all(log, &outcome));
        position.offset = outcome.end;
        others.insert(Agent::from(&**agent), position);
    }
    operations.sort_by(|one, other| {
        let agent = |operation: &Operation| operation.agent.clone().unwrap_or_default();
        one.clock
            .cmp(&other.clock)
            .then_with(|| compare_as_reference(&agent(one), &agent(other)))
            .then_with(|| one.seq.cmp(&other.seq))
    });
    let count = operations.len() as u64;
    manifest.ours = Some(ours);
    for operation in operations {
        let data = operation.data.as_ref().map(super::document::Json::as_str);
        replay(&mut state, operation.kind, &operation.id, data)?;
    }
    Ok(Loaded {
        position: Position::start(&manifest, 0),
        outcome: Outcome::empty(0, count),
        manifest,
        state,
        others,
        damage,
        ours: false,
    })
}
