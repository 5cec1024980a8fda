//! The archive segments of a damaged store: what is readable of them, and what the operations say of the rest.
//!
//! An archive moves documents without an operation, and leaves them as they are. So a document that an operation wrote, none deleted, and that is not among the documents any more, is in a
//! segment, as that operation wrote it; and where a later operation created it anew, it had been in one before.

use std::collections::{HashMap, HashSet};

use crate::Result;
use crate::backend::Backend;
use crate::format::archive;
use crate::format::manifest::ArchiveFacts;
use crate::format::op_line::Prev;
use crate::load;
use crate::merge::Stamp;
use crate::oplog::{DamageKind, LogLine};
use crate::paths;
use crate::salvage::{self, Forbearing};
use crate::state::State;

use super::history::Unbroken;
use super::logs::LogSource;
use super::sources::Sources;
use super::{ArchivePlan, Ids, RepairReport, whole};

/// The segments, as far as they were read.
pub(super) struct Archives(Vec<ArchiveRead>);

/// A segment as far as it was read.
struct ArchiveRead {
    path: String,
    timestamp: String,
    documents: Vec<(String, String)>,
    /// How many documents it was written with, where that is known.
    written: Option<u64>,
    /// What it is, where it is valid JSON.
    facts: Option<ArchiveFacts>,
    /// Whether it is what was written, as far as can be told.
    is_believed: bool,
    /// The ids that can be made out where it cannot be read.
    lost: Vec<String>,
    /// Where the report tells of it, if it is damaged.
    part: usize,
    /// Whether it is other than the file.
    is_changed: bool,
}

/// The documents that are in segments.
#[derive(Default)]
pub(super) struct Away {
    /// Ids, and texts where they are sure.
    texts: HashMap<String, Vec<String>>,
    /// Whether every segment is what was written.
    pub(super) is_whole: bool,
}

impl Away {
    pub(super) fn has(&self, id: &str) -> bool {
        self.texts.contains_key(id)
    }

    /// Whether an archive took the document when it had this text.
    pub(super) fn took(&self, id: &str, text: &str) -> bool {
        let mut texts = self.texts.get(id).into_iter().flatten();
        texts.any(|taken| taken == text)
    }
}

impl Sources {
    pub(super) fn read_archives(
        &self,
        backend: &dyn Backend,
        report: &mut RepairReport,
        remove: &mut Vec<String>,
    ) -> Result<Archives> {
        let mut archives = Vec::new();
        for (path, facts) in &self.archives {
            let mut read = ArchiveRead {
                path: path.clone(),
                timestamp: String::new(),
                documents: Vec::new(),
                written: facts.as_ref().map(|facts| facts.documents),
                facts: None,
                is_believed: false,
                lost: Vec::new(),
                part: report.unreadable.len(),
                is_changed: false,
            };
            match backend.open(path) {
                Ok(object) => {
                    let bytes = load::read_all(&Forbearing(object))?;
                    read.take(&bytes, facts.as_ref(), self.manifest.is_some(), report);
                    if read.facts.is_none() {
                        remove.push(path.clone());
                    }
                }
                Err(error) if error.is_not_found() => {
                    report.add(path, DamageKind::Damaged, whole(0, "it is missing"));
                }
                Err(error) => return Err(error),
            }
            archives.push(read);
        }
        Ok(Archives(archives))
    }
}

impl ArchiveRead {
    fn take(
        &mut self,
        bytes: &[u8],
        facts: Option<&ArchiveFacts>,
        has_manifest: bool,
        report: &mut RepairReport,
    ) {
        let crc = crc32c::crc32c(bytes);
        let size = bytes.len() as u64;
        let is_vouched = facts.is_some_and(|facts| facts.bytes == size && facts.crc == crc);
        // The reference keeps no checksums; its segments are believed.
        self.is_believed = is_vouched || has_manifest && facts.is_none();
        if let Ok(segment) = archive::decode(bytes) {
            if facts.is_some() && !is_vouched {
                let reason = "its checksum does not match its content";
                report.add(&self.path, DamageKind::Damaged, whole(size, reason));
            }
            self.facts = Some(ArchiveFacts {
                path: self.path.clone(),
                bytes: size,
                crc,
                documents: segment.documents.len() as u64,
            });
            self.documents = segment.documents;
            return;
        }
        self.is_believed = false;
        let remains = salvage::damaged_segment(bytes);
        for part in remains.unreadable {
            self.lost.extend(part.ids.iter().cloned());
            report.add(&self.path, DamageKind::Damaged, part);
        }
        report.lost.extend(self.lost.iter().cloned());
        self.timestamp = remains.timestamp.unwrap_or_default();
        self.documents = remains.documents;
    }

