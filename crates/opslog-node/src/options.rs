//! The options of `open`, as JavaScript names them.

use std::time::Duration;

use opslog::{
    CheckpointMode, Error, Residency, Retention, Store, StoreBuilder, UndoMode, WriteMode,
};
use serde::Deserialize;

use crate::failure::invalid;
use crate::store::Opaque;

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the options are the reference's"
)]
pub(crate) struct Options {
    checkpoint_threshold: Option<u64>,
    checkpoint_on_close: Option<bool>,
    version: Option<u32>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    skip_load: bool,
    write_mode: Option<String>,
    group_commit_size: Option<usize>,
    group_commit_ms: Option<f64>,
    agent_id: Option<String>,
    #[serde(default)]
    os_buffered: bool,
    history_retention: Option<HistoryRetention>,
    undo_mode: Option<String>,
    #[serde(default)]
    strict: bool,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
enum HistoryRetention {
    All,
    None,
    AgeMs(f64),
    Bytes(u64),
}

impl Options {
    /// Whether others may write to the store at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        self.agent_id.is_some()
    }

    /// Whether another process may be in the middle of a write when this one opens the store.
    pub(crate) fn is_beside_writer(&self) -> bool {
        self.read_only || self.is_shared()
    }

    /// Whether a write is settled by a sync, and not by being in the buffer.
    pub(crate) fn is_immediate(&self) -> bool {
        self.is_shared() || !matches!(self.write_mode.as_deref(), Some("group" | "async"))
    }

    pub(crate) fn builder(&self) -> Result<StoreBuilder<Opaque>, Error> {
        let mut builder = Store::builder()
            // A call that makes a checkpoint is settled after it, as in the reference; it waits on the store's own thread.
            .checkpoint_mode(CheckpointMode::Blocking)
            .read_only(self.read_only)
            .skip_load(self.skip_load)
            .os_buffered(self.os_buffered)
            .strict(self.strict)
            .write_mode(self.write_mode()?)
            .undo_mode(match self.undo_mode.as_deref() {
                None | Some("truncate") => UndoMode::Truncate,
                Some("append") => UndoMode::Append,
                Some(other) => return Err(unknown("undoMode", other, "'truncate' or 'append'")),
            })
            .history_retention(match &self.history_retention {
                None | Some(HistoryRetention::All) => Retention::All,
                Some(HistoryRetention::None) => Retention::None,
                Some(HistoryRetention::AgeMs(age)) => Retention::Age(millis(*age)?),
                Some(HistoryRetention::Bytes(bytes)) => Retention::Bytes(*bytes),
            });
        if let Some(threshold) = self.checkpoint_threshold {
            builder = builder.checkpoint_threshold(threshold);
        }
        if let Some(yes) = self.checkpoint_on_close {
            builder = builder.checkpoint_on_close(yes);
        }
        if let Some(version) = self.version {
            builder = builder.version(version);
        }
        if let Some(agent) = &self.agent_id {
            builder = builder.agent_id(agent);
        }
        // The event loop has what was read, and the texts of the rest are kept for it. Agents' registers need the documents in memory.
        if !self.is_shared() {
            builder = builder.residency(Residency::ChangesOnly);
        }
        Ok(builder)
    }

    fn write_mode(&self) -> Result<WriteMode, Error> {
        let size = self.group_commit_size.unwrap_or(50).max(1);
        let interval = millis(self.group_commit_ms.unwrap_or(100.0))?;
        match self.write_mode.as_deref() {
            None | Some("immediate") => Ok(WriteMode::Immediate),
            Some("group") => Ok(WriteMode::Group { size, interval }),
            Some("async") => Ok(WriteMode::Async { size, interval }),
            Some(other) => Err(unknown(
                "writeMode",
                other,
                "'immediate', 'group' or 'async'",
            )),
        }
    }
}

fn millis(milliseconds: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(milliseconds / 1000.0).map_err(|error| {
        invalid(format!(
            "{milliseconds} is not a number of milliseconds: {error}"
        ))
    })
}

fn unknown(option: &str, value: &str, choices: &str) -> Error {
    invalid(format!("{option} is '{value}'; it must be {choices}"))
}
