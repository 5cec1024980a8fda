//! The store's own threads: one flushes buffered writes in time, one makes automatic checkpoints, so that neither waits for the other.
//!
//! A thread is started when there is first something to do. It holds no store while it waits, so dropping the last handle ends it.

use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::document::Document;
use crate::engine::{Engine, lock};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// Requests to the threads; of the store's handle.
#[derive(Default)]
pub(crate) struct Background {
    flusher: Worker,
    checkpointer: Worker,
}

/// A thread, and what it is to do.
#[derive(Default)]
struct Worker {
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
    now: bool,
    at: Option<Instant>,
    /// As `at`, after a failure.
    again_at: Option<Instant>,
    stop: bool,
    has_thread: bool,
}

impl Requests {
    /// When the thread is due, if not now.
    fn due(&self) -> Option<Instant> {
        self.at.into_iter().chain(self.again_at).min()
    }
}

impl Background {
    /// Says for which store the threads work.
    pub(crate) fn attach<T: Document>(&self, engine: &Arc<Engine<T>>) {
        self.flusher
            .attach("opslog-flush", engine, Engine::flush_in_background);
        self.checkpointer
            .attach("opslog-checkpoint", engine, |engine| {
                if let Err(error) = engine.checkpoint() {
                    engine.note_checkpoint_failure(&error);
                }
            });
    }

    /// Asks for a flush within `interval`; one that is due earlier stays.
    pub(crate) fn flush_within(&self, interval: Duration) {
        let mut requests = lock(&self.flusher.shared.requests);
        let is_new = requests.at.is_none() && !requests.now;
        if is_new {
            requests.at = Instant::now().checked_add(interval);
        }
        self.flusher.wake(requests, is_new);
    }

    /// Asks for a flush within `interval` because the last one failed.
    pub(crate) fn flush_again_within(&self, interval: Duration) {
        let mut requests = lock(&self.flusher.shared.requests);
        requests.again_at = Instant::now().checked_add(interval);
        self.flusher.wake(requests, true);
    }

    pub(crate) fn flush_now(&self) {
        self.flusher.request();
    }

    pub(crate) fn checkpoint_now(&self) {
        self.checkpointer.request();
    }

    /// Ends the threads and waits for them, unless one of them asks.
    pub(crate) fn stop(&self) {
        self.flusher.stop();
        self.checkpointer.stop();
    }
}

impl Worker {
    fn attach<T: Document>(
        &self,
        name: &'static str,
        engine: &Arc<Engine<T>>,
        work: fn(&Engine<T>),
    ) {
        let engine = Arc::downgrade(engine);
        let start = move |shared: Arc<Shared>| {
            let engine = Weak::clone(&engine);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || run(&shared, &engine, work))
                .inspect_err(|error| tracing::warn!(%error, "the store's thread could not be started; it is tried again with the next request"))
                .ok()
        };
        let _ = self.start.set(Box::new(start));
    }

    fn request(&self) {
        let mut requests = lock(&self.shared.requests);
        let is_new = !requests.now;
        requests.now = true;
        self.wake(requests, is_new);
    }

    /// Wakes the thread where there is something new, and starts it where there is none.
    fn wake(&self, mut requests: MutexGuard<'_, Requests>, is_new: bool) {
        if !requests.has_thread
            && !requests.stop
            && let Some(start) = self.start.get()
        {
            let thread = start(Arc::clone(&self.shared));
            requests.has_thread = thread.is_some();
            *lock(&self.thread) = thread;
        }
        drop(requests);
        if is_new {
            self.shared.changed.notify_one();
        }
    }

    fn stop(&self) {
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

fn run<T>(shared: &Shared, engine: &Weak<Engine<T>>, work: fn(&Engine<T>)) {
    while wait(shared) {
        let Some(engine) = engine.upgrade() else {
            return;
        };
        work(&engine);
    }
}

/// Waits until there is something to do; `false` when there will be nothing more.
fn wait(shared: &Shared) -> bool {
    let mut requests = lock(&shared.requests);
    loop {
        if requests.stop {
            return false;
        }
        let now = Instant::now();
        if requests.now || requests.due().is_some_and(|at| at <= now) {
            requests.now = false;
            requests.at = None;
            requests.again_at = None;
            return true;
        }
        requests = match requests.due() {
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

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_thread_that_could_not_be_started_is_tried_again_with_each_request() {
        static TRIES: AtomicU32 = AtomicU32::new(0);
        let background = Background::default();
        let start: Box<Start> = Box::new(|_| {
            TRIES.fetch_add(1, Ordering::Relaxed);
            None
        });
        assert!(background.flusher.start.set(start).is_ok());
        for _ in 0..3 {
            background.flush_within(Duration::ZERO);
            background.flush_now();
        }
        assert_eq!(TRIES.load(Ordering::Relaxed), 6);
    }
}
