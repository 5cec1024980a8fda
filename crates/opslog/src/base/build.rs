//! Writing an index: beside a snapshot that is being written, or from one that is there.
//!
//! Entries are collected into runs, each sorted in memory, so that the memory it takes is bounded whatever the number of documents.

use std::collections::HashSet;

use super::IdHash;
use super::line::{Line, checksum_with};
use crate::backend::{Backend, Object, ObjectWriter};
use crate::format::index::{
    self, BLOCK_ENTRIES, Entry, Footer, RUN_BLOCKS, encode_block, encode_fence, encode_footer,
};
use crate::format::manifest::FileFacts;
use crate::format::snapshot;
use crate::load::{check, damaged};
use crate::oplog::Lines;
use crate::{Error, ErrorKind, Result};

const RUN: usize = RUN_BLOCKS * BLOCK_ENTRIES;
const WRITE_PIECE: usize = 1 << 20;

/// An index being written. Dropped unfinished, it leaves nothing behind.
pub(crate) struct IndexWriter {
    file: Box<dyn ObjectWriter>,
    hash: IdHash,
    run: Vec<Entry>,
    fence: Vec<u64>,
    buffer: Vec<u8>,
    /// Offset of the first line.
    first: Option<u64>,
}

impl IndexWriter {
    /// Starts the index `name`; one that is there already is of no snapshot that is in use.
    pub(crate) fn create(backend: &dyn Backend, name: &str) -> Result<Self> {
        Self::create_hashing(backend, name, index::hash)
    }

    fn create_hashing(backend: &dyn Backend, name: &str, hash: IdHash) -> Result<Self> {
        let file = match backend.create(name) {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                backend.delete(name)?;
                backend.create(name)?
            }
            created => created?,
        };
        Ok(Self {
            file,
            hash,
            run: Vec::new(),
            fence: Vec::new(),
            buffer: Vec::new(),
            first: None,
        })
    }

    /// Adds the document `id`, whose `line` (without its newline) begins at `offset`.
    pub(crate) fn add(&mut self, id: &str, offset: u64, line: &[u8]) -> Result<()> {
        let length = u32::try_from(line.len())
            .map_err(|_| Error::invalid(format!("document '{id}' is larger than 4 GiB")))?;
        self.first.get_or_insert(offset);
        self.push(Entry {
            hash: (self.hash)(id),
            offset,
            length,
            crc: crc32c::crc32c(line),
        })
    }

    pub(super) fn push(&mut self, entry: Entry) -> Result<()> {
        self.run.push(entry);
        if self.run.len() == RUN {
            self.end_run()?;
        }
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        self.run.sort_unstable();
        for entries in self.run.chunks(BLOCK_ENTRIES) {
            let number = self.fence.len() as u64;
            encode_block(&mut self.buffer, number, entries);
            self.fence.extend(entries.first().map(|entry| entry.hash));
            if self.buffer.len() >= WRITE_PIECE {
                self.file.write(&self.buffer)?;
                self.buffer.clear();
            }
        }
        self.run.clear();
        Ok(())
    }

    /// Ends the index of the snapshot with `facts`; it is on stable storage on return.
    pub(crate) fn finish(mut self, facts: &FileFacts) -> Result<()> {
        self.end_run()?;
        let mut fence = Vec::new();
        encode_fence(&mut fence, &self.fence);
        let footer = Footer {
            snapshot_bytes: facts.bytes,
            snapshot_crc: facts.crc,
            documents: facts.documents,
            first: self.first.unwrap_or(facts.bytes),
            blocks: self.fence.len() as u64,
            fence_crc: crc32c::crc32c(&fence),
        };
        self.buffer.extend(fence);
        encode_footer(&mut self.buffer, &footer);
        self.file.write(&self.buffer)?;
        self.file.finish()
    }
}

/// Reads the snapshot `name` from its beginning and writes its index; returns what the snapshot is. `None`, and nothing written, when an id may occur
/// twice, which only a snapshot of unknown origin is examined for.
pub(super) fn write_index(
    backend: &dyn Backend,
    index_name: &str,
    object: &dyn Object,
    name: &str,
    expected: Option<FileFacts>,
    hash: IdHash,
) -> Result<Option<FileFacts>> {
    let mut index = IndexWriter::create_hashing(backend, index_name, hash)?;
    let mut seen = HashSet::new();
    let mut lines = Lines::new(object, 0);
    let mut header_seen = false;
    let mut facts = FileFacts {
        bytes: 0,
        crc: 0,
        documents: 0,
    };
    while let Some(line) = lines.next()? {
        pass_newlines(&mut facts, line.offset);
        facts.crc = checksum_with(facts.crc, line.bytes, line.terminated);
        facts.bytes = line.end();
        if line.is_blank() {
            continue;
        }
        let at = line.offset;
        if !header_seen {
            snapshot::decode_header(line.bytes)
                .map_err(|reason| damaged(name, reason).at_offset(at))?;
            header_seen = true;
            continue;
        }
        let document = Line::parse(line.bytes, expected.is_some())
            .map_err(|reason| damaged(name, reason).at_offset(at))?;
        if expected.is_none() && !seen.insert(hash(document.id())) {
            return Ok(None);
        }
        index.add(document.id(), at, line.bytes)?;
        facts.documents += 1;
    }
    pass_newlines(&mut facts, object.size()?);
    check(name, expected, facts.crc, header_seen)?;
    index.finish(&facts)?;
    Ok(Some(facts))
}

/// Counts the newlines up to `position`, of which [`Lines`] says nothing.
fn pass_newlines(facts: &mut FileFacts, position: u64) {
    while facts.bytes < position {
        facts.crc = crc32c::crc32c_append(facts.crc, b"\n");
        facts.bytes += 1;
    }
}
