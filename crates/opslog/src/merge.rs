//! The order among several agents' operations (`docs/multi-writer.md` §1): stamps, and the registers that they decide over.
//!
//! Invariant: whether an operation takes effect depends on its stamp and the register's alone, so operations can be read in any order, and twice.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

/// The id of an agent. Its order is that of its bytes.
pub(crate) type Agent = Arc<str>;

/// What became of the operation that a stamp was given to: nothing, or the document that it made went to an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Mark(pub(crate) u32);

impl Mark {
    pub(crate) const WRITTEN: Self = Self(0);
    pub(crate) const ARCHIVED: Self = Self(1);
}

/// The place of an operation in the order of all agents' operations: by clock, then agent, then mark. The least one stands for everything before
/// there were agents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Stamp {
    pub(crate) clock: u64,
    pub(crate) agent: Agent,
    pub(crate) mark: Mark,
}

impl Stamp {
    pub(crate) fn new(clock: u64, agent: &Agent) -> Self {
        Self {
            clock,
            agent: Arc::clone(agent),
            mark: Mark::WRITTEN,
        }
    }

    pub(crate) fn marked(&self, mark: Mark) -> Self {
        Self {
            mark,
            ..self.clone()
        }
    }

    pub(crate) fn text(&self) -> StampText<'_> {
        StampText {
            clock: self.clock,
            agent: Cow::Borrowed(&self.agent),
            mark: self.mark,
        }
    }
}

/// A stamp as it is written: `[5,"agent"]`, with the mark's number behind it where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StampText<'a> {
    pub(crate) clock: u64,
    pub(crate) agent: Cow<'a, str>,
    pub(crate) mark: Mark,
}

impl StampText<'_> {
    pub(crate) fn to_stamp(&self) -> Stamp {
        Stamp {
            clock: self.clock,
            agent: Arc::from(&*self.agent),
            mark: self.mark,
        }
    }
}

/// Who wrote a document last, and when it was created, which is its place among the documents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Order {
    pub(crate) stamp: Stamp,
    pub(crate) born: Stamp,
}

/// What is known of an id beside its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Register {
    Live(Order),
    Deleted(Stamp),
}

impl Register {
    pub(crate) fn stamp(&self) -> &Stamp {
        match self {
            Self::Live(order) => &order.stamp,
            Self::Deleted(stamp) => stamp,
        }
    }

    pub(crate) fn born(&self) -> Option<&Stamp> {
        match self {
            Self::Live(order) => Some(&order.born),
            Self::Deleted(_) => None,
        }
    }
}

/// The order of agents' ids in the reference, `localeCompare`, for the characters that ids are made of: punctuation, digits, letters; capitals
/// count only where all else is equal, and go last.
pub(crate) fn compare_as_reference(one: &str, other: &str) -> Ordering {
    let primary = |character: char| match character {
        '_' => (0, '_'),
        '-' => (1, '-'),
        '.' => (2, '.'),
        '0'..='9' => (3, character),
        _ => (4, character.to_ascii_lowercase()),
    };
    one.chars()
        .map(primary)
        .cmp(other.chars().map(primary))
        .then_with(|| {
            let capital = |character: char| character.is_ascii_uppercase();
            one.chars().map(capital).cmp(other.chars().map(capital))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_ordered_by_clock_then_the_bytes_of_the_agent_then_mark() {
        let stamp = |clock, agent: &str, mark| Stamp {
            clock,
            agent: agent.into(),
            mark,
        };
        let ordered = [
            Stamp::default(),
            stamp(1, "a", Mark::WRITTEN),
            stamp(1, "a", Mark::ARCHIVED),
            stamp(1, "b", Mark::WRITTEN),
            stamp(2, "B", Mark::WRITTEN),
            stamp(2, "a", Mark::WRITTEN),
        ];
        assert!(ordered.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn the_references_order_is_that_of_words() {
        // As `["b", …].sort((x, y) => x.localeCompare(y))` has it.
        let ordered = [
            "_a", "-a", ".a", "1", "10", "2", "a", "A", "a-b", "a.b", "ab", "aB", "b", "B",
        ];
        for pair in ordered.windows(2) {
            assert_eq!(
                compare_as_reference(pair[0], pair[1]),
                Ordering::Less,
                "{pair:?}"
            );
        }
    }
}
