//! The native half of the npm package `opslog`: it converts calls, text and errors between JavaScript and the `opslog` crate.
//!
//! Documents cross as JSON text, in both directions: JavaScript parses and writes them. A store has a thread of its own, on which everything
//! runs that may wait for a disk or a lock; the event loop hands it jobs and is told when they are done, in order (`worker`). The JavaScript half,
//! `lib/store.cjs`, keeps what the event loop sees; it is the only caller.

pub mod answer;
mod failure;
pub mod files;
mod load;
mod memory;
mod options;
pub mod pieces;
mod places;
pub mod store;
pub mod streams;
mod worker;
