//! A directory of files: the backend of every local store.
//!
//! Invariant: a name is whole. Content appears under a name by `rename` or `link` of a finished and synced
//! temporary file, and only logs are written in place. Everything goes through [`FileSystem`], so that the tests
//! can crash between any two calls. `Store` makes one of these from a path.

mod log;
mod real;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file_system::{
    File, FileSystem, OpenMode, Uninterrupted, fill_at, read_all, write_all_at,
};
use super::{Backend, Expected, LockGuard, Log, Object, ObjectInfo, ObjectWriter, Version};
use crate::lock::{AgentLock, DirectoryLock};
use crate::paths;
use crate::{Error, ErrorKind, Result};

pub(crate) use real::RealFileSystem;

use log::{FsLog, Padding};
use writer::FsObjectWriter;

/// A store in a directory of the local file system.
///
/// ```
/// use opslog::backend::{Backend, FsBackend};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("store");
/// let backend = FsBackend::new(&path);
/// backend.initialize()?;
/// backend.put("notes/today.txt", b"buy milk")?;
/// assert_eq!(backend.read("notes/today.txt")?, b"buy milk");
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Clone)]
pub struct FsBackend {
    directory: Directory,
    padding: Padding,
}

/// The directory with what is needed to work in it: shared by the backend and the writers it hands out.
#[derive(Clone)]
struct Directory {
    file_system: Arc<dyn FileSystem>,
    root: PathBuf,
    durability: Durability,
}

/// Whether the backend waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// Everything is synced before a call that promises it returns.
    Synced,
    /// Nothing is synced: the operating system writes it when it likes.
    OsBuffered,
}

