//! `opslog verify`: reads every file of the store and says what is damaged, where.
//!
//! A store that opens is checked through the store, with all checksums. One that does not is checked file by file, so that the first damage does not hide
//! the rest; there the checksums of single lines are not known to this command.

mod files;

use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use opslog::{Cursor, DamageKind, ErrorKind, Operation, Since};
use serde_json::{Value, json};

use crate::commands::segments;
use crate::failure::{Failure, Status};
use crate::open::Documents;
use crate::output::Output;

use files::{Facts, Sealed};

/// How often the check starts over because a writer changed the manifest meanwhile.
const TRIES: usize = 10;
/// How long to wait before damage is looked at once more.
const PAUSE: Duration = Duration::from_millis(100);

/// One file, and what is wrong with it.
pub(super) struct Check {
    file: String,
    /// What was read, such as `280 documents`.
    read: String,
    damage: Vec<Damage>,
}

/// A part of a file that is not what was written.
pub(super) struct Damage {
    offset: Option<u64>,
    bytes: Option<u64>,
    /// Whether it is only a write that a crash cut short before it was acknowledged.
    torn: bool,
    reason: String,
}

impl Damage {
    fn new(offset: Option<u64>, reason: impl Into<String>) -> Self {
        Self {
            offset,
            bytes: None,
            torn: false,
            reason: reason.into(),
        }
    }

    fn of(error: &opslog::Error) -> Self {
        Self::new(error.offset(), error.message())
    }
}

pub(crate) fn run(directory: &Path, output: &mut Output) -> Result<Status, Failure> {
    let mut checks = settled(directory)?;
    if damage(&checks) > 0 {
        // What was read while a writer was writing it may look damaged, and does not when it is read again.
        thread::sleep(PAUSE);
        checks = settled(directory)?;
    }
    report(&checks, output)?;
    let parts = match damage(&checks) {
        0 => return Ok(Status::Done),
        1 => "1 damaged part".to_owned(),
        count => format!("{count} damaged parts"),
    };
    let failure = Failure::new(Status::Corrupt, format!("the store has {parts}"));
    Err(failure.with_hint("copy the directory first; then restore the damaged files from a backup"))
}

/// How many parts are damaged.
fn damage(checks: &[Check]) -> usize {
    let parts = checks.iter().flat_map(|check| &check.damage);
    parts.filter(|damage| !damage.torn).count()
}

/// Checks everything, with one manifest from beginning to end.
fn settled(directory: &Path) -> Result<Vec<Check>, Failure> {
    let mut tries = 0;
    loop {
        let before = files::manifest(directory)?;
        let checks = check(directory, &before);
        tries += 1;
        if tries == TRIES || files::manifest(directory)? == before {
            return checks;
        }
    }
}

