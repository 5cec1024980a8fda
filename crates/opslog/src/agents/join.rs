//! Opening a store as one of its agents.
//!
//! An agent begins a new log at every opening, and writes to it only after a manifest names it: so whoever finds it dead may take its log for finished.

use std::sync::Arc;
use std::time::Duration;

use super::fold::fold_all;
use super::garbage::{Garbage, no_longer_named};
use super::swap::{SWAPS, busy, finish, read_version, swap};
use crate::backend::{Backend, Expected, LockGuard, Log, Version};
use crate::checkpoint::{copy_ops, discard_all, next_free};
use crate::document::Document;
use crate::engine::{Engine, Parts, Writer};
use crate::format::manifest::{AgentFacts, Manifest, Ours, SealedLog};
use crate::merge::Agent;
use crate::open::{
    Loaded, check_version, create, load_all, load_consistent, no_store, read_manifest,
};
use crate::oplog::{self, Start};
use crate::options::{Options, WriteMode};
use crate::recover::{LogDamage, keep_damaged_bytes, report};
use crate::sealed::MERGES_MAX;
use crate::{Error, ErrorKind, Result, paths, time};

/// How often a lock is tried: whoever compacts takes a dead agent's for a moment.
const LOCK_TRIES: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What an agent begins with, once a manifest names its log.
struct Joined {
    log: Box<dyn Log>,
    log_name: String,
    next_seq: u64,
    clock: u64,
    damage: Vec<LogDamage>,
}

/// Opens the store on `backend` as `agent`.
pub(crate) fn open<T: Document>(
    mut options: Options,
    backend: Arc<dyn Backend>,
    agent: &str,
) -> Result<Engine<T>> {
    check(&options, agent)?;
    if !options.write_mode.is_immediate() {
        tracing::warn!(agent, mode = ?options.write_mode, "an agent writes in Immediate mode");
        options.write_mode = WriteMode::Immediate;
    }
    migrate_alone::<T>(&options, &backend)?;
    if !options.create && read_manifest(&*backend)?.is_none() {
        return Err(no_store(&*backend));
    }
    backend.initialize()?;
    let lock = take_lock(&*backend, agent)?;
    // Again, since a writer may have ended in between: what it left of names must be durable before anything is built on it.
    backend.initialize()?;
    let joined = join::<T>(&options, &*backend, agent)?;
    let loaded: Loaded<T> = load_consistent(&options, &*backend)?;
    let mut damage = joined.damage;
    damage.extend(loaded.damage);
    let report = report(&damage, &options)?;
    let mut others = loaded.others;
    let own = others.remove(agent);
    let mut writer = Writer {
        end: joined.log.end(),
        log: Some(joined.log),
        next_seq: joined.next_seq,
        lock: Some(lock),
        ..Writer::new(joined.log_name)
    };
    writer.clock.observe(joined.clock);
    // Of what the snapshot holds, some may not be in the logs any more.
    writer
        .clock
        .observe(loaded.manifest.ours.as_ref().map_or(0, |ours| ours.clock));
    for position in others.values().chain(&own) {
        writer.clock.observe(position.clock);
        writer.last_millisecond = writer.last_millisecond.max(position.last_millisecond());
    }
    let folded = loaded.manifest.agent(agent).map_or(0, |facts| facts.folded);
    writer.ops_since_checkpoint = joined.next_seq - folded;
    Ok(Engine::new(Parts {
        options,
        backend,
        report,
        state: loaded.state,
        manifest: loaded.manifest,
        writer,
        position: loaded.position,
        others,
        agent: Some(Agent::from(agent)),
    }))
}

fn check(options: &Options, agent: &str) -> Result<()> {
    paths::validate_agent(agent)?;
    if options.residency.is_on_storage() {
        return Err(Error::invalid(
            "a store of agents keeps its documents in memory; leave out residency, or the agent id",
        ));
    }
    Ok(())
}

