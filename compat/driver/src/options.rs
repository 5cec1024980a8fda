//! The options of `open`, under the reference's names where it has them.

use std::error::Error;
use std::time::Duration;

use opslog::{CheckpointMode, Residency, Retention, Store, StoreBuilder, UndoMode, WriteMode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::RawStore;
use crate::command::{Command, Failure};

/// Small enough that stores of a few documents have some of them out of memory.
const ON_DEMAND_CACHE_BYTES: usize = 256;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Options {
    checkpoint_threshold: Option<u64>,
    checkpoint_on_close: Option<bool>,
    version: Option<u32>,
    migrate: Option<String>,
    read_only: Option<bool>,
    skip_load: Option<bool>,
    write_mode: Option<String>,
    group_commit_size: Option<usize>,
    group_commit_ms: Option<u64>,
    os_buffered: Option<bool>,
    checkpoint_mode: Option<String>,
    history_retention: Option<String>,
    undo_mode: Option<String>,
    residency: Option<String>,
    strict: Option<bool>,
    agent_id: Option<String>,
}

pub(crate) fn open(command: &Command) -> Result<RawStore, Failure> {
    let options = &command.options;
    let mut builder = Store::<Box<RawValue>>::builder().write_mode(options.write_mode()?);
    builder = given(
        builder,
        options.checkpoint_threshold,
        StoreBuilder::checkpoint_threshold,
    );
    builder = given(
        builder,
        options.checkpoint_on_close,
        StoreBuilder::checkpoint_on_close,
    );
    builder = given(builder, options.version, StoreBuilder::version);
    builder = given(builder, options.read_only, StoreBuilder::read_only);
    builder = given(builder, options.skip_load, StoreBuilder::skip_load);
    builder = given(builder, options.os_buffered, StoreBuilder::os_buffered);
    builder = given(builder, options.strict, StoreBuilder::strict);
    builder = given(builder, options.agent_id.clone(), StoreBuilder::agent_id);
    builder = given(
        builder,
        options.checkpoint_mode()?,
        StoreBuilder::checkpoint_mode,
    );
    builder = given(
        builder,
        options.history_retention()?,
        StoreBuilder::history_retention,
    );
    builder = given(builder, options.undo_mode()?, StoreBuilder::undo_mode);
    builder = given(builder, options.residency()?, StoreBuilder::residency);
    builder = match options.migrate.as_deref() {
        None => builder,
        Some("stamp") => builder.migrate(stamp),
        Some("fail") => builder.migrate(|_, _| Err("this migration always fails".into())),
        Some(other) => return Err(unknown("migrate", other)),
    };
    Ok(builder.open(command.dir()?)?)
}

fn given<B, V>(builder: B, value: Option<V>, set: impl FnOnce(B, V) -> B) -> B {
    match value {
        Some(value) => set(builder, value),
        None => builder,
    }
}

/// Writes into each document the version it came from.
fn stamp(mut document: Value, from: u32) -> Result<Value, Box<dyn Error + Send + Sync>> {
    let members = document.as_object_mut().ok_or("a document is an object")?;
    members.insert("migratedFrom".to_owned(), from.into());
    Ok(document)
}

impl Options {
    fn write_mode(&self) -> Result<WriteMode, Failure> {
        let size = self.group_commit_size.unwrap_or(50);
        let interval = Duration::from_millis(self.group_commit_ms.unwrap_or(100));
        match self.write_mode.as_deref() {
            None | Some("immediate") => Ok(WriteMode::Immediate),
            Some("group") => Ok(WriteMode::Group { size, interval }),
            Some("async") => Ok(WriteMode::Async { size, interval }),
            Some(other) => Err(unknown("writeMode", other)),
        }
    }

    fn checkpoint_mode(&self) -> Result<Option<CheckpointMode>, Failure> {
        match self.checkpoint_mode.as_deref() {
            None => Ok(None),
            Some("background") => Ok(Some(CheckpointMode::Background)),
            Some("blocking") => Ok(Some(CheckpointMode::Blocking)),
            Some(other) => Err(unknown("checkpointMode", other)),
        }
    }

    fn history_retention(&self) -> Result<Option<Retention>, Failure> {
        match self.history_retention.as_deref() {
            None => Ok(None),
            Some("all") => Ok(Some(Retention::All)),
            Some("none") => Ok(Some(Retention::None)),
            Some(other) => Err(unknown("historyRetention", other)),
        }
    }

    fn undo_mode(&self) -> Result<Option<UndoMode>, Failure> {
        match self.undo_mode.as_deref() {
            None => Ok(None),
            Some("truncate") => Ok(Some(UndoMode::Truncate)),
            Some("append") => Ok(Some(UndoMode::Append)),
            Some(other) => Err(unknown("undoMode", other)),
        }
    }

    fn residency(&self) -> Result<Option<Residency>, Failure> {
        match self.residency.as_deref() {
            None => Ok(None),
            Some("memory") => Ok(Some(Residency::Memory)),
            Some("onDemand") => Ok(Some(Residency::OnDemand {
                cache_bytes: ON_DEMAND_CACHE_BYTES,
            })),
            Some(other) => Err(unknown("residency", other)),
        }
    }
}

fn unknown(option: &str, value: &str) -> Failure {
    Failure::new(
        "InvalidCommand",
        format!("the option {option} has no choice '{value}'"),
    )
}
