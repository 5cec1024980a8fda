//! The calls on an open store: each answers the JSON text of its result.

use std::sync::Arc;

use opslog::{Json, Operation, Since};
use serde::Serialize;
use serde_json::json as object;
use serde_json::value::RawValue;

use crate::command::{Command, Failure};
use crate::{RawStore, batch};

pub(crate) fn run(store: &RawStore, command: &Command) -> Result<String, Failure> {
    match command.call.as_str() {
        "set" => Ok(nothing(store.set(command.id()?, command.document()?)?)),
        "delete" => Ok(nothing(store.delete(command.id()?)?)),
        "batch" => batch::run(store, command.operations()?),
        "undo" => Ok(json(store.undo()?)),
        "compact" => Ok(nothing(store.compact()?)),
        "flush" => Ok(nothing(store.flush()?)),
        "refresh" => Ok(nothing(store.refresh()?)),
        "close" => Ok(nothing(store.close()?)),
        "archive" => archive(store, command),
        "get" | "getText" | "has" | "all" | "entries" | "count" | "streamSnapshot" | "streamed" => {
            read(store, command)
        }
        "history" | "ops" | "opsSinceOperation" | "logOps" | "tail" => operations(store, command),
        "loadArchive" => Ok(entries_json(&store.load_archive(command.segment()?)?)),
        "archiveSegments" => Ok(json(store.archive_segments()?)),
        "stats" => stats(store),
        "manifest" => manifest(store),
        "openReport" => Ok(open_report(store)),
        other => Err(Failure::new(
            "InvalidCommand",
            format!("there is no call '{other}'"),
        )),
    }
}

pub(crate) fn json(value: impl Serialize) -> String {
    serde_json::to_string(&value).expect("plain values have a JSON form")
}

pub(crate) fn entries_json(entries: &[(String, Arc<Box<RawValue>>)]) -> String {
    let pairs: Vec<_> = entries
        .iter()
        .map(|(id, document)| (id, &**document))
        .collect();
    json(pairs)
}

fn nothing((): ()) -> String {
    "null".to_owned()
}

fn read(store: &RawStore, command: &Command) -> Result<String, Failure> {
    Ok(match command.call.as_str() {
        "get" => json(store.get(command.id()?)?.as_deref()),
        "getText" => json(store.get_json(command.id()?)?.as_ref().map(Json::as_str)),
        "has" => json(store.has(command.id()?)?),
        "all" => {
            let documents = store.all()?;
            json(
                documents
                    .iter()
                    .map(|document| &**document)
                    .collect::<Vec<_>>(),
            )
        }
        "entries" => entries_json(&store.entries()?),
        "count" => json(store.count()?),
        "streamed" => streamed(store)?,
        _ => snapshot_json(store)?,
    })
}

fn snapshot_json(store: &RawStore) -> Result<String, Failure> {
    let documents = store
        .stream_snapshot()?
        .collect::<opslog::Result<Vec<_>>>()?;
    let pairs: Vec<_> = documents
        .iter()
        .map(|(id, document)| format!("[{},{}]", json(id), document.as_str()))
        .collect();
    Ok(format!("[{}]", pairs.join(",")))
}

fn log_json(store: &RawStore) -> Result<String, Failure> {
    let operations = store
        .log_ops(Since::Start)?
        .collect::<opslog::Result<Vec<_>>>()?;
    Ok(operations_json(&operations))
}

/// The snapshot and the operations after it, which make the state together.
fn streamed(store: &RawStore) -> Result<String, Failure> {
    let (snapshot, operations) = (snapshot_json(store)?, log_json(store)?);
    Ok(format!(
        r#"{{"snapshot":{snapshot},"operations":{operations}}}"#
    ))
}

fn operations(store: &RawStore, command: &Command) -> Result<String, Failure> {
    Ok(match command.call.as_str() {
        "history" => operations_json(&store.history(command.id()?)?),
        "ops" => operations_json(&store.ops(Since::Start)?),
        "opsSinceOperation" => ops_since_operation(store, command.index()?)?,
        "logOps" => log_json(store)?,
        _ => {
            let tail = store.tail()?;
            format!(
                r#"{{"operations":{},"rewound":{}}}"#,
                operations_json(&tail.operations),
                tail.rewound
            )
        }
    })
}

fn operations_json(operations: &[Operation]) -> String {
    let lines: Vec<_> = operations.iter().map(Operation::to_json).collect();
    format!("[{}]", lines.join(","))
}

/// All operations, those after the time of one of them, and those after its cursor.
fn ops_since_operation(store: &RawStore, index: usize) -> Result<String, Failure> {
    let all = store.ops(Since::Start)?;
    let Some(operation) = all.get(index) else {
        return Ok("null".to_owned());
    };
    let after_time = operations_json(&store.ops(operation.ts)?);
    let after_cursor = operations_json(&store.ops(&operation.cursor)?);
    let all = operations_json(&all);
    Ok(format!(
        r#"{{"all":{all},"afterTime":{after_time},"afterCursor":{after_cursor}}}"#
    ))
}

fn archive(store: &RawStore, command: &Command) -> Result<String, Failure> {
    let ids = command.ids()?;
    let archived = store.archive(
        |_, id| ids.iter().any(|wanted| wanted == id),
        command.segment.as_deref(),
    )?;
    Ok(json(archived))
}

fn stats(store: &RawStore) -> Result<String, Failure> {
    let stats = store.stats()?;
    Ok(object!({
        "activeRecords": stats.active_documents,
        "opsCount": stats.ops_since_checkpoint,
        "archiveSegments": stats.archive_segments,
        "archivedRecords": stats.archived_documents,
        "snapshotBytes": stats.snapshot_bytes,
        "logBytes": stats.log_bytes,
        "historyBytes": stats.history_bytes,
        "damage": stats.damage,
    })
    .to_string())
}

fn manifest(store: &RawStore) -> Result<String, Failure> {
    let manifest = store.manifest()?;
    Ok(object!({
        "currentSnapshot": manifest.current_snapshot,
        "activeOps": manifest.active_ops,
        "sealedLogs": manifest.sealed_logs,
        "archiveSegments": manifest.archive_segments,
    })
    .to_string())
}

fn open_report(store: &RawStore) -> String {
    let report = store.open_report();
    let damage: Vec<_> = report
        .damage
        .iter()
        .map(|damage| object!({ "path": damage.path, "offset": damage.offset, "bytes": damage.bytes, "kind": format!("{:?}", damage.kind), "reason": damage.reason }))
        .collect();
    object!({ "damage": damage }).to_string()
}
