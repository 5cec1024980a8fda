//! Everything of a store in its snapshot and every log sealed: the step from a single writer to agents, and back.
//!
//! Nobody writes to the store meanwhile. Agents that come to it at once all do this; the swap of one of them counts.

use super::Others;
use super::garbage::Garbage;
use super::swap::finish;
use crate::backend::Backend;
use crate::checkpoint::{create_log, discard_all, write_snapshot, write_stamps};
use crate::document::Document;
use crate::follow::Position;
use crate::format::manifest::{AgentFacts, Manifest, Ours, SealedLog, Stats};
use crate::merge::{Order, Stamp};
use crate::open::Loaded;
use crate::oplog::DamageKind;
use crate::options::Residency;
use crate::recover::keep_damaged_bytes;
use crate::state::Stamps;
use crate::{Result, paths, time};

/// A manifest with everything in its snapshot and every log sealed, and the files that were made for it: with stamps, as the first agent needs it, or without, as a
/// single writer does. Nobody writes to the store meanwhile.
pub(crate) fn fold_all<T: Document>(
    backend: &dyn Backend,
    mut loaded: Loaded<T>,
    stamps: bool,
) -> Result<(Manifest, Vec<String>)> {
    let now = time::format_timestamp(time::now());
    let mut ours = loaded.manifest.ours.clone().unwrap_or_default();
    loaded.position.offset = loaded.outcome.end;
    seal_logs(backend, &loaded, &now, &mut ours)?;
    for damage in &loaded.damage {
        keep_damaged_bytes(backend, &damage.log, std::slice::from_ref(&damage.damage))?;
    }
    let old = &loaded.manifest;
    loaded.state.settle();
    let documents = loaded.state.freeze();
    let count = documents.len() as u64;
    let clocks = loaded.others.values().map(|position| position.clock);
    ours.clock = ours.clock.max(clocks.max().unwrap_or(0));
    fold_agents(&mut ours, &loaded.others, &now);
    let before = paths::parse_snapshot(&old.current_snapshot);
    let before = before.max(Garbage::list(backend)?.newest());
    let residency = Residency::Memory;
    let snapshot = write_snapshot(backend, before, old.version, residency, documents.iter())?;
    let mut new_files = vec![snapshot.name.clone()];
    new_files.extend(paths::stamps_of(&snapshot.name).filter(|_| stamps));
    let made = (|| {
        ours.stamps = None;
        if stamps {
            ours.stamps = Some(write_stamps(backend, &snapshot.name, &first_stamps(count))?);
            ours.clock = ours.clock.max(count);
        }
        let before = paths::parse_ops(&old.active_ops);
        let before = before.max(paths::parse_snapshot(&snapshot.name));
        create_log(backend, before).map(|(name, _log)| name)
    })();
    let active_ops = made.inspect_err(|_| discard_all(backend, &new_files))?;
    new_files.push(active_ops.clone());
    ours.log_seq = loaded.position.next_seq.max(ours.log_seq);
    if stamps || old.is_shared() {
        ours.undo_floor = ours.log_seq;
    }
    ours.bar_undo_of_agents();
    ours.snapshot = snapshot.facts;
    let mut next = Manifest {
        current_snapshot: snapshot.name,
        active_ops,
        stats: Stats {
            active_records: count,
            last_checkpoint: now,
            ..old.stats.clone()
        },
        ours: Some(ours),
        ..old.clone()
    };
    finish(&mut next);
    Ok((next, new_files))
}

/// The stamps of so many documents that are from before there were agents: a document's place among them is its number.
fn first_stamps(documents: u64) -> Stamps {
    let orders = (1..=documents).map(|number| Order {
        stamp: Stamp::default(),
        born: Stamp {
            clock: number,
            ..Stamp::default()
        },
    });
    Stamps {
        documents: orders.collect(),
        deleted: Vec::new(),
    }
}

/// Seals the logs of the single writer and of all agents, as far as they were read.
fn seal_logs<T>(
    backend: &dyn Backend,
    loaded: &Loaded<T>,
    now: &str,
    ours: &mut Ours,
) -> Result<()> {
    let old = &loaded.manifest;
    let mut seal =
        |log: &str, position: &Position, first: u64, agent: Option<&str>| -> Result<()> {
            let mut damage = loaded.damage.iter().filter(|damage| damage.log == log);
            let is_damaged = damage.any(|damage| damage.damage.kind == DamageKind::Damaged);
            settle_log(backend, log, position, is_damaged)?;
            if position.next_seq > first {
                ours.sealed.push(SealedLog {
                    path: log.to_owned(),
                    bytes: position.offset,
                    seq: first,
                    ops: position.next_seq - first,
                    sealed_at: now.to_owned(),
                    agent: agent.map(str::to_owned),
                });
            }
            Ok(())
        };
    if paths::parse_agent_ops(&old.active_ops).is_none() {
        let first = old.ours.as_ref().map_or(0, |ours| ours.log_seq);
        seal(&old.active_ops, &loaded.position, first, None)?;
    }
    for (agent, position) in &loaded.others {
        let first = old.agent(agent).map_or(0, |facts| facts.seq);
        if !position.log.is_empty() {
            seal(&position.log, position, first, Some(agent))?;
        }
    }
    Ok(())
}

/// Makes sure that what is about to be sealed is there after a power cut, though its writer may have been killed before its sync. What lies behind it is cut off, but in a log that is
/// damaged: it may be what tells the damage from a torn write, until a manifest says how much of the log counts.
pub(super) fn settle_log(
    backend: &dyn Backend,
    log: &str,
    position: &Position,
    is_damaged: bool,
) -> Result<()> {
    let end = if is_damaged {
        backend.open(log)?.size()?
    } else {
        position.offset
    };
    backend.open_log(log, position.group.offset, end).map(drop)
}

/// All agents have everything in the snapshot, and no log.
fn fold_agents(ours: &mut Ours, others: &Others, now: &str) {
    for (agent, position) in others {
        let clock = ours.clock;
        let mut known = ours.agents.iter_mut();
        let facts = if let Some(facts) = known.find(|facts| *facts.id == **agent) {
            facts
        } else {
            ours.agents.push(AgentFacts {
                id: agent.to_string(),
                seen: now.to_owned(),
                ..AgentFacts::default()
            });
            ours.agents.last_mut().expect("one was just added")
        };
        *facts = AgentFacts {
            clock,
            log: None,
            seq: position.next_seq,
            folded: position.next_seq,
            folded_clock: position.clock,
            offset: 0,
            ..facts.clone()
        };
    }
}
