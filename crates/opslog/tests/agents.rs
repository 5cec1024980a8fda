//! Several agents on one store.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by panicking, and damages files from outside"
)]

use opslog::backend::Backend as _;
use opslog::{ErrorKind, MemoryBackend, Retention, Since, Store};
use serde_json::{Value, json};

fn agent(backend: &MemoryBackend, id: &str) -> Store {
    Store::builder()
        .agent_id(id)
        .open_backend(backend.clone())
        .unwrap()
}

fn contents(store: &Store) -> Vec<(String, Value)> {
    let entries = store.entries().unwrap().into_iter();
    entries
        .map(|(id, document)| (id, (*document).clone()))
        .collect()
}

fn ids(store: &Store) -> String {
    let entries = store.entries().unwrap();
    let ids: Vec<String> = entries.into_iter().map(|(id, _)| id).collect();
    ids.join(",")
}

fn refresh_all(agents: &[Store]) {
    for agent in agents {
        agent.refresh().unwrap();
    }
}

fn set(store: &Store, id: &str, value: u64) {
    store.set(id, &json!({"v": value})).unwrap();
}

fn value(store: &Store, id: &str) -> Option<u64> {
    let document = store.get(id).unwrap()?;
    document["v"].as_u64()
}

#[test]
fn agents_see_each_others_work_when_they_look_and_agree_on_it() {
    let backend = MemoryBackend::new();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    set(&a, "from-a", 1);
    set(&b, "from-b", 2);
    assert_eq!(ids(&b), "from-b");
    let tail = b.tail().unwrap();
    assert_eq!((tail.operations.len(), tail.rewound), (1, false));
    set(&b, "from-a", 3);
    set(&a, "also-a", 4);
    a.refresh().unwrap();
    b.refresh().unwrap();
    assert_eq!(contents(&a), contents(&b));
    assert_eq!(value(&a, "from-a"), Some(3));
    assert!(b.tail().unwrap().operations.is_empty());
    // Created with the same clock: the agents' ids decide.
    assert_eq!(ids(&a), "from-a,from-b,also-a");
}

#[test]
fn the_later_clock_wins_and_ties_go_by_the_agents_id() {
    let backend = MemoryBackend::new();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    set(&a, "x", 1);
    set(&b, "x", 2);
    a.refresh().unwrap();
    b.refresh().unwrap();
    assert_eq!((value(&a, "x"), value(&b, "x")), (Some(2), Some(2)));
    set(&a, "x", 3);
    b.refresh().unwrap();
    assert_eq!(value(&b, "x"), Some(3));
    b.delete("x").unwrap();
    a.refresh().unwrap();
    assert_eq!(value(&a, "x"), None);
}

#[test]
fn whoever_compacts_when_nothing_is_lost_and_files_do_not_pile_up() {
    for retention in [Retention::All, Retention::None] {
        let backend = MemoryBackend::new();
        let open = |id: &str| -> Store {
            Store::builder()
                .agent_id(id)
                .history_retention(retention)
                .open_backend(backend.clone())
                .unwrap()
        };
        let agents = [open("a"), open("b"), open("c")];
        for round in 0..30_u64 {
            for (index, agent) in agents.iter().enumerate() {
                set(agent, &format!("{round}-{index}"), round);
                set(agent, "shared", round * 10 + index as u64);
                if round % 3 == 2 {
                    agent.delete(&format!("{}-{index}", round - 1)).unwrap();
                }
                if round % 4 == index as u64 {
                    agent.compact().unwrap();
                }
            }
        }
        refresh_all(&agents);
        assert_eq!(contents(&agents[0]), contents(&agents[1]));
        assert_eq!(contents(&agents[0]), contents(&agents[2]));
        assert_eq!(agents[0].count().unwrap(), 30 * 3 - 10 * 3 + 1);
        for _ in 0..2 {
            agents[1].compact().unwrap();
            refresh_all(&agents);
        }
        if retention == Retention::None {
            assert_eq!(backend.list("ops/").unwrap().len(), 1 + 3);
        }
        assert_eq!(backend.list("snapshots/").unwrap().len(), 2);
        let before = contents(&agents[0]);
        let [a, b, c] = agents;
        b.close().unwrap();
        drop(a);
        c.close().unwrap();
        assert!(opslog::verify_backend(&backend).unwrap().is_sound());
        let single: Store = Store::builder().open_backend(backend.clone()).unwrap();
        assert_eq!(contents(&single), before);
        assert_eq!(
            backend.list("ops/agent-").unwrap().is_empty(),
            retention == Retention::None
        );
    }
}

