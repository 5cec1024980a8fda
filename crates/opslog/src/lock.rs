//! The writer's lock of a directory (`docs/format.md` §7).
//!
//! Two files: the `flock` on `.opslog.lock` decides among opslog processes, and ends with the process however that
//! ends; `.lock` holds the process id, for the reference, which knows only that file. Invariant: whoever changes `.lock` on our side holds
//! the `flock`, so that of several processes that find a dead one's lock exactly one takes it over. `FsBackend` calls this.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::file_system::{
    FileLock, FileSystem, OpenMode, Uninterrupted, read_all, write_all_at,
};
use crate::backend::fs::{RealFileSystem, absolute};
use crate::{Error, ErrorKind, Result, paths};

/// The second line of our `.lock`: its writer is proved alive by the `flock`, not by the process id.
const MARK: &str = "opslog";

/// The reference creates its `.lock` empty and then writes its process id: how long to wait for that.
const CONTENT_WAIT: Duration = Duration::from_secs(1);

/// How often to look in that time.
const CONTENT_POLL: Duration = Duration::from_millis(20);

/// An empty `.lock` that is older than this was left by a process that died between the two.
const EMPTY_AGE_MAX: Duration = Duration::from_secs(5);

/// How often a `.lock` may appear under our hands before we give up.
const ATTEMPTS_MAX: u32 = 100;

/// The exclusive right to write in a directory, among all processes; dropping it gives it up.
///
/// ```
/// use opslog::{DirectoryLock, ErrorKind};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path();
/// let lock = DirectoryLock::acquire(path)?;
/// assert_eq!(DirectoryLock::acquire(path).unwrap_err().kind(), ErrorKind::Locked);
/// drop(lock);
/// DirectoryLock::acquire(path)?;
/// # Ok::<(), opslog::Error>(())
/// ```
pub struct DirectoryLock {
    file_system: Arc<dyn FileSystem>,
    path: PathBuf,
    content: String,
    /// Released after `.lock` is removed, since fields are dropped after `drop`.
    _flock: Box<dyn FileLock>,
}

/// The right to write in a directory as one of several agents: a shared `flock` on the writer's file, which keeps single writers out, and an exclusive one
/// on the agent's own. Both end with the process.
pub(crate) struct AgentLock {
    _shared: Box<dyn FileLock>,
    _own: Box<dyn FileLock>,
}

impl AgentLock {
    /// # Errors
    ///
    /// `Locked` while a single writer, or the same agent, is at work; `Unavailable` if the files cannot be written.
    pub(crate) fn acquire(file_system: &dyn FileSystem, root: &Path, agent: &str) -> Result<Self> {
        let fail = |path: &Path, error| Error::io("lock the store", path, error);
        let path = root.join(paths::LOCK);
        let writer = root.join(paths::WRITER_FLOCK);
        let shared = file_system
            .try_lock_shared(&writer)
            .map_err(|error| fail(&writer, error))?
            .ok_or_else(|| held_by_opslog(file_system, &path))?;
        // The reference knows `.lock` only.
        let content = read_if_present(file_system, &path).map_err(|error| fail(&path, error))?;
        if let Holder::Foreign(process_id) = Holder::parse(&content.unwrap_or_default())
            && file_system.process_is_alive(process_id)
        {
            return Err(Error::new(
                ErrorKind::Locked,
                format!("store is locked by process {process_id}; close it there, or, if that process does not use this store, delete the lock file"),
            )
            .at_path(path));
        }
        let own_path = root.join(paths::agent_flock(agent));
        let own = file_system
            .try_lock(&own_path)
            .map_err(|error| fail(&own_path, error))?;
        let own = own.ok_or_else(|| {
            Error::new(
                ErrorKind::Locked,
                format!("agent '{agent}' is in use by another process or handle; close it there, or choose another agent id"),
            )
            .at_path(own_path)
        })?;
        Ok(Self {
            _shared: shared,
            _own: own,
        })
    }
}

/// Whom a `.lock` belongs to.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// Nobody has written a process id yet.
    Nobody,
    /// An opslog process: alive as long as it holds the `flock`.
    Opslog(u32),
    /// A process of the reference.
    Foreign(u32),
    /// Something else wrote this.
    Unknown,
}

