//! Where the parts of a store are, with a manifest or without.

use std::collections::HashSet;

use crate::backend::Backend;
use crate::format::manifest::{self, ArchiveFacts, FileFacts, Manifest};
use crate::history::kept_logs;
use crate::merge::Agent;
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
    pub(super) stamps: StampsSource,
    /// Whether the manifest says, with a checksum that holds, how far each agent's operations are in the snapshot.
    pub(super) is_certain: bool,
}

/// Where the stamps of the snapshot's documents are.
pub(super) enum StampsSource {
    /// The store never had agents.
    NoAgents,
    /// It had, and they have left it to a single writer: the snapshot has none.
    Left,
    /// There, and as the manifest says.
    Named(String, FileFacts),
    /// There, as far as can be told without a manifest.
    Found(String),
}

impl StampsSource {
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Self::NoAgents | Self::Left => None,
            Self::Named(name, _) | Self::Found(name) => Some(name.clone()),
        }
    }
}

impl Sources {
    /// As the manifest names them. Whether `is_certain`, its checksum says.
    pub(super) fn named_by(
        backend: &dyn Backend,
        manifest: Manifest,
        is_certain: bool,
    ) -> Result<Self> {
        refuse_reference_agents(
            backend,
            manifest.ours.is_none() && manifest.active_agent_ops.is_some(),
        )?;
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
                    agent: None,
                    sealed: None,
                    numbers: Numbers::Following,
                    seqs: 0..u64::MAX,
                    is_active: false,
                    cut: u64::MAX,
                    cut_offset: 0,
                });
            }
        }
        let cut = ours.map_or(u64::MAX, |ours| ours.log_seq);
        logs.extend(kept_logs(&manifest).into_iter().map(|part| {
            let facts = part
                .agent
                .as_deref()
                .and_then(|agent| manifest.agent(agent));
            LogSource {
                is_active: part.sealed.is_none(),
                cut: match facts {
                    Some(facts) if is_certain => facts.folded,
                    Some(facts) => facts.seq,
                    None => cut,
                },
                cut_offset: facts
                    .filter(|_| is_certain && part.sealed.is_none())
                    .map_or(0, |facts| facts.offset),
                name: part.name,
                agent: part.agent,
                sealed: part.sealed,
                numbers: ours.map_or(Numbers::Following, |_| Numbers::From(part.seq)),
                seqs: 0..u64::MAX,
            }
        }));
        let name = paths::stamps_of(&manifest.current_snapshot);
        let stamps = match (ours.and_then(|ours| ours.stamps), name) {
            (Some(facts), Some(name)) => StampsSource::Named(name, facts),
            (None, Some(name)) if manifest.is_shared() => StampsSource::Found(name),
            _ if has_agents(&manifest) => StampsSource::Left,
            _ => StampsSource::NoAgents,
        };
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
            cut,
            logs,
            unused: Vec::new(),
            stamps,
            is_certain,
            manifest: Some(manifest),
        })
    }

    /// As they lie in the folders, where no manifest names them: the newest snapshot that a checkpoint has completed, and the logs.
    ///
    /// A checkpoint writes the snapshot first and the log then, so the log of a snapshot is the first one that is not older. One that has operations shows that
    /// the checkpoint was completed; an empty one may be unfinished, and then the snapshot before is there still.
    ///
    /// An agent's log that was begun after the snapshot has operations that are not in it, and of each agent the last one may have.
    pub(super) fn found_in(backend: &dyn Backend) -> Result<Self> {
        let snapshots = named(backend, paths::SNAPSHOTS, paths::parse_snapshot)?;
        let stamps = named(backend, paths::SNAPSHOTS, paths::parse_stamps)?;
        let found = found_logs(backend)?;
        let has_operations = |from: u64| {
            let mut logs = found.iter();
            logs.any(|log| log.milliseconds >= from && log.first != FirstLine::None)
        };
        let mut chosen = None;
        for (milliseconds, name) in snapshots.iter().rev() {
            let remains = salvage::snapshot(&Forbearing(backend.open(name)?))?;
            if !remains.unreadable.is_empty() {
                continue;
            }
            let has_log = found.iter().any(|log| log.milliseconds >= *milliseconds);
            let better =
                chosen.is_none() || !has_operations(chosen.as_ref().map_or(0, |(ms, _)| *ms));
            if better && (has_log || chosen.is_none()) {
                chosen = Some((*milliseconds, name.clone()));
            }
        }
        // Where none is whole, the newest; where there is none, its stamps may be left.
        let chosen = chosen.or_else(|| snapshots.last().cloned());
        let since = chosen.as_ref().map_or(0, |(milliseconds, _)| *milliseconds);
        let of_snapshot = |(milliseconds, _): &&(u64, String)| match &chosen {
            Some((chosen, _)) => milliseconds == chosen,
            None => true,
        };
        let has_newer = found
            .iter()
            .any(|log| log.agent.is_some() && log.milliseconds >= since);
        let named_stamps = stamps.iter().rev().find(of_snapshot);
        let stamps_source = match (named_stamps, &chosen) {
            (Some((_, name)), _) => StampsSource::Found(name.clone()),
            (None, Some((_, snapshot))) if has_newer => {
                StampsSource::Found(paths::stamps_of(snapshot).unwrap_or_default())
            }
            _ if found.iter().any(|log| log.agent.is_some()) => StampsSource::Left,
            _ => StampsSource::NoAgents,
        };
        let is_shared = matches!(stamps_source, StampsSource::Found(_));
        let (logs, cut) = sources_of(found, since, is_shared);
        let archives = named(backend, paths::ARCHIVE, |name| {
            Some(paths::parse_archive(name)?.1.unwrap_or(0))
        })?;
        let snapshot = chosen.map(|(_, name)| name);
        let used = [snapshot.clone(), stamps_source.name()];
        let unused = snapshots.into_iter().chain(stamps).map(|(_, name)| name);
        Ok(Self {
            manifest: None,
            unused: unused
                .filter(|name| !used.contains(&Some(name.clone())))
                .collect(),
            snapshot,
            logs,
            archives: archives.into_iter().map(|(_, path)| (path, None)).collect(),
            cut,
            stamps: stamps_source,
            is_certain: false,
        })
    }
}

