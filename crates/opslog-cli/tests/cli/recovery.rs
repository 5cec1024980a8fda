//! `backup` and `restore` beside a writer, and `repair` of what was damaged.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;
use serde_json::{Value, json};

use crate::{
    CONFLICT, CORRUPT, EXPORTED, INVALID_INPUT, LOCKED, LOST, NOT_FOUND, Place, command, content,
    overwrite, remove,
};

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_backup_is_a_store_and_comes_back() {
    let place = Place::with_documents();
    let copy = place.directory.path().join("copy");
    let report = value(&place.output(&["backup", path(&copy)]));
    assert_eq!(report["documents"], 3);
    command()
        .args(["--data", path(&copy), "export"])
        .assert()
        .success()
        .stdout(EXPORTED);
    place.output(&["delete", "a", "b"]);
    place
        .run(&["restore", path(&copy)])
        .assert()
        .code(CONFLICT)
        .stderr(contains("--replace"));
    assert_eq!(place.output(&["count"]), "1\n");
    let report = value(&place.output(&["restore", "--replace", path(&copy)]));
    assert_eq!(place.output(&["export"]), EXPORTED);
    command()
        .args(["--data", report["moved"].as_str().unwrap(), "count"])
        .assert()
        .success()
        .stdout("1\n");
}

#[test]
fn a_backup_counts_the_documents_that_the_copy_has() {
    for agent in [&[][..], &["--agent", "ann"]] {
        let place = Place::with_documents();
        place.output(&[agent, &["archive", ".n == 1", "--segment", "old"]].concat());
        let builder = opslog::Store::<Value>::builder().checkpoint_on_close(false);
        let builder = match agent.last() {
            Some(agent) => builder.agent_id(*agent),
            None => builder,
        };
        let store = builder.open(place.store()).unwrap();
        for n in 0..5 {
            store.set(&format!("new-{n}"), &json!({})).unwrap();
        }
        store.set("b", &json!({})).unwrap();
        store.delete("new-0").unwrap();
        let copy = place.directory.path().join("copy");
        let report = value(&place.output(&["backup", path(&copy)]));
        let facts = (&report["documents"], &report["archived"]);
        assert_eq!(facts, (&json!(6), &json!(1)), "{report}");
        assert_eq!(place.output(&["count"]), "6\n");
        drop(store);
        let report = value(&place.output(&["restore", "--replace", path(&copy)]));
        assert_eq!(report["documents"], 6);
    }
}

#[test]
fn a_backup_goes_nowhere_where_something_is() {
    let place = Place::with_documents();
    let copy = place.directory.path().join("copy");
    place.output(&["backup", path(&copy)]);
    place
        .run(&["backup", path(&copy)])
        .assert()
        .code(CONFLICT)
        .stderr(contains("empty"));
    let inside = place.store().join("copy");
    place
        .run(&["backup", path(&inside)])
        .assert()
        .code(3)
        .stderr(contains("inside the store"));
    let empty = Place::new();
    empty.run(&["backup", path(&copy)]).assert().code(NOT_FOUND);
}

#[test]
fn a_damaged_store_is_not_backed_up_and_leaves_nothing() {
    let place = Place::with_documents();
    let snapshot = place.stored("snapshots").remove(0);
    let mut bytes = content(&snapshot);
    bytes[80] ^= 1;
    overwrite(&snapshot, &bytes);
    let copy = place.directory.path().join("copy");
    place
        .run(&["backup", path(&copy)])
        .assert()
        .code(CORRUPT)
        .stderr(contains("damaged"));
    let empty = place.directory.path().join("other");
    command()
        .args(["--data", path(&copy), "backup", path(&empty)])
        .assert()
        .code(NOT_FOUND);
}

