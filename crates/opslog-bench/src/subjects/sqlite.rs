//! `SQLite`: a write-ahead log, prepared statements, one connection that writers take turns with (it has one writer at a time, and waiting for a
//! mutex is cheaper than its busy handler).
//!
//! `synchronous=FULL` syncs the log in each transaction; `NORMAL`, for the unsynced workloads, only when the log is checkpointed.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::{Durability, Found, Subject, decode, encode};
use crate::Result;
use crate::documents::Task;

pub(crate) struct Sqlite(Mutex<Connection>);

const SET: &str = "INSERT INTO documents VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET document = excluded.document";

impl Sqlite {
    pub(crate) fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let connection = Connection::open(directory.join("documents.sqlite"))?;
        let synchronous = match durability {
            Durability::Synced => "FULL",
            Durability::Buffered => "NORMAL",
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "mmap_size", 1_i64 << 31)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID",
        )?;
        Ok(Self(Mutex::new(connection)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set(statement: &mut CachedStatement<'_>, id: &str, task: &Task) -> Result<()> {
    statement.execute(params![id, encode(task)?])?;
    Ok(())
}

impl Subject for Sqlite {
    fn set(&self, id: &str, task: &Task) -> Result<()> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(SET)?;
        set(&mut statement, id, task)
    }

    fn set_batch(&self, batch: &[(String, Task)]) -> Result<()> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        {
            let mut statement = transaction.prepare_cached(SET)?;
            for (id, task) in batch {
                set(&mut statement, id, task)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn flush(&self) -> Result<()> {
        let connection = self.connection();
        Ok(connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))?)
    }

    fn priority(&self, id: &str) -> Result<Option<u32>> {
        let connection = self.connection();
        let mut statement =
            connection.prepare_cached("SELECT document FROM documents WHERE id = ?1")?;
        let task = statement
            .query_row([id], |row| Ok(decode(row.get_ref(0)?.as_blob()?)))
            .optional()?;
        Ok(task.transpose()?.map(|task| task.priority))
    }

    fn filter(&self, is_wanted: fn(&Task) -> bool) -> Result<Found> {
        let mut count = 0;
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT document FROM documents")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            count += usize::from(is_wanted(&decode(row.get_ref(0)?.as_blob()?)?));
        }
        Ok(Found::Count(count))
    }

    fn for_each(&self, visit: &mut dyn FnMut(&str, &str)) -> Result<()> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached("SELECT id, document FROM documents")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let document = str::from_utf8(row.get_ref(1)?.as_blob()?)?;
            visit(row.get_ref(0)?.as_str()?, document);
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        let connection = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        connection.close().map_err(|(_, error)| error.into())
    }
}
