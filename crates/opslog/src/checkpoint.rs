//! Writing a new snapshot and starting a new log.
//!
//! The snapshot is written from a frozen view, beside the writers: documents are copied as bytes. Then, under the writer lock for a moment, the operations that
//! came meanwhile are copied to the new log and the manifest is switched. At every instant the manifest names one complete
//! snapshot and one complete log. The order of writes and syncs is in `docs/durability.md`.

use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;

use crate::backend::{Backend, Log, ObjectWriter};
use crate::base::IndexWriter;
use crate::commit::Guard;
use crate::document::{Document, Stored};
use crate::engine::{Engine, lock};
use crate::format::manifest::{
    ArchiveFacts, CheckpointCost, FileFacts, Manifest, Ours, SealedLog, Stats,
};
use crate::format::{manifest, op_line, snapshot, stamps};
use crate::oplog::{self, LogLine, Outcome, Start};
use crate::options::{Residency, Retention};
use crate::sealed::{self, Merged};
use crate::state::Stamps;
use crate::testing::{self, Bug, is_planted};
use crate::{Error, ErrorKind, Result, paths, time};

mod due;

const WRITE_PIECE: usize = 1 << 20;

/// Where the log was when the view was frozen.
pub(crate) struct Cut {
    pub(crate) seq: u64,
    pub(crate) end: u64,
    pub(crate) holes: usize,
}

/// A snapshot that is on storage, and not named by the manifest yet.
pub(crate) struct NewSnapshot {
    pub(crate) name: String,
    pub(crate) facts: FileFacts,
}

/// What the next manifest says beyond the new snapshot and log.
pub(crate) struct Change {
    pub(crate) version: u32,
    /// The new list of archive segments, where it changes.
    pub(crate) archives: Option<Vec<ArchiveFacts>>,
    /// Whether operations up to here can no longer be undone.
    pub(crate) undo_barrier: bool,
    /// A log that takes the place of several short ones.
    pub(crate) merged: Option<Merged>,
}

