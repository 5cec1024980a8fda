//! All documents on their way to the event loop: which id has which place, and their text until it is asked for.
//!
//! Both are as they were when they were collected, whatever the store's thread does since: the event loop notes what has changed. Either is let go of
//! once the event loop has it; of the ids their hashes stay.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use hashbrown::{DefaultHashBuilder, HashTable};
use opslog::{Error, Json, Result, Store};

use crate::memory;
use crate::store::Opaque;

/// A piece that is taken ends with the document that makes it this long.
const PIECE_BYTES: usize = 1 << 20;
/// Documents that are handed from the thread that reads to the one that enters at a time.
const BATCH: usize = 1024;

/// The documents of the last load, and those of the next one until it is adopted.
#[derive(Default)]
pub(crate) struct Documents {
    current: Mutex<Loaded>,
    next: Mutex<Loaded>,
}

/// Documents by place. Text is let go of when it is taken: JavaScript then has the decoded document.
#[derive(Default)]
struct Loaded {
    ids: Ids,
    texts: Vec<Option<Json>>,
    /// Texts that came since, at places behind.
    added: HashMap<u32, Json>,
    added_count: u32,
}

/// Ids by place, in insertion order, and places by id. A million ids in JavaScript would take twice the memory, and the event loop to make them.
#[derive(Default)]
struct Ids {
    /// One behind the other.
    text: String,
    ends: Vec<usize>,
    are_here: bool,
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Documents {
    /// Collects the documents of `store` as they are now.
    pub(crate) fn load(&self, store: &Store<Opaque>) -> Result<()> {
        let view = store.view()?;
        let mut loaded = Loaded {
            ids: Ids::with_capacity(view.len()),
            texts: Vec::with_capacity(view.len()),
            ..Loaded::default()
        };
        // Reading and entering take as long (1,000,000 documents: 0.6 s one after the other, 0.4 at once).
        thread::scope(|scope| {
            let (sender, batches) = mpsc::sync_channel(8);
            let view = &view;
            scope.spawn(move || {
                let mut entries = view.iter();
                while let batch = entries.by_ref().take(BATCH).collect::<Vec<_>>()
                    && !batch.is_empty()
                    && sender.send(batch).is_ok()
                {}
            });
            for entry in batches.into_iter().flatten() {
                let entry = entry?;
                loaded.ids.push(entry.id());
                loaded.texts.push(Some(entry.shared_json()));
            }
            Ok::<_, Error>(())
        })?;
        *lock(&self.next) = loaded;
        Ok(())
    }

    /// How many documents the next load has; their places are the numbers below.
    pub(crate) fn count_next(&self) -> usize {
        lock(&self.next).texts.len()
    }

    /// From now on places are those of the next load.
    pub(crate) fn adopt(&self) {
        let next = std::mem::take(&mut *lock(&self.next));
        *lock(&self.current) = next;
    }

    /// The place of `id`, if it was loaded. Once ids are forgotten, the place of one that may be it, `nth` of several.
    pub(crate) fn find(&self, id: &str, nth: usize) -> Option<u32> {
        lock(&self.current).ids.find(id, nth)
    }

    /// The ids that were loaded, a JSON array of at most `count`, beginning with that at `place`.
    pub(crate) fn ids(&self, place: usize, count: usize) -> String {
        let loaded = lock(&self.current);
        let end = loaded.ids.ends.len().min(place.saturating_add(count));
        let mut array = String::from("[");
        for place in place..end {
            if array.len() > 1 {
                array.push(',');
            }
            quote(loaded.ids.at(place), &mut array);
        }
        array.push(']');
        array
    }

    /// Adds a text and says its place.
    pub(crate) fn add(&self, text: Json) -> u32 {
        let mut loaded = lock(&self.current);
        let place = place_of(loaded.ids.places.len()) + loaded.added_count;
        loaded.added_count += 1;
        loaded.added.insert(place, text);
        place
    }

    /// Takes the text at `place`.
    pub(crate) fn take_one(&self, place: u32) -> Option<Json> {
        lock(&self.current).take(place)
    }

    /// The document of `id` as it was loaded, as `[place, document]`; nothing when it was not loaded, or is let go of.
    pub(crate) fn loaded(&self, id: &str) -> Option<String> {
        let loaded = lock(&self.current);
        if !loaded.ids.are_here {
            return None;
        }
        let place = loaded.ids.find(id, 0)?;
        let text = loaded.texts.get(place as usize)?.as_ref()?.as_str();
        let mut pair = String::with_capacity(text.len() + 16);
        let _ = write!(pair, "[{place},{text}]");
        Some(pair)
    }

    /// The texts at `places`, as a JSON array; of long ones only the first.
    pub(crate) fn texts(&self, places: &[u32]) -> String {
        let loaded = lock(&self.current);
        let mut texts = Vec::with_capacity(places.len());
        let mut bytes = 0;
        for place in places {
            if bytes >= PIECE_BYTES {
                break;
            }
            let text = loaded.get(*place).map_or("null", Json::as_str);
            bytes += text.len() + 1;
            texts.push(text);
        }
        let mut array = String::with_capacity(bytes + 2);
        array.push('[');
        for text in texts {
            if array.len() > 1 {
                array.push(',');
            }
            array.push_str(text);
        }
        array.push(']');
        array
    }

    /// Lets go of the texts at `places`: the event loop has the documents.
    pub(crate) fn let_go(&self, places: &[u32]) {
        let mut loaded = lock(&self.current);
        for place in places {
            drop(loaded.take(*place));
        }
    }

    /// Takes everything: nobody reads any more.
    pub(crate) fn take_all(&self) -> Self {
        Self {
            current: Mutex::new(std::mem::take(&mut *lock(&self.current))),
            next: Mutex::new(std::mem::take(&mut *lock(&self.next))),
        }
    }

    /// Lets go of all texts that were loaded.
    pub(crate) fn forget_loaded(&self) {
        let texts = std::mem::take(&mut lock(&self.current).texts);
        if !texts.is_empty() {
            drop(texts);
            memory::give_back();
        }
    }

    /// Lets go of the ids, which the event loop has: from now on they are found by their hash alone.
    pub(crate) fn forget_ids(&self) {
        lock(&self.current).ids.forget();
    }
}

impl Loaded {
    fn get(&self, place: u32) -> Option<&Json> {
        match self.texts.get(place as usize) {
            Some(text) => text.as_ref(),
            None => self.added.get(&place),
        }
    }

