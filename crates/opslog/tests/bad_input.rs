//! Everything that can be wrong with what opslog is given: documents, names, places, files of a store.
//!
//! Each is refused with an error of the right kind that says what to do, and the directory stays as it was to the byte (lock files apart); or there is a
//! documented recovery, and the store reports it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test fails by panicking, helpers included; the tests damage files from outside, and say when they must be skipped"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use opslog::backend::{Backend, SimulatedDisk};
use opslog::{
    Blobs, DamageKind, Error, ErrorKind, FsBackend, MAX_ID_BYTES, MemoryBackend, Retention, Store,
    StoreBuilder,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A directory, in memory where there is such a place: nothing here is about what survives a power cut.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Every file and directory below `path` with its content, without the lock files.
fn tree(path: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.insert(path.clone(), None);
                folders.push(path);
            } else if !path.ends_with(".lock") && !path.ends_with(".opslog.lock") {
                let content = fs::read(&path).unwrap();
                found.insert(path, Some(content));
            }
        }
    }
    found
}

fn has_words(error: &Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(error.kind(), kind, "{error:?}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

/// Opening `path` is refused, and leaves everything as it is.
fn refused(path: &Path, builder: StoreBuilder, kind: ErrorKind, words: &[&str]) {
    let before = tree(path);
    let error = builder.open(path).unwrap_err();
    has_words(&error, kind, words);
    assert_eq!(tree(path), before, "something was changed");
}

/// As `refused`, to read and to write.
fn refused_in_any_way(path: &Path, kind: ErrorKind, words: &[&str]) {
    let ways = [
        Store::builder(),
        Store::builder().strict(true),
        Store::builder().read_only(true),
    ];
    for builder in ways {
        refused(path, builder, kind, words);
    }
}

fn ids(store: &Store) -> Vec<String> {
    let entries = store.entries().unwrap();
    entries.into_iter().map(|(id, _)| id).collect()
}

fn put(store: &Store, id: &str, n: i64) {
    store.set(id, &json!({ "n": n })).unwrap();
}

/// A store with `s` in its snapshot and `a`, `b`, `c` in its log.
fn a_store() -> tempfile::TempDir {
    let directory = folder();
    let store = Store::open(directory.path()).unwrap();
    put(&store, "s", 0);
    store.compact().unwrap();
    for id in ["a", "b", "c"] {
        put(&store, id, 1);
    }
    drop(store);
    directory
}

fn manifest(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap()
}

/// Writes the manifest with a checksum that is right.
fn put_manifest(directory: &Path, mut manifest: Value) {
    manifest.as_object_mut().unwrap().shift_remove("checksum");
    let mut text = serde_json::to_string_pretty(&manifest).unwrap();
    text.truncate(text.len() - "\n}".len());
    let checksum = crc32c::crc32c(text.as_bytes());
    let text = format!("{text},\n  \"checksum\": \"{checksum:08x}\"\n}}");
    fs::write(directory.join("manifest.json"), text).unwrap();
}

/// The file that the manifest names under `key`.
fn named(directory: &Path, key: &str) -> PathBuf {
    directory.join(manifest(directory)[key].as_str().unwrap())
}

/// Where this test goes on, when it has to run as somebody else or somewhere else.
enum Place {
    Here(PathBuf),
    InAChild,
}

/// Goes on in a child process that `wrapper` starts, in a directory of its own, which the wrapper finds in `OPSLOG_PLACE`.
fn in_a_child(test: &str, wrapper: &[&str]) -> Place {
    use std::os::unix::fs::PermissionsExt;
    if let Some(place) = std::env::var_os("OPSLOG_PLACE") {
        return Place::Here(place.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let (program, place) = (folder.path().join("test"), folder.path().join("place"));
    let everybody = fs::Permissions::from_mode(0o777);
    fs::create_dir(&place).unwrap();
    fs::set_permissions(folder.path(), everybody.clone()).unwrap();
    fs::set_permissions(&place, everybody).unwrap();
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let run = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program).args(arguments);
        command
            .env("OPSLOG_PLACE", &place)
            .current_dir("/")
            .output()
    };
    let possible = run(Path::new("true"), &[]).is_ok_and(|output| output.status.success());
    if possible {
        let output = run(&program, &["--exact", test, "--nocapture"]).unwrap();
        assert!(output.status.success(), "{output:#?}");
    } else {
        eprintln!(
            "SKIPPED {test}: '{}' is not possible here",
            wrapper.join(" ")
        );
    }
    Place::InAChild
}

const NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

/// Mounts a small file system, in a name space of its own, which ends with the process.
fn with_a_mount(size: &str) -> [String; 5] {
    let script =
        format!("mount -t tmpfs -o size={size} tmpfs \"$OPSLOG_PLACE\" && exec \"$0\" \"$@\"");
    [
        "unshare".into(),
        "--mount".into(),
        "sh".into(),
        "-c".into(),
        script,
    ]
}

// Documents and ids.

#[test]
fn a_document_that_is_no_object_is_refused() {
    let store: Store = Store::in_memory().unwrap();
    let raw: Store<Box<RawValue>> = Store::in_memory().unwrap();
    for (text, what) in [
        ("1", "a number"),
        ("\"x\"", "a string"),
        ("[{}]", "an array"),
        ("null", "null"),
        ("false", "a boolean"),
        ("  [1]", "an array"),
    ] {
        let value: Value = serde_json::from_str(text).unwrap();
        let raw_value = RawValue::from_string(text.trim().to_owned()).unwrap();
        let errors = [
            store.set("a", &value).unwrap_err(),
            store.set_json("a", text).unwrap_err(),
            store.batch(|batch| batch.set("a", &value)).unwrap_err(),
            store.batch(|batch| batch.set_json("a", text)).unwrap_err(),
            raw.set("a", &raw_value).unwrap_err(),
        ];
        for error in errors {
            has_words(
                &error,
                ErrorKind::InvalidInput,
                &["'a'", "must be a JSON object", what],
            );
        }
    }
    assert_eq!((store.count().unwrap(), raw.count().unwrap()), (0, 0));
}

#[test]
fn text_that_is_no_json_is_refused() {
    let store: Store = Store::in_memory().unwrap();
    for text in [
        "",
        "{",
        "{\"a\":}",
        "{} {}",
        "{\"a\":NaN}",
        "{'a':1}",
        "{\"a\":1,}",
        "{\"a\":\"\n\"}",
    ] {
        let error = store.set_json("a", text).unwrap_err();
        has_words(&error, ErrorKind::InvalidInput, &["'a'", "not valid JSON"]);
    }
    assert_eq!(store.count().unwrap(), 0);
}

#[test]
fn an_empty_or_too_long_id_is_refused() {
    let store: Store = Store::in_memory().unwrap();
    let longest = "é".repeat(MAX_ID_BYTES / 2);
    put(&store, &longest, 1);
    for (id, word) in [(String::new(), "empty"), (format!("{longest}x"), "65536")] {
        let errors = [
            store.set(&id, &json!({})).unwrap_err(),
            store.set_json(&id, "{}").unwrap_err(),
            store.batch(|batch| batch.set(&id, &json!({}))).unwrap_err(),
        ];
        for error in errors {
            has_words(&error, ErrorKind::InvalidInput, &["id", word]);
        }
        assert!(store.delete(&id).unwrap_err().is_not_found());
        assert!(!store.has(&id).unwrap());
    }
    assert_eq!(ids(&store), [longest]);
}

#[test]
fn ids_of_any_characters_are_ordinary() {
    let strange = [
        "a\0b",
        "a\nb",
        "\r",
        "\t",
        " ",
        "🦀",
        "e\u{301}",
        "__proto__",
        "constructor",
        "\"",
        "\\",
        "\\u0041",
        "../../etc/passwd",
        "/",
        ".",
        "\u{2028}",
        "\u{feff}",
        "null",
        "0",
        "-1",
        "{\"id\":1}",
    ];
    let directory = folder();
    let store = Store::open(directory.path()).unwrap();
    for (number, id) in strange.iter().enumerate() {
        let document = json!({ *id: *id, "number": number });
        if number % 2 == 0 {
            store.set(id, &document).unwrap();
        } else {
            store.batch(|batch| batch.set(id, &document)).unwrap();
        }
    }
    let holds_them = |store: &Store| {
        assert_eq!(ids(store), strange);
        for id in strange {
            assert_eq!(store.get(id).unwrap().unwrap()[id], id);
            assert_eq!(store.history(id).unwrap().len(), 1);
        }
    };
    holds_them(&store);
    drop(store);
    let from_the_log = Store::open(directory.path()).unwrap();
    holds_them(&from_the_log);
    from_the_log.close().unwrap();
    let from_the_snapshot = Store::open(directory.path()).unwrap();
    holds_them(&from_the_snapshot);
    drop(from_the_snapshot);
    let store = Store::<Value>::open(directory.path()).unwrap();
    store.archive(|_, _| true, Some("strange")).unwrap();
    let archived = store.load_archive("strange").unwrap();
    assert_eq!(
        archived.into_iter().map(|(id, _)| id).collect::<Vec<_>>(),
        strange
    );
}

#[test]
fn a_number_that_json_cannot_express_is_refused() {
    #[derive(Serialize, Deserialize)]
    struct Measurement {
        comment: Option<String>,
        values: Vec<(f32, Option<f64>)>,
    }
    let store: Store<Measurement> = Store::in_memory().unwrap();
    let measurement = |x, y| Measurement {
        comment: None,
        values: vec![(1.0, None), (x, Some(y))],
    };
    store
        .set("good", &measurement(0.5, f64::MIN_POSITIVE))
        .unwrap();
    for bad in [
        measurement(f32::NAN, 1.0),
        measurement(1.0, f64::INFINITY),
        measurement(f32::NEG_INFINITY, 1.0),
    ] {
        let error = store.set("bad", &bad).unwrap_err();
        has_words(
            &error,
            ErrorKind::InvalidInput,
            &["'bad'", "JSON cannot express"],
        );
    }
    assert_eq!(store.count().unwrap(), 1);
}

fn nested(depth: usize) -> String {
    let levels = depth - 1;
    format!("{}{{}}{}", "{\"a\":".repeat(levels), "}".repeat(levels))
}

#[test]
fn a_document_nested_200_deep_is_kept_like_any_other() {
    let directory = folder();
    let store = Store::<Value>::open(directory.path()).unwrap();
    let text = nested(200);
    store.set_json("text", &text).unwrap();
    let value = store.get("text").unwrap().unwrap();
    store.set("value", &value).unwrap();
    store.set("value", &json!({})).unwrap();
    assert!(store.undo().unwrap());
    store.close().unwrap();
    let later = Store::<Value>::builder()
        .version(2)
        .migrate(|document, _| Ok(document));
    let store = later.open(directory.path()).unwrap();
    assert_eq!(store.all().unwrap(), [value.clone(), value.clone()]);
    assert_eq!(store.get_json("value").unwrap().unwrap().as_str(), text);
    store.archive(|_, id| id == "text", Some("deep")).unwrap();
    assert_eq!(store.load_archive("deep").unwrap()[0].1, value);
}

#[test]
fn a_document_too_deep_to_be_read_again_is_refused() {
    let store: Store = Store::in_memory().unwrap();
    store.set_json("a", &nested(256)).unwrap();
    assert!(store.get("a").unwrap().is_some());
    for depth in [257, 100_000] {
        for text in [
            nested(depth),
            format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth)),
        ] {
            let error = store.set_json("b", &text).unwrap_err();
            has_words(
                &error,
                ErrorKind::InvalidInput,
                &["'b'", "nested deeper than 256"],
            );
        }
    }
    let brackets = json!({"text": "[{".repeat(1000), "\"]": "\\\"["}).to_string();
    store.set_json("brackets", &brackets).unwrap();
    assert_eq!(store.all().unwrap().len(), 2);
}

