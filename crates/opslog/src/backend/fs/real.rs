//! The real file system: `std::fs`, with `flock` and process ids from the operating system.
//!
//! The only place in the library that touches files. No call here does more than its name says.

#![expect(
    clippy::disallowed_methods,
    reason = "this is where the file access of the library is"
)]

use std::fs::{OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::backend::file_system::{DirectoryEntry, File, FileLock, FileSystem, OpenMode};

/// The operating system's file system.
pub(crate) struct RealFileSystem;

struct RealFile(std::fs::File);

/// A file whose `flock` is ours.
struct RealLock(std::fs::File);

impl FileLock for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that another thread is just starting shares it until its program runs,
        // and would keep the lock for that long. A failure leaves it to the closing.
        drop(self.0.unlock());
    }
}

impl FileSystem for RealFileSystem {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(metadata.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
        };
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let mut metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                answer => answer?,
            };
            if metadata.is_symlink() {
                // A link to a file counts as that file. One to a directory is not followed: it may lead in a circle.
                match std::fs::metadata(entry.path()) {
                    Ok(target) if target.is_file() => metadata = target,
                    _ => continue,
                }
            }
            entries.push(DirectoryEntry {
                name,
                is_dir: metadata.is_dir(),
                size: metadata.len(),
            });
        }
        Ok(entries)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        let file = open_for_lock(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(RealLock(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        let file = open_for_lock(path)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Box::new(RealLock(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        let file = open_for_lock(path)?;
        file.lock()?;
        Ok(Box::new(RealLock(file)))
    }

    fn process_is_alive(&self, process_id: u32) -> bool {
        let Some(process) = i32::try_from(process_id)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        else {
            return false;
        };
        // A process of another user refuses the signal (EPERM), and lives: only "no such process" is death.
        rustix::process::test_kill_process(process) != Err(rustix::io::Errno::SRCH)
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }

    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

fn open_for_lock(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

impl File for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn age(&self) -> io::Result<Duration> {
        // A clock that was set back makes the file look as if it came from the future: then it is new.
        Ok(self.0.metadata()?.modified()?.elapsed().unwrap_or_default())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}
