//! The protocol of `docs/multi-writer.md` §3, in abstract steps, in every order that small numbers of agents, operations, compactions and deaths allow.
//!
//! A breadth-first search over all states; in each the invariants of §5 must hold. There is one document: agents with even numbers set it, the others delete it. A
//! variant of the protocol with a fault must be found out, so the search can fail.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_macros,
    reason = "the helpers of tests fail the test, and say what they have done"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

type Name = u8;
/// What is known of the document: the clock and the agent of the last operation.
type Register = Option<(u8, usize)>;

/// What the search is bounded by, and which fault the protocol has.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    agents: usize,
    operations: usize,
    compactions: u8,
    openings: u8,
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A registration removes files, too.
    EveryoneRemoves,
    /// Who was found dead is taken for dead in whatever log it has later.
    DeadForEver,
    /// Files are listed after the swap.
    ListsLate,
    /// Tombstones are forgotten whatever agents have promised.
    ForgetsEarly,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Facts {
    log: Option<Name>,
    /// Operations before this one are in the snapshot.
    folded: usize,
    clock: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Manifest {
    generation: u8,
    snapshot: Name,
    register: Register,
    clock: u8,
    agents: Vec<Facts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum File {
    Snapshot,
    /// Operations of the agent, from the first number up to the other.
    Log(usize, usize, usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Dead,
    /// A new log is made, to be named on top of this generation.
    Registering(u8, Name, BTreeSet<Name>),
    Live,
    /// Has listed the files, and knows who is dead, with which log.
    Listed(BTreeSet<Name>, BTreeMap<usize, Name>),
    Compacting(Box<Compacting>),
    /// Has swapped: removes what it listed, but for what its manifest names.
    Removing(BTreeSet<Name>, BTreeSet<Name>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Compacting {
    listed: BTreeSet<Name>,
    dead: BTreeMap<usize, Name>,
    base: Manifest,
    seen: Vec<usize>,
    register: Register,
    clock: u8,
    forgotten: u8,
    snapshot: Option<Name>,
    log: Option<Name>,
    /// The manifest that the swap is put on top of.
    current: Option<Manifest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Agent {
    phase: Phase,
    log: Name,
    clock: u8,
    register: Register,
    seen: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    manifest: Manifest,
    files: BTreeMap<Name, File>,
    next: Name,
    /// The clocks of what each agent was told is stored.
    stored: Vec<Vec<u8>>,
    agents: Vec<Agent>,
    compactions: u8,
    openings: u8,
}

fn sets(register: Register) -> bool {
    register.is_some_and(|(_, agent)| agent % 2 == 0)
}

impl State {
    fn new(bounds: Bounds) -> Self {
        let facts = Facts {
            log: None,
            folded: 0,
            clock: 0,
        };
        Self {
            manifest: Manifest {
                generation: 0,
                snapshot: 0,
                register: None,
                clock: 0,
                agents: vec![facts; bounds.agents],
            },
            files: BTreeMap::from([(0, File::Snapshot)]),
            next: 1,
            stored: vec![Vec::new(); bounds.agents],
            agents: vec![
                Agent {
                    phase: Phase::Dead,
                    log: 0,
                    clock: 0,
                    register: None,
                    seen: vec![0; bounds.agents],
                };
                bounds.agents
            ],
            compactions: 0,
            openings: 0,
        }
    }

    fn create(&mut self, file: File) -> Name {
        let name = self.next;
        self.next += 1;
        self.files.insert(name, file);
        name
    }

    /// Reads the snapshot, and then all logs from where they are folded.
    fn load(&self, manifest: &Manifest) -> (Register, Vec<usize>) {
        let mut register = manifest.register;
        let mut seen = Vec::new();
        for (agent, facts) in manifest.agents.iter().enumerate() {
            let end = match facts.log.and_then(|log| self.files.get(&log)) {
                Some(File::Log(_, _, end)) => *end,
                _ => facts.folded,
            };
            for number in facts.folded..end {
                register = register.max(Some((self.stored[agent][number], agent)));
            }
            seen.push(end);
        }
        (register, seen)
    }

    fn look(&mut self, me: usize) {
        for agent in 0..self.agents.len() {
            for number in self.agents[me].seen[agent]..self.stored[agent].len() {
                let clock = self.stored[agent][number];
                let register = self.agents[me].register;
                self.agents[me].register = register.max(Some((clock, agent)));
                self.agents[me].clock = self.agents[me].clock.max(clock);
            }
            self.agents[me].seen[agent] = self.stored[agent].len();
        }
        self.agents[me].clock = self.agents[me].clock.max(self.manifest.clock);
    }

    fn listing(&self) -> BTreeSet<Name> {
        self.files.keys().copied().collect()
    }

    fn remove_unnamed(&mut self, listed: &BTreeSet<Name>, named: &BTreeSet<Name>) {
        self.files
            .retain(|name, _| !listed.contains(name) || named.contains(name));
    }

    fn named(&self) -> BTreeSet<Name> {
        let logs = self.manifest.agents.iter().filter_map(|facts| facts.log);
        logs.chain([self.manifest.snapshot]).collect()
    }

    /// All states that one step leads to.
    fn steps(&self, bounds: Bounds) -> Vec<(String, Self)> {
        let mut found = Vec::new();
        for me in 0..bounds.agents {
            let mut add = |what: &str, next: Self| found.push((format!("{me} {what}"), next));
            let mut next = self.clone();
            if self.agents[me].phase != Phase::Dead {
                // Nothing is left of it but its files.
                next.agents[me] = Self::new(bounds).agents[me].clone();
                add("dies", next);
                next = self.clone();
            }
            match &self.agents[me].phase {
                Phase::Dead => {
                    if self.openings < bounds.openings {
                        next.openings += 1;
                        next.register(me);
                        add("begins a log", next);
                    }
                }
                Phase::Registering(generation, log, listed) => {
                    if *generation == self.manifest.generation {
                        next.join(me, *log);
                        if bounds.fault == Fault::EveryoneRemoves {
                            let named = next.named();
                            next.remove_unnamed(listed, &named);
                        }
                        add("joins", next);
                    } else {
                        next.files.remove(log);
                        next.register(me);
                        add("begins another log", next);
                    }
                }
                Phase::Live => {
                    if self.stored[me].len() < bounds.operations {
                        next.append(me);
                        add("writes", next);
                        next = self.clone();
                    }
                    if self.compactions < bounds.compactions {
                        next.compactions += 1;
                        next.list(me);
                        add("lists", next);
                        next = self.clone();
                    }
                    next.look(me);
                    if next != *self {
                        add("looks", next);
                    }
                    let facts = &self.manifest.agents[me];
                    let is_due = matches!(self.files.get(&self.agents[me].log), Some(File::Log(_, first, _)) if *first < facts.folded);
                    if is_due {
                        let mut next = self.clone();
                        next.roll(me);
                        add("rolls", next);
                    }
                }
                Phase::Listed(listed, dead) => {
                    next.freeze(me, listed.clone(), dead.clone(), bounds.fault);
                    add("looks and freezes", next);
                }
                Phase::Compacting(work) => {
                    let what = next.compact(me, (**work).clone(), bounds.fault);
                    add(what, next);
                    if self.stored[me].len() < bounds.operations {
                        let mut next = self.clone();
                        if work.log.is_none() {
                            next.append(me);
                            add("writes meanwhile", next);
                        }
                    }
                }
                Phase::Removing(listed, named) => {
                    let late = self.listing();
                    let is_late = bounds.fault == Fault::ListsLate;
                    next.remove_unnamed(if is_late { &late } else { listed }, named);
                    next.agents[me].phase = Phase::Live;
                    add("removes", next);
                }
            }
        }
        found
    }

    fn register(&mut self, me: usize) {
        let listed = self.listing();
        let facts = &self.manifest.agents[me];
        let end = match facts.log.and_then(|log| self.files.get(&log)) {
            Some(File::Log(_, _, end)) => *end,
            _ => facts.folded,
        };
        let log = self.create(File::Log(me, self.manifest.agents[me].folded, end));
        self.agents[me].phase = Phase::Registering(self.manifest.generation, log, listed);
    }

    fn join(&mut self, me: usize, log: Name) {
        let Some(File::Log(_, first, end)) = self.files.get(&log).cloned() else {
            return;
        };
        let manifest = &mut self.manifest;
        manifest.generation += 1;
        let facts = &mut manifest.agents[me];
        facts.log = Some(log);
        if first == end {
            facts.clock = facts.clock.max(manifest.clock);
        }
        let manifest = self.manifest.clone();
        let (register, seen) = self.load(&manifest);
        let agent = &mut self.agents[me];
        agent.phase = Phase::Live;
        agent.log = log;
        agent.clock = manifest.clock.max(manifest.agents[me].clock);
        agent.register = register;
        agent.seen = seen;
        for (other, seen) in self.agents[me].seen.clone().into_iter().enumerate() {
            for number in 0..seen {
                let clock = self.stored[other][number];
                if number >= manifest.agents[other].folded {
                    self.agents[me].clock = self.agents[me].clock.max(clock);
                }
            }
        }
    }

    fn append(&mut self, me: usize) {
        let agent = &mut self.agents[me];
        agent.clock += 1;
        let stamp = (agent.clock, me);
        agent.register = agent.register.max(Some(stamp));
        agent.seen[me] += 1;
        self.stored[me].push(stamp.0);
        // To whatever file it has, removed or not.
        if let Some(File::Log(_, _, end)) = self.files.get_mut(&agent.log) {
            *end += 1;
        }
    }

    fn list(&mut self, me: usize) {
        let mut dead = BTreeMap::new();
        for (other, agent) in self.agents.iter().enumerate() {
            if let (Some(log), Phase::Dead) = (self.manifest.agents[other].log, &agent.phase) {
                dead.insert(other, log);
            }
        }
        self.agents[me].phase = Phase::Listed(self.listing(), dead);
    }

    fn freeze(
        &mut self,
        me: usize,
        listed: BTreeSet<Name>,
        mut dead: BTreeMap<usize, Name>,
        fault: Fault,
    ) {
        self.look(me);
        let base = self.manifest.clone();
        if fault == Fault::DeadForEver {
            for (other, log) in &mut dead {
                *log = base.agents[*other].log.unwrap_or(*log);
            }
        }
        let agent = self.agents[me].clone();
        let promises = base.agents.iter().enumerate().filter_map(|(other, facts)| {
            let alive =
                other != me && facts.log.is_some() && dead.get(&other) != facts.log.as_ref();
            // All but its last operation are known to be settled.
            let settled = (agent.seen[other].saturating_sub(1)).max(facts.folded);
            let read = settled
                .checked_sub(1)
                .map_or(0, |last| self.stored[other][last]);
            alive.then(|| facts.clock.max(read))
        });
        let mut forgotten = promises.chain([agent.clock]).min().unwrap();
        if fault == Fault::ForgetsEarly {
            forgotten = agent.clock;
        }
        let is_needed = |(clock, _): &(u8, usize)| sets(agent.register) || *clock > forgotten;
        self.agents[me].phase = Phase::Compacting(Box::new(Compacting {
            listed,
            dead,
            base,
            register: agent.register.filter(is_needed),
            seen: agent.seen,
            clock: agent.clock,
            forgotten,
            snapshot: None,
            log: None,
            current: None,
        }));
    }

    fn compact(&mut self, me: usize, mut work: Compacting, fault: Fault) -> &'static str {
        let what;
        if work.snapshot.is_none() {
            work.snapshot = Some(self.create(File::Snapshot));
            what = "writes a snapshot";
        } else if work.log.is_none() {
            let end = self.stored[me].len();
            work.log = Some(self.create(File::Log(me, work.seen[me], end)));
            what = "begins its next log";
        } else if let Some(current) = work
            .current
            .take_if(|current| current.generation == self.manifest.generation)
        {
            return self.swap(me, &work, current, fault);
        } else if self.manifest.snapshot == work.base.snapshot {
            work.current = Some(self.manifest.clone());
            what = "reads the manifest";
        } else {
            return self.give_up(me, &work);
        }
        self.agents[me].phase = Phase::Compacting(Box::new(work));
        what
    }

    fn give_up(&mut self, me: usize, work: &Compacting) -> &'static str {
        for name in [work.snapshot, work.log].into_iter().flatten() {
            self.files.remove(&name);
        }
        self.agents[me].phase = Phase::Live;
        "finds its work lost"
    }

    fn swap(
        &mut self,
        me: usize,
        work: &Compacting,
        current: Manifest,
        fault: Fault,
    ) -> &'static str {
        let mut next = current;
        for (other, facts) in next.agents.iter_mut().enumerate() {
            if other == me {
                facts.folded = work.seen[me];
                facts.log = work.log;
                facts.clock = facts.clock.max(work.clock);
                continue;
            }
            if facts.log.is_none() || facts.log != work.base.agents[other].log {
                continue;
            }
            let is_dead = facts.log.as_ref() == work.dead.get(&other);
            let settled = if is_dead {
                work.seen[other]
            } else {
                work.seen[other].saturating_sub(1)
            };
            if settled > facts.folded {
                facts.folded = settled;
                facts.clock = facts.clock.max(self.stored[other][settled - 1]);
            }
            if is_dead {
                facts.log = None;
            }
        }
        let may_write_below = next.agents.iter().enumerate().any(|(other, facts)| {
            other != me && facts.log.is_some() && facts.clock < work.forgotten
        });
        if may_write_below && fault != Fault::ForgetsEarly {
            return self.give_up(me, work);
        }
        next.generation += 1;
        next.snapshot = work.snapshot.unwrap();
        next.register = work.register;
        next.clock = next.clock.max(work.clock);
        self.manifest = next;
        let named = self.named();
        let agent = &mut self.agents[me];
        agent.log = work.log.unwrap();
        if !sets(agent.register) {
            agent.register = agent.register.filter(|(clock, _)| *clock > work.forgotten);
        }
        agent.phase = Phase::Removing(work.listed.clone(), named);
        "swaps"
    }

    fn roll(&mut self, me: usize) {
        self.look(me);
        let end = self.stored[me].len();
        let log = self.create(File::Log(me, self.manifest.agents[me].folded, end));
        self.manifest.generation += 1;
        let facts = &mut self.manifest.agents[me];
        facts.log = Some(log);
        if facts.folded == end {
            facts.clock = facts.clock.max(self.agents[me].clock);
        }
        self.agents[me].log = log;
    }

    fn check(&self, before: &Self) -> Result<(), String> {
        for name in self.named() {
            if !self.files.contains_key(&name) {
                return Err(format!("file {name} is named and missing"));
            }
        }
        for (agent, facts) in self.manifest.agents.iter().enumerate() {
            let stored = self.stored[agent].len();
            let end = match facts.log.and_then(|log| self.files.get(&log)) {
                Some(File::Log(_, first, end)) if *first <= facts.folded => *end,
                None => facts.folded,
                other => return Err(format!("{agent}'s log {other:?} begins too late")),
            };
            if end < stored {
                return Err(format!("of {agent}'s {stored} operations {end} are left"));
            }
            if facts.folded < before.manifest.agents[agent].folded
                || facts.clock < before.manifest.agents[agent].clock
            {
                return Err(format!("{agent} goes back"));
            }
            if !self.stored[agent].is_sorted_by(|one, next| one < next) {
                return Err(format!("{agent}'s clocks {:?}", self.stored[agent]));
            }
        }
        let stamps = self
            .stored
            .iter()
            .enumerate()
            .flat_map(|(agent, clocks)| clocks.iter().map(move |clock| (*clock, agent)));
        let last = stamps.max();
        let (loaded, _) = self.load(&self.manifest);
        if sets(loaded) != sets(last) || sets(last) && loaded != last {
            return Err(format!(
                "whoever opens it has {loaded:?}, and the last writer is {last:?}"
            ));
        }
        for (number, agent) in self.agents.iter().enumerate() {
            let has_seen_all = agent
                .seen
                .iter()
                .zip(&self.stored)
                .all(|(seen, stored)| *seen == stored.len());
            let is_open = !matches!(agent.phase, Phase::Dead | Phase::Registering(..));
            if is_open && has_seen_all && sets(agent.register) != sets(last) {
                return Err(format!(
                    "{number} has {:?}, and the last writer is {last:?}",
                    agent.register
                ));
            }
        }
        Ok(())
    }
}

/// How many states there are; the way to the first one that is wrong.
fn search(bounds: Bounds) -> Result<usize, String> {
    let first = State::new(bounds);
    let mut from: HashMap<State, Option<(String, State)>> = HashMap::from([(first.clone(), None)]);
    let mut due = VecDeque::from([first]);
    while let Some(state) = due.pop_front() {
        for (what, next) in state.steps(bounds) {
            if from.contains_key(&next) {
                continue;
            }
            let checked = next.check(&state);
            from.insert(next.clone(), Some((what, state.clone())));
            if let Err(reason) = checked {
                let mut way = Vec::new();
                let mut place = &next;
                while let Some(Some((what, before))) = from.get(place) {
                    way.push(what.clone());
                    place = before;
                }
                way.reverse();
                return Err(format!("{reason}, after: {}\n{next:?}", way.join("; ")));
            }
            due.push_back(next);
        }
    }
    Ok(from.len())
}

const TWO: Bounds = Bounds {
    agents: 2,
    operations: 1,
    compactions: 1,
    openings: 3,
    fault: Fault::None,
};

fn holds(bounds: Bounds) {
    match search(bounds) {
        Ok(states) => eprintln!("{bounds:?}: {states} states"),
        Err(reason) => panic!("{reason}"),
    }
}

#[test]
fn invariants_hold_in_every_order_of_two_agents() {
    holds(TWO);
}

#[test]
fn invariants_hold_in_every_order_of_two_agents_of_which_one_writes_twice() {
    holds(Bounds {
        operations: 2,
        openings: 2,
        ..TWO
    });
}

#[test]
fn invariants_hold_in_every_order_of_two_agents_that_both_compact() {
    holds(Bounds {
        compactions: 2,
        openings: 2,
        ..TWO
    });
}

#[test]
fn every_fault_of_the_protocol_is_found() {
    for fault in [
        Fault::EveryoneRemoves,
        Fault::DeadForEver,
        Fault::ListsLate,
        Fault::ForgetsEarly,
    ] {
        let found = search(Bounds { fault, ..TWO });
        assert!(found.is_err(), "{fault:?} is not found: {found:?}");
    }
}