#[test]
fn a_document_with_repeated_keys_is_kept_as_it_is() {
    let directory = folder();
    let store = Store::<Value>::open(directory.path()).unwrap();
    let text = r#"{"a":1,"b":"some text that makes the document longer","a":2,"\u0061":3}"#;
    let json = |store: &Store| store.get_json("x").unwrap().unwrap().to_string();
    store.set_json("x", text).unwrap();
    assert_eq!(json(&store), text);
    assert_eq!(store.get("x").unwrap().unwrap()["a"], 3);
    let update = json!({"a": 4, "b": "some text that makes the document longer"});
    store.set("x", &update).unwrap();
    store.set_json("x", text).unwrap();
    assert!(store.undo().unwrap());
    assert_eq!(*store.get("x").unwrap().unwrap(), update);
    assert!(store.undo().unwrap());
    assert_eq!(json(&store), text);
    for _ in 0..2 {
        store.close().unwrap();
        assert_eq!(json(&Store::open(directory.path()).unwrap()), text);
    }
}

#[test]
fn deleting_what_is_not_there_says_which() {
    let store: Store = Store::in_memory().unwrap();
    let error = store.delete("nobody").unwrap_err();
    has_words(&error, ErrorKind::NotFound, &["record 'nobody' not found"]);
}

