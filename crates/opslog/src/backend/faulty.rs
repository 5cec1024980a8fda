//! A backend whose calls can be made to fail, for tests of what the store does then.
//!
//! Invariant: a call that fails here has not reached the backend below; every other call is handed on unchanged. Calls on logs,
//! writers and open objects count too. For failures inside a call, and for crashes, use the simulated disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Backend, Expected, LockGuard, Log, Object, ObjectInfo, ObjectWriter, Version};
use crate::{Error, Result};

/// A wrapper around a backend. Clones share the count and the plan of failures.
#[derive(Clone)]
pub struct Faulty {
    below: Arc<dyn Backend>,
    plan: Plan,
}

#[derive(Clone, Default)]
struct Plan(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    calls: usize,
    failures: BTreeMap<usize, Error>,
    from: Option<(usize, Error)>,
}

impl Plan {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> Result<()> {
        let mut counted = self.counted();
        let index = counted.calls;
        counted.calls += 1;
        if let Some(error) = counted.failures.remove(&index) {
            return Err(error);
        }
        match &counted.from {
            Some((from, error)) if index >= *from => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

impl Faulty {
    /// Wraps `below`; nothing fails yet.
    pub fn new(below: impl Backend) -> Self {
        Self {
            below: Arc::new(below),
            plan: Plan::default(),
        }
    }

    /// How many calls were made so far. `location`, `Log::end` and drops do not count.
    pub fn calls(&self) -> usize {
        self.plan.counted().calls
    }

    /// Makes the call with this index (from 0) fail.
    pub fn fail(&self, call_index: usize, error: Error) {
        self.plan.counted().failures.insert(call_index, error);
    }

    /// Makes this call and all after it fail, until `mend`.
    pub fn fail_from(&self, call_index: usize, error: Error) {
        self.plan.counted().from = Some((call_index, error));
    }

    /// Takes back all failures that are still to come.
    pub fn mend(&self) {
        let mut counted = self.plan.counted();
        counted.failures.clear();
        counted.from = None;
    }

    fn wrap<T>(&self, below: T) -> Wrapped<T> {
        Wrapped {
            below,
            plan: self.plan.clone(),
        }
    }
}

impl Backend for Faulty {
    fn location(&self) -> String {
        self.below.location()
    }

    fn initialize(&self) -> Result<()> {
        self.plan.step()?;
        self.below.initialize()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.plan.step()?;
        self.below.read(name)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.plan.step()?;
        self.below.read_at(name, offset, buffer)
    }

    fn open(&self, name: &str) -> Result<Box<dyn Object>> {
        self.plan.step()?;
        Ok(Box::new(self.wrap(self.below.open(name)?)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.plan.step()?;
        self.below.list(prefix)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.plan.step()?;
        self.below.put(name, bytes)
    }

    fn put_if(&self, name: &str, bytes: &[u8], expected: &Expected) -> Result<()> {
        self.plan.step()?;
        self.below.put_if(name, bytes, expected)
    }

    fn read_version(&self, name: &str) -> Result<(Vec<u8>, Version)> {
        self.plan.step()?;
        self.below.read_version(name)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.plan.step()?;
        self.below.delete(name)
    }

    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        self.plan.step()?;
        Ok(Box::new(self.wrap(self.below.create(name)?)))
    }

    fn create_log(&self, name: &str) -> Result<Box<dyn Log>> {
        self.plan.step()?;
        Ok(Box::new(self.wrap(self.below.create_log(name)?)))
    }

    fn open_log(&self, name: &str, unsettled: u64, end: u64) -> Result<Box<dyn Log>> {
        self.plan.step()?;
        Ok(Box::new(
            self.wrap(self.below.open_log(name, unsettled, end)?),
        ))
    }

    fn lock(&self) -> Result<Box<dyn LockGuard>> {
        self.plan.step()?;
        self.below.lock()
    }

    fn lock_agent(&self, agent: &str) -> Result<Box<dyn LockGuard>> {
        self.plan.step()?;
        self.below.lock_agent(agent)
    }
}

/// A log, writer or object of the backend below.
struct Wrapped<T> {
    below: T,
    plan: Plan,
}

impl Log for Wrapped<Box<dyn Log>> {
    fn end(&self) -> u64 {
        self.below.end()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.plan.step()?;
        self.below.append(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.plan.step()?;
        self.below.sync()
    }

    fn truncate(&mut self, length: u64) -> Result<()> {
        self.plan.step()?;
        self.below.truncate(length)
    }

    fn finish(&mut self) -> Result<()> {
        self.plan.step()?;
        self.below.finish()
    }
}

impl ObjectWriter for Wrapped<Box<dyn ObjectWriter>> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.plan.step()?;
        self.below.write(bytes)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.plan.step()?;
        self.below.finish()
    }
}

impl Object for Wrapped<Box<dyn Object>> {
    fn size(&self) -> Result<u64> {
        self.plan.step()?;
        self.below.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.plan.step()?;
        self.below.read_at(offset, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::backend::MemoryBackend;

    #[test]
    fn the_chosen_call_fails_and_does_not_reach_the_backend() {
        let backend = Faulty::new(MemoryBackend::new());
        backend.fail(1, Error::new(ErrorKind::Unavailable, "as planned"));
        let mut log = backend.create_log("log").unwrap();
        assert_eq!(log.append(b"a").unwrap_err().message(), "as planned");
        log.append(b"b").unwrap();
        assert_eq!(backend.read("log").unwrap(), b"b");
        assert_eq!(backend.calls(), 4);
    }
}
