//! Eight processes on one directory, each of which is killed again and again.
//!
//! Each writes down what it was told is stored; at the end all views agree, and everything acknowledged is accounted for by the rules of `docs/multi-writer.md`. A failure prints
//! the seed and leaves the directory. `OPSLOG_TORTURE_SECONDS` says how long, `OPSLOG_TORTURE_SEED` what is drawn.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "the helpers of tests fail the test, and say what they have done"
)]

#[path = "agents_proof/check.rs"]
mod check;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use opslog::backend::seeded;
use opslog::{CheckpointMode, ErrorKind, Store};
use serde_json::{Value, json};

use check::{Acknowledged, documents};

const AGENTS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const IDS: usize = 40;

/// What a worker is told in its environment.
const WORKER: &str = "OPSLOG_TORTURE_WORKER";

struct Worker<'w> {
    agent: String,
    directory: &'w Path,
    journal: File,
    count: u64,
    life: u64,
}

impl Worker<'_> {
    fn open(&self, skip_load: bool, background: bool) -> Store {
        let mode = if background {
            CheckpointMode::Background
        } else {
            CheckpointMode::Blocking
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let opened = Store::builder()
                .agent_id(&*self.agent)
                .skip_load(skip_load)
                .checkpoint_mode(mode)
                .open(self.directory.join("store"));
            match opened {
                Ok(store) => return store,
                // The process before this one is not quite dead yet.
                Err(error) if error.is_locked() && tries < 3_000 => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("open: {error:?}"),
            }
        }
    }

    fn value(&mut self) -> Value {
        self.count += 1;
        json!({"by": self.agent, "life": self.life, "n": self.count})
    }

    /// Writes down that the writes are stored.
    fn acknowledged(&mut self, writes: &[(String, Option<Value>)]) {
        let mut lines = String::new();
        for (id, value) in writes {
            lines += &json!([id, value]).to_string();
            lines.push('\n');
        }
        self.journal.write_all(lines.as_bytes()).unwrap();
    }

    fn run(&mut self, mut choose: impl FnMut(usize) -> usize) {
        let mut store = self.open(false, true);
        let mut loaded = true;
        while !self.directory.join("stop").exists() {
            let id = format!("id-{}", choose(IDS));
            match choose(200) {
                0..=89 => {
                    let value = self.value();
                    store.set(&id, &value).expect("set");
                    self.acknowledged(&[(id, Some(value))]);
                }
                90..=119 => match store.delete(&id) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    deleted => {
                        deleted.expect("delete");
                        self.acknowledged(&[(id, None)]);
                    }
                },
                120..=139 => {
                    let writes: Vec<(String, Option<Value>)> = (0..=choose(4))
                        .map(|_| (format!("id-{}", choose(IDS)), Some(self.value())))
                        .collect();
                    store
                        .batch(|batch| {
                            for (id, value) in &writes {
                                batch.set(id, value.as_ref().unwrap())?;
                            }
                            Ok(())
                        })
                        .expect("batch");
                    self.acknowledged(&writes);
                }
                140..=149 => match store.undo() {
                    // A commit from a run that did not load the store.
                    Err(error)
                        if error.kind() == ErrorKind::Conflict
                            && error.message().contains("skip_load") => {}
                    undone => drop(undone.expect("undo")),
                },
                150..=179 => store.refresh().expect("refresh"),
                180..=186 if loaded => store.compact().expect("compact"),
                187..=189 if loaded => {
                    let digit = choose(10).to_string();
                    store
                        .archive(|_, id| id.ends_with(&digit), Some("p"))
                        .map(drop)
                        .expect("archive");
                }
                190 => {
                    store.close().expect("close");
                    loaded = choose(4) > 0;
                    store = self.open(!loaded, choose(2) == 0);
                }
                191 => {
                    drop(store);
                    loaded = choose(4) > 0;
                    store = self.open(!loaded, choose(2) == 0);
                }
                192 => {
                    let operations = store.history(&id).expect("history");
                    let clocks = operations.iter().map(|operation| operation.clock);
                    assert!(clocks.is_sorted(), "{operations:?}");
                }
                193 => std::thread::sleep(Duration::from_millis(choose(300) as u64)),
                _ => {}
            }
        }
    }
}

#[test]
#[ignore = "the processes of the torture run this"]
fn worker() {
    let Ok(told) = std::env::var(WORKER) else {
        return;
    };
    let mut told = told.splitn(4, ',');
    let mut next = || told.next().unwrap().to_owned();
    let (agent, seed, life) = (next(), next().parse().unwrap(), next().parse().unwrap());
    let directory = next();
    let directory = Path::new(&directory);
    let journal = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join(format!("{agent}.acknowledged")))
        .unwrap();
    let mut worker = Worker {
        agent,
        directory,
        journal,
        count: 0,
        life,
    };
    worker.run(seeded(seed));
}

