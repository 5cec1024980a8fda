//! `opslog query`: the documents that an expression picks, or what it makes of them.

use std::path::Path;

use jaq_json::Val;
use serde::de::IgnoredAny;

use crate::args::QueryOptions;
use crate::commands::list::Listing;
use crate::expression::{Expression, parse, plain};
use crate::failure::Failure;
use crate::open;
use crate::output::Output;
use crate::selection::Selection;

pub(crate) fn run(
    directory: &Path,
    options: &QueryOptions,
    output: &mut Output,
) -> Result<(), Failure> {
    if options.map {
        return map(directory, options, output);
    }
    let selection = Selection::new(&options.selection)?;
    let store = open::read(directory)?;
    let mut listing = Listing::new(&options.page, output);
    selection.each(&store, |id, text| listing.push(id, text.as_str()))?;
    listing.finish()?;
    Ok(())
}

/// Prints what the expression yields for each document that the conditions pick.
fn map(directory: &Path, options: &QueryOptions, output: &mut Output) -> Result<(), Failure> {
    let code = options.selection.expression.as_deref().unwrap_or(".");
    let expression = Expression::compile(code)?;
    let selection = Selection::of_conditions(&options.selection.conditions);
    let store = open::read(directory)?;
    let limit = options.page.limit.unwrap_or(usize::MAX);
    let mut count = 0;
    selection.each(&store, |id, text| {
        let document = parse(id, text.as_str())?;
        expression.outputs(id, document, |value| {
            if count < limit {
                count += 1;
                print(id, &value, options.raw, output)?;
            }
            Ok(count < limit)
        })?;
        Ok(count < limit)
    })?;
    Ok(())
}

fn print(id: &str, value: &Val, raw: bool, output: &mut Output) -> Result<(), Failure> {
    if raw && matches!(value, Val::TStr(_)) {
        return output.line(&plain(value));
    }
    let text = value.to_string();
    // The language has values that JSON does not: NaN, bytes, keys that are no strings.
    if serde_json::from_str::<IgnoredAny>(&text).is_err() {
        return Err(Failure::invalid(format!(
            "the expression yields something that is not JSON for document '{id}': {text}"
        )));
    }
    output.line(&text)
}
