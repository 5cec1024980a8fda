//! Reading a snapshot into a state, without parsing documents: each line is cut into id and document, and both stay where they were read.

use std::ops::Range;
use std::sync::Arc;

use arcstr::ArcStr;

use crate::backend::{Backend, Object};
use crate::base::{Base, IndexHome};
use crate::document::Stored;
use crate::format::manifest::{FileFacts, Manifest};
use crate::format::{json, snapshot};
use crate::options::{Options, Residency};
use crate::pieces::{Pieces, fill};
use crate::state::{GROUP, State};
use crate::{Error, Result};

/// What is known of a snapshot before it is read.
#[derive(Clone, Copy)]
struct Expected {
    /// `None` for a snapshot of the reference, which is checked line by line instead.
    facts: Option<FileFacts>,
    /// The fewest documents that it must have.
    documents: u64,
}

/// The snapshot that is to be read, and how.
struct Source<'a> {
    backend: &'a dyn Backend,
    name: &'a str,
    options: &'a Options,
}

/// Reads the snapshot that `manifest` names.
///
/// # Errors
///
/// `Corrupt` when it is missing, damaged, or not the one that was written.
pub(crate) fn load<T: Send + Sync>(
    backend: &dyn Backend,
    manifest: &Manifest,
    options: &Options,
) -> Result<State<T>> {
    let name = &manifest.current_snapshot;
    let ours = manifest.ours.as_ref().map(|ours| ours.snapshot);
    let expected = Expected {
        // A snapshot has a header, so none of ours has no bytes: that stands for one of the reference in a manifest that was adopted.
        facts: ours.filter(|facts| facts.bytes > 0),
        documents: fewest_documents(manifest),
    };
    let source = Source {
        backend,
        name,
        options,
    };
    load_object(&source, expected)
}

/// The fewest documents that the snapshot must have; the reference's agents do not keep count.
pub(crate) fn fewest_documents(manifest: &Manifest) -> u64 {
    if manifest.active_agent_ops.is_none() {
        manifest.stats.active_records
    } else {
        0
    }
}

fn load_object<T: Send + Sync>(source: &Source<'_>, expected: Expected) -> Result<State<T>> {
    let name = source.name;
    let object = source.backend.open(name)?;
    let size = object.size()?;
    if let Some(facts) = expected.facts
        && facts.bytes != size
    {
        return Err(damaged(
            name,
            format!(
                "the snapshot has {size} bytes and was written with {}",
                facts.bytes
            ),
        ));
    }
    let mut start = vec![0; 4096];
    let read = object.read_at(0, &mut start)?;
    start.truncate(read);
    let state = if snapshot::is_legacy(&start) {
        load_legacy(&*object, name)?
    } else {
        match source.options.residency {
            Residency::Memory => load_resident(&*object, name, expected)?,
            // The rest of the budget is for documents that were changed since the snapshot.
            Residency::OnDemand { cache_bytes } => {
                load_on_demand(source, object, expected, cache_bytes / 4)?
            }
            Residency::ChangesOnly => load_on_demand(source, object, expected, 0)?,
        }
    };
    if (state.len() as u64) < expected.documents {
        return Err(damaged(
            name,
            format!(
                "the snapshot has {} documents and was written with {}",
                state.len(),
                expected.documents
            ),
        ));
    }
    Ok(state)
}

fn load_legacy<T>(object: &dyn Object, name: &str) -> Result<State<T>> {
    let bytes = read_all(object)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| damaged(name, "the snapshot is not UTF-8"))?;
    let (_, documents) = snapshot::decode_legacy(text).map_err(|reason| damaged(name, reason))?;
    let mut state = State::with_capacity(documents.len());
    for (id, data) in documents {
        state.put(Stored::new(&id, &data), false);
    }
    Ok(state)
}

