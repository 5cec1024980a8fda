//! Directories that the npm package wrote, opened by opslog. What the package itself read from each is in its `expected.json`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, helpers included; the tests copy and compare files from outside"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use opslog::{OpKind, Operation, Residency, Result, Since, Store, StoreBuilder};
use serde_json::{Map, Value, json};

/// A copy of a fixture.
struct Fixture {
    name: String,
    folder: tempfile::TempDir,
    expected: Value,
}

impl Fixture {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn open(&self, builder: StoreBuilder) -> Store {
        self.try_open(builder)
            .unwrap_or_else(|error| panic!("{}: {error:?}", self.name))
    }

    fn try_open(&self, builder: StoreBuilder) -> Result<Store> {
        builder.open(self.path())
    }

    fn list(&self, key: &str) -> &Vec<Value> {
        let list = self.expected[key].as_array();
        list.unwrap_or_else(|| panic!("{}: no {key}", self.name))
    }

    fn is_multi_agent(&self) -> bool {
        self.name.starts_with("multi-agent")
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else if entry.file_name() != "expected.json" {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A copy of every fixture.
fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference");
    let mut fixtures: Vec<Fixture> = fs::read_dir(root)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let folder = tempfile::tempdir().unwrap();
            copy(&entry.path(), folder.path());
            let lock = folder.path().join(".lock");
            if lock.exists() {
                // On this machine, today, some other process may have the id of the one that died.
                fs::write(lock, dead_process()).unwrap();
            }
            let expected = fs::read(entry.path().join("expected.json")).unwrap();
            Fixture {
                name: entry.file_name().into_string().unwrap(),
                folder,
                expected: serde_json::from_slice(&expected).unwrap(),
            }
        })
        .collect();
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(fixtures.len() >= 16, "fixtures are missing");
    fixtures
}

fn single_writer() -> impl Iterator<Item = Fixture> {
    fixtures()
        .into_iter()
        .filter(|fixture| !fixture.is_multi_agent())
}

/// The id of a process that has ended.
fn dead_process() -> String {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id().to_string()
}