    fn plan(self) -> Option<ArchivePlan> {
        if let Some(facts) = self.facts.filter(|_| !self.is_changed) {
            return Some(ArchivePlan::Keep(facts));
        }
        let (period, _) = paths::parse_archive(&self.path)?;
        let period = period.to_owned();
        (!self.documents.is_empty()).then_some(ArchivePlan::Rewrite {
            path: self.path,
            period,
            timestamp: self.timestamp,
            documents: self.documents,
        })
    }
}

impl Archives {
    pub(super) fn away(&self) -> Away {
        let mut texts: HashMap<String, Vec<String>> = HashMap::new();
        for read in &self.0 {
            for (id, text) in &read.documents {
                let texts = texts.entry(id.clone()).or_default();
                texts.extend(read.is_believed.then(|| text.clone()));
            }
        }
        let is_whole = self.0.iter().all(|read| read.is_believed);
        Away { texts, is_whole }
    }

    pub(super) fn documents(&self) -> HashMap<String, String> {
        let documents = self.0.iter().flat_map(|read| read.documents.clone());
        documents.collect()
    }

    pub(super) fn plans(self) -> Vec<ArchivePlan> {
        self.0.into_iter().filter_map(ArchiveRead::plan).collect()
    }

    /// What will listen to the operations, if they are needed.
    pub(super) fn trail(&self) -> Option<Trail> {
        let is_whole = self.0.iter().all(|read| read.is_believed);
        (!is_whole).then(Trail::default)
    }

    /// Puts right what the operations say otherwise, and brings back what they say is missing.
    pub(super) fn mend(
        &mut self,
        trail: &Trail,
        unchanged_from: Option<u64>,
        documents: &State<()>,
        remove: &mut Vec<String>,
        report: &mut RepairReport,
    ) {
        let taken = trail.taken(documents, unchanged_from);
        self.rebuild(trail, &taken, report);
        for read in self.0.iter_mut().filter(|read| !read.is_believed) {
            read.correct(trail, &taken, report);
        }
        for read in &self.0 {
            if read.is_changed && !remove.contains(&read.path) {
                remove.push(read.path.clone());
            }
        }
    }

    /// Adds the documents that must be in a segment, and are in none, to the last one that may have had them.
    fn rebuild(
        &mut self,
        trail: &Trail,
        taken: &HashMap<&str, Taken<'_>>,
        report: &mut RepairReport,
    ) {
        let present: Ids = self.documents().into_keys().collect();
        let missing = taken.iter().filter_map(|(id, taken)| {
            let last = taken.texts.last().filter(|_| !present.contains(*id))?;
            Some((taken.rank, *id, *last, taken))
        });
        let mut missing: Vec<_> = missing.collect();
        missing.sort_unstable_by_key(|(rank, id, _, _)| (*rank, *id));
        let is_own = |(id, text): &(String, String)| {
            taken.contains_key(id.as_str()) || trail.wrote.contains(&(id.clone(), text.clone()))
        };
        let own = |read: &ArchiveRead| read.documents.iter().filter(|it| is_own(it)).count() as u64;
        let is_short = |read: &&mut ArchiveRead| {
            !read.is_believed && read.written.is_none_or(|written| own(read) < written)
        };
        let mut short: Vec<&mut ArchiveRead> = self.0.iter_mut().filter(is_short).collect();
        let is_only = short.len() == 1;
        if let Some(read) = short.last_mut().filter(|_| !missing.is_empty()) {
            let fits = is_only && read.written == Some(own(read) + missing.len() as u64);
            if fits {
                // The others are documents of which the damage has hit the id.
                read.documents.retain(is_own);
            }
            read.is_changed = true;
            let back: HashSet<&str> = missing.iter().map(|(_, id, _, _)| *id).collect();
            report.lost.retain(|id| !back.contains(&**id));
            for (_, id, text, taken) in missing {
                report.recovered.push(id.to_owned());
                let is_sure = taken.is_certain || fits && taken.is_unchanged;
                if !(is_only && is_sure) {
                    report.doubtful.push(id.to_owned());
                }
                read.documents.push((id.to_owned(), text.to_owned()));
            }
        }
        for read in short {
            read.tell_missing(report);
        }
    }
}

