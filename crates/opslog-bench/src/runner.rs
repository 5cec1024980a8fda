//! Runs each subject and round in a process of its own, the subjects in turn, so that memory, caches and CPU time are theirs alone and what
//! disturbs the machine disturbs all alike.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::args::Arguments;
use crate::measure::{Measured, Outcome};
use crate::report::Machine;
use crate::subjects::{OPSLOG, PEERS, REFERENCE, reference};
use crate::workloads::{Kind, Needs, Workload};

/// What one child process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) workload: String,
    pub(crate) subject: String,
    pub(crate) action: Action,
    /// Where the store is, or is to be.
    pub(crate) directory: PathBuf,
    /// Documents or operations.
    pub(crate) size: u32,
    /// Documents that a workload of writes finds there.
    pub(crate) before: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    Prepare(Kind),
    Run,
}

/// What all rounds of a workload gave.
pub(crate) struct Results {
    pub(crate) workload: &'static Workload,
    pub(crate) size: u32,
    outcomes: Vec<(&'static str, Vec<Outcome>)>,
    /// Who failed, or did other work than opslog, and how.
    pub(crate) failures: Vec<String>,
}

impl Results {
    /// Who was run, in order.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &'static str> {
        self.outcomes.iter().map(|(name, _)| *name)
    }

    /// The values of one figure, one a round.
    pub(crate) fn values(&self, subject: &str, key: &str) -> Vec<f64> {
        self.measured(subject, key, |measured| measured.value)
    }

    /// The CPU time that went into one figure, one a round.
    pub(crate) fn cpu_seconds(&self, subject: &str, key: &str) -> Vec<f64> {
        self.measured(subject, key, |measured| measured.cpu_seconds)
    }

    /// The most memory that any round needed.
    pub(crate) fn peak_bytes(&self, subject: &str) -> u64 {
        let outcomes = self.of(subject);
        outcomes.map_or(0, |outcomes| {
            outcomes
                .iter()
                .map(|outcome| outcome.peak_bytes)
                .max()
                .unwrap_or(0)
        })
    }

    fn measured(&self, subject: &str, key: &str, get: fn(&Measured) -> f64) -> Vec<f64> {
        self.of(subject)
            .into_iter()
            .flatten()
            .filter_map(|outcome| outcome.figures.get(key).map(get))
            .collect()
    }

    fn of(&self, subject: &str) -> Option<&Vec<Outcome>> {
        let found = self.outcomes.iter().find(|(name, _)| *name == subject);
        found.map(|(_, outcomes)| outcomes)
    }
}

/// Runs workloads, in a directory that goes away with it.
pub(crate) struct Runner {
    pub(crate) machine: Machine,
    root: PathBuf,
    peers: Vec<&'static str>,
    rounds: u32,
    prepared: Mutex<BTreeSet<PathBuf>>,
}

impl Runner {
    pub(crate) fn new(arguments: &Arguments) -> Result<Self> {
        let peers = arguments.peers()?;
        if peers.contains(&REFERENCE) {
            reference::install()?;
        }
        let parent = match &arguments.dir {
            Some(directory) => directory.clone(),
            None => std::env::current_exe()?
                .parent()
                .ok_or("the program is in no directory")?
                .to_owned(),
        };
        let root = parent.join(format!("opslog-bench-{}", std::process::id()));
        fs::create_dir_all(&root)?;
        Ok(Self {
            machine: Machine::of(&root, arguments.rounds())?,
            root,
            peers,
            rounds: arguments.rounds(),
            prepared: Mutex::default(),
        })
    }

    /// Runs `workload` for all that were chosen.
    pub(crate) fn run(&self, workload: &'static Workload, size: u32) -> Results {
        let chosen = |name: &&&str| !PEERS.contains(name) || self.peers.contains(name);
        let subjects: Vec<&str> = workload.subjects.iter().filter(chosen).copied().collect();
        self.run_subjects(workload, &subjects, size, 0)
    }

