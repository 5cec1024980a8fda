//! Copying a store to another place while it is written to, and bringing a copy back.
//!
//! A copy is made of the files that one manifest names. All but the active log never change, so they are copied as they are; of the log, the bytes up to
//! its last whole commit. The manifest goes last, once everything that was copied has been read again and found sound: a directory without a manifest is no store, so half a
//! copy is never taken for one. Nothing is linked: a copy that shares its bytes with the store would share their decay.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::backend::{Backend, FsBackend, Object};
use crate::checkpoint::discard;
use crate::document::Document;
use crate::engine::Engine;
use crate::format::manifest::{self, Manifest};
use crate::history::{Part, kept_logs};
use crate::open::{load_all, no_store, read_manifest};
use crate::oplog::{self, Start};
use crate::options::{Options, Residency};
use crate::verify::{self, VerifyReport};
use crate::{Error, ErrorKind, Result, paths};

/// How often a copy starts over because a checkpoint or an undo changed what it was reading.
const TRIES: usize = 50;
const PIECE: usize = 1 << 20;

/// What was copied by [`backup`], and read again.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let (live, copy) = (directory.path().join("live"), directory.path().join("copy"));
/// let store: opslog::Store = opslog::Store::open(&live)?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// let report = store.backup(&copy)?;
/// assert_eq!((report.documents, report.operations), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Files, blobs included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Documents that the copy has when it is opened, without those in the archive segments.
    pub documents: u64,
    /// Documents in the archive segments.
    pub archived: u64,
    /// Operations in the logs.
    pub operations: u64,
}

/// What [`restore`] does where there is a store already.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let (live, copy) = (directory.path().join("live"), directory.path().join("copy"));
/// # opslog::Store::<serde_json::Value>::open(&live)?.backup(&copy)?;
/// use opslog::Existing;
/// assert!(opslog::restore(&copy, &live, Existing::Refuse).is_err());
/// let report = opslog::restore(&copy, &live, Existing::MoveAside)?;
/// assert!(report.moved.expect("the old store").is_dir());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Answers `Conflict`.
    Refuse,
    /// Renames the directory, and keeps it.
    MoveAside,
}

/// What [`restore`] has done.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let (live, copy) = (directory.path().join("live"), directory.path().join("copy"));
/// # opslog::Store::<serde_json::Value>::open(&live)?.backup(&copy)?;
/// let report = opslog::restore(&copy, directory.path().join("new"), opslog::Existing::Refuse)?;
/// assert!(report.moved.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// What was copied.
    pub copied: BackupReport,
    /// Where the store is that was in this place before.
    pub moved: Option<PathBuf>,
}

/// Copies the store in the directory `from` to the directory `to`, which must be empty or not exist, while another process writes to it or none does. The copy has every
/// operation that was on storage when the call began, and perhaps later ones; a batch is in it whole or not at all. Blobs are copied too, each as it
/// is when its turn comes; so is the log of each agent, where there are several. Everything copied is on stable storage and has been read again on return.
///
/// A store that is open in this process, and buffers writes, is better copied by [`Store::backup`](crate::Store::backup).
///
/// # Errors
///
/// `NotFound` when there is no store; `Conflict` when `to` holds files; `InvalidInput` when `to` is inside `from`; `Corrupt` when the store is damaged, and then nothing is left
/// at `to`; `Unavailable` when a storage refuses.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let (live, copy) = (directory.path().join("live"), directory.path().join("copy"));
/// let store: opslog::Store = opslog::Store::open(&live)?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// opslog::backup(&live, &copy)?;
/// let copy: opslog::Store = opslog::Store::open(&copy)?;
/// assert!(copy.has("a")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn backup(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<BackupReport> {
    ensure_apart(from.as_ref(), to.as_ref())?;
    backup_backend(&FsBackend::new(from.as_ref()), &FsBackend::new(to.as_ref()))
}

/// As [`backup`], between any two backends.
///
/// # Errors
///
/// As for `backup`.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// let copy = opslog::MemoryBackend::new();
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// opslog::backup_backend(store.backend(), &copy)?;
/// let copy: opslog::Store = opslog::Store::builder().open_backend(copy)?;
/// assert!(copy.has("a")?);
/// # Ok::<(), opslog::Error>(())
/// ```
pub fn backup_backend(from: &dyn Backend, to: &dyn Backend) -> Result<BackupReport> {
    copy_store(from, to, None)
}

