//! Object names: every name in a store is made and parsed here, and every name from outside is judged here.
//!
//! Invariant: a name that one of the makers returns is taken apart again by the parser beside it, and
//! no name that a validator lets through leaves the store's directory. The flows, the backends and the
//! blob calls use it; it does no input or output. The names are those of `docs/format.md` §1.

use crate::{Error, ErrorKind, Result};

/// The manifest.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The lock file that the reference knows: the writer's process id.
pub(crate) const LOCK: &str = ".lock";
/// The file whose `flock` proves that the writer lives.
pub(crate) const WRITER_FLOCK: &str = ".opslog.lock";
/// The file whose `flock` makes [`Backend::put_if`](crate::backend::Backend::put_if) atomic among processes.
pub(crate) const COMPARE_FLOCK: &str = ".opslog.manifest.lock";

/// Where snapshots are, with the `/`.
pub(crate) const SNAPSHOTS: &str = "snapshots/";
/// Where logs are, with the `/`.
pub(crate) const OPS: &str = "ops/";
/// Where archive segments are, with the `/`.
pub(crate) const ARCHIVE: &str = "archive/";
/// The store's own folders, without the `/`.
pub(crate) const FOLDERS: [&str; 3] = ["snapshots", "ops", "archive"];

/// The longest period: it must fit in a file's name.
const PERIOD_BYTES_MAX: usize = 100;

/// The longest agent id.
const AGENT_BYTES_MAX: usize = 64;

/// How many taken names [`next_free`] passes by before it reports the conflict.
const TAKEN_NAMES_MAX: u64 = 100_000;

/// The snapshot made at `ms`.
pub(crate) fn snapshot(ms: u64) -> String {
    format!("{SNAPSHOTS}snap-{ms}.jsonl")
}

/// The index of `snapshot`; `None` if that is not a snapshot's name.
pub(crate) fn index_of(snapshot: &str) -> Option<String> {
    let ms = parse_snapshot(snapshot)?;
    Some(format!("{SNAPSHOTS}snap-{ms}.index"))
}

/// The stamps file of `snapshot`; `None` if that is not a snapshot's name.
pub(crate) fn stamps_of(snapshot: &str) -> Option<String> {
    let ms = parse_snapshot(snapshot)?;
    Some(format!("{SNAPSHOTS}snap-{ms}.stamps"))
}

/// The log that `agent` began at `ms`.
pub(crate) fn agent_ops(agent: &str, ms: u64) -> String {
    format!("{OPS}agent-{agent}-{ms}.jsonl")
}

/// The file whose `flock` proves that `agent` lives.
pub(crate) fn agent_flock(agent: &str) -> String {
    format!(".opslog.agent-{agent}.lock")
}

/// The single-writer log begun at `ms`.
pub(crate) fn ops(ms: u64) -> String {
    format!("{OPS}ops-{ms}.jsonl")
}

/// The archive segment of `period`: its first file, or the one written at `ms`.
pub(crate) fn archive(period: &str, ms: Option<u64>) -> String {
    match ms {
        None => format!("{ARCHIVE}archive-{period}.json"),
        Some(ms) => format!("{ARCHIVE}archive-{period}.{ms}.json"),
    }
}

/// Where the bytes go that recovery takes out of `log`.
pub(crate) fn damaged(log: &str) -> String {
    format!("{log}.damaged")
}

/// As [`damaged`], the `number`th such file, from 1.
pub(crate) fn damaged_again(name: &str, number: u64) -> String {
    match number {
        1 => damaged(name),
        _ => format!("{name}.{number}.damaged"),
    }
}

/// Whether `name` is one that [`damaged`] or [`damaged_again`] made.
pub(crate) fn is_damaged(name: &str) -> bool {
    name.ends_with(".damaged")
}

/// The name under which process `process_id` writes its `number`th new version of `name`.
pub(crate) fn temporary(name: &str, process_id: u32, number: u64) -> String {
    format!("{name}.{process_id}-{number}.tmp")
}