/// Reads all documents into memory. The pieces of a large file are read, checked and cut up by several threads while this one enters their documents in
/// the table, in the order of the file (1,000,000 documents: 0.42 s of CPU time on all cores; with one reader, into fresh memory, 0.50 on two at most).
fn load_resident<T: Send + Sync>(
    object: &dyn Object,
    name: &str,
    expected: Expected,
) -> Result<State<T>> {
    let capacity = usize::try_from(expected.documents)
        .unwrap_or(0)
        .min(1 << 26);
    let mut state = State::with_capacity(capacity);
    let hasher = state.hasher().clone();
    let with_hash = |document: Stored<T>| (hasher.hash(document.id()), document);
    let snapshot = Snapshot::new(object, name, expected.facts)?;
    let mut whole = Whole::default();
    snapshot.pieces.each(
        |number, buffer| snapshot.read_piece(number, buffer, with_hash),
        |piece| {
            whole.add(&piece);
            let mut documents = piece.documents.into_iter();
            while let group = documents.as_slice()
                && !group.is_empty()
            {
                state.fetch(group.iter().take(GROUP).map(|(hash, _)| *hash));
                for (hash, document) in documents.by_ref().take(GROUP) {
                    state.put_new(hash, document);
                }
            }
            Ok(true)
        },
    )?;
    whole.check(name, expected.facts)?;
    Ok(state)
}

/// A snapshot that is read in pieces.
pub(crate) struct Snapshot<'a> {
    pieces: Pieces<'a>,
    name: &'a str,
    /// `None` for a snapshot of the reference, whose lines are checked one by one instead.
    facts: Option<FileFacts>,
}

pub(crate) struct Piece<D> {
    pub(crate) documents: Vec<D>,
    /// Of its bytes, up to where the next piece begins.
    crc: u32,
    bytes: usize,
    header_seen: bool,
}

/// What the pieces read so far come to.
#[derive(Default)]
pub(crate) struct Whole {
    crc: u32,
    header_seen: bool,
}

impl Whole {
    pub(crate) fn add<D>(&mut self, piece: &Piece<D>) {
        self.crc = crc32c::crc32c_combine(self.crc, piece.crc, piece.bytes);
        self.header_seen |= piece.header_seen;
    }

    /// Compares what was read of a whole snapshot with what the manifest says.
    pub(crate) fn check(&self, name: &str, facts: Option<FileFacts>) -> Result<()> {
        check(name, facts, self.crc, self.header_seen)
    }
}

impl<'a> Snapshot<'a> {
    pub(crate) fn new(
        object: &'a dyn Object,
        name: &'a str,
        facts: Option<FileFacts>,
    ) -> Result<Self> {
        Ok(Self {
            pieces: Pieces::new(object)?,
            name,
            facts,
        })
    }

    pub(crate) fn piece_count(&self) -> u64 {
        self.pieces.count()
    }

    /// Reads one piece, and cuts it up into documents that share its text; `enter` makes of each what is wanted.
    pub(crate) fn read_piece<T, D>(
        &self,
        number: u64,
        buffer: &mut Vec<u8>,
        enter: impl Fn(Stored<T>) -> D,
    ) -> Result<Piece<D>> {
        let read = self.pieces.read(number, buffer)?;
        let own = buffer.get(read.own).unwrap_or_default();
        let mut piece = Piece {
            documents: Vec::new(),
            crc: crc32c::crc32c(own),
            bytes: own.len(),
            header_seen: false,
        };
        let offset = read.base + read.lines.start as u64;
        let lines = buffer.get(read.lines).unwrap_or_default();
        if !lines.is_empty() {
            let text = std::str::from_utf8(lines).map_err(|error| {
                let at = offset + error.valid_up_to() as u64;
                damaged(self.name, "the snapshot is not UTF-8").at_offset(at)
            })?;
            self.cut_up(text, offset, enter, &mut piece)?;
        }
        Ok(piece)
    }

    /// Puts the documents of `text`, whole lines from `offset` of the file on, into `piece`.
    fn cut_up<T, D>(
        &self,
        text: &str,
        offset: u64,
        enter: impl Fn(Stored<T>) -> D,
        piece: &mut Piece<D>,
    ) -> Result<()> {
        let text = ArcStr::from(text);
        piece.documents.reserve(text.len() / 200);
        piece.header_seen = offset > 0;
        let mut start = 0;
        while start < text.len() {
            let rest = text.get(start..).unwrap_or_default();
            let length = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
            let line = rest.get(..length).unwrap_or_default();
            let line_start = start;
            start += length + 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let at = offset + line_start as u64;
            if !piece.header_seen {
                snapshot::decode_header(line.as_bytes())
                    .map_err(|reason| damaged(self.name, reason).at_offset(at))?;
                piece.header_seen = true;
                continue;
            }
            let document = match snapshot::decode_line_trusted(line) {
                Some(ranges) if self.facts.is_some() && !ranges.escaped => {
                    let at = |range: Range<usize>| line_start + range.start..line_start + range.end;
                    Stored::shared(&text, at(ranges.id), at(ranges.data))
                }
                _ => decode(line, self.name, at)?,
            };
            piece.documents.push(enter(document));
        }
        Ok(())
    }
}