impl ArchiveRead {
    /// Compares the documents with what the operations say of them.
    fn correct(
        &mut self,
        trail: &Trail,
        taken: &HashMap<&str, Taken<'_>>,
        report: &mut RepairReport,
    ) {
        for (id, text) in &mut self.documents {
            // Damage does not make another operation's text of one.
            if trail.wrote.contains(&(id.clone(), text.clone())) {
                continue;
            }
            match taken.get(id.as_str()) {
                Some(Taken {
                    texts,
                    is_certain: true,
                    ..
                }) if texts.len() == 1 => {
                    report.recovered.push(id.clone());
                    texts.concat().clone_into(text);
                    self.is_changed = true;
                }
                _ => {
                    report.doubtful.push(id.clone());
                    if trail.words.contains_key(id) {
                        report.differing.push(id.clone());
                    }
                }
            }
        }
    }

    /// Says how many documents are missing that no operation names.
    fn tell_missing(&self, report: &mut RepairReport) {
        let there = self.documents.len() as u64;
        let missing = self
            .written
            .map_or(0, |written| written.saturating_sub(there));
        let named = self.lost.iter().filter(|id| report.lost.contains(id));
        report.nameless += missing.saturating_sub(named.count() as u64);
        if let Some(part) = report.unreadable.get_mut(self.part).filter(|_| missing > 0) {
            let written = self.written.unwrap_or(0);
            part.place.reason = format!(
                "{}; {missing} of its {written} documents could not be brought back",
                part.place.reason
            );
        }
    }
}

/// What the operations say of the documents that archives took.
#[derive(Default)]
pub(super) struct Trail {
    words: HashMap<String, Word>,
    /// Every text that an operation gave a document.
    wrote: HashSet<(String, String)>,
    unbroken: Unbroken,
    has_agents: bool,
}

/// The place of an operation: the turn of its writer, its stamp and its number.
type Rank = (usize, Stamp, u64);

/// The last operation on a document.
struct Word {
    rank: Rank,
    text: Option<String>,
    /// What it was when an archive took it, and a later operation created it anew.
    taken: Vec<String>,
}

/// What a document was when an archive took it.
struct Taken<'t> {
    rank: &'t Rank,
    /// Oldest first.
    texts: Vec<&'t str>,
    /// Whether nothing but operations may have changed its text.
    is_unchanged: bool,
    /// Whether no later operation may be missing, too.
    is_certain: bool,
}

impl Trail {
    pub(super) fn hear(&mut self, turn: usize, log: &LogSource, line: &LogLine<'_>) {
        self.has_agents |= log.agent.is_some();
        let stamp = match (&log.agent, line.op.order()) {
            (None, _) => Stamp::default(),
            // An undo, where another agent has written since, changes nothing.
            (Some(_), Some(order)) if order.stamp != Stamp::default() => order.stamp,
            (Some(_), _) => return,
        };
        self.unbroken.hear(line);
        let id = line.op.id.to_string();
        let text = line.op.data.map(str::to_owned);
        self.wrote
            .extend(text.clone().map(|text| (id.clone(), text)));
        let rank = (turn, stamp, line.seq);
        let Some(last) = self.words.get_mut(&id) else {
            let taken = Vec::new();
            self.words.insert(id, Word { rank, text, taken });
            return;
        };
        if last.rank > rank {
            return;
        }
        let before = std::mem::replace(&mut last.text, text);
        let is_new = log.agent.is_none() && line.op.prev == Prev::None && !line.op.blind;
        last.taken.extend(before.filter(|_| is_new));
        last.rank = rank;
    }

    /// What must be in segments. `unchanged_from` is the number of the first operation whose document nothing but operations gave another text since, if there is one.
    fn taken(
        &self,
        documents: &State<()>,
        unchanged_from: Option<u64>,
    ) -> HashMap<&str, Taken<'_>> {
        let mut all = HashMap::new();
        for (id, word) in &self.words {
            let is_gone = matches!(documents.get(id), Ok(None));
            let last = word.text.as_deref().filter(|_| is_gone);
            let texts: Vec<&str> = word.taken.iter().map(String::as_str).chain(last).collect();
            if texts.is_empty() {
                continue;
            }
            let (_, _, seq) = word.rank;
            let is_unchanged = match unchanged_from {
                Some(0) => true,
                Some(first) => seq >= first && !self.has_agents,
                None => false,
            };
            let taken = Taken {
                rank: &word.rank,
                texts,
                is_unchanged,
                is_certain: is_unchanged && seq >= self.unbroken.start && !self.has_agents,
            };
            all.insert(id.as_str(), taken);
        }
        all
    }
}
