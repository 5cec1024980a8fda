//! Reads a log and judges what is damaged: the table of `docs/format.md` §5.
//!
//! A *spot* is a place where good lines stop being contiguous: bad bytes, or a jump in the sequence. Its offset is the end of the last good line before
//! it. Only the last write of a log can be torn, and each line says at which offset its write began (`at`). So a good line behind a spot
//! decides: if its write began behind the spot, what is at the spot had been synced before, and is now damaged; if not, the line belongs to the same
//! write, and is held back until a later write, or the end of the log, decides.
//!
//! | # | found | verdict |
//! |---|---|---|
//! | 1 | all good, no jump | keep |
//! | 2 | blank lines behind the last good line | end of the log |
//! | 3 | good last line without its newline | keep, terminate |
//! | 4 | a spot with no good line behind it | torn |
//! | 5 | a spot, and all good lines behind it have `at` ≤ its offset | torn |
//! | 6 | a spot, and a good line behind it has a larger `at`, or none; or bad bytes that one flipped bit made of a good line; or a bad line whose checksum holds | damage |
//! | 7 | the log ends within a batch | torn, from the batch's first line |
//! | 8 | a batch with damaged lines | damage, the whole batch |
//!
//! Called by everything that reads logs: open, refresh, history, checkpoint. It changes nothing; `open` acts on the outcome.

use std::ops::Range;

use crate::Result;
use crate::backend::Object;
use crate::format::op_line::{self, BatchMark, Flaw, OpLine};
use crate::testing::{Bug, is_planted};

use super::{Lines, LogLine, rot};

/// From where to read, and which sequence number is due there (`None`: take the first one that comes).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) position: u64,
    pub(crate) seq: Option<u64>,
}

/// Whether bytes were lost that had been acknowledged.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// use opslog::DamageKind;
/// let lost = |damage: &&opslog::DamageReport| damage.kind == DamageKind::Damaged;
/// assert_eq!(store.open_report().damage.iter().filter(lost).count(), 0);
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    /// A write that a crash cut short, before it was acknowledged.
    Torn,
    /// Bytes that had been on stable storage and are not what was written.
    Damaged,
}

/// A part of a log that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) kind: DamageKind,
    pub(crate) range: Range<u64>,
    pub(crate) reason: String,
}

/// What reading a log came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Behind the last line that was kept (and its newline, if it has one): where the next line goes.
    pub(crate) end: u64,
    /// Where the write began that brought the last kept line: all before it was synced.
    pub(crate) last_write: u64,
    /// Whether the last kept line has its newline.
    pub(crate) terminated: bool,
    /// The number of the next operation.
    pub(crate) next_seq: u64,
    /// Operations kept.
    pub(crate) count: u64,
    pub(crate) damage: Vec<Damage>,
}

impl Outcome {
    /// Nothing read, before operation `next_seq`; `count` operations came from elsewhere.
    pub(crate) fn empty(next_seq: u64, count: u64) -> Self {
        Self {
            end: 0,
            last_write: 0,
            terminated: true,
            next_seq,
            count,
            damage: Vec::new(),
        }
    }
}

/// Reads `object` from `start` to its end and hands each line of each complete commit to `sink`, in order.
///
/// # Errors
///
/// Those of reading and of `sink`; damage is no error, but in the outcome.
pub(crate) fn read(
    object: &dyn Object,
    start: Start,
    sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
) -> Result<Outcome> {
    run(
        object,
        Lines::new(object, start.position),
        Judge::new(start),
        sink,
    )
}

/// As [`read`], of a log that has only lines without a gap behind `start`, and then padding, which is not read.
///
/// # Errors
///
/// As for `read`.
pub(crate) fn read_until_padding(
    object: &dyn Object,
    start: Start,
    sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
) -> Result<Outcome> {
    let lines = Lines::until_padding(object, start.position);
    run(object, lines, Judge::new(start), sink)
}

/// As [`read`], for a log that was closed or replaced: all of it had been synced, so nothing in it is torn.
///
/// # Errors
///
/// As for `read`.
pub(crate) fn read_sealed(
    object: &dyn Object,
    seq: u64,
    sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
) -> Result<Outcome> {
    let start = Start {
        position: 0,
        seq: Some(seq),
    };
    let judge = Judge {
        sealed: true,
        ..Judge::new(start)
    };
    run(object, Lines::new(object, start.position), judge, sink)
}

/// How often a place that looks damaged is read again.
const READS_AGAIN: u32 = 8;

