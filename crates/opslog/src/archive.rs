//! Moving documents out of the active set, and reading them back.
//!
//! The switch of the manifest is the commit: it names the new segment file, no longer the one it was merged from, and a snapshot without the archived
//! documents. Before it they are in the active set, after it in the archive, never in both.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crate::backend::Backend;
use crate::checkpoint::{Change, discard, newest_named, next_free, write_snapshot};
use crate::document::{Document, Stored};
use crate::engine::{Engine, lock};
use crate::format::archive::{self, Segment};
use crate::format::manifest::{ArchiveFacts, Manifest};
use crate::state::{Frozen, State};
use crate::{Error, ErrorKind, Json, Result, paths, time};

impl<T: Document> Engine<T> {
    /// Moves the documents that `predicate` picks to the segment; returns how many.
    pub(crate) fn archive(
        &self,
        mut predicate: impl FnMut(&T, &str) -> bool,
        segment: Option<&str>,
    ) -> Result<usize> {
        self.ensure_not_batching()?;
        let began = Instant::now();
        let period = match segment {
            Some(name) => {
                paths::validate_period(name)?;
                name.to_owned()
            }
            None => time::quarter(time::now()),
        };
        if self.agent.is_some() {
            return self.archive_as_agent(&period, predicate);
        }
        let _turn = lock(&self.checkpointing);
        self.ensure_can_checkpoint()?;
        let mut writer = self.quiesce(self.writer()?)?;
        // Writers wait until it is done: what the predicate has seen is what is moved. It may read the store, not write it.
        let frozen = self.state().freeze();
        let picked = self.pick(&frozen, &mut predicate)?;
        if picked.is_empty() {
            return Ok(0);
        }
        let manifest = self.manifest();
        let (facts, replaced) = self.write_segment(&manifest, &period, &picked)?;
        let new_name = facts.path.clone();
        let archives = merge_list(&manifest, facts, &replaced);
        let gone: HashSet<&str> = picked.iter().map(Stored::id).collect();
        let kept = frozen.iter().filter(|document| {
            document
                .as_ref()
                .map_or(true, |document| !gone.contains(document.id()))
        });
        let cut = self.cut(&mut writer);
        let switched = write_snapshot(
            &*self.backend,
            newest_named(&manifest),
            manifest.version,
            self.options.residency,
            kept,
        )
        .and_then(|snapshot| {
            let change = Change {
                version: manifest.version,
                archives: Some(archives),
                undo_barrier: true,
                merged: None,
            };
            self.switch(writer, &cut, snapshot, change, began)
        });
        let writer = match switched {
            Ok(writer) => writer,
            Err(error) => {
                lock(&self.writer).sealing = None;
                if error.kind() != ErrorKind::Poisoned {
                    discard(&*self.backend, &new_name);
                }
                return Err(error);
            }
        };
        for name in &replaced {
            discard(&*self.backend, name);
        }
        self.forget(&gone);
        drop(writer);
        Ok(picked.len())
    }

    /// The documents that `predicate` wants; it runs as a batch does, since the writer lock is held.
    pub(crate) fn pick(
        &self,
        documents: &Frozen<T>,
        predicate: &mut dyn FnMut(&T, &str) -> bool,
    ) -> Result<Vec<Stored<T>>> {
        self.while_batching(|| {
            let mut picked = Vec::new();
            for document in documents.iter() {
                let document = document?;
                if predicate(document.decoded()?, document.id()) {
                    picked.push(document);
                }
            }
            Ok(picked)
        })
    }

    /// Takes archived documents out of the state, unless that lies on the snapshot without them already.
    fn forget(&self, gone: &HashSet<&str>) {
        if self.is_on_current_snapshot() {
            return;
        }
        let mut state = self.state_mut();
        for id in gone {
            state.remove(id);
        }
        let holes = state.hole_count();
        state.forget_holes(holes);
    }

    /// Writes the segment with `picked` added; returns it and the files that it replaces.
    pub(crate) fn write_segment(
        &self,
        manifest: &Manifest,
        period: &str,
        picked: &[Stored<T>],
    ) -> Result<(ArchiveFacts, Vec<String>)> {
        let mut documents: Vec<(String, String)> = Vec::new();
        let replaced = files_of(&*self.backend, manifest, period)?;
        for (_, segment) in &replaced {
            documents.extend(segment.documents.iter().cloned());
        }
        documents.extend(
            picked
                .iter()
                .map(|document| (document.id().to_owned(), document.data().to_owned())),
        );
        let documents = crate::format::json::last_wins(documents);
        let bytes = archive::encode(
            manifest.version,
            period,
            &time::format_timestamp(time::now()),
            documents
                .iter()
                .map(|(id, data)| (id.as_str(), data.as_str())),
        );
        let first = paths::archive(period, None);
        let path = if replaced.is_empty() && !exists(&*self.backend, &first)? {
            write_new(&*self.backend, &first, &bytes)?;
            first
        } else {
            let newest = replaced
                .iter()
                .filter_map(|(name, _)| paths::parse_archive(name)?.1);
            let newest = newest
                .max()
                .max(paths::parse_snapshot(&manifest.current_snapshot));
            next_free(newest, |milliseconds| {
                let name = paths::archive(period, Some(milliseconds));
                write_new(&*self.backend, &name, &bytes).map(|()| name)
            })?
        };
        let facts = ArchiveFacts {
            path,
            bytes: bytes.len() as u64,
            crc: crc32c::crc32c(&bytes),
            documents: documents.len() as u64,
        };
        Ok((facts, replaced.into_iter().map(|(name, _)| name).collect()))
    }

