//! A disk that lets the test look before each call that follows a change: every place in which a crash can leave something new.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opslog::backend::{DirectoryEntry, File, FileLock, FileSystem, OpenMode, SimulatedDisk};

type Look = dyn Fn(&SimulatedDisk, usize) + Send + Sync;

#[derive(Clone)]
pub(crate) struct Watched(Arc<Shared>);

struct Shared {
    disk: SimulatedDisk,
    look: Box<Look>,
    changed: AtomicBool,
    calls: AtomicUsize,
}

impl Watched {
    /// `look` gets the disk and the index of the call that is about to be made.
    pub(crate) fn new(
        disk: SimulatedDisk,
        look: impl Fn(&SimulatedDisk, usize) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            disk,
            look: Box::new(look),
            changed: AtomicBool::new(true),
            calls: AtomicUsize::new(0),
        }))
    }

    /// Looks at the next call, whatever was called before.
    pub(crate) fn note_change(&self) {
        self.0.changed.store(true, Ordering::SeqCst);
    }

    /// Looks now.
    pub(crate) fn look(&self) {
        self.note_change();
        self.before_call();
    }

    fn before_call(&self) {
        if self.0.changed.swap(false, Ordering::SeqCst) {
            (self.0.look)(&self.0.disk, self.0.calls.load(Ordering::SeqCst));
        }
    }

    fn read(&self) -> &SimulatedDisk {
        self.before_call();
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        &self.0.disk
    }

    fn change(&self) -> &SimulatedDisk {
        self.read();
        self.note_change();
        &self.0.disk
    }
}

impl FileSystem for Watched {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change().create_dir(path)
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        self.read().is_dir(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let disk = match mode {
            OpenMode::CreateNew => self.change(),
            OpenMode::Read | OpenMode::ReadWrite => self.read(),
        };
        Ok(Box::new(WatchedFile {
            file: disk.open(path, mode)?,
            watched: self.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change().rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change().hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change().remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change().remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change().sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.read().list(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        self.change().try_lock(path)
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        self.change().try_lock_shared(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        self.change().lock(path)
    }

    fn process_is_alive(&self, process_id: u32) -> bool {
        self.0.disk.process_is_alive(process_id)
    }

    fn process_id(&self) -> u32 {
        self.0.disk.process_id()
    }

    fn pause(&self, duration: Duration) {
        self.0.disk.pause(duration);
    }
}

struct WatchedFile {
    file: Box<dyn File>,
    watched: Watched,
}

impl File for WatchedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.watched.read();
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.watched.change();
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.watched.change();
        self.file.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.watched.read();
        self.file.len()
    }

    fn age(&self) -> io::Result<Duration> {
        self.watched.read();
        self.file.age()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watched.change();
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.watched.change();
        self.file.sync_all()
    }
}
