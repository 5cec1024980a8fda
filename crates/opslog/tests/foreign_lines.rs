//! Bytes that are not JSON though their checksum holds, as only a foreign hand writes them: `verify` says where they are, nothing panics on them, and `repair` leaves them out.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something unexpected happens"
)]

use opslog::{
    Backend, DamageKind, ErrorKind, MemoryBackend, RepairReport, Residency, Since, Store,
};
use serde_json::json;

/// A closed store with a replaced log, a snapshot, an archive segment and an active log.
fn store() -> MemoryBackend {
    let backend = MemoryBackend::new();
    let store: Store = Store::builder()
        .checkpoint_on_close(false)
        .open_backend(backend.clone())
        .unwrap();
    store.set("a", &json!({"n": 1})).unwrap();
    store.set("b", &json!({"n": 2})).unwrap();
    store.set("old", &json!({"n": 3})).unwrap();
    store.archive(|_, id| id == "old", Some("old")).unwrap();
    store.set("c", &json!({"n": 4})).unwrap();
    store.set("d", &json!({"n": 5})).unwrap();
    store.close().unwrap();
    backend
}

fn name(backend: &MemoryBackend, prefix: &str, number: usize) -> String {
    let mut names: Vec<String> = backend
        .list(prefix)
        .unwrap()
        .into_iter()
        .map(|object| object.name)
        .collect();
    names.sort_unstable();
    names.swap_remove(number)
}

/// Replaces a part of a file, with text of the same length, and says at which line's beginning.
fn replace(backend: &MemoryBackend, file: &str, what: &str, with: &str) -> u64 {
    assert_eq!(what.len(), with.len());
    let text = String::from_utf8(backend.read(file).unwrap()).unwrap();
    let place = text.find(what).unwrap();
    backend
        .put(file, text.replacen(what, with, 1).as_bytes())
        .unwrap();
    text[..place]
        .rfind('\n')
        .map_or(0, |newline| newline as u64 + 1)
}

/// Gives the line at `offset` the checksum that fits.
fn seal_line(backend: &MemoryBackend, file: &str, offset: u64) {
    let mut bytes = backend.read(file).unwrap();
    let start = usize::try_from(offset).unwrap();
    let end = start
        + bytes[start..]
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap();
    let crc = crc32c::crc32c(&bytes[start..end - 18]);
    bytes[end - 10..end - 2].copy_from_slice(format!("{crc:08x}").as_bytes());
    backend.put(file, &bytes).unwrap();
}

/// Has the manifest vouch for a file that was `before`, as it is now.
fn seal_file(backend: &MemoryBackend, file: &str, before: &[u8]) {
    let crc = |bytes: &[u8]| format!("{:08x}", crc32c::crc32c(bytes));
    let manifest = String::from_utf8(backend.read("manifest.json").unwrap()).unwrap();
    let end = manifest.find(",\n  \"checksum\"").unwrap();
    let body = manifest[..end].replace(&crc(before), &crc(&backend.read(file).unwrap()));
    let sealed = format!(
        "{body},\n  \"checksum\": \"{}\"\n}}\n",
        crc(body.as_bytes())
    );
    backend.put("manifest.json", sealed.as_bytes()).unwrap();
}

/// Checks that `verify` finds the place, that repairing keeps its bytes, and what is left: ids and numbers.
#[track_caller]
fn check(
    backend: &MemoryBackend,
    file: &str,
    offset: u64,
    bad: &str,
    left: &[(&str, i64)],
) -> RepairReport {
    let verified = opslog::verify_backend(backend).unwrap();
    let found: Vec<_> = verified
        .files
        .iter()
        .flat_map(|file| &file.damage)
        .collect();
    let place = |path: &str, at: u64, kind| (path.to_owned(), at, kind);
    assert_eq!(
        found
            .iter()
            .map(|damage| place(&damage.path, damage.offset, damage.kind))
            .collect::<Vec<_>>(),
        [place(file, offset, DamageKind::Damaged)],
        "{found:?}"
    );
    let planned = opslog::plan_repair_backend(backend).unwrap();
    let report = opslog::repair_backend(backend).unwrap();
    assert_eq!(planned.unreadable, report.unreadable);
    assert!(
        report
            .unreadable
            .iter()
            .any(|part| part.place.path == file && part.place.offset <= offset + 200),
        "{report:?}"
    );
    let kept = report.kept.iter().any(|kept| {
        let bytes = backend.read(kept).unwrap();
        String::from_utf8_lossy(&bytes).contains(bad)
    });
    assert!(kept, "{report:?}");
    let verified = opslog::verify_backend(backend).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    for residency in [
        Residency::Memory,
        Residency::OnDemand {
            cache_bytes: 1 << 20,
        },
    ] {
        let store: Store = Store::builder()
            .residency(residency)
            .open_backend(backend.clone())
            .unwrap();
        assert!(store.open_report().damage.is_empty());
        let documents: Vec<(String, i64)> = store
            .entries()
            .unwrap()
            .into_iter()
            .map(|(id, document)| (id, document["n"].as_i64().unwrap()))
            .collect();
        let expected: Vec<(String, i64)> =
            left.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect();
        assert_eq!(documents, expected);
        store.ops(Since::Start).unwrap();
        store.close().unwrap();
    }
    assert!(
        !opslog::repair_backend(backend).unwrap().is_needed(),
        "a second repair has nothing to do"
    );
    report
}

