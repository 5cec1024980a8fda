//! The documents: id -> document in insertion order; applying an operation, taking the last one back, frozen views.
//!
//! Documents live in *slots*, contiguous in insertion order; a table maps an id's hash to its slot. An update keeps its slot, a
//! delete leaves a hole, a set after a delete takes a new slot at the end. Slots are kept in chunks that a frozen view shares with the
//! state: whoever writes next copies the chunk it changes, so a view costs nothing to take and never changes.
//!
//! Invariant: after `apply` of an operation, `take_back` of the same operation gives the state before it, order included. That
//! holds for the operations since the last call of [`State::forget_holes`], newest first.
//!
//! A state may lie on top of a [`Base`], documents that stay on storage (`Residency::OnDemand`, `ChangesOnly`): then the slots hold only what is new, and
//! `over` what became of documents of the base.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use arcstr::Substr;

use crate::Result;
use crate::base::Base;
use crate::document::Stored;
use crate::format::op_line::OpKind;
use crate::merge::Order;

mod merged;

pub(crate) use merged::{Registers, Stamps};

mod table;

pub(crate) use table::IdHasher;
use table::IdTable;

const CHUNK: usize = 512;
/// Documents that are fetched together, by a scan or before they are entered; with 8 a scan is as fast, with 32 slower.
pub(crate) const GROUP: usize = 16;

type Slot<T> = Option<Stored<T>>;
type Chunk<T> = Vec<Slot<T>>;
type Slots<T> = Vec<Arc<Chunk<T>>>;

/// What became of documents of the base: `None` when deleted, else the newer document in the old place.
type Over<T> = HashMap<Box<str>, Option<Stored<T>>>;

/// One change to the state: a set of a document, or the delete of one that is there.
pub(crate) enum Change<T> {
    Set {
        document: Stored<T>,
        /// Whether the id had a document before.
        update: bool,
    },
    Delete(Substr),
    /// An agent's set, or delete, to the register of an id.
    Merge {
        id: Substr,
        document: Option<Stored<T>>,
        order: Order,
    },
}

