//! A store in memory: for tests, caches, and programs that keep nothing.
//!
//! Invariant: an object's bytes are shared by whoever opened it, and a replaced object is a new one, so that readers of the
//! old one are not disturbed. "Stable storage" is the memory: everything lasts as long as a clone of the backend does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use super::{Backend, Expected, LockGuard, Log, Object, ObjectInfo, ObjectWriter, Version};
use crate::sync::{Mutex, MutexGuard, RwLock};
use crate::{Error, ErrorKind, Result, paths};

/// A backend in memory. Clones share the content and the lock, so a store can be closed and opened again on one.
///
/// ```
/// use opslog::backend::{Backend, MemoryBackend};
/// let backend = MemoryBackend::new();
/// backend.put("a", b"1")?;
/// assert_eq!(backend.clone().read("a")?, b"1");
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryBackend(Arc<Shared>);

#[derive(Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, Content>>,
    locks: Mutex<Locks>,
}

/// Who writes.
#[derive(Default)]
struct Locks {
    alone: bool,
    agents: BTreeSet<String>,
}

#[derive(Clone, Default)]
struct Content(Arc<RwLock<Vec<u8>>>);

impl MemoryBackend {
    /// An empty one.
    ///
    /// ```
    /// let backend = opslog::MemoryBackend::new();
    /// let store: opslog::Store = opslog::Store::builder().open_backend(backend)?;
    /// # Ok::<(), opslog::Error>(())
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Content>> {
        self.0
            .objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, name: &str) -> Result<Content> {
        let objects = self.objects();
        objects
            .get(name)
            .cloned()
            .ok_or_else(|| Error::not_found("no such object in memory").at_path(name))
    }

    fn insert_new(&self, name: &str, content: Content) -> Result<()> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Err(conflict("it exists already; choose another name", name));
        }
        objects.insert(name.to_owned(), content);
        Ok(())
    }
}

impl Shared {
    fn locks(&self) -> MutexGuard<'_, Locks> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn locked(message: &str) -> Error {
    Error::new(ErrorKind::Locked, message).at_path("memory")
}

fn conflict(message: &str, name: &str) -> Error {
    Error::new(ErrorKind::Conflict, message).at_path(name)
}

impl Content {
    fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(RwLock::new(bytes)))
    }

    fn with<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn length(&self) -> u64 {
        self.with(|bytes| bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        self.with(|bytes| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let rest = bytes.get(offset..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            for (place, byte) in buffer.iter_mut().zip(rest) {
                *place = *byte;
            }
            count
        })
    }
}

impl Backend for MemoryBackend {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn initialize(&self) -> Result<()> {
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        Ok(self.object(name)?.with(<[u8]>::to_vec))
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.object(name)?.read_at(offset, buffer))
    }

    fn open(&self, name: &str) -> Result<Box<dyn Object>> {
        Ok(Box::new(self.object(name)?))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let objects = self.objects();
        let found = objects
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, content)| ObjectInfo {
                name: name.clone(),
                size: content.length(),
            });
        Ok(found.collect())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let content = Content::new(bytes.to_vec());
        self.objects().insert(name.to_owned(), content);
        Ok(())
    }

    fn put_if(&self, name: &str, bytes: &[u8], expected: &Expected) -> Result<()> {
        let mut objects = self.objects();
        let current = objects
            .get(name)
            .map(|content| content.with(Version::of_content));
        let as_expected = match (expected, current) {
            (Expected::Absent, None) => true,
            (Expected::Unchanged(expected), Some(current)) => *expected == current,
            _ => false,
        };
        if !as_expected {
            return Err(conflict(
                "somebody else changed it; read it again and decide",
                name,
            ));
        }
        objects.insert(name.to_owned(), Content::new(bytes.to_vec()));
        Ok(())
    }

    fn read_version(&self, name: &str) -> Result<(Vec<u8>, Version)> {
        let content = self.read(name)?;
        let version = Version::of_content(&content);
        Ok((content, version))
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.objects().remove(name);
        Ok(())
    }

    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        if self.objects().contains_key(name) {
            return Err(conflict("it exists already; choose another name", name));
        }
        Ok(Box::new(MemoryWriter {
            backend: self.clone(),
            name: name.to_owned(),
            bytes: Vec::new(),
        }))
    }

    fn create_log(&self, name: &str) -> Result<Box<dyn Log>> {
        let content = Content::default();
        self.insert_new(name, content.clone())?;
        Ok(Box::new(MemoryLog(content)))
    }

    fn open_log(&self, name: &str, _unsettled: u64, end: u64) -> Result<Box<dyn Log>> {
        let mut log = MemoryLog(self.object(name)?);
        let length = log.end();
        if end > length {
            return Err(Error::corrupt(format!(
                "the log is {length} bytes long, but {end} were expected; restore it from a backup"
            ))
            .at_path(name));
        }
        log.truncate(end)?;
        Ok(Box::new(log))
    }

    fn lock(&self) -> Result<Box<dyn LockGuard>> {
        let mut locks = self.0.locks();
        if locks.alone || !locks.agents.is_empty() {
            return Err(locked(
                "store is locked by another handle of this process; close it, or open the store read-only",
            ));
        }
        locks.alone = true;
        Ok(Box::new(MemoryLock(Arc::clone(&self.0), None)))
    }

    fn lock_agent(&self, agent: &str) -> Result<Box<dyn LockGuard>> {
        let mut locks = self.0.locks();
        if locks.alone {
            return Err(locked(
                "store is locked by a single writer in this process; close it, or open it there as an agent too",
            ));
        }
        if !locks.agents.insert(agent.to_owned()) {
            return Err(Error::new(
                ErrorKind::Locked,
                format!("agent '{agent}' is in use by another handle of this process; close it, or choose another agent id"),
            )
            .at_path(paths::agent_flock(agent)));
        }
        let agent = Some(agent.to_owned());
        Ok(Box::new(MemoryLock(Arc::clone(&self.0), agent)))
    }
}

impl Object for Content {
    fn size(&self) -> Result<u64> {
        Ok(self.length())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        Ok(self.read_at(offset, buffer))
    }
}

struct MemoryWriter {
    backend: MemoryBackend,
    name: String,
    bytes: Vec<u8>,
}

impl ObjectWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.backend
            .insert_new(&self.name, Content::new(self.bytes))
    }
}

struct MemoryLog(Content);

impl Log for MemoryLog {
    fn end(&self) -> u64 {
        self.0.length()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.change(|content| content.extend_from_slice(bytes));
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> Result<()> {
        let end = self.end();
        match usize::try_from(length) {
            Ok(kept) if length <= end => {
                self.0.change(|content| content.truncate(kept));
                Ok(())
            }
            _ => Err(Error::invalid(format!(
                "a log of {end} bytes cannot be cut to {length}"
            ))),
        }
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Of an agent, or of the single writer.
struct MemoryLock(Arc<Shared>, Option<String>);

impl LockGuard for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut locks = self.0.locks();
        match &self.1 {
            Some(agent) => drop(locks.agents.remove(agent)),
            None => locks.alone = false,
        }
    }
}