impl DirectoryLock {
    /// Takes the lock of the directory `path`, which must exist.
    ///
    /// The lock of a dead process is taken over. This may wait for up to a second where another process is just
    /// taking the lock.
    ///
    /// # Errors
    ///
    /// `Locked` while somebody else has it, with the holder's process id in the message; `NotFound` if there is no such directory;
    /// `Unavailable` if its files cannot be written.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// let lock = opslog::DirectoryLock::acquire(directory.path())?;
    /// assert!(opslog::DirectoryLock::acquire(directory.path()).unwrap_err().is_locked());
    /// drop(lock);
    /// assert!(opslog::DirectoryLock::acquire(directory.path()).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acquire(path: impl AsRef<Path>) -> Result<Self> {
        let file_system = Arc::new(Uninterrupted(Arc::new(RealFileSystem)));
        Self::acquire_on(file_system, &absolute(path.as_ref().to_owned()))
    }

    pub(crate) fn acquire_on(file_system: Arc<dyn FileSystem>, root: &Path) -> Result<Self> {
        let flock_path = root.join(paths::WRITER_FLOCK);
        let path = root.join(paths::LOCK);
        let flock = match file_system.try_lock(&flock_path) {
            Ok(Some(flock)) => flock,
            Ok(None) => return Err(held_by_opslog(&*file_system, &path)),
            Err(error) => return Err(Error::io("lock the store", flock_path, error)),
        };
        let content = format!("{}\n{MARK}\n", file_system.process_id());
        // From here on a failure drops this value, which removes what is ours and lets go of the `flock`.
        let lock = Self {
            file_system,
            path,
            content,
            _flock: flock,
        };
        lock.take_over()?;
        Ok(lock)
    }

    /// Puts our `.lock` in place, after a stale one is removed.
    fn take_over(&self) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            self.clear_stale()?;
            if self.place()? && self.read()?.as_deref() == Some(self.content.as_bytes()) {
                return Ok(());
            }
        }
        Err(self.locked("the lock is taken again and again by other processes; try again later"))
    }

    /// Removes a stale `.lock`; returns when there is none.
    fn clear_stale(&self) -> Result<()> {
        let mut waited = Duration::ZERO;
        while let Some(content) = self.read()? {
            match Holder::parse(&content) {
                Holder::Foreign(process_id) if self.file_system.process_is_alive(process_id) => {
                    return Err(self.held_by(process_id));
                }
                // The `flock` that would prove an opslog process alive is ours.
                Holder::Opslog(_) | Holder::Foreign(_) => return self.remove_stale(&content),
                Holder::Unknown => {
                    return Err(self.locked(
                        "the lock file holds no process id; if no process uses this store, delete the file",
                    ));
                }
                Holder::Nobody if self.age()? > EMPTY_AGE_MAX => {
                    return self.remove_stale(&content);
                }
                Holder::Nobody if waited < CONTENT_WAIT => {
                    self.file_system.pause(CONTENT_POLL);
                    waited += CONTENT_POLL;
                }
                Holder::Nobody => {
                    return Err(
                        self.locked("another process is just locking the store; try again later")
                    );
                }
            }
        }
        Ok(())
    }

    /// Removes the `.lock` that was judged stale by its `content`, and only that one: it is moved aside first and looked at
    /// again, since the reference may have replaced it in the meantime.
    fn remove_stale(&self, content: &[u8]) -> Result<()> {
        let aside = self.temporary();
        match self.file_system.rename(&self.path, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("remove the stale lock", &self.path, error)),
        }
        let found = self.read_file(&aside)?;
        let stale = found.as_deref() == Some(content);
        if !stale {
            // Should this fail, another `.lock` is there by now, and is judged next.
            drop(self.file_system.hard_link(&aside, &self.path));
        }
        self.file_system
            .remove(&aside)
            .map_err(|error| Error::io("remove the stale lock", aside, error))
    }

    /// Gives a finished file the name `.lock`; false if there is one.
    fn place(&self) -> Result<bool> {
        let finished = self.temporary();
        let fail = |error| Error::io("write the lock", &self.path, error);
        // Left by a process that died here; no living one writes it, since the `flock` is ours.
        drop(self.file_system.remove(&finished));
        let placed = self.write(&finished).and_then(|()| self.link(&finished));
        let removed = self.file_system.remove(&finished);
        let placed = placed.map_err(fail)?;
        match removed {
            // Where there are no links the file was renamed.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
            _ => Ok(placed),
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let file = self.file_system.open(path, OpenMode::CreateNew)?;
        write_all_at(&*file, 0, self.content.as_bytes())?;
        // Else a power cut could leave `.lock` empty, and the next open would have to wait for its content.
        file.sync_data()
    }

    fn link(&self, finished: &Path) -> io::Result<bool> {
        match self.file_system.hard_link(finished, &self.path) {
            Ok(()) => Ok(true),
            Err(error) => match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(false),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => {
                    self.rename_exclusively(finished)
                }
                _ => Err(error),
            },
        }
    }

    /// As `link`, on a file system without links: an empty `.lock` claims the name, as the reference does it.
    fn rename_exclusively(&self, finished: &Path) -> io::Result<bool> {
        match self.file_system.open(&self.path, OpenMode::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
            Ok(_) => self.file_system.rename(finished, &self.path).map(|()| true),
        }
    }

    /// Only the holder of the `flock` uses it, so one name will do, and nothing piles up.
    fn temporary(&self) -> PathBuf {
        self.path
            .with_file_name(paths::temporary(paths::LOCK, 0, 0))
    }

    fn read(&self) -> Result<Option<Vec<u8>>> {
        self.read_file(&self.path)
    }

    fn read_file(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        read_if_present(&*self.file_system, path)
            .map_err(|error| Error::io("read the lock", path, error))
    }

    fn age(&self) -> Result<Duration> {
        match self
            .file_system
            .open(&self.path, OpenMode::Read)
            .and_then(|file| file.age())
        {
            Ok(age) => Ok(age),
            // It went away while we looked: the next look will say so.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Duration::ZERO),
            Err(error) => Err(Error::io("examine the lock", &self.path, error)),
        }
    }

    fn held_by(&self, process_id: u32) -> Error {
        self.locked(format!(
            "store is locked by process {process_id}; close it there, open the store read-only, or, if that process \
             does not use this store, delete the lock file"
        ))
    }

    fn locked(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Locked, message).at_path(&self.path)
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // A failure here leaves a `.lock` that the next writer recognises as stale.
        if let Ok(Some(content)) = self.read()
            && content == self.content.as_bytes()
        {
            drop(self.file_system.remove(&self.path));
        }
    }
}

