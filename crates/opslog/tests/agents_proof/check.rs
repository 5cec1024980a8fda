//! What must be true of a store of agents, whatever was done: judged from its operations alone.

use std::collections::{BTreeMap, BTreeSet};

use opslog::{OpKind, Operation, Since, Store};
use serde_json::Value;

/// A write that an agent was told is stored: its agent, the id, and the value, none for a delete.
pub(crate) type Acknowledged = (String, String, Option<Value>);

pub(crate) type Documents = Vec<(String, Value)>;

pub(crate) fn documents(store: &Store) -> Documents {
    let entries = store.entries().expect("it can be read").into_iter();
    entries
        .map(|(id, document)| (id, (*document).clone()))
        .collect()
}

fn value(operation: &Operation) -> Option<Value> {
    let data = operation.data.as_ref()?;
    Some(serde_json::from_str(data.as_str()).expect("the log holds JSON"))
}

/// The operations of all agents, which must have different stamps, and among which must be what was acknowledged, of each agent in its order.
pub(crate) fn operations(
    store: &Store,
    acknowledged: &[Acknowledged],
) -> Result<Vec<Operation>, String> {
    let operations = store
        .ops(Since::Start)
        .map_err(|error| format!("the operations cannot be read: {error}"))?;
    let mut stamps = BTreeSet::new();
    let mut written: BTreeMap<&str, Vec<(Option<u64>, &Operation)>> = BTreeMap::new();
    for operation in &operations {
        let agent = operation.agent.as_deref().unwrap_or_default();
        if operation.agent.is_some() && !stamps.insert((operation.clock, agent)) {
            return Err(format!("the stamp of {operation:?} is not the only one"));
        }
        let of_agent = written.entry(agent).or_default();
        of_agent.push((operation.clock, operation));
    }
    for of_agent in written.values_mut() {
        of_agent.sort_by_key(|(clock, _)| *clock);
    }
    let mut left: BTreeMap<&str, _> = written
        .iter()
        .map(|(agent, of_agent)| (*agent, of_agent.iter()))
        .collect();
    for (agent, id, expected) in acknowledged {
        let found = left.get_mut(&**agent).is_some_and(|left| {
            left.any(|(_, operation)| operation.id == *id && value(operation) == *expected)
        });
        if !found {
            return Err(format!(
                "{agent}: {id} = {expected:?} was acknowledged, and is lost, or has a clock below an earlier one's"
            ));
        }
    }
    Ok(operations)
}

/// The stamps of operations that take back what another agent has overwritten: they count for nothing.
fn without_effect(store: &Store) -> BTreeSet<(Option<u64>, Option<String>)> {
    let backend = store.backend();
    let logs = backend.list("ops/agent-").expect("it can be listed");
    let logs = logs.iter().filter_map(|log| backend.read(&log.name).ok());
    let mut found = BTreeSet::new();
    for log in logs {
        for line in log.split(|byte| *byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            if line.get("takes").is_some() {
                let agent = line["agent"].as_str().map(str::to_owned);
                found.insert((line["clock"].as_u64(), agent));
            }
        }
    }
    found
}

/// What the last writer of each id wrote, and whether that is a document.
pub(crate) fn last_writes<'o>(
    store: &Store,
    operations: &'o [Operation],
) -> BTreeMap<&'o str, (OpKind, Option<Value>)> {
    let without_effect = without_effect(store);
    let mut last: BTreeMap<&str, (Option<u64>, Option<&str>, &Operation)> = BTreeMap::new();
    for operation in operations {
        let stamp = (operation.clock, operation.agent.as_deref());
        if without_effect.contains(&(operation.clock, operation.agent.clone())) {
            continue;
        }
        let known = last.get(&*operation.id);
        if known.is_none_or(|(clock, agent, _)| (*clock, *agent) < stamp) {
            last.insert(&operation.id, (stamp.0, stamp.1, operation));
        }
    }
    last.into_iter()
        .map(|(id, (_, _, operation))| (id, (operation.kind, value(operation))))
        .collect()
}

/// The documents must be what the last writers wrote, but for those that are archived with just that content.
pub(crate) fn account(store: &Store, acknowledged: &[Acknowledged]) -> Result<(), String> {
    let operations = operations(store, acknowledged)?;
    let mut archived = BTreeSet::new();
    let failed = |error: opslog::Error| format!("the archive cannot be read: {error}");
    let segments = store.archive_segments().map_err(failed)?;
    let periods: BTreeSet<String> = segments
        .iter()
        .filter_map(|path| {
            let name = path.strip_prefix("archive/archive-")?;
            Some(name.split('.').next()?.to_owned())
        })
        .collect();
    for period in periods {
        for (id, document) in store.load_archive(&period).map_err(failed)? {
            archived.insert((id, document.to_string()));
        }
    }
    let mut present: BTreeMap<String, Value> = documents(store).into_iter().collect();
    for (id, (_, value)) in last_writes(store, &operations) {
        let found = present.remove(id);
        let is_archived = |value: &Value| archived.contains(&(id.to_owned(), value.to_string()));
        let right = match (&value, &found) {
            (Some(value), Some(found)) => value == found,
            (Some(value), None) => is_archived(value),
            (None, found) => found.is_none(),
        };
        if !right {
            return Err(format!(
                "{id} is {found:?}, and its last writer wrote {value:?}"
            ));
        }
    }
    if present.is_empty() {
        Ok(())
    } else {
        Err(format!("nobody wrote {present:?}"))
    }
}
