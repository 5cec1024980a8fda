//! Finds the slot of an id: open addressing with linear probing, the slot's number beside the id's hash.
//!
//! A general hash table reads a line of control bytes, then a line of entries; here it is one line (a later `get` at 1,000,000 documents: 370 ns by
//! `hashbrown::HashTable<u32>`, 265 so). Since the hash is kept, the documents are not looked at when the table grows, nor when a neighbour is passed over.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

/// Hashes ids; the same for a table and its clones.
#[derive(Clone, Default)]
pub(crate) struct IdHasher(DefaultHashBuilder);

impl IdHasher {
    #[allow(clippy::cast_possible_truncation)] // Wanted: the halves are folded.
    pub(crate) fn hash(&self, id: &str) -> u32 {
        let hash = self.0.hash_one(id);
        (hash ^ (hash >> 32)) as u32
    }
}

/// A place of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    hash: u32,
    slot: u32,
}

impl Entry {
    const FREE: Self = Self {
        hash: 0,
        slot: u32::MAX,
    };
}

/// Slot numbers up to [`SLOT_MAX`](Self::SLOT_MAX), by the hash of their document's id.
#[derive(Clone, Default)]
pub(super) struct IdTable {
    /// None, or a power of two of them, at most three quarters taken.
    entries: Vec<Entry>,
    len: usize,
}

impl IdTable {
    pub(super) const SLOT_MAX: u32 = u32::MAX - 1;

    pub(super) fn with_capacity(ids: usize) -> Self {
        let places = match ids {
            0 => 0,
            ids => (ids + ids / 3 + 1).next_power_of_two(),
        };
        Self {
            entries: vec![Entry::FREE; places],
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slot with `hash` that is the wanted one.
    pub(super) fn find(&self, hash: u32, is_wanted: impl Fn(u32) -> bool) -> Option<u32> {
        self.probe(hash)
            .map(|(_, entry)| entry)
            .find(|entry| entry.hash == hash && is_wanted(entry.slot))
            .map(|entry| entry.slot)
    }

    /// The slot in the first place where `hash` may be, if it has that hash.
    pub(super) fn home(&self, hash: u32) -> Option<u32> {
        let entry = self.at(hash as usize & self.mask());
        (entry != Entry::FREE && entry.hash == hash).then_some(entry.slot)
    }

    /// Enters a slot that is not there.
    pub(super) fn insert(&mut self, hash: u32, slot: u32) {
        if (self.len + 1) * 4 > self.entries.len() * 3 {
            self.grow();
        }
        self.put(Entry { hash, slot });
        self.len += 1;
    }

    /// Takes a slot out. Those that had to go behind it move up, so that no probe ends too early.
    pub(super) fn remove(&mut self, hash: u32, slot: u32) {
        let wanted = Entry { hash, slot };
        let Some((found, _)) = self.probe(hash).find(|(_, entry)| *entry == wanted) else {
            return;
        };
        let mask = self.mask();
        let mut hole = found;
        let mut place = found;
        loop {
            place = (place + 1) & mask;
            let entry = self.at(place);
            if entry == Entry::FREE {
                break;
            }
            let from_home = place.wrapping_sub(entry.hash as usize) & mask;
            if from_home >= place.wrapping_sub(hole) & mask {
                self.write(hole, entry);
                hole = place;
            }
        }
        self.write(hole, Entry::FREE);
        self.len -= 1;
    }

    pub(super) fn clear(&mut self) {
        self.entries.fill(Entry::FREE);
        self.len = 0;
    }

    fn mask(&self) -> usize {
        self.entries.len().wrapping_sub(1)
    }

    fn at(&self, place: usize) -> Entry {
        self.entries.get(place).copied().unwrap_or(Entry::FREE)
    }

    fn write(&mut self, place: usize, entry: Entry) {
        if let Some(place) = self.entries.get_mut(place) {
            *place = entry;
        }
    }

    /// The taken places from the home of `hash` up to the first free one.
    fn probe(&self, hash: u32) -> impl Iterator<Item = (usize, Entry)> + use<'_> {
        let mask = self.mask();
        let mut place = hash as usize & mask;
        std::iter::from_fn(move || {
            let found = (place, self.at(place));
            place = (place + 1) & mask;
            (found.1 != Entry::FREE).then_some(found)
        })
    }

    fn put(&mut self, entry: Entry) {
        let mask = self.mask();
        let mut place = entry.hash as usize & mask;
        while self.at(place) != Entry::FREE {
            place = (place + 1) & mask;
        }
        self.write(place, entry);
    }

    fn grow(&mut self) {
        let places = (self.entries.len() * 2).max(16);
        let entries = std::mem::replace(&mut self.entries, vec![Entry::FREE; places]);
        let taken = entries.into_iter().filter(|entry| *entry != Entry::FREE);
        taken.for_each(|entry| self.put(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All hashes that are possible here collide, so that every removal has neighbours to move.
    #[test]
    fn what_was_entered_and_not_removed_is_found() {
        let mut table = IdTable::default();
        let mut random = 7_u32;
        let mut expected = std::collections::BTreeMap::new();
        for slot in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hash = 0xffff_ff00 + (random >> 24) % 37;
            table.insert(hash, slot);
            expected.insert(slot, hash);
            let victim = (random >> 8) % (slot + 1);
            if expected.len() > 50
                && let Some(hash) = expected.remove(&victim)
            {
                table.remove(hash, victim);
                table.remove(hash, victim);
                assert_eq!(table.find(hash, |found| found == victim), None);
            }
            if expected.len() > 60 {
                let (&oldest, &hash) = expected.first_key_value().unwrap();
                expected.remove(&oldest);
                table.remove(hash, oldest);
            }
            assert_eq!(table.len(), expected.len());
            if slot % 97 == 0 {
                for (&slot, &hash) in &expected {
                    assert_eq!(table.find(hash, |found| found == slot), Some(slot));
                }
            }
        }
        assert_eq!(IdTable::default().find(3, |_| true), None);
    }

    #[test]
    fn a_table_made_for_a_number_of_ids_does_not_grow() {
        for ids in [1, 2, 3, 11, 12, 13, 1000] {
            let mut table = IdTable::with_capacity(ids);
            let places = table.entries.len();
            for slot in 0..u32::try_from(ids).unwrap() {
                table.insert(slot.wrapping_mul(0x9e37_79b9), slot);
            }
            assert_eq!(table.entries.len(), places, "{ids}");
        }
    }
}
