//! What recovery leaves out of logs: told, kept beside them, and never dropped silently; and the files that an interrupted writer left.

use crate::agents;
use crate::backend::Backend;
use crate::checkpoint::discard;
use crate::open::Loaded;
use crate::oplog::{Damage, DamageKind, Outcome};
use crate::options::Options;
use crate::{Error, ErrorKind, Result, paths};

/// What recovery found when the store was opened.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// assert_eq!(store.open_report(), &opslog::OpenReport::default());
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// The parts of logs that were left out, in their order.
    pub damage: Vec<DamageReport>,
}

/// A part of a log that was left out when the store was opened.
///
/// ```
/// # let store: opslog::Store = opslog::Store::in_memory()?;
/// for damage in &store.open_report().damage {
///     panic!("{} at byte {}: {}", damage.path, damage.offset, damage.reason);
/// }
/// # Ok::<(), opslog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamageReport {
    /// The log.
    pub path: String,
    /// Where the part begins in it.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// Whether it had been acknowledged.
    pub kind: DamageKind,
    /// What is wrong with it.
    pub reason: String,
}

/// What was left out of a log.
#[derive(Clone)]
pub(crate) struct LogDamage {
    pub(crate) log: String,
    pub(crate) damage: Damage,
}

impl LogDamage {
    pub(crate) fn all(log: &str, outcome: &Outcome) -> Vec<Self> {
        let damage = outcome.damage.iter().cloned();
        damage
            .map(|damage| Self {
                log: log.to_owned(),
                damage,
            })
            .collect()
    }
}

/// Turns what was read into the report, and says it once in the log.
pub(crate) fn report(found: &[LogDamage], options: &Options) -> Result<OpenReport> {
    let mut report = OpenReport::default();
    for LogDamage { log, damage } in found {
        if options.strict && damage.kind == DamageKind::Damaged {
            return Err(Error::corrupt(format!(
                "the log is damaged, and strict refuses to leave anything out: {}",
                damage.reason
            ))
            .at_path(log)
            .at_offset(damage.range.start));
        }
        let entry = DamageReport {
            path: log.clone(),
            offset: damage.range.start,
            bytes: damage.range.end - damage.range.start,
            kind: damage.kind,
            reason: damage.reason.clone(),
        };
        // To a reader, a write that another process is in the middle of looks torn.
        let beside_a_writer = options.read_only || options.agent.is_some();
        if !(beside_a_writer && entry.kind == DamageKind::Torn) {
            tracing::warn!(path = entry.path, offset = entry.offset, bytes = entry.bytes, kind = ?entry.kind, reason = entry.reason, "a part of the log was left out");
        }
        report.damage.push(entry);
    }
    Ok(report)
}

/// Copies the bytes that recovery leaves out to a file beside the log, once.
pub(crate) fn keep_damaged_bytes(
    backend: &dyn Backend,
    log_name: &str,
    damage: &[Damage],
) -> Result<()> {
    if damage.is_empty() {
        return Ok(());
    }
    let log = backend.open(log_name)?;
    let size = log.size()?;
    let kept_name = paths::damaged(log_name);
    let mut kept = match backend.read(&kept_name) {
        Ok(kept) => kept,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let before = kept.len();
    for damage in damage {
        let end = damage.range.end.min(size);
        let length = usize::try_from(end.saturating_sub(damage.range.start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        let read = log.read_at(damage.range.start, &mut bytes)?;
        bytes.truncate(read);
        let means_something = bytes.iter().any(|byte| !matches!(byte, b'\n' | 0));
        if means_something && memchr::memmem::find(&kept, &bytes).is_none() {
            kept.extend_from_slice(&bytes);
            kept.push(b'\n');
        }
    }
    if kept.len() > before {
        backend.put(&kept_name, &kept)?;
    }
    Ok(())
}

/// Removes what an interrupted writer left: unfinished files, and finished ones that no manifest came to name.
pub(crate) fn remove_leftovers<T>(backend: &dyn Backend, loaded: &Loaded<T>) {
    let manifest = &loaded.manifest;
    let is_sealed = |name: &str| {
        let mut sealed = manifest.ours.iter().flat_map(|ours| &ours.sealed);
        sealed.any(|log| log.path == name)
    };
    let current_stamps = paths::stamps_of(&manifest.current_snapshot);
    let current_index = paths::index_of(&manifest.current_snapshot);
    for prefix in [
        paths::MANIFEST,
        paths::SNAPSHOTS,
        paths::OPS,
        paths::ARCHIVE,
    ] {
        let Ok(objects) = backend.list(prefix) else {
            continue;
        };
        for name in objects.into_iter().map(|object| object.name) {
            let superseded = paths::parse_snapshot(&name).is_some()
                && name != manifest.current_snapshot
                || paths::parse_index(&name).is_some() && Some(&name) != current_index.as_ref()
                || paths::parse_stamps(&name).is_some() && Some(&name) != current_stamps.as_ref()
                || loaded.ours && paths::parse_agent_ops(&name).is_some() && !is_sealed(&name)
                || loaded.ours
                    && paths::parse_ops(&name).is_some()
                    && name != manifest.active_ops
                    && !is_sealed(&name)
                || loaded.ours
                    && paths::parse_archive(&name).is_some_and(|(_, merged)| merged.is_some())
                    && !manifest.archive_segments.contains(&name);
            if superseded && agents::may_go(backend, &name) || paths::is_temporary(&name) {
                discard(backend, &name);
            }
        }
    }
}