/// Where a document was found.
pub(crate) enum Lookup<'a, T> {
    Here(&'a Stored<T>),
    Absent,
    /// Nothing newer is known than what the base has.
    InBase(&'a Arc<Base>),
}

/// Where a deleted document had its place.
#[derive(Clone, Copy)]
enum Hole {
    Slot(u32),
    InBase,
}

/// An operation that `take_back` was given is not the last one that was applied.
#[derive(Debug)]
pub(crate) struct OutOfOrder;

pub(crate) struct State<T> {
    slots: Arc<Slots<T>>,
    slot_count: usize,
    table: IdTable,
    hasher: IdHasher,
    /// The places of deleted documents, in the order of deletion: what `take_back` of a delete needs.
    holes: Vec<Hole>,
    base: Option<Arc<Base>>,
    over: Arc<Over<T>>,
    /// How many documents of the base are deleted.
    base_deleted: usize,
    bytes: u64,
    /// In a store with several agents.
    registers: Option<Box<Registers>>,
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self {
            slots: Arc::clone(&self.slots),
            slot_count: self.slot_count,
            table: self.table.clone(),
            hasher: self.hasher.clone(),
            holes: self.holes.clone(),
            base: self.base.clone(),
            over: Arc::clone(&self.over),
            base_deleted: self.base_deleted,
            bytes: self.bytes,
            registers: self.registers.clone(),
        }
    }
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T> State<T> {
    pub(crate) fn with_capacity(documents: usize) -> Self {
        Self {
            slots: Arc::default(),
            slot_count: 0,
            table: IdTable::with_capacity(documents),
            hasher: IdHasher::default(),
            holes: Vec::new(),
            base: None,
            over: Arc::default(),
            base_deleted: 0,
            bytes: 0,
            registers: None,
        }
    }

    pub(crate) fn on(base: Arc<Base>) -> Self {
        Self {
            base: Some(base),
            ..Self::default()
        }
    }

    /// Number of documents.
    pub(crate) fn len(&self) -> usize {
        let below = self.base.as_ref().map_or(0, |base| base.len());
        self.table.len() + below - self.base_deleted
    }

    /// Bytes of ids and documents held in memory, those read from a base lately included.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let cached = self.base.as_ref().map_or(0, |base| base.cached_bytes());
        self.bytes + cached
    }

    /// What the documents take that do not stay on storage, tables included.
    pub(crate) fn overlay_bytes(&self) -> u64 {
        const EACH: u64 = 160;
        self.bytes + (self.slot_count + self.over.len()) as u64 * EACH
    }

    pub(crate) fn base(&self) -> Option<&Arc<Base>> {
        self.base.as_ref()
    }

    pub(crate) fn hasher(&self) -> &IdHasher {
        &self.hasher
    }

    pub(crate) fn lookup(&self, id: &str) -> Lookup<'_, T> {
        if let Some(document) = self.find(id).and_then(|slot| self.slot(slot)) {
            return Lookup::Here(document);
        }
        let Some(base) = &self.base else {
            return Lookup::Absent;
        };
        match self.over.get(id) {
            Some(Some(document)) => Lookup::Here(document),
            Some(None) => Lookup::Absent,
            None => Lookup::InBase(base),
        }
    }

    /// The document of `id`, read from the base where it is there.
    pub(crate) fn get(&self, id: &str) -> Result<Option<Stored<T>>> {
        match self.lookup(id) {
            Lookup::Here(document) => Ok(Some(document.clone())),
            Lookup::Absent => Ok(None),
            Lookup::InBase(base) => base.get(id),
        }
    }

    fn find(&self, id: &str) -> Option<u32> {
        self.find_hashed(self.hasher.hash(id), id)
    }

    fn find_hashed(&self, hash: u32, id: &str) -> Option<u32> {
        self.table.find(hash, |slot| {
            self.slot(slot).is_some_and(|document| document.id() == id)
        })
    }

    fn slot(&self, slot: u32) -> Option<&Stored<T>> {
        let slot = slot as usize;
        self.slots.get(slot / CHUNK)?.get(slot % CHUNK)?.as_ref()
    }
}

impl<T> State<T> {
    /// A frozen picture of the whole state.
    pub(crate) fn freeze(&self) -> Frozen<T> {
        Frozen {
            slots: Arc::clone(&self.slots),
            base: self.base.clone(),
            over: Arc::clone(&self.over),
            len: self.len(),
        }
    }

    pub(crate) fn apply(&mut self, change: Change<T>) {
        match change {
            Change::Set { document, update } => self.put(document, update),
            Change::Delete(id) => self.remove(&id),
            Change::Merge {
                id,
                document,
                order,
            } => self.merge(&id, document, order),
        }
    }

    /// Sets a document; `update` says whether its id has one now, which the state cannot know of a document in the base.
    pub(crate) fn put(&mut self, document: Stored<T>, update: bool) {
        // Whoever writes without stamps is alone.
        self.registers = None;
        let hash = self.hasher.hash(document.id());
        if let Some(slot) = self.find_hashed(hash, document.id()) {
            self.write_slot(slot, Some(document));
        } else if update && self.is_in_base(document.id()) {
            let id = document.id().into();
            self.put_over(id, Some(document));
        } else {
            self.push(hash, document);
        }
    }

    /// Sets a document of a state without a base; `hash` is that of its id by [`hasher`](Self::hasher).
    pub(crate) fn put_new(&mut self, hash: u32, document: Stored<T>) {
        match self.find_hashed(hash, document.id()) {
            Some(slot) => self.write_slot(slot, Some(document)),
            None => self.push(hash, document),
        }
    }

    /// Looks where [`put_new`](Self::put_new) will look for ids with these hashes, so that the processor fetches it for all of them at once: then it need not
    /// wait for each (to open 1,000,000 documents takes 0.30 s of CPU time instead of 0.34, to replay as many operations 1.06 instead of 1.17).
    pub(crate) fn fetch(&self, hashes: impl Iterator<Item = u32> + Clone) {
        for hash in hashes.clone() {
            black_box(self.table.home(hash));
        }
        for hash in hashes {
            if let Some(document) = self.table.home(hash).and_then(|slot| self.slot(slot)) {
                black_box(document.id().as_bytes().first());
            }
        }
    }

