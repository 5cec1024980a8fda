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
///
/// ```
/// // Any storage that keeps these promises can hold a store.
/// use opslog::{MemoryBackend, Store};
///
/// let backend = MemoryBackend::new();
/// let store: Store = Store::builder().open_backend(backend.clone())?;
/// store.set("a", &serde_json::json!({"n": 1}))?;
/// store.close()?;
/// let store: Store = Store::builder().open_backend(backend)?;
/// assert!(store.has("a")?);
/// # Ok::<(), opslog::Error>(())
/// ```
pub trait Backend: Send + Sync + 'static {
    /// Where this is, for messages: a directory, a bucket's address, `memory`.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// assert!(!backend.location().is_empty());
    /// ```
    fn location(&self) -> String;

    /// Makes ready for writing (creates directories, say). Called before `lock` and again under it, and never for a read-only store; names that are
    /// there already are on stable storage on return.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.initialize()?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn initialize(&self) -> Result<()>;

    /// The whole content of `name`.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.put("a", b"hello")?;
    /// assert_eq!(backend.read("a")?, b"hello");
    /// assert!(backend.read("b").unwrap_err().is_not_found());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn read(&self, name: &str) -> Result<Vec<u8>>;

    /// Fills `buffer` with the bytes of `name` from `offset` on and returns how many there were: fewer than asked for only
    /// at the end of the object, and 0 past it.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.put("a", b"hello")?;
    /// let mut buffer = [0; 8];
    /// assert_eq!(backend.read_at("a", 1, &mut buffer)?, 4);
    /// assert_eq!(buffer[..4], *b"ello");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Opens `name` for several reads of the same content: later replacement or deletion of the name does not disturb them.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.put("a", b"hello")?;
    /// let object = backend.open("a")?;
    /// backend.delete("a")?;
    /// assert_eq!(object.size()?, 5);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn open(&self, name: &str) -> Result<Box<dyn Object>>;

    /// The objects whose name begins with `prefix`, in no particular order.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.put("a", b"hello")?;
    /// assert_eq!(backend.list("")?[0].name, "a");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>>;

    /// Replaces the content of `name`, or creates it, atomically: at any time, after a crash too, it has the old content or the
    /// new one. On return the new content is on stable storage. When it fails, it has one of the two, and which one is known only after a read.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.put("a", b"hello")?;
    /// backend.put("a", b"new")?;
    /// assert_eq!(backend.read("a")?, b"new");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// As `put`, if what is there now is `expected`; otherwise `Conflict`, and nothing is changed. Atomic among all processes.
    /// Other failures are as for `put`.
    ///
    /// ```
    /// use opslog::backend::Expected;
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.put("a", b"hello")?;
    /// let (_, version) = backend.read_version("a")?;
    /// backend.put_if("a", b"new", &Expected::Unchanged(version.clone()))?;
    /// assert!(backend.put_if("a", b"late", &Expected::Unchanged(version)).is_err());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn put_if(&self, name: &str, bytes: &[u8], expected: &Expected) -> Result<()>;

    /// The content of `name` with the version that `put_if` compares.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.put("a", b"hello")?;
    /// let (bytes, before) = backend.read_version("a")?;
    /// assert_eq!(bytes, b"hello");
    /// backend.put("a", b"new")?;
    /// assert_ne!(backend.read_version("a")?.1, before);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn read_version(&self, name: &str) -> Result<(Vec<u8>, Version)>;

    /// Removes `name`. A name that does not exist is a success. Need not be durable.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.put("a", b"hello")?;
    /// backend.delete("a")?;
    /// backend.delete("a")?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn delete(&self, name: &str) -> Result<()>;

    /// Starts writing a new object that appears under `name`, whole and on stable storage, when it is finished.
    /// `Conflict` if the name exists, now or when it is finished.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let mut writer = backend.create("a")?;
    /// writer.write(b"hel")?;
    /// writer.write(b"lo")?;
    /// assert!(backend.read("a").is_err());
    /// writer.finish()?;
    /// assert_eq!(backend.read("a")?, b"hello");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>>;

    /// Creates the empty log `name`; its name is on stable storage on return. `Conflict` if it exists.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let mut log = backend.create_log("ops/ops-1.jsonl")?;
    /// log.append(b"line\n")?;
    /// assert!(backend.create_log("ops/ops-1.jsonl").is_err());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn create_log(&self, name: &str) -> Result<Box<dyn Log>>;

    /// Opens the log `name` for appending at byte `end`, which is at most its present size (else `Corrupt`); what lies behind `end` is cut off, durably.
    ///
    /// What lies between `unsettled` and `end` can be read, but a sync of it may have failed, after which a file system may show what it never
    /// writes: on return it is on stable storage, as it is read.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let mut log = backend.create_log("ops/ops-1.jsonl")?;
    /// log.append(b"one\ntwo\n")?;
    /// log.sync()?;
    /// drop(log);
    /// let log = backend.open_log("ops/ops-1.jsonl", 0, 4)?;
    /// assert_eq!((log.end(), backend.read("ops/ops-1.jsonl")?), (4, b"one\n".to_vec()));
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn open_log(&self, name: &str, unsettled: u64, end: u64) -> Result<Box<dyn Log>>;

    /// Takes the exclusive writer's lock; it is held until the guard is dropped, or the process ends, however it ends.
    /// `Locked`, with the holder in the message where it is known, while somebody else has it.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let guard = backend.lock()?;
    /// assert!(backend.lock().is_err());
    /// drop(guard);
    /// assert!(backend.lock().is_ok());
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn lock(&self) -> Result<Box<dyn LockGuard>>;

    /// Takes the right to write as `agent`, beside other agents, until the guard is dropped or the process ends. While it is held, `lock` answers `Locked`, and so does
    /// this for the same agent; while the guard of `lock` is held, so does this for every agent.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let (one, two) = (backend.lock_agent("one")?, backend.lock_agent("two")?);
    /// assert!(backend.lock_agent("one").is_err_and(|error| error.is_locked()));
    /// assert!(backend.lock().is_err_and(|error| error.is_locked()));
    /// drop((one, two));
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn lock_agent(&self, agent: &str) -> Result<Box<dyn LockGuard>>;
}

