//! What the machine can do at best, by raw calls and no more code than that takes.
//!
//! Not stores: nothing here checks, recovers or can be read back. The lines appended are the reference's operations of the same documents,
//! the files read are opslog's.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::BuildHasher;
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use hashbrown::{DefaultHashBuilder, HashTable};
use memchr::memmem::Finder;

use crate::Result;
use crate::documents::Task;
use crate::measure::{Elapsed, Stopwatch};

/// Bytes in one write, where there is a choice.
const CHUNK: usize = 1 << 20;
/// What comes before the id in a line.
const ID: &[u8] = br#""id":""#;
/// The buffer of [`append_buffered`].
const BUFFER: usize = 64 << 10;

/// One line of a log for each document.
pub(crate) fn op_lines(documents: &[(String, Task)]) -> Result<Vec<Vec<u8>>> {
    let line = |(id, task): &(String, Task)| {
        let mut line = Vec::new();
        encode(id, task, &mut line, &mut Kept::Nothing)?;
        Ok(line)
    };
    documents.iter().map(line).collect()
}

/// What a loop that writes keeps of the documents.
enum Kept {
    Nothing,
    /// Their text, by id.
    All(HashMap<String, Box<str>>),
}

impl Kept {
    fn new(keeps: bool) -> Self {
        if keeps {
            Self::All(HashMap::new())
        } else {
            Self::Nothing
        }
    }
}

fn encode(id: &str, task: &Task, line: &mut Vec<u8>, kept: &mut Kept) -> Result<()> {
    write!(
        line,
        r#"{{"ts":"2026-11-21T12:44:53.661Z","op":"set","id":"{id}","prev":null,"data":"#
    )?;
    match kept {
        Kept::Nothing => serde_json::to_writer(&mut *line, task)?,
        Kept::All(documents) => {
            let text = serde_json::to_string(task)?;
            line.extend_from_slice(text.as_bytes());
            documents.insert(id.to_owned(), text.into_boxed_str());
        }
    }
    line.extend_from_slice(b"}\n");
    Ok(())
}

/// P1: each line written at the end of a growing file and synced.
pub(crate) fn append_growing(directory: &Path, lines: &[Vec<u8>]) -> Result<Elapsed> {
    let mut file = File::create_new(directory.join("growing"))?;
    let stopwatch = Stopwatch::start();
    for line in lines {
        file.write_all(line)?;
        file.sync_data()?;
    }
    Ok(stopwatch.elapsed())
}

/// P1: each line written into a file that has its size and blocks already, and synced.
pub(crate) fn append_in_place(directory: &Path, lines: &[Vec<u8>]) -> Result<Elapsed> {
    let size = lines.iter().map(Vec::len).sum();
    let path = directory.join("in-place");
    file_of(&path, size)?;
    let stopwatch = Stopwatch::start();
    write_in_place(&path, lines)?;
    Ok(stopwatch.elapsed())
}

/// Each line written into a file that has its size and blocks already, and synced.
pub(crate) fn write_in_place(path: &Path, lines: &[Vec<u8>]) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let mut end = 0;
    for line in lines {
        file.write_all_at(line, end)?;
        file.sync_data()?;
        end += line.len() as u64;
    }
    Ok(())
}

/// A file of `size` bytes that are on storage already.
pub(crate) fn file_of(path: &Path, size: usize) -> Result<File> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    let blank = vec![b'\n'; CHUNK];
    let mut left = size;
    while left > 0 {
        let length = left.min(CHUNK);
        file.write_all(&blank[..length])?;
        left -= length;
    }
    file.sync_all()?;
    Ok(file)
}

/// P4: batches encoded, written in place in one call each, and synced. With `keeps` the documents are then in memory, by id.
pub(crate) fn append_batches(
    directory: &Path,
    documents: &[(String, Task)],
    batch: usize,
    keeps: bool,
) -> Result<Elapsed> {
    let size = op_lines(documents)?.iter().map(Vec::len).sum();
    let file = file_of(&directory.join("batches"), size)?;
    let mut kept = Kept::new(keeps);
    let stopwatch = Stopwatch::start();
    let mut end = 0;
    let mut bytes = Vec::new();
    for batch in documents.chunks(batch) {
        bytes.clear();
        for (id, task) in batch {
            encode(id, task, &mut bytes, &mut kept)?;
        }
        file.write_all_at(&bytes, end)?;
        file.sync_data()?;
        end += bytes.len() as u64;
    }
    Ok(stopwatch.elapsed())
}

