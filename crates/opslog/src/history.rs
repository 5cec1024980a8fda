//! The operations themselves: `history` of one document, `ops` since a time or a cursor, across checkpoints as far as logs are kept.

use std::sync::Arc;

use crate::backend::{Backend, Object};
use crate::document::Document;
use crate::engine::Engine;
use crate::format::manifest::Manifest;
use crate::op::{Cursor, Operation, Since};
use crate::oplog::{self, LogLine, Outcome, Start};
use crate::{Error, ErrorKind, Result, time};

/// How often a read starts over because a checkpoint replaced the logs meanwhile.
const TRIES: usize = 20;

/// A log as far as it counts.
pub(crate) struct Part {
    pub(crate) name: String,
    /// The number of its first operation.
    pub(crate) seq: u64,
    /// How many operations count; `None` for the active log.
    pub(crate) ops: Option<u64>,
    pub(crate) object: Box<dyn Object>,
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
pub(crate) fn open_logs(backend: &dyn Backend, manifest: &Manifest) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for log in manifest.ours.iter().flat_map(|ours| &ours.sealed) {
        parts.push(Part {
            name: log.path.clone(),
            seq: log.seq,
            ops: Some(log.ops),
            object: Box::new(Prefix {
                object: backend.open(&log.path)?,
                size: log.bytes,
            }),
        });
    }
    parts.push(Part {
        name: manifest.active_ops.clone(),
        seq: manifest.ours.as_ref().map_or(0, |ours| ours.log_seq),
        ops: None,
        object: backend.open(&manifest.active_ops)?,
    });
    Ok(parts)
}

impl Part {
    pub(crate) fn read(&self, sink: &mut dyn FnMut(&LogLine<'_>) -> Result<()>) -> Result<Outcome> {
        let start = Start {
            position: 0,
            seq: Some(self.seq),
        };
        oplog::read(&*self.object, start, sink).map_err(|error| error.at_path(&self.name))
    }

    /// Whether it may have operations from number `seq` on.
    fn reaches(&self, seq: u64) -> bool {
        self.ops.is_none_or(|ops| self.seq + ops > seq)
    }
}

impl<T: Document> Engine<T> {
    /// All kept operations of one document, oldest first.
    pub(crate) fn history(&self, id: &str) -> Result<Vec<Operation>> {
        let mut operations = Vec::new();
        for part in self.kept_logs()? {
            part.read(&mut |line| {
                if line.op.id == id {
                    operations.push(Operation::from_line(line)?);
                }
                Ok(())
            })?;
        }
        Ok(operations)
    }

    /// The kept operations after `since`, oldest first.
    pub(crate) fn ops(&self, since: Since) -> Result<Vec<Operation>> {
        let parts = self.kept_logs()?;
        let mut operations = Vec::new();
        match since {
            Since::Start | Since::Time(_) => {
                for part in &parts {
                    part.read(&mut |line| {
                        if is_after(line, since) {
                            operations.push(Operation::from_line(line)?);
                        }
                        Ok(())
                    })?;
                }
            }
            Since::Cursor(cursor) => {
                let mut found = false;
                for part in parts.iter().filter(|part| part.reaches(cursor.seq)) {
                    part.read(&mut |line| {
                        if line.seq > cursor.seq {
                            operations.push(Operation::from_line(line)?);
                        } else if line.seq == cursor.seq {
                            found = Cursor::at(line) == cursor;
                        }
                        Ok(())
                    })?;
                }
                if !found {
                    return Err(lost_cursor(
                        cursor,
                        parts.first().map_or(0, |part| part.seq),
                    ));
                }
            }
        }
        Ok(operations)
    }

    /// The kept logs, with everything that was accepted so far in them.
    pub(crate) fn kept_logs(&self) -> Result<Vec<Part>> {
        self.ensure_open()?;
        if !self.options.read_only && !self.options.write_mode.is_immediate() {
            drop(self.flush_queue(self.writer()?)?);
        }
        let mut tries = 0;
        loop {
            let manifest = self.manifest();
            match open_logs(&*self.backend, &manifest) {
                // A checkpoint came in between; its manifest is there when this is tried again.
                Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => {
                    tries += 1;
                    if self.options.read_only {
                        self.refresh()?;
                    } else if Arc::ptr_eq(&manifest, &self.manifest()) && tries > 1 {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
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
