//! Documents that stay on storage and are read when asked for: the snapshot under a state with `Residency::OnDemand`.
//!
//! An index, id hash -> place in the snapshot, says where each document is; documents read are kept within a budget.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::Object;
use crate::document::Stored;
use crate::format::snapshot;
use crate::oplog::Lines;
use crate::{Error, Result};

/// Where a snapshot line is.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

pub(crate) struct Base {
    object: Box<dyn Object>,
    name: String,
    /// Offset of the first document's line.
    first: u64,
    index: HashMap<Box<str>, Place>,
    cache: Mutex<Cache>,
}

/// Lines read lately, in two generations: when the younger is full it becomes the older, and what nobody asked for since is dropped.
struct Cache {
    budget: usize,
    bytes: usize,
    young: HashMap<u64, Arc<String>>,
    old: HashMap<u64, Arc<String>>,
}

impl Base {
    pub(crate) fn new(
        object: Box<dyn Object>,
        name: String,
        first: u64,
        index: HashMap<Box<str>, Place>,
        cache_bytes: usize,
    ) -> Self {
        Self {
            object,
            name,
            first,
            index,
            cache: Mutex::new(Cache {
                budget: cache_bytes,
                bytes: 0,
                young: HashMap::new(),
                old: HashMap::new(),
            }),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.index.contains_key(id)
    }

    /// The document of `id`.
    pub(crate) fn get<T>(&self, id: &str) -> Result<Option<Stored<T>>> {
        let Some(place) = self.index.get(id) else {
            return Ok(None);
        };
        let line = self.line(*place)?;
        self.document(&line, place.offset).map(Some)
    }

    /// All documents, in the order of the snapshot, one in memory at a time.
    pub(crate) fn documents<T>(&self) -> impl Iterator<Item = Result<Stored<T>>> + use<'_, T> {
        let mut lines = Lines::new(&*self.object, self.first);
        std::iter::from_fn(move || {
            loop {
                match lines.next() {
                    Err(error) => return Some(Err(error)),
                    Ok(None) => return None,
                    Ok(Some(line)) if line.is_blank() => {}
                    Ok(Some(line)) => {
                        let offset = line.offset;
                        return Some(match std::str::from_utf8(line.bytes) {
                            Ok(text) => self.document(text, offset),
                            Err(_) => Err(self.damaged(offset, "it is not UTF-8")),
                        });
                    }
                }
            }
        })
    }

    fn document<T>(&self, line: &str, offset: u64) -> Result<Stored<T>> {
        let (id, data) =
            snapshot::decode_line(line).map_err(|reason| self.damaged(offset, &reason))?;
        Ok(Stored::new(&id, data))
    }

    fn line(&self, place: Place) -> Result<Arc<String>> {
        if let Some(line) = self.cache().get(place.offset) {
            return Ok(line);
        }
        let mut bytes = vec![0; place.length as usize];
        let read = self.object.read_at(place.offset, &mut bytes)?;
        bytes.truncate(read);
        let line =
            String::from_utf8(bytes).map_err(|_| self.damaged(place.offset, "it is not UTF-8"))?;
        let line = Arc::new(line);
        self.cache().put(place.offset, Arc::clone(&line));
        Ok(line)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self, offset: u64, reason: &str) -> Error {
        Error::corrupt(format!(
            "a document of the snapshot cannot be read: {reason}"
        ))
        .at_path(&self.name)
        .at_offset(offset)
    }
}

impl Cache {
    fn get(&mut self, offset: u64) -> Option<Arc<String>> {
        if let Some(line) = self.young.get(&offset) {
            return Some(Arc::clone(line));
        }
        let line = self.old.remove(&offset)?;
        self.put(offset, Arc::clone(&line));
        Some(line)
    }

    fn put(&mut self, offset: u64, line: Arc<String>) {
        let size = line.len() + 64;
        if self.bytes + size > self.budget / 2 {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        if size <= self.budget / 2
            && let Entry::Vacant(entry) = self.young.entry(offset)
        {
            entry.insert(line);
            self.bytes += size;
        }
    }
}
