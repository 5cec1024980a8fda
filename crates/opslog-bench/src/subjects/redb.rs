//! redb: one transaction a write, `Durability::Immediate` or, for the unsynced workloads, `None`, with one durable commit at the end.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Durability, Found, Subject, decode, encode};
use crate::Result;
use crate::documents::Task;

const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");

pub(crate) struct Redb {
    database: Database,
    durability: redb::Durability,
}

impl Redb {
    pub(crate) fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let database = Database::create(directory.join("documents.redb"))?;
        let durability = match durability {
            Durability::Synced => redb::Durability::Immediate,
            Durability::Buffered => redb::Durability::None,
        };
        Ok(Self {
            database,
            durability,
        })
    }
}

impl Subject for Redb {
    fn set(&self, id: &str, task: &Task) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        transaction
            .open_table(DOCUMENTS)?
            .insert(id, encode(task)?.as_slice())?;
        Ok(transaction.commit()?)
    }

    fn set_batch(&self, batch: &[(String, Task)]) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        {
            let mut table = transaction.open_table(DOCUMENTS)?;
            for (id, task) in batch {
                table.insert(id.as_str(), encode(task)?.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.database.begin_write()?.commit()?)
    }

    fn priority(&self, id: &str) -> Result<Option<u32>> {
        let table = self.database.begin_read()?.open_table(DOCUMENTS)?;
        let Some(document) = table.get(id)? else {
            return Ok(None);
        };
        Ok(Some(decode(document.value())?.priority))
    }

    fn filter(&self, is_wanted: fn(&Task) -> bool) -> Result<Found> {
        let table = self.database.begin_read()?.open_table(DOCUMENTS)?;
        let mut count = 0;
        for entry in table.iter()? {
            count += usize::from(is_wanted(&decode(entry?.1.value())?));
        }
        Ok(Found::Count(count))
    }

    fn for_each(&self, visit: &mut dyn FnMut(&str, &str)) -> Result<()> {
        let table = self.database.begin_read()?.open_table(DOCUMENTS)?;
        for entry in table.iter()? {
            let (id, document) = entry?;
            visit(id.value(), str::from_utf8(document.value())?);
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
