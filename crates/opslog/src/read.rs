//! Reading one document, and ending a store.

use std::sync::Arc;

use crate::Result;
use crate::document::{Document, Json, Stored};
use crate::engine::Engine;
use crate::state::Lookup;

impl<T: Document> Engine<T> {
    pub(crate) fn get(&self, id: &str) -> Result<Option<Arc<T>>> {
        self.ensure_open()?;
        {
            let state = self.state();
            if let Lookup::Here(document) = state.lookup(id) {
                // Decoded in its place, so that it stays decoded.
                return document.decoded().map(|found| Some(Arc::clone(found)));
            }
        }
        match self.stored(id)? {
            Some(document) => Ok(Some(Arc::clone(document.decoded()?))),
            None => Ok(None),
        }
    }

    pub(crate) fn get_json(&self, id: &str) -> Result<Option<Json>> {
        self.ensure_open()?;
        {
            // A clone of the document would cost another look into memory.
            let state = self.state();
            if let Lookup::Here(document) = state.lookup(id) {
                return Ok(Some(document.json()));
            }
        }
        Ok(self.stored(id)?.map(|document| document.json()))
    }

    pub(crate) fn has(&self, id: &str) -> Result<bool> {
        self.ensure_open()?;
        let base = {
            let state = self.state();
            match state.lookup(id) {
                Lookup::Here(_) => return Ok(true),
                Lookup::Absent => return Ok(false),
                Lookup::InBase(base) => Arc::clone(base),
            }
        };
        base.contains(id)
    }

    /// The visible document of `id`. Where it is on storage it is read without the state's lock.
    pub(crate) fn stored(&self, id: &str) -> Result<Option<Stored<T>>> {
        let base = {
            let state = self.state();
            match state.lookup(id) {
                Lookup::Here(document) => return Ok(Some(document.clone())),
                Lookup::Absent => return Ok(None),
                Lookup::InBase(base) => Arc::clone(base),
            }
        };
        base.get(id)
    }
}