/// Every file below `path` with its content.
fn tree(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else if !path.ends_with(".lock") && !path.ends_with(".opslog.lock") {
            let content = fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
    found
}

fn documents(store: &Store) -> Vec<Value> {
    let entries = store.entries().unwrap().into_iter();
    entries
        .map(|(id, document)| json!([id, *document]))
        .collect()
}

/// An operation as `expected.json` has it.
fn as_expected(operation: &Operation) -> Value {
    let mut plain = Map::new();
    let text = |json: &opslog::Json| json.decode::<Value>().unwrap();
    let (kind, data) = match operation.kind {
        OpKind::Set => ("set", operation.data.as_ref().map(text)),
        OpKind::Delete => ("delete", None),
    };
    let line: Value = serde_json::from_str(&operation.to_json()).unwrap();
    plain.insert("ts".into(), line["ts"].clone());
    plain.insert("op".into(), kind.into());
    plain.insert("id".into(), operation.id.as_str().into());
    plain.insert("prev".into(), operation.prev.as_ref().map(text).into());
    plain.extend(data.map(|data| ("data".to_owned(), data)));
    Value::Object(plain)
}

fn operations(store: &Store) -> Vec<Value> {
    let operations = store.ops(Since::Start).unwrap();
    operations.iter().map(as_expected).collect()
}

/// Documents, operations, histories and archives are those that the package read.
fn holds_what_is_expected(fixture: &Fixture, store: &Store) {
    let name = &fixture.name;
    assert_eq!(&documents(store), fixture.list("documents"), "{name}");
    assert_eq!(&operations(store), fixture.list("allOperations"), "{name}");
    let since_the_checkpoint: Vec<Value> = store
        .log_ops(Since::Start)
        .unwrap()
        .map(|operation| as_expected(&operation.unwrap()))
        .collect();
    assert_eq!(&since_the_checkpoint, fixture.list("operations"), "{name}");
    for history in fixture.list("history") {
        let id = history[0].as_str().unwrap();
        let ours = store.history(id).unwrap();
        let ours: Vec<Value> = ours.iter().map(as_expected).collect();
        let theirs = history[1].as_array().unwrap();
        // The package forgets what came before the checkpoint.
        assert!(ours.ends_with(theirs), "{name}: history of {id}");
    }
    for archive in fixture.list("archives") {
        let period = archive[0].as_str().unwrap();
        let found = store.load_archive(period).unwrap().into_iter();
        let found: Vec<Value> = found.map(|(id, document)| json!([id, *document])).collect();
        assert_eq!(&found, archive[1].as_array().unwrap(), "{name}: {period}");
    }
    let stats = store.stats().unwrap();
    let expected = &fixture.expected["stats"];
    assert_eq!(expected["activeRecords"], stats.active_documents, "{name}");
    assert_eq!(expected["opsCount"], stats.ops_since_checkpoint, "{name}");
    assert_eq!(
        expected["archiveSegments"], stats.archive_segments,
        "{name}"
    );
    assert_eq!(
        fixture.expected["version"],
        store.manifest().unwrap().version,
        "{name}"
    );
}

fn on_demand(builder: StoreBuilder) -> StoreBuilder {
    builder.residency(Residency::OnDemand { cache_bytes: 1024 })
}

#[test]
fn a_read_only_store_holds_what_the_package_read_and_changes_no_byte() {
    for fixture in single_writer() {
        let before = tree(fixture.path());
        for builder in [Store::builder(), on_demand(Store::builder())] {
            let store = fixture.open(builder.read_only(true));
            holds_what_is_expected(&fixture, &store);
            assert!(store.tail().unwrap().operations.is_empty());
            store.close().unwrap();
        }
        assert_eq!(tree(fixture.path()), before, "{}", fixture.name);
        let lock = fixture.path().join(".lock");
        assert_eq!(lock.exists(), fixture.name == "unclean", "{}", fixture.name);
    }
}

#[test]
fn a_writable_store_holds_what_the_package_read() {
    for fixture in single_writer() {
        holds_what_is_expected(&fixture, &fixture.open(Store::builder()));
        // Opened by us once, with nothing written.
        holds_what_is_expected(&fixture, &fixture.open(on_demand(Store::builder())));
    }
}

#[test]
fn only_the_torn_tail_is_reported() {
    for fixture in single_writer() {
        let store = fixture.open(Store::builder());
        let damage = &store.open_report().damage;
        let torn = usize::from(fixture.name == "torn-tail");
        assert_eq!(damage.len(), torn, "{}: {damage:?}", fixture.name);
        store.close().unwrap();
        let strict = fixture.open(Store::builder().strict(true));
        assert!(strict.open_report().damage.is_empty(), "{}", fixture.name);
    }
}

#[test]
fn what_is_written_then_is_there_after_a_reopen() {
    for fixture in single_writer() {
        let name = &fixture.name;
        let store = fixture.open(Store::builder());
        let mut expected = documents(&store);
        let all = operations(&store).len();
        store.set("new", &json!({"by": "opslog"})).unwrap();
        store
            .batch(|batch| {
                batch.set("newer", &json!({"é": "🦀"}))?;
                batch.set("newest", &json!({}))
            })
            .unwrap();
        expected.push(json!(["new", {"by": "opslog"}]));
        expected.push(json!(["newer", {"é": "🦀"}]));
        expected.push(json!(["newest", {}]));
        // Without a checkpoint, with one, and after another.
        drop(store);
        for _ in 0..3 {
            let store = fixture.open(Store::builder());
            assert_eq!(documents(&store), expected, "{name}");
            assert_eq!(operations(&store).len(), all + 3, "{name}");
            assert!(
                operations(&store).starts_with(fixture.list("allOperations")),
                "{name}"
            );
            store.close().unwrap();
        }
        for archive in fixture.list("archives") {
            let period = archive[0].as_str().unwrap();
            let found = fixture.open(Store::builder()).load_archive(period).unwrap();
            assert_eq!(found.len(), archive[1].as_array().unwrap().len(), "{name}");
        }
    }
}

#[test]
fn undo_goes_back_through_the_package_s_own_operations() {
    for fixture in single_writer() {
        let name = &fixture.name;
        let own = fixture.list("operations").len();
        let store = fixture.open(Store::builder());
        store.set("new", &json!({})).unwrap();
        let mut taken_back = 0;
        while let Some(undone) = store.undo_commit().unwrap() {
            taken_back += 1;
            for undone in undone {
                let shown = store.get_json(&undone.id).unwrap();
                assert_eq!(undone.document, shown, "{name} {}", undone.id);
            }
        }
        assert_eq!(taken_back, own + 1, "{name}");
        let at_the_checkpoint: Vec<Value> = store
            .stream_snapshot()
            .unwrap()
            .map(|document| {
                let (id, json) = document.unwrap();
                json!([id, json.decode::<Value>().unwrap()])
            })
            .collect();
        let sorted = |mut documents: Vec<Value>| {
            documents.sort_by_key(|entry| entry[0].to_string());
            documents
        };
        assert_eq!(
            sorted(documents(&store)),
            sorted(at_the_checkpoint.clone()),
            "{name}"
        );
        drop(store);
        let store = fixture.open(Store::builder());
        assert_eq!(
            sorted(documents(&store)),
            sorted(at_the_checkpoint),
            "{name}"
        );
    }
}

#[test]
fn archiving_into_the_package_s_segment_merges() {
    for fixture in single_writer() {
        for archive in fixture.list("archives") {
            let period = archive[0].as_str().unwrap();
            let store = fixture.open(Store::builder());
            let before = store.load_archive(period).unwrap();
            let id = format!("into {period}");
            store.set(&id, &json!({})).unwrap();
            assert_eq!(
                store.archive(|_, found| found == id, Some(period)).unwrap(),
                1
            );
            store.close().unwrap();
            let after = fixture.open(Store::builder()).load_archive(period).unwrap();
            assert_eq!(after[..before.len()], before);
            assert_eq!(after[before.len()].0, id);
        }
    }
}

#[test]
fn a_store_of_the_references_agents_opens_with_its_documents_in_its_order() {
    for fixture in fixtures().into_iter().filter(Fixture::is_multi_agent) {
        let name = fixture.name.clone();
        let expected: Vec<(String, Value)> = fixture
            .list("documents")
            .iter()
            .map(|entry| (entry[0].as_str().unwrap().to_owned(), entry[1].clone()))
            .collect();
        let contents = |store: &Store| -> Vec<(String, Value)> {
            let entries = store.entries().unwrap().into_iter();
            entries
                .map(|(id, document)| (id, (*document).clone()))
                .collect()
        };
        let before = tree(fixture.path());
        let reader = fixture.open(Store::builder().read_only(true));
        assert_eq!(contents(&reader), expected, "{name}");
        assert!(!reader.tail().unwrap().rewound);
        let operations = reader.ops(Since::Start).unwrap();
        let of_agents = fixture.list("operations").iter().all(|wanted| {
            operations.iter().any(|operation| {
                operation.id == wanted["id"] && operation.ts.to_string() == wanted["ts"]
            })
        });
        assert!(of_agents, "{name}: {operations:?}");
        assert_eq!(tree(fixture.path()), before, "{name}");
        drop(reader);
        let agent = fixture.open(Store::builder().agent_id("agent-A"));
        assert_eq!(contents(&agent), expected, "{name}");
        let logged = agent.ops(Since::Start).unwrap().len();
        assert_eq!(logged, operations.len(), "{name}");
        agent.set("ours", &json!({})).unwrap();
        agent.close().unwrap();
        let single = fixture.open(Store::builder());
        assert_eq!(contents(&single).len(), expected.len() + 1, "{name}");
    }
}
