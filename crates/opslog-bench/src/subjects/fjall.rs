//! fjall: an insert, and `persist` (`fdatasync`, as opslog does) where the workload is durable.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Durability, Found, Subject, decode, encode};
use crate::Result;
use crate::documents::Task;

pub(crate) struct Fjall {
    database: Database,
    documents: Keyspace,
    durability: Durability,
}

impl Fjall {
    pub(crate) fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let database = Database::builder(directory.join("fjall")).open()?;
        let documents = database.keyspace("documents", KeyspaceCreateOptions::default)?;
        Ok(Self {
            database,
            documents,
            durability,
        })
    }

    fn persist_if_durable(&self) -> Result<()> {
        if self.durability == Durability::Synced {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Subject for Fjall {
    fn set(&self, id: &str, task: &Task) -> Result<()> {
        self.documents.insert(id, encode(task)?)?;
        self.persist_if_durable()
    }

    fn set_batch(&self, batch: &[(String, Task)]) -> Result<()> {
        let mut writes = self.database.batch();
        for (id, task) in batch {
            writes.insert(&self.documents, id.as_str(), encode(task)?);
        }
        writes.commit()?;
        self.persist_if_durable()
    }

    fn flush(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn priority(&self, id: &str) -> Result<Option<u32>> {
        let Some(document) = self.documents.get(id)? else {
            return Ok(None);
        };
        Ok(Some(decode(&document)?.priority))
    }

    fn filter(&self, is_wanted: fn(&Task) -> bool) -> Result<Found> {
        let mut count = 0;
        for entry in self.documents.iter() {
            count += usize::from(is_wanted(&decode(&entry.value()?)?));
        }
        Ok(Found::Count(count))
    }

    fn for_each(&self, visit: &mut dyn FnMut(&str, &str)) -> Result<()> {
        for entry in self.documents.iter() {
            let (id, document) = entry.into_inner()?;
            visit(str::from_utf8(&id)?, str::from_utf8(&document)?);
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.flush()
    }
}
