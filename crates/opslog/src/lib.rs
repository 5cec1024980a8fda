//! An embedded, event-sourced document store.
//!
//! Every change is an *operation* appended to a log; the current state is the latest *snapshot* plus the operations after it. That gives an
//! application crash safety, undo, an audit trail and a history to synchronise from, without a database server. The
//! directory is readable by the npm package `@backloghq/opslog`, and the other way round.
//!
//! ```
//! use opslog::Store;
//! use serde_json::json;
//!
//! let directory = tempfile::tempdir()?;
//! let store: Store = Store::open(directory.path())?;
//! store.set("task-1", &json!({"title": "Build API", "status": "active"}))?;
//! store.set("task-1", &json!({"title": "Build API", "status": "done"}))?;
//! store.undo()?;
//! let active = store.filter(|task, _id| task["status"] == "active")?;
//! assert_eq!(active.len(), 1);
//! assert_eq!(store.history("task-1")?.len(), 1);
//! store.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Store`] has the calls, [`StoreBuilder`] the options, [`WriteMode`] says what a crash can take, [`Backend`] is what a storage of one's own must do.

pub mod backend;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

mod adopt;
mod agents;
mod archive;
mod background;
mod backup;
mod base;
mod batch;
mod blobs;
mod builder;
mod checkpoint;
mod clock;
mod close;
mod commit;
mod delta;
mod document;
mod engine;
mod error;
mod follow;
mod format;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod fuzz;
mod history;
mod load;
mod lock;
mod merge;
mod migrate;
mod op;
mod open;
mod oplog;
mod options;
mod paths;
mod pieces;
mod read;
mod recover;
mod repair;
mod replay;
mod salvage;
mod sealed;
mod state;
mod stats;
mod store;
mod stream;
mod sync;
#[cfg(not(any(test, feature = "testing")))]
mod testing;
mod time;
mod undo;
mod validate;
mod verify;
mod view;

pub use backend::{Backend, FsBackend, MemoryBackend};
pub use backup::{BackupReport, Existing, RestoreReport, backup, backup_backend, restore};
pub use batch::Batch;
pub use blobs::Blobs;
pub use builder::StoreBuilder;
pub use clock::LamportClock;
pub use commit::each::Write;
pub use delta::{DeltaPatch, apply_delta, create_delta, is_delta_smaller};
pub use document::{Document, Json, MAX_ID_BYTES, check_document};
pub use error::{Error, ErrorKind, Result};
pub use follow::Tail;
pub use format::op_line::OpKind;
pub use jiff::Timestamp;
pub use lock::DirectoryLock;
pub use op::{Cursor, Operation, Since};
pub use oplog::DamageKind;
pub use options::{CheckpointMode, Residency, Retention, UndoMode, WriteMode};
pub use recover::{DamageReport, OpenReport};
pub use repair::{
    RepairReport, UnreadablePart, plan_repair, plan_repair_backend, repair, repair_backend,
};
pub use stats::{AgentInfo, CheckpointStats, ManifestInfo, Stats};
pub use store::Store;
pub use stream::{OpStream, SnapshotStream, stream_snapshot_file};
pub use undo::Undone;
pub use validate::{validate_archive_segment, validate_manifest, validate_op, validate_snapshot};
pub use verify::{FileCheck, VerifyReport, verify, verify_backend};
pub use view::{Entry, View};
