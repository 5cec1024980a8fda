//! The documents of a store of agents, as far as its snapshot, its stamps and its operations tell them: the greatest stamp wins.
//!
//! A stamp belongs to one operation only. So where the snapshot is damaged, its stamps say which operations its documents came from; where the stamps are lost, the
//! operations before the snapshot say which of them its documents came from. What is told by neither is decided so that no document is lost by it, and named as doubtful.

use std::collections::{HashMap, HashSet};

use crate::Result;
use crate::backend::Backend;
use crate::document::Stored;
use crate::format::manifest::{AgentFacts, FileFacts, Manifest};
use crate::format::stamps;
use crate::merge::{Agent, Mark, Order, Stamp};
use crate::oplog::{DamageKind, Lines, LogLine};
use crate::salvage::{Forbearing, SnapshotRemains};
use crate::state::{Stamps, State};

use super::logs::{LogSource, NextSeqs};
use super::sources::{Sources, StampsSource};
use super::{Ids, RepairReport, whole};

/// No operation takes less than this many bytes.
const LINE_BYTES_MIN: u64 = 64;
/// More operations than a log has that is missing.
const OPERATIONS_MAX: u64 = 1 << 32;

/// What is known of the registers of a store of agents.
pub(super) struct Registers {
    /// The snapshot's stamps; `None` where they are lost.
    stamps: Option<Stamps>,
    /// Whether the manifest says which operations are in the snapshot. If not, those of an agent's last log may be or not; merging one twice does no harm.
    is_certain: bool,
    /// All that is in the snapshot has a clock up to this one.
    clock: u64,
    /// What the operations that are in the snapshot say last of each document.
    told: HashMap<String, Told>,
    /// Who wrote what under a stamp.
    written: HashMap<Stamp, (String, String)>,
    /// Of each log, the number behind the last operation whose stamp the snapshot has: all before is in it too.
    proven: HashMap<String, u64>,
    /// The documents in archive segments.
    away: HashMap<String, String>,
    /// The documents in the snapshot.
    present: Ids,
    /// Documents whose stamp in the snapshot is not known.
    unknown: Ids,
    /// The places of the snapshot's documents, where their born stamps are lost.
    places: HashMap<String, Stamp>,
    /// Whether the documents are of the first version: then they have never been migrated.
    is_unmigrated: bool,
    /// Of each agent, and under no name of the single writer, the number of the first operation that no migration came after.
    floors: HashMap<String, u64>,
}

/// The last operation on a document, among those of one writer or of agents that worked at one time, which have a `turn` in common.
struct Told {
    turn: usize,
    stamp: Stamp,
    seq: u64,
    text: Option<String>,
}

/// A document of the snapshot.
struct Entry {
    id: String,
    text: String,
    order: Order,
}

impl Sources {
    /// Reads the stamps of the snapshot; `None` in a store that never had agents.
    pub(super) fn read_registers(
        &self,
        backend: &dyn Backend,
        snapshot: &SnapshotRemains,
        report: &mut RepairReport,
        remove: &mut Vec<String>,
    ) -> Result<Option<Registers>> {
        let (name, facts) = match &self.stamps {
            StampsSource::NoAgents => return Ok(None),
            StampsSource::Left => return Ok(Some(self.registers(None, snapshot))),
            StampsSource::Named(name, facts) => (name, Some(facts)),
            StampsSource::Found(name) => (name, None),
        };
        let object = match backend.open(name) {
            Ok(object) => Forbearing(object),
            Err(error) if error.is_not_found() => {
                report.add(name, DamageKind::Damaged, whole(0, "it is missing"));
                return Ok(Some(self.registers(None, snapshot)));
            }
            Err(error) => return Err(error),
        };
        let (stamps, found) = read_stamps(&object)?;
        let reason = match facts {
            Some(facts) if (facts.bytes, facts.crc) != (found.bytes, found.crc) => {
                Some("its size or checksum does not match its content")
            }
            None if snapshot.lines != found.documents => {
                Some("it has not as many stamps as the snapshot has documents")
            }
            _ if stamps.is_none() => Some("a line is no stamp"),
            _ => None,
        };
        if let Some(reason) = reason {
            report.add(name, DamageKind::Damaged, whole(found.bytes, reason));
            remove.push(name.clone());
            return Ok(Some(self.registers(None, snapshot)));
        }
        Ok(Some(self.registers(stamps, snapshot)))
    }

