//! Scripts of store calls, made on a store and on the model at once.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use opslog::backend::{FileSystem, FsBackend, SimulatedDisk};
use opslog::{CheckpointMode, Residency, Result, Store, UndoMode, WriteMode};
use serde_json::{Value, json};

use super::explore::freeze;
use super::flawed::{self, Flawed};
use super::model::{Model, migrated};

/// A call of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Sets a new document.
    Create,
    /// Sets the oldest document anew.
    Update,
    /// Deletes the oldest document.
    Delete,
    /// An update, a create and a delete.
    Batch,
    Undo,
    Compact,
    /// Archives the two oldest documents.
    Archive,
    Flush,
    /// Closes and opens.
    Reopen,
    /// Closes and opens as the next version.
    Migrate,
    /// A checkpoint during which a new document is set.
    CompactBeside,
}

/// Those that the sequences are made of.
pub(crate) const CALLS: [Call; 11] = [
    Call::Create,
    Call::Update,
    Call::Delete,
    Call::Batch,
    Call::Undo,
    Call::Compact,
    Call::Archive,
    Call::Flush,
    Call::Reopen,
    Call::Migrate,
    Call::CompactBeside,
];

pub(crate) const PERIOD: &str = "2020-Q1";

/// How the store is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub(crate) mode: WriteMode,
    pub(crate) undo: UndoMode,
    pub(crate) os_buffered: bool,
    pub(crate) residency: Residency,
    pub(crate) agent: Option<&'static str>,
}

/// The agent that makes the calls of a script.
pub(crate) const AGENT: &str = "ann";

impl Config {
    pub(crate) const fn immediate() -> Self {
        Self {
            mode: WriteMode::Immediate,
            undo: UndoMode::Truncate,
            os_buffered: false,
            residency: Residency::Memory,
            agent: None,
        }
    }

    /// One agent of several.
    pub(crate) const fn agent(agent: &'static str) -> Self {
        Self {
            undo: UndoMode::Append,
            agent: Some(agent),
            ..Self::immediate()
        }
    }

    /// The ways to open a store that begins as `base`.
    pub(crate) fn all_on(base: Base) -> Vec<Self> {
        match base {
            Base::Agents | Base::EmptyForAgents => vec![Self::agent(AGENT)],
            Base::Empty | Base::Used | Base::ManyLogs => Self::all(),
        }
    }

    pub(crate) fn all() -> Vec<Self> {
        let (size, interval) = (1000, Duration::from_hours(10));
        let modes = [
            WriteMode::Immediate,
            WriteMode::Group { size, interval },
            WriteMode::Async { size, interval },
        ];
        let mut all = Vec::new();
        for mode in modes {
            for undo in [UndoMode::Truncate, UndoMode::Append] {
                all.push(Self {
                    mode,
                    undo,
                    ..Self::immediate()
                });
            }
        }
        all.push(Self {
            residency: Residency::OnDemand { cache_bytes: 1024 },
            ..Self::immediate()
        });
        all
    }

    pub(crate) fn is_immediate(self) -> bool {
        self.mode == WriteMode::Immediate
    }

    pub(crate) fn open(
        self,
        file_system: impl FileSystem,
        version: Option<u32>,
        checkpoint_on_close: bool,
    ) -> Result<Store> {
        let backend = FsBackend::on(Arc::new(Flawed::on(file_system)), "/store")
            .with_padding(512, 512)
            .with_os_buffered(self.os_buffered);
        let builder = Store::<Value>::builder()
            .write_mode(self.mode)
            .undo_mode(self.undo)
            .os_buffered(self.os_buffered)
            .residency(self.residency)
            .checkpoint_mode(CheckpointMode::Blocking)
            .checkpoint_threshold(1000)
            .checkpoint_on_close(checkpoint_on_close)
            .migrate(|document, from| Ok(migrated(document, from)));
        let builder = match self.agent {
            Some(agent) => builder.agent_id(agent),
            None => builder,
        };
        let builder = match version {
            Some(version) => builder.version(version),
            None => builder,
        };
        builder.open_backend(backend)
    }
}

