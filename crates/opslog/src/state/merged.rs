//! The state of a store with several agents: each id is a register, and the greatest stamp wins (`docs/multi-writer.md` §1).
//!
//! Slots lie in the order of their documents' born stamps. Operations come in any order, so a document may belong before ones that are there: it is put at the
//! end, and [`State::settle`] sorts the part of the slots from its place on.

use std::collections::HashMap;

use super::{CHUNK, State};
use crate::document::Stored;
use crate::merge::{Order, Register, Stamp};

/// What the registers hold beside the documents.
#[derive(Clone, Default)]
pub(crate) struct Registers {
    /// Of each slot; that of a hole is what its last document had.
    live: Vec<Order>,
    deleted: HashMap<Box<str>, Stamp>,
    /// How many slots at the front are in order.
    ordered: usize,
}

/// The stamps of a state, in the order of its documents, and its tombstones.
pub(crate) struct Stamps {
    pub(crate) documents: Vec<Order>,
    pub(crate) deleted: Vec<(Box<str>, Stamp)>,
}

impl<T> State<T> {
    /// An empty state of registers.
    pub(crate) fn of_registers() -> Self {
        Self {
            registers: Some(Box::default()),
            ..Self::default()
        }
    }

    /// Makes the state one of registers. `orders` are those of its documents, which are all in memory, in their order.
    ///
    /// # Errors
    ///
    /// The number of documents, when it is not that of the orders.
    pub(crate) fn stamp(
        &mut self,
        orders: Vec<Order>,
        deleted: HashMap<Box<str>, Stamp>,
    ) -> Result<(), usize> {
        self.rewrite_slots();
        if orders.len() != self.slot_count {
            return Err(self.slot_count);
        }
        let ordered = orders.is_sorted_by(|one, next| one.born <= next.born);
        self.registers = Some(Box::new(Registers {
            ordered: if ordered { orders.len() } else { 0 },
            live: orders,
            deleted,
        }));
        self.settle();
        Ok(())
    }

    /// What is known of `id`: `None` for an id that nobody has written, and where there are no registers.
    pub(crate) fn register(&self, id: &str) -> Option<Register> {
        let registers = self.registers.as_ref()?;
        match self.find(id) {
            Some(slot) => registers
                .live
                .get(slot as usize)
                .cloned()
                .map(Register::Live),
            None => registers.deleted.get(id).cloned().map(Register::Deleted),
        }
    }

    /// Writes to the register of `id`, unless it has a greater or equal stamp. Documents may be out of their order until [`settle`](Self::settle).
    pub(crate) fn merge(&mut self, id: &str, document: Option<Stored<T>>, order: Order) {
        let slot = self.find(id);
        let Some(registers) = self.registers.as_mut() else {
            return;
        };
        let known = match slot {
            Some(slot) => registers.live.get(slot as usize).map(|order| &order.stamp),
            None => registers.deleted.get(id),
        };
        if known.is_some_and(|known| order.stamp <= *known) {
            return;
        }
        match (document, slot) {
            (Some(document), Some(slot)) => self.merge_update(slot, document, order),
            (Some(document), None) => {
                registers.deleted.remove(id);
                self.merge_create(document, order);
            }
            (None, slot) => {
                registers.deleted.insert(id.into(), order.stamp);
                if let Some(slot) = slot {
                    self.vacate(self.hasher.hash(id), slot);
                }
            }
        }
    }

    fn merge_update(&mut self, slot: u32, document: Stored<T>, order: Order) {
        let place = self
            .registers
            .as_mut()
            .and_then(|registers| registers.live.get_mut(slot as usize));
        let Some(place) = place else {
            return;
        };
        if place.born == order.born {
            *place = order;
            self.write_slot(slot, Some(document));
        } else {
            self.vacate(self.hasher.hash(document.id()), slot);
            self.merge_create(document, order);
        }
    }

