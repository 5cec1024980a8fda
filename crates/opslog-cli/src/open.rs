//! Opening the store that a command is about.

use std::path::Path;

use opslog::{DamageKind, DamageReport, Store, StoreBuilder};
use serde_json::value::RawValue;

use crate::args::Target;
use crate::failure::{Failure, Status, note, warn};

/// A store whose documents stay the text that they are, down to the digits of a number.
pub(crate) type Documents = Store<Box<RawValue>>;

/// Opens the store to read it: beside a writer, without a lock, without writing a byte.
pub(crate) fn read(directory: &Path) -> Result<Documents, Failure> {
    open(Documents::builder().read_only(true), directory)
}

/// Opens the store to change it.
pub(crate) fn write(target: Target<'_>) -> Result<Documents, Failure> {
    open(builder(target).create(false), target.directory)
        .map_err(|failure| beside_agents(failure, target))
}

/// As `write`, and creates a store where there is none.
pub(crate) fn write_or_create(target: Target<'_>) -> Result<Documents, Failure> {
    open(builder(target), target.directory).map_err(|failure| beside_agents(failure, target))
}

/// The same failure, with what to do where only agents are in the way.
fn beside_agents(failure: Failure, target: Target<'_>) -> Failure {
    if failure.status() != Status::Locked || target.agent.is_some() {
        return failure;
    }
    let reader = Documents::builder().read_only(true).open(target.directory);
    let agents = reader.and_then(|store| store.agents()).unwrap_or_default();
    if agents.iter().all(|agent| agent.log.is_none()) {
        return failure;
    }
    failure.with_hint("wait until the agents are done, or write with --agent ID, as one of them; commands that only read work beside them at any time")
}

fn builder(target: Target<'_>) -> StoreBuilder<Box<RawValue>> {
    match target.agent {
        Some(agent) => Documents::builder().agent_id(agent),
        None => Documents::builder(),
    }
}

/// Closes a store in which a change was made. The change is on stable storage by then, so that the checkpoint fails is worth a warning and does
/// not make the command fail: whoever ran it again would make the change twice.
pub(crate) fn close(store: &Documents) {
    if let Err(error) = store.close() {
        warn(&format!(
            "the change is stored and nothing is lost, but the checkpoint at the end failed: {error}"
        ));
    }
}

/// Says how a store comes to be, where there is none.
pub(crate) fn no_store(error: opslog::Error) -> Failure {
    if error.is_not_found() {
        return Failure::new(Status::NotFound, error.to_string()).with_hint(
            "check --data or OPSLOG_DIR; 'opslog import' and 'opslog set' create a store",
        );
    }
    error.into()
}

fn open(builder: StoreBuilder<Box<RawValue>>, directory: &Path) -> Result<Documents, Failure> {
    let store = builder.open(directory).map_err(no_store)?;
    for damage in &store.open_report().damage {
        let DamageReport {
            bytes,
            path,
            offset,
            reason,
            ..
        } = damage;
        if damage.kind == DamageKind::Damaged {
            warn(&format!(
                "{bytes} bytes of {path} at byte {offset} are damaged and were left out: {reason}"
            ));
        } else {
            note(&format!(
                "{bytes} bytes of {path} at byte {offset} are an unfinished write and were left out, as is normal after a crash or while another process writes; nothing that was acknowledged is lost"
            ));
        }
    }
    Ok(store)
}
