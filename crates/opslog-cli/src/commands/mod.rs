//! One module a verb.

pub(crate) mod agents;
pub(crate) mod archive;
pub(crate) mod backup;
pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod count;
pub(crate) mod delete;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod log;
pub(crate) mod query;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod segments;
pub(crate) mod set;
pub(crate) mod stats;
pub(crate) mod undo;
pub(crate) mod verify;
