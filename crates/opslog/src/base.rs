//! Documents that stay on storage and are read when asked for: the snapshot under a state with `Residency::OnDemand` or `ChangesOnly`.
//!
//! An index beside the snapshot (`docs/format.md` §3a) says where each document's line is: a lookup is one small read of it and one of the
//! line. Lines read lately are kept within a budget. `load` opens a base, the state lies on it.
//!
//! Invariant: no answer rests on the index alone. A line counts only where its checksum holds and it has the id that was asked for; a part of the
//! index that is damaged is noticed by its own checksum, and then the index is built anew, in memory. Reading all documents checks the
//! snapshot's checksum (of one of the reference, that which it had when it was opened), so a checkpoint never gives damage a new one.

mod build;
mod cache;
mod index;
mod line;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::backend::{Backend, MemoryBackend, Object};
use crate::document::Stored;
use crate::format;
use crate::format::manifest::FileFacts;
use crate::load::{Snapshot, Whole, damaged};
use crate::{Error, ErrorKind, Result, paths};

pub(crate) use build::IndexWriter;

use cache::Cache;
use index::Index;
use line::Line;

/// Where an index goes that is missing or not to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexHome {
    /// Beside its snapshot.
    Storage,
    /// Nowhere but in memory: nothing may be written.
    Memory,
}

/// [`format::index::hash`], but for tests of collisions.
type IdHash = fn(&str) -> u64;

/// A snapshot as it was when it was opened; that its file is replaced later does not matter.
pub(crate) struct Base {
    object: Box<dyn Object>,
    name: String,
    facts: Option<FileFacts>,
    index: Index,
    /// The index built anew, once a part of `index` was found damaged.
    repaired: OnceLock<Index>,
    repairing: Mutex<()>,
    hash: IdHash,
    cache: Mutex<Cache>,
}

/// Reads the whole of an index; returns the number of documents in it.
///
/// # Errors
///
/// `Corrupt` when it is damaged, or not the index of the snapshot with `facts`.
pub(crate) fn check_index(object: Box<dyn Object>, name: &str, facts: &FileFacts) -> Result<u64> {
    let index = Index::open(object, name, facts)?;
    index.check_blocks()?;
    Ok(index.len() as u64)
}

impl Base {
    /// The snapshot `name`, open as `object`. `None` when an id occurs in it twice: then it has to be read whole.
    ///
    /// `facts` are what the manifest says of it: without them, no index file can be checked against it, and none is used.
    pub(crate) fn open(
        backend: &dyn Backend,
        name: &str,
        object: Box<dyn Object>,
        facts: Option<FileFacts>,
        home: IndexHome,
        cache_bytes: usize,
    ) -> Result<Option<Self>> {
        let hash = format::index::hash;
        let opened = match (facts, paths::index_of(name)) {
            (Some(facts), Some(index_name)) => Some(open_index(
                backend,
                &index_name,
                &*object,
                name,
                facts,
                home,
            )),
            _ => index_in_memory(&*object, name, facts, hash).transpose(),
        };
        let Some(index) = opened.transpose()? else {
            return Ok(None);
        };
        Ok(Some(Self::new(
            object,
            name,
            facts,
            index,
            hash,
            cache_bytes,
        )))
    }

    fn new(
        object: Box<dyn Object>,
        name: &str,
        facts: Option<FileFacts>,
        index: Index,
        hash: IdHash,
        cache_bytes: usize,
    ) -> Self {
        Self {
            object,
            name: name.to_owned(),
            facts,
            index,
            repaired: OnceLock::new(),
            repairing: Mutex::default(),
            hash,
            cache: Mutex::new(Cache::new(cache_bytes)),
        }
    }

