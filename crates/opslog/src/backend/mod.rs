//! Where the bytes live: the [`Backend`] trait and its implementations.
//!
//! The store calls a backend with names made in `paths`, and relies on exactly what the trait's
//! documentation promises; `conformance` checks those promises for any implementation.

#[cfg_attr(
    not(any(test, feature = "testing")),
    allow(unreachable_pub, reason = "public for tests outside the crate only")
)]
pub(crate) mod file_system;
pub(crate) mod fs;
mod memory;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
mod faulty;
#[cfg(any(test, feature = "testing"))]
mod simulated;

use crate::Result;

pub use fs::FsBackend;
pub use memory::MemoryBackend;

#[cfg(any(test, feature = "testing"))]
pub use faulty::Faulty;
#[cfg(any(test, feature = "testing"))]
pub use file_system::{DirectoryEntry, File, FileLock, FileSystem, OpenMode};
#[cfg(any(test, feature = "testing"))]
pub use simulated::{Call, CallKind, Fault, SimulatedDisk, exhaustive, seeded};

/// Storage for one store: named objects, append-only logs and a writer's lock.
///
/// A name is a relative path with `/` between its parts, such as `ops/ops-1700000000000.jsonl`; parts
/// are never empty, `.` or `..`. Names are opaque to a backend but for [`list`](Backend::list). Every method may be called from
/// several threads at once.
///
/// # Errors
///
/// All methods answer [`NotFound`](crate::ErrorKind::NotFound) for a name that does not exist (but see `delete`),
/// [`Conflict`](crate::ErrorKind::Conflict) where something exists or changed that must not have, [`Locked`](crate::ErrorKind::Locked)
/// for the lock, and [`Unavailable`](crate::ErrorKind::Unavailable) for anything the storage refuses. A call that
/// fails has changed nothing, unless its documentation says otherwise.
pub trait Backend: Send + Sync + 'static {
    /// Where this is, for messages: a directory, a bucket's address, `memory`.
    fn location(&self) -> String;

    /// Makes ready for writing (creates directories, say). Called before `lock` and again under it, and never for a read-only store; names that are
    /// there already are on stable storage on return.
    fn initialize(&self) -> Result<()>;

    /// The whole content of `name`.
    fn read(&self, name: &str) -> Result<Vec<u8>>;

    /// Fills `buffer` with the bytes of `name` from `offset` on and returns how many there were: fewer than asked for only
    /// at the end of the object, and 0 past it.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Opens `name` for several reads of the same content: later replacement or deletion of the name does not disturb them.
    fn open(&self, name: &str) -> Result<Box<dyn Object>>;

    /// The objects whose name begins with `prefix`, in no particular order.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>>;

    /// Replaces the content of `name`, or creates it, atomically: at any time, after a crash too, it has the old content or the
    /// new one. On return the new content is on stable storage. When it fails, it has one of the two, and which one is known only after a read.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// As `put`, if what is there now is `expected`; otherwise `Conflict`, and nothing is changed. Atomic among all processes.
    /// Other failures are as for `put`.
    fn put_if(&self, name: &str, bytes: &[u8], expected: &Expected) -> Result<()>;

    /// The content of `name` with the version that `put_if` compares.
    fn read_version(&self, name: &str) -> Result<(Vec<u8>, Version)>;

    /// Removes `name`. A name that does not exist is a success. Need not be durable.
    fn delete(&self, name: &str) -> Result<()>;

    /// Starts writing a new object that appears under `name`, whole and on stable storage, when it is finished.
    /// `Conflict` if the name exists, now or when it is finished.
    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>>;

    /// Creates the empty log `name`; its name is on stable storage on return. `Conflict` if it exists.
    fn create_log(&self, name: &str) -> Result<Box<dyn Log>>;

    /// Opens the log `name` for appending at byte `end`, which is at most its present size (else `Corrupt`); what lies behind `end` is cut off, durably.
    ///
    /// What lies between `unsettled` and `end` can be read, but a sync of it may have failed, after which a file system may show what it never
    /// writes: on return it is on stable storage, as it is read.
    fn open_log(&self, name: &str, unsettled: u64, end: u64) -> Result<Box<dyn Log>>;

    /// Takes the exclusive writer's lock; it is held until the guard is dropped, or the process ends, however it ends.
    /// `Locked`, with the holder in the message where it is known, while somebody else has it.
    fn lock(&self) -> Result<Box<dyn LockGuard>>;
}

/// An append-only log, open for writing. One writer at a time.
pub trait Log: Send {
    /// Where the next append goes: the number of bytes appended so far. Blank padding behind it does not count.
    fn end(&self) -> u64;

    /// Writes `bytes` at the end. They need not be on stable storage before `sync`.
    ///
    /// # Errors
    ///
    /// When it fails nothing has been appended: what may have been written is cut off again, at the latest before the next append.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Returns when everything appended is on stable storage.
    ///
    /// # Errors
    ///
    /// When it fails, what is on storage is unknown, and the caller must not use this log any more.
    fn sync(&mut self) -> Result<()>;

    /// Cuts the log back to `length` bytes, on stable storage on return.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, and nothing is changed, if the log is shorter; otherwise as for `sync`.
    fn truncate(&mut self, length: u64) -> Result<()>;

    /// Cuts off blank padding and syncs. The log may be used again afterwards.
    fn finish(&mut self) -> Result<()>;
}

/// An object being written. Dropped unfinished, it leaves nothing behind.
pub trait ObjectWriter: Send {
    /// Appends `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the object appear under its name, whole and on stable storage. When it fails, the object is not there.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// An object open for reading.
pub trait Object: Send + Sync {
    /// Its size in bytes, now.
    fn size(&self) -> Result<u64>;

    /// As [`Backend::read_at`].
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;
}

/// A held lock; dropping it releases the lock.
pub trait LockGuard: Send + Sync {}

/// What `list` says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its full name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What tells two contents of one name apart: an `ETag`, a generation, a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

impl Version {
    /// The version of an object whose storage keeps no versions: its length and two unlike hashes of its content.
    ///
    /// Two equal contents have one version, so whoever must notice that a content went away and came back puts a nonce into it, as the manifest does.
    pub(crate) fn of_content(content: &[u8]) -> Self {
        // FNV-1a.
        let hash = content
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let crc = crc32c::crc32c(content);
        Self(format!("{:x}-{crc:08x}-{hash:016x}", content.len()))
    }
}

/// What [`Backend::put_if`] expects to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// No object of that name.
    Absent,
    /// The object at this version.
    Unchanged(Version),
}
