//! The largest that is promised, and more of it than anybody needs. Those that take long run where the build is optimised: `cargo test --release -p opslog --test limits`.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something unexpected happens"
)]

use opslog::{Backend, ErrorKind, MAX_ID_BYTES, MemoryBackend, Since, Store, WriteMode};
use serde_json::{Value, json};

/// Documents as text, so that large ones cost no trees.
type Texts = Store<Box<serde_json::value::RawValue>>;

fn open(path: &std::path::Path) -> Texts {
    Texts::builder()
        .checkpoint_on_close(false)
        .open(path)
        .unwrap()
}

#[cfg_attr(debug_assertions, ignore = "takes minutes where it is not optimised")]
#[test]
fn a_document_of_64_mib() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("{{\"text\":\"{}\"}}", "0123456789abcdef".repeat(4 << 20));
    let store = open(directory.path());
    store.set_json("large", &text).unwrap();
    store.set_json("small", "{}").unwrap();
    drop(store);
    let store = open(directory.path());
    assert!(store.get_json("large").unwrap().unwrap().as_str() == text);
    store.set_json("large", "{}").unwrap();
    assert!(store.undo().unwrap());
    assert!(store.get_json("large").unwrap().unwrap().as_str() == text);
    store.compact().unwrap();
    store.close().unwrap();
    let store = open(directory.path());
    assert!(store.get_json("large").unwrap().unwrap().as_str() == text);
    assert_eq!(store.history("large").unwrap().len(), 1);
    assert!(opslog::verify(directory.path()).unwrap().is_sound());
    let copy = directory.path().with_extension("copy");
    store.backup(&copy).unwrap();
    assert!(opslog::verify(&copy).unwrap().is_sound());
    std::fs::remove_dir_all(copy).unwrap();
}

#[test]
fn an_id_of_64_kib() {
    let store = Store::<Value>::in_memory().unwrap();
    for character in ["x", "\"", "\n", "é"] {
        let id = character.repeat(MAX_ID_BYTES / character.len());
        store.set(&id, &json!({"n": 1})).unwrap();
        assert!(store.has(&id).unwrap());
        let error = store.set(&format!("{id}x"), &json!({})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    store.compact().unwrap();
    store
        .archive(|_, id| id.starts_with('x'), Some("long"))
        .unwrap();
    assert_eq!(store.load_archive("long").unwrap()[0].0.len(), MAX_ID_BYTES);
    assert!(opslog::verify_backend(store.backend()).unwrap().is_sound());
}

#[cfg_attr(debug_assertions, ignore = "takes minutes where it is not optimised")]
#[test]
fn a_million_operations_in_one_log() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        Texts::builder()
            .checkpoint_on_close(false)
            .checkpoint_threshold(u64::MAX)
            .write_mode(WriteMode::asynchronous())
            .open(directory.path())
            .unwrap()
    };
    let store = open();
    for n in 0..1_000_000 {
        store
            .set_json(&format!("{}", n % 1000), &format!("{{\"n\":{n}}}"))
            .unwrap();
    }
    store.close().unwrap();
    let store = open();
    assert_eq!(store.count().unwrap(), 1000);
    assert_eq!(
        store.get_json("999").unwrap().unwrap().as_str(),
        "{\"n\":999999}"
    );
    assert_eq!(store.history("7").unwrap().len(), 1000);
    assert!(store.undo().unwrap());
    assert_eq!(
        store.get_json("999").unwrap().unwrap().as_str(),
        "{\"n\":998999}"
    );
    store.compact().unwrap();
    assert_eq!(store.ops(Since::Start).unwrap().len(), 999_999);
}

#[cfg_attr(debug_assertions, ignore = "takes minutes where it is not optimised")]
#[test]
fn a_batch_of_a_million() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.set_json("before", "{}").unwrap();
    store
        .batch(|batch| {
            (0..1_000_000).try_for_each(|n| batch.set_json(&format!("{n}"), "{\"x\":1}"))
        })
        .unwrap();
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.count().unwrap(), 1_000_001);
    assert!(store.undo().unwrap());
    assert_eq!(store.count().unwrap(), 1);
}

