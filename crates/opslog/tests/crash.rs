//! Crashes and failures at every file-system call (`docs/durability.md` §7), on a simulated disk.
//!
//! A script of store calls runs on a disk that is looked at before every call that follows a change. There the states are taken that
//! a power cut, or the death of the process, may leave; each is opened and compared with what it may hold: everything
//! acknowledged, then a part of what was accepted, in order, and of the call in flight all or nothing.
//!
//! `OPSLOG_CRASH_STATES` says how many distinct states are to be checked: below 100,000 (the default is 20,000) not all sequences of three calls are run, above
//! all of them are, and random long scripts until there are enough. `OPSLOG_CRASH_SEED` runs the one script of that seed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_macros,
    reason = "the helpers of tests fail the test, and say what they have done"
)]

#[path = "crash/explore.rs"]
mod explore;
#[path = "crash/faults.rs"]
mod faults;
#[path = "crash/flawed.rs"]
mod flawed;
#[path = "crash/model.rs"]
#[allow(dead_code, reason = "some of it is for tests/model.rs")]
mod model;
#[path = "crash/planted.rs"]
mod planted;
#[path = "crash/script.rs"]
mod script;
#[path = "crash/sequences.rs"]
mod sequences;
#[path = "crash/watched.rs"]
mod watched;
