//! System calls of the `opslog` command that fail: `strace` lets the k-th call of a kind answer an error.
//!
//! The command must then do all that it was asked for and exit with 0, or say what is wrong and exit otherwise; the store holds all of the change or nothing of it, and is sound.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::{Outcome, say};

/// Kinds of calls, and which of each thread's calls fail, one a cell. The first `openat`s are those of the dynamic loader.
const CALLS: [(&str, &[u32]); 8] = [
    ("pwrite64", &[1, 2, 3, 4, 5, 6, 7, 8]),
    ("write", &[1, 2]),
    ("fdatasync", &[1, 2, 3]),
    ("fsync", &[1, 2, 3, 4, 5, 6, 8, 10]),
    ("rename", &[1, 2]),
    ("linkat", &[1, 2]),
    ("ftruncate", &[1, 2]),
    (
        "openat",
        &[1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 22, 25, 28, 31, 34],
    ),
];
const ERRORS: [&str; 3] = ["EIO", "ENOSPC", "EINTR"];
const LINES: &str = "{\"id\":\"a\",\"data\":{\"n\":2}}\n{\"id\":\"b\",\"data\":{\"n\":2}}\n";

pub(crate) fn run() -> Outcome {
    let command = std::env::current_exe()?.with_file_name("opslog");
    let has_strace = Command::new("strace")
        .args([
            "-o",
            "/dev/null",
            "-e",
            "inject=fsync:error=EIO:when=1",
            "true",
        ])
        .output();
    if !has_strace.is_ok_and(|output| output.status.success()) {
        say("SKIPPED: failing system calls were NOT tested, since strace does not work here");
        return Ok(());
    }
    let place = tempfile::tempdir()?;
    let prepared = place.path().join("prepared");
    must(opslog(&command, &prepared, &["set", "a", r#"{"n":1}"#]).output()?)?;
    must(opslog(&command, &prepared, &["set", "kept", r#"{"n":1}"#]).output()?)?;
    let input = place.path().join("input.jsonl");
    must(
        Command::new("sh")
            .args(["-c", "printf '%s' \"$1\" > \"$2\"", "sh", LINES])
            .arg(&input)
            .output()?,
    )?;
    let before = export(&command, &prepared)?;
    let (mut cells, mut failed) = (0, 0);
    for (call, counts) in CALLS {
        for error in ERRORS {
            for count in counts {
                let inject = format!("inject={call}:error={error}:when={count}");
                let done = cell(&command, &prepared, place.path(), &input, &inject, &before)
                    .map_err(|fault| format!("{inject}: {fault}"))?;
                cells += 1;
                failed += u32::from(!done);
            }
        }
    }
    say(&format!(
        "calls: {cells} cells of failing system calls, {failed} of the commands said so"
    ));
    Ok(())
}

/// Runs an import with that failure on a copy of the store; answers whether the command succeeded.
fn cell(
    command: &Path,
    prepared: &Path,
    place: &Path,
    input: &Path,
    inject: &str,
    before: &str,
) -> Outcome<bool> {
    let directory = place.join("store");
    must(Command::new("rm").arg("-rf").arg(&directory).output()?)?;
    must(
        Command::new("cp")
            .arg("-r")
            .arg(prepared)
            .arg(&directory)
            .output()?,
    )?;
    let output = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e", inject])
        .arg(command)
        .arg("--data")
        .arg(&directory)
        .arg("import")
        .arg(input)
        .stdin(Stdio::null())
        .output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains("panicked") || output.status.code().is_none() {
        return Err(format!("the command ended with {}: {complaint}", output.status).into());
    }
    if !output.status.success() && complaint.trim().is_empty() {
        return Err("the command failed without a word".into());
    }
    must(opslog(command, &directory, &["verify"]).output()?)?;
    let found = export(command, &directory)?;
    let after = "{\"id\":\"a\",\"data\":{\"n\":2}}\n{\"id\":\"kept\",\"data\":{\"n\":1}}\n{\"id\":\"b\",\"data\":{\"n\":2}}\n";
    let right = found == after || !output.status.success() && found == before;
    if !right {
        return Err(format!(
            "the command ended with {}, and the store has {found}; {complaint}",
            output.status
        )
        .into());
    }
    // The lock is free, and the store goes on.
    must(opslog(command, &directory, &["set", "more", "{}"]).output()?)?;
    Ok(output.status.success())
}

fn opslog(command: &Path, directory: &Path, arguments: &[&str]) -> Command {
    let mut opslog = Command::new(command);
    opslog
        .arg("--data")
        .arg(PathBuf::from(directory))
        .args(arguments)
        .stdin(Stdio::null());
    opslog
}

fn export(command: &Path, directory: &Path) -> Outcome<String> {
    Ok(String::from_utf8(
        must(opslog(command, directory, &["export"]).output()?)?.stdout,
    )?)
}

fn must(output: Output) -> Outcome<Output> {
    if output.status.success() {
        return Ok(output);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{}: {complaint}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    )
    .into())
}
