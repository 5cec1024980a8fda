//! Reading the logs of a damaged store, one after the other.

use std::collections::HashMap;
use std::ops::Range;

use crate::Result;
use crate::backend::{Backend, Object};
use crate::format::manifest::SealedLog;
use crate::history::Prefix;
use crate::merge::Agent;
use crate::oplog::{self, Damage, DamageKind, LogLine, Outcome, SEARCHED_MAX, Start};
use crate::salvage::{self, Forbearing, Mended, Unreadable};

use super::sources::Sources;
use super::{LogPlan, RepairReport, whole};

/// Of a longer damaged part only so much is searched for ids.
const SEARCHED: u64 = 64 << 20;

/// A log of the store.
pub(super) struct LogSource {
    pub(super) name: String,
    /// Whose it is; `None` for one of the single writer.
    pub(super) agent: Option<Agent>,
    /// How many operations and bytes count of a replaced log.
    pub(super) sealed: Option<(u64, u64)>,
    pub(super) numbers: Numbers,
    /// The numbers that count: others are in a later log too, or were taken back there.
    pub(super) seqs: Range<u64>,
    /// Whether it is one that was being written when the snapshot was the current one.
    pub(super) is_active: bool,
    /// The number of the first of its operations that the snapshot does not contain.
    pub(super) cut: u64,
    /// Where that operation begins, or 0.
    pub(super) cut_offset: u64,
}

/// The number of the next operation of each writer.
pub(super) type NextSeqs = HashMap<Option<Agent>, u64>;

/// Which operations of a log count: those with numbers in a range, but a batch as a whole.
pub(super) struct Counting {
    seqs: Range<u64>,
    /// Whether the batch counts of which lines are coming.
    batch: bool,
    agent: Option<Agent>,
    clock: u64,
}

impl Counting {
    pub(super) fn new(seqs: Range<u64>, agent: Option<&Agent>) -> Self {
        Self {
            seqs,
            batch: false,
            agent: agent.cloned(),
            clock: 0,
        }
    }

    /// Why the line is none that the log's agent has written, if so. What has lost its checksum may read as a line of the reference, which writes to none of our agents' logs.
    pub(super) fn foreign(&mut self, line: &LogLine<'_>) -> Option<&'static str> {
        let agent = self.agent.as_deref()?;
        if line.op.seq.is_none() || line.op.agent.as_deref() != Some(agent) {
            return Some("the operation is not one of the log's agent");
        }
        match line.op.clock {
            Some(clock) if clock > self.clock => {
                self.clock = clock;
                None
            }
            _ => Some("the agent's clock does not go on"),
        }
    }

    pub(super) fn counts(&mut self, line: &LogLine<'_>) -> bool {
        if line.op.batch.is_none_or(|batch| batch.index == 0) {
            self.batch = self.seqs.contains(&line.seq);
        }
        self.batch
    }
}

/// How the operations of a log are numbered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// From here on, the manifest says.
    From(u64),
    /// As its lines say.
    Written,
    /// They have no numbers, and follow those of the log before.
    Following,
}

impl LogSource {
    /// Whether the operation is not in the snapshot.
    pub(super) fn follows(&self, seq: u64) -> bool {
        self.is_active && (self.numbers == Numbers::Following || seq >= self.cut)
    }
}

