//! Replay is commutative and idempotent: however operations come, the state is that of a plain map that keeps the greatest stamps.

use std::collections::BTreeMap;

use super::*;
use crate::backend::seeded;
use crate::format::stamps::{self, Line};
use crate::merge::{Agent, Mark};

const HISTORIES: u64 = 100_000;

#[derive(Debug, Clone)]
struct Op {
    id: String,
    data: Option<String>,
    order: Order,
}

/// What the documents are, in their order, and the tombstones.
type Contents = (Vec<(String, String, Order)>, BTreeMap<String, Stamp>);

/// Operations on a few ids, by a few agents, with different stamps; updates carry the birth of some earlier document.
fn history(choose: &mut impl FnMut(usize) -> usize, agents: &[Agent]) -> Vec<Op> {
    let mut clocks: Vec<u64> = agents.iter().map(|_| 0).collect();
    let mut ops: Vec<Op> = Vec::new();
    for number in 0..2 + choose(12) {
        let writer = choose(agents.len());
        // It has seen some of the others' operations.
        let seen = clocks[choose(agents.len())];
        clocks[writer] = clocks[writer].max(seen) + 1;
        let id = ["x", "y", "z", "w"][choose(4)].to_owned();
        let stamp = Stamp::new(clocks[writer], &agents[writer]);
        let earlier: Vec<&Stamp> = ops
            .iter()
            .filter(|op| op.id == id && op.data.is_some() && op.order.stamp < stamp)
            .map(|op| &op.order.born)
            .collect();
        let born = match earlier.get(choose(earlier.len() + 1)) {
            Some(born) => (*born).clone(),
            None => stamp.clone(),
        };
        let (data, stamp) = match choose(8) {
            0 | 1 => (None, stamp),
            2 => (None, stamp.marked(Mark::ARCHIVED)),
            _ => (Some(format!("{{\"n\":{number}}}")), stamp),
        };
        let order = Order { stamp, born };
        ops.push(Op { id, data, order });
    }
    ops
}

fn expected(ops: &[Op]) -> Contents {
    let mut greatest: BTreeMap<&str, &Op> = BTreeMap::new();
    for op in ops {
        let known = greatest.entry(&op.id).or_insert(op);
        if known.order.stamp < op.order.stamp {
            *known = op;
        }
    }
    let mut contents = Contents::default();
    for op in greatest.into_values() {
        match &op.data {
            Some(data) => contents
                .0
                .push((op.id.clone(), data.clone(), op.order.clone())),
            None => drop(contents.1.insert(op.id.clone(), op.order.stamp.clone())),
        }
    }
    contents
        .0
        .sort_by(|one, other| one.2.born.cmp(&other.2.born));
    contents
}

fn found(state: &State<()>) -> Contents {
    let stamps = state.stamps();
    let frozen = state.freeze();
    let documents: Vec<&Stored<()>> = frozen.resident().collect();
    assert_eq!(documents.len(), stamps.documents.len());
    assert_eq!(documents.len(), state.len());
    for (document, order) in documents.iter().zip(&stamps.documents) {
        assert_eq!(
            state.register(document.id()),
            Some(Register::Live(order.clone()))
        );
    }
    let documents = documents.into_iter().zip(stamps.documents);
    let deleted = stamps.deleted.into_iter();
    (
        documents
            .map(|(document, order)| (document.id().to_owned(), document.data().to_owned(), order))
            .collect(),
        deleted.map(|(id, stamp)| (id.into(), stamp)).collect(),
    )
}

/// The state as the next one to open the store has it from a snapshot.
fn through_snapshot(state: &State<()>) -> State<()> {
    let stamps = state.stamps();
    let mut text = Vec::new();
    for order in &stamps.documents {
        stamps::encode_document(&mut text, order);
    }
    for (id, stamp) in &stamps.deleted {
        stamps::encode_deleted(&mut text, id, stamp);
    }
    let (mut orders, mut deleted) = (Vec::new(), HashMap::new());
    for line in text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        match stamps::decode(line).unwrap() {
            Line::Document(order) => orders.push(order),
            Line::Deleted(id, stamp) => drop(deleted.insert(id.into(), stamp)),
        }
    }
    let mut loaded = State::default();
    for document in state.freeze().resident() {
        loaded.put(Stored::new(document.id(), document.data()), false);
    }
    loaded.stamp(orders, deleted).unwrap();
    loaded
}

fn replay(ops: &[Op], choose: &mut impl FnMut(usize) -> usize) -> State<()> {
    let mut state = State::of_registers();
    let mut left: Vec<&Op> = ops.iter().collect();
    let split = choose(ops.len() + 1);
    while !left.is_empty() {
        if left.len() == split {
            state.settle();
            state = through_snapshot(&state);
        }
        let mut due = vec![left.swap_remove(choose(left.len()))];
        if choose(3) == 0 {
            due.push(&ops[choose(ops.len())]);
        }
        for op in due {
            let document = op.data.as_ref().map(|data| Stored::new(&op.id, data));
            // What is read twice is not seen once more.
            left.retain(|other| other.order.stamp != op.order.stamp);
            state.merge(&op.id, document, op.order.clone());
        }
        if choose(3) == 0 {
            state.settle();
        }
    }
    for _ in 0..choose(3) {
        let op = &ops[choose(ops.len())];
        let document = op.data.as_ref().map(|data| Stored::new(&op.id, data));
        state.merge(&op.id, document, op.order.clone());
    }
    state.settle();
    state
}

#[test]
fn any_order_repetition_and_split_of_a_history_gives_the_same_documents_in_the_same_order() {
    let agents = ["a", "B", "c"].map(Agent::from);
    for seed in 0..HISTORIES {
        let mut choose = seeded(seed);
        let ops = history(&mut choose, &agents);
        let expected = expected(&ops);
        let found = found(&replay(&ops, &mut choose));
        assert_eq!(found, expected, "seed {seed}: {ops:#?}");
    }
}

#[test]
fn many_documents_come_into_order_from_any_other() {
    let agents = ["a", "b"].map(Agent::from);
    for seed in 0..20 {
        let mut choose = seeded(seed);
        let mut ops = Vec::new();
        for clock in 1..=1500 {
            let stamp = Stamp::new(clock, &agents[choose(2)]);
            let id = if choose(3) == 0 {
                choose(1500) as u64
            } else {
                clock
            };
            let data = (choose(3) > 0).then(|| format!("{{\"n\":{clock}}}"));
            let born = Stamp::new(id, &agents[0]);
            let order = Order { stamp, born };
            ops.push(Op {
                id: id.to_string(),
                data,
                order,
            });
        }
        let mut state = State::of_registers();
        let mut left: Vec<&Op> = ops.iter().collect();
        while !left.is_empty() {
            for _ in 0..=choose(200).min(left.len() - 1) {
                let op = left.swap_remove(choose(left.len()));
                let document = op.data.as_ref().map(|data| Stored::new(&op.id, data));
                state.merge(&op.id, document, op.order.clone());
            }
            state.settle();
            state.close_holes();
        }
        assert_eq!(found(&state), expected(&ops), "seed {seed}");
    }
}
