//! Carrying out a plan: new files beside the old ones, then the manifest, then the old ones go.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::backend::{Backend, ObjectWriter};
use crate::backup::for_each_piece;
use crate::checkpoint::{
    create_log, discard, discard_all, next_free, nonce, put_manifest, write_snapshot,
};
use crate::format::manifest::{ArchiveFacts, Manifest, Ours, SealedLog, Stats};
use crate::format::{archive, op_line};
use crate::history::Prefix;
use crate::oplog::LogLine;
use crate::options::Residency;
use crate::salvage::{Forbearing, Mended};
use crate::sealed::MERGES_MAX;
use crate::{Error, ErrorKind, Result, paths, time, verify};

use super::logs::{Counting, judge};
use super::{ArchivePlan, LogPlan, Plan, RepairReport};

const PIECE: usize = 1 << 20;

/// Makes the store what `plan` says.
///
/// # Errors
///
/// Those of reading and writing: then the store is what it was, but for the copies in `.damaged` files.
pub(super) fn apply(backend: &dyn Backend, plan: Plan) -> Result<RepairReport> {
    let mut work = Work {
        backend,
        new_files: Vec::new(),
    };
    let (manifest, replaced, report) = work
        .prepare(plan)
        .inspect_err(|_| discard_all(backend, &work.new_files))?;
    // If this fails, both the old and the new files stay, since it is not known which of them the manifest names.
    put_manifest(backend, &manifest)?;
    for name in replaced {
        discard(backend, &name);
    }
    Ok(report)
}

struct Work<'b> {
    backend: &'b dyn Backend,
    new_files: Vec<String>,
}

impl Work<'_> {
    /// Writes everything but the manifest, and checks it.
    fn prepare(&mut self, plan: Plan) -> Result<(Manifest, Vec<String>, RepairReport)> {
        let Plan {
            mut report,
            version,
            created,
            generation,
            documents,
            logs,
            archives,
            remove,
            superseded: mut replaced,
            next_seq,
            agents,
            clock,
        } = plan;
        let backend = self.backend;
        for name in remove {
            if let Some(kept) = keep(backend, &name)? {
                report.kept.push(kept);
            }
            if name != paths::MANIFEST {
                replaced.push(name);
            }
        }
        let sealed = self.write_logs(logs, &mut replaced)?;
        let frozen = documents.freeze();
        let snapshot = write_snapshot(
            backend,
            self.newest()?,
            version,
            Residency::Memory,
            frozen.iter(),
        )?;
        self.new_files.push(snapshot.name.clone());
        let (active_ops, _) = create_log(backend, self.newest()?)?;
        self.new_files.push(active_ops.clone());
        let archives = self.write_archives(version, archives)?;
        let now = time::format_timestamp(Timestamp::now());
        let manifest = Manifest {
            version,
            current_snapshot: snapshot.name,
            active_ops,
            active_agent_ops: None,
            archive_segments: archives.iter().map(|facts| facts.path.clone()).collect(),
            stats: Stats {
                active_records: snapshot.facts.documents,
                archived_records: archives.iter().map(|facts| facts.documents).sum(),
                ops_count: 0,
                created,
                last_checkpoint: now,
            },
            ours: Some(Ours {
                generation: generation + 1,
                nonce: nonce(),
                snapshot: snapshot.facts,
                log_seq: next_seq,
                sealed,
                archives,
                undo_floor: next_seq,
                clock,
                agents,
                ..Ours::default()
            }),
        };
        let check = verify::check_all(backend, &manifest)?;
        if let Some(damage) = check.files.iter().flat_map(|file| &file.damage).next() {
            return Err(Error::corrupt(format!(
                "what the repair has written does not read as it should, so nothing was changed: {}",
                damage.reason
            ))
            .at_path(&damage.path)
            .at_offset(damage.offset));
        }
        Ok((manifest, replaced, report))
    }

    /// The greatest number of a snapshot or log.
    fn newest(&self) -> Result<Option<u64>> {
        let mut objects = self.backend.list(paths::SNAPSHOTS)?;
        objects.extend(self.backend.list(paths::OPS)?);
        let newest = objects.iter().filter_map(|object| {
            let name = &object.name;
            let of_agent = || paths::parse_agent_ops(name).map(|(_, milliseconds)| milliseconds);
            paths::parse_snapshot(name)
                .or_else(|| paths::parse_ops(name))
                .or_else(of_agent)
        });
        Ok(newest.max())
    }

    /// The greatest number of a log of this writer.
    fn newest_log(&self, agent: Option<&str>) -> Result<Option<u64>> {
        let objects = self.backend.list(paths::OPS)?;
        let newest = objects.iter().filter_map(|object| match agent {
            None => paths::parse_ops(&object.name),
            Some(agent) => paths::parse_agent_ops(&object.name)
                .filter(|(of, _)| *of == agent)
                .map(|(_, milliseconds)| milliseconds),
        });
        Ok(newest.max())
    }

    /// Of each writer, leaves the sound logs as they are, up to the first one that is not; copies the operations from there on to new logs, each without a gap. So the order of the
    /// names stays that of the operations.
    fn write_logs(
        &mut self,
        logs: Vec<LogPlan>,
        replaced: &mut Vec<String>,
    ) -> Result<Vec<SealedLog>> {
        let mut sealed = Vec::new();
        let mut copying = HashSet::new();
        for log in logs {
            match log.sound {
                Some(sound) if !copying.contains(&log.agent) => sealed.push(sound),
                _ => {
                    if log.ops > 0 {
                        copying.insert(log.agent.clone());
                        self.copy_log(&log, &mut sealed)?;
                    }
                    if !replaced.contains(&log.name) {
                        replaced.push(log.name);
                    }
                }
            }
        }
        Ok(sealed)
    }

    fn copy_log(&mut self, log: &LogPlan, sealed: &mut Vec<SealedLog>) -> Result<()> {
        let object = Mended {
            object: Box::new(Prefix {
                object: Box::new(Forbearing(self.backend.open(&log.name)?)),
                size: log.bytes,
            }),
            patches: log.patches.clone(),
        };
        let mut counts = Counting::new(log.seqs.clone(), log.agent.as_ref());
        let mut part: Option<NewLog> = None;
        judge(&object, log.is_sealed, log.start, &mut |line| {
            if counts.foreign(line).is_some() || !counts.counts(line) {
                return Ok(());
            }
            if let Some(done) = part.take_if(|part| part.facts.seq + part.facts.ops != line.seq) {
                sealed.push(done.finish()?);
            }
            if part.is_none() {
                let new = self.new_log(log.agent.as_deref(), line.seq)?;
                self.new_files.push(new.facts.path.clone());
                part = Some(new);
            }
            part.as_mut().map_or(Ok(()), |part| part.add(line))
        })?;
        if let Some(done) = part {
            sealed.push(done.finish()?);
        }
        Ok(())
    }

    fn new_log(&self, agent: Option<&str>, seq: u64) -> Result<NewLog> {
        let before = self.newest_log(agent)?.map(|newest| newest + MERGES_MAX);
        let (path, file) = next_free(before, |milliseconds| {
            let path = match agent {
                None => paths::ops(milliseconds),
                Some(agent) => paths::agent_ops(agent, milliseconds),
            };
            self.backend.create(&path).map(|file| (path, file))
        })?;
        Ok(NewLog {
            file,
            buffer: Vec::new(),
            facts: SealedLog {
                path,
                bytes: 0,
                seq,
                ops: 0,
                sealed_at: String::new(),
                agent: agent.map(str::to_owned),
            },
        })
    }

    fn write_archives(
        &mut self,
        version: u32,
        plans: Vec<ArchivePlan>,
    ) -> Result<Vec<ArchiveFacts>> {
        let mut archives = Vec::new();
        for plan in plans {
            let (path, period, timestamp, documents) = match plan {
                ArchivePlan::Keep(facts) => {
                    archives.push(facts);
                    continue;
                }
                ArchivePlan::Rewrite {
                    path,
                    period,
                    timestamp,
                    documents,
                } => (path, period, timestamp, documents),
            };
            let timestamp = if timestamp.is_empty() {
                time::format_timestamp(Timestamp::now())
            } else {
                timestamp
            };
            let pairs = documents
                .iter()
                .map(|(id, data)| (id.as_str(), data.as_str()));
            let bytes = archive::encode(version, &period, &timestamp, pairs);
            let before = paths::parse_archive(&path).and_then(|(_, milliseconds)| milliseconds);
            let path = next_free(before, |milliseconds| {
                let path = paths::archive(&period, Some(milliseconds));
                let mut file = self.backend.create(&path)?;
                file.write(&bytes)?;
                file.finish().map(|()| path)
            })?;
            self.new_files.push(path.clone());
            archives.push(ArchiveFacts {
                path,
                bytes: bytes.len() as u64,
                crc: crc32c::crc32c(&bytes),
                documents: documents.len() as u64,
            });
        }
        Ok(archives)
    }
}

