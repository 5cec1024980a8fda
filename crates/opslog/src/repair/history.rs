//! What the operations before a damaged snapshot say of its documents.

use std::collections::HashMap;

use crate::Result;
use crate::document::Stored;
use crate::format::op_line::Prev;
use crate::oplog::LogLine;
use crate::replay::replay;
use crate::salvage::SnapshotRemains;
use crate::state::State;

use super::RepairReport;
use super::archives::Away;

/// The last thing that the operations say of a document.
struct Said {
    seq: u64,
    /// Its text, unless it was deleted.
    text: Option<String>,
    /// Whether the operation gave it the text again that it had when an archive took it.
    is_back: bool,
}

/// What the operations before the snapshot say.
#[derive(Default)]
pub(super) struct History {
    /// The documents as they were, if no operation is missing.
    state: State<()>,
    said: HashMap<String, Said>,
    /// The numbers heard, as long as there was no gap.
    heard: std::ops::Range<u64>,
    has_gap: bool,
    unbroken: Unbroken,
}

/// The end of the operations in which none is missing and each has a checksum.
#[derive(Default)]
pub(super) struct Unbroken {
    /// The number of its first operation.
    pub(super) start: u64,
    /// The number behind its last one.
    end: Option<u64>,
}

impl Unbroken {
    pub(super) fn hear(&mut self, line: &LogLine<'_>) {
        if self.end != Some(line.seq) {
            self.start = line.seq;
        }
        if line.op.seq.is_none() {
            // What the npm package wrote has no checksum, and no number by which to miss one.
            self.start = line.seq + 1;
        }
        self.end = Some(line.seq + 1);
    }
}

/// What, besides operations, may have changed the documents of a snapshot.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// The number of the first operation whose document no archive and no migration has touched since.
    pub(super) floor: u64,
    /// That of the first one whose document was not given another text since: an archive moves documents, but leaves them as they are.
    pub(super) texts: u64,
    /// That of the first one that is not in the snapshot.
    pub(super) cut: u64,
    /// How many documents it was written with, where that is known.
    pub(super) documents: Option<u64>,
}

impl History {
    pub(super) fn hear(&mut self, line: &LogLine<'_>) -> Result<()> {
        if self.said.is_empty() {
            self.heard = line.seq..line.seq;
        }
        self.has_gap |= line.seq != self.heard.end;
        self.heard.end = line.seq + 1;
        self.unbroken.hear(line);
        let text = line.op.data.map(str::to_owned);
        let before = self.said.get(&*line.op.id);
        let had_it = before.is_some_and(|said| said.text.is_some() && said.text == text);
        let said = Said {
            seq: line.seq,
            text,
            is_back: had_it && line.op.prev == Prev::None && !line.op.blind,
        };
        self.said.insert(line.op.id.to_string(), said);
        replay(&mut self.state, line.op.kind, &line.op.id, line.op.data)
    }

    /// Whether all that ever happened is known; every line of it has a checksum.
    pub(super) fn tells_all(&self, remains: &SnapshotRemains, bounds: Bounds) -> bool {
        let reaches = bounds.cut == u64::MAX || self.heard.end == bounds.cut;
        let documents = self.state.len() as u64;
        // Where the numbers began anew, after a repair, there are documents from before them.
        let has_all = match bounds.documents {
            Some(expected) => documents == expected,
            None => documents >= remains.documents.len() as u64,
        };
        bounds.floor == 0 && self.heard.start == 0 && !self.has_gap && reaches && has_all
    }

    /// The number of the first operation that, where it is the last one on a document, says what the document was in the snapshot.
    fn certain_from(&self, bounds: Bounds) -> u64 {
        if self.heard.end == bounds.cut {
            self.unbroken.start.max(bounds.texts)
        } else {
            u64::MAX
        }
    }

    /// The documents of a snapshot that is damaged, as well as they can be told.
    pub(super) fn compose(
        self,
        remains: &SnapshotRemains,
        bounds: Bounds,
        away: &Away,
        report: &mut RepairReport,
    ) -> State<()> {
        if self.tells_all(remains, bounds) {
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
        let is_complete = self.knows_all_ids(bounds, away);
        let mut state = State::with_capacity(remains.documents.len());
        for (id, data) in &remains.documents {
            if is_complete && !self.said.contains_key(id) {
                // The damage has hit an id: no document ever had this one.
                continue;
            }
            if let Some(text) = self.vouched(id, data, bounds, away, report) {
                state.put(Stored::new(id, text), true);
            }
        }
        self.add_missing(&mut state, bounds, away, report);
        state
    }

    /// Whether the operations say of every document of the snapshot what it was.
    fn knows_all_ids(&self, bounds: Bounds, away: &Away) -> bool {
        let live = self.said.iter().filter(|(id, said)| {
            let taken = said.text.as_ref().is_some_and(|text| away.took(id, text));
            said.text.is_some() && !(taken && said.seq < bounds.floor)
        });
        self.certain_from(bounds) == 0 && bounds.documents == Some(live.count() as u64)
    }

    /// The text of a document that reads as `data` in the damaged snapshot; `None` where no such document was in it: then the damage has hit an id.
    fn vouched<'t>(
        &'t self,
        id: &str,
        data: &'t str,
        bounds: Bounds,
        away: &Away,
        report: &mut RepairReport,
    ) -> Option<&'t str> {
        let certain_from = self.certain_from(bounds);
        let Some(said) = self.said.get(id) else {
            report.doubtful.push(id.to_owned());
            return Some(data);
        };
        let is_certain = said.seq >= certain_from;
        match &said.text {
            // Damage does not make another operation's text of one.
            Some(text) if text == data => Some(data),
            Some(text) if is_certain => {
                if said.seq < bounds.floor && !said.is_back && away.took(id, text) {
                    return None;
                }
                report.recovered.push(id.to_owned());
                Some(text)
            }
            None if is_certain => None,
            _ => {
                report.doubtful.push(id.to_owned());
                report.differing.push(id.to_owned());
                Some(data)
            }
        }
    }

    /// Adds what operations wrote and the damaged snapshot does not show, in their order.
    fn add_missing(
        &self,
        state: &mut State<()>,
        bounds: Bounds,
        away: &Away,
        report: &mut RepairReport,
    ) {
        let certain_from = self.certain_from(bounds);
        let missing = self.said.iter().filter_map(|(id, said)| {
            let is_missing = matches!(state.get(id), Ok(None));
            Some((id, said, said.text.as_ref().filter(|_| is_missing)?))
        });
        let mut missing: Vec<_> = missing.collect();
        missing.sort_by_key(|(_, said, _)| said.seq);
        for (id, said, text) in missing {
            let is_certain = if said.seq < bounds.floor {
                // An archive or a migration came between: it may have left, or have looked otherwise.
                let is_there = away.is_whole && !away.took(id, text);
                if !is_there && !said.is_back && away.has(id) {
                    continue;
                }
                is_there && said.seq >= certain_from
            } else {
                said.seq >= certain_from
            };
            if !is_certain {
                report.doubtful.push(id.clone());
            }
            report.recovered.push(id.clone());
            state.put(Stored::new(id, text), true);
        }
    }
}
