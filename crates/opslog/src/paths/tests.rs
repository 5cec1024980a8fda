use super::*;

#[test]
fn every_made_name_is_parsed_again() {
    for ms in [0, 1, 1_700_000_000_000, u64::MAX] {
        assert_eq!(parse_snapshot(&snapshot(ms)), Some(ms));
        let index = index_of(&snapshot(ms)).unwrap();
        assert_eq!(parse_index(&index), Some(ms));
        assert_eq!((parse_snapshot(&index), index_of(&index)), (None, None));
        assert_eq!(parse_ops(&ops(ms)), Some(ms));
        assert_eq!(
            parse_agent_ops(&format!("ops/agent-a-1.b-{ms}.jsonl")),
            Some(("a-1.b", ms))
        );
        assert_eq!(
            parse_archive(&archive("2026-Q4", Some(ms))),
            Some(("2026-Q4", Some(ms)))
        );
    }
    assert_eq!(parse_archive(&archive("v1.x", None)), Some(("v1.x", None)));
    assert!(is_temporary(&temporary(MANIFEST, 12, 3)));
}

#[test]
fn foreign_names_are_not_parsed() {
    for name in [
        "ops/ops-.jsonl",
        "ops/ops-1.json",
        "ops-1.jsonl",
        "ops/ops-01.jsonl",
        "ops/ops-+1.jsonl",
        "ops/ops-1.jsonl.damaged",
        "ops/x/ops-1.jsonl",
        "ops/ops-99999999999999999999999.jsonl",
    ] {
        assert_eq!(parse_ops(name), None, "{name}");
    }
    assert_eq!(parse_agent_ops("ops/agent--1.jsonl"), None);
    assert_eq!(parse_agent_ops("ops/agent-a/b-1.jsonl"), None);
    assert_eq!(parse_snapshot("snapshots/snap-1.jsonl.1-2.tmp"), None);
    assert_eq!(parse_archive("archive/archive-.json"), None);
    assert_eq!(parse_archive("archive/x/archive-1.json"), None);
    for name in [
        "a.tmp",
        "a.1.tmp",
        ".1-2.tmp",
        "a.1-.tmp",
        "a.1-2.tmpx",
        "tmp",
    ] {
        assert!(!is_temporary(name), "{name}");
    }
}

#[test]
fn good_periods_are_accepted() {
    for period in [
        "2026",
        "2026-Q4",
        "a.b",
        "v1.2x",
        "with space",
        &"x".repeat(100),
    ] {
        validate_period(period).unwrap();
        assert_eq!(parse_archive(&archive(period, None)), Some((period, None)));
    }
}

#[test]
fn bad_periods_are_refused() {
    for period in [
        "",
        ".a",
        "a.1",
        "../x",
        "a/b",
        "ä",
        "a\n",
        "a\0",
        &"x".repeat(101),
    ] {
        let error = validate_period(period).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{period:?}");
    }
}

#[test]
fn plain_blob_paths_are_accepted() {
    for path in [
        "a",
        "images/a.png",
        "a/b/c",
        "...",
        ".hidden",
        "a.tmp",
        "opslog",
        "a/ops/b",
        "ab:c",
    ] {
        validate_blob(path).unwrap();
    }
}

#[test]
fn blob_paths_that_leave_the_store_or_name_its_files_are_refused() {
    for path in [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "C:/x",
        "c:x",
        "manifest.json",
        "Manifest.JSON",
        "manifest.json/x",
        ".lock",
        ".opslog.lock",
        ".opslog",
        ".opslogs/x",
        "snapshots",
        "snapshots/a",
        "ops/a",
        "Ops/a",
        "archive/a",
        "a/b.1-2.tmp",
    ] {
        let error = validate_blob(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}");
    }
}

#[test]
fn manifest_paths_stay_inside_the_stores_folders() {
    for path in [
        "snapshots/snap-1.jsonl",
        "ops/other.jsonl",
        "archive/archive-a.json",
    ] {
        validate_store_path(path).unwrap();
    }
    for path in [
        "",
        "manifest.json",
        "../ops/x",
        "ops/../../x",
        "/ops/x",
        "ops",
        "ops/",
        "blob/x",
        "ops\\x",
    ] {
        let error = validate_store_path(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{path:?}");
    }
}

#[test]
fn the_first_free_number_is_taken() {
    let taken = || Error::new(ErrorKind::Conflict, "taken");
    let name = next_free(5, |ms| if ms < 8 { Err(taken()) } else { Ok(ops(ms)) });
    assert_eq!(name.unwrap(), "ops/ops-8.jsonl");
    let error = next_free(u64::MAX, |_| Err::<(), _>(taken())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn other_failures_end_the_search_for_a_free_number() {
    let mut tries = 0;
    let error = next_free(5, |_| {
        tries += 1;
        Err::<(), _>(Error::new(ErrorKind::Unavailable, "full"))
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(tries, 1);
}