/// What a call would do: the model after it, and whether all is durable once it has returned.
pub(crate) struct Plan {
    pub(crate) after: Model,
    pub(crate) durable: bool,
    action: Action,
}

enum Action {
    Set(String, Value),
    Delete(String),
    Batch([(String, Value); 2], Option<String>),
    Undo,
    Compact,
    Archive(Vec<String>),
    Flush,
    Reopen,
}

impl Plan {
    /// `number` makes ids and documents different from all others.
    pub(crate) fn new(call: Call, number: usize, model: &Model, config: Config) -> Self {
        let mut after = model.clone();
        let oldest = model.seen.documents.first().map(|(id, _)| id.clone());
        let document = document(number);
        let new_id = format!("id-{number}");
        let mut durable = true;
        let action = match (call, oldest) {
            (Call::Update, Some(id)) => {
                after.commit(&[(id.clone(), Some(document.clone()))]);
                durable = config.is_immediate();
                Action::Set(id, document)
            }
            (Call::Create | Call::Update, _) => {
                after.commit(&[(new_id.clone(), Some(document.clone()))]);
                durable = config.is_immediate();
                Action::Set(new_id, document)
            }
            (Call::Delete, Some(id)) => {
                after.commit(&[(id.clone(), None)]);
                durable = config.is_immediate();
                Action::Delete(id)
            }
            (Call::Batch, oldest) => {
                let first = (new_id, document);
                let second = (format!("second-{number}"), self::document(number + 1));
                let mut writes = vec![
                    (first.0.clone(), Some(first.1.clone())),
                    (second.0.clone(), Some(second.1.clone())),
                ];
                writes.extend(oldest.clone().map(|id| (id, None)));
                after.commit(&writes);
                durable = config.is_immediate();
                Action::Batch([first, second], oldest)
            }
            (Call::Undo, _) => {
                after.undo(config.undo);
                Action::Undo
            }
            (Call::Compact | Call::CompactBeside, _) => {
                after.seal();
                Action::Compact
            }
            (Call::Archive, _) => {
                let ids: Vec<String> = model
                    .seen
                    .documents
                    .iter()
                    .take(2)
                    .map(|(id, _)| id.clone())
                    .collect();
                after.archive(PERIOD, |id| ids.iter().any(|picked| picked == id));
                Action::Archive(ids)
            }
            (Call::Flush, _) | (Call::Delete, None) => Action::Flush,
            (Call::Reopen, _) => {
                after.seal();
                Action::Reopen
            }
            (Call::Migrate, _) => {
                after.migrate(model.seen.version + 1);
                Action::Reopen
            }
        };
        Self {
            after,
            durable,
            action,
        }
    }

    /// A checkpoint that leaves this.
    pub(crate) fn compact(after: Model) -> Self {
        Self {
            after,
            durable: true,
            action: Action::Compact,
        }
    }

    /// Makes the call. Where it opens a store, that takes the place of `store`; when opening fails, there is none.
    pub(crate) fn run(
        &self,
        store: &mut Option<Store>,
        file_system: &(impl FileSystem + Clone),
        config: Config,
    ) -> Result<()> {
        let Some(open) = store.as_ref() else {
            *store = Some(config.open(file_system.clone(), Some(self.after.seen.version), true)?);
            return Ok(());
        };
        match &self.action {
            Action::Set(id, document) => open.set(id, document),
            Action::Delete(id) => open.delete(id),
            Action::Batch(sets, delete) => open.batch(|batch| {
                for (id, document) in sets {
                    batch.set(id, document)?;
                }
                delete.iter().try_for_each(|id| batch.delete(id))
            }),
            Action::Undo => open.undo().map(drop),
            Action::Compact => open.compact(),
            Action::Archive(ids) => {
                let picked = |_: &Value, id: &str| ids.iter().any(|picked| picked == id);
                open.archive(picked, Some(PERIOD)).map(drop)
            }
            Action::Flush => open.flush(),
            Action::Reopen => {
                let closed = open.close();
                *store = None;
                closed?;
                *store =
                    Some(config.open(file_system.clone(), Some(self.after.seen.version), true)?);
                Ok(())
            }
        }
    }
}

