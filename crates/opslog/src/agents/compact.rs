//! Swapping in a new snapshot beside the other agents: compaction, archive, and the end of a log.
//!
//! Nothing here waits for another agent, or writes to its log while it lives. What is prepared is prepared for one manifest; where another one came in
//! between that leaves the snapshot alone, it is put on top of that, otherwise it is made anew.

use std::sync::TryLockError;
use std::time::Instant;

use super::Others;
use super::garbage::Garbage;
use super::join::{create_agent_log, replace_log};
use super::picture::{Dead, Picture};
use super::swap::{SWAPS, busy, finish, read_version, swap};
use crate::backend::{Expected, Log};
use crate::checkpoint::{
    Cut, NewSnapshot, copy_all_ops, discard, discard_all, retain, write_snapshot, write_stamps,
};
use crate::close::closed;
use crate::commit::Guard;
use crate::document::{Document, Stored};
use crate::engine::{Engine, lock};
use crate::format::manifest::{ArchiveFacts, CheckpointCost, FileFacts, Manifest};
use crate::merge::Agent;
use crate::open::read_manifest;
use crate::options::Residency;
use crate::sealed::{self, Merged};
use crate::state::Stamps;
use crate::{Error, ErrorKind, Result, paths, time};

/// What a swap puts in place.
pub(super) struct Replacement {
    pub(super) snapshot: NewSnapshot,
    pub(super) stamps: FileFacts,
    pub(super) archives: Option<Vec<ArchiveFacts>>,
    /// A log that takes the place of several short ones.
    pub(super) merged: Option<Merged>,
    /// Tombstones up to this clock are gone: no agent may be able to write below it.
    pub(super) forgotten: u64,
    /// Whether this agent gives up its log.
    pub(super) closing: bool,
}

/// How an attempt to swap ended.
pub(super) enum Swap<'e, T> {
    Done(Guard<'e, T>),
    /// Another snapshot is in place: what was prepared is of no use.
    Lost,
}

impl<T: Document> Engine<T> {
    /// Makes a checkpoint now, of everything that this agent can see; writers go on, those of other processes too.
    pub(crate) fn compact_as_agent(&self, closing: bool) -> Result<()> {
        let _turn = lock(&self.checkpointing);
        self.ensure_can_checkpoint()?;
        let mut attempt = || {
            let done = self.try_compact(closing);
            if !matches!(done, Ok(Some(()))) {
                lock(&self.writer).sealing = None;
            }
            done
        };
        self.until_swapped(&mut attempt)
    }

