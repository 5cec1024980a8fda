//! The operations themselves: `history` of one document, `ops` since a time or a cursor, across checkpoints as far as logs are kept.

use std::sync::atomic::Ordering;

use crate::backend::{Backend, Object};
use crate::document::Document;
use crate::engine::{Engine, lock};
use crate::format::manifest::Manifest;
use crate::op::{Cursor, Operation, Since};
use crate::open::missing_file_is_damage;
use crate::oplog::{self, LogLine, Start};
use crate::{Error, ErrorKind, Result, time};

/// How often a read starts over because a checkpoint replaced the logs meanwhile.
const TRIES: usize = 20;

/// A kept log, as far as it counts.
pub(crate) struct Part {
    pub(crate) name: String,
    /// The number of its first operation.
    pub(crate) seq: u64,
    /// How many operations and bytes count; `None` for the active log.
    pub(crate) sealed: Option<(u64, u64)>,
    /// Operations from this number on are in the log, but not settled, and do not count.
    pub(crate) settled_seq: u64,
}

/// The first `size` bytes of an object.
struct Prefix {
    object: Box<dyn Object>,
    size: u64,
}

impl Object for Prefix {
    fn size(&self) -> Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        self.object.read_at(offset, buffer)
    }
}

/// The kept logs of `manifest`, oldest first, the active one last.
pub(crate) fn kept_logs(manifest: &Manifest) -> Vec<Part> {
    let ours = manifest.ours.as_ref();
    let sealed = ours.into_iter().flat_map(|ours| &ours.sealed);
    let mut parts: Vec<Part> = sealed
        .map(|log| Part {
            name: log.path.clone(),
            seq: log.seq,
            sealed: Some((log.ops, log.bytes)),
            settled_seq: u64::MAX,
        })
        .collect();
    parts.push(Part {
        name: manifest.active_ops.clone(),
        seq: ours.map_or(0, |ours| ours.log_seq),
        sealed: None,
        settled_seq: u64::MAX,
    });
    parts
}

impl Part {
    pub(crate) fn open(&self, backend: &dyn Backend) -> Result<Box<dyn Object>> {
        let object = backend.open(&self.name)?;
        Ok(match self.sealed {
            Some((_, size)) => Box::new(Prefix { object, size }),
            None => object,
        })
    }

    /// Hands each operation to `sink`. Damage in a replaced log is left out, and said in the log of `tracing`.
    pub(crate) fn read(
        &self,
        backend: &dyn Backend,
        sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>,
    ) -> Result<()> {
        let object = self.open(backend)?;
        if self.sealed.is_none() {
            let start = Start {
                position: 0,
                seq: Some(self.seq),
            };
            let mut settled = |line: &LogLine<'_>| {
                if line.seq < self.settled_seq {
                    sink(line)?;
                }
                Ok(())
            };
            return oplog::read(&*object, start, &mut settled)
                .map(drop)
                .map_err(|error| error.at_path(&self.name));
        }
        let outcome = oplog::read_sealed(&*object, self.seq, sink)
            .map_err(|error| error.at_path(&self.name))?;
        for damage in outcome.damage {
            tracing::warn!(
                path = self.name,
                offset = damage.range.start,
                reason = damage.reason,
                "a part of the history is damaged and left out"
            );
        }
        Ok(())
    }

    /// Whether it may have operations from number `seq` on.
    pub(crate) fn reaches(&self, seq: u64) -> bool {
        self.sealed.is_none_or(|(ops, _)| self.seq + ops > seq)
    }
}

impl<T: Document> Engine<T> {
    /// All kept operations of one document, oldest first.
    pub(crate) fn history(&self, id: &str) -> Result<Vec<Operation>> {
        self.with_kept_logs(|parts| {
            let mut operations = Vec::new();
            for part in parts {
                part.read(&*self.backend, &mut |line| {
                    if line.op.id == id {
                        operations.push(Operation::from_line(line)?);
                    }
                    Ok(())
                })?;
            }
            Ok(operations)
        })
    }

    /// The kept operations after `since`, oldest first.
    pub(crate) fn ops(&self, since: Since) -> Result<Vec<Operation>> {
        self.with_kept_logs(|parts| match since {
            Since::Start | Since::Time(_) => self.ops_by_time(parts, since),
            Since::Cursor(cursor) => self.ops_behind(parts, cursor),
        })
    }

    fn ops_by_time(&self, parts: &[Part], since: Since) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        for part in parts {
            part.read(&*self.backend, &mut |line| {
                if is_after(line, since) {
                    operations.push(Operation::from_line(line)?);
                }
                Ok(())
            })?;
        }
        Ok(operations)
    }

    fn ops_behind(&self, parts: &[Part], cursor: Cursor) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        let mut found = false;
        for part in parts.iter().filter(|part| part.reaches(cursor.seq)) {
            part.read(&*self.backend, &mut |line| {
                if line.seq > cursor.seq {
                    operations.push(Operation::from_line(line)?);
                } else if line.seq == cursor.seq {
                    found = Cursor::at(line) == cursor;
                }
                Ok(())
            })?;
        }
        if found {
            return Ok(operations);
        }
        Err(lost_cursor(
            cursor,
            parts.first().map_or(0, |part| part.seq),
        ))
    }

    /// Calls `read` with the kept logs, which have everything that was accepted so far; again when a checkpoint removed one of them meanwhile.
    fn with_kept_logs<R>(&self, mut read: impl FnMut(&[Part]) -> Result<R>) -> Result<R> {
        self.ensure_open()?;
        self.settle_for_reading()?;
        let mut tries = 0;
        loop {
            let manifest = self.current_manifest()?;
            tries += 1;
            let mut parts = kept_logs(&manifest);
            if let Some(active) = parts.last_mut() {
                active.settled_seq = self.settled_seq();
            }
            match read(&parts) {
                Err(error)
                    if error.path().is_some()
                        && error.kind() == ErrorKind::NotFound
                        && tries < TRIES => {}
                result => return result.map_err(missing_file_is_damage),
            }
        }
    }
}

impl<T: Document> Engine<T> {
    /// Writes to the log what is visible and still buffered, so that it can be read there. A poisoned store shows what it has.
    pub(crate) fn settle_for_reading(&self) -> Result<()> {
        let buffers = !self.options.read_only && !self.options.write_mode.is_immediate();
        // A batch began with everything written, and its thread has the writer lock.
        if !buffers || self.is_batching() {
            return Ok(());
        }
        match self.flush_queue(lock(&self.writer)) {
            Err(error) if error.kind() != ErrorKind::Poisoned => Err(error),
            _ => Ok(()),
        }
    }

    /// The number of the first operation that may not be shown yet: what is being written is not visible before it is durable, and what a failed sync
    /// left in the log never is.
    pub(crate) fn settled_seq(&self) -> u64 {
        if self.options.read_only {
            return u64::MAX;
        }
        self.settled_seq.load(Ordering::Acquire)
    }
}

pub(crate) fn is_after(line: &LogLine<'_>, since: Since) -> bool {
    match since {
        Since::Start => true,
        Since::Time(time) => time::parse_timestamp(line.op.ts).is_some_and(|ts| ts > time),
        Since::Cursor(cursor) => line.seq > cursor.seq,
    }
}

fn lost_cursor(cursor: Cursor, first: u64) -> Error {
    if cursor.seq < first {
        return Error::not_found(format!(
            "operation {} is older than what is kept; start over from the documents",
            cursor.seq
        ));
    }
    Error::new(
        ErrorKind::Conflict,
        format!(
            "operation {} was taken back since the cursor was made; start over from the documents or an older cursor",
            cursor.seq
        ),
    )
}
