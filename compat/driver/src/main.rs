//! Drives opslog by commands: one JSON object a line on standard input, one JSON object a line in answer, in order.
//!
//! `{"store":"main","call":"set","id":"a","document":{…}}` answers `{"result":…}` or
//! `{"error":{"kind":…,"message":…}}`. One process can hold several stores, told apart by `store`.
//! Documents pass through as JSON text, so that the text of numbers survives.

mod batch;
mod calls;
mod command;
mod options;

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, BufWriter, Write};

use opslog::Store;
use serde_json::value::RawValue;

use crate::command::{Command, Failure};

/// A store of documents that are kept as they were written.
type RawStore = Store<Box<RawValue>>;

fn main() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    let mut stores = HashMap::new();
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        writeln!(output, "{}", answer(&mut stores, &line))?;
        line.clear();
        // Answers to commands that came together go back together.
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
    output.flush()
}

fn answer(stores: &mut HashMap<String, RawStore>, line: &str) -> String {
    match run(stores, line) {
        Ok(result) => format!(r#"{{"result":{result}}}"#),
        Err(failure) => serde_json::json!({ "error": failure }).to_string(),
    }
}

fn run(stores: &mut HashMap<String, RawStore>, line: &str) -> Result<String, Failure> {
    let command: Command = serde_json::from_str(line)?;
    match command.call.as_str() {
        "open" => {
            let store = options::open(&command)?;
            stores.insert(command.store, store);
            Ok("null".to_owned())
        }
        "kill" => std::process::abort(),
        _ => {
            let store = stores
                .get(&command.store)
                .ok_or_else(Failure::no_such_store)?;
            calls::run(store, &command)
        }
    }
}