// Names.

#[test]
fn an_archive_name_that_is_no_name_is_refused_and_says_why() {
    let store: Store = Store::in_memory().unwrap();
    put(&store, "a", 1);
    for (name, word) in [
        ("", "empty"),
        ("../outside", "letters, digits"),
        ("a/b", "letters, digits"),
        ("/etc", "letters, digits"),
        ("a\0", "letters, digits"),
        ("..", "dot"),
        (".hidden", "dot"),
        ("x.17", "dot and digits"),
        (&"x".repeat(101), "100"),
    ] {
        let error = store.archive(|_, _| true, Some(name)).unwrap_err();
        has_words(&error, ErrorKind::InvalidInput, &["archive period", word]);
        assert_eq!(
            store.load_archive(name).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
    let error = store.load_archive("2026-Q1").unwrap_err();
    has_words(&error, ErrorKind::NotFound, &["'2026-Q1'", "not found"]);
    assert_eq!(ids(&store), ["a"]);
}

#[test]
fn a_blob_path_that_leaves_the_store_is_refused_and_says_why() {
    let directory = a_store();
    let store = Store::<Value>::open(directory.path()).unwrap();
    let before = tree(directory.path());
    for (path, word) in [
        ("../x", "'.' or '..'"),
        ("a/../../x", "'.' or '..'"),
        ("/etc/passwd", "absolute"),
        ("", "empty"),
        ("a//b", "empty part"),
        ("a\\..\\b", "backslash"),
        ("a\0b", "control character"),
        ("manifest.json", "belongs to the store"),
        ("Manifest.json", "belongs to the store"),
        (".lock", "belongs to the store"),
        ("snapshots/mine", "belongs to the store"),
        ("ops", "belongs to the store"),
    ] {
        let backend = store.backend();
        let errors = [
            backend.write_blob(path, b"x").unwrap_err(),
            backend.read_blob(path).unwrap_err(),
            backend.read_blob_range(path, 0, 1).unwrap_err(),
            backend.delete_blob(path).unwrap_err(),
            backend.delete_blob_dir(path).unwrap_err(),
        ];
        for error in errors {
            has_words(&error, ErrorKind::InvalidInput, &["blob path", word]);
        }
    }
    assert_eq!(tree(directory.path()), before);
}

// Places.

#[test]
fn a_path_that_is_a_file_is_refused() {
    let directory = folder();
    let file = directory.path().join("file");
    fs::write(&file, "mine").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = Store::<Value>::open(&path).unwrap_err();
        has_words(
            &error,
            ErrorKind::InvalidInput,
            &["not a directory", "choose another"],
        );
        for builder in [
            Store::<Value>::builder().read_only(true),
            Store::builder().create(false),
        ] {
            let error = builder.open(&path).unwrap_err();
            has_words(&error, ErrorKind::NotFound, &["no store here"]);
        }
    }
    assert_eq!(
        tree(directory.path()),
        BTreeMap::from([(file, Some(b"mine".to_vec()))])
    );
}

#[test]
fn a_directory_that_is_no_store_is_not_made_one_by_looking() {
    let directory = folder();
    fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    fs::create_dir(directory.path().join("empty")).unwrap();
    let paths = [directory.path().to_owned(), directory.path().join("empty")];
    for path in paths {
        for builder in [
            Store::builder().read_only(true),
            Store::builder().create(false),
        ] {
            refused(
                &path,
                builder,
                ErrorKind::NotFound,
                &["no store here", "open it for writing once"],
            );
        }
    }
    let missing = directory.path().join("missing");
    let error = Store::<Value>::builder()
        .read_only(true)
        .open(&missing)
        .unwrap_err();
    assert!(error.is_not_found());
    assert!(!missing.exists());
    Store::<Value>::open(directory.path())
        .unwrap()
        .close()
        .unwrap();
    assert_eq!(
        fs::read(directory.path().join("notes.txt")).unwrap(),
        b"mine"
    );
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let directory = a_store();
    for builder in [
        Store::builder().version(0),
        Store::builder().read_only(true).skip_load(true),
        Store::builder().skip_load(true).version(2),
    ] {
        refused(directory.path(), builder, ErrorKind::InvalidInput, &[]);
    }
}

#[test]
fn without_permission_the_error_says_what_to_check() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let test = "without_permission_the_error_says_what_to_check";
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let place = if is_root {
        in_a_child(test, &NOBODY)
    } else {
        Place::Here(folder().keep())
    };
    let Place::Here(place) = place else { return };
    let store = Store::open(&place).unwrap();
    put(&store, "a", 1);
    store.close().unwrap();
    let allow =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let words = ["who may read and write"];
    allow(&place, 0o555);
    refused(&place, Store::builder(), ErrorKind::Unavailable, &words);
    assert_eq!(
        ids(&Store::builder().read_only(true).open(&place).unwrap()),
        ["a"]
    );
    allow(&place, 0o755);
    for file in [
        "manifest.json".to_owned(),
        named(&place, "currentSnapshot").display().to_string(),
    ] {
        let file = place.join(file);
        allow(&file, 0o000);
        for read_only in [false, true] {
            let error = Store::<Value>::builder()
                .read_only(read_only)
                .open(&place)
                .unwrap_err();
            has_words(&error, ErrorKind::Unavailable, &words);
        }
        allow(&file, 0o644);
    }
    let log = named(&place, "activeOps");
    allow(&log, 0o444);
    refused(&place, Store::builder(), ErrorKind::Unavailable, &words);
    allow(&log, 0o644);
    allow(&place, 0o000);
    for read_only in [false, true] {
        let error = Store::<Value>::builder()
            .read_only(read_only)
            .open(&place)
            .unwrap_err();
        has_words(&error, ErrorKind::Unavailable, &words);
    }
    allow(&place, 0o755);
    assert_eq!(ids(&Store::open(&place).unwrap()), ["a"]);
    let under = place.join("not/there");
    allow(&place, 0o555);
    let error = Store::<Value>::open(&under).unwrap_err();
    has_words(&error, ErrorKind::Unavailable, &words);
    allow(&place, 0o755);
    fs::remove_dir_all(&place).ok();
}

