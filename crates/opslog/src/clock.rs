//! The Lamport clock that orders the operations of several agents.

/// A logical clock: it counts this agent's operations and stays above everything the agent has seen.
///
/// Source: L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", 1978.
///
/// ```
/// use opslog::LamportClock;
/// let mut clock = LamportClock::new(0);
/// assert_eq!(clock.tick(), 1);
/// assert_eq!(clock.merge(10), 11);
/// assert_eq!(clock.merge(2), 12);
/// assert_eq!(clock.current(), 12);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LamportClock {
    counter: u64,
}

impl LamportClock {
    /// A clock that stands at `initial`.
    ///
    /// ```
    /// assert_eq!(opslog::LamportClock::new(5).current(), 5);
    /// ```
    pub fn new(initial: u64) -> Self {
        Self { counter: initial }
    }

    /// Advances by one for an event of this agent, and returns the new value. It stays at [`u64::MAX`].
    ///
    /// ```
    /// assert_eq!(opslog::LamportClock::new(5).tick(), 6);
    /// ```
    pub fn tick(&mut self) -> u64 {
        self.counter = self.counter.saturating_add(1);
        self.counter
    }

    /// Advances to one above both this clock and `received`, and returns the new value.
    ///
    /// ```
    /// assert_eq!(opslog::LamportClock::new(5).merge(9), 10);
    /// ```
    pub fn merge(&mut self, received: u64) -> u64 {
        self.counter = self.counter.max(received);
        self.tick()
    }

    /// Advances to `seen`, where that is ahead: what comes next is above it.
    pub(crate) fn observe(&mut self, seen: u64) {
        self.counter = self.counter.max(seen);
    }

    /// The present value.
    ///
    /// ```
    /// assert_eq!(opslog::LamportClock::default().current(), 0);
    /// ```
    pub fn current(&self) -> u64 {
        self.counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_goes_back_or_overflows() {
        let mut clock = LamportClock::new(u64::MAX - 1);
        assert_eq!(clock.tick(), u64::MAX);
        assert_eq!(clock.tick(), u64::MAX);
        assert_eq!(clock.merge(3), u64::MAX);
    }
}
