//! The files of a store, looked at one by one: what `verify` does where the store itself cannot.

use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::{Check, Damage};
use crate::failure::{Failure, Status};

const MANIFEST: &str = "manifest.json";
/// How many damaged lines of one file are listed.
const LISTED_MAX: usize = 100;

/// What the manifest names, as far as it can be read.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) snapshot: String,
    pub(super) active_log: String,
    pub(super) sealed: Vec<Sealed>,
    pub(super) archives: Vec<String>,
}

/// A replaced log.
pub(super) struct Sealed {
    pub(super) path: String,
    /// Only this many bytes of it count.
    pub(super) bytes: u64,
    /// The number of its first operation.
    pub(super) first: u64,
    pub(super) operations: u64,
}

/// The manifest's bytes.
pub(super) fn manifest(directory: &Path) -> Result<Vec<u8>, Failure> {
    let path = directory.join(MANIFEST);
    #[expect(
        clippy::disallowed_methods,
        reason = "what is checked here is the file itself"
    )]
    let bytes = std::fs::read(&path);
    bytes.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::new(
            Status::NotFound,
            format!("there is no store in {}", directory.display()),
        ),
        _ => Failure::reading(&path.display().to_string(), &error),
    })
}

impl Facts {
    /// What the manifest names, and what is wrong with it at first sight; opening the store checks it in full.
    pub(super) fn read(bytes: &[u8]) -> (Self, Check) {
        let mut check = Check {
            file: MANIFEST.to_owned(),
            read: format!("{} bytes", bytes.len()),
            damage: Vec::new(),
        };
        let value: Value = match serde_json::from_slice(bytes) {
            Ok(value) => value,
            Err(error) => {
                check.damage.push(Damage::new(None, error.to_string()));
                return (Self::default(), check);
            }
        };
        if let Err(error) = opslog::validate_manifest(&value) {
            check.damage.push(Damage::of(&error));
        }
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned();
        let sealed = list(value.pointer("/opslog/sealed")).unwrap_or_default();
        let archives = list(value.get("archiveSegments")).unwrap_or_default();
        let facts = Self {
            snapshot: text("currentSnapshot").to_owned(),
            active_log: text("activeOps").to_owned(),
            sealed: sealed.iter().filter_map(Sealed::read).collect(),
            archives: archives
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        };
        (facts, check)
    }
}

impl Sealed {
    fn read(value: &Value) -> Option<Self> {
        let number = |field: &str| value.get(field).and_then(Value::as_u64);
        Some(Self {
            path: value.get("path")?.as_str()?.to_owned(),
            bytes: number("bytes")?,
            first: number("seq")?,
            operations: number("ops")?,
        })
    }
}

/// The path of a store's file, unless it leaves the store.
fn inside(directory: &Path, name: &str) -> Result<PathBuf, Damage> {
    let plain = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if plain {
        Ok(directory.join(name))
    } else {
        Err(Damage::new(None, "its path leaves the store"))
    }
}

/// Reads a snapshot line by line.
pub(super) fn snapshot(directory: &Path, name: &str) -> Check {
    let mut count = 0_u64;
    let mut damage = Vec::new();
    match inside(directory, name) {
        Err(outside) => damage.push(outside),
        Ok(path) => match opslog::stream_snapshot_file(path) {
            Err(error) => damage.push(Damage::of(&error)),
            Ok(documents) => {
                for document in documents {
                    match document {
                        Ok(_) => count += 1,
                        Err(error) => damage.push(Damage::of(&error)),
                    }
                }
            }
        },
    }
    Check {
        file: name.to_owned(),
        read: format!("{count} documents"),
        damage,
    }
}

/// Reads an archive segment.
pub(super) fn archive(directory: &Path, name: &str) -> Check {
    let mut documents = 0;
    let damage = match read(directory, name, None) {
        Err(damage) => Some(damage),
        Ok(bytes) => match serde_json::from_slice::<Value>(&bytes) {
            Err(error) => Some(Damage::new(None, error.to_string())),
            Ok(value) => {
                let records = value.get("records").and_then(Value::as_object);
                documents = records.map_or(0, serde_json::Map::len);
                let error = opslog::validate_archive_segment(&value).err();
                error.as_ref().map(Damage::of)
            }
        },
    };
    Check {
        file: name.to_owned(),
        read: format!("{documents} documents"),
        damage: damage.into_iter().collect(),
    }
}

/// Reads a log line by line: its first `limit` bytes, where only those count.
pub(super) fn log(directory: &Path, name: &str, limit: Option<u64>) -> Check {
    let mut count = 0_u64;
    let damage = bad_lines(directory, name, limit, |operation| {
        let result = opslog::validate_op(operation);
        count += u64::from(result.is_ok());
        result.map_err(|error| error.message().to_owned())
    });
    Check {
        file: name.to_owned(),
        read: format!("{count} operations"),
        damage,
    }
}

/// The lines of a sealed log that are no operations, or whose number the store has not `seen`.
pub(super) fn damaged_lines(
    directory: &Path,
    log: &Sealed,
    seen: impl Fn(u64) -> bool,
) -> Vec<Damage> {
    bad_lines(directory, &log.path, Some(log.bytes), |operation| {
        opslog::validate_op(operation).map_err(|error| error.message().to_owned())?;
        match operation.get("seq").and_then(Value::as_u64) {
            Some(number) if !seen(number) => Err(format!(
                "operation {number} is not what was written (its checksum, or its batch)"
            )),
            _ => Ok(()),
        }
    })
}

fn bad_lines(
    directory: &Path,
    name: &str,
    limit: Option<u64>,
    mut judge: impl FnMut(&Value) -> Result<(), String>,
) -> Vec<Damage> {
    let bytes = match read(directory, name, limit) {
        Ok(bytes) => bytes,
        Err(damage) => return vec![damage],
    };
    let mut damage = Vec::new();
    let mut offset = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !line.trim_ascii().is_empty() {
            let result = serde_json::from_slice::<Value>(line)
                .map_err(|error| error.to_string())
                .and_then(|operation| judge(&operation));
            if let Err(reason) = result {
                damage.push(Damage::new(Some(offset), reason));
            }
        }
        offset += line.len() as u64;
        if damage.len() == LISTED_MAX {
            break;
        }
    }
    damage
}

/// The content of a store's file: its first `limit` bytes, where only those count.
fn read(directory: &Path, name: &str, limit: Option<u64>) -> Result<Vec<u8>, Damage> {
    let path = inside(directory, name)?;
    let failed = |error: std::io::Error| Damage::new(None, format!("cannot be read: {error}"));
    #[expect(
        clippy::disallowed_methods,
        reason = "what is checked here is the file itself"
    )]
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut reader = file.take(limit.unwrap_or(u64::MAX));
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