/// When the snapshot `name` was made; `None` if it is not a snapshot's name.
pub(crate) fn parse_snapshot(name: &str) -> Option<u64> {
    parse_ms(
        name.strip_prefix(SNAPSHOTS)?
            .strip_prefix("snap-")?
            .strip_suffix(".jsonl")?,
    )
}

/// When the snapshot was made whose index `name` is; `None` if it is not an index's name.
pub(crate) fn parse_index(name: &str) -> Option<u64> {
    parse_ms(
        name.strip_prefix(SNAPSHOTS)?
            .strip_prefix("snap-")?
            .strip_suffix(".index")?,
    )
}

/// When the snapshot was made whose stamps file `name` is; `None` if it is not a stamps file's name.
pub(crate) fn parse_stamps(name: &str) -> Option<u64> {
    parse_ms(
        name.strip_prefix(SNAPSHOTS)?
            .strip_prefix("snap-")?
            .strip_suffix(".stamps")?,
    )
}

/// When the single-writer log `name` was begun; `None` if it is not such a log's name.
pub(crate) fn parse_ops(name: &str) -> Option<u64> {
    parse_ms(
        name.strip_prefix(OPS)?
            .strip_prefix("ops-")?
            .strip_suffix(".jsonl")?,
    )
}

/// Whose log `name` is and when it was begun; `None` if it is not an agent's log.
pub(crate) fn parse_agent_ops(name: &str) -> Option<(&str, u64)> {
    let (agent, ms) = name
        .strip_prefix(OPS)?
        .strip_prefix("agent-")?
        .strip_suffix(".jsonl")?
        .rsplit_once('-')?;
    if agent.is_empty() || agent.contains('/') {
        return None;
    }
    Some((agent, parse_ms(ms)?))
}

/// The period of the archive segment `name` and when the file was written, where the name says so;
/// `None` if it is not an archive segment's name.
pub(crate) fn parse_archive(name: &str) -> Option<(&str, Option<u64>)> {
    let stem = name
        .strip_prefix(ARCHIVE)?
        .strip_prefix("archive-")?
        .strip_suffix(".json")?;
    if stem.is_empty() || stem.contains('/') {
        return None;
    }
    match stem.rsplit_once('.') {
        Some((period, ms)) if !period.is_empty() && is_digits(ms) => {
            Some((period, Some(parse_ms(ms)?)))
        }
        _ => Some((stem, None)),
    }
}

/// Whether `name` is one that [`temporary`] made: a file being written, or left behind by a crash.
pub(crate) fn is_temporary(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".tmp") else {
        return false;
    };
    let Some((target, mark)) = stem.rsplit_once('.') else {
        return false;
    };
    let Some((process_id, number)) = mark.split_once('-') else {
        return false;
    };
    !target.is_empty() && is_digits(process_id) && is_digits(number)
}

/// Whether `name` is one of the files of locks, which hold nothing.
pub(crate) fn is_lock(name: &str) -> bool {
    name == LOCK || name.starts_with(".opslog.") && name.split('.').next_back() == Some("lock")
}

/// Whether `name` is the store's own: not a blob, and never to be offered as one.
pub(crate) fn is_own(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    is_own_part(first) || is_temporary(name)
}

