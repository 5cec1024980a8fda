//! The file-system calls that [`FsBackend`](super::FsBackend) and the directory lock are made of.
//!
//! Two implementations: the real one (`fs/real.rs`) and the simulated disk of the tests. The trait is
//! as narrow as the calls to the operating system, so that a test can fail or crash at each of them.
//! Invariant: whatever is durable became so by `sync_data`, `sync_all` or `sync_dir`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How [`FileSystem::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    ReadWrite,
    /// For reading and writing; the file must not exist, and is created.
    CreateNew,
}

/// What a directory holds under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name, without the directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_dir: bool,
    /// Its size in bytes; of no meaning for a directory.
    pub size: u64,
}

/// The file-system calls, each as the operating system has it.
///
/// # Errors
///
/// What the operating system answers. [`io::ErrorKind::Interrupted`] is possible everywhere; the backend tries again.
pub trait FileSystem: Send + Sync + 'static {
    /// Creates one directory, whose parent exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Whether `path` is a directory.
    fn is_dir(&self, path: &Path) -> io::Result<bool>;

    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>>;

    /// Renames a file, replacing `to` if it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name; fails with `AlreadyExists` if there is something of that name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// What a directory holds, in no particular order. Names that are not UTF-8 are left out: the store makes none.
    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>>;

    /// Takes the exclusive `flock` of the file at `path`, which is created if need be, and holds it until the guard is
    /// dropped. `None` while another guard has it, in this process or another.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>>;

    /// As `try_lock`, but several guards may have the lock at once, as long as none has it exclusively.
    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>>;

    /// As `try_lock`, but waits for the lock.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>>;

    /// Whether a process with this id exists, whoever's it is.
    fn process_is_alive(&self, process_id: u32) -> bool;

    /// The id of this process.
    fn process_id(&self) -> u32;

    /// Waits.
    fn pause(&self, duration: Duration);
}

/// An open file.
#[allow(clippy::len_without_is_empty, reason = "a file is not a collection")]
pub trait File: Send + Sync {
    /// Reads from `offset` on and returns how many bytes there were; 0 at the end of the file only.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes at `offset` and returns how many of the bytes were written, which may be fewer than given.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// The size in bytes.
    fn len(&self) -> io::Result<u64>;

    /// How long ago the file was last written.
    fn age(&self) -> io::Result<Duration>;

    /// Makes the content and the size durable.
    fn sync_data(&self) -> io::Result<()>;

    /// As `sync_data`, and the other attributes too.
    fn sync_all(&self) -> io::Result<()>;
}

/// A held `flock`; dropping it releases the lock.
pub trait FileLock: Send + Sync {}

/// A file system whose calls are tried again when a signal interrupts them.
pub(crate) struct Uninterrupted(pub(crate) Arc<dyn FileSystem>);

struct UninterruptedFile(Box<dyn File>);

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

impl FileSystem for Uninterrupted {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        uninterrupted(|| self.0.create_dir(path))
    }

    fn is_dir(&self, path: &Path) -> io::Result<bool> {
        uninterrupted(|| self.0.is_dir(path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>> {
        let file = uninterrupted(|| self.0.open(path, mode))?;
        Ok(Box::new(UninterruptedFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        uninterrupted(|| self.0.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        uninterrupted(|| self.0.hard_link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        uninterrupted(|| self.0.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        uninterrupted(|| self.0.remove_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        uninterrupted(|| self.0.sync_dir(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        uninterrupted(|| self.0.list(path))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        uninterrupted(|| self.0.try_lock(path))
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn FileLock>>> {
        uninterrupted(|| self.0.try_lock_shared(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileLock>> {
        uninterrupted(|| self.0.lock(path))
    }

    fn process_is_alive(&self, process_id: u32) -> bool {
        self.0.process_is_alive(process_id)
    }

    fn process_id(&self) -> u32 {
        self.0.process_id()
    }

    fn pause(&self, duration: Duration) {
        self.0.pause(duration);
    }
}

impl File for UninterruptedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.read_at(offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| self.0.write_at(offset, bytes))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        uninterrupted(|| self.0.set_len(length))
    }

    fn len(&self) -> io::Result<u64> {
        uninterrupted(|| self.0.len())
    }

    fn age(&self) -> io::Result<Duration> {
        uninterrupted(|| self.0.age())
    }

    fn sync_data(&self) -> io::Result<()> {
        uninterrupted(|| self.0.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        uninterrupted(|| self.0.sync_all())
    }
}

/// Fills `buffer` from `offset` on; returns how much there was, which is less than asked for at the end of the file only.
pub(crate) fn fill_at(file: &dyn File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let count = file.read_at(offset + filled as u64, rest)?;
        if count == 0 {
            break;
        }
        filled += count;
    }
    Ok(filled)
}

/// The whole content of the file.
pub(crate) fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut content = vec![0; length];
    let filled = fill_at(file, 0, &mut content)?;
    content.truncate(filled);
    Ok(content)
}

/// Writes all of `bytes` at `offset`, continuing after short writes.
pub(crate) fn write_all_at(file: &dyn File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let count = file.write_at(offset + written as u64, rest)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        written += count;
    }
    Ok(())
}
