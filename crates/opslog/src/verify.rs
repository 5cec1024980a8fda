//! Checking every byte of a store that a checksum or a rule covers, without changing anything.

use std::collections::HashSet;
use std::path::Path;

use crate::backend::{Backend, FsBackend, Object};
use crate::format::manifest::{ArchiveFacts, FileFacts, Manifest};
use crate::format::{archive, snapshot, stamps};
use crate::history::{Part, kept_logs};
use crate::open::{no_store, read_manifest};
use crate::oplog::{self, DamageKind, Lines, LogLine, Outcome, Start};
use crate::recover::DamageReport;
use crate::{ErrorKind, Result, base, load, paths};

/// How often the check starts over because a writer made a checkpoint meanwhile.
const TRIES: usize = 20;
/// How many damaged places of one file are listed.
const LISTED: usize = 100;

/// What [`verify`] found.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// assert!(opslog::verify_backend(store.backend())?.is_sound());
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The files of the store, the manifest first.
    pub files: Vec<FileCheck>,
}

/// What was found in one file.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// let report = opslog::verify_backend(store.backend())?;
/// assert_eq!(report.files[0].path, "manifest.json");
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileCheck {
    /// Its path in the store.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Documents or operations that were read and are as they were written.
    pub items: u64,
    /// What is not; the first hundred places.
    pub damage: Vec<DamageReport>,
}

impl VerifyReport {
    /// Whether nothing that was acknowledged is damaged. The torn end of a log, which the next writer cuts off, is no damage.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # opslog::Store::<serde_json::Value>::open(directory.path())?.close()?;
    /// assert!(opslog::verify(directory.path())?.is_sound());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut damage = self.files.iter().flat_map(|file| &file.damage);
        damage.all(|damage| damage.kind == DamageKind::Torn)
    }
}

/// Checks the store in the directory `path`: manifest, snapshot, logs, archive segments; beside a writer too.
///
/// # Errors
///
/// `NotFound` when there is no store; `Unavailable` when a file cannot be read. Damage is no error: it is in the report, that the manifest of a store is missing too.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// let store: opslog::Store = opslog::Store::open(directory.path())?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// let report = opslog::verify(directory.path())?;
/// assert!(report.is_sound());
/// assert_eq!(report.files[0].path, "manifest.json");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(path: impl AsRef<Path>) -> Result<VerifyReport> {
    verify_backend(&FsBackend::new(path.as_ref()))
}

/// As [`verify`], for a store on any backend.
///
/// # Errors
///
/// As for `verify`.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// assert!(opslog::verify_backend(store.backend())?.is_sound());
/// # Ok::<(), opslog::Error>(())
/// ```
pub fn verify_backend(backend: &dyn Backend) -> Result<VerifyReport> {
    let mut tries = 0;
    loop {
        let manifest = match read_manifest(backend) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                let error = no_store(backend);
                if error.kind() != ErrorKind::Corrupt {
                    return Err(error);
                }
                let mut check = FileCheck::new(paths::MANIFEST, 0);
                check.damaged(0, 0, error.message());
                return Ok(VerifyReport { files: vec![check] });
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let size = backend.open(paths::MANIFEST)?.size()?;
                let mut check = FileCheck::new(paths::MANIFEST, size);
                check.damaged(0, size, error.message());
                return Ok(VerifyReport { files: vec![check] });
            }
            Err(error) => return Err(error),
        };
        let report = check_all(backend, &manifest)?;
        tries += 1;
        // What a writer replaced meanwhile may have looked damaged.
        if report.is_sound()
            || tries == TRIES
            || read_manifest(backend)?.as_ref() == Some(&manifest)
        {
            return Ok(report);
        }
    }
}