#[test]
fn backups_beside_a_writer_are_whole() {
    let place = Place::new();
    let store = place.open();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                store
                    .batch(|batch| {
                        batch.set(&format!("a{}", n % 50), &json!({"n": n}))?;
                        batch.set(&format!("b{}", n % 50), &json!({"n": n}))
                    })
                    .unwrap();
                if n % 7 == 0 {
                    store.undo().unwrap();
                }
                if n % 31 == 0 {
                    store.compact().unwrap();
                }
                // One checkpoint after the other could overtake each try of a backup for ever.
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        for round in 0..10 {
            let copy = place.directory.path().join(format!("copy{round}"));
            place.output(&["backup", path(&copy)]);
            let output = command()
                .args(["--data", path(&copy), "export"])
                .output()
                .unwrap();
            let documents: std::collections::BTreeMap<String, Value> = output
                .stdout
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| {
                    let line: Value = serde_json::from_slice(line).unwrap();
                    (
                        line["id"].as_str().unwrap().to_owned(),
                        line["data"].clone(),
                    )
                })
                .collect();
            for (id, document) in &documents {
                let twin = id.replace('a', "b");
                assert_eq!(
                    documents.get(&twin),
                    Some(document),
                    "{id} in round {round}"
                );
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_store_whose_manifest_is_lost_is_repaired() {
    let place = Place::with_documents();
    place.output(&["set", "c", "{}"]);
    let manifest = place.store().join("manifest.json");
    overwrite(&manifest, b"{");
    place.run(&["count"]).assert().code(CORRUPT);
    let planned = place.run(&["repair", "--dry-run"]).assert().code(CORRUPT);
    let planned = value(std::str::from_utf8(&planned.get_output().stdout).unwrap());
    assert_eq!(content(&manifest), b"{");
    let report = value(&place.output(&["repair"]));
    assert_eq!(planned["unreadable"], report["unreadable"]);
    assert_eq!(report["lost"], json!([]));
    assert_eq!(report["documents"], 4);
    assert_eq!(place.output(&["count"]), "4\n");
    place.output(&["verify"]);
    assert_eq!(content(&place.store().join("manifest.json.damaged")), b"{");
    let table = place.output(&["--table", "repair"]);
    assert_eq!(table, "nothing to repair\n");
    for arguments in [&["repair"][..], &["repair", "--dry-run"]] {
        let report = value(&place.output(arguments));
        assert_eq!(report["needed"], false);
        // None were counted, and 0 would be wrong.
        assert_eq!(report.get("documents").or(report.get("operations")), None);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test damages a store")]
fn every_command_says_that_the_manifest_is_missing() {
    let place = Place::with_documents();
    std::fs::remove_file(place.store().join("manifest.json")).unwrap();
    let copy = place.directory.path().join("copy");
    for verb in [
        &["count"][..],
        &["get", "a"],
        &["log"],
        &["stats"],
        &["set", "a", "{}"],
        &["--agent", "ann", "set", "a", "{}"],
        &["delete", "a"],
        &["import", "-"],
        &["backup", path(&copy)],
    ] {
        place
            .run(verb)
            .assert()
            .code(CORRUPT)
            .stderr(contains("the manifest is missing").and(contains("opslog repair")));
    }
    let found = place
        .run(&["verify"])
        .assert()
        .code(CORRUPT)
        .stderr(contains("opslog repair"));
    let found = value(std::str::from_utf8(&found.get_output().stdout).unwrap());
    let reason = found["damage"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("the manifest is missing"), "{reason}");
    assert!(!copy.exists());
    place.output(&["repair"]);
    assert_eq!(place.output(&["export"]), EXPORTED);
}

#[test]
fn a_store_of_agents_whose_manifest_is_lost_is_repaired() {
    let place = Place::with_documents();
    place.output(&["--agent", "one", "set", "c", "{}"]);
    let agent = opslog::Store::<Value>::builder()
        .agent_id("two")
        .checkpoint_on_close(false)
        .open(place.store())
        .unwrap();
    agent.set("d", &json!({"n": 1})).unwrap();
    let manifest = place.store().join("manifest.json");
    overwrite(&manifest, b"{");
    place
        .run(&["repair"])
        .assert()
        .failure()
        .stderr(contains("agent 'two' has the store open"));
    drop(agent);
    place.run(&["repair", "--dry-run"]).assert().code(CORRUPT);
    let report = value(&place.output(&["repair"]));
    assert_eq!(report["lost"], json!([]));
    place.output(&["verify"]);
    assert_eq!(place.output(&["count"]), "5\n");
    place.output(&["--agent", "two", "set", "e", "{}"]);
    assert_eq!(place.output(&["get", "d"]), "{\"n\":1}\n");
}

#[test]
fn what_is_lost_is_named() {
    let place = Place::with_documents();
    let store = opslog::Store::<Value>::builder()
        .checkpoint_on_close(false)
        .open(place.store())
        .unwrap();
    for id in ["x", "y", "z"] {
        store.set(id, &json!({"text": id})).unwrap();
    }
    store.close().unwrap();
    let log = place.stored("ops").pop().unwrap();
    let mut bytes = content(&log);
    let at = bytes
        .windows(10)
        .position(|part| part == b"\"text\":\"y\"")
        .unwrap();
    bytes[at] ^= 0xff;
    overwrite(&log, &bytes);
    let table = place
        .run(&["--table", "repair"])
        .assert()
        .code(LOST)
        .stderr(contains(
            "1 document of what was damaged could not be saved",
        ));
    let table = String::from_utf8(table.get_output().stdout.clone()).unwrap();
    assert!(table.contains("ids in it: y"), "{table}");
    assert!(table.contains("lost, or as they were before: y"), "{table}");
    assert!(table.contains(".damaged"), "{table}");
    assert!(table.contains("the store has 5 documents"), "{table}");
    assert_eq!(place.output(&["get", "x"]), "{\"text\":\"x\"}\n");
    assert_eq!(place.output(&["get", "z"]), "{\"text\":\"z\"}\n");
}

#[test]
fn a_segment_that_no_operation_knows_is_counted_and_the_exit_status_tells() {
    let place = Place::with_documents();
    place.output(&["archive", "--where", "n=1", "--segment", "s"]);
    for log in place.stored("ops") {
        remove(&log);
    }
    place.run(&["repair"]).assert().success();
    let segment = place.stored("archive").pop().unwrap();
    remove(&segment);
    let run = place.run(&["repair"]).assert().code(LOST);
    let report = value(std::str::from_utf8(&run.get_output().stdout).unwrap());
    assert_eq!(report["nameless"], 1);
    assert_eq!(report["lost"], json!([]));
    place.output(&["verify"]);
    place.run(&["repair"]).assert().success();
}

#[test]
fn nothing_is_repaired_or_replaced_under_a_writer() {
    let place = Place::with_documents();
    let copy = place.directory.path().join("copy");
    place.output(&["backup", path(&copy)]);
    let _writer = place.open();
    place.run(&["repair"]).assert().code(LOCKED);
    place
        .run(&["restore", "--replace", path(&copy)])
        .assert()
        .code(LOCKED);
}

#[test]
fn an_undo_that_fails_midway_says_what_it_took_back() {
    let place = Place::new();
    for id in ["aaaa", "bbbb"] {
        place.output(&["set", id, "{}"]);
    }
    let log = place.stored("ops").remove(1);
    let mut bytes = content(&log);
    let at = bytes.windows(4).position(|part| part == b"bbbb").unwrap();
    bytes[at] ^= 1;
    overwrite(&log, &bytes);
    place.output(&["set", "cccc", "{}"]);
    place
        .run(&["undo", "-n", "3"])
        .assert()
        .code(CORRUPT)
        .stdout("{\"undone\":1}\n")
        .stderr(contains("hint: 1 of 3 were taken back before"));
    assert_eq!(place.output(&["count"]), "2\n");
    place.run(&["undo"]).assert().code(CORRUPT).stdout("");
}

#[test]
fn a_store_is_not_restored_onto_itself_nor_from_nothing() {
    let place = Place::with_documents();
    for options in [&[][..], &["--replace"]] {
        place
            .run(&["restore", path(&place.store())])
            .args(options)
            .assert()
            .code(INVALID_INPUT)
            .stderr(contains("are the same directory"));
    }
    let nowhere = place.directory.path().join("nowhere");
    place
        .run(&["restore", "--replace", path(&nowhere)])
        .assert()
        .code(NOT_FOUND)
        .stderr(contains("there is no backup in"));
    assert_eq!(place.output(&["export"]), EXPORTED);
    place
        .run(&["import", path(&place.store())])
        .assert()
        .code(INVALID_INPUT)
        .stderr(contains("is a directory"));
}
