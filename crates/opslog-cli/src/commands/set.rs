//! `opslog set`: one document, whole or field by field.

use std::io::Read as _;

use serde_json::json;
use serde_json::value::RawValue;

use crate::args::{FieldValue, SetOptions, Target};
use crate::failure::Failure;
use crate::fields::Fields;
use crate::input::check;
use crate::open::{self, Documents};
use crate::output::Output;

pub(crate) fn run(
    target: Target<'_>,
    options: &SetOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    // Whatever can be wrong with the arguments is known before a store is made.
    let whole = options.document.as_deref().map(whole).transpose()?;
    check(&options.id, whole.as_deref().unwrap_or("{}")).map_err(Failure::invalid)?;
    let store = open::write_or_create(target)?;
    let known = store.has(&options.id)?;
    let text = match whole {
        Some(text) => text,
        None => amended(&store, &options.id, &options.fields)?,
    };
    check(&options.id, &text).map_err(Failure::invalid)?;
    store.set_json(&options.id, &text)?;
    open::close(&store);
    let outcome = if known { "updated" } else { "created" };
    output.outcome(
        &format!("{outcome} {}", options.id),
        &json!({"id": options.id, "outcome": outcome}),
    )?;
    Ok(())
}

/// The document's text, from the command line or the standard input.
fn whole(argument: &str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .read_to_string(&mut text)
        .map_err(|error| Failure::reading("the standard input", &error))?;
    Ok(text)
}

/// The value as JSON: what it says, if that is JSON, and otherwise itself as a string.
fn as_json(value: &str) -> Result<Box<RawValue>, String> {
    serde_json::from_str(value)
        .or_else(|_| serde_json::value::to_raw_value(value))
        .map_err(|error| error.to_string())
}

/// The present document, or an empty one, with `changes` made.
fn amended(store: &Documents, id: &str, changes: &[FieldValue]) -> Result<String, Failure> {
    let mut fields = match store.get_json(id)? {
        Some(text) => Fields::parse(text.as_str()).map_err(|error| {
            Failure::invalid(format!("document '{id}' cannot be amended: {error}"))
        })?,
        None => Fields::default(),
    };
    for FieldValue { field, value } in changes {
        // A field that has the dots in its name is meant before a path is.
        let path: Vec<&str> = if fields.get(field).is_some() {
            vec![field]
        } else {
            field.split('.').collect()
        };
        as_json(value)
            .and_then(|value| fields.put(&path, value))
            .map_err(|reason| Failure::invalid(format!("cannot set '{field}': {reason}")))?;
    }
    Ok(fields.to_text())
}