    fn take(&mut self, place: u32) -> Option<Json> {
        match self.texts.get_mut(place as usize) {
            Some(text) => text.take(),
            None => self.added.remove(&place),
        }
    }
}

impl Ids {
    fn with_capacity(count: usize) -> Self {
        Self {
            ends: Vec::with_capacity(count),
            places: HashTable::with_capacity(count),
            are_here: true,
            ..Self::default()
        }
    }

    /// Adds an id that is not there yet.
    fn push(&mut self, id: &str) {
        let place = place_of(self.ends.len());
        self.text.push_str(id);
        self.ends.push(self.text.len());
        let hash = self.hasher.hash_one(id);
        let Self {
            text,
            ends,
            places,
            hasher,
            ..
        } = self;
        places.insert_unique(hash, place, |place| {
            hasher.hash_one(part(text, ends, *place as usize))
        });
    }

    fn at(&self, place: usize) -> &str {
        part(&self.text, &self.ends, place)
    }

    fn find(&self, id: &str, nth: usize) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        if !self.are_here {
            return self.places.iter_hash(hash).nth(nth).copied();
        }
        let is_it = |place: &u32| self.at(*place as usize) == id;
        self.places.find(hash, is_it).copied()
    }

    fn forget(&mut self) {
        (self.text, self.ends, self.are_here) = (String::new(), Vec::new(), false);
    }
}

fn place_of(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 documents fit in memory")
}

/// The part of `text` that ends at `ends[place]`.
fn part<'a>(text: &'a str, ends: &[usize], place: usize) -> &'a str {
    let start = place.checked_sub(1).and_then(|before| ends.get(before));
    let end = ends.get(place).copied().unwrap_or_default();
    text.get(start.copied().unwrap_or_default()..end)
        .unwrap_or_default()
}

/// A string as JSON text.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string has a JSON form")
}

/// Appends a string as JSON text.
fn quote(text: &str, out: &mut String) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&quoted(text));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