#[test]
fn ten_thousand_archive_segments() {
    let backend = MemoryBackend::new();
    let open = || {
        Store::<Value>::builder()
            .open_backend(backend.clone())
            .unwrap()
    };
    let store = open();
    store.set("moved", &json!({"n": 0})).unwrap();
    store.archive(|_, _| true, Some("p0")).unwrap();
    store.close().unwrap();
    // As the reference would have made them: ten thousand checkpoints take long.
    let mut manifest: Value =
        serde_json::from_slice(&backend.read("manifest.json").unwrap()).unwrap();
    let fields = manifest.as_object_mut().unwrap();
    fields.retain(|key, _| key != "opslog" && key != "checksum");
    let segment = backend.read("archive/archive-p0.json").unwrap();
    let paths: Vec<String> = (0..10_000)
        .map(|n| format!("archive/archive-p{n}.json"))
        .collect();
    for path in &paths {
        backend.put(path, &segment).unwrap();
    }
    fields.insert("archiveSegments".to_owned(), paths.into());
    backend
        .put("manifest.json", &serde_json::to_vec(&manifest).unwrap())
        .unwrap();

    let store = open();
    store.set("moving", &json!({"n": 1})).unwrap();
    assert_eq!(
        store.archive(|_, id| id == "moving", Some("p7")).unwrap(),
        1
    );
    store.archive(|_, _| true, Some("none")).unwrap();
    store.close().unwrap();
    let store = open();
    assert_eq!(store.archive_segments().unwrap().len(), 10_000);
    for n in [0, 4999, 9999] {
        assert_eq!(store.load_archive(&format!("p{n}")).unwrap()[0].1["n"], 0);
    }
    assert_eq!(store.load_archive("p7").unwrap().len(), 2);
    assert!(opslog::verify_backend(store.backend()).unwrap().is_sound());
    let copy = MemoryBackend::new();
    opslog::backup_backend(store.backend(), &copy).unwrap();
    assert!(opslog::verify_backend(&copy).unwrap().is_sound());
}

/// Takes minutes, and 10 GB: `cargo test --release -p opslog --test limits -- --ignored`
#[test]
#[ignore = "takes minutes, and 10 GB of disk"]
fn a_log_of_more_than_4_gib() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        Texts::builder()
            .checkpoint_on_close(false)
            .checkpoint_threshold(u64::MAX)
            .write_mode(WriteMode::asynchronous())
            .open(directory.path())
            .unwrap()
    };
    let store = open();
    let filler = "0123456789abcdef".repeat(1 << 16);
    for n in 0..4200 {
        // The previous document is in the line too, unless it is told by a shorter patch.
        store
            .set_json(
                &format!("{}", n % 100),
                &format!("{{\"n\":{n},\"t\":\"{filler}\"}}"),
            )
            .unwrap();
    }
    store.set_json("last", "{\"n\":1}").unwrap();
    store.close().unwrap();
    let store = open();
    assert!(store.stats().unwrap().log_bytes > 4 << 30);
    assert_eq!(store.count().unwrap(), 101);
    store.set_json("last", "{\"n\":2}").unwrap();
    assert!(store.undo().unwrap());
    assert_eq!(
        store.get_json("last").unwrap().unwrap().as_str(),
        "{\"n\":1}"
    );
    assert!(
        store
            .get_json("99")
            .unwrap()
            .unwrap()
            .as_str()
            .starts_with("{\"n\":4199,")
    );
    drop(store);
    assert!(opslog::verify(directory.path()).unwrap().is_sound());
    let store = open();
    assert_eq!(store.history("last").unwrap().len(), 1);
    store.compact().unwrap();
    drop(store);
    assert_eq!(open().count().unwrap(), 101);
}