    fn registers(&self, stamps: Option<Stamps>, snapshot: &SnapshotRemains) -> Registers {
        let manifest = self.manifest.as_ref();
        let version = manifest.map(|manifest| manifest.version);
        let version = version.or(snapshot.version);
        let ours = manifest.and_then(|manifest| manifest.ours.as_ref());
        let agents = ours.into_iter().flat_map(|ours| &ours.agents);
        let agents = agents.map(|facts| (facts.id.clone(), facts.undo_floor));
        let single = ours.map(|ours| (String::new(), ours.undo_floor));
        let floors = agents.chain(single).collect();
        Registers {
            stamps,
            is_certain: self.is_certain,
            clock: ours
                .filter(|_| self.is_certain)
                .map_or(u64::MAX, |ours| ours.clock),
            told: HashMap::new(),
            written: HashMap::new(),
            proven: HashMap::new(),
            away: HashMap::new(),
            present: Ids::new(),
            unknown: Ids::new(),
            places: HashMap::new(),
            is_unmigrated: version == Some(1),
            floors,
        }
    }
}

/// The stamps, if every line is one, and what the file is like.
fn read_stamps(object: &Forbearing) -> Result<(Option<Stamps>, FileFacts)> {
    let mut stamps = Stamps {
        documents: Vec::new(),
        deleted: Vec::new(),
    };
    let mut facts = FileFacts::default();
    let mut is_whole = true;
    let mut lines = Lines::new(object, 0);
    while let Some(line) = lines.next()? {
        facts.crc = crc32c::crc32c_append(facts.crc, line.bytes);
        facts.crc = crc32c::crc32c_append(facts.crc, b"\n");
        facts.bytes = line.end();
        match stamps::decode(line.bytes) {
            Some(stamps::Line::Document(order)) => stamps.documents.push(order),
            Some(stamps::Line::Deleted(id, stamp)) => {
                stamps.deleted.push((Box::from(&*id), stamp));
            }
            None => is_whole = false,
        }
    }
    facts.documents = stamps.documents.len() as u64;
    Ok((is_whole.then_some(stamps), facts))
}

impl Registers {
    /// Takes in what an operation says of the snapshot. `turn` grows with every change between a single writer and agents.
    pub(super) fn hear(&mut self, turn: usize, log: &LogSource, line: &LogLine<'_>, known: &Known) {
        let order = line.op.order().filter(|order| !takes_nothing(order));
        let stamp = match (&log.agent, order) {
            (None, _) => Stamp::default(),
            (Some(_), Some(order)) => order.stamp,
            (Some(_), None) => return,
        };
        if known.stamps.contains(&stamp) {
            self.proven.insert(log.name.clone(), line.seq + 1);
        }
        if let Some(text) = line
            .op
            .data
            .filter(|_| !known.snapshot && log.agent.is_some())
        {
            let written = (line.op.id.to_string(), text.to_owned());
            self.written.insert(stamp.clone(), written);
        }
        if log.follows(line.seq) || self.is_certain && known.snapshot && self.stamps.is_some() {
            return;
        }
        let told = Told {
            turn,
            stamp,
            seq: line.seq,
            text: line.op.data.map(str::to_owned),
        };
        let rank = |told: &Told| (told.turn, told.stamp.clone(), told.seq);
        match self.told.get_mut(&*line.op.id) {
            Some(last) if rank(last) > rank(&told) => {}
            Some(last) => *last = told,
            None => {
                self.told.insert(line.op.id.to_string(), told);
            }
        }
    }

    /// What is known before the operations are heard.
    pub(super) fn known(&self, snapshot: bool) -> Known {
        let mut stamps = HashSet::new();
        if let Some(known) = self.stamps.as_ref().filter(|_| !self.is_certain) {
            stamps.extend(known.documents.iter().map(|order| order.stamp.clone()));
            stamps.extend(known.deleted.iter().map(|(_, stamp)| stamp.clone()));
            stamps.remove(&Stamp::default());
        }
        Known { snapshot, stamps }
    }