    /// The documents of a segment, in the order in which they were archived.
    pub(crate) fn load_archive(&self, period: &str) -> Result<Vec<(String, Arc<T>)>> {
        self.archived(period, |document| Ok(Arc::clone(document.decoded()?)))
    }

    /// The JSON text of a segment's documents.
    pub(crate) fn load_archive_json(&self, period: &str) -> Result<Vec<(String, Json)>> {
        self.archived(period, |document| Ok(document.json()))
    }

    fn archived<D>(
        &self,
        period: &str,
        document: impl Fn(&Stored<T>) -> Result<D>,
    ) -> Result<Vec<(String, D)>> {
        self.ensure_open()?;
        paths::validate_period(period)?;
        let mut manifest = self.current_manifest()?;
        let files = loop {
            let error = match files_of(&*self.backend, &manifest, period) {
                Ok(files) => break files,
                Err(error) => error,
            };
            // An archive beside this one may have merged its documents into the segment, which is then another file.
            let now = self.current_manifest()?;
            if now.archive_segments == manifest.archive_segments {
                return Err(error);
            }
            manifest = now;
        };
        if files.is_empty() {
            return Err(Error::not_found(format!(
                "archive segment '{period}' not found"
            )));
        }
        let mut state: State<T> = State::default();
        for (id, data) in files.into_iter().flat_map(|(_, segment)| segment.documents) {
            state.put(Stored::new(&id, &data), false);
        }
        let frozen = state.freeze();
        let documents = frozen
            .resident()
            .map(|stored| Ok((stored.id().to_owned(), document(stored)?)));
        documents.collect()
    }

    /// The files of all segments.
    pub(crate) fn archive_segments(&self) -> Result<Vec<String>> {
        self.ensure_open()?;
        Ok(self.current_manifest()?.archive_segments.clone())
    }
}

fn write_new(backend: &dyn Backend, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = backend.create(name)?;
    file.write(bytes)?;
    file.finish()
}

fn exists(backend: &dyn Backend, name: &str) -> Result<bool> {
    match backend.open(name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The list of segments with the files `replaced` taken out and `facts` in the first one's place.
pub(crate) fn merge_list(
    manifest: &Manifest,
    facts: ArchiveFacts,
    replaced: &[String],
) -> Vec<ArchiveFacts> {
    let known = manifest
        .ours
        .as_ref()
        .map_or(&[][..], |ours| &ours.archives);
    let mut list = Vec::new();
    let mut new = Some(facts);
    for archive in known {
        if !replaced.contains(&archive.path) {
            list.push(archive.clone());
        } else if let Some(facts) = new.take() {
            list.push(facts);
        }
    }
    list.extend(new);
    list
}

/// The files of one period, in the manifest's order, with their content, which must be what was written.
fn files_of(
    backend: &dyn Backend,
    manifest: &Manifest,
    period: &str,
) -> Result<Vec<(String, Segment)>> {
    let mut files = Vec::new();
    for path in &manifest.archive_segments {
        if paths::parse_archive(path).is_none_or(|(found, _)| found != period) {
            continue;
        }
        let bytes = backend.read(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::corrupt(
                "an archive segment that the manifest names is missing; restore it from a backup",
            )
            .at_path(path)
            .caused_by(error),
            _ => error,
        })?;
        let facts = manifest.ours.iter().flat_map(|ours| &ours.archives);
        let known = facts
            .into_iter()
            .find(|facts| facts.path == *path && facts.bytes > 0);
        if let Some(facts) = known
            && (facts.bytes != bytes.len() as u64 || facts.crc != crc32c::crc32c(&bytes))
        {
            return Err(Error::corrupt(
                "the archive segment's size or checksum does not match its content; restore it from a backup",
            )
            .at_path(path));
        }
        let segment =
            archive::decode(&bytes).map_err(|reason| Error::corrupt(reason).at_path(path))?;
        files.push((path.clone(), segment));
    }
    Ok(files)
}