fn decode<T>(line: &str, name: &str, offset: u64) -> Result<Stored<T>> {
    let (id, data) =
        snapshot::decode_line(line).map_err(|reason| damaged(name, reason).at_offset(offset))?;
    Ok(Stored::new(&id, &json::compact(data)))
}

/// Leaves the documents where they are, but for a snapshot in which an id occurs twice.
fn load_on_demand<T: Send + Sync>(
    source: &Source<'_>,
    object: Box<dyn Object>,
    expected: Expected,
    cache_bytes: usize,
) -> Result<State<T>> {
    let home = if source.options.read_only {
        IndexHome::Memory
    } else {
        IndexHome::Storage
    };
    let (backend, name) = (source.backend, source.name);
    match Base::open(backend, name, object, expected.facts, home, cache_bytes)? {
        // Nothing has to be looked for there, and a log that begins with nothing is replayed on all cores.
        Some(base) if base.len() == 0 => Ok(State::default()),
        Some(base) => Ok(State::on(Arc::new(base))),
        None => load_resident(&*backend.open(name)?, name, expected),
    }
}

/// Compares what was read of a whole snapshot with what the manifest says.
pub(crate) fn check(
    name: &str,
    expected: Option<FileFacts>,
    crc: u32,
    header_seen: bool,
) -> Result<()> {
    if !header_seen {
        return Err(damaged(name, "the snapshot is empty"));
    }
    match expected {
        Some(facts) if facts.crc != crc => Err(damaged(
            name,
            "the snapshot's checksum does not match its content",
        )),
        _ => Ok(()),
    }
}

/// A snapshot that cannot be used.
pub(crate) fn damaged(name: &str, reason: impl Into<String>) -> Error {
    Error::corrupt(format!(
        "{}; restore it from a backup, nothing was changed",
        reason.into()
    ))
    .at_path(name)
}

/// The whole content of an object.
pub(crate) fn read_all(object: &dyn Object) -> Result<Vec<u8>> {
    let size = usize::try_from(object.size()?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size];
    let filled = fill(object, 0, &mut bytes, 0)?;
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;

    /// However the file is divided, in the middle of a character, a line or a line's end, and with lines longer than a piece.
    #[test]
    fn pieces_of_every_size_make_the_same_whole() {
        let mut text = b"{\"version\":1,\"timestamp\":\"2026-01-01T00:00:00.000Z\"}\n\n".to_vec();
        for n in 0..20 {
            let data = format!(
                "{{\"t\":\"{}\"}}",
                "\u{e9}\u{1f980}\u{20ac}".repeat(n % 7 * n)
            );
            snapshot::encode_document(&mut text, &format!("id-{n}-\u{fc}\""), &data);
        }
        let backend = MemoryBackend::new();
        for terminated in [true, false] {
            text.truncate(text.len() - usize::from(!terminated));
            backend.put("s", &text).unwrap();
            let object = backend.open("s").unwrap();
            let facts = FileFacts {
                bytes: text.len() as u64,
                crc: crc32c::crc32c(&text),
                documents: 20,
            };
            for facts in [Some(facts), None] {
                for piece_bytes in (1..200).chain([text.len() as u64, 1 << 20]) {
                    let snapshot = Snapshot {
                        pieces: Pieces::of_size(&*object, piece_bytes).unwrap(),
                        name: "s",
                        facts,
                    };
                    let mut whole = Whole::default();
                    let mut found =
                        b"{\"version\":1,\"timestamp\":\"2026-01-01T00:00:00.000Z\"}\n\n".to_vec();
                    let mut buffer = Vec::new();
                    for number in 0..snapshot.pieces.count() {
                        let piece = snapshot
                            .read_piece(number, &mut buffer, |document: Stored<()>| document)
                            .unwrap();
                        whole.add(&piece);
                        for document in &piece.documents {
                            snapshot::encode_document(&mut found, document.id(), document.data());
                        }
                    }
                    found.truncate(text.len());
                    assert_eq!(found, text, "{piece_bytes}");
                    assert_eq!(whole.crc, crc32c::crc32c(&text));
                    assert!(whole.header_seen);
                }
            }
        }
    }
}