/// Brings an older store to the version asked for, as a single writer.
fn migrate_alone<T: Document>(options: &Options, backend: &Arc<dyn Backend>) -> Result<()> {
    let Some(manifest) = read_manifest(&**backend)? else {
        return Ok(());
    };
    if options.older_version(&manifest).is_none() {
        return Ok(());
    }
    let alone = Options {
        agent: None,
        checkpoint_on_close: false,
        ..options.clone()
    };
    let engine = crate::open::open::<T>(alone, Arc::clone(backend)).map_err(|error| {
        match error.kind() {
            ErrorKind::Locked => Error::new(
                ErrorKind::Locked,
                format!("the store is to be migrated from version {}, and for that no other agent may have it open; close them first", manifest.version),
            )
            .caused_by(error),
            _ => error,
        }
    })?;
    engine.close()
}

fn take_lock(backend: &dyn Backend, agent: &str) -> Result<Box<dyn LockGuard>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match backend.lock_agent(agent) {
            Err(error) if error.is_locked() && tries < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
            result => return result,
        }
    }
}

/// Begins a log of `agent` and has the manifest name it.
fn join<T: Document>(options: &Options, backend: &dyn Backend, agent: &str) -> Result<Joined> {
    let mut folded = Vec::new();
    for _ in 0..SWAPS {
        let found = read_version(backend)?;
        let version = found.as_ref().map(|(_, version)| version.clone());
        match try_join::<T>(options, backend, agent, found, &mut folded) {
            Ok(Some(mut joined)) => {
                joined.damage.extend(folded);
                return Ok(joined);
            }
            Ok(None) => {}
            Err(error) => {
                // Another agent had chosen the same name, or swapped: whatever else went wrong, a manifest that is the same afterwards had nothing to do with it.
                let again = error.kind() == ErrorKind::Conflict
                    || read_version(backend)?.map(|(_, version)| version) != version;
                if !again {
                    return Err(error);
                }
            }
        }
    }
    Err(busy())
}

/// One step towards a log that the manifest names: `None` where there are more to come, or another agent came first. `folded` gets the damage of a single writer's log
/// that became history.
fn try_join<T: Document>(
    options: &Options,
    backend: &dyn Backend,
    agent: &str,
    found: Option<(Manifest, Version)>,
    folded: &mut Vec<LogDamage>,
) -> Result<Option<Joined>> {
    let Some((manifest, version)) = found else {
        let manifest = create(backend, options)?;
        let new_files = created_files(&manifest);
        swap(backend, &Expected::Absent, &manifest, &new_files)?;
        return Ok(None);
    };
    check_version(options, &manifest)?;
    if !has_stamps(backend, &manifest)? {
        let garbage = Garbage::list(backend)?;
        let whole = Options {
            agent: None,
            skip_load: false,
            ..options.clone()
        };
        let before = manifest.clone();
        let loaded: Loaded<T> = load_all(&whole, backend, manifest)?;
        if options.strict {
            report(&loaded.damage, options)?;
        }
        let damage = loaded.damage.clone();
        let (next, new_files) = fold_all(backend, loaded, true)?;
        if swap(backend, &Expected::Unchanged(version), &next, &new_files)? {
            folded.extend(damage);
            discard_all(backend, &no_longer_named(&before, &next));
            garbage.remove(backend, &next);
        }
        return Ok(None);
    }
    let (next, joined) = register(backend, &manifest, agent)?;
    let new_files = [joined.log_name.clone()];
    let expected = Expected::Unchanged(version);
    Ok(swap(backend, &expected, &next, &new_files)?.then_some(joined))
}

fn created_files(manifest: &Manifest) -> Vec<String> {
    vec![
        manifest.current_snapshot.clone(),
        manifest.active_ops.clone(),
    ]
}

/// Whether the snapshot has stamps and nothing but agents has written since.
fn has_stamps(backend: &dyn Backend, manifest: &Manifest) -> Result<bool> {
    let Some(ours) = manifest.ours.as_ref().filter(|ours| ours.stamps.is_some()) else {
        return Ok(false);
    };
    if manifest.is_shared() {
        return Ok(true);
    }
    let start = Start {
        position: 0,
        seq: Some(ours.log_seq),
    };
    let log = backend.open(&manifest.active_ops)?;
    let outcome = oplog::read(&*log, start, &mut |_| Ok(()))?;
    Ok(outcome.count == 0 && outcome.damage.is_empty())
}

