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
    /// In a store of agents, the greatest clock of an operation.
    clock: Option<u64>,
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
        set("older", json!({"n": 10}));
        let old = |_: &Value, id: &str| id.starts_with("old");
        store.archive(old, Some("old")).unwrap();
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
    store.close().unwrap();
    Specimen::of(&backend, versions)
}

/// A store of two agents that died: with a single writer's work from before them, a snapshot with tombstones and an archive segment, work in their logs that it has and that it
/// has not, an undo, and conflicts that one or the other has won.
fn specimen_of_agents(archive: bool) -> Specimen {
    let backend = MemoryBackend::new();
    let builder = || Store::<Value>::builder().checkpoint_on_close(false);
    let mut versions = BTreeSet::new();
    let mut set = |store: &Store, id: &str, value: Value| {
        versions.insert((id.to_owned(), value.to_string()));
        store.set(id, &value).unwrap();
    };
    let single: Store = builder().open_backend(backend.clone()).unwrap();
    set(&single, "single", json!({"n": 1}));
    set(&single, "old", json!({"n": 2}));
    single.close().unwrap();
    let open = |id: &str| -> Store {
        builder()
            .agent_id(id)
            .open_backend(backend.clone())
            .unwrap()
    };
    let (a, b) = (open("a"), open("b"));
    set(&a, "x", json!({"n": 3}));
    set(&a, "gone", json!({"n": 4}));
    b.refresh().unwrap();
    set(&b, "x", json!({"n": 5}));
    set(&b, "y\"", json!({"n": 6, "text": "é"}));
    b.delete("gone").unwrap();
    // Not seen by the other one, so their clocks are the same.
    set(&a, "both", json!({"n": 7}));
    set(&b, "both", json!({"n": 8}));
    a.refresh().unwrap();
    a.compact().unwrap();
    if archive {
        a.archive(|_, id| id == "old", Some("old")).unwrap();
    }
    set(&b, "late", json!({"n": 9}));
    set(&b, "x", json!({"n": 10}));
    a.batch(|batch| {
        batch.set("e", &json!({"n": 11}))?;
        batch.set("single", &json!({"n": 12}))
    })
    .unwrap();
    versions.insert(("e".to_owned(), json!({"n": 11}).to_string()));
    versions.insert(("single".to_owned(), json!({"n": 12}).to_string()));
    let mut set = |store: &Store, id: &str, value: Value| {
        versions.insert((id.to_owned(), value.to_string()));
        store.set(id, &value).unwrap();
    };
    set(&a, "taken back", json!({"n": 13}));
    a.undo().unwrap();
    a.delete("late").unwrap();
    b.refresh().unwrap();
    set(&b, "e", json!({"n": 14}));
    drop((a, b));
    Specimen::of(&backend, versions)
}

