//! Bringing documents to the version asked for, and putting the state on a new snapshot.

use std::time::Instant;

use crate::checkpoint::{Change, newest_named, write_snapshot};
use crate::commit::Guard;
use crate::document::{self, Document, Stored};
use crate::engine::{Engine, lock};
use crate::format::manifest::Manifest;
use crate::open::load_all;
use crate::options::{Migration, Options};
use crate::state::State;
use crate::{Error, Result};

/// Brings the documents to the version asked for: all of them, or, when one fails, none.
pub(crate) fn migrate<T: Document>(engine: &Engine<T>) -> Result<()> {
    let from = engine.manifest().version;
    let Some(to) = engine.options.version.filter(|to| *to > from) else {
        return Ok(());
    };
    if engine.options.read_only {
        // A reader migrated what it loaded.
        return Ok(());
    }
    let frozen = engine.state().freeze();
    if engine.options.residency.is_on_storage() {
        return engine.replace_documents(migrated(&engine.options, from, frozen.iter()), to);
    }
    let mut state = State::with_capacity(0);
    for document in migrated(&engine.options, from, frozen.iter()) {
        state.put(document?, false);
    }
    drop(frozen);
    engine.replace_documents(state.freeze().iter(), to)?;
    *engine.state_mut() = state;
    Ok(())
}

/// The documents, brought from version `from` to the one asked for.
pub(crate) fn migrated<T>(
    options: &Options,
    from: u32,
    documents: impl Iterator<Item = Result<Stored<T>>>,
) -> impl Iterator<Item = Result<Stored<T>>> {
    documents.map(move |document| match &options.migrate {
        None => document,
        Some(migrate) => migrate_one(&document?, from, &**migrate),
    })
}

impl Options {
    /// The version of the documents in the store of `manifest`, where they are older than what was asked for.
    pub(crate) fn older_version(&self, manifest: &Manifest) -> Option<u32> {
        let newer = self
            .version
            .is_some_and(|version| version > manifest.version);
        newer.then_some(manifest.version)
    }

    /// One document of a store whose version is `from`, as a reader shows it.
    pub(crate) fn migrate_for_reading<T>(
        &self,
        document: Stored<T>,
        from: u32,
    ) -> Result<Stored<T>> {
        match &self.migrate {
            None => Ok(document),
            Some(migrate) => migrate_one(&document, from, &**migrate),
        }
    }
}

impl<T: Document> Engine<T> {
    /// Makes a checkpoint of `documents`, at version `version`, and goes on with it where documents stay on storage.
    fn replace_documents(
        &self,
        documents: impl Iterator<Item = Result<Stored<T>>>,
        version: u32,
    ) -> Result<()> {
        let began = Instant::now();
        let _turn = lock(&self.checkpointing);
        let mut writer = self.quiesce(self.writer()?)?;
        let cut = self.cut(&mut writer);
        let residency = self.options.residency;
        let before = newest_named(&self.manifest());
        let snapshot = write_snapshot(&*self.backend, before, version, residency, documents)?;
        let change = Change {
            version,
            archives: None,
            undo_barrier: true,
            merged: None,
        };
        let mut writer = self.switch(writer, &cut, snapshot, change, began)?;
        if !residency.is_on_storage() || self.is_on_current_snapshot() {
            return Ok(());
        }
        self.reload_state(&mut writer)
    }

    /// Puts the state on the snapshot that a checkpoint has just made, where documents stay on storage. If that fails it stays on the one
    /// before, which is open and, with what came since, says the same.
    pub(crate) fn rebase(&self, writer: &mut Guard<'_, T>) {
        if !self.options.residency.is_on_storage() {
            return;
        }
        if let Err(error) = self.reload_state(writer) {
            tracing::warn!(%error, "the new snapshot could not be read; documents are read from the one before");
        }
    }

    /// Whether the state lies on the snapshot that the manifest names.
    pub(crate) fn is_on_current_snapshot(&self) -> bool {
        let manifest = self.manifest();
        let state = self.state();
        state
            .base()
            .is_some_and(|base| base.name() == manifest.current_snapshot)
    }

    /// Reads the documents anew from the storage. The writer must be quiet.
    pub(crate) fn reload_state(&self, _writer: &mut Guard<'_, T>) -> Result<()> {
        let state = self.load_state()?;
        *self.state_mut() = state;
        Ok(())
    }

    /// The documents as the storage has them.
    pub(crate) fn load_state(&self) -> Result<State<T>> {
        load_all(&self.options, &*self.backend, (*self.manifest()).clone())
            .map(|loaded| loaded.state)
    }
}

fn migrate_one<T>(document: &Stored<T>, from: u32, migrate: &Migration) -> Result<Stored<T>> {
    let id = document.id();
    let value = document.json().decode().map_err(|error| {
        Error::invalid(format!(
            "document '{id}' cannot be migrated, nothing was changed: {}",
            error.message()
        ))
        .caused_by(error)
    })?;
    let value = migrate(value, from).map_err(|error| {
        Error::invalid(format!(
            "the migration of document '{id}' failed, nothing was changed: {error}"
        ))
        .caused_by(error)
    })?;
    document::encode(id, &value)
}