/// A log that was found in its folder.
struct FoundLog {
    milliseconds: u64,
    name: String,
    agent: Option<Agent>,
    first: FirstLine,
}

/// All logs, in the order in which they were begun.
fn found_logs(backend: &dyn Backend) -> Result<Vec<FoundLog>> {
    let names = named(backend, paths::OPS, |name| {
        let of_agent = || paths::parse_agent_ops(name).map(|(_, milliseconds)| milliseconds);
        paths::parse_ops(name).or_else(of_agent)
    })?;
    let mut found = Vec::new();
    for (milliseconds, name) in names {
        let agent = paths::parse_agent_ops(&name).map(|(agent, _)| Agent::from(agent));
        let first = salvage::first_line(&Forbearing(backend.open(&name)?))?;
        refuse_reference_agents(backend, agent.is_some() && first == FirstLine::Unnumbered)?;
        found.push(FoundLog {
            milliseconds,
            name,
            agent,
            first,
        });
    }
    Ok(found)
}

/// The logs as sources, beside a snapshot that was made at `since`, and the number of the single writer's first operation that it does not contain.
fn sources_of(found: Vec<FoundLog>, since: u64, is_shared: bool) -> (Vec<LogSource>, u64) {
    let mut cut = None;
    let mut logs: Vec<LogSource> = Vec::new();
    for log in found {
        for earlier in logs.iter_mut().filter(|earlier| earlier.agent == log.agent) {
            if let FirstLine::Numbered(start) = log.first {
                // Operations that a later log has too are those of the later log: some may have been taken back there.
                earlier.seqs.end = earlier.seqs.end.min(start);
            }
            if log.agent.is_some() && log.first != FirstLine::None {
                earlier.is_active = false;
            }
        }
        let is_active = match log.agent {
            None => log.milliseconds >= since && !is_shared,
            Some(_) => is_shared,
        };
        if is_active && log.agent.is_none() && cut.is_none() {
            cut = match log.first {
                FirstLine::None => None,
                FirstLine::Numbered(seq) => Some(seq),
                FirstLine::Unnumbered => Some(u64::MAX),
            };
        }
        logs.push(LogSource {
            name: log.name,
            cut: 0,
            agent: log.agent,
            sealed: None,
            numbers: match log.first {
                FirstLine::Numbered(_) => Numbers::Written,
                _ => Numbers::Following,
            },
            seqs: 0..u64::MAX,
            is_active,
            cut_offset: 0,
        });
    }
    let cut = cut.unwrap_or(u64::MAX);
    for log in logs.iter_mut().filter(|log| log.agent.is_none()) {
        log.cut = cut;
    }
    (logs, cut)
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
    // A key that has changed hides what it names.
    let kept: HashSet<String> = kept_logs(&manifest)
        .into_iter()
        .map(|part| part.name)
        .collect();
    let logs = found_logs(backend)?;
    let names_all = logs
        .iter()
        .all(|log| log.first == FirstLine::None || kept.contains(&log.name));
    let has_version = || -> Result<bool> {
        let object = backend.open(&manifest.current_snapshot)?;
        let remains = salvage::snapshot(&Forbearing(object))?;
        Ok(remains.version == Some(manifest.version))
    };
    let current = current && names_all && has_version()?;
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
fn has_agents(manifest: &Manifest) -> bool {
    manifest.active_agent_ops.is_some()
        || manifest.ours.as_ref().is_some_and(|ours| {
            !ours.agents.is_empty()
                || ours.stamps.is_some()
                || ours.sealed.iter().any(|log| log.agent.is_some())
        })
}

/// Refuses what several agents of the npm package have written: without numbers and checksums, nothing tells what is missing of it.
fn refuse_reference_agents(backend: &dyn Backend, is_theirs: bool) -> Result<()> {
    if !is_theirs {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::UnsupportedVersion,
        "the store was written by several agents of the npm package, whose logs have no checksums, and cannot be repaired; restore it from a backup",
    )
    .at_path(backend.location()))
}
