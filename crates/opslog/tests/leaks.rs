//! Stores that are opened and closed again and again leave nothing behind. Alone in its process, whose files and threads it counts.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something unexpected happens"
)]

use opslog::{Store, WriteMode};
use serde_json::{Value, json};

/// Open files and threads of this process.
fn held() -> (usize, usize) {
    let count = |path| std::fs::read_dir(path).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

#[cfg_attr(debug_assertions, ignore = "takes minutes where it is not optimised")]
#[test]
fn ten_thousand_opens_and_closes_leave_no_file_and_no_thread() {
    let directory = tempfile::tempdir().unwrap();
    let round = |n: u64| {
        let mut builder = Store::<Value>::builder()
            .os_buffered(true)
            .read_only(n % 3 == 1);
        if n.is_multiple_of(2) {
            builder = builder.write_mode(WriteMode::group());
        }
        let store = builder.open(directory.path()).unwrap();
        if n % 3 != 1 {
            store.set("n", &json!({"n": n})).unwrap();
        }
        match n % 3 {
            0 => store.close().unwrap(),
            _ => drop(store),
        }
    };
    (0..10).for_each(round);
    let before = held();
    (10..10_000).for_each(round);
    assert_eq!(held(), before);
    let files = |folder: &str| {
        std::fs::read_dir(directory.path().join(folder))
            .unwrap()
            .count()
    };
    assert_eq!(files("snapshots"), 1);
    assert!(files("ops") < 100, "{} logs", files("ops"));
}