pub(crate) fn check_all(backend: &dyn Backend, manifest: &Manifest) -> Result<VerifyReport> {
    let size = match backend.open(paths::MANIFEST) {
        Ok(object) => object.size()?,
        // Of a copy, it is written when all the rest has been checked.
        Err(error) if error.is_not_found() => 0,
        Err(error) => return Err(error),
    };
    let ours = manifest.ours.as_ref();
    let mut files = vec![FileCheck::new(paths::MANIFEST, size)];
    files.push(check_file(
        backend,
        &manifest.current_snapshot,
        |object, check| {
            check_snapshot(object, ours.map(|ours| ours.snapshot), check)?;
            let fewest = load::fewest_documents(manifest);
            if check.damage.is_empty() && check.items < fewest {
                let reason = format!("it was written with {fewest} documents");
                check.damaged(0, check.bytes, &reason);
            }
            Ok(())
        },
    )?);
    let stamps = paths::stamps_of(&manifest.current_snapshot);
    if let (Some(name), Some(facts)) = (stamps, ours.and_then(|ours| ours.stamps)) {
        files.push(check_file(backend, &name, |object, check| {
            check_stamps(object, facts, check)
        })?);
    }
    files.extend(check_index(backend, manifest)?);
    let parts = kept_logs(manifest);
    for part in &parts {
        files.push(check_file(backend, &part.name, |_, check| {
            check_log(&*part.open(backend)?, part, check)
        })?);
    }
    for path in &manifest.archive_segments {
        let mut known = ours.into_iter().flat_map(|ours| &ours.archives);
        let facts = known.find(|facts| facts.path == *path && facts.bytes > 0);
        files.push(check_file(backend, path, |object, check| {
            check_archive(object, facts, check)
        })?);
    }
    Ok(VerifyReport { files })
}

/// Runs `check` on a file that the manifest names; that it is missing is damage too.
fn check_file(
    backend: &dyn Backend,
    path: &str,
    check: impl FnOnce(&dyn Object, &mut FileCheck) -> Result<()>,
) -> Result<FileCheck> {
    let object = match backend.open(path) {
        Ok(object) => object,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut file = FileCheck::new(path, 0);
            file.damaged(0, 0, "the manifest names it, and it is missing");
            return Ok(file);
        }
        Err(error) => return Err(error),
    };
    let mut file = FileCheck::new(path, object.size()?);
    check(&*object, &mut file)?;
    Ok(file)
}

/// Checks the index of the snapshot, if there is one that opslog may use.
pub(crate) fn check_index(backend: &dyn Backend, manifest: &Manifest) -> Result<Option<FileCheck>> {
    let (Some(ours), Some(name)) = (
        manifest.ours.as_ref(),
        paths::index_of(&manifest.current_snapshot),
    ) else {
        return Ok(None);
    };
    let object = match backend.open(&name) {
        Ok(object) => object,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut check = FileCheck::new(&name, object.size()?);
    match base::check_index(object, &name, &ours.snapshot) {
        Ok(documents) => check.items = documents,
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let offset = error.offset().unwrap_or(0);
            let reason = format!("{}; it can be removed", error.message());
            check.damaged(offset, check.bytes - offset, &reason);
        }
        Err(error) => return Err(error),
    }
    Ok(Some(check))
}

