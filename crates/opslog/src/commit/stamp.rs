//! The stamps of an agent's commit (`docs/multi-writer.md` §1), and what they make of it.

use std::collections::HashMap;

use super::{Draft, Drafts, Intent, TakenBack};
use crate::engine::{Pending, Writer};
use crate::merge::{Agent, Order, Register, Stamp};
use crate::state::Change;

/// What an agent's operation adds to its line, and makes of its register.
pub(super) struct Stamped {
    pub(super) clock: u64,
    pub(super) takes: Option<Stamp>,
    pub(super) over: Option<Stamp>,
    /// Nothing where it creates the document.
    pub(super) born: Option<Stamp>,
    pub(super) order: Order,
    /// Whether it takes effect over what is known now.
    pub(super) wins: bool,
}

/// Gives each operation of an agent's commit its stamp. `register` knows what is there now.
pub(super) fn stamp_drafts<T>(
    writer: &mut Writer<T>,
    agent: &Agent,
    drafts: &[Draft<T>],
    intent: &Intent,
    register: impl Fn(&Writer<T>, &str) -> Option<Register>,
) -> Vec<Stamped> {
    let mut within: HashMap<&str, Register> = HashMap::new();
    let mut all = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let known = match within.get(draft.id()) {
            Some(register) => Some(register.clone()),
            None => register(writer, draft.id()),
        };
        let clock = writer.clock.tick();
        let (takes, stamp, born) = match intent {
            Intent::TakeBack(taken) => match taken.get(index).cloned() {
                Some(TakenBack::Restored { born }) => (None, Stamp::new(clock, agent), born),
                Some(TakenBack::Nothing) | None => (Some(Stamp::default()), Stamp::default(), None),
            },
            Intent::Write | Intent::Accepted { .. } | Intent::Undo => {
                let born = known.as_ref().and_then(Register::born).cloned();
                (None, Stamp::new(clock, agent), born)
            }
        };
        let order = Order {
            born: born.clone().unwrap_or_else(|| stamp.clone()),
            stamp,
        };
        let wins = known
            .as_ref()
            .is_none_or(|known| *known.stamp() < order.stamp);
        if wins {
            within.insert(draft.id(), register_after(draft, &order));
        }
        all.push(Stamped {
            clock,
            takes,
            over: known.map(|known| known.stamp().clone()),
            born,
            order,
            wins,
        });
    }
    all
}

fn register_after<T>(draft: &Draft<T>, order: &Order) -> Register {
    match draft {
        Draft::Set(_) => Register::Live(order.clone()),
        Draft::Delete(_) => Register::Deleted(order.stamp.clone()),
    }
}

/// Keeps an agent's commit until its group is settled.
pub(super) fn stage_stamped<T>(
    writer: &mut Writer<T>,
    drafts: Drafts<T>,
    stamped: Vec<Stamped>,
    first_seq: u64,
) {
    for (seq, (draft, stamped)) in (first_seq..).zip(drafts.into_iter().zip(stamped)) {
        let id = draft.shared_id();
        let register = register_after(&draft, &stamped.order);
        let document = match draft {
            Draft::Set(document) => Some(document),
            Draft::Delete(_) => None,
        };
        if stamped.wins {
            let newest = Pending {
                seq,
                document: document.clone(),
                register: Some(register),
            };
            writer.pending.insert(id.clone(), newest);
        }
        if let Some(group) = writer.queue.back_mut() {
            group.changes.push(Change::Merge {
                id,
                document,
                order: stamped.order,
            });
        }
    }
}
