//! Where the parts of a store are, with a manifest or without.

use crate::backend::Backend;
use crate::format::manifest::{self, ArchiveFacts, Manifest};
use crate::history::kept_logs;
use crate::open::named_paths;
use crate::salvage::{self, FirstLine, Forbearing};
use crate::{Error, ErrorKind, Result, paths, verify};

use super::logs::{LogSource, Numbers};

/// Where the parts of the store are.
pub(super) struct Sources {
    /// What the manifest says, if it is to be believed.
    pub(super) manifest: Option<Manifest>,
    pub(super) snapshot: Option<String>,
    /// Oldest first.
    pub(super) logs: Vec<LogSource>,
    pub(super) archives: Vec<(String, Option<ArchiveFacts>)>,
    /// The number of the first operation that the snapshot does not contain.
    pub(super) cut: u64,
    /// Snapshots that are not used.
    pub(super) unused: Vec<String>,
}

impl Sources {
    /// As the manifest names them.
    pub(super) fn named_by(backend: &dyn Backend, manifest: Manifest) -> Result<Self> {
        let ours = manifest.ours.as_ref();
        let mut logs: Vec<LogSource> = Vec::new();
        if ours.is_none()
            && let Some(active) = paths::parse_ops(&manifest.active_ops)
        {
            for (_, name) in named(backend, paths::OPS, paths::parse_ops)?
                .into_iter()
                .filter(|(milliseconds, _)| *milliseconds < active)
            {
                logs.push(LogSource {
                    name,
                    sealed: None,
                    numbers: Numbers::Following,
                    seqs: 0..u64::MAX,
                    is_active: false,
                });
            }
        }
        logs.extend(kept_logs(&manifest).into_iter().map(|part| LogSource {
            is_active: part.sealed.is_none(),
            name: part.name,
            sealed: part.sealed,
            numbers: ours.map_or(Numbers::Following, |_| Numbers::From(part.seq)),
            seqs: 0..u64::MAX,
        }));
        let archives = manifest.archive_segments.iter().map(|path| {
            let facts = ours.into_iter().flat_map(|ours| &ours.archives);
            let known = facts
                .into_iter()
                .find(|facts| facts.path == *path && facts.bytes > 0);
            (path.clone(), known.cloned())
        });
        Ok(Self {
            snapshot: Some(manifest.current_snapshot.clone()),
            archives: archives.collect(),
            cut: ours.map_or(u64::MAX, |ours| ours.log_seq),
            logs,
            unused: Vec::new(),
            manifest: Some(manifest),
        })
    }