impl<T: Document> Engine<T> {
    /// Makes a checkpoint now; writers go on while the snapshot is written.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the storage refuses: then everything is as before.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.ensure_not_batching()?;
        if self.agent.is_some() {
            return self.compact_as_agent(false);
        }
        let _turn = lock(&self.checkpointing);
        let began = Instant::now();
        self.ensure_can_checkpoint()?;
        let (frozen, cut) = {
            let mut writer = self.quiesce(self.writer()?)?;
            let cut = self.cut(&mut writer);
            (self.state().freeze(), cut)
        };
        let documents = frozen.iter();
        let old = self.manifest();
        let before = newest_named(&old);
        let (version, residency) = (old.version, self.options.residency);
        let result = write_snapshot(&*self.backend, before, version, residency, documents)
            .and_then(|snapshot| {
                let merged = self.merge_sealed_logs();
                let writer = self.writer().inspect_err(|_| {
                    discard(&*self.backend, &snapshot.name);
                    sealed::abandon(&*self.backend, merged.as_ref());
                })?;
                let change = Change {
                    version,
                    archives: None,
                    undo_barrier: false,
                    merged,
                };
                self.switch(writer, &cut, snapshot, change, began).map(drop)
            });
        if result.is_err() {
            lock(&self.writer).sealing = None;
        }
        result
    }

    /// Copies short replaced logs into one. Where that fails they stay as they are: the checkpoint does not depend on it.
    pub(crate) fn merge_sealed_logs(&self) -> Option<Merged> {
        let manifest = self.manifest();
        let ours = manifest.ours.as_ref()?;
        let agent = self.agent.as_deref();
        let active = match agent {
            Some(agent) => manifest
                .agents()
                .find(|facts| facts.id == agent)?
                .log
                .as_ref()?,
            None => &manifest.active_ops,
        };
        let turn = self.merges.fetch_add(1, Ordering::Relaxed);
        sealed::merge(&*self.backend, &ours.sealed, agent, active, turn)
            .inspect_err(|error| tracing::warn!(%error, "short logs could not be merged"))
            .ok()
            .flatten()
    }

    pub(crate) fn ensure_can_checkpoint(&self) -> Result<()> {
        if self.options.skip_load {
            return Err(Error::invalid(
                "cannot compact or archive in skip_load mode, which does not know all documents; open the store without it",
            ));
        }
        Ok(())
    }

    /// Marks where the snapshot about to be written ends. The writer must be quiet.
    pub(crate) fn cut(&self, writer: &mut Guard<'_, T>) -> Cut {
        writer.sealing = Some(writer.next_seq);
        Cut {
            seq: writer.next_seq,
            end: writer.end,
            holes: self.state().hole_count(),
        }
    }

    /// Copies what came after `cut` to a new log and switches the manifest to it and to `snapshot`.
    ///
    /// # Errors
    ///
    /// When the manifest was not switched, everything is as before; when that is not known, the store is poisoned.
    pub(crate) fn switch<'e>(
        &'e self,
        writer: Guard<'e, T>,
        cut: &Cut,
        snapshot: NewSnapshot,
        change: Change,
        began: Instant,
    ) -> Result<Guard<'e, T>> {
        let backend = &*self.backend;
        let mut new_files = vec![snapshot.name.clone()];
        new_files.extend(change.merged.as_ref().map(|merged| merged.log.path.clone()));
        let prepared = self.quiesce(writer).and_then(|writer| {
            let (log, log_name, copied) =
                start_log(backend, &writer.log_name, &snapshot.name, cut)?;
            Ok((writer, log, log_name, copied))
        });
        let (mut writer, log, log_name, copied) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                discard_all(backend, &new_files);
                return Err(error);
            }
        };
        new_files.push(log_name.clone());
        let old = self.manifest();
        let cost = CheckpointCost {
            millis: time::milliseconds_since(began),
            bytes: snapshot.facts.bytes,
        };
        let (next, dropped) = next_manifest(
            &old,
            &self.options.retention,
            cut,
            snapshot,
            change,
            &log_name,
            cost,
        );
        if let Err(error) = put_manifest(backend, &next) {
            return Err(self.after_failed_switch(&mut writer, &next, &new_files, error));
        }
        self.adopt(&mut writer, cut, log, log_name, copied);
        self.set_manifest(next);
        self.rebase(&mut writer);
        discard(backend, &old.current_snapshot);
        discard_all(backend, &dropped);
        Ok(writer)
    }

    /// The new log takes the old one's place in memory.
    fn adopt(
        &self,
        writer: &mut Guard<'_, T>,
        cut: &Cut,
        log: Box<dyn Log>,
        log_name: String,
        copied: u64,
    ) {
        writer.change_log(log, log_name);
        writer.ops_since_checkpoint = copied;
        writer.checkpoint_not_before = 0;
        writer.sealing = None;
        self.state_mut().forget_holes(cut.holes);
    }

    /// Decides what a failed switch means: not switched (go on), or unknown (poisoned).
    fn after_failed_switch(
        &self,
        writer: &mut Guard<'_, T>,
        next: &Manifest,
        new_files: &[String],
        error: Error,
    ) -> Error {
        let nonce = |manifest: &Manifest| manifest.ours.as_ref().map(|ours| ours.nonce.clone());
        let current = self
            .backend
            .read(paths::MANIFEST)
            .and_then(|bytes| manifest::decode(&bytes));
        match current {
            Ok(current) if nonce(&current) != nonce(next) => {
                discard_all(&*self.backend, new_files);
                error
            }
            _ => writer.poison(&error),
        }
    }

    /// Whether a checkpoint at close costs less than replaying the log at the next open.
    pub(crate) fn is_checkpoint_worthwhile(&self) -> bool {
        let writer = lock(&self.writer);
        if writer.ops_since_checkpoint == 0 {
            return false;
        }
        let manifest = self.manifest();
        let snapshot = manifest.ours.as_ref().map_or(0, |ours| ours.snapshot.bytes);
        snapshot < (4 << 20) || writer.end >= snapshot / 8
    }
}