impl std::fmt::Debug for DirectoryLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DirectoryLock").field(&self.path).finish()
    }
}

impl Holder {
    fn parse(content: &[u8]) -> Self {
        // A power cut can leave NUL bytes where the content was to be.
        if content
            .iter()
            .all(|byte| *byte == 0 || byte.is_ascii_whitespace())
        {
            return Self::Nobody;
        }
        let Ok(text) = std::str::from_utf8(content) else {
            return Self::Unknown;
        };
        let mut lines = text.lines();
        let process_id = lines.next().and_then(|line| line.trim().parse().ok());
        match (process_id, lines.next(), lines.next()) {
            (Some(process_id), Some(MARK), None) => Self::Opslog(process_id),
            (Some(process_id), None | Some(""), None) => Self::Foreign(process_id),
            _ => Self::Unknown,
        }
    }
}

fn read_if_present(file_system: &dyn FileSystem, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match file_system.open(path, OpenMode::Read) {
        Ok(file) => read_all(&*file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The error when another handle has the `flock`; its process id is in `.lock`, if it has come that far.
fn held_by_opslog(file_system: &dyn FileSystem, path: &Path) -> Error {
    let content = read_if_present(file_system, path).ok().flatten();
    let holder = match Holder::parse(&content.unwrap_or_default()) {
        Holder::Opslog(process_id) if process_id == file_system.process_id() => {
            format!("this process ({process_id}), through another handle")
        }
        Holder::Opslog(process_id) => format!("process {process_id}"),
        _ => "another process, or by agents".to_owned(),
    };
    Error::new(
        ErrorKind::Locked,
        format!("store is locked by {holder}; close it there, or open the store read-only"),
    )
    .at_path(path)
}

#[cfg(test)]
mod tests;
