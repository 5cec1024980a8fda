//! Every bit of every file of a closed store is flipped, one at a time: it is found, nothing wrong is served as right, and `repair` loses nothing that it does not name.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something unexpected happens"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use opslog::{
    Backend, DamageKind, ErrorKind, MemoryBackend, OpKind, RepairReport, Residency, Since, Store,
    VerifyReport,
};
use serde_json::{Value, json};

/// Ids and the text of their documents; those of archive segments with the segment's name.
type Documents = BTreeMap<String, String>;

/// A closed store, and all that was ever true of it.
struct Specimen {
    files: BTreeMap<String, Vec<u8>>,
    documents: Documents,
    archived: Documents,
    /// Every text that a document ever had.
    versions: BTreeSet<(String, String)>,
}

/// A store with everything: a snapshot with an index, replaced logs, an archive segment, and a log with a batch in it and at its end.
fn specimen(archive: bool) -> Specimen {
    let backend = MemoryBackend::new();
    let store: Store = Store::builder()
        .checkpoint_on_close(false)
        .residency(Residency::OnDemand {
            cache_bytes: 1 << 20,
        })
        .open_backend(backend.clone())
        .unwrap();
    let mut versions = BTreeSet::new();
    let mut set = |id: &str, value: Value| {
        versions.insert((id.to_owned(), value.to_string()));
        store.set(id, &value).unwrap();
    };
    set("a", json!({"n": 1, "text": "é\n\"x\""}));
    set("b", json!({"n": 2}));
    set("old", json!({"n": 3, "list": [1, 2]}));
    set("c\"", json!({"n": 4}));
    store.compact().unwrap();
    set("b", json!({"n": 5, "more": {"k": "v"}}));
    set("gone", json!({"n": 6}));
    store.delete("gone").unwrap();
    if archive {
        store.archive(|_, id| id == "old", Some("old")).unwrap();
    } else {
        store.compact().unwrap();
    }
    set("d", json!({"n": 7}));
    set("a", json!({"n": 8}));
    store
        .batch(|batch| {
            batch.set("e", &json!({"n": 9}))?;
            batch.delete("b")
        })
        .unwrap();
    versions.insert(("e".to_owned(), json!({"n": 9}).to_string()));
    let documents = documents(&store);
    let archived = archived(&store);
    store.close().unwrap();
    let files = backend.list("").unwrap().into_iter();
    Specimen {
        files: files
            .map(|file| (file.name.clone(), backend.read(&file.name).unwrap()))
            .collect(),
        documents,
        archived,
        versions,
    }
}

fn documents(store: &Store) -> Documents {
    let entries = store.entries().unwrap().into_iter();
    entries
        .map(|(id, _)| {
            let text = store.get_json(&id).unwrap().unwrap();
            (id, text.as_str().to_owned())
        })
        .collect()
}

fn archived(store: &Store) -> Documents {
    let mut all = Documents::new();
    for path in store.archive_segments().unwrap() {
        let period = path
            .trim_start_matches("archive/archive-")
            .trim_end_matches(".json");
        let period = period.split('.').next().unwrap();
        for (id, document) in store.load_archive(period).unwrap() {
            all.insert(id, document.to_string());
        }
    }
    all
}

impl Specimen {
    /// The store with the file `name` changed.
    fn with(&self, name: &str, content: Option<&[u8]>) -> MemoryBackend {
        let backend = MemoryBackend::new();
        for (file, bytes) in &self.files {
            match (file == name, content) {
                (false, _) => backend.put(file, bytes).unwrap(),
                (true, Some(content)) => backend.put(file, content).unwrap(),
                (true, None) => {}
            }
        }
        backend
    }