    /// Puts a document that has no slot into the hole that it left, or at the end.
    fn merge_create(&mut self, document: Stored<T>, order: Order) {
        if let Some(slot) = self.hole_of(&order.born) {
            if let Some(registers) = self.registers.as_mut()
                && let Some(place) = registers.live.get_mut(slot as usize)
            {
                *place = order;
            }
            self.table.insert(self.hasher.hash(document.id()), slot);
            self.write_slot(slot, Some(document));
            return;
        }
        let Some(registers) = self.registers.as_mut() else {
            return;
        };
        let last = registers.live.last();
        if registers.ordered == registers.live.len()
            && last.is_none_or(|last| last.born <= order.born)
        {
            registers.ordered += 1;
        }
        registers.live.push(order);
        self.push(self.hasher.hash(document.id()), document);
    }

    /// The hole of a document that was born with `born`.
    fn hole_of(&self, born: &Stamp) -> Option<u32> {
        let registers = self.registers.as_ref()?;
        let in_order = registers.live.get(..registers.ordered)?;
        let place = in_order.partition_point(|known| known.born < *born);
        let slot = u32::try_from(place).ok()?;
        (in_order.get(place)?.born == *born && self.slot(slot).is_none()).then_some(slot)
    }

    /// Brings the documents into their order; costs what lies behind the first one that is out of it.
    pub(crate) fn settle(&mut self) {
        let Some(registers) = self.registers.as_mut() else {
            return;
        };
        let ordered = registers.ordered;
        let (in_order, rest) = registers.live.split_at(ordered.min(registers.live.len()));
        let Some(first) = rest.iter().map(|order| &order.born).min() else {
            return;
        };
        let from = in_order.partition_point(|order| order.born <= *first);
        self.sort_from(from);
    }

    fn sort_from(&mut self, from: usize) {
        let Some(registers) = self.registers.as_mut() else {
            return;
        };
        let orders = registers.live.split_off(from.min(registers.live.len()));
        registers.ordered = registers.live.len();
        let mut moved = Vec::new();
        for (slot, order) in (from..).zip(orders) {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            if let Some(document) = self.slot(slot).cloned() {
                self.vacate(self.hasher.hash(document.id()), slot);
                moved.push((order, document));
            }
        }
        self.cut_slots(from);
        moved.sort_by(|(one, _), (other, _)| one.born.cmp(&other.born));
        for (order, document) in moved {
            if let Some(registers) = self.registers.as_mut() {
                registers.live.push(order);
                registers.ordered += 1;
            }
            self.push(self.hasher.hash(document.id()), document);
        }
    }

    /// Removes the slots from `from` on, which are holes.
    fn cut_slots(&mut self, from: usize) {
        let slots = std::sync::Arc::make_mut(&mut self.slots);
        slots.truncate(from.div_ceil(CHUNK));
        if let Some(last) = slots.last_mut()
            && !from.is_multiple_of(CHUNK)
        {
            std::sync::Arc::make_mut(last).truncate(from % CHUNK);
        }
        self.slot_count = from;
    }

    /// Rewrites the slots where most of them are holes.
    pub(crate) fn close_holes(&mut self) {
        if self.slot_count > 1024 && self.slot_count / 2 > self.table.len() {
            self.sort_from(0);
        }
    }

    /// All stamps, for a snapshot of the state as it is now.
    pub(crate) fn stamps(&self) -> Stamps {
        let registers = self.registers.as_deref();
        let live = registers.map_or(&[][..], |registers| &registers.live);
        let documents = (0..self.slot_count)
            .filter(|slot| u32::try_from(*slot).is_ok_and(|slot| self.slot(slot).is_some()))
            .filter_map(|slot| live.get(slot).cloned());
        let deleted = registers
            .into_iter()
            .flat_map(|registers| &registers.deleted);
        Stamps {
            documents: documents.collect(),
            deleted: deleted
                .map(|(id, stamp)| (id.clone(), stamp.clone()))
                .collect(),
        }
    }

    /// Forgets the tombstones that `is_needed` does not want.
    pub(crate) fn retain_deleted(&mut self, is_needed: impl Fn(&Stamp) -> bool) {
        if let Some(registers) = self.registers.as_mut() {
            registers.deleted.retain(|_, stamp| is_needed(stamp));
        }
    }
}

#[cfg(test)]
mod tests;