fn check_snapshot(
    object: &dyn Object,
    facts: Option<FileFacts>,
    check: &mut FileCheck,
) -> Result<()> {
    let mut start = vec![0; 4096];
    let read = object.read_at(0, &mut start)?;
    start.truncate(read);
    if snapshot::is_legacy(&start) {
        let bytes = load::read_all(object)?;
        let decoded = std::str::from_utf8(&bytes)
            .map_err(|_| "it is not UTF-8".to_owned())
            .and_then(snapshot::decode_legacy);
        match decoded {
            Ok((_, documents)) => check.items = documents.len() as u64,
            Err(reason) => check.damaged(0, bytes.len() as u64, &reason),
        }
        return Ok(());
    }
    let mut lines = Lines::new(object, 0);
    let mut ids = HashSet::new();
    let mut header_seen = false;
    let mut crc = 0;
    while let Some(line) = lines.next()? {
        crc = crc32c::crc32c_append(crc, line.bytes);
        crc = crc32c::crc32c_append(crc, if line.terminated { b"\n" } else { b"" });
        if line.is_blank() {
            continue;
        }
        let result = match std::str::from_utf8(line.bytes) {
            Err(_) => Err("it is not UTF-8".to_owned()),
            Ok(_) if !header_seen => snapshot::decode_header(line.bytes).map(drop),
            Ok(text) => snapshot::decode_line(text).and_then(|(id, _)| {
                let new = ids.insert(id.into_owned());
                // In one that the reference wrote, the later line counts.
                (new || facts.is_none())
                    .then_some(())
                    .ok_or_else(|| "its id occurs before".to_owned())
            }),
        };
        match result {
            Ok(()) => check.items = ids.len() as u64,
            Err(reason) => check.damaged(line.offset, line.bytes.len() as u64, &reason),
        }
        header_seen = true;
    }
    if !header_seen {
        check.damaged(0, check.bytes, "it is empty");
    }
    if let Some(facts) = facts {
        check.compare(facts.bytes, facts.crc, crc);
        if check.damage.is_empty() && facts.documents != check.items {
            let reason = format!("it was written with {} documents", facts.documents);
            check.damaged(0, check.bytes, &reason);
        }
    }
    Ok(())
}

/// The stamps of the snapshot's documents, then the tombstones.
fn check_stamps(object: &dyn Object, facts: FileFacts, check: &mut FileCheck) -> Result<()> {
    let mut lines = Lines::new(object, 0);
    let (mut crc, mut documents, mut ids) = (0, 0, HashSet::new());
    while let Some(line) = lines.next()? {
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, line.bytes), b"\n");
        match stamps::decode(line.bytes) {
            Some(stamps::Line::Document(_)) if ids.is_empty() => documents += 1,
            Some(stamps::Line::Deleted(id, _)) if ids.insert(id.to_string()) => {}
            _ => check.damaged(line.offset, line.bytes.len() as u64, "it is no stamp"),
        }
    }
    check.items = documents + ids.len() as u64;
    check.compare(facts.bytes, facts.crc, crc);
    if check.damage.is_empty() && facts.documents != documents {
        let reason = format!(
            "it was written with the stamps of {} documents",
            facts.documents
        );
        check.damaged(0, check.bytes, &reason);
    }
    Ok(())
}

/// An agent's clock must grow from line to line; so no two operations have one stamp.
fn check_clock(line: &LogLine<'_>, part: &Part, clock: &mut u64, check: &mut FileCheck) {
    let Some(agent) = &part.agent else {
        return;
    };
    let length = line.raw.len() as u64;
    if line.op.agent.as_deref() != Some(agent) {
        let reason = format!("the operation is not one of agent '{agent}'");
        check.damaged(line.offset, length, &reason);
    }
    match line.op.clock {
        Some(next) if next > *clock => *clock = next,
        // The reference's clock begins anew at each of its checkpoints.
        Some(_) if line.op.seq.is_none() => {}
        _ => check.damaged(line.offset, length, "the agent's clock does not go on"),
    }
}

fn check_log(object: &dyn Object, part: &Part, check: &mut FileCheck) -> Result<()> {
    let mut clock = 0;
    let mut sink = |line: &LogLine<'_>| {
        check_clock(line, part, &mut clock, check);
        Ok(())
    };
    let outcome: Outcome = match part.sealed {
        None => {
            let start = Start {
                position: 0,
                seq: Some(part.seq),
            };
            oplog::read(object, start, &mut sink)?
        }
        Some((ops, _)) => {
            let outcome = oplog::read_sealed(object, part.seq, &mut sink)?;
            if outcome.damage.is_empty() && outcome.count != ops {
                let reason = format!("it was sealed with {ops} operations");
                check.damaged(0, check.bytes, &reason);
            }
            outcome
        }
    };
    check.items = outcome.count;
    for damage in outcome.damage.into_iter().take(LISTED) {
        check.damage.push(DamageReport {
            path: check.path.clone(),
            offset: damage.range.start,
            bytes: damage.range.end.min(check.bytes) - damage.range.start.min(check.bytes),
            kind: damage.kind,
            reason: damage.reason,
        });
    }
    Ok(())
}

