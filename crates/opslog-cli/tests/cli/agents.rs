//! Several agents on one store.

use opslog::Store;
use predicates::str::contains;
use serde_json::Value;

use super::{INVALID_INPUT, LOCKED, Place, USAGE};

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
    assert!(error.contains("or write with --agent ID"), "{error}");
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

#[test]
fn an_undo_that_another_agent_has_overtaken_says_that_nothing_changed() {
    let place = Place::new();
    for agent in ["ann", "ben"] {
        let document = format!("{{\"by\":\"{agent}\"}}");
        place.output(&["--agent", agent, "set", "t1", &document]);
    }
    place
        .run(&["--agent", "ann", "undo"])
        .assert()
        .success()
        .stdout("{\"undone\":1,\"unchanged\":[\"t1\"]}\n")
        .stderr("note: nothing changed in 't1': another agent has written it since, or it was archived\n");
    assert_eq!(place.output(&["get", "t1"]), "{\"by\":\"ben\"}\n");
    for verb in [&["log"][..], &["history", "t1"]] {
        let printed = place.output(verb);
        let last: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        assert_eq!(last["takes"], serde_json::json!([0, ""]), "{printed}");
        let others = printed.lines().rev().skip(1);
        assert!(others.into_iter().all(|line| !line.contains("takes")));
    }
    let table = place.output(&["--table", "log"]);
    assert!(table.lines().last().unwrap().contains("no effect"));
    assert!(!table.contains("delete"), "{table}");
    assert_eq!(
        place.output(&["--agent", "ben", "undo"]),
        "{\"undone\":1,\"unchanged\":[]}\n"
    );
}

#[test]
fn an_agent_s_id_that_would_be_ignored_is_refused() {
    let place = Place::with_documents();
    for arguments in [
        &["--agent", "ann", "verify"][..],
        &["verify", "--agent", "ann"],
        &["--agent", "ann", "repair"],
        &["--agent", "ann", "backup", "copy"],
        &["--agent", "ann", "restore", "copy"],
    ] {
        place
            .run(arguments)
            .assert()
            .code(USAGE)
            .stderr(contains("is not done as an agent"));
    }
    let mut verify = place.run(&["verify"]);
    verify.env("OPSLOG_AGENT", "ann").assert().success();
}
