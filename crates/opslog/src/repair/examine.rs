//! What is readable of a damaged store, and what is to be made of it. Changes nothing.

use std::collections::HashMap;

use crate::backend::Backend;
use crate::document::Stored;
use crate::open::read_manifest;
use crate::oplog::{DamageKind, LogLine};
use crate::replay::replay;
use crate::salvage::{self, Forbearing, SnapshotRemains};
use crate::state::State;
use crate::{Error, ErrorKind, Result, load, paths, time, verify};

use super::agents::{Clocks, Registers};
use super::archives::Trail;
use super::history::{Bounds, History};
use super::logs::{LogSource, NextSeqs};
use super::sources::{Sources, confirmed};
use super::{LogPlan, Plan, RepairReport, whole};

/// Refuses to repair where there is nothing of a store.
pub(super) fn ensure_store(backend: &dyn Backend) -> Result<()> {
    for prefix in [
        paths::MANIFEST,
        paths::SNAPSHOTS,
        paths::OPS,
        paths::ARCHIVE,
    ] {
        let objects = backend.list(prefix)?;
        if objects.iter().any(|object| is_part_of_store(&object.name)) {
            return Ok(());
        }
    }
    Err(Error::not_found("there is no store here").at_path(backend.location()))
}

fn is_part_of_store(name: &str) -> bool {
    name == paths::MANIFEST
        || paths::parse_snapshot(name).is_some()
        || paths::parse_ops(name).is_some()
        || paths::parse_agent_ops(name).is_some()
        || paths::parse_archive(name).is_some()
}

/// Reads everything; `None` when there is nothing to repair.
pub(super) fn examine(backend: &dyn Backend) -> Result<Option<Plan>> {
    let mut report = RepairReport::default();
    let manifest = match read_manifest(backend) {
        Ok(Some(manifest)) => {
            match verify::check_all(backend, &manifest) {
                Ok(report) if report.is_sound() => return Ok(None),
                // A part that the storage does not give is damaged, too.
                Err(error) if error.kind() != ErrorKind::Unavailable => return Err(error),
                _ => {}
            }
            Some((manifest, true))
        }
        Ok(None) => {
            report.add(
                paths::MANIFEST,
                DamageKind::Damaged,
                whole(0, "it is missing"),
            );
            None
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let bytes = backend.read(paths::MANIFEST)?;
            let reason = whole(bytes.len() as u64, error.message());
            report.add(paths::MANIFEST, DamageKind::Damaged, reason);
            confirmed(backend, &bytes)?.map(|manifest| (manifest, false))
        }
        Err(error) => return Err(error),
    };
    let sources = match manifest {
        Some((manifest, is_certain)) => Sources::named_by(backend, manifest, is_certain)?,
        None => Sources::found_in(backend)?,
    };
    sources.examine(backend, report).map(Some)
}

impl Sources {
    fn examine(self, backend: &dyn Backend, mut report: RepairReport) -> Result<Plan> {
        let mut remove = Vec::new();
        if self.manifest.is_none() || !report.unreadable.is_empty() {
            remove.push(paths::MANIFEST.to_owned());
        }
        let (remains, is_sound) = self.read_snapshot(backend, &mut report, &mut remove)?;
        let mut registers = self.read_registers(backend, &remains, &mut report, &mut remove)?;
        let mut archives = self.read_archives(backend, &mut report, &mut remove)?;
        let trail = archives.trail();
        let Heard {
            history,
            trail,
            clocks,
            logs,
            nexts,
        } = self.hear(backend, &mut report, is_sound, registers.as_mut(), trail)?;
        let bounds = self.bounds(&remains);
        let all_told = is_sound || registers.is_none() && history.tells_all(&remains, bounds);
        let mut documents = if let Some(registers) = &mut registers {
            registers.compose(&remains, is_sound, archives.documents(), &mut report)
        } else if is_sound {
            in_order(&remains.documents)
        } else {
            history.compose(&remains, bounds, &archives.away(), &mut report)
        };
        let mut pending = self.pending(&report, all_told, &documents);
        let written_by = registers.as_ref();
        documents = self.merge(backend, written_by, documents, &mut pending, &mut report)?;
        if let Some(trail) = &trail {
            let texts = self.manifest.as_ref().map(|_| bounds.texts);
            archives.mend(trail, texts, &documents, &mut remove, &mut report);
        }
        report.lost.extend(pending.0.into_keys());
        report.sort_ids();
        for log in &logs {
            if log.sound.is_none() && backend.open(&log.name).is_ok() {
                remove.push(log.name.clone());
            }
            report.operations += log.ops;
        }
        report.documents = documents.len() as u64;
        let manifest = self.manifest.as_ref();
        let ours = manifest.and_then(|manifest| manifest.ours.as_ref());
        remove.extend_from_slice(&self.unused);
        let now = time::format_timestamp(jiff::Timestamp::now());
        let (agents, clock) = match &registers {
            Some(registers) => clocks.agents(manifest, &nexts, registers.clock(), &report, &now),
            None => (Vec::new(), 0),
        };
        let version = manifest.map(|manifest| manifest.version);
        let version = version.or(remains.version).unwrap_or(1);
        let created = manifest.map(|manifest| manifest.stats.created.clone());
        let created = created.or(remains.timestamp).unwrap_or(now);
        let next_seq = nexts.get(&None).copied().unwrap_or(0);
        let superseded = self.superseded(is_sound, registers.as_ref(), &mut remove);
        Ok(Plan {
            report,
            version,
            created,
            generation: ours.map_or(0, |ours| ours.generation),
            documents,
            logs,
            archives: archives.plans(),
            remove,
            superseded,
            next_seq: next_seq.max(ours.map_or(0, |ours| ours.log_seq)),
            agents,
            clock,
        })
    }

