//! Every workload runs, once and tiny: what CI does with the benchmark.

#![allow(missing_docs)]

use std::process::Command;

use serde_json::Value;

#[test]
fn every_workload_runs_and_all_rust_subjects_do_equal_work() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    let output = Command::new(env!("CARGO_BIN_EXE_opslog-bench"))
        .args(["--peers", "sqlite,redb,fjall,lmdb", "--json"])
        .args(["--size", "200", "--rounds", "1", "--dir", directory])
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).expect(&messages);
    let workloads = report["workloads"].as_array().unwrap();
    assert_eq!(workloads.len(), 15);
    for workload in workloads {
        let name = &workload["workload"];
        assert_eq!(workload["failures"], Value::Array(Vec::new()), "{name}");
        for figure in workload["figures"].as_array().unwrap() {
            let opslog = &figure["subjects"][0];
            assert_eq!(opslog["subject"], "opslog");
            assert!(opslog["median"].is_number(), "{name}: {figure}");
        }
    }
    assert!(output.status.success(), "{messages}");
}

#[test]
fn an_unknown_peer_is_refused_with_the_known_ones() {
    let output = Command::new(env!("CARGO_BIN_EXE_opslog-bench"))
        .args(["--peers", "oracle"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("sqlite, redb"));
}
