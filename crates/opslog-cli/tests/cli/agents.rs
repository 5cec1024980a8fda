//! Several agents on one store.

use opslog::Store;
use serde_json::Value;

use super::{INVALID_INPUT, LOCKED, Place};

#[test]
fn agents_write_beside_each_other_and_are_listed() {
    let place = Place::new();
    let ann: Store = Store::builder()
        .agent_id("ann")
        .open(place.store())
        .unwrap();
    ann.set("a", &serde_json::json!({"n": 1})).unwrap();
    place
        .run(&["--agent", "ben", "set", "b", r#"{"n":2}"#])
        .assert()
        .success();
    let assert = place.run(&["agents"]).assert().success();
    let output = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    let agents: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&agents[0]["agent"], &agents[1]["agent"]),
        (&"ann".into(), &"ben".into())
    );
    assert_eq!(agents[0]["unfoldedOps"], 1);
    ann.refresh().unwrap();
    assert!(ann.has("b").unwrap());
    place
        .run(&["list"])
        .assert()
        .success()
        .stdout("{\"id\":\"a\",\"data\":{\"n\":1}}\n{\"id\":\"b\",\"data\":{\"n\":2}}\n");
    place.run(&["verify"]).assert().success();
    ann.close().unwrap();
    place.run(&["--table", "agents"]).assert().success();
}

#[test]
fn a_single_writer_and_the_same_agent_are_told_who_is_in_the_way() {
    let place = Place::new();
    let ann: Store = Store::builder()
        .agent_id("ann")
        .open(place.store())
        .unwrap();
    let set = ["set", "a", "{}"];
    let assert = place.run(&set).assert().code(LOCKED);
    let error = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(error.contains("agents"), "{error}");
    let assert = place
        .run(&["--agent", "ann", "set", "a", "{}"])
        .assert()
        .code(LOCKED);
    let error = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(error.contains("agent 'ann' is in use"), "{error}");
    place
        .run(&["--agent", "no good", "set", "a", "{}"])
        .assert()
        .code(INVALID_INPUT);
    drop(ann);
    place.run(&set).assert().success();
}
