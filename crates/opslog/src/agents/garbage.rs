//! Files that no manifest names, and which of them may go.

use std::collections::BTreeSet;

use crate::backend::Backend;
use crate::checkpoint::discard_all;
use crate::format::manifest::Manifest;
use crate::open::named_paths;
use crate::oplog::Lines;
use crate::{Result, paths};

/// Whether a file that no manifest names may be removed: an agent's log that holds something is kept, whoever's it is.
pub(crate) fn may_go(backend: &dyn Backend, name: &str) -> bool {
    if paths::parse_agent_ops(name).is_none() {
        return true;
    }
    let is_blank = || -> Result<bool> {
        let log = backend.open(name)?;
        Ok(Lines::new(&*log, 0).next()?.is_none())
    };
    match is_blank() {
        Ok(true) => true,
        Ok(false) => {
            tracing::warn!(
                name,
                "an agent's log that the manifest does not name holds operations; it is kept, and not read"
            );
            false
        }
        Err(_) => false,
    }
}

/// What the manifest `before` names and the one `after` it does not.
pub(crate) fn no_longer_named(before: &Manifest, after: &Manifest) -> Vec<String> {
    let after: BTreeSet<&str> = named_paths(after).collect();
    let gone = named_paths(before).filter(|name| !after.contains(name));
    let stamps = paths::stamps_of(&before.current_snapshot);
    gone.map(str::to_owned).chain(stamps).collect()
}

/// The store's own files before a swap of the snapshot: what of them the new manifest does not name was made for a manifest that can no longer come.
pub(super) struct Garbage(Vec<String>);

impl Garbage {
    pub(super) fn list(backend: &dyn Backend) -> Result<Self> {
        let mut names = Vec::new();
        for prefix in [paths::SNAPSHOTS, paths::OPS, paths::ARCHIVE] {
            names.extend(backend.list(prefix)?.into_iter().map(|object| object.name));
        }
        names.retain(|name| {
            paths::parse_snapshot(name).is_some()
                || paths::parse_stamps(name).is_some()
                || paths::parse_index(name).is_some()
                || paths::parse_ops(name).is_some()
                || paths::parse_agent_ops(name).is_some()
                || paths::parse_archive(name).is_some_and(|(_, merged)| merged.is_some())
                || paths::is_temporary(name)
        });
        Ok(Self(names))
    }

    /// The greatest number in a name.
    pub(super) fn newest(&self) -> Option<u64> {
        let numbers = self.0.iter().filter_map(|name| {
            let log = || paths::parse_ops(name).or_else(|| Some(paths::parse_agent_ops(name)?.1));
            let archive = || paths::parse_archive(name)?.1;
            paths::parse_snapshot(name).or_else(log).or_else(archive)
        });
        numbers.max()
    }

    /// Removes what `manifest`, which is in place with a snapshot of its own, does not name: whoever made those files did so for another snapshot, and finds its swap lost.
    pub(super) fn remove(self, backend: &dyn Backend, manifest: &Manifest) {
        let stamps = paths::stamps_of(&manifest.current_snapshot);
        let named: BTreeSet<&str> = named_paths(manifest).chain(stamps.as_deref()).collect();
        let unnamed: Vec<String> = self
            .0
            .into_iter()
            .filter(|name| !named.contains(&**name) && may_go(backend, name))
            .collect();
        discard_all(backend, &unnamed);
    }
}