    /// Reads all operations, for those who have something to learn from them.
    fn hear(
        &self,
        backend: &dyn Backend,
        report: &mut RepairReport,
        is_sound: bool,
        mut registers: Option<&mut Registers>,
        mut trail: Option<Trail>,
    ) -> Result<Heard> {
        let known = registers
            .as_ref()
            .map(|registers| registers.known(is_sound));
        let mut history = History::default();
        let mut clocks = Clocks::default();
        let (logs, nexts) = self.read_logs(backend, report, &mut |log, line| {
            if let Some(trail) = &mut trail {
                trail.hear(self.turn_of(log), log, line);
            }
            clocks.hear(log, line);
            if let (Some(registers), Some(known)) = (&mut registers, &known) {
                registers.hear(self.turn_of(log), log, line, known);
            } else if !is_sound && !log.follows(line.seq) {
                history.hear(line)?;
            }
            Ok(())
        })?;
        Ok(Heard {
            history,
            trail,
            clocks,
            logs,
            nexts,
        })
    }

    /// The documents with all that was written beyond the snapshot.
    fn merge(
        &self,
        backend: &dyn Backend,
        registers: Option<&Registers>,
        mut documents: State<()>,
        pending: &mut Pending,
        report: &mut RepairReport,
    ) -> Result<State<()>> {
        if let Some(registers) = registers {
            documents = self.merge_agents(backend, registers, documents, pending, report)?;
        }
        self.read_logs(backend, &mut RepairReport::default(), &mut |log, line| {
            if log.agent.is_some() || !log.follows(line.seq) {
                return Ok(());
            }
            pending.pass(self, log, line);
            replay(&mut documents, line.op.kind, &line.op.id, line.op.data)
        })?;
        Ok(documents)
    }

    /// Merges what agents have written beyond the snapshot; the answer is a state without registers.
    fn merge_agents(
        &self,
        backend: &dyn Backend,
        registers: &Registers,
        mut documents: State<()>,
        pending: &mut Pending,
        report: &mut RepairReport,
    ) -> Result<State<()>> {
        self.read_logs(backend, &mut RepairReport::default(), &mut |log, line| {
            if log.agent.is_some() && log.follows(line.seq) {
                pending.pass(self, log, line);
                registers.merge(&mut documents, log, line, report);
            }
            Ok(())
        })?;
        documents.settle();
        let frozen = documents.freeze();
        let mut plain = State::with_capacity(frozen.len());
        for document in frozen.resident() {
            plain.put(document.clone(), false);
        }
        Ok(plain)
    }

    /// The sound files of the snapshot, whose content goes to new ones; where its stamps are lost it goes to `remove`, so that it is kept, since what is newer than its documents had to
    /// be guessed.
    fn superseded(
        &self,
        is_sound: bool,
        registers: Option<&Registers>,
        remove: &mut Vec<String>,
    ) -> Vec<String> {
        let mut superseded = Vec::new();
        if let Some(snapshot) = self.snapshot.as_ref().filter(|_| is_sound) {
            let is_guessed =
                self.stamps.name().is_some() && !registers.is_some_and(Registers::has_stamps);
            let list = if is_guessed {
                &mut *remove
            } else {
                &mut superseded
            };
            list.push(snapshot.clone());
        }
        superseded.extend(self.stamps.name().filter(|name| !remove.contains(name)));
        superseded
    }

    /// The ids of documents that damage may have taken, as far as the snapshot and the operations before have told; each with the log and the offset where it was last lost.
    fn pending(&self, report: &RepairReport, all_told: bool, documents: &State<()>) -> Pending {
        let mut pending = HashMap::new();
        for part in &report.unreadable {
            let path = &part.place.path;
            let log = self.place_of(path);
            let end = part.place.offset.saturating_add(part.place.bytes);
            let is_active = log
                .and_then(|log| self.logs.get(log))
                .is_some_and(|log| log.is_active && (log.cut_offset == 0 || end > log.cut_offset));
            let torn = part.place.kind == DamageKind::Torn;
            let in_snapshot = !all_told && self.snapshot.as_ref() == Some(path);
            for id in &part.ids {
                let is_here = matches!(documents.get(id), Ok(Some(_)));
                if is_active && !torn || in_snapshot && !is_here {
                    pending.insert(id.clone(), (log, part.place.offset));
                }
            }
        }
        Pending(pending)
    }