/// Brings the copy in the directory `from` back to the directory `to`. The copy is as [`backup`] makes it, and stays as it is.
///
/// With [`Existing::MoveAside`] the directory that is at `to` is renamed first, and kept, under a lock that no writer has. The copy is complete and checked before anything is renamed. A
/// power cut between the two renames leaves nothing at `to`, and both stores whole beside it.
///
/// # Errors
///
/// As for [`backup`]; `Conflict` when `to` holds files and `existing` is [`Existing::Refuse`]; `Locked` while a writer has the store at `to` open.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let (live, copy) = (directory.path().join("live"), directory.path().join("copy"));
/// let store: opslog::Store = opslog::Store::open(&live)?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// store.backup(&copy)?;
/// store.delete("a")?;
/// store.close()?;
/// opslog::restore(&copy, &live, opslog::Existing::MoveAside)?;
/// let store: opslog::Store = opslog::Store::open(&live)?;
/// assert!(store.has("a")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn restore(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    existing: Existing,
) -> Result<RestoreReport> {
    let (from, to) = (from.as_ref(), to.as_ref());
    ensure_apart(from, to)?;
    let (source, target) = (FsBackend::new(from), FsBackend::new(to));
    if existing == Existing::Refuse || is_empty(&target)? {
        let copied = copy_store(&source, &target, None)?;
        return Ok(RestoreReport {
            copied,
            moved: None,
        });
    }
    ensure_apart(to, from)?;
    let _held = target.lock()?;
    let now = Timestamp::now().as_millisecond();
    let staged = FsBackend::new(beside(to, &format!("restoring-{now}"))?);
    let copied = copy_store(&source, &staged, None)?;
    let old = beside(to, &format!("before-restore-{now}"))?;
    target.rename_to(&old)?;
    if let Err(error) = staged.rename_to(to) {
        FsBackend::new(&old).rename_to(to)?;
        return Err(error);
    }
    Ok(RestoreReport {
        copied,
        moved: Some(old),
    })
}

impl<T: Document> Engine<T> {
    /// Copies the store with everything accepted so far.
    pub(crate) fn backup(&self, to: &Path) -> Result<BackupReport> {
        self.ensure_open()?;
        if self.is_batching() {
            return Err(Error::invalid(
                "inside a batch a backup would lack the batch; make it before or after",
            ));
        }
        self.settle_for_reading()?;
        ensure_apart(Path::new(&self.backend.location()), to)?;
        let settled = Settled {
            agent: self.options.agent.clone(),
            seq: self.settled_seq(),
        };
        copy_store(&*self.backend, &FsBackend::new(to), Some(settled))
    }
}

/// The directory `path`, with `mark` behind its name.
fn beside(path: &Path, mark: &str) -> Result<PathBuf> {
    let path = path
        .canonicalize()
        .map_err(|error| Error::io("find", path, error))?;
    let Some(name) = path.file_name() else {
        return Err(Error::invalid(
            "a whole file system cannot be moved aside; restore to another directory",
        )
        .at_path(path));
    };
    let mut name = name.to_owned();
    name.push(".");
    name.push(mark);
    Ok(path.with_file_name(name))
}

/// A copy inside the store would be taken for the store's blobs.
fn ensure_apart(from: &Path, to: &Path) -> Result<()> {
    let Ok(from) = from.canonicalize() else {
        return Ok(());
    };
    let nearest = to.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        path.canonicalize().ok()
    });
    if to.canonicalize().is_ok_and(|to| to == from) {
        return Err(Error::invalid(
            "the store and the copy are the same directory; name another one",
        )
        .at_path(to));
    }
    if nearest.is_some_and(|nearest| nearest.starts_with(&from)) {
        return Err(Error::invalid(
            "the copy would be inside the store; choose a directory beside it",
        )
        .at_path(to));
    }
    Ok(())
}

/// How far the log of an open store counts: what is being written is not acknowledged.
struct Settled {
    agent: Option<String>,
    /// The number of the first operation that does not count.
    seq: u64,
}

