//! Taking back an agent's last commit: a new commit, of what the documents would be without it.

use crate::commit::{Draft, Drafts, Intent, TakenBack};
use crate::document::{Document, Stored};
use crate::engine::Engine;
use crate::format::manifest::Manifest;
use crate::format::op_line::{self, OpKind, OpLine};
use crate::history::kept_logs;
use crate::merge::{Mark, Order, Register, Stamp, StampText};
use crate::op::previous_document;
use crate::state::State;
use crate::undo::{Commit, refuse_blind, unreadable};
use crate::{ErrorKind, Result};

/// How often other agents' logs are read again because one of them was replaced meanwhile.
const TRIES: usize = 20;

impl<T: Document> Engine<T> {
    /// Takes back this agent's last commit that was not taken back yet, and gives it; `None` when there is none.
    pub(crate) fn undo_as_agent(&self) -> Result<Option<Commit>> {
        self.ensure_open()?;
        // What others wrote below it is what the documents would be without it.
        self.look_by_the_way()?;
        let writer = self.quiesce(self.writer()?)?;
        let Some((commit, _)) = self.commit_to_undo(&writer)? else {
            return Ok(None);
        };
        let (drafts, each) = self.without(&commit)?;
        self.commit(writer, drafts, &Intent::TakeBack(each))?;
        Ok(Some(commit))
    }

    /// What the documents of `commit` would be without it.
    fn without(&self, commit: &Commit) -> Result<(Drafts<T>, Vec<TakenBack>)> {
        let mut taken: Vec<Taken<T>> = Vec::new();
        let mut first_clock = u64::MAX;
        for raw in commit.lines.iter().rev() {
            let op = op_line::decode(raw).map_err(|flaw| unreadable(&flaw.to_string()))?;
            refuse_blind(&op)?;
            first_clock = first_clock.min(op.clock.unwrap_or(0));
            // The first operation on an id says what was before the commit, the last one what it came to.
            match taken.iter_mut().find(|taken| taken.id == *op.id) {
                Some(taken) => taken.kind = op.kind,
                None => taken.push(Taken {
                    kind: op.kind,
                    overwritten: false,
                    register: before(&op)?,
                    id: op.id.into_owned(),
                }),
            }
        }
        self.merge_others(&mut taken, first_clock)?;
        let mut drafts = Drafts::new();
        let mut each = Vec::new();
        for taken in taken {
            if !self.is_last_word(&taken) {
                drafts.push(Draft::Delete(taken.id.into()));
                each.push(TakenBack::Nothing);
                continue;
            }
            let register = taken.register.register(&taken.id);
            let born = register.and_then(|register| register.born().cloned());
            each.push(TakenBack::Restored { born });
            drafts.push(match taken.register.get(&taken.id)? {
                Some(document) => Draft::Set(document),
                None => Draft::Delete(taken.id.into()),
            });
        }
        Ok((drafts, each))
    }

    /// Whether nobody else has written since. All that this agent itself has written since is taken back already.
    fn is_last_word(&self, taken: &Taken<T>) -> bool {
        let own = |stamp: &Stamp| Some(&stamp.agent) == self.agent.as_ref();
        match self.state().register(&taken.id) {
            Some(Register::Live(order)) => own(&order.stamp),
            Some(Register::Deleted(stamp)) => own(&stamp) && stamp.mark != Mark::ARCHIVED,
            // Its tombstone is forgotten, and may have been another agent's.
            None => taken.kind == OpKind::Delete && !taken.overwritten,
        }
    }

    /// Merges into the registers what was written to them, seen at the time or not, but for what this agent wrote from `first_clock` on, which it has taken back.
    fn merge_others(&self, taken: &mut [Taken<T>], first_clock: u64) -> Result<()> {
        let mut tries = 0;
        loop {
            let manifest = self.current_manifest()?;
            tries += 1;
            match self.merge_logs(&manifest, taken, first_clock) {
                // A log was merged into another one, or removed, since the manifest was read. Merging twice changes nothing.
                Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => {}
                result => return result,
            }
        }
    }

    fn merge_logs(
        &self,
        manifest: &Manifest,
        taken: &mut [Taken<T>],
        first_clock: u64,
    ) -> Result<()> {
        for part in kept_logs(manifest) {
            let Some(agent) = &part.agent else {
                continue;
            };
            let own = part.agent == self.agent;
            // What lies below was written before a single writer or a migration went over the documents, whose stamps say nothing of that.
            let floor = manifest.agent(agent).map_or(0, |facts| facts.undo_floor);
            part.read(&*self.backend, &mut |line| {
                let Some(order) = line.op.order().filter(|_| line.seq >= floor) else {
                    return Ok(());
                };
                let counts = !own || line.op.clock.is_some_and(|clock| clock < first_clock);
                let mut of_id = taken.iter_mut().filter(|taken| taken.id == *line.op.id);
                if let Some(taken) = of_id.next()
                    && counts
                {
                    taken.overwritten |= !own && order.stamp.clock > first_clock;
                    let document = line.op.data.map(|data| Stored::new(&line.op.id, data));
                    taken.register.merge(&line.op.id, document, order);
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// An id that a commit wrote to, as it would be without the commit.
struct Taken<T> {
    id: String,
    /// What the commit did last.
    kind: OpKind,
    /// Whether another agent has written with a later clock, as far as that is kept.
    overwritten: bool,
    register: State<T>,
}

/// The register of an operation's id as it was before it.
fn before<T>(op: &OpLine<'_>) -> Result<State<T>> {
    let mut state = State::of_registers();
    let stamp = |text: &Option<StampText<'_>>| text.as_ref().map(StampText::to_stamp);
    let document: Option<Stored<T>> =
        previous_document(op).map_err(|()| unreadable("its patch does not apply"))?;
    let over = stamp(&op.origin.over).unwrap_or_default();
    let born = stamp(&op.origin.born).unwrap_or_default();
    let order = Order { stamp: over, born };
    state.merge(&op.id, document, order);
    Ok(state)
}