#[test]
fn a_read_only_file_system_can_be_read_and_says_why_it_cannot_be_written() {
    let test = "a_read_only_file_system_can_be_read_and_says_why_it_cannot_be_written";
    let wrapper = with_a_mount("4m");
    let Place::Here(place) = in_a_child(test, &wrapper.each_ref().map(String::as_str)) else {
        return;
    };
    let store = Store::open(place.join("store")).unwrap();
    put(&store, "a", 1);
    store.close().unwrap();
    let mounted = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&place)
        .status();
    assert!(mounted.unwrap().success());
    let words = ["read-only", "open the store read-only"];
    refused(
        &place.join("store"),
        Store::builder(),
        ErrorKind::Unavailable,
        &words,
    );
    let error = Store::<Value>::open(place.join("new")).unwrap_err();
    has_words(&error, ErrorKind::Unavailable, &["read-only"]);
    let reader = Store::builder()
        .read_only(true)
        .open(place.join("store"))
        .unwrap();
    assert_eq!(ids(&reader), ["a"]);
    has_words(
        &reader.set("b", &json!({})).unwrap_err(),
        ErrorKind::ReadOnly,
        &["open it without read_only"],
    );
}

#[test]
fn a_full_file_system_loses_nothing_that_was_acknowledged() {
    let test = "a_full_file_system_loses_nothing_that_was_acknowledged";
    let wrapper = with_a_mount("512k");
    let Place::Here(place) = in_a_child(test, &wrapper.each_ref().map(String::as_str)) else {
        return;
    };
    let store = Store::open(place.join("store")).unwrap();
    let document = json!({"text": "x".repeat(10_000)});
    let full = (0..1000).find_map(|n| {
        store
            .set(&n.to_string(), &document)
            .err()
            .map(|error| (n, error))
    });
    let (acknowledged, error) = full.expect("the disk is full at some time");
    has_words(&error, ErrorKind::Unavailable, &["free some space"]);
    has_words(
        &store.compact().unwrap_err(),
        ErrorKind::Unavailable,
        &["free some space"],
    );
    assert_eq!(store.count().unwrap(), acknowledged);
    store
        .delete("0")
        .unwrap_or_else(|error| has_words(&error, ErrorKind::Unavailable, &[]));
    let expected = ids(&store);
    drop(store);
    let reader = Store::builder()
        .read_only(true)
        .open(place.join("store"))
        .unwrap();
    assert_eq!(ids(&reader), expected);
    let error = Store::<Value>::open(place.join("another"));
    assert!(error.is_err_and(|error| error.kind() == ErrorKind::Unavailable));
    let larger = Command::new("mount")
        .args(["-o", "remount,size=4m"])
        .arg(&place)
        .status();
    assert!(larger.unwrap().success());
    let store = Store::open(place.join("store")).unwrap();
    assert_eq!(ids(&store), expected);
    put(&store, "now there is space", 1);
    store.compact().unwrap();
}

