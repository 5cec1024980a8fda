//! A session on real data, in a directory of its own: import, query, change, undo, history, checkpoint, reopen.
//!
//! `cargo run --release --example tour`

use std::error::Error;
use std::io::{BufRead, BufReader, Write};

use opslog::{Since, Store};
use serde::{Deserialize, Serialize};

/// A Debian package, as far as this session looks at it.
#[derive(Serialize, Deserialize, Debug, Clone)]
#[expect(
    clippy::struct_field_names,
    reason = "the field has its name in the data"
)]
struct Package {
    package: String,
    version: String,
    section: String,
    installed_kib: u64,
    #[serde(default)]
    depends: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("opslog-tour-{}", std::process::id()));
    let mut out = std::io::stdout().lock();
    writeln!(out, "store: {}\n", directory.display())?;

    // A store is a directory. Writes are durable when they return.
    let store: Store<Package> = Store::open(&directory)?;

    // Import as one batch: all of it or nothing, one sync.
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/packages.jsonl");
    #[expect(
        clippy::disallowed_methods,
        reason = "the sample is the example's own file"
    )]
    let lines = BufReader::new(std::fs::File::open(sample)?).lines();
    let count = store.batch(|batch| {
        for line in lines {
            let line = line.map_err(|error| {
                opslog::Error::new(opslog::ErrorKind::Unavailable, error.to_string())
            })?;
            let package: Package = serde_json::from_str(&line).map_err(|error| {
                opslog::Error::new(opslog::ErrorKind::InvalidInput, error.to_string())
            })?;
            batch.set(&package.package, &package)?;
        }
        batch.count()
    })?;
    writeln!(out, "imported {count} packages")?;

    // Query: a closure over decoded documents, in insertion order.
    let mut large = store.filter(|package, _id| package.installed_kib > 20_000)?;
    large.sort_by_key(|package| std::cmp::Reverse(package.installed_kib));
    writeln!(out, "\nlarger than 20 MB: {}", large.len())?;
    for package in large.iter().take(5) {
        writeln!(
            out,
            "  {:24} {:>8} KiB  {}",
            package.package, package.installed_kib, package.section
        )?;
    }

    // Change, change again, take one back.
    let id = large
        .first()
        .map_or_else(String::new, |package| package.package.clone());
    let mut package = (*store.get(&id)?.ok_or("the package was imported")?).clone();
    package.version = "9.9-1".into();
    store.set(&id, &package)?;
    store.delete(&id)?;
    writeln!(out, "\n{id} deleted: {}", store.get(&id)?.is_none())?;
    store.undo()?;
    let version = store.get(&id)?.map(|package| package.version.clone());
    writeln!(
        out,
        "after undo its version is {}",
        version.unwrap_or_default()
    )?;

    // A checkpoint writes a snapshot and starts a new log; history reaches back across it.
    store.compact()?;
    package.version = "10.0-1".into();
    store.set(&id, &package)?;
    writeln!(out, "\nhistory of {id}:")?;
    for operation in store.history(&id)? {
        let version = match &operation.data {
            Some(data) => data.decode::<Package>()?.version,
            None => "deleted".to_owned(),
        };
        writeln!(out, "  {}  {:?} {version}", operation.ts, operation.kind)?;
    }
    store.close()?;

    // Everything is there again, undo and history included.
    let store: Store<Package> = Store::open(&directory)?;
    writeln!(
        out,
        "\nreopened: {} packages, {} operations kept",
        store.count()?,
        store.ops(Since::Start)?.len()
    )?;
    let stats = store.stats()?;
    writeln!(
        out,
        "snapshot {} bytes, log {} bytes, history {} bytes",
        stats.snapshot_bytes, stats.log_bytes, stats.history_bytes
    )?;
    store.close()?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
