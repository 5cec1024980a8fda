//! The `opslog` command.
fn main() {}