/// The greatest number among the names of the snapshot and the log. A new snapshot's is greater, and a new log's is not smaller than that of its snapshot: so names alone tell which logs came
/// after a snapshot, however quickly they were made.
pub(crate) fn newest_named(manifest: &Manifest) -> Option<u64> {
    paths::parse_snapshot(&manifest.current_snapshot).max(paths::parse_ops(&manifest.active_ops))
}

/// Writes `documents` as a new snapshot, on stable storage on return, with its index where documents stay on storage. `before` is the greatest number among the
/// names of the files that it goes on from.
pub(crate) fn write_snapshot<T>(
    backend: &dyn Backend,
    before: Option<u64>,
    version: u32,
    residency: Residency,
    documents: impl Iterator<Item = Result<Stored<T>>>,
) -> Result<NewSnapshot> {
    let now = time::now();
    let (name, mut file) = next_free(before, |milliseconds| {
        let name = paths::snapshot(milliseconds);
        backend.create(&name).map(|file| (name, file))
    })?;
    let index_name = paths::index_of(&name).filter(|_| residency.is_on_storage());
    let mut index = index_name
        .map(|index_name| IndexWriter::create(backend, &index_name))
        .transpose()?;
    let mut buffer = Vec::with_capacity(WRITE_PIECE + (64 << 10));
    let mut facts = FileFacts {
        bytes: 0,
        crc: 0,
        documents: 0,
    };
    snapshot::encode_header(&mut buffer, version, &time::format_timestamp(now));
    for document in documents {
        let document = document?;
        let start = buffer.len();
        snapshot::encode_document(&mut buffer, document.id(), document.data());
        facts.documents += 1;
        if let Some(index) = &mut index {
            let line = buffer.get(start..buffer.len() - 1).unwrap_or_default();
            index.add(document.id(), facts.bytes + start as u64, line)?;
        }
        if buffer.len() >= WRITE_PIECE {
            write_piece(&mut *file, &mut buffer, &mut facts)?;
        }
    }
    write_piece(&mut *file, &mut buffer, &mut facts)?;
    file.finish()?;
    if let Some(index) = index {
        index
            .finish(&facts)
            .inspect_err(|_| discard(backend, &name))?;
    }
    Ok(NewSnapshot { name, facts })
}

/// Writes the stamps file of `snapshot`, on stable storage on return.
pub(crate) fn write_stamps(
    backend: &dyn Backend,
    snapshot: &str,
    stamps: &Stamps,
) -> Result<FileFacts> {
    let name = paths::stamps_of(snapshot).unwrap_or_default();
    let mut file = backend.create(&name)?;
    let mut facts = FileFacts {
        documents: stamps.documents.len() as u64,
        ..FileFacts::default()
    };
    let mut buffer = Vec::new();
    for order in &stamps.documents {
        stamps::encode_document(&mut buffer, order);
        if buffer.len() >= WRITE_PIECE {
            write_piece(&mut *file, &mut buffer, &mut facts)?;
        }
    }
    for (id, stamp) in &stamps.deleted {
        stamps::encode_deleted(&mut buffer, id, stamp);
        if buffer.len() >= WRITE_PIECE {
            write_piece(&mut *file, &mut buffer, &mut facts)?;
        }
    }
    write_piece(&mut *file, &mut buffer, &mut facts)?;
    file.finish()?;
    Ok(facts)
}

fn write_piece(
    file: &mut dyn ObjectWriter,
    buffer: &mut Vec<u8>,
    facts: &mut FileFacts,
) -> Result<()> {
    facts.crc = crc32c::crc32c_append(facts.crc, buffer);
    facts.bytes += buffer.len() as u64;
    file.write(buffer)?;
    buffer.clear();
    Ok(())
}

/// Creates the log of the new checkpoint, to go with `snapshot`, with the operations of `old_log` behind `cut`, on stable storage on return.
fn start_log(
    backend: &dyn Backend,
    old_log: &str,
    snapshot: &str,
    cut: &Cut,
) -> Result<(Box<dyn Log>, String, u64)> {
    let before = paths::parse_ops(old_log).max(paths::parse_snapshot(snapshot));
    let (name, mut log) = create_log(backend, before)?;
    match copy_all_ops(backend, old_log, cut, &mut *log) {
        Ok(count) => Ok((log, name, count)),
        Err(error) => {
            drop(log);
            discard(backend, &name);
            Err(error)
        }
    }
}