/// An append-only log, open for writing. One writer at a time.
///
/// ```
/// use opslog::{Backend, MemoryBackend};
///
/// let backend = MemoryBackend::new();
/// let mut log = backend.create_log("ops/ops-1.jsonl")?;
/// log.append(b"line\n")?;
/// log.sync()?;
/// log.finish()?;
/// # Ok::<(), opslog::Error>(())
/// ```
pub trait Log: Send {
    /// Where the next append goes: the number of bytes appended so far. Blank padding behind it does not count.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let mut log = backend.create_log("ops/ops-1.jsonl")?;
    /// log.append(b"line\n")?;
    /// assert_eq!(log.end(), 5);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn end(&self) -> u64;

    /// Writes `bytes` at the end. They need not be on stable storage before `sync`.
    ///
    /// # Errors
    ///
    /// When it fails nothing has been appended: what may have been written is cut off again, at the latest before the next append.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let mut log = backend.create_log("ops/ops-1.jsonl")?;
    /// log.append(b"one\n")?;
    /// log.append(b"two\n")?;
    /// assert_eq!(log.end(), 8);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Returns when everything appended is on stable storage.
    ///
    /// # Errors
    ///
    /// When it fails, what is on storage is unknown, and the caller must not use this log any more.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let mut log = backend.create_log("ops/ops-1.jsonl")?;
    /// log.append(b"line\n")?;
    /// log.sync()?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn sync(&mut self) -> Result<()>;