    /// Deletes `id`, which has a document.
    pub(crate) fn remove(&mut self, id: &str) {
        self.registers = None;
        let hash = self.hasher.hash(id);
        if let Some(slot) = self.find_hashed(hash, id) {
            self.vacate(hash, slot);
            self.holes.push(Hole::Slot(slot));
        } else if self.is_in_base(id) {
            self.put_over(id.into(), None);
            self.base_deleted += 1;
            self.holes.push(Hole::InBase);
        }
    }

    /// Takes the document whose id has `hash` out of its slot.
    fn vacate(&mut self, hash: u32, slot: u32) {
        self.table.remove(hash, slot);
        self.write_slot(slot, None);
    }

    /// Says what became of a document of the base.
    fn put_over(&mut self, id: Box<str>, document: Option<Stored<T>>) {
        let size = |document: &Option<Stored<T>>| document.as_ref().map_or(0, Stored::size) as u64;
        self.bytes += size(&document);
        if let Some(before) = Arc::make_mut(&mut self.over).insert(id, document) {
            self.bytes -= size(&before);
        }
    }

    /// Whether a document that is in no slot, and is known to exist, must be in the base.
    fn is_in_base(&self, id: &str) -> bool {
        self.base.is_some() && !matches!(self.over.get(id), Some(None))
    }

    /// Takes back the operation that was applied last: `id` had `previous` before it.
    ///
    /// # Errors
    ///
    /// [`OutOfOrder`] when the operation cannot have been the last one; the state must then be loaded anew.
    pub(crate) fn take_back(
        &mut self,
        kind: OpKind,
        id: &str,
        previous: Option<Stored<T>>,
    ) -> Result<(), OutOfOrder> {
        match (kind, previous) {
            (OpKind::Set, None) => self.pop(id),
            (OpKind::Set, Some(previous)) => self.put_back(id, previous),
            (OpKind::Delete, Some(previous)) => self.revive(previous),
            (OpKind::Delete, None) => Err(OutOfOrder),
        }
    }

    fn put_back(&mut self, id: &str, previous: Stored<T>) -> Result<(), OutOfOrder> {
        if let Some(slot) = self.find(id) {
            self.write_slot(slot, Some(previous));
            return Ok(());
        }
        if !matches!(self.over.get(id), Some(Some(_))) {
            return Err(OutOfOrder);
        }
        self.put_over(id.into(), Some(previous));
        Ok(())
    }

    /// Takes back a create: its slot must be the last one.
    fn pop(&mut self, id: &str) -> Result<(), OutOfOrder> {
        let last = self.slot_count.checked_sub(1).ok_or(OutOfOrder)?;
        let slot = u32::try_from(last).map_err(|_| OutOfOrder)?;
        let hash = self.hasher.hash(id);
        if self.find_hashed(hash, id) != Some(slot) {
            return Err(OutOfOrder);
        }
        self.vacate(hash, slot);
        let slots = Arc::make_mut(&mut self.slots);
        if let Some(chunk) = slots.last_mut() {
            Arc::make_mut(chunk).pop();
            if chunk.is_empty() {
                slots.pop();
            }
        }
        self.slot_count -= 1;
        Ok(())
    }

    /// Takes back a delete: the document returns to the place it had.
    fn revive(&mut self, previous: Stored<T>) -> Result<(), OutOfOrder> {
        match self.holes.last().copied().ok_or(OutOfOrder)? {
            Hole::Slot(slot) => {
                let hash = self.hasher.hash(previous.id());
                if self.slot(slot).is_some() || self.find_hashed(hash, previous.id()).is_some() {
                    return Err(OutOfOrder);
                }
                self.table.insert(hash, slot);
                self.write_slot(slot, Some(previous));
            }
            Hole::InBase => {
                if !matches!(self.over.get(previous.id()), Some(None)) {
                    return Err(OutOfOrder);
                }
                self.put_over(previous.id().into(), Some(previous));
                self.base_deleted -= 1;
            }
        }
        self.holes.pop();
        Ok(())
    }