/// Copies the operations of `old_log` behind `cut` to a new log.
///
/// # Errors
///
/// `Corrupt` where the old log is damaged there: then it is better kept.
pub(crate) fn copy_all_ops(
    backend: &dyn Backend,
    old_log: &str,
    cut: &Cut,
    log: &mut dyn Log,
) -> Result<u64> {
    let start = Start {
        position: cut.end,
        seq: Some(cut.seq),
    };
    let outcome = copy_ops(backend, old_log, start, log, &mut |_| {})?;
    match outcome.damage.first() {
        None => Ok(outcome.count),
        Some(damage) => {
            let reason = &damage.reason;
            let message = format!("the log is damaged, so it is kept as it is: {reason}");
            let error = Error::corrupt(message).at_path(old_log);
            Err(error.at_offset(damage.range.start))
        }
    }
}

/// Copies the operations of `old_log` from `start` on to a new log, numbered without a gap, on stable storage on return.
pub(crate) fn copy_ops(
    backend: &dyn Backend,
    old_log: &str,
    start: Start,
    log: &mut dyn Log,
    seen: &mut dyn FnMut(&LogLine<'_>),
) -> Result<Outcome> {
    let mut bytes = Vec::new();
    let mut seq = start.seq.unwrap_or(0);
    let outcome = oplog::read(&*backend.open(old_log)?, start, &mut |line| {
        let begin = bytes.len();
        bytes.extend_from_slice(op_line::body(line.raw));
        op_line::encode_trailer(&mut bytes, begin, seq, 0);
        seq += 1;
        seen(line);
        Ok(())
    })?;
    if !bytes.is_empty() && !is_planted(Bug::CheckpointDropsTail) {
        log.append(&bytes)?;
        log.sync()?;
    }
    Ok(outcome)
}

/// Creates an empty log. `before` is the number of the log that it replaces, or of its snapshot; between the two, names stay free for [`sealed::merge`].
pub(crate) fn create_log(
    backend: &dyn Backend,
    before: Option<u64>,
) -> Result<(String, Box<dyn Log>)> {
    let before = before.map(|milliseconds| milliseconds.saturating_add(sealed::MERGES_MAX));
    next_free(before, |milliseconds| {
        let name = paths::ops(milliseconds);
        backend.create_log(&name).map(|log| (name, log))
    })
}

/// Creates something exclusively under the first free number of milliseconds from now on, and behind `before`: a name is never used twice, or a
/// reader that holds an older manifest would take one file for another.
pub(crate) fn next_free<R>(before: Option<u64>, create: impl FnMut(u64) -> Result<R>) -> Result<R> {
    let now = u64::try_from(time::now().as_millisecond()).unwrap_or(0);
    paths::next_free(before.map_or(now, |before| now.max(before + 1)), create)
}

/// The manifest after a checkpoint, and the files that it no longer needs.
fn next_manifest(
    old: &Manifest,
    retention: &Retention,
    cut: &Cut,
    snapshot: NewSnapshot,
    change: Change,
    log_name: &str,
    cost: CheckpointCost,
) -> (Manifest, Vec<String>) {
    let now = time::format_timestamp(time::now());
    let mut ours = old.ours.clone().unwrap_or_default();
    let mut dropped = match change.merged {
        Some(merged) => sealed::replace(&mut ours.sealed, &merged),
        None => Vec::new(),
    };
    if cut.seq > ours.log_seq {
        ours.sealed.push(SealedLog {
            path: old.active_ops.clone(),
            bytes: cut.end,
            seq: ours.log_seq,
            ops: cut.seq - ours.log_seq,
            sealed_at: now.clone(),
            agent: None,
        });
    }
    dropped.extend(retain(&mut ours.sealed, retention));
    if ours.stamps.is_some() {
        // Of the time when there were agents.
        ours.bar_undo_of_agents();
        dropped.extend(paths::stamps_of(&old.current_snapshot));
    }
    if cut.seq == ours.log_seq {
        dropped.push(old.active_ops.clone());
    }
    let mut next = Manifest {
        version: change.version,
        current_snapshot: snapshot.name,
        active_ops: log_name.to_owned(),
        active_agent_ops: None,
        archive_segments: old.archive_segments.clone(),
        stats: Stats {
            active_records: snapshot.facts.documents,
            archived_records: old.stats.archived_records,
            ops_count: 0,
            created: old.stats.created.clone(),
            last_checkpoint: now,
        },
        ours: None,
    };
    if let Some(archives) = change.archives {
        next.stats.archived_records = archives.iter().map(|archive| archive.documents).sum();
        next.archive_segments = archives
            .iter()
            .map(|archive| archive.path.clone())
            .collect();
        ours.archives = archives;
    }
    if change.undo_barrier {
        ours.undo_floor = cut.seq;
    }
    next.ours = Some(Ours {
        generation: ours.generation + 1,
        nonce: nonce(),
        snapshot: snapshot.facts,
        log_seq: cut.seq,
        checkpoint: Some(cost),
        stamps: None,
        ..ours
    });
    (next, dropped)
}

/// Shortens the list of sealed logs to what `retention` keeps; returns the files to remove.
pub(crate) fn retain(sealed: &mut Vec<SealedLog>, retention: &Retention) -> Vec<String> {
    let keep_from = match retention {
        Retention::All => 0,
        Retention::None => sealed.len(),
        Retention::Age(age) => {
            let oldest = time::now().checked_sub(*age).unwrap_or(Timestamp::MIN);
            // Not sorted: a log into which several were merged has the place of the first of them, and a clock may be set back.
            let old = sealed.iter().take_while(|log| {
                time::parse_timestamp(&log.sealed_at).is_some_and(|at| at < oldest)
            });
            old.count()
        }
        Retention::Bytes(limit) => {
            let mut total = 0_u64;
            let kept = sealed.iter().rev().take_while(|log| {
                total = total.saturating_add(log.bytes);
                total <= *limit
            });
            sealed.len() - kept.count()
        }
    };
    sealed.drain(..keep_from).map(|log| log.path).collect()
}

/// Sixteen hexadecimal digits that no other manifest has.
pub(crate) fn nonce() -> String {
    use std::hash::{BuildHasher, Hasher};
    let random = || {
        std::collections::hash_map::RandomState::new()
            .build_hasher()
            .finish()
    };
    let number = testing::next_number().unwrap_or_else(random);
    format!("{number:016x}")
}

pub(crate) fn put_manifest(backend: &dyn Backend, manifest: &Manifest) -> Result<()> {
    backend.put(paths::MANIFEST, &manifest::encode(manifest))
}

pub(crate) fn discard_all(backend: &dyn Backend, names: &[String]) {
    for name in names {
        discard(backend, name);
    }
}

/// Removes a file that nothing names any more, of a snapshot the index too. If that fails it stays as garbage, which the next writer removes.
pub(crate) fn discard(backend: &dyn Backend, name: &str) {
    let index = paths::index_of(name);
    for name in std::iter::once(name).chain(index.as_deref()) {
        if let Err(error) = backend.delete(name)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, name, "a file that is no longer needed could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A log into which an agent's short ones were merged has the place of the first of them, and the time of the last.
    #[test]
    fn what_was_sealed_lately_is_kept_wherever_it_is_in_the_list() {
        let log = |path: &str, hours: i64| SealedLog {
            path: path.to_owned(),
            bytes: 10,
            seq: 0,
            ops: 1,
            sealed_at: time::format_timestamp(
                time::now() - jiff::SignedDuration::from_hours(hours),
            ),
            agent: None,
        };
        let mut sealed = vec![log("old", 9), log("merged", 0), log("b1", 4), log("b2", 3)];
        let gone = retain(&mut sealed, &Retention::Age(Duration::from_hours(2)));
        assert_eq!(gone, ["old"]);
    }
}
