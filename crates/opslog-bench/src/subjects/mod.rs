//! The stores that are compared, each used as its own documentation recommends.
//!
//! One small trait for all that Rust calls; the reference runs in Node ([`mod@reference`]), and does the same there.

pub(crate) mod fjall;
pub(crate) mod lmdb;
pub(crate) mod opslog;
pub(crate) mod redb;
pub(crate) mod reference;
pub(crate) mod sqlite;

use std::path::Path;
use std::sync::Arc;

use crate::Result;
use crate::documents::Task;
use crate::measure::Checksum;

/// opslog's name among the subjects.
pub(crate) const OPSLOG: &str = "opslog";
/// The npm package's.
pub(crate) const REFERENCE: &str = "reference";
/// All that opslog is compared with.
pub(crate) const PEERS: [&str; 5] = [REFERENCE, "sqlite", "redb", "fjall", "lmdb"];

/// When a write may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When it is on stable storage.
    Synced,
    /// When it is visible; [`Subject::flush`] makes all of it durable.
    Buffered,
}

/// A store under test.
pub(crate) trait Subject: Send + Sync {
    /// Creates or replaces one document.
    fn set(&self, id: &str, task: &Task) -> Result<()>;

    /// Creates or replaces some documents, all or nothing.
    fn set_batch(&self, batch: &[(String, Task)]) -> Result<()>;

    /// Returns when everything set is on stable storage.
    fn flush(&self) -> Result<()>;

    /// A field of one document that was fetched whole and decoded.
    fn priority(&self, id: &str) -> Result<Option<u32>>;

    /// How many documents are wanted, having fetched and decoded all.
    fn filter(&self, is_wanted: fn(&Task) -> bool) -> Result<Found>;

    /// All ids and documents, as JSON text.
    fn for_each(&self, visit: &mut dyn FnMut(&str, &str)) -> Result<()>;

    /// Ends use of the store as its documentation says.
    fn close(self: Box<Self>) -> Result<()>;
}

/// What a filter found.
pub(crate) enum Found {
    Count(usize),
    /// Dropped after the clock was stopped: the limit and the reference do not count that either.
    Documents(Vec<Arc<Task>>),
}

impl Found {
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::Documents(documents) => documents.len(),
        }
    }
}

/// Opens or creates the store of the subject `name` in `directory`.
pub(crate) fn open(
    name: &str,
    directory: &Path,
    durability: Durability,
) -> Result<Box<dyn Subject>> {
    Ok(match name {
        OPSLOG => Box::new(opslog::Opslog::open(directory, durability)?),
        "sqlite" => Box::new(sqlite::Sqlite::open(directory, durability)?),
        "redb" => Box::new(redb::Redb::open(directory, durability)?),
        "fjall" => Box::new(fjall::Fjall::open(directory, durability)?),
        "lmdb" => Box::new(lmdb::Lmdb::open(directory, durability)?),
        _ => return Err(format!("'{name}' is not run from Rust").into()),
    })
}

/// What the store has, for the check that all did equal work.
pub(crate) fn checksum(subject: &dyn Subject) -> Result<Checksum> {
    let mut checksum = Checksum::default();
    subject.for_each(&mut |id, document| checksum.add(id, document))?;
    Ok(checksum)
}

/// The text of a document, as every key-value store gets it.
fn encode(task: &Task) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(task)?)
}

fn decode(document: &[u8]) -> Result<Task> {
    Ok(serde_json::from_slice(document)?)
}