    /// As they lie in the folders, where no manifest names them: the newest snapshot that a checkpoint has completed, and the logs.
    ///
    /// A checkpoint writes the snapshot first and the log then, so the log of a snapshot is the first one that is not older. One that has operations shows that
    /// the checkpoint was completed; an empty one may be unfinished, and then the snapshot before is there still.
    pub(super) fn found_in(backend: &dyn Backend) -> Result<Self> {
        let agents = named(backend, paths::OPS, |name| {
            Some(paths::parse_agent_ops(name)?.1)
        })?;
        let stamps = named(backend, paths::SNAPSHOTS, paths::parse_stamps)?;
        refuse_agents(backend, !agents.is_empty() || !stamps.is_empty())?;
        let snapshots = named(backend, paths::SNAPSHOTS, paths::parse_snapshot)?;
        let found = named(backend, paths::OPS, paths::parse_ops)?;
        let mut firsts = Vec::new();
        for (_, name) in &found {
            firsts.push(salvage::first_line(&Forbearing(backend.open(name)?))?);
        }
        let has_operations = |from: u64| {
            let mut logs = found.iter().zip(&firsts);
            logs.any(|((milliseconds, _), first)| {
                *milliseconds >= from && *first != FirstLine::None
            })
        };
        let mut chosen = None;
        for (milliseconds, name) in snapshots.iter().rev() {
            let remains = salvage::snapshot(&Forbearing(backend.open(name)?))?;
            if !remains.unreadable.is_empty() {
                continue;
            }
            let has_log = found.iter().any(|(log, _)| log >= milliseconds);
            let better =
                chosen.is_none() || !has_operations(chosen.as_ref().map_or(0, |(ms, _)| *ms));
            if better && (has_log || chosen.is_none()) {
                chosen = Some((*milliseconds, name.clone()));
            }
        }
        // Where none is whole, the newest.
        let chosen = chosen.or_else(|| snapshots.last().cloned());
        let since = chosen.as_ref().map_or(0, |(milliseconds, _)| *milliseconds);
        let mut cut = None;
        let mut logs: Vec<LogSource> = Vec::new();
        for ((milliseconds, name), first) in found.into_iter().zip(firsts) {
            if let FirstLine::Numbered(start) = first {
                // Operations that a later log has too are those of the later log: some may have been taken back there.
                for earlier in &mut logs {
                    earlier.seqs.end = earlier.seqs.end.min(start);
                }
            }
            let is_active = milliseconds >= since;
            if is_active && cut.is_none() {
                cut = match first {
                    FirstLine::None => None,
                    FirstLine::Numbered(seq) => Some(seq),
                    FirstLine::Unnumbered => Some(u64::MAX),
                };
            }
            logs.push(LogSource {
                name,
                sealed: None,
                numbers: match first {
                    FirstLine::Numbered(_) => Numbers::Written,
                    _ => Numbers::Following,
                },
                seqs: 0..u64::MAX,
                is_active,
            });
        }
        let archives = named(backend, paths::ARCHIVE, |name| {
            Some(paths::parse_archive(name)?.1.unwrap_or(0))
        })?;
        let snapshot = chosen.map(|(_, name)| name);
        let unused = snapshots.into_iter().map(|(_, name)| name);
        Ok(Self {
            manifest: None,
            unused: unused
                .filter(|name| Some(name) != snapshot.as_ref())
                .collect(),
            snapshot,
            logs,
            archives: archives.into_iter().map(|(_, path)| (path, None)).collect(),
            cut: cut.unwrap_or(u64::MAX),
        })
    }
}

/// What a manifest with a wrong checksum says, if every file that it names is as it says.
pub(super) fn confirmed(backend: &dyn Backend, bytes: &[u8]) -> Result<Option<Manifest>> {
    let Ok(manifest) = manifest::decode_unchecked(bytes) else {
        return Ok(None);
    };
    let plain = named_paths(&manifest).all(|path| paths::validate_store_path(path).is_ok());
    if !plain || manifest.ours.is_none() {
        return Ok(None);
    }
    refuse_agents(backend, has_agents(&manifest))?;
    // The newest snapshot and log: an older manifest that came back would agree with files that were not removed yet.
    let newest = |prefix: &str, parse: fn(&str) -> Option<u64>| -> Result<Option<String>> {
        let names = backend.list(prefix)?.into_iter().map(|object| object.name);
        Ok(names
            .filter(|name| parse(name).is_some())
            .max_by_key(|name| parse(name)))
    };
    let current = newest(paths::SNAPSHOTS, paths::parse_snapshot)?
        == Some(manifest.current_snapshot.clone())
        && newest(paths::OPS, paths::parse_ops)? == Some(manifest.active_ops.clone());
    let sound = current && verify::check_all(backend, &manifest)?.is_sound();
    Ok(sound.then_some(manifest))
}

/// The names in a folder that `parse` knows, in the order of their numbers.
fn named(
    backend: &dyn Backend,
    prefix: &str,
    parse: impl Fn(&str) -> Option<u64>,
) -> Result<Vec<(u64, String)>> {
    let objects = backend.list(prefix)?.into_iter();
    // A name that no manifest could name is not the store's.
    let own = objects.filter(|object| paths::validate_store_path(&object.name).is_ok());
    let mut found: Vec<(u64, String)> = own
        .filter_map(|object| Some((parse(&object.name)?, object.name)))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Whether agents write to the store, or have written to it since the manifest was new.
pub(super) fn has_agents(manifest: &Manifest) -> bool {
    manifest.active_agent_ops.is_some()
        || manifest.ours.as_ref().is_some_and(|ours| {
            !ours.agents.is_empty()
                || ours.stamps.is_some()
                || ours.sealed.iter().any(|log| log.agent.is_some())
        })
}

/// Refuses what several agents have written.
pub(super) fn refuse_agents(backend: &dyn Backend, agents: bool) -> Result<()> {
    if !agents {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::UnsupportedVersion,
        "the store was written by several agents, which this version does not repair; restore it from a backup",
    )
    .at_path(backend.location()))
}
