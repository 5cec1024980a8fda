//! A backend that calls back before a chosen one of its calls: there another agent comes in between.

use std::sync::{Arc, Mutex, PoisonError};

use opslog::Result;
use opslog::backend::{
    Backend, Expected, LockGuard, Log, Object, ObjectInfo, ObjectWriter, Version,
};

type Action = Box<dyn FnOnce() + Send>;

/// Hands every call on to the backend below. Clones share the count.
#[derive(Clone)]
pub(crate) struct Hooked<B> {
    below: B,
    plan: Plan,
}

#[derive(Clone, Default)]
struct Plan(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    calls: usize,
    action: Option<(usize, Action)>,
}

impl Plan {
    fn step(&self) {
        let action = {
            let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = counted.calls;
            counted.calls += 1;
            counted
                .action
                .take_if(|(at, _)| *at == now)
                .map(|(_, action)| action)
        };
        if let Some(action) = action {
            action();
        }
    }
}

impl<B: Backend> Hooked<B> {
    pub(crate) fn new(below: B) -> Self {
        Self {
            below,
            plan: Plan::default(),
        }
    }

    /// Calls `action` before the call that comes after `calls` others.
    pub(crate) fn before(&self, calls: usize, action: impl FnOnce() + Send + 'static) {
        let mut counted = self.plan.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = counted.calls + calls;
        counted.action = Some((at, Box::new(action)));
    }

    /// Takes the action back; `false` when it has been called.
    pub(crate) fn clear(&self) -> bool {
        let mut counted = self.plan.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.action.take().is_some()
    }

    fn wrap<T>(&self, below: T) -> Wrapped<T> {
        Wrapped {
            below,
            plan: self.plan.clone(),
        }
    }
}

impl<B: Backend> Backend for Hooked<B> {
    fn location(&self) -> String {
        self.below.location()
    }

    fn initialize(&self) -> Result<()> {
        self.plan.step();
        self.below.initialize()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.plan.step();
        self.below.read(name)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.plan.step();
        self.below.read_at(name, offset, buffer)
    }

    fn open(&self, name: &str) -> Result<Box<dyn Object>> {
        self.plan.step();
        Ok(Box::new(self.wrap(self.below.open(name)?)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.plan.step();
        self.below.list(prefix)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.plan.step();
        self.below.put(name, bytes)
    }

    fn put_if(&self, name: &str, bytes: &[u8], expected: &Expected) -> Result<()> {
        self.plan.step();
        self.below.put_if(name, bytes, expected)
    }

    fn read_version(&self, name: &str) -> Result<(Vec<u8>, Version)> {
        self.plan.step();
        self.below.read_version(name)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.plan.step();
        self.below.delete(name)
    }

    fn create(&self, name: &str) -> Result<Box<dyn ObjectWriter>> {
        self.plan.step();
        Ok(Box::new(self.wrap(self.below.create(name)?)))
    }

    fn create_log(&self, name: &str) -> Result<Box<dyn Log>> {
        self.plan.step();
        Ok(Box::new(self.wrap(self.below.create_log(name)?)))
    }

    fn open_log(&self, name: &str, unsettled: u64, end: u64) -> Result<Box<dyn Log>> {
        self.plan.step();
        let log = self.below.open_log(name, unsettled, end)?;
        Ok(Box::new(self.wrap(log)))
    }

    fn lock(&self) -> Result<Box<dyn LockGuard>> {
        self.plan.step();
        self.below.lock()
    }

    fn lock_agent(&self, agent: &str) -> Result<Box<dyn LockGuard>> {
        self.plan.step();
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
        self.plan.step();
        self.below.append(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.plan.step();
        self.below.sync()
    }

    fn truncate(&mut self, length: u64) -> Result<()> {
        self.plan.step();
        self.below.truncate(length)
    }

    fn finish(&mut self) -> Result<()> {
        self.plan.step();
        self.below.finish()
    }
}

impl ObjectWriter for Wrapped<Box<dyn ObjectWriter>> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.plan.step();
        self.below.write(bytes)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.plan.step();
        self.below.finish()
    }
}

impl Object for Wrapped<Box<dyn Object>> {
    fn size(&self) -> Result<u64> {
        self.below.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.plan.step();
        self.below.read_at(offset, buffer)
    }
}