    /// Repeats `attempt` as long as another agent's snapshot comes in between.
    pub(super) fn until_swapped<R>(
        &self,
        attempt: &mut dyn FnMut() -> Result<Option<R>>,
    ) -> Result<R> {
        let snapshot = || -> Result<Option<String>> {
            let manifest = read_manifest(&*self.backend)?;
            Ok(manifest.map(|manifest| manifest.current_snapshot))
        };
        let mut last = busy();
        for _ in 0..SWAPS {
            let before = snapshot()?;
            match attempt() {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {}
                // It had chosen a name that we had chosen, or removed what we were at, as it may.
                Err(error)
                    if error.kind() == ErrorKind::Conflict
                        || error.kind() != ErrorKind::Poisoned && snapshot()? != before =>
                {
                    last = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn try_compact(&self, closing: bool) -> Result<Option<()>> {
        let began = Instant::now();
        let (listed, dead) = self.before_looking()?;
        self.look_by_the_way()?;
        let picture = {
            let others = lock(&self.others);
            let mut writer = self.quiesce(lock(&self.writer))?;
            self.picture(&mut writer, &others, listed, dead, began)
        };
        let forgotten = picture.promise(self);
        let stamps = picture.stamps.without_forgotten(forgotten);
        let present = picture
            .present()
            .filter(|_| closing && picture.is_folded(self.agent.as_deref()));
        let (snapshot, facts) = match present {
            Some(present) => present,
            None => self.write_both(&picture, picture.documents.iter(), &stamps)?,
        };
        let replacement = Replacement {
            snapshot,
            stamps: facts,
            archives: None,
            merged: self.merge_sealed_logs(),
            forgotten,
            closing,
        };
        let _others = lock(&self.others);
        let writer = self.quiesce(lock(&self.writer))?;
        match self.swap_in(writer, picture, &replacement)? {
            Swap::Done(_writer) => Ok(Some(())),
            Swap::Lost => Ok(None),
        }
    }

    /// What must be known before the logs are read: the files that are there, and the agents that are dead.
    pub(super) fn before_looking(&self) -> Result<(Garbage, Dead)> {
        let listed = Garbage::list(&*self.backend)?;
        let manifest = read_manifest(&*self.backend)?;
        let mut dead = Dead::default();
        for facts in manifest.iter().flat_map(Manifest::agents) {
            let Some(log) = &facts.log else {
                continue;
            };
            if self.agent.as_deref() != Some(&facts.id)
                && self.backend.lock_agent(&facts.id).is_ok()
            {
                dead.0.insert(Agent::from(&*facts.id), log.clone());
            }
        }
        Ok((listed, dead))
    }

    /// Whether no other agent is at work, as far as can be told.
    pub(crate) fn is_alone(&self) -> Result<bool> {
        let (_, dead) = self.before_looking()?;
        let manifest = read_manifest(&*self.backend)?;
        let mut others = manifest
            .iter()
            .flat_map(Manifest::agents)
            .filter(|facts| self.agent.as_deref() != Some(&facts.id));
        Ok(others.all(|facts| {
            let log = facts.log.as_deref();
            log.is_none_or(|log| dead.has_left(&facts.id, log))
        }))
    }

    pub(super) fn picture(
        &self,
        writer: &mut Guard<'_, T>,
        others: &Others,
        listed: Garbage,
        dead: Dead,
        began: Instant,
    ) -> Picture<T> {
        let cut = self.cut(writer);
        let state = self.state();
        Picture {
            base: self.manifest(),
            documents: state.freeze(),
            stamps: state.stamps(),
            others: others.clone(),
            dead,
            cut,
            clock: writer.clock.current(),
            listed,
            began,
        }
    }

    pub(super) fn write_both(
        &self,
        picture: &Picture<T>,
        documents: impl Iterator<Item = Result<Stored<T>>>,
        stamps: &Stamps,
    ) -> Result<(NewSnapshot, FileFacts)> {
        let backend = &*self.backend;
        let before = paths::parse_snapshot(&picture.base.current_snapshot);
        let before = before.max(picture.listed.newest());
        let (version, residency) = (picture.base.version, Residency::Memory);
        let snapshot = write_snapshot(backend, before, version, residency, documents)?;
        let facts = write_stamps(backend, &snapshot.name, stamps)
            .inspect_err(|_| discard(backend, &snapshot.name))?;
        Ok((snapshot, facts))
    }

    /// Swaps in a manifest that names what was prepared, on top of whatever changed meanwhile but the snapshot; the writer is quiet.
    pub(super) fn swap_in<'e>(
        &'e self,
        mut writer: Guard<'e, T>,
        picture: Picture<T>,
        replacement: &Replacement,
    ) -> Result<Swap<'e, T>> {
        let backend = &*self.backend;
        let snapshot = &replacement.snapshot.name;
        let mut new_files = Vec::new();
        let is_new = *snapshot != picture.base.current_snapshot;
        if is_new {
            new_files.push(snapshot.clone());
            new_files.extend(paths::stamps_of(snapshot));
        }
        let merged = replacement.merged.as_ref();
        new_files.extend(merged.map(|merged| merged.log.path.clone()));
        let give_up = replacement.closing && writer.next_seq == picture.cut.seq;
        let own = if give_up {
            None
        } else {
            let own = self.begin_log(&writer, &picture.cut, snapshot);
            Some(own.inspect_err(|_| discard_all(backend, &new_files))?)
        };
        new_files.extend(own.iter().map(|own| own.name.clone()));
        let sealed_dead = picture.settle_dead(backend);
        if let Err(error) = sealed_dead {
            discard_all(backend, &new_files);
            return Err(error);
        }
        for _ in 0..SWAPS {
            let (current, version) = match read_version(backend) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    discard_all(backend, &new_files);
                    return Err(Error::not_found("the store is gone").at_path(backend.location()));
                }
                Err(error) => {
                    discard_all(backend, &new_files);
                    return Err(error);
                }
            };
            let name = own.as_ref().map(|own| &*own.name);
            let next = self.next_shared(&current, &picture, replacement, name);
            let Some((next, dropped)) = next else {
                discard_all(backend, &new_files);
                return Ok(Swap::Lost);
            };
            match swap(backend, &Expected::Unchanged(version), &next, &[]) {
                Ok(true) => {
                    self.adopt_shared(&mut writer, own, &picture, replacement, next.clone());
                    if is_new {
                        let old = &picture.base.current_snapshot;
                        discard(backend, old);
                        discard_all(backend, paths::stamps_of(old).as_slice());
                    }
                    discard_all(backend, &dropped);
                    if is_new {
                        picture.listed.remove(backend, &next);
                    }
                    return Ok(Swap::Done(writer));
                }
                Ok(false) => {}
                Err(error) => {
                    return Err(self.after_failed_swap(&mut writer, &new_files, error));
                }
            }
        }
        discard_all(backend, &new_files);
        Err(busy())
    }