#[test]
fn a_line_of_the_active_log_is_left_out_by_opening_and_by_repairing() {
    for (what, with, left) in [
        ("{\"n\":4}", "{\"n\"=4}", [("a", 1), ("b", 2), ("d", 5)]),
        ("{\"n\":5}", "{\"n\":5]", [("a", 1), ("b", 2), ("c", 4)]),
    ] {
        let backend = store();
        let log = name(&backend, "ops/", 1);
        let offset = replace(&backend, &log, what, with);
        seal_line(&backend, &log, offset);
        let store: Store = Store::builder()
            .read_only(true)
            .open_backend(backend.clone())
            .unwrap();
        let [damage] = &store.open_report().damage[..] else {
            panic!("{:?}", store.open_report());
        };
        assert_eq!(
            (&*damage.path, damage.offset, damage.kind),
            (&*log, offset, DamageKind::Damaged)
        );
        assert_eq!(store.count().unwrap(), 3);
        let strict: Result<Store, _> = Store::builder()
            .strict(true)
            .read_only(true)
            .open_backend(backend.clone());
        assert_eq!(strict.unwrap_err().kind(), ErrorKind::Corrupt);
        let report = check(&backend, &log, offset, with, &left);
        assert_eq!(report.lost.len(), 1);
    }
}

#[test]
fn a_line_at_the_end_of_the_active_log_is_kept_beside_it_by_opening() {
    let backend = store();
    let log = name(&backend, "ops/", 1);
    let offset = replace(&backend, &log, "{\"n\":5}", "{\"n\":5]");
    seal_line(&backend, &log, offset);
    let store: Store = Store::builder().open_backend(backend.clone()).unwrap();
    assert_eq!(store.open_report().damage[0].kind, DamageKind::Damaged);
    let kept = backend.read(&format!("{log}.damaged")).unwrap();
    assert!(String::from_utf8(kept).unwrap().contains("{\"n\":5]"));
}

#[test]
fn a_line_of_a_replaced_log_is_left_out_and_costs_no_document() {
    let backend = store();
    let log = name(&backend, "ops/", 0);
    let offset = replace(&backend, &log, "{\"n\":2}", "{\"n\" 2}");
    seal_line(&backend, &log, offset);
    let left = [("a", 1), ("b", 2), ("c", 4), ("d", 5)];
    let report = check(&backend, &log, offset, "{\"n\" 2}", &left);
    assert!(report.lost.is_empty(), "the snapshot has it: {report:?}");
}

#[test]
fn a_line_of_a_snapshot_is_found_when_it_is_read_and_recovered_from_the_log() {
    let backend = store();
    let snapshot = name(&backend, "snapshots/", 0);
    let before = backend.read(&snapshot).unwrap();
    let offset = replace(&backend, &snapshot, "{\"n\":2}", "{\"n\"::}");
    seal_file(&backend, &snapshot, &before);
    for residency in [
        Residency::Memory,
        Residency::OnDemand {
            cache_bytes: 1 << 20,
        },
    ] {
        let store: Store = Store::builder()
            .residency(residency)
            .read_only(true)
            .open_backend(backend.clone())
            .unwrap();
        let error = store.get("b").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert_eq!(store.get("a").unwrap().unwrap()["n"], 1);
    }
    let left = [("a", 1), ("b", 2), ("c", 4), ("d", 5)];
    let report = check(&backend, &snapshot, offset, "{\"n\"::}", &left);
    assert_eq!(report.recovered, ["b"]);
    assert!(report.lost.is_empty(), "{report:?}");
}

#[test]
fn a_record_of_an_archive_segment_comes_back_from_the_log() {
    let backend = store();
    let segment = name(&backend, "archive/", 0);
    let before = backend.read(&segment).unwrap();
    replace(&backend, &segment, "\"n\": 3", "\"n\" 33");
    seal_file(&backend, &segment, &before);
    let store: Store = Store::builder()
        .read_only(true)
        .open_backend(backend.clone())
        .unwrap();
    assert_eq!(
        store.load_archive("old").unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    let left = [("a", 1), ("b", 2), ("c", 4), ("d", 5)];
    let report = check(&backend, &segment, 0, "\"n\" 33", &left);
    assert_eq!(report.recovered, ["old"]);
    assert!(report.lost.is_empty(), "{report:?}");
    let store: Store = Store::builder().open_backend(backend).unwrap();
    assert_eq!(store.load_archive("old").unwrap()[0].1["n"], 3);
}

#[test]
fn a_snapshot_in_which_an_id_occurs_twice_is_repaired_from_the_log() {
    let backend = store();
    let snapshot = name(&backend, "snapshots/", 0);
    let before = backend.read(&snapshot).unwrap();
    let offset = replace(&backend, &snapshot, "{\"id\":\"b\"", "{\"id\":\"a\"");
    seal_file(&backend, &snapshot, &before);
    let left = [("a", 1), ("b", 2), ("c", 4), ("d", 5)];
    let report = check(&backend, &snapshot, offset, "{\"id\":\"a\"", &left);
    assert_eq!(report.recovered, ["a", "b"], "the log has both: {report:?}");
    assert!(report.doubtful.is_empty(), "{report:?}");
}

#[test]
fn a_document_that_does_not_fit_the_stores_type_is_no_damage() {
    let opened = Store::<Vec<u8>>::builder()
        .read_only(true)
        .open_backend(store());
    let error = opened.unwrap().get("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
