//! Planted bugs, and calls that come in between: what a test does to the file system under the store.
//!
//! Every store of the crash suites is opened on a [`Flawed`] file system, which passes all calls on unless a [`Flaw`] is planted on its thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opslog::backend::{DirectoryEntry, File, FileLock, FileSystem, OpenMode};
use opslog::testing::{self, Bug};

use super::explore::lock;

/// A fault of durability that a store could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Directories are not synced.
    NoDirectorySync,
    /// Logs are not synced.
    NoDataSync,
    /// Snapshots and manifests are not synced.
    NoFileSync,
    /// A call returns before the sync, which comes with the next call.
    AcknowledgedBeforeSync,
    /// Temporary files are renamed first, and synced then.
    RenamedBeforeSync,
    /// The manifest is there before the snapshot that it names is synced.
    ManifestBeforeSnapshot,
    /// The manifest is written in its place.
    ManifestInPlace,
    /// The old snapshot is removed before the manifest names the new one.
    OldSnapshotRemovedFirst,
    /// What a failed write left is not cut off.
    NoCutAfterFailedWrite,
    /// What a failed write left is cut off, and that is not synced.
    CutAfterFailedWriteNotSynced,
    /// A short write is taken for a whole one.
    ShortWriteTakenForWhole,
    /// A sync that failed is tried again, and succeeds, since the system has forgotten what it was for.
    FailedSyncTriedAgain,
    /// A torn end is not cut off at open, and what comes next is written over its beginning.
    TornEndKept,
    /// A cut is not synced: undone commits may come back.
    CutNotSynced,
    /// What a killed process wrote is shown without being synced.
    NotWrittenAgainAtOpen,
    /// A fault of the core.
    Core(Bug),
}

pub(crate) const FLAWS: [Flaw; 20] = [
    Flaw::NoDirectorySync,
    Flaw::NoDataSync,
    Flaw::NoFileSync,
    Flaw::AcknowledgedBeforeSync,
    Flaw::RenamedBeforeSync,
    Flaw::ManifestBeforeSnapshot,
    Flaw::ManifestInPlace,
    Flaw::OldSnapshotRemovedFirst,
    Flaw::NoCutAfterFailedWrite,
    Flaw::CutAfterFailedWriteNotSynced,
    Flaw::ShortWriteTakenForWhole,
    Flaw::FailedSyncTriedAgain,
    Flaw::TornEndKept,
    Flaw::CutNotSynced,
    Flaw::NotWrittenAgainAtOpen,
    Flaw::Core(Bug::TornBatchApplied),
    Flaw::Core(Bug::LinesBehindTearKept),
    Flaw::Core(Bug::CheckpointDropsTail),
    Flaw::Core(Bug::FailedCommitVisible),
    Flaw::Core(Bug::FailedSyncForgotten),
];

impl Flaw {
    /// Whether it shows only when a call fails.
    pub(crate) fn needs_a_failure(self) -> bool {
        matches!(
            self,
            Self::NoCutAfterFailedWrite
                | Self::CutAfterFailedWriteNotSynced
                | Self::ShortWriteTakenForWhole
                | Self::FailedSyncTriedAgain
                | Self::NotWrittenAgainAtOpen
                | Self::Core(Bug::FailedCommitVisible | Bug::FailedSyncForgotten)
        )
    }
}

type Meanwhile = Option<Box<dyn FnOnce()>>;

thread_local! {
    static FLAW: Cell<Option<Flaw>> = const { Cell::new(None) };
    static MEANWHILE: RefCell<Meanwhile> = const { RefCell::new(None) };
}

/// Plants a flaw in the stores that this thread opens from now on; returns the one that was there.
pub(crate) fn plant(flaw: Option<Flaw>) -> Option<Flaw> {
    testing::plant(match flaw {
        Some(Flaw::Core(bug)) => Some(bug),
        _ => None,
    });
    FLAW.replace(flaw)
}

/// Has `call` made when this thread next creates a snapshot: no lock of the store is held then.
pub(crate) fn meanwhile(call: impl FnOnce() + 'static) {
    put_back(Some(Box::new(call)));
}

/// Takes back what was to be called.
pub(crate) fn take_meanwhile() -> Meanwhile {
    MEANWHILE.take()
}

pub(crate) fn put_back(meanwhile: Meanwhile) {
    MEANWHILE.set(meanwhile);
}

#[derive(Clone)]
pub(crate) struct Flawed {
    below: Arc<dyn FileSystem>,
    flaw: Option<Flaw>,
    /// Syncs that are still to be made.
    late: Arc<Mutex<Vec<Late>>>,
}

enum Late {
    File(Arc<dyn File>),
    Folder(PathBuf),
}

struct FlawedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    on: Flawed,
    opened_to_write: AtomicBool,
    write_failed: AtomicBool,
    cut: AtomicBool,
}

