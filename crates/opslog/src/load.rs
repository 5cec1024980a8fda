//! Reading a snapshot into a state, without parsing documents: each line is cut into id and document, and both stay where they were read.

use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::thread;

use arcstr::ArcStr;

use crate::backend::{Backend, Object};
use crate::base::{Base, IndexHome};
use crate::document::Stored;
use crate::format::manifest::{FileFacts, Manifest};
use crate::format::{json, snapshot};
use crate::options::{Options, Residency};
use crate::state::State;
use crate::{Error, Result};

const PIECE: usize = 1 << 20;
/// A file smaller than this is read without another thread.
const ALONE_BELOW: u64 = 4 << 20;

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
        documents: if manifest.active_agent_ops.is_none() {
            manifest.stats.active_records
        } else {
            0
        },
    };
    let source = Source {
        backend,
        name,
        options,
    };
    load_object(&source, expected)
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
            Residency::OnDemand { cache_bytes } => {
                load_on_demand(source, object, expected, cache_bytes)?
            }
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

/// Reads all documents into memory. In a large file another thread reads and cuts up the pieces while this one enters their documents in the table,
/// which takes about as long (1,000,000 documents: 0.22 to 0.24 s; by one thread 0.31, in another run on the same machine).
fn load_resident<T: Send + Sync>(
    object: &dyn Object,
    name: &str,
    expected: Expected,
) -> Result<State<T>> {
    let capacity = usize::try_from(expected.documents)
        .unwrap_or(0)
        .min(1 << 26);
    let mut state = State::with_capacity(capacity);
    let mut enter = |documents: Vec<Stored<T>>| {
        for document in documents {
            state.put(document, false);
        }
    };
    if object.size()? < ALONE_BELOW {
        read_pieces(object, name, expected, &mut enter)?;
        return Ok(state);
    }
    let (sender, receiver) = mpsc::sync_channel(4);
    let result = thread::scope(|scope| {
        let reader = scope.spawn(move || {
            // The receiver hears of an error when it joins, so that it need not be sent.
            read_pieces(object, name, expected, &mut |documents| {
                drop(sender.send(documents));
            })
        });
        receiver.into_iter().for_each(&mut enter);
        reader.join()
    });
    match result {
        Ok(result) => result.map(|()| state),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Reads the file piece by piece; every piece is one buffer that its documents share.
fn read_pieces<T>(
    object: &dyn Object,
    name: &str,
    expected: Expected,
    sink: &mut dyn FnMut(Vec<Stored<T>>),
) -> Result<()> {
    let mut header_seen = false;
    let mut position = 0;
    let mut crc = 0;
    let mut carry = Vec::new();
    loop {
        let carried = carry.len();
        let mut piece = std::mem::take(&mut carry);
        match carried {
            // The allocator has zeros for nothing.
            0 => piece = vec![0; PIECE],
            // A line longer than a piece doubles the next one.
            _ => piece.resize(carried + PIECE.max(carried), 0),
        }
        let filled = fill(object, position, &mut piece, carried)?;
        piece.truncate(filled);
        crc = crc32c::crc32c_append(crc, piece.get(carried..).unwrap_or_default());
        let offset = position - carried as u64;
        position += (filled - carried) as u64;
        let at_end = filled == carried;
        let complete = match memchr::memrchr(b'\n', &piece) {
            _ if at_end => piece.len(),
            Some(newline) => newline + 1,
            None => 0,
        };
        carry = piece.split_off(complete);
        let text = std::str::from_utf8(&piece).map_err(|error| {
            let at = offset + error.valid_up_to() as u64;
            damaged(name, "the snapshot is not UTF-8").at_offset(at)
        })?;
        sink(cut_up(text, offset, name, expected, &mut header_seen)?);
        if at_end {
            break;
        }
    }
    check(name, expected.facts, crc, header_seen)
}

/// The documents of one piece, which begins at `offset` of the file.
fn cut_up<T>(
    text: &str,
    offset: u64,
    name: &str,
    expected: Expected,
    header_seen: &mut bool,
) -> Result<Vec<Stored<T>>> {
    let text = ArcStr::from(text);
    let mut documents = Vec::with_capacity(text.len() / 200);
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
        if !*header_seen {
            snapshot::decode_header(line.as_bytes())
                .map_err(|reason| damaged(name, reason).at_offset(at))?;
            *header_seen = true;
            continue;
        }
        documents.push(match snapshot::decode_line_trusted(line) {
            Some(ranges) if expected.facts.is_some() && !ranges.escaped => {
                let at = |range: Range<usize>| line_start + range.start..line_start + range.end;
                Stored::shared(&text, at(ranges.id), at(ranges.data))
            }
            _ => decode(line, name, at)?,
        });
    }
    Ok(documents)
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
    // The rest of the budget is for documents that were changed since the snapshot.
    let cache_bytes = cache_bytes / 4;
    let (backend, name) = (source.backend, source.name);
    match Base::open(backend, name, object, expected.facts, home, cache_bytes)? {
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

/// Reads into `piece` from `filled` on until it is full or the object ends; returns up to where it is filled.
fn fill(object: &dyn Object, position: u64, piece: &mut [u8], filled: usize) -> Result<usize> {
    let mut end = filled;
    while let Some(free) = piece.get_mut(end..)
        && !free.is_empty()
    {
        let read = object.read_at(position + (end - filled) as u64, free)?;
        if read == 0 {
            break;
        }
        end += read;
    }
    Ok(end)
}

/// The whole content of an object.
pub(crate) fn read_all(object: &dyn Object) -> Result<Vec<u8>> {
    let size = usize::try_from(object.size()?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; size];
    let filled = fill(object, 0, &mut bytes, 0)?;
    bytes.truncate(filled);
    Ok(bytes)
}