#[test]
fn a_disk_that_is_full_when_the_store_is_opened_changes_nothing() {
    let disk = SimulatedDisk::new();
    let open = |disk: &SimulatedDisk| {
        let backend = FsBackend::on(Arc::new(disk.clone()), "/store").with_padding(256, 256);
        Store::<Value>::builder().open_backend(backend)
    };
    disk.fill_up_from(0);
    let error = open(&disk).unwrap_err();
    has_words(&error, ErrorKind::Unavailable, &["free some space"]);
    disk.mend();
    let store = open(&disk).unwrap();
    put(&store, "a", 1);
    drop(store);
    disk.fill_up_from(0);
    // The lock needs a file.
    let error = open(&disk).unwrap_err();
    has_words(&error, ErrorKind::Unavailable, &["free some space"]);
    disk.mend();
    assert_eq!(ids(&open(&disk).unwrap()), ["a"]);
}

// Locks.

#[test]
fn the_lock_of_a_live_process_names_it() {
    let directory = a_store();
    // A process of the reference.
    let mut child = Command::new("sleep")
        .arg("1000")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lock = directory.path().join(".lock");
    fs::write(&lock, child.id().to_string()).unwrap();
    let words = [
        "locked by process",
        &child.id().to_string(),
        "close it there",
        "read-only",
    ];
    refused(
        directory.path(),
        Store::builder(),
        ErrorKind::Locked,
        &words,
    );
    assert_eq!(fs::read_to_string(&lock).unwrap(), child.id().to_string());
    let reader = Store::builder()
        .read_only(true)
        .open(directory.path())
        .unwrap();
    assert_eq!(ids(&reader), ["s", "a", "b", "c"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        ids(&Store::open(directory.path()).unwrap()),
        ["s", "a", "b", "c"]
    );
}

#[test]
fn the_lock_of_another_opslog_process_names_it() {
    let disk = SimulatedDisk::new();
    let open = |process: u32| {
        let backend = FsBackend::on(Arc::new(disk.as_process(process)), "/store");
        Store::<Value>::builder().open_backend(backend)
    };
    let store = open(11).unwrap();
    has_words(
        &open(12).unwrap_err(),
        ErrorKind::Locked,
        &["process 11", "close it there"],
    );
    has_words(
        &open(11).unwrap_err(),
        ErrorKind::Locked,
        &["this process (11)", "another handle"],
    );
    put(&store, "a", 1);
    disk.set_alive(11, false);
    assert_eq!(ids(&open(12).unwrap()), ["a"]);
}

#[test]
fn a_lock_file_that_says_nothing_is_left_alone() {
    let directory = a_store();
    fs::write(directory.path().join(".lock"), "what is this").unwrap();
    refused(
        directory.path(),
        Store::builder(),
        ErrorKind::Locked,
        &["no process id", "delete the file"],
    );
}

// Newer versions.

#[test]
fn a_store_of_a_newer_application_is_refused() {
    let directory = a_store();
    drop(
        Store::<Value>::builder()
            .version(3)
            .open(directory.path())
            .unwrap(),
    );
    for read_only in [false, true] {
        let builder = Store::builder().version(2).read_only(read_only);
        let words = ["version 3", "version 2", "use a newer program"];
        refused(
            directory.path(),
            builder,
            ErrorKind::UnsupportedVersion,
            &words,
        );
    }
    assert_eq!(
        Store::<Value>::open(directory.path())
            .unwrap()
            .count()
            .unwrap(),
        4
    );
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let directory = a_store();
    let mut newer = manifest(directory.path());
    newer["opslog"]["format"] = json!(2);
    newer["opslog"]["snapshot"] = json!("something that only format 2 knows");
    put_manifest(directory.path(), newer);
    refused_in_any_way(
        directory.path(),
        ErrorKind::UnsupportedVersion,
        &["format 2", "use a newer one"],
    );
}

// Damaged files.

/// Changes a letter in the `line`th line of the log (from 0); returns where the line begins, and its new bytes.
fn damage_line(directory: &Path, line: usize) -> (u64, Vec<u8>) {
    let path = named(directory, "activeOps");
    let mut bytes = fs::read(&path).unwrap();
    let starts: Vec<usize> = std::iter::once(0)
        .chain(
            (0..bytes.len())
                .filter(|index| bytes[*index] == b'\n')
                .map(|index| index + 1),
        )
        .collect();
    let (start, end) = (starts[line], starts[line + 1]);
    bytes[start + 40] ^= 0x01;
    fs::write(path, &bytes).unwrap();
    (start as u64, bytes[start..end - 1].to_vec())
}

#[test]
fn a_damaged_line_is_reported_kept_aside_and_left_out() {
    for (line, left, kind) in [
        (0, ["s", "b", "c"], DamageKind::Damaged),
        (1, ["s", "a", "c"], DamageKind::Damaged),
        // At the end, that it is a single bit tells it from a write that was cut short.
        (2, ["s", "a", "b"], DamageKind::Damaged),
    ] {
        let directory = a_store();
        let (offset, bytes) = damage_line(directory.path(), line);
        let log = named(directory.path(), "activeOps");
        let before = tree(directory.path());
        let reader = Store::builder()
            .read_only(true)
            .open(directory.path())
            .unwrap();
        assert_eq!(ids(&reader), left);
        assert_eq!(reader.open_report().damage.len(), 1);
        assert_eq!(tree(directory.path()), before);
        if kind == DamageKind::Damaged {
            let words = ["damaged", "strict"];
            refused(
                directory.path(),
                Store::builder().strict(true),
                ErrorKind::Corrupt,
                &words,
            );
            let reader = Store::builder().strict(true).read_only(true);
            refused(directory.path(), reader, ErrorKind::Corrupt, &words);
        }
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(ids(&store), left, "line {line}");
        let report = &store.open_report().damage[0];
        assert_eq!((report.offset, report.kind), (offset, kind));
        assert!(log.ends_with(&report.path), "{report:?}");
        assert!(!report.reason.is_empty());
        let kept = fs::read(format!("{}.damaged", log.display())).unwrap();
        assert_eq!(kept.trim_ascii(), bytes, "line {line}");
        put(&store, "later", 1);
        store.close().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(ids(&store)[3], "later");
        assert_eq!(store.count().unwrap(), 4);
    }
}

#[test]
fn a_log_of_rubbish_is_reported_and_kept_aside() {
    let directory = a_store();
    let log = named(directory.path(), "activeOps");
    fs::write(&log, b"\xff\xfe\0rubbish\n{\"ts\":1}\n[]\n").unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(ids(&store), ["s"]);
    assert_eq!(store.open_report().damage.len(), 1);
    put(&store, "later", 1);
    drop(store);
    assert_eq!(ids(&Store::open(directory.path()).unwrap()), ["s", "later"]);
    let kept = fs::read(format!("{}.damaged", log.display())).unwrap();
    assert!(kept.starts_with(b"\xff\xfe\0rubbish"));
}

#[test]
fn a_truncated_empty_or_changed_snapshot_is_refused() {
    let directory = a_store();
    let path = named(directory.path(), "currentSnapshot");
    let whole = fs::read(&path).unwrap();
    let words = [
        "snapshot",
        "restore it from a backup",
        "nothing was changed",
    ];
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        refused_in_any_way(directory.path(), ErrorKind::Corrupt, &words);
    }
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        changed[index] ^= 0x01;
        fs::write(&path, &changed).unwrap();
        refused(
            directory.path(),
            Store::builder(),
            ErrorKind::Corrupt,
            &words,
        );
    }
    fs::remove_file(&path).unwrap();
    refused_in_any_way(
        directory.path(),
        ErrorKind::Corrupt,
        &["missing", "restore it from a backup"],
    );
    fs::write(&path, whole).unwrap();
    assert_eq!(
        Store::<Value>::open(directory.path())
            .unwrap()
            .count()
            .unwrap(),
        4
    );
}

