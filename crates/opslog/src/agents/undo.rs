//! Taking back an agent's last commit: a commit with the same stamps, of what the documents would be without it.

use crate::commit::{Draft, Drafts, Intent};
use crate::document::{Document, Stored};
use crate::engine::Engine;
use crate::format::op_line::{self, OpLine};
use crate::history::kept_logs;
use crate::merge::{Order, Stamp, StampText};
use crate::op::previous_document;
use crate::state::State;
use crate::undo::{Commit, unreadable};
use crate::{Error, ErrorKind, Result};

impl<T: Document> Engine<T> {
    /// Takes back this agent's last commit that was not taken back yet; `false` when there is none.
    pub(crate) fn undo_as_agent(&self) -> Result<Option<Vec<String>>> {
        self.ensure_open()?;
        // What others wrote below it is what the documents would be without it.
        self.look_at_agents()?;
        let writer = self.quiesce(self.writer()?)?;
        let Some((commit, _)) = self.commit_to_undo(&writer)? else {
            return Ok(None);
        };
        let ids = commit.ids()?;
        let (drafts, taken) = self.without(&commit)?;
        self.commit(writer, drafts, &Intent::TakeBack(taken))?;
        Ok(Some(ids))
    }

    /// What the documents of `commit` would be without it, and the stamps and births that these have.
    #[expect(
        clippy::type_complexity,
        reason = "the two lists belong together once, here"
    )]
    fn without(&self, commit: &Commit) -> Result<(Drafts<T>, Vec<(Stamp, Option<Stamp>)>)> {
        let mut taken: Vec<Taken<T>> = Vec::new();
        let mut first_clock = u64::MAX;
        for raw in commit.lines.iter().rev() {
            let op = op_line::decode(raw).map_err(|flaw| unreadable(&flaw.to_string()))?;
            if op.blind {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "the last change of '{}' was made in skip_load mode, which does not know what was before; set the document instead",
                        op.id
                    ),
                ));
            }
            let Some(order) = op.order() else {
                return Err(unreadable("it has no stamp"));
            };
            first_clock = first_clock.min(order.stamp.clock);
            // The first operation on an id says what was before the commit, the last one has the stamp that counts.
            match taken.iter_mut().find(|taken| taken.id == *op.id) {
                Some(taken) => taken.stamp = self.stamp_of_undo(&op.id, order.stamp),
                None => taken.push(Taken {
                    stamp: self.stamp_of_undo(&op.id, order.stamp),
                    register: before(&op)?,
                    id: op.id.into_owned(),
                }),
            }
        }
        self.merge_others(&mut taken, first_clock)?;
        let mut drafts = Drafts::new();
        let mut stamps = Vec::new();
        for taken in taken {
            let register = taken.register.register(&taken.id);
            stamps.push((
                taken.stamp,
                register.and_then(|register| register.born().cloned()),
            ));
            drafts.push(match taken.register.get(&taken.id)? {
                Some(document) => Draft::Set(document),
                None => Draft::Delete(taken.id.into()),
            });
        }
        Ok((drafts, stamps))
    }

    /// The stamp that takes back an operation with the stamp `written`: that one, marked. Where the register still has what an earlier undo of this agent put there, which was of a later
    /// commit, it is that undo's place that is taken.
    fn stamp_of_undo(&self, id: &str, written: Stamp) -> Stamp {
        let register = self.state().register(id);
        let stamp = match register {
            Some(register)
                if register.stamp().mark.is_taken_back()
                    && register.stamp().agent == written.agent
                    && register.stamp().clock > written.clock =>
            {
                register.stamp().clone()
            }
            _ => written,
        };
        stamp.marked(stamp.mark.taken_back())
    }

    /// Merges into the registers what was written to them below their stamps, seen at the time or not, but for what this agent wrote from `first_clock` on, which it has taken back.
    fn merge_others(&self, taken: &mut [Taken<T>], first_clock: u64) -> Result<()> {
        for part in kept_logs(&self.manifest()) {
            if part.agent.is_none() {
                continue;
            }
            let own = part.agent == self.agent;
            let result = part.read(&*self.backend, &mut |line| {
                let Some(order) = line.op.order() else {
                    return Ok(());
                };
                let counts = !own || line.op.clock.is_some_and(|clock| clock < first_clock);
                let mut of_id = taken.iter_mut().filter(|taken| taken.id == *line.op.id);
                if let Some(taken) = of_id.next()
                    && counts
                    && order.stamp < taken.stamp
                {
                    let document = line.op.data.map(|data| Stored::new(&line.op.id, data));
                    taken.register.merge(&line.op.id, document, order);
                }
                Ok(())
            });
            match result {
                // Folded and removed since the manifest was read: then this agent has seen it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }
}

/// An id that a commit wrote to, as it would be without the commit.
struct Taken<T> {
    id: String,
    stamp: Stamp,
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