/// Some documents are longer than a sector.
fn document(number: usize) -> Value {
    let text = "x".repeat([5, 600, 40][number % 3]);
    json!({"number": number, "text": text, "same": "in all of them"})
}

/// The disk on which a script begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing.
    Empty,
    /// A store that has a snapshot, a sealed log, an active log and an archive segment.
    Used,
    /// A store whose next checkpoint merges replaced logs.
    ManyLogs,
    /// A store of three agents: two died, one of them with operations that are not in the snapshot; the last one goes on.
    Agents,
    /// Nothing, and an agent comes.
    EmptyForAgents,
}

impl Base {
    /// The disk, and what is on it.
    pub(crate) fn prepared(self) -> &'static (SimulatedDisk, Model) {
        static USED: LazyLock<(SimulatedDisk, Model)> = LazyLock::new(|| {
            prepared_by(&[
                Call::Create,
                Call::Create,
                Call::Create,
                Call::Archive,
                Call::Create,
                Call::Batch,
                Call::Create,
                Call::Compact,
                Call::Update,
                Call::Create,
            ])
        });
        static MANY_LOGS: LazyLock<(SimulatedDisk, Model)> = LazyLock::new(|| {
            let mut calls = [Call::Batch, Call::Compact].repeat(16);
            calls.push(Call::Create);
            prepared_by(&calls)
        });
        static AGENTS: LazyLock<(SimulatedDisk, Model)> = LazyLock::new(|| {
            let disk = SimulatedDisk::new();
            let mut model = Model::of_agents();
            for (agent, calls) in [
                ("cat", vec![Call::Create, Call::Batch, Call::Create]),
                (
                    "bob",
                    vec![
                        Call::Create,
                        Call::Compact,
                        Call::Update,
                        Call::Delete,
                        Call::Batch,
                    ],
                ),
                (AGENT, vec![Call::Create, Call::Update]),
            ] {
                // What another one did is not for this one to take back.
                model.bar_undo();
                model = prepare(&disk, Config::agent(agent), model, &calls);
            }
            (disk.killed(), model)
        });
        static EMPTY: LazyLock<(SimulatedDisk, Model)> =
            LazyLock::new(|| (SimulatedDisk::new(), Model::default()));
        static EMPTY_FOR_AGENTS: LazyLock<(SimulatedDisk, Model)> =
            LazyLock::new(|| (SimulatedDisk::new(), Model::of_agents()));
        match self {
            Self::Empty => &EMPTY,
            Self::EmptyForAgents => &EMPTY_FOR_AGENTS,
            Self::Used => &USED,
            Self::ManyLogs => &MANY_LOGS,
            Self::Agents => &AGENTS,
        }
    }
}

fn prepared_by(calls: &[Call]) -> (SimulatedDisk, Model) {
    let disk = SimulatedDisk::new();
    let model = prepare(&disk, Config::immediate(), Model::default(), calls);
    (disk.killed(), model)
}

/// Makes the calls, and dies.
fn prepare(disk: &SimulatedDisk, config: Config, model: Model, calls: &[Call]) -> Model {
    let mut model = model;
    let mut store = None;
    // Whoever comes first may have a flaw planted.
    let flaw = flawed::plant(None);
    freeze(0);
    for (number, call) in [&[Call::Flush], calls].concat().into_iter().enumerate() {
        let number = 1000 + 10 * (number + model.seen.ops.len());
        let plan = Plan::new(call, number, &model, config);
        plan.run(&mut store, disk, config).expect("nothing fails");
        model = plan.after;
    }
    drop(store);
    flawed::plant(flaw);
    model
}