    /// How many deletes can be taken back.
    pub(crate) fn hole_count(&self) -> usize {
        self.holes.len()
    }

    /// The `oldest` deletes will not be taken back any more: a checkpoint sealed them. Rewrites the slots where most of them are holes.
    pub(crate) fn forget_holes(&mut self, oldest: usize) {
        self.holes.drain(..oldest.min(self.holes.len()));
        if self.holes.is_empty() && self.slot_count > 1024 && self.slot_count / 2 > self.table.len()
        {
            self.rewrite_slots();
        }
    }

    fn rewrite_slots(&mut self) {
        let old = std::mem::take(&mut self.slots);
        let bytes = self.bytes;
        self.slot_count = 0;
        self.table.clear();
        for document in old.iter().flat_map(|chunk| chunk.iter().flatten()) {
            self.push(self.hasher.hash(document.id()), document.clone());
        }
        self.bytes = bytes;
    }

    /// Puts a new document, of the id with `hash`, behind all others.
    fn push(&mut self, hash: u32, document: Stored<T>) {
        let slot = u32::try_from(self.slot_count).ok();
        let slot = slot.filter(|slot| *slot <= IdTable::SLOT_MAX);
        let slot = slot.expect("fewer than 2^32 documents fit in memory");
        self.bytes += document.size() as u64;
        self.table.insert(hash, slot);
        let slots = Arc::make_mut(&mut self.slots);
        match slots.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => Arc::make_mut(chunk).push(Some(document)),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Some(document));
                slots.push(Arc::new(chunk));
            }
        }
        self.slot_count += 1;
    }

    fn write_slot(&mut self, slot: u32, document: Slot<T>) {
        let slot = slot as usize;
        let place = Arc::make_mut(&mut self.slots)
            .get_mut(slot / CHUNK)
            .and_then(|chunk| Arc::make_mut(chunk).get_mut(slot % CHUNK))
            .expect("the table holds only slots that exist");
        let added = document.as_ref().map_or(0, Stored::size) as u64;
        let removed = place.as_ref().map_or(0, Stored::size) as u64;
        *place = document;
        self.bytes = self.bytes + added - removed;
    }
}

/// The state as it was at one moment.
pub(crate) struct Frozen<T> {
    slots: Arc<Slots<T>>,
    base: Option<Arc<Base>>,
    over: Arc<Over<T>>,
    len: usize,
}

impl<T> Clone for Frozen<T> {
    fn clone(&self) -> Self {
        Self {
            slots: Arc::clone(&self.slots),
            base: self.base.clone(),
            over: Arc::clone(&self.over),
            len: self.len,
        }
    }
}

impl<T> Frozen<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The documents in insertion order; only those of a base can fail to be read.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<Stored<T>>> + use<'_, T> {
        let below = self.base.iter().flat_map(|base| {
            base.documents().filter_map(|document| match document {
                Err(error) => Some(Err(error)),
                Ok(document) => match self.over.get(document.id()) {
                    None => Some(Ok(document)),
                    Some(None) => None,
                    Some(Some(newer)) => Some(Ok(newer.clone())),
                },
            })
        });
        below.chain(self.resident().cloned().map(Ok))
    }

    /// The documents held in slots, in insertion order: all of them, unless there is a base.
    pub(crate) fn resident(&self) -> impl Iterator<Item = &Stored<T>> + use<'_, T> {
        self.slots.iter().flat_map(|chunk| chunk.iter().flatten())
    }

    /// The slots, in groups of a few neighbours.
    pub(crate) fn resident_groups(
        &self,
    ) -> impl Iterator<Item = &[Option<Stored<T>>]> + use<'_, T> {
        self.slots.iter().flat_map(|chunk| chunk.chunks(GROUP))
    }

    /// Whether all documents are in memory.
    pub(crate) fn is_resident(&self) -> bool {
        self.base.is_none()
    }
}

#[cfg(test)]
mod tests;