    /// A new log of this agent, with what came after `cut`, to go with `snapshot`.
    fn begin_log(&self, writer: &Guard<'_, T>, cut: &Cut, snapshot: &str) -> Result<OwnLog> {
        let backend = &*self.backend;
        let agent = self.agent.as_deref().unwrap_or_default();
        let (name, mut log) = create_agent_log(backend, agent, Some(&writer.log_name), snapshot)?;
        match copy_all_ops(backend, &writer.log_name, cut, &mut *log) {
            Ok(copied) => Ok(OwnLog { name, log, copied }),
            Err(error) => {
                drop(log);
                discard(backend, &name);
                Err(error)
            }
        }
    }

    /// The manifest after a swap, and the files that it no longer needs; `None` where what was prepared cannot be put on top of `current`.
    fn next_shared(
        &self,
        current: &Manifest,
        picture: &Picture<T>,
        replacement: &Replacement,
        own_log: Option<&str>,
    ) -> Option<(Manifest, Vec<String>)> {
        let base = &picture.base;
        let on_top = current.current_snapshot == base.current_snapshot
            && current.version == base.version
            && current.archive_segments == base.archive_segments
            && current.active_ops == base.active_ops;
        if !on_top {
            return None;
        }
        let mut next = current.clone();
        let ours = next.ours.as_mut()?;
        let mut dropped = Vec::new();
        for facts in ours.agents.clone() {
            let own = self.agent.as_deref() == Some(&facts.id);
            let known = picture.others.get(&*facts.id);
            let settled = match known {
                _ if own => Some(picture.own_end()),
                Some(position) => Some(picture.settled(&facts.id, position)),
                None => None,
            };
            let mut folded = facts.clone();
            // An agent that came back, or began a new log, since it was looked at has said itself how far it is.
            let same_log =
                own || known.is_some_and(|known| facts.log.as_deref() == Some(&known.log));
            if let Some(settled) = settled.filter(|settled| same_log && settled.seq >= facts.folded)
            {
                folded.folded = settled.seq;
                folded.offset = settled.offset;
                folded.folded_clock = settled.clock.max(facts.folded_clock);
                folded.clock = settled.clock.max(facts.clock);
            }
            let left = |log: &str| picture.dead.has_left(&facts.id, log);
            let ends = same_log && facts.log.as_deref().is_some_and(left);
            if own || ends {
                let promise = own.then_some(picture.clock).or(Some(folded.clock));
                if folded.folded == folded.seq {
                    dropped.extend(folded.log.clone());
                }
                replace_log(ours, &folded, own_log.filter(|_| own), promise);
            } else if let Some(known) = ours.agents.iter_mut().find(|known| known.id == facts.id) {
                *known = folded;
            }
        }
        // Whoever has a log must have promised to stay above what was forgotten.
        let may_write_below = ours.agents.iter().any(|facts| {
            facts.log.is_some()
                && self.agent.as_deref() != Some(&facts.id)
                && facts.clock < replacement.forgotten
        });
        if may_write_below {
            return None;
        }
        if let Some(merged) = &replacement.merged {
            dropped.extend(sealed::replace(&mut ours.sealed, merged));
        }
        dropped.extend(retain(&mut ours.sealed, &self.options.retention));
        ours.clock = ours.clock.max(picture.clock);
        ours.snapshot = replacement.snapshot.facts;
        ours.stamps = Some(replacement.stamps);
        ours.checkpoint = Some(CheckpointCost {
            millis: u64::try_from(picture.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            bytes: replacement.snapshot.facts.bytes,
        });
        if let Some(archives) = &replacement.archives {
            ours.archives.clone_from(archives);
            next.stats.archived_records = archives.iter().map(|archive| archive.documents).sum();
            next.archive_segments = archives
                .iter()
                .map(|archive| archive.path.clone())
                .collect();
        }
        next.stats.active_records = replacement.snapshot.facts.documents;
        next.stats.last_checkpoint = time::format_timestamp(time::now());
        next.current_snapshot.clone_from(&replacement.snapshot.name);
        finish(&mut next);
        Some((next, dropped))
    }

    fn adopt_shared(
        &self,
        writer: &mut Guard<'_, T>,
        own: Option<OwnLog>,
        picture: &Picture<T>,
        replacement: &Replacement,
        next: Manifest,
    ) {
        let copied = own.as_ref().map_or(0, |own| own.copied);
        self.change_log(writer, own);
        writer.ops_since_checkpoint = copied;
        writer.checkpoint_not_before = 0;
        writer.sealing = None;
        let mut state = self.state_mut();
        state.close_holes();
        state.retain_deleted(|stamp| stamp.clock > replacement.forgotten);
        drop(state);
        debug_assert!(writer.next_seq >= picture.cut.seq);
        self.set_manifest(next);
    }

    /// Goes on in another log, or in none.
    fn change_log(&self, writer: &mut Guard<'_, T>, own: Option<OwnLog>) {
        let Some(own) = own else {
            self.mark_closed();
            writer.poison = Some(closed());
            writer.leave_log();
            return;
        };
        writer.change_log(own.log, own.name);
    }

    /// Decides what a failed swap means: not swapped (go on), or unknown (poisoned). Another agent may have swapped since, but what the manifest says of our log
    /// only we change.
    fn after_failed_swap(
        &self,
        writer: &mut Guard<'_, T>,
        new_files: &[String],
        error: Error,
    ) -> Error {
        let agent = self.agent.as_deref().unwrap_or_default();
        let log_of = |manifest: &Manifest| manifest.agent(agent)?.log.clone();
        match read_manifest(&*self.backend) {
            Ok(Some(current)) if log_of(&current).as_ref() == Some(&writer.log_name) => {
                discard_all(&*self.backend, new_files);
                error
            }
            _ => writer.poison(&error),
        }
    }

    /// Begins a new log where a part of this agent's log is in the snapshot, by another agent's hand: so the old one can go, and what is left is short.
    pub(crate) fn roll_if_folded(&self) -> Result<()> {
        let is_due = |manifest: &Manifest| {
            let facts = self
                .agent
                .as_deref()
                .and_then(|agent| manifest.agent(agent));
            facts.is_some_and(|facts| facts.folded > facts.seq)
        };
        if !is_due(&self.manifest()) || self.is_batching() {
            return Ok(());
        }
        // Whoever is about to make a checkpoint knows where it stood in the present log, and begins a new one anyway.
        let _turn = match self.checkpointing.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        let backend = &*self.backend;
        let others = lock(&self.others);
        let mut writer = self.quiesce(lock(&self.writer))?;
        // A look that was not followed by others' swaps is all that this needs; if they go on, the next look does it.
        let Some((current, version)) = read_version(backend)? else {
            return Ok(());
        };
        let facts = self
            .agent
            .as_deref()
            .and_then(|agent| current.agent(agent))
            .cloned();
        let Some(facts) = facts.filter(|_| is_due(&current) && writer.log.is_some()) else {
            return Ok(());
        };
        let same_store = current.current_snapshot == self.manifest().current_snapshot;
        if !same_store || facts.log.as_deref() != Some(&writer.log_name) {
            return Ok(());
        }
        let cut = Cut {
            seq: facts.folded,
            end: facts.offset,
            holes: 0,
        };
        let own = self.begin_log(&writer, &cut, &current.current_snapshot)?;
        let mut next = current.clone();
        let Some(ours) = next.ours.as_mut() else {
            return Ok(());
        };
        let promise = (own.copied == 0).then(|| writer.clock.current());
        replace_log(ours, &facts, Some(&own.name), promise);
        let dropped = retain(&mut ours.sealed, &self.options.retention);
        finish(&mut next);
        let new_files = [own.name.clone()];
        match swap(backend, &Expected::Unchanged(version), &next, &new_files) {
            Ok(true) => {
                writer.ops_since_checkpoint = own.copied;
                self.change_log(&mut writer, Some(own));
                self.set_manifest(next);
                discard_all(backend, &dropped);
            }
            Ok(false) => {}
            Err(error) => {
                return Err(self.after_failed_swap(&mut writer, &new_files, error));
            }
        }
        drop((writer, others));
        Ok(())
    }
}

/// This agent's next log.
struct OwnLog {
    name: String,
    log: Box<dyn Log>,
    /// Operations in it.
    copied: u64,
}
