//! opslog, with a typed document and its default options but for the write mode that the workload asks for.

use std::path::Path;

use opslog::{Store, StoreBuilder, WriteMode};

use super::{Durability, Found, Subject};
use crate::Result;
use crate::documents::Task;

pub(crate) struct Opslog(Store<Task>);

impl Opslog {
    pub(crate) fn open(directory: &Path, durability: Durability) -> Result<Self> {
        let mode = match durability {
            Durability::Synced => WriteMode::Immediate,
            Durability::Buffered => WriteMode::asynchronous(),
        };
        Self::build(directory, Store::builder().write_mode(mode))
    }

    pub(crate) fn build(directory: &Path, builder: StoreBuilder<Task>) -> Result<Self> {
        Ok(Self(builder.open(directory)?))
    }
}

impl Subject for Opslog {
    fn set(&self, id: &str, task: &Task) -> Result<()> {
        Ok(self.0.set(id, task)?)
    }

    fn set_batch(&self, batch: &[(String, Task)]) -> Result<()> {
        self.0
            .batch(|writes| batch.iter().try_for_each(|(id, task)| writes.set(id, task)))?;
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.0.flush()?)
    }

    fn priority(&self, id: &str) -> Result<Option<u32>> {
        Ok(self.0.get(id)?.map(|task| task.priority))
    }

    fn filter(&self, is_wanted: fn(&Task) -> bool) -> Result<Found> {
        Ok(Found::Documents(
            self.0.filter(|task, _id| is_wanted(task))?,
        ))
    }

    fn for_each(&self, visit: &mut dyn FnMut(&str, &str)) -> Result<()> {
        for entry in self.0.view()?.iter() {
            let entry = entry?;
            visit(entry.id(), entry.json().as_str());
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.close()?)
    }
}