    /// All files whose name begins with `prefix`, with every bit flipped in turn.
    fn each_flip(&self, prefix: &str, mut check: impl FnMut(&str, &MemoryBackend)) {
        let mut flips = 0_u32;
        for (name, bytes) in &self.files {
            if !name.starts_with(prefix) {
                continue;
            }
            // An index is large, and mostly empty.
            let step = if name.contains(".index") { 13 } else { 1 };
            for bit in (0..bytes.len() * 8).step_by(step) {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let backend = self.with(name, Some(&flipped));
                check(
                    &format!("{name} byte {} bit {}", bit / 8, bit % 8),
                    &backend,
                );
                flips += 1;
            }
        }
        assert!(flips > 0, "no file begins with {prefix}");
        // The count that docs/durability.md gives.
        let mut output = std::io::stdout().lock();
        writeln!(output, "{prefix}: {flips} bits flipped").unwrap();
    }

    /// What reading a damaged store may show: never a text that no document ever had, and without a word of damage nothing but the truth.
    fn check_served(&self, place: &str, backend: &MemoryBackend, verified: &VerifyReport) {
        for residency in [
            Residency::Memory,
            Residency::OnDemand {
                cache_bytes: 1 << 20,
            },
        ] {
            let opened: Result<Store, _> = Store::builder()
                .read_only(true)
                .residency(residency)
                .open_backend(backend.clone());
            let store = match opened {
                Ok(store) => store,
                Err(error) => {
                    let expected = [ErrorKind::Corrupt, ErrorKind::UnsupportedVersion];
                    assert!(expected.contains(&error.kind()), "{place}: {error:?}");
                    continue;
                }
            };
            let mut complete = store.open_report().damage.is_empty();
            let mut served = Documents::new();
            // Of documents that stay on storage, each is checked when it is read, and all of them together when all are.
            let mut ids: BTreeSet<String> =
                self.versions.iter().map(|(id, _)| id.clone()).collect();
            match store.entries() {
                Ok(entries) => ids.extend(entries.into_iter().map(|(id, _)| id)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{place}: {error:?}");
                    complete = false;
                }
            }
            for id in ids {
                match store.get_json(&id) {
                    Ok(None) => {}
                    Ok(Some(text)) => {
                        let version = (id, text.as_str().to_owned());
                        assert!(
                            self.versions.contains(&version),
                            "{place}: served {version:?}"
                        );
                        served.insert(version.0, version.1);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{place}: {error:?}");
                        complete = false;
                    }
                }
            }
            if complete {
                assert_eq!(served, self.documents, "{place}: served {verified:?}");
            }
        }
    }

    /// What a repair must leave: a sound store in which only what the report names differs from the truth.
    fn check_repaired(&self, place: &str, backend: &MemoryBackend) -> RepairReport {
        let planned = opslog::plan_repair_backend(backend).unwrap();
        let report = opslog::repair_backend(backend).unwrap();
        assert_eq!(planned.lost, report.lost, "{place}");
        assert_eq!(planned.unreadable, report.unreadable, "{place}");
        let verified = opslog::verify_backend(backend).unwrap();
        assert!(verified.is_sound(), "{place}: {verified:?}");
        let store: Store = Store::builder().open_backend(backend.clone()).unwrap();
        let named: BTreeSet<&String> = report.lost.iter().chain(&report.doubtful).collect();
        // A part in which no id can be made out, or in which the id itself is damaged, may have held any document, which is now as it was before.
        let known = |id: &String| self.versions.iter().any(|(known, _)| known == id);
        let nameless = report
            .unreadable
            .iter()
            .any(|part| part.ids.is_empty() || !part.ids.iter().all(known));
        for (found, truth) in [
            (documents(&store), &self.documents),
            (archived(&store), &self.archived),
        ] {
            let ids: BTreeSet<&String> = found.keys().chain(truth.keys()).collect();
            for id in ids {
                let same = found.get(id) == truth.get(id);
                let earlier = found.get(id).is_none_or(|text| {
                    let version = (id.clone(), text.clone());
                    self.versions.contains(&version)
                });
                let told = named.contains(id) || nameless && earlier;
                assert!(
                    same || told,
                    "{place}: {id} is {:?}, and was {:?}; {report:?}",
                    found.get(id),
                    truth.get(id)
                );
            }
        }
        for name in &report.kept {
            assert!(backend.read(name).is_ok(), "{place}: {name} is not there");
        }
        store.set("after", &json!({})).unwrap();
        assert!(store.undo().unwrap());
        store.close().unwrap();
        report
    }

