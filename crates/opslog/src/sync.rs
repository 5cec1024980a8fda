//! The locks, threads and clock of the concurrent parts: those of `std`, or, with `--cfg shuttle`, those of a scheduler that tries many interleavings
//! (`tests/interleavings.rs`).
//!
//! What never waits for another thread uses `std` directly: reference counts, cells that are set once.

#[cfg(not(shuttle))]
mod here {
    pub(crate) use std::sync::atomic;
    pub(crate) use std::sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    };
    pub(crate) use std::thread;
    pub(crate) use std::thread_local;
    pub(crate) use std::time::Instant;
}

#[cfg(shuttle)]
mod here {
    use std::cell::Cell;
    use std::time::Duration;

    pub(crate) use shuttle::sync::atomic;
    pub(crate) use shuttle::sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    };
    pub(crate) use shuttle::thread;
    pub(crate) use shuttle::thread_local;

    std::thread_local! {
        static LOOKS: Cell<u32> = const { Cell::new(0) };
    }

    /// A clock that goes on whenever it is looked at, so that the same interleaving always takes the same time.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct Instant(Duration);

    impl Instant {
        pub(crate) fn now() -> Self {
            let looks = LOOKS.get() + 1;
            LOOKS.set(looks);
            Self(Duration::from_micros(20) * looks)
        }

        pub(crate) fn elapsed(&self) -> Duration {
            Self::now().0.saturating_sub(self.0)
        }

        pub(crate) fn checked_add(&self, duration: Duration) -> Option<Self> {
            self.0.checked_add(duration).map(Self)
        }

        pub(crate) fn saturating_duration_since(&self, earlier: Self) -> Duration {
            self.0.saturating_sub(earlier.0)
        }
    }
}

pub(crate) use here::*;
