//! Which place an id has, without a word about ids: those lie elsewhere, by place. A table of open addressing with linear probing (Knuth, *The Art of
//! Computer Programming* 3, section 6.4, algorithm L), of which at most half is taken: 8 to 16 bytes an id.
//!
//! It is filled here, off the event loop, and searched here until the event loop has the ids; then it goes there too (`lib/places.cjs`), which must have
//! the same hash.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

#[derive(Clone, Default)]
pub(crate) struct Places {
    /// Places plus one; 0 is free. The length is a power of two, or nothing.
    pub(crate) table: Vec<u32>,
    /// These two are random: who chooses ids does not know which fall together.
    pub(crate) seed: u32,
    pub(crate) factor: u32,
}

impl Places {
    /// For at most `count` places.
    pub(crate) fn with_capacity(count: usize) -> Self {
        let random = RandomState::new();
        let [seed, factor] = [0, 1].map(|which: u8| random.hash_one(which).to_ne_bytes());
        let low = |bytes: [u8; 8]| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Self {
            table: vec![0; (count * 2).next_power_of_two()],
            seed: low(seed),
            factor: low(factor) | 1,
        }
    }

    /// Whether it has room for `count` places.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        count * 2 <= self.table.len()
    }

    /// Adds the place of an id that is not there yet; there must be room.
    pub(crate) fn add(&mut self, id: &str, place: u32) {
        let at = self.way(id).find(|at| self.table[*at] == 0);
        self.table[at.expect("half of the table is free")] = place + 1;
    }

    /// The place that has `id`, according to `is_it`.
    pub(crate) fn find(&self, id: &str, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let taken = self.way(id).map_while(|at| self.table[at].checked_sub(1));
        taken.into_iter().find(|place| is_it(*place))
    }

    /// Where an id may be, in the order of the search.
    fn way(&self, id: &str) -> impl Iterator<Item = usize> + use<> {
        let length = self.table.len();
        let mask = length.wrapping_sub(1);
        let mut hash = self.seed;
        for unit in id.encode_utf16() {
            hash = (hash ^ u32::from(unit)).wrapping_mul(self.factor);
            hash ^= hash >> 15;
        }
        let home = hash as usize;
        (0..length).map(move |step| (home + step) & mask)
    }
}