    /// The registers of the snapshot, as well as they can be told.
    pub(super) fn compose(
        &mut self,
        remains: &SnapshotRemains,
        is_sound: bool,
        away: HashMap<String, String>,
        report: &mut RepairReport,
    ) -> State<()> {
        self.away = away;
        let entries = match (self.stamps.take(), is_sound) {
            (Some(stamps), true) => {
                let documents = remains.documents.iter().zip(&stamps.documents);
                let entries = documents
                    .map(|((id, text), order)| Entry::new(id, text, order.clone()))
                    .collect();
                self.stamps = Some(stamps);
                entries
            }
            (Some(stamps), false) => {
                let entries = self.by_stamps(remains, &stamps, report);
                self.stamps = Some(stamps);
                entries
            }
            (None, _) => self.by_documents(remains, is_sound, report),
        };
        let mut state = State::of_registers();
        let is_there: HashSet<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        let deleted = self.stamps.iter().flat_map(|stamps| &stamps.deleted);
        let deleted = deleted.map(|(id, stamp)| (&**id, stamp.clone()));
        // What an operation in the snapshot wrote and the snapshot does not have was deleted or archived since.
        let gone = self
            .told
            .iter()
            .filter(|(id, _)| !is_there.contains(&***id));
        let gone = gone.map(|(id, told)| {
            let mark = if self.away.contains_key(id) {
                Mark::ARCHIVED
            } else {
                Mark::WRITTEN
            };
            (&**id, told.stamp.marked(mark))
        });
        for (id, stamp) in deleted.chain(gone) {
            let born = Stamp::default();
            state.merge(id, None, Order { stamp, born });
        }
        for Entry { id, text, order } in &entries {
            state.merge(id, Some(Stored::new(id, text)), order.clone());
        }
        state.settle();
        self.present = entries.into_iter().map(|entry| entry.id).collect();
        state
    }

    /// The documents of a damaged snapshot, of which the stamps are known.
    fn by_stamps(
        &self,
        remains: &SnapshotRemains,
        stamps: &Stamps,
        report: &mut RepairReport,
    ) -> Vec<Entry> {
        let there: HashMap<&str, &str> = remains
            .documents
            .iter()
            .map(|(id, text)| (id.as_str(), text.as_str()))
            .collect();
        let mut entries: Vec<Option<Entry>> = Vec::new();
        let mut found = Ids::new();
        for order in &stamps.documents {
            let written = self.written.get(&order.stamp);
            entries.push(written.map(|(id, text)| {
                if there.get(id.as_str()) != Some(&text.as_str()) {
                    report.recovered.push(id.clone());
                }
                found.insert(id.clone());
                Entry::new(id, text, order.clone())
            }));
        }
        // A newline that came or went moves all lines behind it.
        let is_aligned = remains.lines == stamps.documents.len() as u64;
        let mut others = Vec::new();
        for ((id, text), line) in remains.documents.iter().zip(&remains.places) {
            if found.contains(id) {
                continue;
            }
            let place = entries.get_mut(*line).filter(|_| is_aligned);
            let order = place.as_ref().and(stamps.documents.get(*line));
            let text = self.vouched(id, text, report);
            let entry = Entry::new(id, text, order.cloned().unwrap_or_default());
            found.insert(id.clone());
            match place {
                Some(place) if place.is_none() => *place = Some(entry),
                _ => others.push(entry),
            }
        }
        let open = entries.iter().zip(&stamps.documents);
        let open = open.filter(|(entry, order)| entry.is_none() && order.stamp == Stamp::default());
        let open = open.count();
        let entries = entries.into_iter().flatten().chain(others).collect();
        self.add_earlier(entries, &found, open, stamps, report)
    }

    /// Adds to `entries` what the snapshot had from before the present agents came, when the documents lost their stamps, and does not show. `open` lines are missing.
    fn add_earlier(
        &self,
        mut entries: Vec<Entry>,
        found: &Ids,
        open: usize,
        stamps: &Stamps,
        report: &mut RepairReport,
    ) -> Vec<Entry> {
        let deleted = stamps.deleted.iter().map(|(id, stamp)| (&**id, stamp));
        let deleted: HashMap<&str, &Stamp> = deleted.collect();
        let is_gone = |id: &str, told: &Told| {
            let deleted = deleted.get(id);
            deleted.is_some_and(|stamp| **stamp >= told.stamp)
        };
        let missing = self.missing(found).into_iter();
        let missing: Vec<_> = missing.filter(|(id, told, _)| !is_gone(id, told)).collect();
        // Documents of which no operation knows may be others whose id the damage has hit.
        let is_unknown = |entry: &Entry| {
            entry.order.stamp == Stamp::default() && !self.told.contains_key(&entry.id)
        };
        let unknown = entries.iter().filter(|entry| is_unknown(entry)).count();
        if missing.is_empty() || open + unknown == 0 {
            return entries;
        }
        let fits = missing.len() == open + unknown;
        if fits {
            let (no_documents, documents): (Vec<Entry>, _) =
                entries.into_iter().partition(is_unknown);
            entries = documents;
            let no_ids: Ids = no_documents.into_iter().map(|entry| entry.id).collect();
            report.doubtful.retain(|id| !no_ids.contains(id));
        }
        for (id, told, text) in missing {
            report.recovered.push(id.clone());
            if !fits || !self.is_unchanged(told) {
                report.doubtful.push(id.clone());
            }
            entries.push(Entry::new(id, text, Order::default()));
        }
        entries
    }