#[test]
fn undo_takes_back_the_agents_own_commits_and_nobody_elses() {
    let backend = MemoryBackend::new();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    set(&a, "x", 1);
    set(&a, "x", 2);
    set(&a, "x", 3);
    b.refresh().unwrap();
    assert!(!b.undo().unwrap());
    assert!(a.undo().unwrap());
    assert_eq!(value(&a, "x"), Some(2));
    assert!(a.undo().unwrap());
    assert_eq!(value(&a, "x"), Some(1));
    b.refresh().unwrap();
    assert_eq!(value(&b, "x"), Some(1));
    set(&b, "x", 9);
    assert!(a.undo().unwrap());
    // Another agent has written since: that stays.
    assert_eq!(value(&a, "x"), Some(9));
    assert!(!a.undo().unwrap());
    b.delete("x").unwrap();
    a.refresh().unwrap();
    assert_eq!(value(&a, "x"), None);
    assert!(b.undo().unwrap());
    a.refresh().unwrap();
    assert_eq!((value(&a, "x"), value(&b, "x")), (Some(9), Some(9)));
}

#[test]
fn undo_restores_what_the_others_wrote_below_it_though_it_had_not_seen_it() {
    let backend = MemoryBackend::new();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    set(&b, "x", 1);
    b.refresh().unwrap();
    set(&a, "other", 0);
    set(&a, "x", 2);
    // Clock 1 of b is below clock 2 of a, which did not know of it.
    assert!(a.undo().unwrap());
    assert_eq!(value(&a, "x"), Some(1));
    b.refresh().unwrap();
    assert_eq!(value(&b, "x"), Some(1));
    assert_eq!(ids(&a), ids(&b));
}

#[test]
fn a_batch_is_one_commit_for_everybody() {
    let backend = MemoryBackend::new();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    a.batch(|batch| {
        batch.set("x", &json!({"v": 1}))?;
        batch.set("y", &json!({"v": 1}))?;
        batch.delete("x")?;
        batch.set("x", &json!({"v": 2}))
    })
    .unwrap();
    b.refresh().unwrap();
    assert_eq!(contents(&a), contents(&b));
    assert_eq!(ids(&b), "y,x");
    assert!(a.undo().unwrap());
    b.refresh().unwrap();
    assert_eq!((a.count().unwrap(), b.count().unwrap()), (0, 0));
}

#[test]
fn an_archive_moves_documents_out_for_all_and_a_newer_version_stays() {
    let backend = MemoryBackend::new();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    for n in 0..10 {
        set(&a, &format!("{n}"), n);
    }
    b.refresh().unwrap();
    // Not seen by a, and newer than what a archives.
    set(&b, "3", 33);
    let moved = a.archive(|document, _| document["v"].as_u64() < Some(5), Some("old"));
    // The archive looks first, so it archives what b wrote, or not at all.
    assert_eq!(moved.unwrap(), 4);
    set(&b, "4", 44);
    b.refresh().unwrap();
    a.refresh().unwrap();
    assert_eq!(contents(&a), contents(&b));
    assert_eq!((value(&a, "3"), value(&a, "4")), (Some(33), Some(44)));
    assert_eq!(a.load_archive("old").unwrap().len(), 4);
    assert_eq!(b.archive_segments().unwrap().len(), 1);
    b.compact().unwrap();
    a.refresh().unwrap();
    assert_eq!(contents(&a), contents(&b));
}

