//! Replacing the manifest, if it is still the one that was read: the only thing that several agents change.

use crate::backend::{Backend, Expected, Version};
use crate::checkpoint::{discard_all, nonce};
use crate::format::manifest::{self, Manifest};
use crate::open::named_paths;
use crate::{Error, ErrorKind, Result, paths};

/// How often a swap is tried that others' swaps come in the way of.
pub(super) const SWAPS: usize = 200;

pub(super) fn busy() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "other agents change the store again and again; try later",
    )
}

/// The manifest, and what it is known by in a swap; `None` where there is none.
pub(super) fn read_version(backend: &dyn Backend) -> Result<Option<(Manifest, Version)>> {
    let (bytes, version) = match backend.read_version(paths::MANIFEST) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let manifest = manifest::decode(&bytes)
        .map_err(|error| error.at_path(format!("{}/{}", backend.location(), paths::MANIFEST)))?;
    named_paths(&manifest).try_for_each(paths::validate_store_path)?;
    Ok(Some((manifest, version)))
}

/// Replaces the manifest, if it is still the one that was `expected`; otherwise removes `new_files`, which nothing names then.
///
/// # Errors
///
/// When it is not known whether it was replaced, or nothing can be: then nothing is removed, since a manifest may name it.
pub(super) fn swap(
    backend: &dyn Backend,
    expected: &Expected,
    next: &Manifest,
    new_files: &[String],
) -> Result<bool> {
    match backend.put_if(paths::MANIFEST, &manifest::encode(next), expected) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Conflict => {
            discard_all(backend, new_files);
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Makes a manifest that has been changed a new one.
pub(super) fn finish(manifest: &mut Manifest) {
    let Some(ours) = manifest.ours.as_mut() else {
        return;
    };
    ours.generation += 1;
    ours.nonce = nonce();
    let logs: Vec<(String, String)> = ours
        .agents
        .iter()
        .filter_map(|facts| Some((facts.id.clone(), facts.log.clone()?)))
        .collect();
    manifest.active_agent_ops = (!logs.is_empty()).then_some(logs);
}