impl Flawed {
    pub(crate) fn on(below: impl FileSystem) -> Self {
        Self {
            below: Arc::new(below),
            flaw: FLAW.get(),
            late: Arc::default(),
        }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// Makes the syncs that were put off.
    fn catch_up(&self) -> io::Result<()> {
        let late = std::mem::take(&mut *lock(&self.late));
        late.into_iter().try_for_each(|late| match late {
            Late::File(file) => file.sync_all(),
            Late::Folder(path) => self.below.sync_dir(&path),
        })
    }

    /// Before a change.
    fn before(&self) -> io::Result<&dyn FileSystem> {
        if self.has(Flaw::AcknowledgedBeforeSync) {
            self.catch_up()?;
        }
        Ok(&*self.below)
    }

    fn switch_manifest(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.flaw {
            Some(Flaw::ManifestInPlace) => {
                let content = content(&*self.below.open(from, OpenMode::Read)?)?;
                let file = match self.below.open(to, OpenMode::ReadWrite) {
                    Ok(file) => file,
                    Err(_) => return self.below.rename(from, to),
                };
                file.set_len(0)?;
                file.write_at(0, &content)?;
                file.sync_all()?;
                self.below.remove(from)
            }
            Some(Flaw::OldSnapshotRemovedFirst) => {
                if let Ok(old) = self.below.open(to, OpenMode::Read) {
                    let old: serde_json::Value = serde_json::from_slice(&content(&*old)?)?;
                    let name = old["currentSnapshot"].as_str().unwrap_or_default();
                    self.below.remove(&to.with_file_name(name))?;
                }
                self.below.rename(from, to)
            }
            _ => self.below.rename(from, to),
        }
    }
}

fn content(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
    let mut filled = 0;
    while filled < content.len() {
        match file.read_at(filled as u64, &mut content[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(content)
}

fn is_temporary(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "tmp")
}

fn is_in(path: &Path, folder: &str) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with(folder))
}

impl FileSystem for Flawed {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.before()?.create_dir(path)
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.below.is_dir(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        if mode == OpenMode::CreateNew {
            if is_in(path, "snapshots")
                && let Some(call) = take_meanwhile()
            {
                call();
            }
            self.before()?;
        }
        let file = self.below.open(path, mode)?;
        if self.flaw.is_none() {
            return Ok(file);
        }
        Ok(Box::new(FlawedFile {
            file: file.into(),
            path: path.to_owned(),
            on: self.clone(),
            opened_to_write: AtomicBool::new(mode == OpenMode::ReadWrite),
            write_failed: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before()?;
        if to.ends_with("manifest.json") {
            self.switch_manifest(from, to)?;
        } else {
            self.below.rename(from, to)?;
        }
        self.catch_up()
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before()?.hard_link(from, to)?;
        if self.has(Flaw::RenamedBeforeSync) {
            self.catch_up()?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.before()?.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.before()?.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let put_off = match self.flaw {
            Some(Flaw::NoDirectorySync) => return Ok(()),
            Some(Flaw::AcknowledgedBeforeSync) => true,
            Some(Flaw::ManifestBeforeSnapshot) => path.ends_with("snapshots"),
            _ => false,
        };
        if put_off {
            lock(&self.late).push(Late::Folder(path.to_owned()));
            return Ok(());
        }
        self.below.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.below.list(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        self.below.try_lock(path)
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        self.below.try_lock_shared(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.below.lock(path)
    }

    fn process_is_alive(&self, process_id: u32) -> bool {
        self.below.process_is_alive(process_id)
    }

    fn process_id(&self) -> u32 {
        self.below.process_id()
    }

    fn pause(&self, duration: Duration) {
        self.below.pause(duration);
    }
}

impl FlawedFile {
    fn put_off(&self) -> io::Result<()> {
        lock(&self.on.late).push(Late::File(Arc::clone(&self.file)));
        Ok(())
    }

    /// Whether what is to be written is there already.
    fn is_there(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut there = vec![0; bytes.len()];
        let count = self.file.read_at(offset, &mut there).unwrap_or(0);
        count == bytes.len() && there == bytes
    }
}

impl File for FlawedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.on.before()?;
        if self.on.has(Flaw::NotWrittenAgainAtOpen) && self.is_there(offset, bytes) {
            return Ok(bytes.len());
        }
        self.opened_to_write.store(false, Ordering::Relaxed);
        let answer = self.file.write_at(offset, bytes);
        self.write_failed.store(answer.is_err(), Ordering::Relaxed);
        match answer {
            Ok(count) if count < bytes.len() => {
                // The write that would complete it may fail.
                self.write_failed.store(true, Ordering::Relaxed);
                let whole = self.on.has(Flaw::ShortWriteTakenForWhole);
                Ok(if whole { bytes.len() } else { count })
            }
            answer => answer,
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.on.before()?;
        let ignored = match self.on.flaw {
            Some(Flaw::NoCutAfterFailedWrite) => self.write_failed.load(Ordering::Relaxed),
            Some(Flaw::TornEndKept) => self.opened_to_write.load(Ordering::Relaxed),
            _ => false,
        };
        if ignored {
            return Ok(());
        }
        self.cut.store(true, Ordering::Relaxed);
        self.file.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn age(&self) -> io::Result<Duration> {
        self.file.age()
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.on.flaw {
            Some(Flaw::NoDataSync) if is_in(&self.path, "ops") => Ok(()),
            Some(Flaw::AcknowledgedBeforeSync) => self.put_off(),
            Some(Flaw::FailedSyncTriedAgain) if is_in(&self.path, "ops") => {
                self.file.sync_data().or_else(|_| self.file.sync_data())
            }
            _ => self.file.sync_data(),
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        let cut = self.cut.swap(false, Ordering::Relaxed);
        match self.on.flaw {
            Some(Flaw::NoFileSync) if is_temporary(&self.path) => Ok(()),
            Some(Flaw::AcknowledgedBeforeSync) => self.put_off(),
            Some(Flaw::RenamedBeforeSync) if is_temporary(&self.path) => self.put_off(),
            Some(Flaw::ManifestBeforeSnapshot) if is_in(&self.path, "snapshots") => self.put_off(),
            Some(Flaw::CutNotSynced) if cut => Ok(()),
            Some(Flaw::CutAfterFailedWriteNotSynced)
                if self.write_failed.load(Ordering::Relaxed) =>
            {
                Ok(())
            }
            _ => self.file.sync_all(),
        }
    }
}
