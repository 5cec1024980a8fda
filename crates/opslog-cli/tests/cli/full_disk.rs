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
