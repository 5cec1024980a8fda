//! All documents on their way to the event loop: their ids in pieces, and their text when it is asked for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use opslog::{Json, Result, Store};

use crate::store::Opaque;

/// Ids that the event loop takes at a time: well below a millisecond.
const PIECE: usize = 4096;

/// What JavaScript has not asked for yet. It names a document's text by its place in `texts`.
#[derive(Default)]
pub(crate) struct Documents {
    current: Mutex<Texts>,
    loading: Mutex<Loading>,
}

/// Text is let go of when it is taken: JavaScript then has the decoded document.
#[derive(Default)]
struct Texts(Vec<Option<Json>>);

#[derive(Default)]
struct Loading {
    ids: VecDeque<String>,
    texts: Vec<Option<Json>>,
}

impl Documents {
    /// Collects the documents of `store` as they are now.
    pub(crate) fn load(&self, store: &Store<Opaque>) -> Result<()> {
        let view = store.view()?;
        let mut loading = Loading::default();
        loading.texts.reserve_exact(view.len());
        let mut piece = String::from("[");
        let mut count = 0;
        for entry in view.iter() {
            let entry = entry?;
            if count == PIECE {
                piece.push(']');
                loading
                    .ids
                    .push_back(std::mem::replace(&mut piece, String::from("[")));
                count = 0;
            }
            if count > 0 {
                piece.push(',');
            }
            quote(entry.id(), &mut piece);
            count += 1;
            loading.texts.push(Some(entry.json()));
        }
        if count > 0 {
            piece.push(']');
            loading.ids.push_back(piece);
        }
        *lock(&self.loading) = loading;
        Ok(())
    }

    /// The next ids, a JSON array, in insertion order; the n-th id of all has text n once the load is adopted.
    pub(crate) fn next_ids(&self) -> Option<String> {
        lock(&self.loading).ids.pop_front()
    }

    /// From now on the texts are those of the last load.
    pub(crate) fn adopt(&self) {
        let texts = std::mem::take(&mut lock(&self.loading).texts);
        lock(&self.current).0 = texts;
    }

    /// Adds a text and says its place.
    pub(crate) fn add(&self, text: Json) -> usize {
        let mut texts = lock(&self.current);
        texts.0.push(Some(text));
        texts.0.len() - 1
    }

    /// Takes the text at `place`.
    pub(crate) fn take_one(&self, place: u32) -> Option<Json> {
        lock(&self.current)
            .0
            .get_mut(place as usize)
            .and_then(Option::take)
    }

    /// Takes the texts at `places`, as a JSON array.
    pub(crate) fn take(&self, places: &[u32]) -> String {
        let mut texts = lock(&self.current);
        let mut taken: Vec<Option<Json>> = Vec::with_capacity(places.len());
        for &place in places {
            taken.push(texts.0.get_mut(place as usize).and_then(Option::take));
        }
        drop(texts);

        let length: usize = taken
            .iter()
            .map(|taken| text(taken.as_ref()).len() + 1)
            .sum();
        let mut array = String::with_capacity(length + 2);
        array.push('[');
        for taken in &taken {
            if array.len() > 1 {
                array.push(',');
            }
            array.push_str(text(taken.as_ref()));
        }
        array.push(']');
        array
    }
}

fn text(taken: Option<&Json>) -> &str {
    taken.map_or("null", Json::as_str)
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