/// Copies what `from` has.
fn copy_store(
    from: &dyn Backend,
    to: &dyn Backend,
    settled: Option<Settled>,
) -> Result<BackupReport> {
    if read_manifest(from)?.is_none() {
        return Err(no_store(from));
    }
    if !is_empty(to)? {
        return Err(Error::new(
            ErrorKind::Conflict,
            "there are files already; name a directory that is empty or does not exist",
        )
        .at_path(to.location()));
    }
    to.initialize()?;
    let _held = to.lock()?;
    let mut copy = Copy {
        from,
        to,
        settled,
        done: HashMap::new(),
    };
    copy.run().inspect_err(|_| {
        for name in copy.done.keys() {
            discard(to, name);
        }
    })
}

/// Whether there is nothing but what locks leave behind.
fn is_empty(backend: &dyn Backend) -> Result<bool> {
    let objects = backend.list("")?;
    Ok(objects.iter().all(|object| paths::is_lock(&object.name)))
}

/// A copy being made.
struct Copy<'b> {
    from: &'b dyn Backend,
    to: &'b dyn Backend,
    settled: Option<Settled>,
    /// Objects that are in place, with their sizes.
    done: HashMap<String, u64>,
}

/// Whether what was read belongs together.
enum Attempt<R> {
    Done(R),
    /// A checkpoint or an undo came in between.
    Overtaken,
}

impl Copy<'_> {
    fn run(&mut self) -> Result<BackupReport> {
        let mut tries = 0;
        let (manifest, report) = loop {
            let manifest = read_manifest(self.from)?.ok_or_else(|| {
                Error::not_found("the store went away").at_path(self.from.location())
            })?;
            tries += 1;
            match self.attempt(&manifest) {
                Ok(Attempt::Done(report)) => break (manifest, report),
                Ok(Attempt::Overtaken) if tries < TRIES => {}
                Err(error) if error.is_not_found() && tries < TRIES => {
                    if read_manifest(self.from)?.as_ref() == Some(&manifest) {
                        return Err(crate::open::missing_file_is_damage(error));
                    }
                }
                Ok(Attempt::Overtaken) => {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        "the store changed again and again while it was copied; try again later",
                    )
                    .at_path(self.from.location()));
                }
                Err(error) => return Err(error),
            }
        };
        self.copy_blobs()?;
        self.drop_all_but(&manifest);
        let documents = count_documents(self.to, &manifest)?;
        let bytes = manifest::encode(&manifest);
        self.to.put(paths::MANIFEST, &bytes)?;
        let items = |folder: &str| {
            let files = report.files.iter();
            let files = files.filter(|file| file.path.starts_with(folder));
            files.map(|file| file.items).sum()
        };
        Ok(BackupReport {
            files: self.done.len() as u64 + 1,
            bytes: self.done.values().sum::<u64>() + bytes.len() as u64,
            documents,
            archived: items(paths::ARCHIVE),
            operations: items(paths::OPS),
        })
    }

    /// Copies the files that `manifest` names, and reads the copies.
    fn attempt(&mut self, manifest: &Manifest) -> Result<Attempt<VerifyReport>> {
        let logs = kept_logs(manifest);
        let (active, sealed): (Vec<&Part>, Vec<&Part>) =
            logs.iter().partition(|part| part.sealed.is_none());
        // Opened, they cannot be taken away any more.
        let mut opened = Vec::new();
        for part in active {
            opened.push((part, self.from.open(&part.name)?));
        }
        self.copy_whole(&manifest.current_snapshot)?;
        if let Some(stamps) = stamps_of(manifest) {
            self.copy_whole(&stamps)?;
        }
        for part in sealed {
            let object = part.open(self.from)?;
            self.copy(&part.name, &*object, object.size()?)?;
        }
        for path in &manifest.archive_segments {
            self.copy_whole(path)?;
        }
        for (part, object) in opened {
            let end = self.end_of(part, &*object)?;
            let crc = self.copy(&part.name, &*object, end)?;
            // An undo cuts the log; what was read before and after such a cut does not belong together.
            if checksum(&*object, end)? != crc {
                return Ok(Attempt::Overtaken);
            }
        }
        let report = verify::check_all(self.to, manifest)?;
        let Some(damage) = report.files.iter().flat_map(|file| &file.damage).next() else {
            return Ok(Attempt::Done(report));
        };
        if read_manifest(self.from)?.as_ref() != Some(manifest) {
            return Ok(Attempt::Overtaken);
        }
        Err(Error::corrupt(format!(
            "the store is damaged, and was not copied: {}; see what 'verify' says, and 'repair' it",
            damage.reason
        ))
        .at_path(&damage.path)
        .at_offset(damage.offset))
    }

    /// Where the last whole commit ends that counts.
    fn end_of(&self, part: &Part, object: &dyn Object) -> Result<u64> {
        let start = Start {
            position: 0,
            seq: Some(part.seq),
        };
        let settled = self.settled.as_ref();
        let own = settled.filter(|settled| settled.agent.as_deref() == part.agent.as_deref());
        let mut unsettled = None;
        let outcome = oplog::read(object, start, &mut |line| {
            if own.is_some_and(|settled| line.seq >= settled.seq) {
                unsettled.get_or_insert(line.offset);
            }
            Ok(())
        })?;
        Ok(unsettled.unwrap_or(outcome.end))
    }

    fn copy_whole(&mut self, name: &str) -> Result<()> {
        let object = self.from.open(name)?;
        self.copy(name, &*object, object.size()?).map(drop)
    }

    /// Copies the first `size` bytes of `object`; returns their checksum.
    fn copy(&mut self, name: &str, object: &dyn Object, size: u64) -> Result<u32> {
        if let Some(done) = self.done.get(name) {
            // Only the active log changes, also without growing: an undo, and then another commit of the same length.
            if *done == size {
                let copied = checksum(&*self.to.open(name)?, size)?;
                if copied == checksum(object, size)? {
                    return Ok(copied);
                }
            }
            self.to.delete(name)?;
        }
        let mut file = self.to.create(name)?;
        let mut crc = 0;
        for_each_piece(object, size, |piece| {
            crc = crc32c::crc32c_append(crc, piece);
            file.write(piece)
        })?;
        file.finish()?;
        self.done.insert(name.to_owned(), size);
        Ok(crc)
    }

    /// Copies the user's own files, and what earlier recoveries kept.
    fn copy_blobs(&mut self) -> Result<()> {
        for object in self.from.list("")? {
            let name = object.name;
            if paths::is_own(&name) && !paths::is_damaged(&name) {
                continue;
            }
            match self.copy_whole(&name) {
                // A blob may go away at any time.
                Err(error) if error.is_not_found() => {}
                copied => copied?,
            }
        }
        Ok(())
    }

    /// Removes what an attempt that was overtaken has copied.
    fn drop_all_but(&mut self, manifest: &Manifest) {
        let logs = kept_logs(manifest);
        let stamps = stamps_of(manifest);
        let (done, to) = (&mut self.done, self.to);
        done.retain(|name, _| {
            let needed = *name == manifest.current_snapshot
                || Some(name) == stamps.as_ref()
                || manifest.archive_segments.contains(name)
                || logs.iter().any(|part| part.name == *name)
                || !paths::is_own(name)
                || paths::is_damaged(name);
            if !needed {
                discard(to, name);
            }
            needed
        });
    }
}

