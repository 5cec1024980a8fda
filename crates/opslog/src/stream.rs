//! The current snapshot and the operations after it, one item in memory at a time, through whichever backend is in use.

use std::collections::{HashSet, VecDeque};
use std::path::Path;

use crate::backend::{Backend, FsBackend, Object};
use crate::document::{Document, Json};
use crate::engine::Engine;
use crate::format::manifest::{FileFacts, Manifest};
use crate::format::{json, snapshot};
use crate::history::is_after;
use crate::op::{Operation, Since};
use crate::oplog::{self, Start};
use crate::{Error, ErrorKind, Result, load};

const PIECE: usize = 1 << 20;
/// How often opening starts over because a checkpoint replaced the file.
const TRIES: usize = 20;

/// The documents of a snapshot, in insertion order; see [`Store::stream_snapshot`](crate::Store::stream_snapshot).
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// store.compact()?;
/// assert_eq!(store.stream_snapshot()?.count(), 1);
/// # Ok::<(), opslog::Error>(())
/// ```
pub struct SnapshotStream {
    object: Box<dyn Object>,
    name: String,
    version: u32,
    buffer: Vec<u8>,
    start: usize,
    /// Offset in the file of what follows the buffer.
    position: u64,
    at_end: bool,
    /// What the manifest says of the file, and the checksum of what was read of it.
    facts: Option<FileFacts>,
    crc: u32,
    /// The documents of a legacy snapshot, which is one JSON object and has to be read whole.
    legacy: VecDeque<(String, String)>,
}

impl SnapshotStream {
    /// With `facts` the stream ends with an error where the file is not the one that they are of.
    pub(crate) fn open(
        backend: &dyn Backend,
        name: &str,
        facts: Option<FileFacts>,
    ) -> Result<Self> {
        let object = backend.open(name)?;
        let mut stream = Self {
            object,
            name: name.to_owned(),
            version: 1,
            buffer: Vec::new(),
            start: 0,
            position: 0,
            at_end: false,
            facts,
            crc: 0,
            legacy: VecDeque::new(),
        };
        let mut beginning = vec![0; 4096];
        let read = stream.object.read_at(0, &mut beginning)?;
        beginning.truncate(read);
        if snapshot::is_legacy(&beginning) {
            let bytes = load::read_all(&*stream.object)?;
            let text =
                std::str::from_utf8(&bytes).map_err(|_| stream.damaged(0, "it is not UTF-8"))?;
            let (header, documents) =
                snapshot::decode_legacy(text).map_err(|reason| stream.damaged(0, &reason))?;
            stream.version = header.version;
            stream.legacy = documents.into();
            stream.at_end = true;
            return Ok(stream);
        }
        let (offset, line) = stream
            .line()?
            .ok_or_else(|| stream.damaged(0, "it is empty"))?;
        let header = snapshot::decode_header(line.as_bytes())
            .map_err(|reason| stream.damaged(offset, &reason))?;
        stream.version = header.version;
        Ok(stream)
    }