/// Whether the first part of a path belongs to the store. Case does not matter, as it does not to some file systems.
fn is_own_part(first: &str) -> bool {
    let first = first.to_lowercase();
    first == MANIFEST
        || first.starts_with("manifest.json.") && is_damaged(&first)
        || first == LOCK
        || first.starts_with(".opslog")
        || FOLDERS.contains(&first.as_str())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number as the makers write it. Leading zeros are refused: they would name another file when made again.
fn parse_ms(text: &str) -> Option<u64> {
    let canonical = is_digits(text) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// Accepts an archive period as `docs/format.md` §6 has it.
///
/// # Errors
///
/// `InvalidInput` otherwise, saying which rule is broken.
pub(crate) fn validate_period(period: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("archive period {period:?} {why}")));
    if period.is_empty() {
        return refuse("is empty; name one, such as 2026-Q4");
    }
    if period.len() > PERIOD_BYTES_MAX {
        return Err(Error::invalid(format!(
            "archive period is {} bytes long; use at most {PERIOD_BYTES_MAX}",
            period.len()
        )));
    }
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b' ');
    if !period.bytes().all(allowed) {
        return refuse("may hold only letters, digits, '.', '_', '-' and space");
    }
    if period.starts_with('.') {
        return refuse("begins with a dot; leave the dot out");
    }
    if period
        .rsplit_once('.')
        .is_some_and(|(_, end)| is_digits(end))
    {
        return refuse(
            "ends in a dot and digits, which marks a rewritten segment; use '-' instead",
        );
    }
    Ok(())
}

/// Accepts an agent's id: 1 to 64 of `A–Z a–z 0–9 . _ -`.
///
/// # Errors
///
/// `InvalidInput` otherwise.
pub(crate) fn validate_agent(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=AGENT_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "agent id {id:?} is not 1 to {AGENT_BYTES_MAX} letters, digits, '.', '_' or '-'"
    )))
}

/// Accepts the path of a blob: a plain relative path that names none of the store's own files.
///
/// # Errors
///
/// `InvalidInput` otherwise, saying which rule is broken.
pub(crate) fn validate_blob(path: &str) -> Result<()> {
    validate_plain(path).map_err(|why| Error::invalid(format!("blob path {path:?} {why}")))?;
    if is_own(path) {
        return Err(Error::invalid(format!(
            "blob path {path:?} belongs to the store itself; choose another"
        )));
    }
    Ok(())
}

/// Accepts a path read from a manifest: a plain relative path inside one of the store's folders.
///
/// The shape of the file's name is not judged, since the reference may name its files otherwise.
///
/// # Errors
///
/// `Corrupt` otherwise: following the path could touch what is not the store's.
pub(crate) fn validate_store_path(path: &str) -> Result<()> {
    let corrupt = |why: &str| {
        Error::corrupt(format!(
            "the manifest names {path:?}, which {why}; restore the manifest from a backup"
        ))
    };
    validate_plain(path).map_err(corrupt)?;
    let inside = [SNAPSHOTS, OPS, ARCHIVE]
        .iter()
        .any(|folder| path.starts_with(folder));
    if inside {
        Ok(())
    } else {
        Err(corrupt("is outside the folders snapshots, ops and archive"))
    }
}

/// Says what keeps `path` from being a plain relative path with `/` between its parts.
fn validate_plain(path: &str) -> std::result::Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.contains('\\') {
        return Err("holds a backslash; use '/' between its parts");
    }
    if path.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    if path.starts_with('/') {
        return Err("is absolute; make it relative to the store");
    }
    let mut letters = path.bytes();
    if letters
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic())
        && letters.next() == Some(b':')
    {
        return Err("names a drive; make it relative to the store");
    }
    for part in path.split('/') {
        match part {
            "" => return Err("has an empty part"),
            "." | ".." => return Err("holds a '.' or '..' part"),
            _ => {}
        }
    }
    Ok(())
}

/// Creates something exclusively under the first free number from the time `from` on: `create` is tried with
/// that, then with the next number as long as it answers `Conflict`.
///
/// # Errors
///
/// What `create` answers, other than `Conflict`; `Conflict` when very many numbers are taken.
pub(crate) fn next_free<T>(from: u64, mut create: impl FnMut(u64) -> Result<T>) -> Result<T> {
    let mut ms = from;
    let last = ms.saturating_add(TAKEN_NAMES_MAX);
    loop {
        match create(ms) {
            Err(error) if error.kind() == ErrorKind::Conflict && ms < last => ms += 1,
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests;