/// P3: each document encoded into a buffer of 64 KiB, which is written when full; the time until that is done, and until the file is synced. `keeps` as for
/// [`append_batches`].
pub(crate) fn append_buffered(
    directory: &Path,
    documents: &[(String, Task)],
    keeps: bool,
) -> Result<(Elapsed, Elapsed)> {
    let mut file = File::create(directory.join("buffered"))?;
    let mut buffer = Vec::with_capacity(BUFFER + 1024);
    let mut kept = Kept::new(keeps);
    let stopwatch = Stopwatch::start();
    for (id, task) in documents {
        encode(id, task, &mut buffer, &mut kept)?;
        if buffer.len() >= BUFFER {
            file.write_all(&buffer)?;
            buffer.clear();
        }
    }
    file.write_all(&buffer)?;
    let accepted = stopwatch.elapsed();
    file.sync_data()?;
    Ok((accepted, stopwatch.elapsed()))
}

/// What the writers of [`append_by_leaders`] share.
#[derive(Default)]
struct Group {
    waiting: Vec<u8>,
    /// Lines put into `waiting` so far, and those on storage.
    accepted: u64,
    synced: u64,
    end: u64,
    has_leader: bool,
    failure: Option<String>,
}

/// P2: an ideal leader-follower loop, in place: whoever finds nobody syncing writes and syncs what all have put there.
pub(crate) fn append_by_leaders(
    directory: &Path,
    documents: &[(String, Task)],
    threads: u32,
) -> Result<Elapsed> {
    let size = op_lines(documents)?.iter().map(Vec::len).sum();
    let file = file_of(&directory.join("group"), size)?;
    let group = (Mutex::new(Group::default()), Condvar::new());
    let barrier = Barrier::new(threads as usize + 1);
    let share = documents.len().div_ceil(threads as usize);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..threads as usize)
            .map(|thread| {
                let documents = documents.iter().skip(thread * share).take(share);
                let (group, file, barrier) = (&group, &file, &barrier);
                scope.spawn(move || -> Result<()> {
                    barrier.wait();
                    let mut line = Vec::new();
                    for (id, task) in documents {
                        line.clear();
                        encode(id, task, &mut line, &mut Kept::Nothing)?;
                        commit(group, file, &line)?;
                    }
                    Ok(())
                })
            })
            .collect();
        barrier.wait();
        let stopwatch = Stopwatch::start();
        for writer in writers {
            writer.join().map_err(|_| "a writer panicked")??;
        }
        Ok(stopwatch.elapsed())
    })
}

fn commit((group, synced): &(Mutex<Group>, Condvar), file: &File, line: &[u8]) -> Result<()> {
    let mut state = lock(group);
    state.waiting.extend_from_slice(line);
    state.accepted += 1;
    let ticket = state.accepted;
    while state.synced < ticket {
        if state.has_leader {
            state = synced.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        state.has_leader = true;
        let bytes = std::mem::take(&mut state.waiting);
        let (accepted, end) = (state.accepted, state.end);
        drop(state);
        let result = file
            .write_all_at(&bytes, end)
            .and_then(|()| file.sync_data());
        state = lock(group);
        state.has_leader = false;
        state.synced = accepted;
        state.end += bytes.len() as u64;
        state.failure = result.err().map(|error| error.to_string());
        synced.notify_all();
    }
    state
        .failure
        .clone()
        .map_or(Ok(()), |error| Err(error.into()))
}

fn lock(group: &Mutex<Group>) -> MutexGuard<'_, Group> {
    group.lock().unwrap_or_else(PoisonError::into_inner)
}

