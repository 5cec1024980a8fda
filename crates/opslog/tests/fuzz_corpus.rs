//! The inputs that the fuzzer begins with, and those that it once found, hold what the fuzz targets claim.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something unexpected happens"
)]

use std::path::Path;

use opslog::fuzz;

#[expect(clippy::disallowed_methods, reason = "a test reads its inputs")]
fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        check(&bytes);
        // Each input cut short is one more.
        for end in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            check(&bytes[..end]);
        }
        inputs += 1;
    }
    assert!(inputs > 0, "{target} has no inputs");
}

#[test]
fn op_lines() {
    run("op_line", fuzz::op_line);
}

#[test]
fn logs() {
    run("log", fuzz::log);
}

#[test]
fn snapshots() {
    run("snapshot", fuzz::snapshot);
}

#[test]
fn manifests() {
    run("manifest", fuzz::manifest);
}

#[test]
fn archive_segments() {
    run("archive", fuzz::archive);
}

#[test]
fn deltas() {
    run("delta", fuzz::delta);
}

#[test]
fn directories() {
    run("directory", fuzz::directory);
}