impl FsBackend {
    /// The store in the directory `path`, which a later change of the working directory does not move. Nothing is read or created yet.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// let backend = opslog::FsBackend::new(directory.path());
    /// let store: opslog::Store = opslog::Store::builder().open_backend(backend)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::build(Arc::new(RealFileSystem), absolute(path.into()))
    }

    /// The store in the directory `path` of another file system, such as a simulated disk.
    #[cfg(any(test, feature = "testing"))]
    pub fn on(file_system: Arc<dyn FileSystem>, path: impl Into<PathBuf>) -> Self {
        Self::build(file_system, path.into())
    }

    fn build(file_system: Arc<dyn FileSystem>, root: PathBuf) -> Self {
        Self {
            directory: Directory {
                file_system: Arc::new(Uninterrupted(file_system)),
                root,
                durability: Durability::Synced,
            },
            padding: Padding::default(),
        }
    }

    /// Whether to leave writing to the operating system. If so, nothing is ever synced: what a call has written
    /// survives the death of the process, but a power cut or a crash of the machine may lose or damage any of it.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// let backend = opslog::FsBackend::new(directory.path()).with_os_buffered(true);
    /// let store: opslog::Store = opslog::Store::builder().open_backend(backend)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_os_buffered(mut self, os_buffered: bool) -> Self {
        self.directory.durability = if os_buffered {
            Durability::OsBuffered
        } else {
            Durability::Synced
        };
        self
    }

    /// By how many bytes at a time logs are extended ahead of need: `smallest` at first, up to `largest` as they grow.
    /// Both must be powers of two. Small steps keep simulated disks small.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn with_padding(mut self, smallest: u64, largest: u64) -> Self {
        self.padding = Padding { smallest, largest };
        self
    }

    /// Gives the directory itself another name in the same file system, durably.
    pub(crate) fn rename_to(&self, path: &Path) -> Result<()> {
        let root = &self.directory.root;
        self.directory
            .file_system
            .rename(root, path)
            .map_err(|error| Error::io("rename the directory", root, error))?;
        self.directory.sync_folder(parent(path))
    }

    fn log(&self, file: Box<dyn File>, path: PathBuf, end: u64) -> Box<dyn Log> {
        let padding = match self.directory.durability {
            Durability::Synced => Some(self.padding),
            Durability::OsBuffered => None,
        };
        Box::new(FsLog::new(file, path, end, padding))
    }

    fn current_version(&self, name: &str) -> Result<Option<Version>> {
        match self.directory.read(name) {
            Ok(content) => Ok(Some(Version::of_content(&content))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// `path`, whatever the working directory becomes. An empty path, which is none, stays as it is.
pub(crate) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

impl Backend for FsBackend {
    fn location(&self) -> String {
        self.directory.root.display().to_string()
    }

    fn initialize(&self) -> Result<()> {
        let root = &self.directory.root;
        self.directory.make_folder(root)?;
        for folder in paths::FOLDERS {
            let path = root.join(folder);
            match self.directory.file_system.create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create the folder", path, error));
                }
                _ => {}
            }
        }
        // The folders may be there already and yet not be durable, if the process that made them died early.
        self.directory.sync_folder(root)?;
        match self.directory.sync_folder(parent(root)) {
            // Whoever may not even read the parent did not make our directory in it.
            Err(error) if is_denied(&error) => Ok(()),
            answer => answer,
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.directory.read(name)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.open(name)?.read_at(offset, buffer)
    }

    fn open(&self, name: &str) -> Result<Box<dyn Object>> {
        let path = self.directory.path(name);
        let file = self.directory.open(&path)?;
        // A directory can be opened like a file on some systems, but not be read.
        fill_at(&*file, 0, &mut [0]).map_err(|error| read_error(&path, error))?;
        Ok(Box::new(FsObject { file, path }))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in self.directory.entries(&folder)? {
                let name = if folder.is_empty() {
                    entry.name
                } else {
                    format!("{folder}/{}", entry.name)
                };
                if entry.is_dir {
                    if name.starts_with(prefix) {
                        folders.push(name);
                    }
                } else if name.starts_with(prefix) {
                    let size = entry.size;
                    found.push(ObjectInfo { name, size });
                }
            }
        }
        Ok(found)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.directory.path(name);
        let (file, temporary) = self.directory.create_temporary(name)?;
        let written = write_all_at(&*file, 0, bytes)
            .and_then(|()| self.directory.sync_file(&*file))
            .and_then(|()| self.directory.file_system.rename(&temporary, &path));
        if let Err(error) = written {
            self.directory.discard(&temporary);
            return Err(Error::io("write", path, error));
        }
        self.directory.sync_folder(parent(&path))
    }

    fn put_if(&self, name: &str, bytes: &[u8], expected: &Expected) -> Result<()> {
        let flock = self.directory.path(paths::COMPARE_FLOCK);
        let _held = self
            .directory
            .file_system
            .lock(&flock)
            .map_err(|error| Error::io("lock", flock, error))?;
        let as_expected = match (expected, self.current_version(name)?) {
            (Expected::Absent, None) => true,
            (Expected::Unchanged(expected), Some(current)) => *expected == current,
            _ => false,
        };
        if !as_expected {
            return Err(Error::new(
                ErrorKind::Conflict,
                "somebody else changed it; read it again and decide",
            )
            .at_path(self.directory.path(name)));
        }
        self.put(name, bytes)
    }

    fn read_version(&self, name: &str) -> Result<(Vec<u8>, Version)> {
        let content = self.directory.read(name)?;
        let version = Version::of_content(&content);
        Ok((content, version))
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.directory.path(name);
        match self.directory.file_system.remove(&path) {
            Err(error) if !is_absence(&error) => Err(Error::io("remove", path, error)),
            _ => {
                self.directory.remove_empty_folders(name);
                Ok(())
            }
        }
    }

    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        let path = self.directory.path(name);
        match self.directory.open(&path) {
            Ok(_) => return Err(already_exists(&path)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let (file, temporary) = self.directory.create_temporary(name)?;
        let directory = self.directory.clone();
        Ok(Box::new(FsObjectWriter::new(
            directory, file, temporary, path,
        )))
    }

    fn create_log(&self, name: &str) -> Result<Box<dyn Log>> {
        let path = self.directory.path(name);
        let file = self.directory.create_file(&path)?;
        if let Err(error) = self.directory.sync_folder(parent(&path)) {
            self.directory.discard(&path);
            return Err(error);
        }
        Ok(self.log(file, path, 0))
    }

    fn open_log(&self, name: &str, unsettled: u64, end: u64) -> Result<Box<dyn Log>> {
        let path = self.directory.path(name);
        let file = self
            .directory
            .file_system
            .open(&path, OpenMode::ReadWrite)
            .map_err(|error| read_error(&path, error))?;
        let length = file
            .len()
            .map_err(|error| Error::io("examine", &path, error))?;
        if end > length {
            return Err(Error::corrupt(format!(
                "the log is {length} bytes long, but {end} were expected; restore it from a backup"
            ))
            .at_path(path));
        }
        if end < length {
            file.set_len(end)
                .and_then(|()| self.directory.sync_file(&*file))
                .map_err(|error| Error::io("cut the end off", &path, error))?;
        }
        // Written again, it is written: a file system that failed to sync a page may take it for clean.
        rewrite(&*file, unsettled, end)
            .and_then(|()| self.directory.sync_file(&*file))
            .map_err(|error| Error::io("write the last commits again", &path, error))?;
        Ok(self.log(file, path, end))
    }

    fn lock(&self) -> Result<Box<dyn LockGuard>> {
        let file_system = Arc::clone(&self.directory.file_system);
        let lock = DirectoryLock::acquire_on(file_system, &self.directory.root)?;
        Ok(Box::new(lock))
    }

    fn lock_agent(&self, agent: &str) -> Result<Box<dyn LockGuard>> {
        let lock = AgentLock::acquire(&*self.directory.file_system, &self.directory.root, agent)?;
        Ok(Box::new(lock))
    }
}

impl LockGuard for DirectoryLock {}

impl LockGuard for AgentLock {}

/// How much `rewrite` holds in memory.
const PIECE: usize = 1 << 20;

/// Writes the bytes from `start` to `end` of a file in the place where they are.
fn rewrite(file: &dyn File, start: u64, end: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE.min(usize::try_from(end.saturating_sub(start)).unwrap_or(PIECE))];
    let mut offset = start;
    while offset < end {
        let length = usize::try_from(end - offset)
            .unwrap_or(PIECE)
            .min(piece.len());
        let part = piece.get_mut(..length).unwrap_or_default();
        let read = file.read_at(offset, part)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all_at(file, offset, part.get(..read).unwrap_or_default())?;
        offset += read as u64;
    }
    Ok(())
}

impl Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        let file = self.open(&path)?;
        read_all(&*file).map_err(|error| read_error(&path, error))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        self.file_system
            .open(path, OpenMode::Read)
            .map_err(|error| read_error(path, error))
    }

    fn entries(&self, folder: &str) -> Result<Vec<super::file_system::DirectoryEntry>> {
        let path = self.path(folder);
        match self.file_system.list(&path) {
            Ok(entries) => Ok(entries),
            Err(error) if is_absence(&error) => Ok(Vec::new()),
            Err(error) => Err(Error::io("list", path, error)),
        }
    }

    /// Creates the file exclusively, and the folders above it if need be.
    fn create_file(&self, path: &Path) -> Result<Box<dyn File>> {
        let create = || self.file_system.open(path, OpenMode::CreateNew);
        let created = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_folder(parent(path))?;
                create()
            }
            answer => answer,
        };
        created.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_exists(path),
            _ => Error::io("create", path, error),
        })
    }

    /// Creates a temporary file beside where `name` will be, under a name that nobody else has.
    fn create_temporary(&self, name: &str) -> Result<(Box<dyn File>, PathBuf)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let process_id = self.file_system.process_id();
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = self.path(&paths::temporary(name, process_id, number));
            match self.create_file(&path) {
                // Left by a dead process with the same id, or that of a process in another container.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                created => return Ok((created?, path)),
            }
        }
    }

    /// Creates a folder, and those above it, and makes their names durable.
    fn make_folder(&self, path: &Path) -> Result<()> {
        match self.file_system.is_dir(path) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(not_a_directory(path, error));
            }
            Err(error) => return Err(Error::io("examine", path, error)),
        }
        let above = parent(path);
        if above != path {
            self.make_folder(above)?;
        }
        match self.file_system.create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !self.file_system.is_dir(path).unwrap_or(false) {
                    return Err(not_a_directory(path, error));
                }
            }
            created => created.map_err(|error| Error::io("create the folder", path, error))?,
        }
        self.sync_folder(above)
    }

    /// Removes the folders above `name` that have become empty: folders exist for the sake of what is in them. The store's own stay.
    fn remove_empty_folders(&self, name: &str) {
        let mut name = name;
        while let Some((folder, _)) = name.rsplit_once('/') {
            if paths::FOLDERS.contains(&folder) {
                return;
            }
            // It fails when the folder is not empty, and no harm is done if it fails otherwise.
            if self.file_system.remove_dir(&self.path(folder)).is_err() {
                return;
            }
            name = folder;
        }
    }

    fn sync_file(&self, file: &dyn File) -> io::Result<()> {
        match self.durability {
            Durability::Synced => file.sync_all(),
            Durability::OsBuffered => Ok(()),
        }
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        match self.durability {
            Durability::Synced => self
                .file_system
                .sync_dir(path)
                .map_err(|error| Error::io("sync the folder", path, error)),
            Durability::OsBuffered => Ok(()),
        }
    }

    /// Removes a file after a failure. If that fails too, the file is left: it is temporary, or not named by anything.
    fn discard(&self, path: &Path) {
        drop(self.file_system.remove(path));
    }
}

/// An open file.
struct FsObject {
    file: Box<dyn File>,
    path: PathBuf,
}

impl Object for FsObject {
    fn size(&self) -> Result<u64> {
        self.file
            .len()
            .map_err(|error| Error::io("examine", &self.path, error))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        fill_at(&*self.file, offset, buffer).map_err(|error| read_error(&self.path, error))
    }
}

/// The folder that `path` is in; `.` for a relative path of one part, and the path itself for the root.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => path,
    }
}

/// Whether the error says that there is no such file: a folder is not one, and a file is no folder.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

fn is_denied(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| source.kind() == io::ErrorKind::PermissionDenied)
}

fn read_error(path: &Path, error: io::Error) -> Error {
    if is_absence(&error) {
        return Error::not_found("no such file")
            .at_path(path)
            .caused_by(error);
    }
    Error::io("read", path, error)
}

fn not_a_directory(path: &Path, error: io::Error) -> Error {
    Error::invalid("the path is that of a file, or below one, and not a directory; choose another")
        .at_path(path)
        .caused_by(error)
}

fn already_exists(path: &Path) -> Error {
    Error::new(
        ErrorKind::Conflict,
        "it exists already; choose another name",
    )
    .at_path(path)
}

#[cfg(test)]
mod tests;