/// P5 and P11: reads the file into memory with `threads`, finds its lines, and enters their ids into a hash table. Answers how many ids there are.
pub(crate) fn load(path: &Path, threads: usize) -> Result<usize> {
    let file = File::open(path)?;
    let size = usize::try_from(file.metadata()?.len())?;
    let mut bytes = vec![0; size];
    let share = size.div_ceil(threads).max(1);
    let hasher = DefaultHashBuilder::default();
    let parts: Vec<Part> = thread::scope(|scope| {
        let readers: Vec<_> = bytes
            .chunks_mut(share)
            .enumerate()
            .map(|(part, piece)| {
                let (file, hasher) = (&file, &hasher);
                scope.spawn(move || read_part(file, part * share, piece, hasher))
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().map_err(|_| "a reader panicked")?)
            .collect::<Result<_>>()
    })?;
    let key = Finder::new(ID);
    let id_at = |line: usize| id_of(&bytes[line..], &key).unwrap_or_default();
    let mut table = HashTable::with_capacity(parts.iter().map(|part| part.lines.len() + 1).sum());
    let mut enter = |hash: u64, line: usize| {
        let same = |other: &usize| id_at(*other) == id_at(line);
        match table.find_mut(hash, same) {
            Some(place) => *place = line,
            None => {
                table.insert_unique(hash, line, |line| hasher.hash_one(id_at(*line)));
            }
        }
    };
    let mut start = 0;
    for part in parts {
        if let Some((first, last)) = part.ends {
            // The line that lies across two parts.
            if let Some(id) = id_of(&bytes[start..first], &key) {
                enter(hasher.hash_one(id), start);
            }
            start = last;
        }
        for (hash, line) in part.lines {
            enter(hash, line);
        }
    }
    Ok(table.len())
}

/// What one thread of [`load`] found.
struct Part {
    /// Hash of the id and offset of each line that begins behind a line's end in this part, and ends in it.
    lines: Vec<(u64, usize)>,
    /// The offset behind the first and the last line's end.
    ends: Option<(usize, usize)>,
}

/// Fills `piece` with the bytes from `offset` on, looking at each chunk while it is in the processor's cache.
fn read_part(
    file: &File,
    offset: usize,
    piece: &mut [u8],
    hasher: &DefaultHashBuilder,
) -> Result<Part> {
    let key = Finder::new(ID);
    let mut lines = Vec::with_capacity(piece.len() / 256);
    let mut ends: Option<(usize, usize)> = None;
    for from in (0..piece.len()).step_by(CHUNK) {
        let to = piece.len().min(from + CHUNK);
        file.read_exact_at(&mut piece[from..to], (offset + from) as u64)?;
        for end in memchr::memchr_iter(b'\n', &piece[from..to]) {
            let end = from + end;
            if let Some((_, start)) = ends
                && let Some(id) = id_of(&piece[start - offset..end], &key)
            {
                lines.push((hasher.hash_one(id), start));
            }
            let behind = offset + end + 1;
            ends = Some((ends.map_or(behind, |(first, _)| first), behind));
        }
    }
    Ok(Part { lines, ends })
}

/// P5 and P11: as [`load`], but nothing is kept, so no memory is needed and no table. Answers how many lines have an id.
pub(crate) fn scan(path: &Path, threads: usize) -> Result<usize> {
    let file = File::open(path)?;
    let size = usize::try_from(file.metadata()?.len())?;
    let share = size.div_ceil(threads).max(1);
    thread::scope(|scope| {
        let scanners: Vec<_> = (0..size)
            .step_by(share)
            .map(|from| {
                let file = &file;
                scope.spawn(move || scan_part(file, from, from + share))
            })
            .collect();
        scanners
            .into_iter()
            .map(|scanner| scanner.join().map_err(|_| "a scanner panicked")?)
            .sum()
    })
}

/// Scans the lines that begin at `from` or behind it, and before `to`, in pieces that fit into the processor's cache.
fn scan_part(file: &File, from: usize, to: usize) -> Result<usize> {
    let hasher = DefaultHashBuilder::default();
    let key = Finder::new(ID);
    let mut buffer = vec![0; 2 * CHUNK];
    // Bytes of an unfinished line at the buffer's start, and where it lies in the file.
    let mut filled = 0;
    let mut line = from.saturating_sub(1);
    let mut is_foreign = from > 0;
    let mut count = 0;
    let mut seen = 0;
    loop {
        buffer.resize(buffer.len().max(filled + CHUNK), 0);
        let read = file.read_at(&mut buffer[filled..filled + CHUNK], (line + filled) as u64)?;
        if read == 0 {
            break;
        }
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', &buffer[filled..filled + read]) {
            let end = filled + end;
            if is_foreign {
                is_foreign = false;
            } else if line + begin >= to {
                black_box(seen);
                return Ok(count);
            } else if let Some(id) = id_of(&buffer[begin..end], &key) {
                seen ^= hasher.hash_one(id);
                count += 1;
            }
            begin = end + 1;
        }
        filled += read;
        buffer.copy_within(begin..filled, 0);
        line += begin;
        filled -= begin;
    }
    black_box(seen);
    Ok(count)
}

/// The id of a line of a snapshot or a log; the snapshot's header has none.
fn id_of<'a>(line: &'a [u8], key: &Finder<'_>) -> Option<&'a [u8]> {
    let id = &line[key.find(line)? + key.needle().len()..];
    Some(&id[..memchr::memchr(b'"', id)?])
}

/// P10: copies a file and syncs the copy.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<Elapsed> {
    let stopwatch = Stopwatch::start();
    let source = File::open(from)?;
    let mut target = File::create(to)?;
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let read = source.read_at(&mut buffer, offset)?;
        if read == 0 {
            break;
        }
        target.write_all(&buffer[..read])?;
        offset += read as u64;
    }
    target.sync_data()?;
    Ok(stopwatch.elapsed())
}