fn run(
    object: &dyn Object,
    mut lines: Lines<'_>,
    mut judge: Judge,
    sink: Sink<'_>,
) -> Result<Outcome> {
    let mut read_again = (0, 0);
    loop {
        let Some(line) = lines.next()? else {
            return Ok(judge.finish());
        };
        if line.is_blank() {
            continue;
        }
        let op = match op_line::decode(line.bytes) {
            Ok(op) => op,
            Err(flaw) => {
                let rotten = judge.is_at_spot()
                    && (op_line::is_whole(line.bytes)
                        || rot::is_rotten(object, line.offset, line.bytes.len())?);
                judge.bad(line.offset, line.end(), &flaw, rotten);
                continue;
            }
        };
        judge.notice_jump(&op, line.offset);
        if let Some(spot) = judge.contradicted_spot(&op)
            && read_again != (spot, READS_AGAIN)
        {
            // A live writer may have filled the spot after it was read, since it writes in place; what lies behind it says that it is
            // filled by now, unless the writer has taken back and written again meanwhile. Only what stays bad is damage.
            let times = if read_again.0 == spot {
                read_again.1
            } else {
                0
            };
            read_again = (spot, times + 1);
            std::thread::yield_now();
            judge.back_to_spot();
            lines.go_to(spot);
            continue;
        }
        let end = line.end();
        let terminated = line.terminated;
        judge.good(line.bytes, line.offset, end, op, sink)?;
        judge.terminated = terminated;
    }
}

/// A place where good lines stop being contiguous.
struct Spot {
    offset: u64,
    /// Behind the last bad bytes seen there.
    end: u64,
    /// The number that was due there.
    due: Option<u64>,
    /// Whether the bytes there had been written whole: they have changed since, or never were an operation.
    rotten: bool,
    reason: String,
}

/// A line kept as bytes until it is decided whether it counts.
struct Held {
    raw: Vec<u8>,
    offset: u64,
    end: u64,
}

struct Judge {
    /// Whether all of the log had been synced: then nothing is torn.
    sealed: bool,
    /// Behind the last line that was judged good.
    end: u64,
    last_write: u64,
    terminated: bool,
    /// Number of the next line; `None` where bad bytes make it unknown.
    seq: Option<u64>,
    /// Number that a line without one gets.
    fallback_seq: u64,
    spot: Option<Spot>,
    held: Vec<Held>,
    batch: Vec<Held>,
    batch_seq: u64,
    count: u64,
    damage: Vec<Damage>,
}