    /// The snapshot's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many documents it has.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes of documents kept in memory.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.cache().bytes() as u64
    }

    /// Whether `id` has a document here.
    pub(crate) fn contains(&self, id: &str) -> Result<bool> {
        Ok(self.line(id)?.is_some())
    }

    /// The document of `id`.
    pub(crate) fn get<T>(&self, id: &str) -> Result<Option<Stored<T>>> {
        Ok(self.line(id)?.map(Line::into_document))
    }

    /// All documents, in the order of the snapshot, those of one piece in memory at a time. Lines are not checked one by one: the last item is an
    /// error when the checksum of the whole does not hold.
    pub(crate) fn documents<T>(&self) -> impl Iterator<Item = Result<Stored<T>>> + use<'_, T> {
        let mut pieces = self.pieces();
        let mut documents = Vec::new().into_iter();
        std::iter::from_fn(move || {
            loop {
                if let Some(document) = documents.next() {
                    return Some(Ok(document));
                }
                match pieces.next()? {
                    Ok(piece) => documents = piece.into_iter(),
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }

    /// The documents of one piece of the snapshot after the other, and nothing after an error.
    fn pieces<T>(&self) -> impl Iterator<Item = Result<Vec<Stored<T>>>> + use<'_, T> {
        let (mut number, mut whole, mut buffer) = (0, Whole::default(), Vec::new());
        let mut opened = None;
        let mut next = move || -> Result<Option<Vec<Stored<T>>>> {
            let snapshot = match &opened {
                Some(snapshot) => snapshot,
                None => opened.insert(Snapshot::new(&*self.object, &self.name, self.facts)?),
            };
            if number == snapshot.piece_count() {
                // Of a snapshot of the reference the index knows the checksum.
                return whole
                    .check(&self.name, Some(self.index.snapshot()))
                    .map(|()| None);
            }
            let piece = snapshot.read_piece(number, &mut buffer, |document| document)?;
            whole.add(&piece);
            number += 1;
            Ok(Some(piece.documents))
        };
        let mut ended = false;
        std::iter::from_fn(move || {
            let item = if ended { None } else { next().transpose() };
            ended = !matches!(item, Some(Ok(_)));
            item
        })
    }

    fn line(&self, id: &str) -> Result<Option<Line>> {
        let hash = (self.hash)(id);
        if let Some(line) = self.cache().get(hash).filter(|line| line.id() == id) {
            return Ok(Some(line));
        }
        for entry in self.find(hash)? {
            let line = self.read(entry)?;
            if line.id() == id {
                self.cache().put(hash, line.clone());
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// The entries whose id has `hash`.
    fn find(&self, hash: u64) -> Result<Vec<format::index::Entry>> {
        if let Some(index) = self.repaired.get() {
            return index.find(hash);
        }
        match self.index.find(hash) {
            Err(error) => {
                tracing::warn!(%error, snapshot = self.name, "the snapshot's index is damaged and is built anew in memory");
                self.repair()?.find(hash)
            }
            found => found,
        }
    }

    fn repair(&self) -> Result<&Index> {
        let _turn = self
            .repairing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = self.repaired.get() {
            return Ok(index);
        }
        let index = index_in_memory(&*self.object, &self.name, self.facts, self.hash)?
            .ok_or_else(|| repeated(&self.name))?;
        Ok(self.repaired.get_or_init(|| index))
    }

    fn read(&self, entry: format::index::Entry) -> Result<Line> {
        let mut bytes = vec![0; entry.length as usize];
        let read = self.object.read_at(entry.offset, &mut bytes)?;
        bytes.truncate(read);
        if crc32c::crc32c(&bytes) != entry.crc {
            return Err(damaged(
                &self.name,
                "a document of the snapshot does not match its checksum",
            )
            .at_offset(entry.offset));
        }
        self.parse(&bytes, entry.offset)
    }

    fn parse(&self, bytes: &[u8], offset: u64) -> Result<Line> {
        Line::parse(bytes, self.facts.is_some()).map_err(|reason| {
            damaged(
                &self.name,
                format!("a document of the snapshot cannot be read: {reason}"),
            )
            .at_offset(offset)
        })
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The index file of a snapshot of known checksum; built anew where it is missing, damaged or another snapshot's.
fn open_index(
    backend: &dyn Backend,
    index_name: &str,
    object: &dyn Object,
    name: &str,
    facts: FileFacts,
    home: IndexHome,
) -> Result<Index> {
    let open = || Index::open(backend.open(index_name)?, index_name, &facts);
    match open() {
        Ok(index) => return Ok(index),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            tracing::info!(index_name, "the snapshot has no index; it is built now");
        }
        Err(error) => {
            tracing::warn!(%error, index_name, "the snapshot's index cannot be used and is built anew");
        }
    }
    let hash = format::index::hash;
    if home == IndexHome::Storage {
        let write = || {
            build::write_index(backend, index_name, object, name, Some(facts), hash)?;
            open()
        };
        match write() {
            Ok(index) => return Ok(index),
            // Whatever went wrong with the index file; what is wrong with the snapshot is found again below.
            Err(error) => {
                tracing::warn!(%error, index_name, "the snapshot's index could not be written and is kept in memory");
            }
        }
    }
    index_in_memory(object, name, Some(facts), hash)?.ok_or_else(|| repeated(name))
}

/// The index of a snapshot, built in memory. `None` when an id occurs twice.
fn index_in_memory(
    object: &dyn Object,
    name: &str,
    facts: Option<FileFacts>,
    hash: IdHash,
) -> Result<Option<Index>> {
    const INDEX: &str = "index";
    let memory = MemoryBackend::new();
    let Some(found) = build::write_index(&memory, INDEX, object, name, facts, hash)? else {
        return Ok(None);
    };
    Index::open(memory.open(INDEX)?, INDEX, &found).map(Some)
}

fn repeated(name: &str) -> Error {
    damaged(name, "an id occurs twice in the snapshot")
}

#[cfg(test)]
mod tests;
