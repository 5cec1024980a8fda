//! Opening the store that a command is about.

use std::path::Path;

use opslog::{DamageKind, ErrorKind, Store};
use serde_json::value::RawValue;

use crate::failure::{Failure, Status, warn};

/// A store whose documents stay the text that they are, down to the digits of a number.
pub(crate) type Documents = Store<Box<RawValue>>;

/// Opens the store to read it: beside a writer, without a lock, without writing a byte.
pub(crate) fn read(directory: &Path) -> Result<Documents, Failure> {
    let store = Documents::builder()
        .read_only(true)
        .open(directory)
        .map_err(no_store)?;
    warn_of_damage(&store);
    Ok(store)
}

/// Opens the store to change it.
pub(crate) fn write(directory: &Path) -> Result<Documents, Failure> {
    let store = Documents::builder()
        .create(false)
        .open(directory)
        .map_err(no_store)?;
    warn_of_damage(&store);
    Ok(store)
}

/// As `write`, and creates a store where there is none.
pub(crate) fn write_or_create(directory: &Path) -> Result<Documents, Failure> {
    let store = Documents::open(directory)?;
    warn_of_damage(&store);
    Ok(store)
}

/// Decides what a store would take, by the store's own rules and without one on disk.
pub(crate) struct Trial {
    scratch: Documents,
}

impl Trial {
    pub(crate) fn new() -> Result<Self, Failure> {
        let scratch = Documents::in_memory()?;
        Ok(Self { scratch })
    }

    /// Why a store would refuse the document, if it would.
    pub(crate) fn judge(&self, id: &str, text: &str) -> Result<(), opslog::Error> {
        let mut verdict = Ok(());
        // A batch that fails leaves nothing behind, so the scratch store stays empty.
        let _ = self.scratch.batch(|batch| -> opslog::Result<()> {
            verdict = batch.set_json(id, text);
            Err(opslog::Error::new(ErrorKind::Conflict, "only a trial"))
        });
        verdict
    }
}

/// Says how a store comes to be, where there is none.
fn no_store(error: opslog::Error) -> Failure {
    if error.is_not_found() {
        return Failure::new(Status::NotFound, error.to_string()).with_hint(
            "check --data or OPSLOG_DIR; 'opslog import' and 'opslog set' create a store",
        );
    }
    error.into()
}

fn warn_of_damage(store: &Documents) {
    for damage in &store.open_report().damage {
        if damage.kind == DamageKind::Damaged {
            warn(&format!(
                "{} bytes of {} at byte {} are damaged and were left out: {}",
                damage.bytes, damage.path, damage.offset, damage.reason
            ));
        }
    }
}