type Sink<'s> = &'s mut dyn FnMut(&LogLine<'_>) -> Result<()>;

impl Judge {
    fn new(start: Start) -> Self {
        Self {
            sealed: false,
            end: start.position,
            last_write: start.position,
            terminated: true,
            seq: start.seq,
            fallback_seq: start.seq.unwrap_or(0),
            spot: None,
            held: Vec::new(),
            batch: Vec::new(),
            batch_seq: 0,
            count: 0,
            damage: Vec::new(),
        }
    }

    /// Whether a bad line that comes now begins a spot, of which it has to be told whether it is torn.
    fn is_at_spot(&self) -> bool {
        !self.sealed && self.spot.is_none()
    }

    fn bad(&mut self, offset: u64, end: u64, flaw: &Flaw, rotten: bool) {
        let reason = format!("{flaw}, at byte {offset}");
        self.see_spot(end, reason, rotten);
        self.seq = None;
    }

    fn see_spot(&mut self, end: u64, reason: String, rotten: bool) {
        match &mut self.spot {
            // Later flaws of the same write change nothing: it is cut at the first, or all of it is damage.
            Some(spot) => spot.end = end,
            None => {
                self.spot = Some(Spot {
                    offset: self.end,
                    end,
                    due: self.seq,
                    rotten,
                    reason,
                });
            }
        }
    }

    /// A good line whose number is not the one that was due shows that lines are missing before it.
    fn notice_jump(&mut self, op: &OpLine<'_>, offset: u64) {
        if let (Some(due), Some(seq)) = (self.seq, op.seq)
            && due != seq
        {
            let reason = format!("operation {seq} follows where {due} was due");
            self.see_spot(offset, reason, false);
        }
    }

    /// Where the spot is, if `op` was written after what is there had been synced.
    fn contradicted_spot(&self, op: &OpLine<'_>) -> Option<u64> {
        let spot = self.spot.as_ref()?;
        let same_write = !self.sealed
            && !spot.rotten
            && op.at.is_some_and(|at| at <= spot.offset)
            && !is_planted(Bug::LinesBehindTearKept);
        (!same_write).then_some(spot.offset)
    }

    /// Forgets everything from the spot on.
    fn back_to_spot(&mut self) {
        if let Some(spot) = self.spot.take() {
            self.seq = spot.due;
        }
        self.held.clear();
    }

    fn good(
        &mut self,
        raw: &[u8],
        offset: u64,
        end: u64,
        op: OpLine<'_>,
        sink: Sink<'_>,
    ) -> Result<()> {
        if self.contradicted_spot(&op).is_some() {
            self.settle_as_damage(sink)?;
        } else if self.spot.is_some() {
            self.seq = op.seq.map(|seq| seq + 1);
            self.held.push(Held {
                raw: raw.to_vec(),
                offset,
                end,
            });
            return Ok(());
        }
        self.accept(raw, offset, end, op, sink)
    }

    /// Row 6: a later write began behind the spot, so what is there had been synced, and the lines held back with it.
    fn settle_as_damage(&mut self, sink: Sink<'_>) -> Result<()> {
        let Some(spot) = self.spot.take() else {
            return Ok(());
        };
        self.damage.push(Damage {
            kind: DamageKind::Damaged,
            range: spot.offset..spot.end,
            reason: spot.reason,
        });
        self.leave_out_batch("a line of it is damaged");
        for held in std::mem::take(&mut self.held) {
            if let Ok(op) = op_line::decode(&held.raw) {
                self.accept(&held.raw, held.offset, held.end, op, sink)?;
            }
        }
        Ok(())
    }

    /// Row 8.
    fn leave_out_batch(&mut self, reason: &str) {
        if let (Some(first), Some(last)) = (self.batch.first(), self.batch.last()) {
            self.damage.push(Damage {
                kind: DamageKind::Damaged,
                range: first.offset..last.end,
                reason: format!(
                    "the batch of operation {} is left out: {reason}",
                    self.batch_seq
                ),
            });
        }
        self.batch.clear();
    }

    fn accept(
        &mut self,
        raw: &[u8],
        offset: u64,
        end: u64,
        op: OpLine<'_>,
        sink: Sink<'_>,
    ) -> Result<()> {
        let seq = op.seq.or(self.seq).unwrap_or(self.fallback_seq);
        self.seq = Some(seq + 1);
        self.fallback_seq = seq + 1;
        self.end = end;
        // The reference's lines do not say; it syncs nothing, so no sync of theirs can have failed.
        self.last_write = op.at.unwrap_or(end);
        let batch = op.batch.filter(|_| !is_planted(Bug::TornBatchApplied));
        let Some(BatchMark { index, count }) = batch else {
            self.leave_out_batch("its last lines are missing");
            self.count += 1;
            return sink(&LogLine {
                raw,
                offset,
                seq,
                op,
            });
        };
        // Of two damaged batches the start of one and the end of the other may fit together, but for their numbers.
        let due = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
        let continues = index == due && index > 0 && seq == self.batch_seq + u64::from(index);
        if !continues {
            self.leave_out_batch("its last lines are missing");
        }
        if index == 0 {
            self.batch_seq = seq;
        } else if !continues {
            self.damage.push(Damage {
                kind: DamageKind::Damaged,
                range: offset..end,
                reason: format!("operation {seq} is left out: its batch is not whole"),
            });
            return Ok(());
        }
        self.batch.push(Held {
            raw: raw.to_vec(),
            offset,
            end,
        });
        if index + 1 == count {
            self.emit_batch(sink)?;
        }
        Ok(())
    }

    fn emit_batch(&mut self, sink: Sink<'_>) -> Result<()> {
        let first = self.batch_seq;
        for (seq, held) in (first..).zip(std::mem::take(&mut self.batch)) {
            if let Ok(op) = op_line::decode(&held.raw) {
                self.count += 1;
                sink(&LogLine {
                    raw: &held.raw,
                    offset: held.offset,
                    seq,
                    op,
                })?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Outcome {
        let rotten = self.spot.as_ref().is_some_and(|spot| spot.rotten);
        let mut torn: Option<(u64, String)> =
            self.spot.take().map(|spot| (spot.offset, spot.reason));
        let mut next_seq = self.fallback_seq;
        if let Some(first) = self.batch.first() {
            // Row 7, also when a spot (rows 4 and 5) lies within the batch.
            torn = Some((first.offset, "the log ends within a batch".to_owned()));
            next_seq = self.batch_seq;
        }
        if let Some((offset, reason)) = torn {
            self.end = offset;
            self.terminated = true;
            let kind = if self.sealed || rotten {
                DamageKind::Damaged
            } else {
                DamageKind::Torn
            };
            self.damage.push(Damage {
                kind,
                range: offset..u64::MAX,
                reason,
            });
        }
        Outcome {
            last_write: self.last_write.min(self.end),
            end: self.end,
            terminated: self.terminated,
            next_seq,
            count: self.count,
            damage: self.damage,
        }
    }
}

#[cfg(test)]
mod tests;