#[test]
fn the_same_agent_twice_is_refused_and_so_are_a_single_writer_and_agents_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let open = |id: &str| {
        Store::<Value>::builder()
            .agent_id(id)
            .open(directory.path())
    };
    let a = open("a").unwrap();
    let error = open("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.message().contains("agent 'a' is in use"), "{error}");
    let error = Store::<Value>::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let b = open("b").unwrap();
    set(&b, "x", 1);
    drop((a, b));
    let single = Store::<Value>::open(directory.path()).unwrap();
    assert_eq!(value(&single, "x"), Some(1));
    assert_eq!(open("a").unwrap_err().kind(), ErrorKind::Locked);
    drop(single);
    for bad in ["", "a/b", "a b", &"x".repeat(65)] {
        assert_eq!(open(bad).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    open("a").unwrap();
}

#[test]
fn a_store_goes_from_single_writer_to_agents_and_back_with_everything() {
    let backend = MemoryBackend::new();
    let single = || -> Store { Store::builder().open_backend(backend.clone()).unwrap() };
    for round in 0..5_u64 {
        let store = single();
        assert_eq!(store.count().unwrap() as u64, round * 3, "{}", ids(&store));
        set(&store, &format!("single-{round}"), round);
        match round % 2 {
            0 => store.close().unwrap(),
            _ => drop(store),
        }
        let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
        set(&a, &format!("a-{round}"), round);
        b.refresh().unwrap();
        set(&b, &format!("b-{round}"), round);
        match round % 3 {
            0 => (a.close().unwrap(), b.close().unwrap()),
            1 => (drop(a), b.close().unwrap()),
            _ => (drop(a), drop(b)),
        };
    }
    let store = single();
    assert_eq!(ids(&store).split(',').count(), 15);
    assert!(
        ids(&store).starts_with("single-0,a-0,b-0,single-1,a-1"),
        "{}",
        ids(&store)
    );
    let operations = store.ops(Since::Start).unwrap();
    assert_eq!(operations.len(), 15);
    let seen: Vec<&str> = operations.iter().map(|operation| &*operation.id).collect();
    assert_eq!(seen.join(","), ids(&store));
    assert_eq!(store.history("a-3").unwrap().len(), 1);
    // A cursor leads on from anywhere.
    for (index, operation) in operations.iter().enumerate() {
        let cursor: opslog::Cursor = operation.cursor.to_string().parse().unwrap();
        assert_eq!(store.ops(cursor).unwrap().len(), 14 - index, "{index}");
    }
}

#[test]
fn a_reader_follows_agents_as_they_come_and_go() {
    let backend = MemoryBackend::new();
    let store: Store = Store::builder().open_backend(backend.clone()).unwrap();
    set(&store, "first", 0);
    let reader: Store = Store::builder()
        .read_only(true)
        .open_backend(backend.clone())
        .unwrap();
    store.close().unwrap();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    for round in 0..6_u64 {
        set(&a, &format!("a-{round}"), round);
        set(&b, "shared", round);
        if round == 2 {
            a.compact().unwrap();
        }
        if round == 4 {
            b.archive(|_, id| id == "a-0", None).unwrap();
        }
        a.refresh().unwrap();
        reader.refresh().unwrap();
        b.refresh().unwrap();
        assert_eq!(contents(&reader), contents(&a), "{round}");
        assert_eq!(contents(&reader), contents(&b), "{round}");
    }
    a.close().unwrap();
    b.close().unwrap();
    let store: Store = Store::builder().open_backend(backend).unwrap();
    set(&store, "last", 0);
    reader.refresh().unwrap();
    assert_eq!(contents(&reader), contents(&store));
    set(&store, "very-last", 0);
    let tail = reader.tail().unwrap();
    assert_eq!(tail.operations.len(), 1);
    assert_eq!(contents(&reader), contents(&store));
}

#[test]
fn the_history_of_many_compactions_stays_in_few_files() {
    let backend = MemoryBackend::new();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    for n in 0..200 {
        set(&a, "x", n);
        a.compact().unwrap();
        b.refresh().unwrap();
        set(&b, "y", n);
        if n % 2 == 0 {
            b.compact().unwrap();
        }
    }
    let files = backend.list("ops/").unwrap().len();
    assert!(files < 80, "{files}");
    assert_eq!(a.history("x").unwrap().len(), 200);
    b.refresh().unwrap();
    assert_eq!(b.history("y").unwrap().len(), 200);
    let clocks: Vec<_> = b.ops(Since::Start).unwrap();
    assert!(clocks.is_sorted_by_key(|operation| (operation.clock, operation.agent.clone())));
}

#[test]
fn agents_in_threads_write_compact_come_and_go_and_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let open = |id: &str| -> Store {
        Store::builder()
            .agent_id(id)
            .checkpoint_threshold(7)
            .open(directory.path())
            .unwrap()
    };
    let (agents, rounds) = (4_u64, 60_u64);
    std::thread::scope(|scope| {
        for agent in 0..agents {
            let open = &open;
            scope.spawn(move || {
                let id = format!("agent-{agent}");
                let mut store = open(&id);
                for round in 0..rounds {
                    set(&store, &format!("{agent}-{round}"), round);
                    set(&store, "shared", round);
                    match (round + agent * 3) % 10 {
                        0 => store.compact().unwrap(),
                        3 => store.refresh().unwrap(),
                        6 => {
                            drop(store);
                            store = open(&id);
                        }
                        8 => {
                            store.close().unwrap();
                            store = open(&id);
                        }
                        _ => {}
                    }
                    assert_eq!(value(&store, &format!("{agent}-{round}")), Some(round));
                }
            });
        }
    });
    let views: Vec<Store> = (0..agents)
        .map(|agent| open(&format!("agent-{agent}")))
        .collect();
    refresh_all(&views);
    for view in &views {
        assert_eq!(view.count().unwrap() as u64, agents * rounds + 1);
        assert_eq!(contents(view), contents(&views[0]));
    }
    let operations = views[0].ops(Since::Start).unwrap();
    assert_eq!(operations.len() as u64, agents * rounds * 2);
    let stamps: std::collections::HashSet<_> = operations
        .iter()
        .map(|operation| (operation.clock, operation.agent.clone()))
        .collect();
    assert_eq!(stamps.len(), operations.len());
    assert!(opslog::verify(directory.path()).unwrap().is_sound());
}

#[test]
fn what_an_agent_wrote_and_folded_since_the_last_look_is_seen_by_those_who_did_not_know_it() {
    for retention in [Retention::All, Retention::None] {
        let backend = MemoryBackend::new();
        let a = agent(&backend, "a");
        let b: Store = Store::builder()
            .agent_id("b")
            .history_retention(retention)
            .open_backend(backend.clone())
            .unwrap();
        set(&b, "x", 1);
        b.compact().unwrap();
        set(&b, "y", 2);
        drop(b);
        let tail = a.tail().unwrap();
        assert_eq!(tail.rewound, retention == Retention::None);
        assert_eq!((value(&a, "x"), value(&a, "y")), (Some(1), Some(2)));
        assert!(a.tail().unwrap().operations.is_empty());
    }
}

#[test]
fn a_tail_tells_what_was_seen_while_something_else_was_done() {
    let backend = MemoryBackend::new();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    set(&b, "x", 1);
    a.compact().unwrap();
    assert_eq!(value(&a, "x"), Some(1));
    set(&b, "y", 2);
    set(&a, "z", 3);
    assert!(a.undo().unwrap());
    let told = a.tail().unwrap().operations;
    let told: Vec<&str> = told.iter().map(|operation| &*operation.id).collect();
    assert_eq!(told, ["x", "y"]);
    assert!(a.tail().unwrap().operations.is_empty());
}

#[test]
fn a_backup_of_a_store_of_living_agents_has_what_all_of_them_wrote() {
    let backend = MemoryBackend::new();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    for n in 0..20 {
        set(&a, &format!("a-{n}"), n);
        set(&b, &format!("b-{n}"), n);
        if n == 7 {
            a.compact().unwrap();
            b.refresh().unwrap();
            b.delete("a-3").unwrap();
        }
    }
    let copy = MemoryBackend::new();
    opslog::backup_backend(&backend, &copy).unwrap();
    a.refresh().unwrap();
    let single: Store = Store::builder().open_backend(copy).unwrap();
    assert_eq!(contents(&single), contents(&a));
    assert_eq!(single.count().unwrap(), 39);
    assert_eq!(single.ops(Since::Start).unwrap().len(), 41);
}

#[test]
fn an_agents_clock_never_goes_back() {
    let backend = MemoryBackend::new();
    let other = agent(&backend, "other");
    let mut last = 0;
    for round in 0..40_u64 {
        let store: Store = Store::builder()
            .agent_id("a")
            .skip_load(round % 3 == 1)
            .open_backend(backend.clone())
            .unwrap();
        match round % 8 {
            0 => set(&other, "x", round),
            2 => store.refresh().unwrap(),
            // Of what was written blindly, nothing can be taken back.
            3 => drop(store.undo()),
            5 if round % 3 != 1 => store.compact().unwrap(),
            6 => {
                other.refresh().unwrap();
                other.compact().unwrap();
            }
            _ => {}
        }
        set(&store, "x", round);
        let operations = store.ops(Since::Start).unwrap();
        let newest = operations
            .iter()
            .filter(|operation| operation.agent.as_deref() == Some("a"))
            .map(|operation| operation.clock.unwrap())
            .max();
        assert!(
            newest > Some(last),
            "round {round}: {newest:?} after {last}"
        );
        last = newest.unwrap();
        match round % 5 {
            0 => store.close().unwrap(),
            _ => drop(store),
        }
    }
    let store = agent(&backend, "a");
    other.refresh().unwrap();
    assert_eq!(contents(&store), contents(&other));
    assert_eq!(value(&store, "x"), Some(39));
}

#[test]
fn a_dead_agents_torn_end_is_kept_aside_when_another_one_folds_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let open = |id: &str| -> Store {
        Store::builder()
            .agent_id(id)
            .open(directory.path())
            .unwrap()
    };
    let (a, b) = (open("a"), open("b"));
    set(&b, "x", 1);
    let log = b.agents().unwrap()[1].log.clone().unwrap();
    drop(b);
    let path = directory.path().join(&log);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"ts\":\"half a li");
    std::fs::write(&path, bytes).unwrap();
    a.compact().unwrap();
    assert_eq!(value(&a, "x"), Some(1));
    let kept = std::fs::read_to_string(directory.path().join(format!("{log}.damaged"))).unwrap();
    assert!(kept.contains("half a li"), "{kept}");
    assert!(opslog::verify(directory.path()).unwrap().is_sound());
}