#[test]
fn a_missing_log_is_refused() {
    let directory = a_store();
    fs::remove_file(named(directory.path(), "activeOps")).unwrap();
    let words = ["ops/ops-", "missing", "restore it from a backup"];
    refused_in_any_way(directory.path(), ErrorKind::Corrupt, &words);
}

#[test]
fn a_missing_log_of_the_history_is_named_when_it_is_asked_for() {
    let directory = a_store();
    let store = Store::<Value>::open(directory.path()).unwrap();
    let sealed = store.manifest().unwrap().sealed_logs.remove(0);
    fs::remove_file(directory.path().join(&sealed)).unwrap();
    assert_eq!(store.count().unwrap(), 4);
    let error = store.history("s").unwrap_err();
    has_words(
        &error,
        ErrorKind::Corrupt,
        &[&sealed, "missing", "restore it from a backup"],
    );
    assert!(store.undo().unwrap());
    assert_eq!(ids(&store), ["s", "a", "b"]);
    put(&store, "later", 1);
    store.close().unwrap();
    assert_eq!(
        Store::<Value>::open(directory.path())
            .unwrap()
            .count()
            .unwrap(),
        4
    );
}

#[test]
fn a_truncated_empty_or_changed_manifest_is_refused() {
    let directory = a_store();
    let path = directory.path().join("manifest.json");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        refused(
            directory.path(),
            Store::builder(),
            ErrorKind::Corrupt,
            &["manifest", "backup"],
        );
    }
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        changed[index] ^= 0x01;
        fs::write(&path, &changed).unwrap();
        let before = tree(directory.path());
        let error = Store::<Value>::builder()
            .read_only(true)
            .open(directory.path())
            .unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Corrupt | ErrorKind::UnsupportedVersion
            ),
            "{index}: {error:?}"
        );
        assert_eq!(tree(directory.path()), before);
    }
    for text in [
        "[]",
        "null",
        "{}",
        "{\"version\":1}",
        "\u{feff}{}",
        "{\"version\":0}",
    ] {
        fs::write(&path, text).unwrap();
        refused_in_any_way(directory.path(), ErrorKind::Corrupt, &["manifest"]);
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(
        Store::<Value>::open(directory.path())
            .unwrap()
            .count()
            .unwrap(),
        4
    );
}

