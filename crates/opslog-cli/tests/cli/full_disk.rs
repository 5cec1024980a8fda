//! A change that is stored while the checkpoint at the end of the command is not: a limit on the size of files stands in for the full disk.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::Place;

/// Blocks of 512 bytes: enough for the log of a small change, and not for the snapshot.
const BLOCKS: u32 = 512;

/// A store whose snapshot has 1 MB and whose log is empty.
fn large() -> Place {
    let place = Place::new();
    let store = place.open();
    store
        .batch(|batch| {
            for number in 0..100 {
                batch.set(
                    &format!("id-{number}"),
                    &json!({"text": "x".repeat(10_000)}),
                )?;
            }
            Ok(())
        })
        .unwrap();
    store.close().unwrap();
    place
}

/// Runs the command where no file can grow beyond [`BLOCKS`].
fn run_limited(place: &Place, arguments: &[&str], input: &str) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$0\" \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_opslog"), "--data"])
        .arg(place.store())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn a_change_that_is_stored_is_no_failure_though_the_checkpoint_is() {
    let import = "{\"id\":\"c\",\"data\":{}}\n";
    for (arguments, input, outcome, count) in [
        (
            &["set", "a", "{}"][..],
            "",
            json!({"id": "a", "outcome": "created"}),
            "101\n",
        ),
        (&["delete", "id-1"], "", json!({"deleted": 1}), "99\n"),
        (
            &["import", "-"],
            import,
            json!({"imported": 1, "updated": 0, "skipped": 0, "commits": 1}),
            "101\n",
        ),
    ] {
        let place = large();
        let output = run_limited(&place, arguments, input);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        assert!(
            stderr.contains("warning: the change is stored"),
            "{arguments:?}: {stderr}"
        );
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed, outcome);
        assert_eq!(place.output(&["count"]), count);
        place.output(&["verify"]);
    }
}

#[test]
fn an_undo_that_is_stored_is_no_failure_though_the_checkpoint_is() {
    let place = large();
    for id in ["a", "b"] {
        let output = run_limited(&place, &["set", id, "{}"], "");
        assert!(output.status.success());
    }
    let output = run_limited(&place, &["undo"], "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"{\"undone\":1}\n");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("nothing is lost")
    );
    assert_eq!(place.output(&["count"]), "101\n");
}

#[test]
fn an_import_that_fails_halfway_says_how_much_is_in() {
    let place = large();
    let text = "x".repeat(10_000);
    let lines: Vec<String> = (0..100)
        .map(|number| format!("{{\"id\":\"new-{number}\",\"data\":{{\"text\":\"{text}\"}}}}\n"))
        .collect();
    // A pipe would go through a temporary file, which has the limit too.
    let file = place.file("documents.jsonl", lines.concat());
    let output = run_limited(&place, &["import", "--batch-size", "3", &file], "");
    assert_eq!(output.status.code(), Some(6));
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).unwrap();
    let (_, hint) = stderr.split_once("hint: ").unwrap();
    let (documents, hint) = hint
        .split_once(" documents are in; 'opslog undo -n ")
        .unwrap();
    let (commits, _) = hint.split_once("' takes them back").unwrap();
    let documents: usize = documents.parse().unwrap();
    assert_eq!(documents, commits.parse::<usize>().unwrap() * 3);
    assert_eq!(place.output(&["count"]), format!("{}\n", 100 + documents));
    place.output(&["undo", "-n", commits]);
    assert_eq!(place.output(&["count"]), "100\n");
}
