//! Batches: a list of writes, and of reads whose answers come back when the batch succeeds.

use opslog::{Batch, Error, ErrorKind};
use serde_json::value::RawValue;

use crate::RawStore;
use crate::calls::{entries_json, json};
use crate::command::{BatchOperation, Failure};

/// The message by which a batch that was told to fail is recognised.
const FAILED_ON_PURPOSE: &str = "the batch failed on purpose";

pub(crate) fn run(store: &RawStore, operations: &[BatchOperation]) -> Result<String, Failure> {
    let result = store.batch(|batch| {
        let mut answers = Vec::new();
        for operation in operations {
            answers.extend(step(batch, operation)?);
        }
        Ok(answers)
    });
    match result {
        Ok(answers) => Ok(format!("[{}]", answers.join(","))),
        Err(error) if error.message() == FAILED_ON_PURPOSE => {
            Err(Failure::new("BatchFailure", FAILED_ON_PURPOSE))
        }
        Err(error) => Err(error.into()),
    }
}

fn step(
    batch: &mut Batch<'_, Box<RawValue>>,
    operation: &BatchOperation,
) -> opslog::Result<Option<String>> {
    let id = operation.id.as_str();
    match (operation.op.as_str(), &operation.document) {
        ("set", Some(document)) => batch.set(id, document).map(|()| None),
        ("delete", _) => batch.delete(id).map(|()| None),
        ("tryDelete", _) => match batch.delete(id) {
            Ok(()) => Ok(Some(json(true))),
            Err(error) if error.is_not_found() => Ok(Some(json(false))),
            Err(error) => Err(error),
        },
        ("get", _) => batch
            .get(id)
            .map(|document| Some(json(document.as_deref()))),
        ("has", _) => batch.has(id).map(|has| Some(json(has))),
        ("count", _) => batch.count().map(|count| Some(json(count))),
        ("entries", _) => batch.entries().map(|entries| Some(entries_json(&entries))),
        ("fail", _) => Err(Error::new(ErrorKind::InvalidInput, FAILED_ON_PURPOSE)),
        (other, _) => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("a batch cannot do '{other}' with what it was given"),
        )),
    }
}
