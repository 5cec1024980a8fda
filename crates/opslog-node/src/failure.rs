//! Errors on their way to JavaScript: JSON text in the message, which `lib/errors.cjs` turns into an `OpslogError`.

use opslog::{Error, ErrorKind};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Failure {
    kind: &'static str,
    message: String,
    /// The message without place.
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind().as_str(),
            message: error.to_string(),
            text: error.message().to_owned(),
            path: error.path().map(|path| path.display().to_string()),
            line: error.line(),
            offset: error.offset(),
        }
    }
}

/// The error as JSON text.
pub(crate) fn text(error: &Error) -> String {
    serde_json::to_string(&Failure::from(error)).expect("plain values have a JSON form")
}

/// The error as one that N-API throws.
pub(crate) fn thrown(error: Error) -> napi::Error {
    napi::Error::from_reason(text(&error))
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// An argument that our own JavaScript wrote, and so can be read.
pub(crate) fn argument<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text)
        .map_err(|error| invalid(format!("the argument cannot be read: {error}")))
}
