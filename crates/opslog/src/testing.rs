//! What tests change about this thread: a clock that stands still, and planted bugs.
//!
//! A check that cannot fail is worth nothing: the suites run with each [`Bug`] planted, and must find it. Without the feature `testing` every
//! function here is constant, and the compiler leaves it out.

/// A fault of durability that the core has when it is planted. Faults in how the file system is used need no hook in the core: `tests/crash/flawed.rs` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(test, feature = "testing")),
    allow(
        unreachable_pub,
        dead_code,
        reason = "public for tests outside the crate only"
    )
)]
pub enum Bug {
    /// What is left of a torn batch is applied.
    TornBatchApplied,
    /// What lies behind the hole in a torn write is kept.
    LinesBehindTearKept,
    /// A checkpoint does not copy what was written meanwhile to the new log.
    CheckpointDropsTail,
    /// A commit whose write failed is visible.
    FailedCommitVisible,
    /// A failed sync does not poison the store.
    FailedSyncForgotten,
}

#[cfg(any(test, feature = "testing"))]
mod here {
    use std::cell::Cell;

    use jiff::Timestamp;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static FROZEN: Cell<Option<(Timestamp, u64)>> = const { Cell::new(None) };
    }

    /// Plants a bug in what this thread does from now on, or takes it out.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether the bug is planted.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// From now on it is always `time` for this thread, and random numbers are counted from `number`: the same calls make the same files.
    pub fn freeze(time: Timestamp, number: u64) {
        FROZEN.set(Some((time, number)));
    }

    /// The time and the next number, where they are frozen.
    pub fn frozen() -> Option<(Timestamp, u64)> {
        FROZEN.get()
    }

    pub(crate) fn frozen_time() -> Option<Timestamp> {
        FROZEN.get().map(|(time, _)| time)
    }

    /// What stands for a random number.
    pub(crate) fn next_number() -> Option<u64> {
        let (time, number) = FROZEN.get()?;
        FROZEN.set(Some((time, number + 1)));
        Some(number)
    }
}

#[cfg(not(any(test, feature = "testing")))]
mod here {
    use jiff::Timestamp;

    use super::Bug;

    pub(crate) const fn is_planted(_: Bug) -> bool {
        false
    }

    pub(crate) const fn frozen_time() -> Option<Timestamp> {
        None
    }

    pub(crate) const fn next_number() -> Option<u64> {
        None
    }
}

#[cfg(not(any(test, feature = "testing")))]
pub(crate) use here::is_planted;
#[cfg(any(test, feature = "testing"))]
pub use here::{freeze, frozen, is_planted, plant};
pub(crate) use here::{frozen_time, next_number};
