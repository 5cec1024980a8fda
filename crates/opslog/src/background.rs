//! The store's own thread: flushes buffered writes in time and makes automatic checkpoints.
//!
//! The thread is started when there is first something to do. It holds no store while it waits, so dropping the last handle ends it.

use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::document::Document;
use crate::engine::{Engine, lock};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// Requests to the thread; of the store's handle.
#[derive(Default)]
pub(crate) struct Background {
    shared: Arc<Shared>,
    /// Starts the thread; set when the store can be pointed to.
    start: OnceLock<Box<Start>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

type Start = dyn Fn(Arc<Shared>) -> Option<JoinHandle<()>> + Send + Sync;

#[derive(Default)]
struct Shared {
    requests: Mutex<Requests>,
    changed: Condvar,
}

#[derive(Default)]
struct Requests {
    flush: bool,
    flush_at: Option<Instant>,
    checkpoint: bool,
    stop: bool,
}

enum Task {
    Flush,
    Checkpoint,
    Stop,
}

impl Background {
    /// Says for which store the thread works.
    pub(crate) fn attach<T: Document>(&self, engine: &Arc<Engine<T>>) {
        let engine = Arc::downgrade(engine);
        let start = move |shared: Arc<Shared>| {
            let engine = Weak::clone(&engine);
            thread::Builder::new()
                .name("opslog".to_owned())
                .spawn(move || run(&shared, &engine))
                .inspect_err(|error| tracing::warn!(%error, "the store's thread could not be started; it is tried again with the next request"))
                .ok()
        };
        let _ = self.start.set(Box::new(start));
    }

    /// Asks for a flush within `interval`; one that is due earlier stays.
    pub(crate) fn flush_within(&self, interval: Duration) {
        let mut requests = lock(&self.shared.requests);
        if requests.flush_at.is_none()
            && !requests.flush
            && let Some(at) = Instant::now().checked_add(interval)
        {
            requests.flush_at = Some(at);
            self.wake(requests);
        }
    }

    pub(crate) fn flush_now(&self) {
        let mut requests = lock(&self.shared.requests);
        if !requests.flush {
            requests.flush = true;
            self.wake(requests);
        }
    }

    pub(crate) fn checkpoint_now(&self) {
        let mut requests = lock(&self.shared.requests);
        requests.checkpoint = true;
        self.wake(requests);
    }

    fn wake(&self, requests: MutexGuard<'_, Requests>) {
        let mut thread = lock(&self.thread);
        if thread.is_none()
            && !requests.stop
            && let Some(start) = self.start.get()
        {
            *thread = start(Arc::clone(&self.shared));
        }
        drop((thread, requests));
        self.shared.changed.notify_one();
    }

    /// Ends the thread and waits for it, unless it is the one that asks.
    pub(crate) fn stop(&self) {
        lock(&self.shared.requests).stop = true;
        self.shared.changed.notify_one();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // The thread's work does not panic; if it did, everything acknowledged is still in the log.
            let _ = thread.join();
        }
    }
}

fn run<T: Document>(shared: &Shared, engine: &Weak<Engine<T>>) {
    loop {
        let task = wait(shared);
        let Some(engine) = engine.upgrade() else {
            return;
        };
        match task {
            Task::Stop => return,
            Task::Flush => engine.flush_in_background(),
            Task::Checkpoint => {
                if let Err(error) = engine.checkpoint() {
                    engine.note_checkpoint_failure(&error);
                }
            }
        }
    }
}

fn wait(shared: &Shared) -> Task {
    let mut requests = lock(&shared.requests);
    loop {
        if requests.stop {
            return Task::Stop;
        }
        let now = Instant::now();
        if requests.flush || requests.flush_at.is_some_and(|at| at <= now) {
            requests.flush = false;
            requests.flush_at = None;
            return Task::Flush;
        }
        if requests.checkpoint {
            requests.checkpoint = false;
            return Task::Checkpoint;
        }
        requests = match requests.flush_at {
            Some(at) => shared
                .changed
                .wait_timeout(requests, at.saturating_duration_since(now))
                .map_or_else(|poison| poison.into_inner().0, |(requests, _)| requests),
            None => shared
                .changed
                .wait(requests)
                .unwrap_or_else(PoisonError::into_inner),
        };
    }
}
