//! The exported pieces: clock, reverse patches, validators. Values cross as JSON text.

use napi_derive::napi;
use opslog::{DeltaPatch, Result};
use serde_json::{Map, Value};

use crate::failure::{argument, thrown};

/// A Lamport clock.
#[napi]
pub struct NativeClock(opslog::LamportClock);

#[napi]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clocks stay below 2^53; the caller checks what it gives"
)]
impl NativeClock {
    /// A clock at `initial`.
    #[napi(constructor)]
    pub fn new(initial: f64) -> Self {
        Self(opslog::LamportClock::new(initial as u64))
    }

    /// Counts a local event.
    #[napi]
    pub fn tick(&mut self) -> f64 {
        self.0.tick() as f64
    }

    /// Counts an event from elsewhere.
    #[napi]
    pub fn merge(&mut self, received: f64) -> f64 {
        self.0.merge(received as u64) as f64
    }

    /// The present value.
    #[napi(getter)]
    pub fn current(&self) -> f64 {
        self.0.current() as f64
    }
}

/// The patch that turns `new` into `old`, or `null`.
#[napi]
pub fn create_delta(old: String, new: String) -> napi::Result<String> {
    let delta = || {
        let (old, new): (Option<Map<String, Value>>, Map<String, Value>) =
            (argument(&old)?, argument(&new)?);
        Ok(opslog::create_delta(old.as_ref(), &new))
    };
    answer(delta().map(|patch| serde_json::json!(patch)))
}

/// `record` with the patch applied.
#[napi]
pub fn apply_delta(record: String, patch: String) -> napi::Result<String> {
    let applied = || {
        let (record, patch): (Map<String, Value>, DeltaPatch) =
            (argument(&record)?, argument(&patch)?);
        Ok(opslog::apply_delta(&record, &patch))
    };
    answer(applied().map(Value::Object))
}

/// Whether the patch is shorter than the record.
#[napi]
pub fn is_delta_smaller(patch: String, record: String) -> napi::Result<bool> {
    let is_smaller = || {
        let (patch, record): (Option<DeltaPatch>, Option<Map<String, Value>>) =
            (argument(&patch)?, argument(&record)?);
        Ok(opslog::is_delta_smaller(patch.as_ref(), record.as_ref()))
    };
    is_smaller().map_err(thrown)
}

/// Accepts a document under an id, as a store would.
#[napi]
pub fn check_document(id: String, text: String) -> napi::Result<()> {
    opslog::check_document(&id, &text).map_err(thrown)
}

/// Accepts an operation, a manifest, a snapshot or an archive segment, or says what is wrong with it.
#[napi]
pub fn validate(what: String, value: String) -> napi::Result<()> {
    let check = || {
        let value: Value = argument(&value)?;
        match what.as_str() {
            "operation" => opslog::validate_op(&value),
            "manifest" => opslog::validate_manifest(&value),
            "snapshot" => opslog::validate_snapshot(&value),
            _ => opslog::validate_archive_segment(&value),
        }
    };
    check().map_err(thrown)
}

fn answer(value: Result<Value>) -> napi::Result<String> {
    value.map(|value| value.to_string()).map_err(thrown)
}