/// The manifest with a new log of `agent`, into which is copied what its last one has beyond the snapshot.
fn register(backend: &dyn Backend, manifest: &Manifest, agent: &str) -> Result<(Manifest, Joined)> {
    let mut next = manifest.clone();
    let ours = next.ours.get_or_insert_default();
    let facts = manifest
        .agent(agent)
        .cloned()
        .unwrap_or_else(|| AgentFacts {
            id: agent.to_owned(),
            clock: ours.clock,
            ..AgentFacts::default()
        });
    let before = facts.log.as_deref();
    let (log_name, mut log) = create_agent_log(backend, agent, before, &manifest.current_snapshot)?;
    let copied = copy_unfolded(backend, &facts, &mut *log).inspect_err(|_| {
        discard_all(backend, std::slice::from_ref(&log_name));
    })?;
    let clock = ours.clock.max(facts.clock).max(copied.clock);
    let promise = (copied.next_seq == facts.folded).then_some(clock);
    replace_log(ours, &facts, Some(&log_name), promise);
    finish(&mut next);
    let joined = Joined {
        log,
        log_name,
        next_seq: copied.next_seq,
        clock,
        damage: copied.damage,
    };
    Ok((next, joined))
}

struct Copied {
    next_seq: u64,
    clock: u64,
    damage: Vec<LogDamage>,
}

/// Copies to a new log what the agent's last one has beyond the snapshot, on stable storage on return.
fn copy_unfolded(backend: &dyn Backend, facts: &AgentFacts, to: &mut dyn Log) -> Result<Copied> {
    let mut copied = Copied {
        next_seq: facts.folded,
        clock: facts.folded_clock,
        damage: Vec::new(),
    };
    let Some(old) = &facts.log else {
        return Ok(copied);
    };
    let start = Start {
        position: facts.offset,
        seq: Some(facts.folded),
    };
    let outcome = copy_ops(backend, old, start, to, &mut |line| {
        copied.clock = copied.clock.max(line.op.clock.unwrap_or(0));
    })?;
    copied.next_seq += outcome.count;
    copied.damage = LogDamage::all(old, &outcome);
    keep_damaged_bytes(backend, old, &outcome.damage)?;
    Ok(copied)
}

/// Creates an empty log of `agent`, after the one called `before`, to go with `snapshot`. Its number is greater than the snapshot's, and so than those of all files that
/// were there when that one was made: nobody is about to remove a file of this name.
pub(super) fn create_agent_log(
    backend: &dyn Backend,
    agent: &str,
    before: Option<&str>,
    snapshot: &str,
) -> Result<(String, Box<dyn Log>)> {
    let before = before.and_then(paths::parse_agent_ops);
    let before = before.map(|(_, ms)| ms.saturating_add(MERGES_MAX));
    next_free(before.max(paths::parse_snapshot(snapshot)), |ms| {
        let name = paths::agent_ops(agent, ms);
        backend.create_log(&name).map(|log| (name, log))
    })
}

/// Puts `log` in the place of the agent's log, of which the part that is in the snapshot is kept for history. `clock` is what the agent promises
/// to stay above, where it has nothing beyond the snapshot.
pub(super) fn replace_log(
    ours: &mut Ours,
    facts: &AgentFacts,
    log: Option<&str>,
    clock: Option<u64>,
) {
    let now = time::format_timestamp(time::now());
    if let Some(old) = &facts.log
        && facts.folded > facts.seq
    {
        ours.sealed.push(SealedLog {
            path: old.clone(),
            bytes: facts.offset,
            seq: facts.seq,
            ops: facts.folded - facts.seq,
            sealed_at: now.clone(),
            agent: Some(facts.id.clone()),
        });
    }
    let next = AgentFacts {
        clock: clock.unwrap_or(facts.clock),
        seen: now,
        log: log.map(str::to_owned),
        seq: facts.folded,
        offset: 0,
        ..facts.clone()
    };
    if let Some(known) = ours.agents.iter_mut().find(|known| known.id == facts.id) {
        *known = next;
    } else {
        ours.agents.push(next);
        ours.agents.sort_by(|one, other| one.id.cmp(&other.id));
    }
}