#[test]
fn a_blind_agent_keeps_sight_of_its_own_writes() {
    let backend = MemoryBackend::new();
    let a = agent(&backend, "a");
    set(&a, "x", 1);
    let blind: Store = Store::builder()
        .agent_id("blind")
        .skip_load(true)
        .open_backend(backend)
        .unwrap();
    set(&blind, "mine", 2);
    a.archive(|_, id| id == "x", None).unwrap();
    blind.refresh().unwrap();
    assert_eq!((value(&blind, "mine"), value(&blind, "x")), (Some(2), None));
    a.refresh().unwrap();
    assert_eq!(value(&a, "mine"), Some(2));
}

#[test]
fn a_migration_needs_the_store_for_itself_and_then_reaches_what_every_agent_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let open = |id: &str, version: u32| {
        Store::<Value>::builder()
            .agent_id(id)
            .version(version)
            .migrate(|mut document, from| {
                document["from"] = from.into();
                Ok(document)
            })
            .open(directory.path())
    };
    let (a, b) = (open("a", 1).unwrap(), open("b", 1).unwrap());
    set(&a, "x", 1);
    set(&b, "y", 2);
    let error = open("c", 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.message().contains("migrated"), "{error}");
    drop((a, b));
    let c = open("c", 2).unwrap();
    for (id, document) in c.entries().unwrap() {
        assert_eq!(document["from"], 1, "{id}");
    }
    assert_eq!(c.manifest().unwrap().version, 2);
    assert_eq!(
        open("a", 1).unwrap_err().kind(),
        ErrorKind::UnsupportedVersion
    );
    set(&c, "z", 3);
    let d = open("d", 2).unwrap();
    assert_eq!(contents(&c), contents(&d));
}