#[test]
fn a_missing_manifest_is_refused_while_anything_holds_data() {
    let words = [
        "manifest is missing",
        "holds data",
        "restore manifest.json from a backup",
    ];
    let directory = a_store();
    fs::remove_file(directory.path().join("manifest.json")).unwrap();
    refused(
        directory.path(),
        Store::builder(),
        ErrorKind::Corrupt,
        &words,
    );
    refused(
        directory.path(),
        Store::builder().skip_load(true),
        ErrorKind::Corrupt,
        &words,
    );

    let in_the_archive = folder();
    let builder = Store::builder().history_retention(Retention::None);
    let store = builder.open(in_the_archive.path()).unwrap();
    put(&store, "a", 1);
    store.archive(|_, _| true, Some("2026-Q1")).unwrap();
    store.close().unwrap();
    let manifest = fs::read(in_the_archive.path().join("manifest.json")).unwrap();
    fs::remove_file(in_the_archive.path().join("manifest.json")).unwrap();
    refused(
        in_the_archive.path(),
        Store::builder(),
        ErrorKind::Corrupt,
        &words,
    );
    fs::write(in_the_archive.path().join("manifest.json"), manifest).unwrap();
    let store = Store::<Value>::open(in_the_archive.path()).unwrap();
    assert_eq!(store.load_archive("2026-Q1").unwrap().len(), 1);
}

