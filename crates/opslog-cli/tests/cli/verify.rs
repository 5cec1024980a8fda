//! `verify` on stores that are whole, and on ones with a byte changed.

use std::path::Path;

use opslog::Store;
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;
use serde_json::{Value, json};

use crate::{CORRUPT, Place, content, overwrite};

/// A store with a snapshot, a sealed log, an active log of three operations, and an archive segment.
fn rich() -> Place {
    let place = Place::new();
    let store: Store<Value> = Store::builder()
        .checkpoint_on_close(false)
        .open(place.store())
        .unwrap();
    for id in ["a", "b", "c", "d"] {
        store
            .set(id, &json!({"text": format!("document {id}")}))
            .unwrap();
    }
    store.archive(|_, id| id == "d", Some("old")).unwrap();
    for id in ["e", "f", "g"] {
        store
            .set(id, &json!({"text": format!("document {id}")}))
            .unwrap();
    }
    store.close().unwrap();
    place
}

/// Changes one letter of `text` in the file; returns where the line with it begins.
fn damage(path: &Path, text: &str) -> usize {
    let mut bytes = content(path);
    let at = bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes())
        .unwrap();
    bytes[at] ^= 1;
    overwrite(path, &bytes);
    let before = &bytes[..at];
    before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1)
}

#[expect(clippy::disallowed_methods, reason = "a test damages a store")]
fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

/// What `verify` says of the files that are not ok; it must exit so.
fn found(place: &Place) -> Vec<Value> {
    let assert = place
        .run(&["verify"])
        .assert()
        .code(CORRUPT)
        .stderr(contains("of the store"));
    let text = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["state"] == "damaged").collect()
}

#[test]
fn a_whole_store_is_ok_in_every_file() {
    let place = rich();
    let text = place.output(&["verify"]);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // Manifest, snapshot, sealed log, active log, archive segment.
    let items: Vec<_> = lines.iter().map(|line| line["items"].as_u64()).collect();
    assert_eq!(items, [0, 3, 4, 3, 1].map(Some));
    for line in lines {
        let path = place.store().join(line["path"].as_str().unwrap());
        assert_eq!(line["bytes"], content(&path).len());
        assert_eq!(line["state"], "ok");
        assert_eq!(line["damage"], json!([]));
    }
}

#[test]
fn damage_in_the_active_log_is_located() {
    let place = rich();
    let offset = damage(&place.stored("ops")[1], "document f");
    let found = found(&place);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["damage"][0]["offset"], offset);
    assert!(found[0]["path"].as_str().unwrap().starts_with("ops/ops-"));
    place
        .run(&["count"])
        .assert()
        .success()
        .stderr(contains("are damaged and were left out"));
}

#[test]
fn damage_in_a_sealed_log_is_located() {
    let place = rich();
    let offset = damage(&place.stored("ops")[0], "document b");
    let found = found(&place);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["damage"][0]["offset"], offset);
}

#[test]
fn damage_in_the_snapshot_is_found_and_reading_is_refused() {
    let place = rich();
    damage(&place.stored("snapshots")[0], "document b");
    let found = found(&place);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]["path"]
            .as_str()
            .unwrap()
            .starts_with("snapshots/snap-")
    );
    assert!(
        found[0]["damage"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("checksum")
    );
    place
        .run(&["export"])
        .assert()
        .code(CORRUPT)
        .stdout("")
        .stderr(contains("opslog verify"));
}

#[test]
fn a_broken_line_of_the_snapshot_is_located() {
    let place = rich();
    let offset = damage(&place.stored("snapshots")[0], "{\"id\":\"b\"");
    assert_eq!(found(&place)[0]["damage"][0]["offset"], offset);
}

#[test]
fn damage_in_an_archive_segment_is_found() {
    let place = rich();
    damage(&place.stored("archive")[0], "document d");
    let found = found(&place);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["path"], "archive/archive-old.json");
    place.run(&["segments", "old"]).assert().code(CORRUPT);
}

#[test]
fn one_damage_does_not_hide_another() {
    let place = rich();
    damage(&place.stored("snapshots")[0], "document b");
    damage(&place.stored("ops")[0], "\"op\":\"set\"");
    damage(&place.stored("archive")[0], "\"records\"");
    assert_eq!(found(&place).len(), 3);
}

#[test]
fn a_missing_file_is_found() {
    let place = rich();
    remove(&place.stored("snapshots")[0]);
    let found = found(&place);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_damaged_manifest_is_found() {
    let place = rich();
    damage(&place.store().join("manifest.json"), "\"generation\"");
    place
        .run(&["verify"])
        .assert()
        .code(CORRUPT)
        .stdout(contains("manifest.json").and(contains("\"state\":\"damaged\"")));
}

#[test]
fn a_torn_last_write_is_no_damage() {
    let place = rich();
    let log = place.stored("ops").remove(1);
    let mut bytes = content(&log);
    bytes.truncate(bytes.len() - 20);
    overwrite(&log, &bytes);
    let text = place.output(&["verify"]);
    assert!(text.contains("\"kind\":\"torn\""), "{text}");
    assert!(text.contains("\"state\":\"torn\""), "{text}");
    let table = place.output(&["--table", "verify"]);
    assert!(
        table.contains("unfinished write, cut off by the next writer"),
        "{table}"
    );
    for verb in [&["count"][..], &["set", "g", "{}"]] {
        place.run(verb).assert().success().stderr(
            contains("are an unfinished write and were left out, as is normal after a crash")
                .and(contains("warning").not()),
        );
    }
    // It was cut off, so there is nothing more to say.
    place.output(&["count"]);
}

#[test]
fn a_table_names_each_damaged_place() {
    let place = rich();
    let log = place.stored("ops").remove(0);
    let first = damage(&log, "document b");
    let second = damage(&log, "document d");
    let assert = place.run(&["--table", "verify"]).assert().code(CORRUPT);
    let path = format!("ops/{}", log.file_name().unwrap().display());
    assert
        .stdout(
            contains(format!("{path} at byte {first}, "))
                .and(contains(format!("{path} at byte {second}, "))),
        )
        .stderr(contains("error: 1 file of the store is damaged"));
}