    fn check(&self, prefix: &str) {
        self.each_flip(prefix, |place, backend| {
            let verified = opslog::verify_backend(backend).unwrap();
            let found: Vec<_> = verified
                .files
                .iter()
                .flat_map(|file| &file.damage)
                .filter(|damage| damage.kind == DamageKind::Damaged)
                .collect();
            assert!(!found.is_empty(), "{place}: not found");
            for damage in found {
                assert!(place.starts_with(&damage.path), "{place}: {damage:?}");
            }
            // Opening and repairing take longest: one bit of each byte, unless all are asked for.
            let one = place.ends_with(&format!("bit {}", place.len() % 8));
            if one || std::env::var_os("OPSLOG_EVERY_BIT").is_some() {
                self.check_served(place, backend, &verified);
                self.check_repaired(place, backend);
            }
        });
    }
}

#[test]
fn any_bit_of_the_manifest() {
    specimen(true).check("manifest.json");
}

#[test]
fn any_bit_of_the_snapshot() {
    specimen(true).check("snapshots/");
}

#[test]
fn any_bit_of_a_snapshot_that_the_operations_vouch_for() {
    let specimen = specimen(false);
    specimen.each_flip("snapshots/snap-", |place, backend| {
        if place.contains(".index") || !place.ends_with("bit 3") {
            return;
        }
        let report = specimen.check_repaired(place, backend);
        assert!(
            report.lost.is_empty() && report.doubtful.is_empty(),
            "{place}: {report:?}"
        );
        let store: Store = Store::builder().open_backend(backend.clone()).unwrap();
        assert_eq!(documents(&store), specimen.documents, "{place}");
    });
}

#[test]
fn any_bit_of_the_logs() {
    specimen(true).check("ops/");
}

#[test]
fn any_bit_of_an_archive_segment() {
    specimen(true).check("archive/");
}

#[test]
fn any_missing_file() {
    for archive in [true, false] {
        let specimen = specimen(archive);
        for name in specimen.files.keys() {
            let backend = specimen.with(name, None);
            let report = specimen.check_repaired(&format!("{name} missing"), &backend);
            if name.starts_with("manifest") {
                assert!(report.is_needed() && report.lost.is_empty(), "{report:?}");
            }
        }
    }
}

#[test]
fn a_store_that_is_not_damaged_is_left_as_it_is() {
    let specimen = specimen(true);
    let backend = specimen.with("", None);
    assert_eq!(
        opslog::repair_backend(&backend).unwrap(),
        RepairReport::default()
    );
    for (name, bytes) in &specimen.files {
        assert_eq!(backend.read(name).unwrap(), *bytes, "{name}");
    }
}

#[test]
fn operations_that_can_be_read_are_all_kept() {
    let specimen = specimen(true);
    let before: Vec<_> = {
        let store: Store = Store::builder()
            .read_only(true)
            .open_backend(specimen.with("", None))
            .unwrap();
        store.ops(Since::Start).unwrap()
    };
    let log = specimen
        .files
        .keys()
        .find(|name| name.starts_with("ops/"))
        .unwrap();
    let mut bytes = specimen.files[log].clone();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 30;
    bytes[second] ^= 3;
    let backend = specimen.with(log, Some(&bytes));
    let report = opslog::repair_backend(&backend).unwrap();
    assert_eq!(report.unreadable.len(), 1);
    assert_eq!(report.unreadable[0].ids, ["b"]);
    assert!(report.lost.is_empty(), "the snapshot has it: {report:?}");
    let store: Store = Store::builder().open_backend(backend).unwrap();
    let after = store.ops(Since::Start).unwrap();
    let expected: Vec<_> = before
        .iter()
        .filter(|op| op.cursor != before[1].cursor)
        .collect();
    assert_eq!(after.iter().collect::<Vec<_>>(), expected);
    assert!(after.iter().any(|op| op.kind == OpKind::Delete));
}