    /// The version of the application's documents in the snapshot.
    ///
    /// ```
    /// # let store: opslog::Store = opslog::Store::in_memory()?;
    /// assert_eq!(store.stream_snapshot()?.version(), 1);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The next line that is not blank, and its offset.
    fn line(&mut self) -> Result<Option<(u64, String)>> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            let end = match memchr::memchr(b'\n', rest) {
                Some(end) => end,
                None if self.at_end && rest.is_empty() => return Ok(None),
                None if self.at_end => rest.len(),
                None => {
                    self.read_on()?;
                    continue;
                }
            };
            let line = rest.get(..end).unwrap_or_default().to_vec();
            let offset = self.position - rest.len() as u64;
            self.start = (self.start + end + 1).min(self.buffer.len());
            if !line.trim_ascii().is_empty() {
                let line =
                    String::from_utf8(line).map_err(|_| self.damaged(offset, "it is not UTF-8"))?;
                return Ok(Some((offset, line)));
            }
        }
    }

    fn read_on(&mut self) -> Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + PIECE.max(filled), 0);
        let free = self.buffer.get_mut(filled..).unwrap_or_default();
        let read = self.object.read_at(self.position, free)?;
        self.buffer.truncate(filled + read);
        let new = self.buffer.get(filled..).unwrap_or_default();
        self.crc = crc32c::crc32c_append(self.crc, new);
        self.position += read as u64;
        self.at_end = read == 0;
        match self.facts {
            Some(facts) if self.at_end && (facts.bytes, facts.crc) != (self.position, self.crc) => {
                Err(self.damaged(0, "its size or checksum does not match its content"))
            }
            _ => Ok(()),
        }
    }

    fn damaged(&self, offset: u64, reason: &str) -> Error {
        Error::corrupt(format!("the snapshot cannot be read: {reason}"))
            .at_path(&self.name)
            .at_offset(offset)
    }

    fn document(&self, offset: u64, line: &str) -> Result<(String, Json)> {
        let (id, data) =
            snapshot::decode_line(line).map_err(|reason| self.damaged(offset, &reason))?;
        Ok((id.into_owned(), Json::from(json::compact(data))))
    }
}

impl Iterator for SnapshotStream {
    type Item = Result<(String, Json)>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((id, data)) = self.legacy.pop_front() {
            return Some(Ok((id, Json::from(data))));
        }
        match self.line() {
            Ok(None) => None,
            Ok(Some((offset, line))) => Some(self.document(offset, &line)),
            Err(error) => {
                self.at_end = true;
                self.buffer.clear();
                self.start = 0;
                Some(Err(error))
            }
        }
    }
}

/// Reads a snapshot file without a store, one document in memory at a time.
///
/// # Errors
///
/// `NotFound`; `Corrupt` when it is not a snapshot; those of reading, also of each item.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let store: opslog::Store = opslog::Store::open(directory.path())?;
/// # store.set("a", &serde_json::json!({"n": 1}))?;
/// # store.compact()?;
/// let path = directory.path().join(store.manifest()?.current_snapshot);
/// let (id, json) = opslog::stream_snapshot_file(path)?.next().expect("one document")?;
/// assert_eq!((id.as_str(), json.as_str()), ("a", r#"{"n":1}"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn stream_snapshot_file(path: impl AsRef<Path>) -> Result<SnapshotStream> {
    let path = path.as_ref();
    let (Some(directory), Some(name)) = (
        path.parent(),
        path.file_name().and_then(|name| name.to_str()),
    ) else {
        return Err(Error::invalid("this is not the path of a file").at_path(path));
    };
    SnapshotStream::open(&FsBackend::new(directory), name, None)
}

/// The operations after a snapshot; see [`Store::log_ops`](crate::Store::log_ops).
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// assert_eq!(store.log_ops(opslog::Since::Start)?.count(), 1);
/// # Ok::<(), opslog::Error>(())
/// ```
pub struct OpStream {
    object: Box<dyn Object>,
    since: Since,
    /// Where the next piece begins, and the number of the operation there.
    position: u64,
    seq: u64,
    /// The number of the first operation that was not on storage when the stream was made.
    end_seq: u64,
    piece: VecDeque<Operation>,
    at_end: bool,
}

/// How many operations are read at once.
const OPS_AT_ONCE: usize = 256;

