//! Beside another process that writes (here, the test): reading, following, and being refused.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use predicates::str::contains;
use serde_json::{Value, json};

use crate::{LOCKED, Place};

/// How long to wait for another process before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running command, ended with the test.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_opslog"))
            .arg("--data")
            .arg(place.store())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines() {
                let Ok(()) = sender.send(line.unwrap()) else {
                    return;
                };
            }
        });
        Self { child, lines }
    }

    fn operation(&self) -> Value {
        let line = self
            .lines
            .recv_timeout(PATIENCE)
            .expect("the command prints a line");
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn reading_works_beside_a_writer_and_sees_what_it_wrote() {
    let place = Place::new();
    let store = place.open();
    store.set("a", &json!({"n": 1})).unwrap();
    assert_eq!(
        place.output(&["export"]),
        "{\"id\":\"a\",\"data\":{\"n\":1}}\n"
    );
    assert_eq!(place.output(&["count", ".n == 1"]), "1\n");
    assert_eq!(place.output(&["history", "a"]).lines().count(), 1);
    place.output(&["verify"]);
    place.output(&["stats"]);
    store.set("a", &json!({"n": 2})).unwrap();
    assert_eq!(place.output(&["get", "a"]), "{\"n\":2}\n");
}

#[test]
fn writing_beside_a_writer_is_refused() {
    let place = Place::new();
    let store = place.open();
    store.set("a", &json!({"n": 1})).unwrap();
    for verb in [
        &["set", "b", "{}"][..],
        &["import", "-"],
        &["delete", "a"],
        &["undo"],
        &["compact"],
        &["archive", "--all"],
    ] {
        place
            .run(verb)
            .assert()
            .code(LOCKED)
            .stderr(contains("hint: wait"));
    }
    assert_eq!(store.count().unwrap(), 1);
}

#[test]
fn follow_shows_each_operation_of_a_live_writer_once() {
    let place = Place::new();
    let store = place.open();
    store.set("before", &json!({"n": 0})).unwrap();
    let running = Running::start(&place, &["log", "--follow"]);
    assert_eq!(running.operation()["id"], "before");
    for number in 0..5 {
        store
            .set(&format!("id-{number}"), &json!({"n": number}))
            .unwrap();
        let operation = running.operation();
        assert_eq!(operation["id"], format!("id-{number}"));
        assert_eq!(operation["data"]["n"], number);
    }
    store.compact().unwrap();
    store.delete("before").unwrap();
    assert_eq!(running.operation()["op"], "delete");
    assert!(running.lines.try_recv().is_err());
}

#[test]
fn follow_begins_with_the_newest_operations_or_behind_a_cursor() {
    let place = Place::new();
    let store = place.open();
    for number in 0..15 {
        store.set(&format!("id-{number}"), &json!({})).unwrap();
    }
    let cursor = store.ops(opslog::Since::Start).unwrap()[13]
        .cursor
        .to_string();
    let newest = Running::start(&place, &["log", "-f"]);
    assert_eq!(newest.operation()["id"], "id-5");
    let behind = Running::start(&place, &["log", "-f", "--since", &cursor]);
    assert_eq!(behind.operation()["id"], "id-14");
}

#[test]
fn a_closed_pipe_ends_the_command_quietly() {
    let place = Place::new();
    let store = place.open();
    store
        .batch(|batch| {
            for number in 0..5_000 {
                batch.set(&format!("id-{number}"), &json!({"text": "x".repeat(100)}))?;
            }
            Ok(())
        })
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_opslog"))
        .arg("--data")
        .arg(place.store())
        .arg("export")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut beginning = [0; 10];
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut beginning).unwrap();
    drop(output);
    let result = child.wait_with_output().unwrap();
    assert!(result.status.success(), "{result:?}");
    assert!(result.stderr.is_empty(), "{result:?}");
}

#[test]
fn follow_ends_when_its_reader_has_gone() {
    let place = Place::new();
    let store = place.open();
    store.set("a", &json!({"n": 1})).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_opslog"))
        .arg("--data")
        .arg(place.store())
        .args(["log", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    drop(output);
    // If it went on though nobody reads what it prints, this would not end.
    assert!(child.wait().unwrap().success());
}