impl Sources {
    /// Hands every operation of every log to `sink`, each number of a writer once, in its order; returns what becomes of the logs, and the next numbers.
    pub(super) fn read_logs(
        &self,
        backend: &dyn Backend,
        report: &mut RepairReport,
        sink: &mut dyn FnMut(&LogSource, &LogLine<'_>) -> Result<()>,
    ) -> Result<(Vec<LogPlan>, NextSeqs)> {
        let mut plans = Vec::new();
        let mut nexts = NextSeqs::new();
        for log in &self.logs {
            let next = nexts.entry(log.agent.clone()).or_insert(match log.numbers {
                Numbers::From(seq) => seq,
                _ => 0,
            });
            let object = match backend.open(&log.name) {
                Ok(object) => object,
                Err(error) if error.is_not_found() => {
                    report.add(&log.name, DamageKind::Damaged, whole(0, "it is missing"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            plans.push(log.read(object, next, report, sink)?);
        }
        Ok((plans, nexts))
    }
}

impl LogSource {
    fn read(
        &self,
        object: Box<dyn Object>,
        next: &mut u64,
        report: &mut RepairReport,
        sink: &mut dyn FnMut(&LogSource, &LogLine<'_>) -> Result<()>,
    ) -> Result<LogPlan> {
        let due = *next;
        let start = match self.numbers {
            Numbers::From(seq) => Some(seq),
            Numbers::Written => None,
            Numbers::Following => Some(due),
        };
        let object = self.mend(self.counting(object), start, report)?;
        let seqs = due.max(self.seqs.start)..self.seqs.end;
        let mut counts = Counting::new(seqs.clone(), self.agent.as_ref());
        let (mut first, mut ops, mut skipped) = (None, 0, false);
        let mut sealed_at = String::new();
        let outcome = self.judge(&object, start, &mut |line| {
            if let Some(reason) = counts.foreign(line) {
                let part = Unreadable {
                    range: line.offset..line.offset + line.raw.len() as u64,
                    reason: reason.to_owned(),
                    ids: vec![line.op.id.to_string()],
                };
                report.add(&self.name, DamageKind::Damaged, part);
                skipped = true;
                return Ok(());
            }
            if !counts.counts(line) {
                skipped = true;
                return Ok(());
            }
            first.get_or_insert(line.seq);
            *next = line.seq + 1;
            ops += 1;
            line.op.ts.clone_into(&mut sealed_at);
            sink(self, line)
        })?;
        let damaged = |damage: &Damage| damage.kind == DamageKind::Damaged;
        let is_damaged = outcome.damage.iter().any(damaged);
        if !is_damaged && let Some(missing) = self.missing(due, first, outcome.count) {
            report.add(&self.name, DamageKind::Damaged, whole(0, &missing));
        }
        for damage in &outcome.damage {
            report.add(&self.name, damage.kind, unreadable(&object, damage)?);
        }
        let stays = !is_damaged && !skipped && object.patches.is_empty();
        let sound = first.filter(|_| stays).map(|seq| SealedLog {
            path: self.name.clone(),
            bytes: outcome.end,
            seq,
            ops,
            sealed_at,
            agent: self.agent.as_deref().map(str::to_owned),
        });
        Ok(LogPlan {
            name: self.name.clone(),
            agent: self.agent.clone(),
            bytes: outcome.end,
            seqs,
            ops,
            patches: object.patches,
            start,
            is_sealed: self.sealed.is_some(),
            sound,
        })
    }

    /// As much of the log as counts, with NUL where it cannot be read.
    fn counting(&self, object: Box<dyn Object>) -> Box<dyn Object> {
        let object = Box::new(Forbearing(object));
        match self.sealed {
            Some((_, size)) => Box::new(Prefix { object, size }),
            None => object,
        }
    }

    fn judge(
        &self,
        object: &dyn Object,
        start: Option<u64>,
        sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
    ) -> Result<Outcome> {
        judge(object, self.sealed.is_some(), start, sink)
    }

    /// The operations that the log lacks without a trace in it.
    fn missing(&self, due: u64, first: Option<u64>, count: u64) -> Option<String> {
        match (first, self.sealed) {
            (Some(first), _) if first > due && due > 0 => {
                Some(format!("operations {due} to {} are missing", first - 1))
            }
            (_, Some((ops, _))) if ops != count => {
                Some("operations at its end are missing".to_owned())
            }
            _ => None,
        }
    }

    /// The log as it was before single bits flipped in it.
    fn mend(
        &self,
        object: Box<dyn Object>,
        start: Option<u64>,
        report: &mut RepairReport,
    ) -> Result<Mended> {
        let outcome = self.judge(&*object, start, &mut |_| Ok(()))?;
        let mut patches = Vec::new();
        for damage in &outcome.damage {
            let mut part = unreadable(&*object, damage)?;
            let length = usize::try_from(part.range.end - part.range.start).unwrap_or(usize::MAX);
            if damage.kind == DamageKind::Torn || length > SEARCHED_MAX {
                continue;
            }
            let mut bytes = vec![0; length];
            object.read_at(part.range.start, &mut bytes)?;
            let Some((place, byte)) = oplog::flipped_bit(&bytes) else {
                continue;
            };
            let offset = part.range.start + place as u64;
            patches.push((offset, byte));
            if let Some(there) = bytes.get_mut(place) {
                *there = byte;
            }
            part.ids = salvage::ids_in(&bytes);
            part.reason = format!("one bit flipped, at byte {offset}; it is as it was again");
            report.recovered.extend(part.ids.iter().cloned());
            report.add(&self.name, DamageKind::Damaged, part);
        }
        Ok(Mended { object, patches })
    }
}

/// Reads a log, of which all had been synced or not.
pub(super) fn judge(
    object: &dyn Object,
    is_sealed: bool,
    start: Option<u64>,
    sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
) -> Result<Outcome> {
    if let (true, Some(seq)) = (is_sealed, start) {
        return oplog::read_sealed(object, seq, sink);
    }
    let start = Start {
        position: 0,
        seq: start,
    };
    oplog::read(object, start, sink)
}

/// A damaged part of a log with the ids in it.
fn unreadable(object: &dyn Object, damage: &Damage) -> Result<Unreadable> {
    let end = damage.range.end.min(object.size()?);
    let range = damage.range.start.min(end)..end;
    let length = (end - range.start).min(SEARCHED);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    let read = object.read_at(range.start, &mut bytes)?;
    bytes.truncate(read);
    Ok(Unreadable {
        range,
        reason: damage.reason.clone(),
        ids: salvage::ids_in(&bytes),
    })
}
