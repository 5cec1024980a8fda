//! `opslog completions`: the script that teaches a shell the commands.

use clap::CommandFactory as _;
use clap_complete::generate;

use crate::args::{Arguments, CompletionsOptions};
use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn run(options: &CompletionsOptions, output: &mut Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(
        options.shell,
        &mut Arguments::command(),
        "opslog",
        &mut script,
    );
    output.bytes(&script)?;
    Ok(())
}