fn check_archive(
    object: &dyn Object,
    facts: Option<&ArchiveFacts>,
    check: &mut FileCheck,
) -> Result<()> {
    let bytes = load::read_all(object)?;
    if let Some(facts) = facts {
        check.compare(facts.bytes, facts.crc, crc32c::crc32c(&bytes));
    }
    match archive::decode(&bytes) {
        Ok(segment) => check.items = segment.documents.len() as u64,
        Err(reason) => check.damaged(0, bytes.len() as u64, &reason),
    }
    Ok(())
}

impl FileCheck {
    fn new(path: &str, bytes: u64) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
            items: 0,
            damage: Vec::new(),
        }
    }

    fn damaged(&mut self, offset: u64, bytes: u64, reason: &str) {
        if self.damage.len() < LISTED {
            self.damage.push(DamageReport {
                path: self.path.clone(),
                offset,
                bytes,
                kind: DamageKind::Damaged,
                reason: reason.to_owned(),
            });
        }
    }

    /// Checks size and checksum of the whole file.
    fn compare(&mut self, bytes: u64, stored: u32, computed: u32) {
        if bytes != self.bytes {
            let reason = format!("it was written with {bytes} bytes");
            self.damaged(bytes.min(self.bytes), bytes.abs_diff(self.bytes), &reason);
        } else if stored != computed && self.damage.is_empty() {
            self.damaged(0, bytes, "its checksum does not match its content");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryBackend, Store};
    use serde_json::{Value, json};

    fn store() -> MemoryBackend {
        let backend = MemoryBackend::new();
        let store: Store<Value> = Store::builder().open_backend(backend.clone()).unwrap();
        for n in 0..20 {
            store
                .set(&format!("{n}"), &json!({"n": n, "nothing": null}))
                .unwrap();
            if n % 6 == 5 {
                store.compact().unwrap();
            }
        }
        store
            .archive(|document, _| document["n"] == 3, Some("old"))
            .unwrap();
        store.set("last", &json!({})).unwrap();
        backend
    }

    #[test]
    fn a_sound_store_is_found_sound_and_counted() {
        let report = verify_backend(&store()).unwrap();
        assert!(report.is_sound(), "{report:?}");
        let items: Vec<u64> = report.files.iter().map(|file| file.items).collect();
        // Manifest, snapshot, three logs and what came after them, the active log, the archive.
        assert_eq!(items, [0, 19, 6, 6, 6, 2, 1, 1]);
    }

    #[test]
    fn any_flipped_bit_of_any_file_is_found() {
        let backend = store();
        let sound = verify_backend(&backend).unwrap();
        for file in &sound.files {
            let original = backend.read(&file.path).unwrap();
            let step = (original.len() / 150).max(1);
            for position in (0..original.len()).step_by(step) {
                let mut flipped = original.clone();
                flipped[position] ^= 1 << (position % 8);
                backend.put(&file.path, &flipped).unwrap();
                let report = verify_backend(&backend).unwrap();
                let place = format!("{} byte {position}", file.path);
                // In the last line of the active log a flipped bit looks like a write that was cut short.
                let seen = report.files.iter().any(|file| !file.damage.is_empty());
                assert!(seen, "{place}");
            }
            backend.put(&file.path, &original).unwrap();
        }
    }

    #[test]
    fn a_missing_file_is_damage_and_a_missing_store_is_not_found() {
        let backend = store();
        let report = verify_backend(&backend).unwrap();
        backend.delete(&report.files[2].path).unwrap();
        assert!(!verify_backend(&backend).unwrap().is_sound());
        let error = verify_backend(&MemoryBackend::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