/// A log being written.
struct NewLog {
    file: Box<dyn ObjectWriter>,
    buffer: Vec<u8>,
    facts: SealedLog,
}

impl NewLog {
    fn add(&mut self, line: &LogLine<'_>) -> Result<()> {
        let begin = self.buffer.len();
        self.buffer.extend_from_slice(op_line::body(line.raw));
        op_line::encode_trailer(&mut self.buffer, begin, line.seq, 0);
        self.facts.ops += 1;
        line.op.ts.clone_into(&mut self.facts.sealed_at);
        if self.buffer.len() >= PIECE {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        self.facts.bytes += self.buffer.len() as u64;
        self.file.write(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<SealedLog> {
        self.write()?;
        self.file.finish()?;
        Ok(self.facts)
    }
}

/// Copies `name` to a `.damaged` file, and says to which; `None` if there is nothing in it.
fn keep(backend: &dyn Backend, name: &str) -> Result<Option<String>> {
    let object = match backend.open(name) {
        Ok(object) => Forbearing(object),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = crate::backend::Object::size(&object)?;
    let mut means_something = false;
    for_each_piece(&object, size, |piece| {
        means_something |= piece.iter().any(|byte| !matches!(byte, b'\n' | 0));
        Ok(())
    })?;
    if !means_something {
        return Ok(None);
    }
    let mut number = 1;
    let (kept, mut file) = loop {
        let kept = paths::damaged_again(name, number);
        match backend.create(&kept) {
            Err(error) if error.kind() == ErrorKind::Conflict => number += 1,
            created => break (kept, created?),
        }
    };
    for_each_piece(&object, size, |piece| file.write(piece))?;
    file.finish()?;
    Ok(Some(kept))
}
