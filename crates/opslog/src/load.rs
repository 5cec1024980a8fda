//! Reading a snapshot into a state, without parsing documents: each line is cut into id and document, and both stay where they were read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::{Backend, Object};
use crate::base::{Base, Place};
use crate::document::Stored;
use crate::format::manifest::{FileFacts, Manifest};
use crate::format::{json, snapshot};
use crate::oplog::Lines;
use crate::options::Residency;
use crate::state::State;
use crate::{Error, Result};

const PIECE: usize = 1 << 20;

/// What is known of a snapshot before it is read.
#[derive(Clone, Copy)]
struct Expected {
    /// `None` for a snapshot of the reference, which is checked line by line instead.
    facts: Option<FileFacts>,
    /// The fewest documents that it must have.
    documents: u64,
}

/// Reads the snapshot that `manifest` names.
///
/// # Errors
///
/// `Corrupt` when it is missing, damaged, or not the one that was written.
pub(crate) fn load<T>(
    backend: &dyn Backend,
    manifest: &Manifest,
    residency: Residency,
) -> Result<State<T>> {
    let name = &manifest.current_snapshot;
    let object = backend.open(name)?;
    let expected = Expected {
        facts: manifest.ours.as_ref().map(|ours| ours.snapshot),
        documents: if manifest.active_agent_ops.is_none() {
            manifest.stats.active_records
        } else {
            0
        },
    };
    let state = load_object(object, name, expected, residency)?;
    Ok(state)
}

fn load_object<T>(
    object: Box<dyn Object>,
    name: &str,
    expected: Expected,
    residency: Residency,
) -> Result<State<T>> {
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
        match residency {
            Residency::Memory => load_resident(&*object, name, expected)?,
            Residency::OnDemand { cache_bytes } => {
                State::on(Arc::new(index(object, name, expected, cache_bytes)?))
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

/// Reads the file piece by piece; every piece is one buffer that its documents share.
fn load_resident<T>(object: &dyn Object, name: &str, expected: Expected) -> Result<State<T>> {
    let capacity = usize::try_from(expected.documents)
        .unwrap_or(0)
        .min(1 << 26);
    let mut state = State::with_capacity(capacity);
    let mut header_seen = false;
    let mut position = 0;
    let mut crc = 0;
    let mut carry = Vec::new();
    loop {
        let carried = carry.len();
        let mut piece = std::mem::take(&mut carry);
        // A line longer than a piece doubles the next one.
        piece.resize(carried + PIECE.max(carried), 0);
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
        piece.shrink_to_fit();
        let text = String::from_utf8(piece).map_err(|error| {
            let at = offset + error.utf8_error().valid_up_to() as u64;
            damaged(name, "the snapshot is not UTF-8").at_offset(at)
        })?;
        load_piece(&mut state, text, offset, name, expected, &mut header_seen)?;
        if at_end {
            break;
        }
    }
    check(name, expected, crc, header_seen)?;
    Ok(state)
}

fn load_piece<T>(
    state: &mut State<T>,
    text: String,
    offset: u64,
    name: &str,
    expected: Expected,
    header_seen: &mut bool,
) -> Result<()> {
    let text = Arc::new(text);
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
        let document = match snapshot::decode_line_trusted(line) {
            Some(ranges) if expected.facts.is_some() && !ranges.escaped => {
                let place = |offset: usize| u32::try_from(line_start + offset).unwrap_or(u32::MAX);
                Stored::shared(
                    Arc::clone(&text),
                    (place(ranges.id.start), place(ranges.id.end)),
                    (place(ranges.data.start), place(ranges.data.end)),
                )
            }
            _ => decode(line, name, at)?,
        };
        state.put(document, false);
    }
    Ok(())
}

fn decode<T>(line: &str, name: &str, offset: u64) -> Result<Stored<T>> {
    let (id, data) =
        snapshot::decode_line(line).map_err(|reason| damaged(name, reason).at_offset(offset))?;
    Ok(Stored::new(&id, &json::compact(data)))
}

/// Notes where each document is, and leaves it there.
fn index(
    object: Box<dyn Object>,
    name: &str,
    expected: Expected,
    cache_bytes: usize,
) -> Result<Base> {
    let mut places = HashMap::new();
    let mut lines = Lines::new(&*object, 0);
    let mut header_seen = false;
    let mut crc = 0;
    let mut first = 0;
    while let Some(line) = lines.next()? {
        crc = crc32c::crc32c_append(crc, line.bytes);
        if line.terminated {
            crc = crc32c::crc32c_append(crc, b"\n");
        }
        if line.is_blank() {
            continue;
        }
        let at = line.offset;
        if !header_seen {
            snapshot::decode_header(line.bytes)
                .map_err(|reason| damaged(name, reason).at_offset(at))?;
            header_seen = true;
            first = line.end();
            continue;
        }
        let text = std::str::from_utf8(line.bytes)
            .map_err(|_| damaged(name, "the snapshot is not UTF-8").at_offset(at))?;
        let length = u32::try_from(line.bytes.len()).map_err(|_| {
            damaged(name, "a line of the snapshot is longer than 4 GiB").at_offset(at)
        })?;
        let (id, _) =
            snapshot::decode_line(text).map_err(|reason| damaged(name, reason).at_offset(at))?;
        places.insert(
            id.into_owned().into_boxed_str(),
            Place { offset: at, length },
        );
    }
    drop(lines);
    check(name, expected, crc, header_seen)?;
    Ok(Base::new(
        object,
        name.to_owned(),
        first,
        places,
        cache_bytes,
    ))
}

fn check(name: &str, expected: Expected, crc: u32, header_seen: bool) -> Result<()> {
    if !header_seen {
        return Err(damaged(name, "the snapshot is empty"));
    }
    match expected.facts {
        Some(facts) if facts.crc != crc => Err(damaged(
            name,
            "the snapshot's checksum does not match its content",
        )),
        _ => Ok(()),
    }
}

fn damaged(name: &str, reason: impl Into<String>) -> Error {
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
