//! Lines read lately, within a budget.
//!
//! Two generations: when the younger is full it becomes the older, and what nobody asked for since is dropped. Each
//! may have half of the budget, so that both together stay within it. A line is found by the hash of its id; whoever asks compares the id.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::line::Line;

/// What a line takes beside its text: the tables' places, allocation, reference counts.
const OVERHEAD: usize = 160;

pub(super) struct Cache {
    budget: usize,
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    lines: HashMap<u64, Line>,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            young: Generation::default(),
            old: Generation::default(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    pub(super) fn get(&mut self, hash: u64) -> Option<Line> {
        if let Some(line) = self.young.lines.get(&hash) {
            return Some(line.clone());
        }
        let line = self.old.lines.remove(&hash)?;
        self.old.bytes -= size(&line);
        self.put(hash, line.clone());
        Some(line)
    }

    /// Keeps `line`; one with the same hash that is there already stays.
    pub(super) fn put(&mut self, hash: u64, line: Line) {
        let size = size(&line);
        let limit = self.budget / 2;
        if size > limit {
            return;
        }
        if self.young.bytes + size > limit {
            self.old = std::mem::take(&mut self.young);
        }
        if let Entry::Vacant(entry) = self.young.lines.entry(hash) {
            entry.insert(line);
            self.young.bytes += size;
        }
    }
}

fn size(line: &Line) -> usize {
    line.bytes() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_together_stay_within_the_budget() {
        let line = |n: u64| {
            let text = format!("{{\"id\":\"{n}\",\"data\":{{\"n\":{n}}}}}");
            Line::parse(text.as_bytes(), true).unwrap()
        };
        let mut cache = Cache::new(10_000);
        for n in 0..1000 {
            cache.put(n, line(n));
            // Asked for again and again, 0 stays.
            assert!(cache.get(0).is_some(), "{n}");
            assert!(cache.bytes() <= 10_000);
        }
        assert!(cache.get(1).is_none());
        assert!(cache.bytes() > 5000);
        let mut nothing = Cache::new(0);
        nothing.put(1, line(1));
        assert!(nothing.get(1).is_none());
    }
}
