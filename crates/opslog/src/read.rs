//! Reading one document, and ending a store.

use std::sync::Arc;

use crate::Result;
use crate::document::{Document, Json};
use crate::engine::Engine;
use crate::state::Lookup;

impl<T: Document> Engine<T> {
    pub(crate) fn get(&self, id: &str) -> Result<Option<Arc<T>>> {
        self.ensure_open()?;
        let base = {
            let state = self.state();
            match state.lookup(id) {
                Lookup::Here(document) => {
                    return document.decoded().map(|found| Some(Arc::clone(found)));
                }
                Lookup::Absent => return Ok(None),
                Lookup::InBase(base) => Arc::clone(base),
            }
        };
        match base.get::<T>(id)? {
            Some(document) => Ok(Some(Arc::clone(document.decoded()?))),
            None => Ok(None),
        }
    }

    pub(crate) fn get_json(&self, id: &str) -> Result<Option<Json>> {
        self.ensure_open()?;
        let base = {
            let state = self.state();
            match state.lookup(id) {
                Lookup::Here(document) => return Ok(Some(document.json())),
                Lookup::Absent => return Ok(None),
                Lookup::InBase(base) => Arc::clone(base),
            }
        };
        Ok(base.get::<T>(id)?.map(|document| document.json()))
    }

    pub(crate) fn has(&self, id: &str) -> Result<bool> {
        self.ensure_open()?;
        let state = self.state();
        Ok(match state.lookup(id) {
            Lookup::Here(_) => true,
            Lookup::Absent => false,
            Lookup::InBase(base) => base.contains(id),
        })
    }
}