    /// Which of the turns of single writers and of agents the log is of.
    fn turn_of(&self, log: &LogSource) -> usize {
        let until = self.place_of(&log.name).unwrap_or(0);
        let before = self.logs.get(..=until).unwrap_or_default();
        let changes = before.windows(2).filter(
            |pair| matches!(pair, [one, next] if one.agent.is_some() != next.agent.is_some()),
        );
        changes.count()
    }

    /// Which log it is; those of no log come before all.
    fn place_of(&self, name: &str) -> Option<usize> {
        self.logs.iter().position(|log| log.name == name)
    }

    /// What, besides operations, may have changed the documents of the snapshot.
    fn bounds(&self, remains: &SnapshotRemains) -> Bounds {
        let cut = self.cut;
        let Some(manifest) = &self.manifest else {
            let is_first = self.archives.is_empty() && remains.version == Some(1);
            let floor = if is_first { 0 } else { u64::MAX };
            return Bounds {
                floor,
                texts: floor,
                cut,
                documents: None,
            };
        };
        let ours = manifest.ours.as_ref();
        let floor = ours.map_or(u64::MAX, |ours| ours.undo_floor);
        let facts = ours.map(|ours| ours.snapshot);
        Bounds {
            floor,
            // A store of the first version has never been migrated.
            texts: if manifest.version == 1 && ours.is_some() {
                0
            } else {
                floor
            },
            cut,
            documents: facts
                .filter(|facts| facts.bytes > 0)
                .map(|facts| facts.documents),
        }
    }

    /// Reads the snapshot, and says whether it is known to be what was written.
    fn read_snapshot(
        &self,
        backend: &dyn Backend,
        report: &mut RepairReport,
        remove: &mut Vec<String>,
    ) -> Result<(SnapshotRemains, bool)> {
        let Some(name) = &self.snapshot else {
            report.add(
                paths::SNAPSHOTS,
                DamageKind::Damaged,
                whole(0, "there is no snapshot"),
            );
            return Ok((SnapshotRemains::default(), false));
        };
        let mut remains = match backend.open(name) {
            Ok(object) => salvage::snapshot(&Forbearing(object))?,
            Err(error) if error.is_not_found() => {
                report.add(name, DamageKind::Damaged, whole(0, "it is missing"));
                return Ok((SnapshotRemains::default(), false));
            }
            Err(error) => return Err(error),
        };
        let manifest = self.manifest.as_ref();
        let facts = manifest.and_then(|manifest| manifest.ours.as_ref().map(|ours| ours.snapshot));
        let fewest = manifest.map_or(0, load::fewest_documents);
        let is_sound = match facts.filter(|facts| facts.bytes > 0) {
            Some(facts) => {
                let same = facts.bytes == remains.bytes && facts.crc == remains.crc;
                if !same && remains.unreadable.is_empty() {
                    let reason = "its checksum does not match its content";
                    report.add(name, DamageKind::Damaged, whole(remains.bytes, reason));
                }
                same && remains.unreadable.is_empty()
            }
            // The reference keeps no checksum: a line that is one is believed.
            None => manifest.is_some() && remains.unreadable.is_empty(),
        };
        let is_sound = is_sound
            && match remains.miscounted(fewest, facts.is_some()) {
                None => true,
                Some(reason) => {
                    report.add(name, DamageKind::Damaged, whole(remains.bytes, &reason));
                    false
                }
            };
        for part in std::mem::take(&mut remains.unreadable) {
            report.add(name, DamageKind::Damaged, part);
        }
        if !is_sound {
            remove.push(name.clone());
        }
        let index = manifest.map(|manifest| verify::check_index(backend, manifest));
        for damage in index
            .transpose()?
            .flatten()
            .into_iter()
            .flat_map(|check| check.damage)
        {
            let part = whole(damage.bytes, &damage.reason);
            report.add(&damage.path, DamageKind::Damaged, part);
        }
        Ok((remains, is_sound))
    }
}

/// What all operations have told.
struct Heard {
    history: History,
    trail: Option<Trail>,
    clocks: Clocks,
    logs: Vec<LogPlan>,
    nexts: NextSeqs,
}

/// Documents that damage may have taken: with the log, if any, and the offset where they were last lost.
struct Pending(HashMap<String, (Option<usize>, u64)>);

impl Pending {
    /// A later operation of the same writer says what has become of its document.
    fn pass(&mut self, sources: &Sources, log: &LogSource, line: &LogLine<'_>) {
        let Some((place, offset)) = self.0.get(&*line.op.id) else {
            return;
        };
        let lost_by = place.and_then(|place| sources.logs.get(place));
        let same_writer = match lost_by {
            Some(lost_by) => lost_by.agent == log.agent,
            None => log.agent.is_none(),
        };
        if same_writer && (*place, *offset) <= (sources.place_of(&log.name), line.offset) {
            self.0.remove(&*line.op.id);
        }
    }
}

fn in_order(documents: &[(String, String)]) -> State<()> {
    let mut state = State::with_capacity(documents.len());
    for (id, data) in documents {
        state.put(Stored::new(id, data), true);
    }
    state
}
