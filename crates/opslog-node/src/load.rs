//! All documents on their way to the event loop: which id has which place, and their text until it is asked for.
//!
//! Both are as they were when they were collected, whatever the store's thread does since: the event loop notes what has changed. Either is let go of
//! once the event loop has it.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use opslog::{Error, Json, Result, Store};

use crate::memory;
use crate::places::Places;
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
    next_place: u32,
}

/// Ids by place, in insertion order, and places by id. A million ids in JavaScript would take twice the memory, and the event loop to make them.
#[derive(Default)]
struct Ids {
    /// One behind the other.
    text: String,
    ends: Vec<usize>,
    places: Places,
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
        loaded.next_place = place_of(loaded.texts.len());
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

    /// The place of `id`, if it was loaded.
    pub(crate) fn find(&self, id: &str) -> Option<u32> {
        lock(&self.current).ids.find(id)
    }

    /// The ids that were loaded, a JSON array of at most `count`, beginning with that at `place`.
    pub(crate) fn ids(&self, place: usize, count: usize) -> String {
        let loaded = lock(&self.current);
        let mut array = String::new();
        push_array(&mut array, loaded.ids.range(place, count), quote);
        array
    }

    /// The documents from `place` on as they were loaded, at most `count`, of long ones fewer, as `[[id…],[document…]]`. The `count` before are let go
    /// of: the event loop has them, since it asks for the next ones.
    pub(crate) fn piece(&self, place: usize, count: usize) -> String {
        let mut loaded = lock(&self.current);
        let before = place.saturating_sub(count)..place;
        for text in loaded.texts.get_mut(before).unwrap_or_default() {
            *text = None;
        }
        let texts = loaded.texts.iter().skip(place).take(count);
        let texts = up_to_a_piece(texts.map(Option::as_ref));
        let mut pair = String::from("[");
        push_array(&mut pair, loaded.ids.range(place, texts.len()), quote);
        pair.push(',');
        push_array(&mut pair, texts, push_str);
        pair.push(']');
        pair
    }

    /// Adds a text and says its place.
    pub(crate) fn add(&self, text: Json) -> u32 {
        let mut loaded = lock(&self.current);
        let place = loaded.next_place;
        loaded.next_place += 1;
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
        let place = loaded.ids.find(id)?;
        let text = loaded.texts.get(place as usize)?.as_ref()?.as_str();
        let mut pair = String::with_capacity(text.len() + 16);
        let _ = write!(pair, "[{place},{text}]");
        Some(pair)
    }

    /// The texts at `places`, as a JSON array; of long ones only the first.
    pub(crate) fn texts(&self, places: &[u32]) -> String {
        let loaded = lock(&self.current);
        let texts = up_to_a_piece(places.iter().map(|place| loaded.get(*place)));
        let mut array = String::new();
        push_array(&mut array, texts, push_str);
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

    /// The places of the ids.
    pub(crate) fn places(&self) -> Places {
        lock(&self.current).ids.places.clone()
    }

    /// Lets go of the ids and their places, which the event loop has.
    pub(crate) fn forget_ids(&self) {
        lock(&self.current).ids = Ids::default();
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
            places: Places::with_capacity(count),
            ..Self::default()
        }
    }

    /// Adds an id that is not there yet.
    fn push(&mut self, id: &str) {
        let place = place_of(self.ends.len());
        self.text.push_str(id);
        self.ends.push(self.text.len());
        if !self.places.has_room(self.ends.len()) {
            self.places = Places::with_capacity(self.ends.len() * 2);
            for place in 0..self.ends.len() {
                self.places
                    .add(part(&self.text, &self.ends, place), place_of(place));
            }
            return;
        }
        self.places.add(id, place);
    }

    fn at(&self, place: usize) -> &str {
        part(&self.text, &self.ends, place)
    }

    fn range(&self, first: usize, count: usize) -> impl Iterator<Item = &str> {
        let end = self.ends.len().min(first.saturating_add(count));
        (first..end).map(|place| self.at(place))
    }

    fn find(&self, id: &str) -> Option<u32> {
        self.places.find(id, |place| self.at(place as usize) == id)
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

/// The texts up to the one that makes a piece.
fn up_to_a_piece<'a>(texts: impl Iterator<Item = Option<&'a Json>>) -> Vec<&'a str> {
    let mut bytes = 0;
    let texts = texts.map(|text| text.map_or("null", Json::as_str));
    texts
        .take_while(|text| {
            let is_within = bytes < PIECE_BYTES;
            bytes += text.len() + 1;
            is_within
        })
        .collect()
}

/// Appends a JSON array.
fn push_array<'a>(
    out: &mut String,
    items: impl IntoIterator<Item = &'a str>,
    push: impl Fn(&str, &mut String),
) {
    out.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(item, out);
    }
    out.push(']');
}

fn push_str(text: &str, out: &mut String) {
    out.push_str(text);
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