    /// Runs `workload` for `subjects`, on stores that have `before` documents already.
    pub(crate) fn run_subjects(
        &self,
        workload: &'static Workload,
        subjects: &[&'static str],
        size: u32,
        before: u32,
    ) -> Results {
        let mut outcomes: Vec<_> = subjects.iter().map(|name| (*name, Vec::new())).collect();
        let mut failures = BTreeMap::new();
        for round in 0..self.rounds {
            for place in 0..subjects.len() {
                // Nobody always comes after the same one.
                let (subject, outcomes) = &mut outcomes[(place + round as usize) % subjects.len()];
                if failures.contains_key(*subject) {
                    continue;
                }
                progress(&format!(
                    "{} round {}/{}: {subject}",
                    workload.id,
                    round + 1,
                    self.rounds
                ));
                match self.round(workload, subject, size, before) {
                    Ok(outcome) => outcomes.push(outcome),
                    Err(error) => {
                        failures.insert(*subject, error.to_string());
                    }
                }
            }
        }
        progress("");
        let mut results = Results {
            workload,
            size,
            outcomes,
            failures: Vec::new(),
        };
        for (subject, error) in failures {
            results.failures.push(format!("{subject} failed: {error}"));
        }
        let unequal = unequal_work(&results);
        results.failures.extend(unequal);
        results
    }

    fn round(&self, workload: &Workload, subject: &str, size: u32, before: u32) -> Result<Outcome> {
        let needs = if before > 0 {
            Needs::Own(Kind::Snapshot)
        } else {
            workload.needs
        };
        let scratch = self.root.join("scratch");
        let documents = if before > 0 { before } else { size };
        let directory = match needs {
            Needs::Nothing => {
                fs::create_dir_all(&scratch)?;
                scratch.clone()
            }
            Needs::Shared(kind) => self.prepare(kind, subject, documents)?,
            Needs::Own(kind) => {
                copy_directory(&self.prepare(kind, subject, documents)?, &scratch)?;
                scratch.clone()
            }
        };
        let outcome = run_child(&Case {
            workload: workload.id.to_owned(),
            subject: subject.to_owned(),
            action: Action::Run,
            directory,
            size,
            before,
        });
        if scratch.exists() {
            fs::remove_dir_all(&scratch)?;
        }
        outcome
    }

    /// The store that `subject` finds: made once, kept for the run. The limit uses opslog's.
    fn prepare(&self, kind: Kind, subject: &str, documents: u32) -> Result<PathBuf> {
        let owner = if PEERS.contains(&subject) {
            subject
        } else {
            OPSLOG
        };
        let kind = kind.of(owner);
        let directory = self.root.join(format!("{kind:?}-{owner}-{documents}"));
        let mut prepared = self.prepared.lock().map_err(|_| "a round panicked")?;
        if !prepared.contains(&directory) {
            fs::create_dir_all(&directory)?;
            run_child(&Case {
                workload: String::new(),
                subject: owner.to_owned(),
                action: Action::Prepare(kind),
                directory: directory.clone(),
                size: documents,
                before: 0,
            })?;
            sync_directory(&directory)?;
            prepared.insert(directory.clone());
        }
        Ok(directory)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // What cannot be removed stays in the target directory.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Where the documents of a subject differ from opslog's.
fn unequal_work(results: &Results) -> Vec<String> {
    let expected = results
        .of(OPSLOG)
        .and_then(|outcomes| outcomes.first())
        .and_then(|outcome| outcome.checksum);
    let Some(expected) = expected else {
        return Vec::new();
    };
    let mut unequal = Vec::new();
    for (subject, outcomes) in &results.outcomes {
        for found in outcomes.iter().filter_map(|outcome| outcome.checksum) {
            if found != expected {
                unequal.push(format!(
                    "{subject} did other work: {found:?}, opslog {expected:?}"
                ));
                break;
            }
        }
    }
    unequal
}

fn run_child(case: &Case) -> Result<Outcome> {
    let text = serde_json::to_string(case)?;
    let mut command = if case.subject == REFERENCE {
        let mut command = reference::command();
        command.arg(text);
        command
    } else {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--child").arg(text);
        command
    };
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("its process ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Copies a directory, and waits until the copy is on storage, so that writing it back disturbs nobody.
fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::File::open(&target)?.sync_all()?;
        }
    }
    Ok(())
}

fn sync_directory(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_directory(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    Ok(())
}

/// One line of a terminal that is written over and over.
fn progress(text: &str) {
    if !io::stderr().is_terminal() {
        return;
    }
    // Nobody misses it.
    let _ = write!(io::stderr(), "\r\x1b[K{text}");
    let _ = io::stderr().flush();
}
