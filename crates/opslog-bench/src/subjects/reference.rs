//! The reference, the npm package `@backloghq/opslog`, in Node: it times itself, in `reference/run.mjs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// Where the script and its `package.json` are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reference")
}

/// Installs the package, of exactly the version in `package-lock.json`, where it is not yet.
pub(crate) fn install() -> Result<()> {
    if directory().join("node_modules/@backloghq/opslog").exists() {
        return Ok(());
    }
    let status = Command::new("npm")
        .args(["ci", "--silent", "--no-audit", "--no-fund"])
        .current_dir(directory())
        .status()
        .map_err(|error| {
            format!("npm cannot be run ({error}); install Node, or leave the reference out: --peers sqlite,redb,fjall,lmdb")
        })?;
    if status.success() {
        Ok(())
    } else {
        Err("npm ci failed; leave the reference out with --peers sqlite,redb,fjall,lmdb".into())
    }
}

/// The process that does the reference's part of a case, but for the case.
pub(crate) fn command() -> Command {
    let mut command = Command::new("node");
    command
        .args(["--expose-gc", "--max-old-space-size=8192"])
        .arg(directory().join("run.mjs"));
    command
}
