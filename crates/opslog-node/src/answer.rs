//! How long an answer may be: V8 has no string of 2^29 characters, and a callback with a longer one ends the process.

use std::sync::atomic::{AtomicUsize, Ordering};

use napi_derive::napi;
use opslog::Result;

use crate::failure::invalid;

/// Bytes; a text has no more characters than that.
static LONGEST: AtomicUsize = AtomicUsize::new(500_000_000);

/// Whether an answer of so many bytes is too long.
pub(crate) fn is_too_long(bytes: usize) -> bool {
    bytes > LONGEST.load(Ordering::Relaxed)
}

/// The answer, if JavaScript can take it.
pub(crate) fn accepted(answer: String) -> Result<String> {
    if is_too_long(answer.len()) {
        return Err(invalid(format!(
            "the answer has {} bytes, more than one JavaScript string can hold: ask for less, or let the opslog command print it",
            answer.len()
        )));
    }
    Ok(answer)
}

/// Makes the longest answer one of so many bytes, so that tests need no gigabytes.
#[napi]
pub fn set_longest_answer(bytes: u32) {
    LONGEST.store(bytes as usize, Ordering::Relaxed);
}
