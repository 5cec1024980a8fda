//! What comes in, and how failures go out.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::options::Options;

/// One line of input. Which fields are needed depends on `call`.
#[derive(Deserialize)]
pub(crate) struct Command {
    pub(crate) call: String,
    #[serde(default)]
    pub(crate) store: String,
    dir: Option<String>,
    #[serde(default)]
    pub(crate) options: Options,
    id: Option<String>,
    #[serde(default, deserialize_with = "given_even_if_null")]
    document: Option<Box<RawValue>>,
    operations: Option<Vec<BatchOperation>>,
    ids: Option<Vec<String>>,
    pub(crate) segment: Option<String>,
    index: Option<usize>,
}

/// `null` is a document that the store must refuse, and not a missing one.
fn given_even_if_null<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(input).map(Some)
}

/// One step inside a batch.
#[derive(Deserialize)]
pub(crate) struct BatchOperation {
    pub(crate) op: String,
    #[serde(default)]
    pub(crate) id: String,
    pub(crate) document: Option<Box<RawValue>>,
}

impl Command {
    pub(crate) fn dir(&self) -> Result<&str, Failure> {
        self.dir.as_deref().ok_or_else(|| Failure::missing("dir"))
    }

    pub(crate) fn id(&self) -> Result<&str, Failure> {
        self.id.as_deref().ok_or_else(|| Failure::missing("id"))
    }

    #[expect(clippy::borrowed_box, reason = "the box is what the store takes")]
    pub(crate) fn document(&self) -> Result<&Box<RawValue>, Failure> {
        self.document
            .as_ref()
            .ok_or_else(|| Failure::missing("document"))
    }

    pub(crate) fn operations(&self) -> Result<&[BatchOperation], Failure> {
        self.operations
            .as_deref()
            .ok_or_else(|| Failure::missing("operations"))
    }

    pub(crate) fn ids(&self) -> Result<&[String], Failure> {
        self.ids.as_deref().ok_or_else(|| Failure::missing("ids"))
    }

    pub(crate) fn segment(&self) -> Result<&str, Failure> {
        self.segment
            .as_deref()
            .ok_or_else(|| Failure::missing("segment"))
    }

    pub(crate) fn index(&self) -> Result<usize, Failure> {
        self.index.ok_or_else(|| Failure::missing("index"))
    }
}

/// Why a command has no result.
#[derive(Serialize)]
pub(crate) struct Failure {
    pub(crate) kind: String,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn no_such_store() -> Self {
        Self::new("Closed", "no store was opened under this name")
    }

    fn missing(field: &str) -> Self {
        Self::new("InvalidCommand", format!("the command needs '{field}'"))
    }
}

impl From<opslog::Error> for Failure {
    fn from(error: opslog::Error) -> Self {
        Self::new(&format!("{:?}", error.kind()), error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new("InvalidCommand", error.to_string())
    }
}