#[test]
fn a_creation_that_was_interrupted_is_begun_anew() {
    let directory = folder();
    drop(Store::<Value>::open(directory.path()).unwrap());
    fs::remove_file(directory.path().join("manifest.json")).unwrap();
    let store = Store::open(directory.path()).unwrap();
    put(&store, "a", 1);
    drop(store);
    assert_eq!(ids(&Store::open(directory.path()).unwrap()), ["a"]);
    assert_eq!(
        fs::read_dir(directory.path().join("snapshots"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn a_directory_in_the_manifest_s_place_is_refused() {
    let directory = a_store();
    fs::remove_file(directory.path().join("manifest.json")).unwrap();
    fs::create_dir(directory.path().join("manifest.json")).unwrap();
    refused(
        directory.path(),
        Store::builder(),
        ErrorKind::Corrupt,
        &["manifest"],
    );
}

#[test]
fn a_manifest_whose_paths_leave_the_directory_is_refused() {
    let directory = a_store();
    let good = manifest(directory.path());
    for place in ["/currentSnapshot", "/activeOps", "/opslog/sealed/0/path"] {
        for path in [
            "../../etc/passwd",
            "/etc/passwd",
            "ops/../../x",
            "ops//x",
            "manifest.json",
            "notes.txt",
            "ops\\x",
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(place).unwrap() = path.into();
            put_manifest(directory.path(), bad);
            let words = ["the manifest names", "restore the manifest from a backup"];
            refused_in_any_way(directory.path(), ErrorKind::Corrupt, &words);
        }
    }
    let mut bad = good.clone();
    bad["archiveSegments"] = json!(["archive/archive-2026-Q1.json", "../archive-2026-Q2.json"]);
    put_manifest(directory.path(), bad);
    refused_in_any_way(
        directory.path(),
        ErrorKind::Corrupt,
        &["../archive-2026-Q2.json"],
    );
    put_manifest(directory.path(), good);
    assert_eq!(
        Store::<Value>::open(directory.path())
            .unwrap()
            .count()
            .unwrap(),
        4
    );
}

#[test]
fn a_damaged_or_missing_archive_segment_is_refused_when_it_is_loaded() {
    let directory = a_store();
    let store = Store::<Value>::open(directory.path()).unwrap();
    store.archive(|_, id| id == "a", Some("2026-Q1")).unwrap();
    let path = directory
        .path()
        .join(store.archive_segments().unwrap().remove(0));
    let whole = fs::read(&path).unwrap();
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        changed[index] ^= 0x01;
        fs::write(&path, &changed).unwrap();
        let error = store.load_archive("2026-Q1").unwrap_err();
        has_words(
            &error,
            ErrorKind::Corrupt,
            &["archive", "restore it from a backup"],
        );
    }
    fs::remove_file(&path).unwrap();
    let error = store.load_archive("2026-Q1").unwrap_err();
    has_words(
        &error,
        ErrorKind::Corrupt,
        &["missing", "restore it from a backup"],
    );
    // Merging into what cannot be read would lose it.
    assert!(store.archive(|_, id| id == "b", Some("2026-Q1")).is_err());
    assert_eq!(ids(&store), ["s", "b", "c"]);
    fs::write(&path, whole).unwrap();
    assert_eq!(store.load_archive("2026-Q1").unwrap().len(), 1);
}

#[test]
fn a_migration_that_fails_names_the_document_and_changes_nothing() {
    let directory = a_store();
    let builder = Store::builder()
        .version(2)
        .migrate(|document, _| match document["n"] {
            Value::Number(ref n) if n.as_i64() == Some(1) => Err("cannot do this one".into()),
            _ => Ok(json!({})),
        });
    refused(
        directory.path(),
        builder,
        ErrorKind::InvalidInput,
        &["'a'", "cannot do this one", "nothing was changed"],
    );
    let builder = Store::builder()
        .version(2)
        .migrate(|_, _| Ok(json!("no object")));
    refused(
        directory.path(),
        builder,
        ErrorKind::InvalidInput,
        &["must be a JSON object"],
    );
    assert_eq!(
        Store::<Value>::open(directory.path())
            .unwrap()
            .manifest()
            .unwrap()
            .version,
        1
    );
}

#[test]
fn a_document_that_cannot_be_decoded_is_named() {
    let directory = a_store();
    let store = Store::<Value>::open(directory.path()).unwrap();
    for (id, text) in [("half", r#"{"a":"\ud800"}"#), ("huge", r#"{"n":1e400}"#)] {
        store.set_json(id, text).unwrap();
        let named = format!("'{id}'");
        for error in [
            store.get(id).unwrap_err(),
            store.all().unwrap_err(),
            store.entries().unwrap_err(),
            store.filter(|_, _| true).unwrap_err(),
        ] {
            assert!(error.to_string().contains(&named), "{error}");
        }
        store.flush().unwrap();
        let copy = tempfile::tempdir().unwrap();
        store.backup(copy.path()).unwrap();
        let builder = Store::builder()
            .version(2)
            .migrate(|document, _| Ok(document));
        refused(
            copy.path(),
            builder,
            ErrorKind::InvalidInput,
            &[&named, "nothing was changed"],
        );
        store.delete(id).unwrap();
    }
}

/// A call that would change a store; how it is refused.
type Change = fn(&Store) -> Option<Error>;

#[test]
fn a_read_only_store_refuses_every_change_and_a_closed_one_every_call() {
    let backend = MemoryBackend::new();
    let writer: Store = Store::builder().open_backend(backend.clone()).unwrap();
    put(&writer, "a", 1);
    let reader: Store = Store::builder()
        .read_only(true)
        .open_backend(backend.clone())
        .unwrap();
    let before = backend.list("").unwrap();
    let changes: [Change; 7] = [
        |store| store.set("b", &json!({})).err(),
        |store| store.set_json("b", "{}").err(),
        |store| store.delete("a").err(),
        |store| store.batch(|batch| batch.delete("a")).err(),
        |store| store.undo().err(),
        |store| store.compact().err(),
        |store| store.archive(|_, _| true, None).err(),
    ];
    for change in changes {
        has_words(
            &change(&reader).unwrap(),
            ErrorKind::ReadOnly,
            &["read-only", "open it without"],
        );
    }
    assert_eq!(backend.list("").unwrap(), before);
    writer.close().unwrap();
    writer.close().unwrap();
    for change in changes {
        has_words(
            &change(&writer).unwrap(),
            ErrorKind::Closed,
            &["closed", "open it again"],
        );
    }
}