/// Checks everything that the manifest names.
fn check(directory: &Path, manifest: &[u8]) -> Result<Vec<Check>, Failure> {
    let (facts, manifest) = Facts::read(manifest);
    let mut checks = vec![manifest];
    match Documents::builder().read_only(true).open(directory) {
        Ok(store) => through_store(&store, directory, &facts, &mut checks),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            file_by_file(directory, &facts, &error, &mut checks);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(checks)
}

/// Opening has checked the snapshot's checksum and the active log.
fn through_store(store: &Documents, directory: &Path, facts: &Facts, checks: &mut Vec<Check>) {
    checks.push(snapshot(store, facts));
    checks.push(active_log(store, facts));
    match store.ops(Since::Start) {
        Ok(operations) => {
            let seen: HashSet<u64> = operations.iter().filter_map(sequence).collect();
            let sealed = facts.sealed.iter();
            checks.extend(sealed.map(|log| sealed_log(directory, log, &seen)));
        }
        Err(error) => {
            let mut sealed = facts.sealed.iter();
            let log = sealed.find(|log| error.path().is_some_and(|path| path.ends_with(&log.path)));
            checks.push(Check {
                file: log.map_or_else(|| "ops".to_owned(), |log| log.path.clone()),
                read: "history".to_owned(),
                damage: vec![Damage::of(&error)],
            });
        }
    }
    for name in segments::names(&facts.archives) {
        let (read, damage) = match store.load_archive(name) {
            Ok(documents) => (format!("{} documents", documents.len()), Vec::new()),
            Err(error) => (String::new(), vec![Damage::of(&error)]),
        };
        let of_name = |path: &&String| segments::names(std::slice::from_ref(*path)) == [name];
        let paths: Vec<&str> = facts
            .archives
            .iter()
            .filter(of_name)
            .map(String::as_str)
            .collect();
        checks.push(Check {
            file: paths.join(", "),
            read,
            damage,
        });
    }
}

fn snapshot(store: &Documents, facts: &Facts) -> Check {
    let (mut count, mut damage) = (0_u64, Vec::new());
    match store.stream_snapshot() {
        Ok(documents) => {
            for document in documents {
                match document {
                    Ok(_) => count += 1,
                    Err(error) => damage.push(Damage::of(&error)),
                }
            }
        }
        Err(error) => damage.push(Damage::of(&error)),
    }
    Check {
        file: facts.snapshot.clone(),
        read: format!("{count} documents"),
        damage,
    }
}

fn active_log(store: &Documents, facts: &Facts) -> Check {
    let parts = store.open_report().damage.iter();
    let mut damage: Vec<Damage> = parts
        .map(|part| Damage {
            offset: Some(part.offset),
            bytes: Some(part.bytes),
            torn: part.kind == DamageKind::Torn,
            reason: part.reason.clone(),
        })
        .collect();
    let mut count = 0_u64;
    match store.log_ops(Since::Start) {
        Ok(operations) => {
            for operation in operations {
                match operation {
                    Ok(_) => count += 1,
                    Err(error) => damage.push(Damage::of(&error)),
                }
            }
        }
        Err(error) => damage.push(Damage::of(&error)),
    }
    Check {
        file: facts.active_log.clone(),
        read: format!("{count} operations"),
        damage,
    }
}

/// The store leaves out what is damaged in a sealed log; the numbers that are missing show it.
fn sealed_log(directory: &Path, log: &Sealed, seen: &HashSet<u64>) -> Check {
    let numbers = log.first..log.first.saturating_add(log.operations);
    let present = numbers.filter(|number| seen.contains(number)).count() as u64;
    let mut damage = Vec::new();
    if present < log.operations {
        damage = files::damaged_lines(directory, log, |number| seen.contains(&number));
        if damage.is_empty() {
            let missing = log.operations - present;
            damage.push(Damage::new(
                None,
                format!("{missing} operations are missing"),
            ));
        }
    }
    Check {
        file: log.path.clone(),
        read: format!("{present} operations"),
        damage,
    }
}

/// The operation's number, which is the first part of its cursor.
fn sequence(operation: &Operation) -> Option<u64> {
    let cursor: Cursor = operation.cursor;
    cursor.to_string().split_once('-')?.0.parse().ok()
}

/// Checks each file on its own; `error` is what kept the store from being opened.
fn file_by_file(directory: &Path, facts: &Facts, error: &opslog::Error, checks: &mut Vec<Check>) {
    if !facts.snapshot.is_empty() {
        checks.push(files::snapshot(directory, &facts.snapshot));
    }
    for log in &facts.sealed {
        checks.push(files::log(directory, &log.path, Some(log.bytes)));
    }
    if !facts.active_log.is_empty() {
        checks.push(files::log(directory, &facts.active_log, None));
    }
    let archives = facts.archives.iter();
    checks.extend(archives.map(|path| files::archive(directory, path)));
    let path = error
        .path()
        .map(|path| path.strip_prefix(directory).unwrap_or(path));
    let found = checks
        .iter_mut()
        .find(|check| path == Some(Path::new(&check.file)));
    match found {
        // What the file-by-file check has found itself says more.
        Some(check) if !check.damage.is_empty() => {}
        Some(check) => check.damage.push(Damage::of(error)),
        None => checks.push(Check {
            file: path.map_or_else(String::new, |path| path.display().to_string()),
            read: String::new(),
            damage: vec![Damage::of(error)],
        }),
    }
}

fn report(checks: &[Check], output: &mut Output) -> Result<(), Failure> {
    if !output.is_table() {
        for check in checks {
            let damage: Vec<Value> = check.damage.iter().map(describe).collect();
            let ok = check.damage.iter().all(|damage| damage.torn);
            let line = json!({"file": check.file, "ok": ok, "read": check.read, "damage": damage});
            output.line(&line.to_string())?;
        }
        return Ok(());
    }
    let mut rows = Vec::new();
    for check in checks {
        let row = |offset: String, result: &str| {
            vec![
                check.file.clone(),
                check.read.clone(),
                offset,
                result.to_owned(),
            ]
        };
        if check.damage.is_empty() {
            rows.push(row(String::new(), "ok"));
        }
        for damage in &check.damage {
            let offset = damage
                .offset
                .map(|offset| offset.to_string())
                .unwrap_or_default();
            let kind = if damage.torn {
                "never acknowledged"
            } else {
                "DAMAGED"
            };
            rows.push(row(offset, &format!("{kind}: {}", damage.reason)));
        }
    }
    output.table(&["file", "read", "at byte", "result"], &rows)
}

fn describe(damage: &Damage) -> Value {
    json!({
        "kind": if damage.torn { "torn" } else { "damaged" },
        "offset": damage.offset,
        "bytes": damage.bytes,
        "reason": damage.reason,
    })
}