fn spawn(directory: &Path, agent: &str, seed: u64, life: u64) -> Child {
    let told = format!("{agent},{seed},{life},{}", directory.display());
    let log = |kind: &str| {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(directory.join(format!("{agent}.{kind}")))
            .unwrap()
    };
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "worker", "--nocapture"])
        .env(WORKER, told)
        .env("RUST_BACKTRACE", "0")
        .stdout(log("out"))
        .stderr(log("err"))
        .spawn()
        .unwrap()
}

fn acknowledged(directory: &Path) -> Vec<Acknowledged> {
    let mut all = Vec::new();
    for agent in AGENTS {
        let path = directory.join(format!("{agent}.acknowledged"));
        let journal = fs::read_to_string(path).unwrap_or_default();
        for line in journal.lines() {
            // The last line of a life may be cut.
            if let Ok((id, value)) = serde_json::from_str::<(String, Option<Value>)>(line) {
                all.push((agent.to_owned(), id, value));
            }
        }
    }
    all
}

fn check_all(directory: &Path) -> Result<(usize, usize), String> {
    let said = |what: &'static str| move |error: opslog::Error| format!("{what}: {error:?}");
    let path = directory.join("store");
    let acknowledged = acknowledged(directory);
    let report = opslog::verify(&path).map_err(said("verify"))?;
    if !report.is_sound() {
        return Err(format!("{report:?}"));
    }
    let reader: Store = Store::builder()
        .read_only(true)
        .open(&path)
        .map_err(said("reader"))?;
    let seen = documents(&reader);
    check::account(&reader, &acknowledged)?;
    let agents: Vec<Store> = AGENTS[..3]
        .iter()
        .map(|agent| Store::builder().agent_id(*agent).open(&path))
        .collect::<opslog::Result<_>>()
        .map_err(said("agents"))?;
    for agent in &agents {
        if documents(agent) != seen {
            return Err(format!("{seen:?}\nand\n{:?}", documents(agent)));
        }
    }
    for agent in &agents {
        agent.compact().map_err(said("compact"))?;
    }
    for agent in agents {
        agent.close().map_err(said("close"))?;
    }
    let single: Store = Store::open(&path).map_err(said("single writer"))?;
    if documents(&single) != seen {
        return Err(format!("{seen:?}\nand single\n{:?}", documents(&single)));
    }
    check::account(&single, &acknowledged)?;
    let operations = single.ops(opslog::Since::Start).map_err(said("ops"))?;
    Ok((acknowledged.len(), operations.len()))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn eight_processes_that_are_killed_lose_nothing() {
    let seconds = number("OPSLOG_TORTURE_SECONDS").unwrap_or(60);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let seed = number("OPSLOG_TORTURE_SEED").unwrap_or(now.as_secs());
    let directory = tempfile::tempdir().unwrap();
    let mut choose = seeded(seed);
    let mut life = 0;
    let mut kills = 0;
    let mut failure = None;
    let mut children: Vec<(&str, Child)> = Vec::new();
    let start = |agent: &'static str, life: &mut u64| {
        *life += 1;
        let child = spawn(directory.path(), agent, seed.wrapping_add(*life), *life);
        (agent, child)
    };
    for agent in AGENTS {
        children.push(start(agent, &mut life));
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end && failure.is_none() {
        std::thread::sleep(Duration::from_millis(10 + choose(200) as u64));
        for (agent, child) in &mut children {
            if let Some(status) = child.try_wait().unwrap() {
                failure = Some(format!("{agent} ended: {status}"));
            }
        }
        let (agent, mut child) = children.swap_remove(choose(children.len()));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        children.push(start(agent, &mut life));
    }
    // Some are killed, some end by themselves.
    for (_, child) in children.iter_mut().take(4) {
        child.kill().unwrap();
    }
    File::create(directory.path().join("stop")).unwrap();
    for (agent, mut child) in children {
        let status = child.wait().unwrap();
        if status.code().is_some_and(|code| code != 0) {
            failure.get_or_insert(format!("{agent} ended: {status}"));
        }
    }
    for agent in AGENTS {
        let said = fs::read_to_string(directory.path().join(format!("{agent}.out")))
            .unwrap_or_default()
            + &fs::read_to_string(directory.path().join(format!("{agent}.err")))
                .unwrap_or_default();
        let panics: Vec<&str> = said
            .lines()
            .skip_while(|line| !line.contains("panicked"))
            .take(3)
            .collect();
        if !panics.is_empty() {
            failure = Some(format!("{agent}: {}", panics.join(" ")));
        }
    }
    let checked = failure.map_or_else(|| check_all(directory.path()), Err);
    match checked {
        Ok((acknowledged, operations)) => {
            eprintln!(
                "seed {seed}, {seconds} s, {kills} kills: {acknowledged} acknowledged, {operations} operations"
            );
            assert!(acknowledged > 0 && kills > 0);
        }
        Err(reason) => {
            let kept = directory.keep();
            panic!(
                "seed {seed}, {kills} kills, in {}: {reason}",
                kept.display()
            );
        }
    }
}
