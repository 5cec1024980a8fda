//! The reader of `opslog import`: never a panic, and every document it gives out is one that a store takes.

#![no_main]
#![allow(dead_code, reason = "only the reader of the command is used")]

use std::fs::File;
use std::io::Write as _;

#[path = "../../crates/opslog-cli/src/args.rs"]
mod args;
#[path = "../../crates/opslog-cli/src/failure.rs"]
mod failure;
#[path = "../../crates/opslog-cli/src/fields.rs"]
mod fields;
#[path = "../../crates/opslog-cli/src/input.rs"]
mod input;
#[path = "../../crates/opslog-cli/src/output.rs"]
mod output;
#[path = "../../crates/opslog-cli/src/pretty.rs"]
mod pretty;

use input::{Identity, Input};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let Ok(input) = Input::open(file.path()) else {
        return;
    };
    for identity in [Identity::Exported, Identity::Field("id".to_owned())] {
        let _ = input.read(&identity, |file: File| file, &mut |item| {
            if let Ok(document) = item.document {
                opslog::check_document(&document.id, &document.text).unwrap();
            }
            Ok(())
        });
    }
});