/// A single writer and a migration go over documents without stamps: what agents wrote before is older than that, and stays so.
#[test]
fn an_undo_brings_back_nothing_from_before_a_single_writer_or_a_migration() {
    let directory = tempfile::tempdir().unwrap();
    let open = |agent: Option<&str>, version: u32| {
        let builder = Store::<Value>::builder()
            .version(version)
            .migrate(|_, _| Ok(json!({"v": "migrated"})));
        let builder = match agent {
            Some(agent) => builder.agent_id(agent),
            None => builder,
        };
        builder.open(directory.path()).unwrap()
    };
    let a = open(Some("a"), 1);
    set(&a, "x", 1);
    set(&a, "x", 2);
    a.close().unwrap();
    let single = open(None, 1);
    set(&single, "x", 3);
    single.close().unwrap();
    let a = open(Some("a"), 1);
    set(&a, "x", 4);
    assert!(a.undo().unwrap());
    assert_eq!(value(&a, "x"), Some(3));
    assert!(!a.undo().unwrap());
    a.close().unwrap();
    let a = open(Some("a"), 2);
    assert!(!a.undo().unwrap());
    set(&a, "x", 5);
    assert!(a.undo().unwrap());
    assert_eq!(a.get("x").unwrap().unwrap()["v"], "migrated");
}

