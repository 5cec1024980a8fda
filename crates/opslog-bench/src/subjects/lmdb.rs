//! LMDB through heed: one transaction a write, synced when it commits; `NO_SYNC`, for the unsynced workloads, leaves that to the end.

use std::path::Path;

use heed::types::{Bytes, Str};
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

use super::{Durability, Found, Subject, decode, encode};
use crate::Result;
use crate::documents::Task;

/// Address space, not memory or disk.
const MAP_BYTES: usize = 16 << 30;

pub(crate) struct Lmdb {
    env: Env,
    documents: Database<Str, Bytes>,
}

impl Lmdb {
    pub(crate) fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let env = open_env(directory, durability)?;
        let mut transaction = env.write_txn()?;
        let documents = env.create_database(&mut transaction, None)?;
        transaction.commit()?;
        Ok(Self { env, documents })
    }
}

// heed leaves it to the caller that nobody changes the mapped file behind its back, and that a crash with `NO_SYNC` loses at most the benchmark.
// The directory was made by this run of the benchmark, for one process at a time.
#[allow(unsafe_code)]
fn open_env(directory: &Path, durability: Durability) -> Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES);
    if durability == Durability::Buffered {
        unsafe { options.flags(EnvFlags::NO_SYNC) };
    }
    Ok(unsafe { options.open(directory) }?)
}

impl Subject for Lmdb {
    fn set(&self, id: &str, task: &Task) -> Result<()> {
        let document = encode(task)?;
        let mut transaction = self.env.write_txn()?;
        self.documents.put(&mut transaction, id, &document)?;
        Ok(transaction.commit()?)
    }

    fn set_batch(&self, batch: &[(String, Task)]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (id, task) in batch {
            self.documents.put(&mut transaction, id, &encode(task)?)?;
        }
        Ok(transaction.commit()?)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn priority(&self, id: &str) -> Result<Option<u32>> {
        let transaction = self.env.read_txn()?;
        let document = self.documents.get(&transaction, id)?;
        let task = document.map(decode).transpose()?;
        Ok(task.map(|task| task.priority))
    }

    fn filter(&self, is_wanted: fn(&Task) -> bool) -> Result<Found> {
        let transaction = self.env.read_txn()?;
        let mut count = 0;
        for entry in self.documents.iter(&transaction)? {
            count += usize::from(is_wanted(&decode(entry?.1)?));
        }
        Ok(Found::Count(count))
    }

    fn for_each(&self, visit: &mut dyn FnMut(&str, &str)) -> Result<()> {
        let transaction = self.env.read_txn()?;
        for entry in self.documents.iter(&transaction)? {
            let (id, document) = entry?;
            visit(id, str::from_utf8(document)?);
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.flush()
    }
}