impl OpStream {
    /// Reads the next piece of the log.
    fn read_on(&mut self) -> Result<()> {
        let start = Start {
            position: self.position,
            seq: Some(self.seq),
        };
        let (mut seen, mut next) = (0, None);
        let (since, end_seq, piece) = (&self.since, self.end_seq, &mut self.piece);
        let full = || Error::new(ErrorKind::Conflict, "enough for one piece");
        let result = oplog::read(&*self.object, start, &mut |line| {
            if seen >= OPS_AT_ONCE && line.op.batch.is_none_or(|batch| batch.index == 0) {
                next = Some((line.offset, line.seq));
                return Err(full());
            }
            seen += 1;
            if line.seq < end_seq && is_after(line, since) {
                piece.push_back(Operation::from_line(line)?);
            }
            Ok(())
        });
        match (result, next) {
            (_, Some((position, seq))) => {
                self.position = position;
                self.seq = seq;
                Ok(())
            }
            (Ok(_), None) => {
                self.at_end = true;
                Ok(())
            }
            (Err(error), None) => Err(error),
        }
    }
}

impl Iterator for OpStream {
    type Item = Result<Operation>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.piece.is_empty() && !self.at_end {
            if let Err(error) = self.read_on() {
                self.at_end = true;
                return Some(Err(error));
            }
        }
        self.piece.pop_front().map(Ok)
    }
}

impl<T: Document> Engine<T> {
    pub(crate) fn stream_snapshot(&self) -> Result<SnapshotStream> {
        self.ensure_open()?;
        self.with_current_file(|backend, manifest| {
            let facts = manifest.ours.as_ref().map(|ours| ours.snapshot);
            // A snapshot of the reference in a manifest that was adopted has no bytes.
            let facts = facts.filter(|facts| facts.bytes > 0);
            SnapshotStream::open(backend, &manifest.current_snapshot, facts)
        })
    }

    pub(crate) fn log_ops(&self, since: &Since) -> Result<OpStream> {
        self.ensure_open()?;
        self.settle_for_reading()?;
        self.with_current_file(|backend, manifest| {
            if self.agent.is_some() || manifest.is_shared() {
                return self.agents_log_ops(manifest, since);
            }
            Ok(OpStream {
                object: backend.open(&manifest.active_ops)?,
                since: since.clone(),
                position: 0,
                seq: manifest.ours.as_ref().map_or(0, |ours| ours.log_seq),
                end_seq: self.settled_seq(),
                piece: VecDeque::new(),
                at_end: false,
            })
        })
    }

    /// As `log_ops`, where agents have logs: all of them are read, and put in the order in which they make the state.
    fn agents_log_ops(&self, manifest: &Manifest, since: &Since) -> Result<OpStream> {
        let mut operations = self.unfolded_operations(manifest)?;
        // Those of an id whose register has a later stamp lost to what the snapshot has. An earlier one has not been looked at yet.
        let state = self.state();
        let stamp = |operation: &Operation| operation.order.clone().map(|order| order.stamp);
        let effective: HashSet<String> = operations
            .iter()
            .filter(|operation| {
                let register = state.register(&operation.id);
                register.is_none_or(|register| Some(register.stamp()) <= stamp(operation).as_ref())
            })
            .map(|operation| operation.id.clone())
            .collect();
        drop(state);
        operations.retain(|operation| effective.contains(&operation.id));
        operations.sort_by_key(stamp);
        if let Since::Time(time) = since {
            operations.retain(|operation| operation.ts > *time);
        }
        if let Since::Cursor(cursor) = since {
            operations.retain(|operation| {
                let place = cursor.place(operation.agent.as_deref());
                place.is_none_or(|place| operation.seq > place.seq)
            });
        }
        Ok(OpStream {
            object: self.backend.open(&manifest.active_ops)?,
            since: since.clone(),
            position: 0,
            seq: 0,
            end_seq: 0,
            piece: operations.into(),
            at_end: true,
        })
    }

    /// Opens a file that the manifest names, also when a checkpoint replaces it at that moment.
    fn with_current_file<R>(
        &self,
        mut open: impl FnMut(&dyn Backend, &Manifest) -> Result<R>,
    ) -> Result<R> {
        let mut tries = 0;
        loop {
            let manifest = self.current_manifest()?;
            tries += 1;
            match open(&*self.backend, &manifest) {
                Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => {}
                result => return result,
            }
        }
    }
}
