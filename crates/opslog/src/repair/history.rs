//! What the operations before a damaged snapshot say of its documents.

use std::collections::HashMap;

use crate::Result;
use crate::document::Stored;
use crate::oplog::LogLine;
use crate::replay::replay;
use crate::salvage::SnapshotRemains;
use crate::state::State;

use super::{Ids, RepairReport};

/// The last thing that the operations say of each document: its number, and its text unless it was deleted.
type Said = HashMap<String, (u64, Option<String>)>;

/// What the operations before the snapshot say.
#[derive(Default)]
pub(super) struct History {
    /// The documents as they were, if no operation is missing.
    state: State<()>,
    said: Said,
    /// The numbers heard, as long as there was no gap.
    heard: std::ops::Range<u64>,
    has_gap: bool,
}

impl History {
    pub(super) fn hear(&mut self, line: &LogLine<'_>) -> Result<()> {
        if self.said.is_empty() {
            self.heard = line.seq..line.seq;
        }
        self.has_gap |= line.seq != self.heard.end;
        self.heard.end = line.seq + 1;
        let text = line.op.data.map(str::to_owned);
        self.said.insert(line.op.id.to_string(), (line.seq, text));
        replay(&mut self.state, line.op.kind, &line.op.id, line.op.data)
    }

    /// Whether all that ever happened is known; every line of it has a checksum.
    pub(super) fn tells_all(&self, floor: u64, cut: u64) -> bool {
        let reaches = cut == u64::MAX || self.heard.end == cut;
        floor == 0 && self.heard.start == 0 && !self.has_gap && reaches
    }

    /// The documents of a snapshot that is damaged, as well as they can be told.
    pub(super) fn compose(
        self,
        remains: &SnapshotRemains,
        floor: u64,
        cut: u64,
        away: &Ids,
        report: &mut RepairReport,
    ) -> State<()> {
        if self.tells_all(floor, cut) {
            let there: HashMap<&str, &str> = remains
                .documents
                .iter()
                .map(|(id, data)| (id.as_str(), data.as_str()))
                .collect();
            let frozen = self.state.freeze();
            let other = frozen
                .resident()
                .filter(|document| there.get(document.id()) != Some(&document.data()));
            report
                .recovered
                .extend(other.map(|document| document.id().to_owned()));
            return self.state;
        }
        let mut state = State::with_capacity(remains.documents.len());
        for (id, data) in &remains.documents {
            let said = self
                .said
                .get(id)
                .filter(|(seq, _)| *seq >= floor && !self.has_gap);
            match said {
                Some((_, Some(text))) if text == data => {}
                Some((_, Some(text))) => {
                    report.recovered.push(id.clone());
                    state.put(Stored::new(id, text), true);
                    continue;
                }
                _ => report.doubtful.push(id.clone()),
            }
            state.put(Stored::new(id, data), true);
        }
        let mut missing: Vec<(&String, &(u64, Option<String>))> = self
            .said
            .iter()
            .filter(|(id, _)| matches!(state.get(id), Ok(None)))
            .collect();
        missing.sort_by_key(|(_, (seq, _))| *seq);
        for (id, (seq, text)) in missing {
            let Some(text) = text else { continue };
            if *seq < floor {
                // An archive or a migration came between: it may have left, or have looked otherwise.
                if away.contains(id) {
                    continue;
                }
                report.doubtful.push(id.clone());
            }
            report.recovered.push(id.clone());
            state.put(Stored::new(id, text), true);
        }
        state
    }
}