    /// The documents of a snapshot of which the stamps are lost, in its order.
    fn by_documents(
        &mut self,
        remains: &SnapshotRemains,
        is_sound: bool,
        report: &mut RepairReport,
    ) -> Vec<Entry> {
        let mut documents: Vec<(String, String)> = Vec::new();
        let mut found = Ids::new();
        for (id, text) in &remains.documents {
            let text = if is_sound {
                text
            } else {
                self.vouched(id, text, report)
            };
            found.insert(id.clone());
            documents.push((id.clone(), text.to_owned()));
        }
        if !is_sound {
            for (id, _, text) in self.missing(&found) {
                report.recovered.push(id.clone());
                report.doubtful.push(id.clone());
                documents.push((id.clone(), text.to_owned()));
            }
        }
        let places = (0..).map(|number| Stamp::default().marked(Mark(number)));
        let mut entries = Vec::new();
        for ((id, text), born) in documents.into_iter().zip(places) {
            let told = self.told.get(&id);
            let told = told.filter(|told| told.text.as_ref() == Some(&text));
            if told.is_none() {
                self.unknown.insert(id.clone());
            }
            self.places.insert(id.clone(), born.clone());
            let stamp = told.map(|told| told.stamp.clone()).unwrap_or_default();
            entries.push(Entry::new(&id, &text, Order { stamp, born }));
        }
        entries
    }

    /// The text of a document of a damaged snapshot: where an operation says it, as that does.
    fn vouched<'t>(&'t self, id: &str, text: &'t str, report: &mut RepairReport) -> &'t str {
        let told = self.told.get(id);
        match told.and_then(|told| told.text.as_deref()) {
            Some(said) if said == text => text,
            Some(said) if told.is_some_and(|told| self.is_unchanged(told)) => {
                report.recovered.push(id.to_owned());
                report.doubtful.push(id.to_owned());
                said
            }
            said => {
                report.doubtful.push(id.to_owned());
                let differing = said.map(|_| id.to_owned());
                report.differing.extend(differing);
                text
            }
        }
    }

    /// Whether no migration came after the operation.
    fn is_unchanged(&self, told: &Told) -> bool {
        let floor = self.floors.get(&*told.stamp.agent);
        self.is_unmigrated || floor.is_some_and(|floor| told.seq >= *floor)
    }

    /// What operations have written and a damaged snapshot does not show, in their order.
    fn missing(&self, found: &Ids) -> Vec<(&String, &Told, &str)> {
        let told = self.told.iter().filter_map(|(id, told)| {
            let is_missing = !found.contains(id) && !self.away.contains_key(id);
            Some((id, told, told.text.as_deref().filter(|_| is_missing)?))
        });
        let mut missing: Vec<_> = told.collect();
        missing.sort_by_key(|(_, told, _)| (told.turn, told.stamp.clone(), told.seq));
        missing
    }

    /// Merges an agent's operation that is not in the snapshot, or may not be.
    pub(super) fn merge(
        &self,
        state: &mut State<()>,
        log: &LogSource,
        line: &LogLine<'_>,
        report: &mut RepairReport,
    ) {
        let id = &*line.op.id;
        let Some(mut order) = line.op.order().filter(|order| !takes_nothing(order)) else {
            return;
        };
        let register = state.register(id);
        if !self.is_certain {
            let in_snapshot = self.proven.get(&log.name);
            if in_snapshot.is_some_and(|next| line.seq < *next) {
                // What the snapshot has of it is as new at least; if it has nothing, the document has gone since.
                state.merge(id, None, order);
                return;
            }
            let is_away =
                line.op.data.is_some() && self.away.get(id).map(String::as_str) == line.op.data;
            // The archive took it out of a snapshot that had this operation, so the present one would have it too.
            if is_away && !self.present.contains(id) {
                report.doubtful.push(id.to_owned());
                order.stamp = order.stamp.marked(Mark::ARCHIVED);
                state.merge(id, None, order);
                return;
            }
        }
        if let Some(place) = self.places.get(id) {
            order.born = place.clone();
        }
        let is_open = self.stamps.is_none()
            && order.stamp.clock <= self.clock
            && (register.is_none() || self.unknown.contains(id));
        if is_open {
            report.doubtful.push(id.to_owned());
        }
        let document = line.op.data.map(|data| Stored::new(id, data));
        // Whether the snapshot's document is the newer one is not known: then it is kept.
        if is_open && document.is_none() {
            return;
        }
        state.merge(id, document, order);
    }