    /// Cuts the log back to `length` bytes, on stable storage on return.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, and nothing is changed, if the log is shorter; otherwise as for `sync`.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let mut log = backend.create_log("ops/ops-1.jsonl")?;
    /// log.append(b"one\ntwo\n")?;
    /// log.truncate(4)?;
    /// assert_eq!(log.end(), 4);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn truncate(&mut self, length: u64) -> Result<()>;

    /// Cuts off blank padding and syncs. The log may be used again afterwards.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let mut log = backend.create_log("ops/ops-1.jsonl")?;
    /// log.append(b"line\n")?;
    /// log.finish()?;
    /// assert_eq!(backend.read("ops/ops-1.jsonl")?, b"line\n");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn finish(&mut self) -> Result<()>;
}

/// An object being written. Dropped unfinished, it leaves nothing behind.
///
/// ```
/// use opslog::{Backend, MemoryBackend};
///
/// let backend = MemoryBackend::new();
/// let writer = backend.create("a")?;
/// drop(writer);
/// assert!(backend.read("a").is_err());
/// # Ok::<(), opslog::Error>(())
/// ```
pub trait ObjectWriter: Send {
    /// Appends `bytes`.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// let mut writer = backend.create("a")?;
    /// writer.write(b"hello")?;
    /// writer.finish()?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the object appear under its name, whole and on stable storage. When it fails, the object is not there.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.create("a")?.finish()?;
    /// assert_eq!(backend.read("a")?, b"");
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn finish(self: Box<Self>) -> Result<()>;
}

/// An object open for reading.
///
/// ```
/// use opslog::{Backend, MemoryBackend};
///
/// let backend = MemoryBackend::new();
/// backend.put("a", b"hello")?;
/// let object = backend.open("a")?;
/// assert_eq!(object.size()?, 5);
/// # Ok::<(), opslog::Error>(())
/// ```
pub trait Object: Send + Sync {
    /// Its size in bytes, now.
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.put("a", b"hello")?;
    /// assert_eq!(backend.open("a")?.size()?, 5);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn size(&self) -> Result<u64>;

    /// As [`Backend::read_at`].
    ///
    /// ```
    /// use opslog::{Backend, MemoryBackend};
    ///
    /// let backend = MemoryBackend::new();
    /// backend.put("a", b"hello")?;
    /// let mut buffer = [0; 2];
    /// assert_eq!(backend.open("a")?.read_at(3, &mut buffer)?, 2);
    /// # Ok::<(), opslog::Error>(())
    /// ```
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;
}

/// A held lock; dropping it releases the lock.
///
/// ```
/// use opslog::{Backend, MemoryBackend};
///
/// let backend = MemoryBackend::new();
/// let guard = backend.lock()?;
/// drop(guard);
/// # Ok::<(), opslog::Error>(())
/// ```
pub trait LockGuard: Send + Sync {}

/// What `list` says of an object.
///
/// ```
/// use opslog::{Backend, MemoryBackend};
///
/// let backend = MemoryBackend::new();
/// backend.put("a", b"hello")?;
/// let info = &backend.list("a")?[0];
/// assert_eq!((info.name.as_str(), info.size), ("a", 5));
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its full name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What tells two contents of one name apart: an `ETag`, a generation, a hash.
///
/// ```
/// use opslog::{Backend, MemoryBackend};
///
/// let backend = MemoryBackend::new();
/// backend.put("a", b"hello")?;
/// assert_eq!(backend.read_version("a")?.1, backend.read_version("a")?.1);
/// # Ok::<(), opslog::Error>(())
/// ```
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
///
/// ```
/// use opslog::backend::Expected;
/// use opslog::{Backend, MemoryBackend};
///
/// let backend = MemoryBackend::new();
/// backend.put_if("a", b"first", &Expected::Absent)?;
/// assert!(backend.put_if("a", b"second", &Expected::Absent).is_err());
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// No object of that name.
    Absent,
    /// The object at this version.
    Unchanged(Version),
}
