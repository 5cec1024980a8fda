//! The `opslog` command from end to end: what it prints into a pipe, to the byte, and how it exits.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something unexpected happens"
)]

mod agents;
mod changes;
mod documents;
mod full_disk;
mod import;
mod live;
mod log;
mod recovery;
mod selection;
mod terminal;
mod verify;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use opslog::Store;
use serde_json::Value;
use tempfile::TempDir;

/// Exit statuses, as `opslog --help` has them.
const NOT_FOUND: i32 = 1;
const USAGE: i32 = 2;
const INVALID_INPUT: i32 = 3;
const LOCKED: i32 = 4;
const CORRUPT: i32 = 5;
const CONFLICT: i32 = 8;
const LOST: i32 = 10;

/// Three documents as `export` prints them; the numbers would not survive being parsed.
const EXPORTED: &str = concat!(
    r#"{"id":"a","data":{"n":1,"tags":["x","y"],"price":1.50}}"#,
    "\n",
    r#"{"id":"b","data":{"n":2,"size":{"width":3}}}"#,
    "\n",
    r#"{"id":"é \"quoted\"\n","data":{"n":123456789012345678901234567890,"tiny":1e-400}}"#,
    "\n",
);

/// A directory for one test, with a store in it or soon to be.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// A place whose store has [`EXPORTED`].
    fn with_documents() -> Self {
        let place = Self::new();
        place
            .run(&["import", "-"])
            .write_stdin(EXPORTED)
            .assert()
            .success();
        place
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Writes a file of the user.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(name);
        overwrite(&path, content.as_ref());
        path.to_str().unwrap().to_owned()
    }

    /// The command, to be run on the store.
    fn run(&self, arguments: &[&str]) -> Command {
        let mut command = command();
        command.arg("--data").arg(self.store()).args(arguments);
        command
    }

    /// What the command prints; it must succeed and complain of nothing.
    fn output(&self, arguments: &[&str]) -> String {
        let assert = self.run(arguments).assert().success().stderr("");
        String::from_utf8(assert.get_output().stdout.clone()).unwrap()
    }

    /// The one file in the store whose path matches.
    fn stored(&self, folder: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.store().join(folder)).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn open(&self) -> Store<Value> {
        Store::open(self.store()).unwrap()
    }
}

fn command() -> Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("opslog");
    command
        .env_remove("OPSLOG_DIR")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE");
    command
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test prepares and damages files"
)]
fn overwrite(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test loses files")]
fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
fn content(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