/// The file with the stamps of the snapshot, in a store of agents.
fn stamps_of(manifest: &Manifest) -> Option<String> {
    manifest.ours.as_ref()?.stamps?;
    paths::stamps_of(&manifest.current_snapshot)
}

/// How many documents the store of `manifest` has, with the operations behind its snapshot. They are read, and not kept.
fn count_documents(backend: &dyn Backend, manifest: &Manifest) -> Result<u64> {
    let options = Options {
        read_only: true,
        residency: Residency::OnDemand { cache_bytes: PIECE },
        ..Options::default()
    };
    let loaded = load_all::<()>(&options, backend, manifest.clone())?;
    Ok(loaded.state.len() as u64)
}

/// The checksum of the first `size` bytes; of fewer where there are no more.
fn checksum(object: &dyn Object, size: u64) -> Result<u32> {
    let mut crc = 0;
    for_each_piece(object, size, |piece| {
        crc = crc32c::crc32c_append(crc, piece);
        Ok(())
    })?;
    Ok(crc)
}

/// Hands the first `size` bytes of `object` to `sink`, piece by piece.
pub(crate) fn for_each_piece(
    object: &dyn Object,
    size: u64,
    mut sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut position = 0;
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(PIECE).clamp(1, PIECE)];
    while position < size {
        let wanted = usize::try_from(size - position).unwrap_or(PIECE).min(PIECE);
        let read = object.read_at(position, buffer.get_mut(..wanted).unwrap_or_default())?;
        if read == 0 {
            break;
        }
        sink(buffer.get(..read).unwrap_or_default())?;
        position += read as u64;
    }
    Ok(())
}