    pub(super) fn has_stamps(&self) -> bool {
        self.stamps.is_some()
    }

    /// The greatest clock in the stamps.
    pub(super) fn clock(&self) -> u64 {
        let stamps = self.stamps.as_ref();
        let documents = stamps.into_iter().flat_map(|stamps| &stamps.documents);
        let deleted = stamps.into_iter().flat_map(|stamps| &stamps.deleted);
        documents
            .map(|order| order.stamp.clock.max(order.born.clock))
            .chain(deleted.map(|(_, stamp)| stamp.clock))
            .max()
            .unwrap_or(0)
    }
}

/// What is known before the operations are heard.
pub(super) struct Known {
    /// Whether the snapshot is sound.
    snapshot: bool,
    /// The stamps that prove that an operation is in it.
    stamps: HashSet<Stamp>,
}

impl Entry {
    fn new(id: &str, text: &str, order: Order) -> Self {
        Self {
            id: id.to_owned(),
            text: text.to_owned(),
            order,
        }
    }
}

/// Whether the operation is one that changes nothing: an undo, where another agent has written since.
fn takes_nothing(order: &Order) -> bool {
    order.stamp == Stamp::default()
}

/// The greatest clock of each agent.
#[derive(Default)]
pub(super) struct Clocks(HashMap<Agent, u64>);

impl Clocks {
    pub(super) fn hear(&mut self, log: &LogSource, line: &LogLine<'_>) {
        if let (Some(agent), Some(clock)) = (&log.agent, line.op.clock) {
            let greatest = self.0.entry(Agent::clone(agent)).or_default();
            *greatest = clock.max(*greatest);
        }
    }

    /// The agents after the repair, with nothing outside the snapshot, and a clock that is above all operations that there ever were: a lost one had a clock of its
    /// own, and no greater one than all that are known and as many more as were lost.
    pub(super) fn agents(
        &self,
        manifest: Option<&Manifest>,
        nexts: &NextSeqs,
        stamps: u64,
        report: &RepairReport,
        now: &str,
    ) -> (Vec<AgentFacts>, u64) {
        let mut agents: Vec<AgentFacts> = manifest
            .into_iter()
            .flat_map(Manifest::agents)
            .cloned()
            .collect();
        for agent in nexts.keys().flatten() {
            if !agents.iter().any(|facts| *facts.id == **agent) {
                agents.push(AgentFacts {
                    id: agent.to_string(),
                    seen: now.to_owned(),
                    ..AgentFacts::default()
                });
            }
        }
        agents.sort_by(|one, other| one.id.cmp(&other.id));
        let ours = manifest.and_then(|manifest| manifest.ours.as_ref());
        let known = agents
            .iter()
            .map(|facts| facts.clock.max(facts.folded_clock));
        let known = known.chain(self.0.values().copied());
        let known = known.chain([stamps, ours.map_or(0, |ours| ours.clock)]);
        let unreadable = report.unreadable.iter().map(|part| &part.place);
        let lost = unreadable
            .filter(|place| crate::paths::parse_agent_ops(&place.path).is_some())
            .map(|place| match place.bytes {
                0 => OPERATIONS_MAX,
                bytes => bytes / LINE_BYTES_MIN + 1,
            });
        let clock = known.max().unwrap_or(0).saturating_add(lost.sum());
        for facts in &mut agents {
            let heard = self.0.get(&*facts.id).copied().unwrap_or(0);
            let next = nexts.get(&Some(Agent::from(&*facts.id)));
            let next = next.copied().unwrap_or(0).max(facts.folded);
            *facts = AgentFacts {
                clock,
                log: None,
                seq: next,
                folded: next,
                folded_clock: heard.max(facts.folded_clock),
                offset: 0,
                undo_floor: next,
                ..facts.clone()
            };
        }
        (agents, clock)
    }
}
