//! Archiving beside other agents: as compaction, while this agent's own writers wait.

use std::collections::HashSet;
use std::time::Instant;

use super::compact::{Replacement, Swap};
use super::picture::Picture;
use crate::archive::merge_list;
use crate::checkpoint::{discard, discard_all};
use crate::commit::Guard;
use crate::document::{Document, Stored};
use crate::engine::{Engine, lock};
use crate::format::manifest::ArchiveFacts;
use crate::merge::Order;
use crate::{ErrorKind, Result};

impl<T: Document> Engine<T> {
    /// As [`archive`](Self::archive), beside other agents.
    pub(crate) fn archive_as_agent(
        &self,
        period: &str,
        mut predicate: impl FnMut(&T, &str) -> bool,
    ) -> Result<usize> {
        let _turn = lock(&self.checkpointing);
        self.ensure_can_checkpoint()?;
        self.until_swapped(&mut || self.try_archive(period, &mut predicate))
    }

    fn try_archive(
        &self,
        period: &str,
        predicate: &mut dyn FnMut(&T, &str) -> bool,
    ) -> Result<Option<usize>> {
        let began = Instant::now();
        let (listed, dead) = self.before_looking()?;
        self.look_by_the_way()?;
        let others = lock(&self.others);
        let mut writer = self.quiesce(self.writer()?)?;
        let picture = self.picture(&mut writer, &others, listed, dead, began);
        writer.sealing = None;
        let picked = self.pick(&picture.documents, predicate)?;
        if picked.is_empty() {
            return Ok(Some(0));
        }
        let (facts, replaced) = self.write_segment(&picture.base, period, &picked)?;
        let new_segment = facts.path.clone();
        let archives = merge_list(&picture.base, facts, &replaced);
        let swapped = self.swap_in_archive(writer, picture, &picked, archives);
        match swapped {
            Ok(true) => {
                discard_all(&*self.backend, &replaced);
                Ok(Some(picked.len()))
            }
            Ok(false) => {
                discard(&*self.backend, &new_segment);
                Ok(None)
            }
            Err(error) => {
                if error.kind() != ErrorKind::Poisoned {
                    discard(&*self.backend, &new_segment);
                }
                Err(error)
            }
        }
    }

    /// Swaps in a snapshot without the documents `picked`, which are in one of the segments `archives`; `false` when another one came first.
    fn swap_in_archive(
        &self,
        writer: Guard<'_, T>,
        mut picture: Picture<T>,
        picked: &[Stored<T>],
        archives: Vec<ArchiveFacts>,
    ) -> Result<bool> {
        let gone: HashSet<&str> = picked.iter().map(Stored::id).collect();
        let tombstones = picture.bury(&gone)?;
        let forgotten = picture.promise(self);
        let stamps = picture.stamps.without_forgotten(forgotten);
        let kept = picture.documents.iter().filter(|document| {
            document
                .as_ref()
                .map_or(true, |document| !gone.contains(document.id()))
        });
        let (snapshot, stamps) = self.write_both(&picture, kept, &stamps)?;
        let replacement = Replacement {
            snapshot,
            stamps,
            archives: Some(archives),
            merged: None,
            forgotten,
            closing: false,
        };
        let Swap::Done(_writer) = self.swap_in(writer, picture, &replacement)? else {
            return Ok(false);
        };
        let mut state = self.state_mut();
        for (id, stamp) in tombstones {
            let order = Order {
                born: stamp.clone(),
                stamp,
            };
            state.merge(&id, None, order);
        }
        Ok(true)
    }
}