fn every_bit() -> bool {
    std::env::var_os("OPSLOG_EVERY_BIT").is_some()
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

/// Numbers that look like chance, and are the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// What two agents may have left of a store, whatever they did.
fn random_specimen(chance: &mut Chance) -> Specimen {
    let backend = MemoryBackend::new();
    let open = |id: Option<&str>| -> Store {
        let mut builder = Store::builder().checkpoint_on_close(false);
        if let Some(id) = id {
            builder = builder.agent_id(id);
        }
        builder.open_backend(backend.clone()).unwrap()
    };
    let mut versions = BTreeSet::new();
    let single = open(None);
    for n in 0..chance.below(4) {
        let text = json!({"first": n});
        single.set(["d0", "d1", "d2"][n], &text).unwrap();
        versions.insert((format!("d{n}"), text.to_string()));
    }
    single.close().unwrap();
    let mut agents = [Some(open(Some("a"))), Some(open(Some("b")))];
    for step in 0..10 + chance.below(40) {
        let which = chance.below(2);
        let name = ["a", "b"][which];
        let agent = agents[which].get_or_insert_with(|| open(Some(name)));
        let id = format!("d{}", chance.below(6));
        match chance.below(20) {
            0..=8 => {
                let text = json!({"by": name, "step": step});
                agent.set(&id, &text).unwrap();
                versions.insert((id, text.to_string()));
            }
            9..=10 if agent.has(&id).unwrap() => agent.delete(&id).unwrap(),
            11..=13 => agent.refresh().unwrap(),
            14..=15 => agent.compact().unwrap(),
            16 => drop(agent.archive(|_, of| of == id, Some("old")).unwrap()),
            17..=18 => drop(agent.undo().unwrap()),
            _ => agents[which] = None,
        }
    }
    drop(agents);
    Specimen::of(&backend, versions)
}

/// What a single writer may have left of a store, whatever it did.
fn random_specimen_of_one(chance: &mut Chance) -> Specimen {
    let backend = MemoryBackend::new();
    let open = || -> Store {
        let builder = Store::builder().checkpoint_on_close(false);
        builder.open_backend(backend.clone()).unwrap()
    };
    let mut versions = BTreeSet::new();
    let mut store = open();
    for step in 0..10 + chance.below(40) {
        let id = format!("d{}", chance.below(6));
        match chance.below(20) {
            0..=9 => {
                // Texts come again, as they do where an archived document is imported once more.
                let text = [step, 0][chance.below(2)];
                let text = json!({ "text": text });
                store.set(&id, &text).unwrap();
                versions.insert((id, text.to_string()));
            }
            10..=11 if store.has(&id).unwrap() => store.delete(&id).unwrap(),
            12..=14 => store.compact().unwrap(),
            15..=16 => {
                let segment = if *id < *"d3" { "old" } else { "older" };
                store.archive(|_, of| of == id, Some(segment)).unwrap();
            }
            17 => drop(store.undo().unwrap()),
            18 => {
                store.close().unwrap();
                store = open();
            }
            _ => {}
        }
    }
    store.close().unwrap();
    Specimen::of(&backend, versions)
}

impl Specimen {
    fn of(backend: &MemoryBackend, versions: BTreeSet<(String, String)>) -> Self {
        let store: Store = Store::builder()
            .read_only(true)
            .open_backend(backend.clone())
            .unwrap();
        let files = backend.list("").unwrap().into_iter();
        let operations = store.ops(Since::Start).unwrap().into_iter();
        Self {
            files: files
                .map(|file| (file.name.clone(), backend.read(&file.name).unwrap()))
                .collect(),
            documents: documents(&store),
            archived: archived(&store),
            versions,
            clock: operations.filter_map(|operation| operation.clock).max(),
        }
    }

    /// Agents come back under their names, with clocks above all that there were.
    fn check_agents(&self, place: &str, backend: &MemoryBackend) {
        let Some(clock) = self.clock else {
            return;
        };
        let open = |id: &str| -> Store {
            let opened = Store::builder().agent_id(id).open_backend(backend.clone());
            opened.unwrap()
        };
        let (a, b) = (open("a"), open("b"));
        assert_eq!(documents(&a), documents(&b), "{place}");
        a.set("x", &json!({"by": "a"})).unwrap();
        b.refresh().unwrap();
        b.set("x", &json!({"by": "b"})).unwrap();
        a.refresh().unwrap();
        assert_eq!(a.get("x").unwrap().unwrap()["by"], "b", "{place}");
        let operations = a.ops(Since::Start).unwrap();
        let (by_b, before) = operations.split_last().unwrap();
        let by_a = before.last().unwrap();
        assert!(
            clock < by_a.clock.unwrap() && by_a.clock < by_b.clock,
            "{place}"
        );
        drop(b);
        a.close().unwrap();
        let verified = opslog::verify_backend(backend).unwrap();
        assert!(verified.is_sound(), "{place}: {verified:?}");
    }

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

    /// All files whose name begins with `prefix`, with every bit flipped in turn; of agents' files one bit of each byte, unless all are asked for.
    fn each_flip(&self, prefix: &str, mut check: impl FnMut(&str, &MemoryBackend)) {
        let mut flips = 0_u32;
        for (name, bytes) in &self.files {
            if !name.starts_with(prefix) {
                continue;
            }
            // An index is large, and mostly empty.
            let step = match self.clock {
                _ if name.contains(".index") => 13,
                Some(_) if !every_bit() => 9,
                _ => 1,
            };
            let counts = self.counting(name);
            for bit in (0..bytes.len() * 8).step_by(step) {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let backend = self.with(name, Some(&flipped));
                let place = format!("{name} byte {} bit {}", bit / 8, bit % 8);
                if bit / 8 < counts {
                    check(&place, &backend);
                } else {
                    // The newline behind the part of a replaced log that counts, and what its agent has copied to the next one.
                    let verified = opslog::verify_backend(&backend).unwrap();
                    assert!(verified.is_sound(), "{place}: {verified:?}");
                }
                flips += 1;
            }
        }
        assert!(flips > 0, "no file begins with {prefix}");
        // The count that docs/durability.md gives.
        let mut output = std::io::stdout().lock();
        writeln!(output, "{prefix}: {flips} bits flipped").unwrap();
    }

    /// How many bytes of a file count.
    fn counting(&self, name: &str) -> usize {
        let manifest: Value = serde_json::from_slice(&self.files["manifest.json"]).unwrap();
        let sealed = manifest["opslog"]["sealed"].as_array().unwrap();
        let bytes = sealed
            .iter()
            .find(|log| log["path"] == name)
            .map(|log| usize::try_from(log["bytes"].as_u64().unwrap()).unwrap());
        bytes.unwrap_or(usize::MAX)
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
        let report = opslog::repair_backend(backend);
        assert!(report.is_ok(), "{place}: {report:?} {planned:?}");
        let report = report.unwrap();
        assert_eq!(planned.lost, report.lost, "{place}");
        assert_eq!(planned.unreadable, report.unreadable, "{place}");
        let verified = opslog::verify_backend(backend).unwrap();
        assert!(verified.is_sound(), "{place}: {verified:?}");
        let store: Store = Store::builder().open_backend(backend.clone()).unwrap();
        let named: BTreeSet<&String> = report.lost.iter().chain(&report.doubtful).collect();
        // A part in which no id can be made out, or in which the id itself is damaged, may have held any document, which is now as it was before.
        let known = |id: &String| self.versions.iter().any(|(known, _)| known == id);
        let mut parts = report.unreadable.iter();
        let nameless = parts.any(|part| {
            // A run of bytes may have hit an id beside others.
            let wide = place.contains("..") && !part.place.path.starts_with("snapshots/");
            part.place.path != "manifest.json"
                && (wide || part.ids.is_empty() || !part.ids.iter().all(known))
        });
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
        // What takes longest, for one byte in eight.
        if !place.contains(" bit ") || place.ends_with("bit 0") {
            self.check_agents(place, backend);
        }
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
            if one || self.clock.is_some() || every_bit() {
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

#[test]
fn any_bit_of_the_manifest_of_agents() {
    specimen_of_agents(true).check("manifest.json");
}

#[test]
fn any_bit_of_the_snapshot_of_agents_or_of_its_stamps() {
    specimen_of_agents(true).check("snapshots/");
}

#[test]
fn any_bit_of_the_logs_of_agents() {
    specimen_of_agents(true).check("ops/");
}

#[test]
fn any_bit_of_an_archive_segment_of_agents() {
    specimen_of_agents(true).check("archive/");
}

#[test]
fn any_missing_file_of_agents() {
    for archive in [true, false] {
        let specimen = specimen_of_agents(archive);
        for name in specimen.files.keys() {
            let backend = specimen.with(name, None);
            let report = specimen.check_repaired(&format!("{name} missing"), &backend);
            let is_told = name.starts_with("manifest") || name.starts_with("snapshots/");
            if is_told {
                assert!(
                    report.is_needed() && report.lost.is_empty(),
                    "{name}: {report:?}"
                );
            }
        }
    }
}

#[test]
fn a_store_of_agents_that_is_not_damaged_is_left_as_it_is() {
    let specimen = specimen_of_agents(true);
    let backend = specimen.with("", None);
    let report = opslog::repair_backend(&backend).unwrap();
    assert_eq!(report, RepairReport::default());
    for (name, bytes) in &specimen.files {
        assert_eq!(backend.read(name).unwrap(), *bytes, "{name}");
    }
}

/// Where the last write of a log begins.
fn last_write(log: &[u8]) -> usize {
    let text = std::str::from_utf8(log).unwrap().trim_end();
    let last = text.rsplit('\n').next().unwrap();
    let at = last.rsplit(",\"at\":").next().unwrap();
    at.split(',').next().unwrap().parse().unwrap_or(0)
}

#[test]
fn any_file_of_agents_whatever_they_did() {
    check_random(random_specimen);
}

#[test]
fn any_file_of_a_single_writer_whatever_it_did() {
    check_random(random_specimen_of_one);
}

/// A file is missing, cut short, or has a run of bytes overwritten.
fn check_random(specimen: fn(&mut Chance) -> Specimen) {
    let stores: u64 = std::env::var("OPSLOG_STORES").map_or(12, |text| text.parse().unwrap());
    for seed in 0..stores {
        let chance = &mut Chance(seed);
        let specimen = specimen(chance);
        for (name, bytes) in &specimen.files {
            let missing = specimen.with(name, None);
            specimen.check_repaired(&format!("seed {seed}: {name} missing"), &missing);
            // In the last write of a log, or in the newline before it, any change but one flipped bit is a torn write.
            let limit = if name.starts_with("ops/") {
                let limit = last_write(bytes).min(specimen.counting(name));
                limit.saturating_sub(1)
            } else {
                bytes.len()
            };
            for _ in 0..if limit > 0 { 3 } else { 0 } {
                let start = chance.below(limit);
                let end = (start + 1 + chance.below(90)).min(limit);
                let mut changed = bytes.clone();
                if chance.below(4) == 0 && !name.starts_with("ops/") {
                    changed.truncate(start);
                } else {
                    changed[start..end].fill([0, b'?', b'1'][chance.below(3)]);
                }
                let backend = specimen.with(name, Some(&changed));
                let place = format!("seed {seed}: {name} {start}..{end} of {}", bytes.len());
                let verified = opslog::verify_backend(&backend).unwrap();
                specimen.check_served(&place, &backend, &verified);
                specimen.check_repaired(&place, &backend);
            }
        }
    }
}