#[test]
fn watch_tells_what_other_agents_write() {
    let backend = MemoryBackend::new();
    let (a, b) = (agent(&backend, "a"), agent(&backend, "b"));
    let (sender, told) = std::sync::mpsc::channel();
    a.watch(std::time::Duration::from_millis(5), move |tail| {
        for operation in tail.unwrap().operations {
            sender.send(operation.id).unwrap();
        }
    })
    .unwrap();
    for n in 0..20 {
        set(&b, &format!("{n}"), n);
        if n % 6 == 0 {
            a.compact().unwrap();
            b.compact().unwrap();
        }
    }
    let told: Vec<String> = told.iter().take(20).collect();
    assert_eq!(told, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn repair_names_the_agents_that_have_the_store_open_and_waits_for_them_to_leave() {
    let directory = tempfile::tempdir().unwrap();
    let open = |id: &str| -> Store {
        Store::builder()
            .agent_id(id)
            .open(directory.path())
            .unwrap()
    };
    let (a, b, c) = (open("a"), open("b"), open("c"));
    for agent in [&a, &b, &c] {
        set(agent, "x", 1);
    }
    drop(c);
    for (alive, words) in [(Some(a), "agents 'a', 'b' have"), (None, "agent 'b' has")] {
        let error = opslog::repair(directory.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.to_string().contains(words), "{error}");
        drop(alive);
    }
    drop(b);
    assert!(!opslog::repair(directory.path()).unwrap().is_needed());
    std::fs::remove_file(directory.path().join("manifest.json")).unwrap();
    let planned = opslog::plan_repair(directory.path()).unwrap();
    let report = opslog::repair(directory.path()).unwrap();
    assert_eq!(planned.unreadable, report.unreadable);
    assert!(report.lost.is_empty(), "{report:?}");
    let (a, b) = (open("a"), open("b"));
    assert_eq!(contents(&a), contents(&b));
    assert_eq!(value(&a, "x"), Some(1));
}
