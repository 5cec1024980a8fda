//! A full disk: what was acknowledged stays, what was refused was never there, and when there is room again writing goes on.

use std::path::{Path, PathBuf};

use opslog::{ErrorKind, Store};

use crate::model::{Documents, Mode, Plan, Thread, read};
use crate::mount::{Kind, Mount, call};
use crate::writer::{apply, open, store_in};
use crate::{Arguments, Outcome, say};

/// How often the disk is filled.
const ROUNDS: u64 = 12;
/// How many refusals of a full disk are looked at.
const REFUSALS: u64 = 10;
/// By how much the file is cut that fills the disk.
const LEFT: &str = "-300K";

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    for kind in [Kind::Tmpfs, Kind::Ext4] {
        let Some(mount) = Mount::new(kind, 8)? else {
            continue;
        };
        let mut refusals = 0;
        for cycle in 0..ROUNDS {
            refusals += fill(&mount, arguments.seed, cycle).map_err(|fault| {
                format!(
                    "full {}, seed {}, cycle {cycle}: {fault}",
                    kind.name(),
                    arguments.seed
                )
            })?;
        }
        say(&format!(
            "full: {} filled {ROUNDS} times, {refusals} writes refused",
            kind.name()
        ));
    }
    Ok(())
}

fn fill(mount: &Mount, seed: u64, cycle: u64) -> Outcome<u64> {
    let directory = store_in(&mount.point());
    let ballast = mount.point().join("ballast");
    call("rm", &[Path::new("-rf"), &directory])?;
    let target = PathBuf::from(format!("of={}", ballast.display()));
    // It ends when the disk is full.
    drop(call(
        "dd",
        &[Path::new("if=/dev/zero"), &target, Path::new("bs=64K")],
    ));
    call("truncate", &[Path::new("-s"), Path::new(LEFT), &ballast])?;
    let plan = Plan {
        seed,
        cycle,
        threads: 1,
        mode: Mode::Immediate,
    };
    let store = open(&directory, plan.mode)?;
    let mut thread = Thread::new(plan, 0);
    let mut refusals = 0;
    while refusals < REFUSALS {
        let commit = thread.next();
        if let Err(error) = apply(&store, &commit) {
            refusals += 1;
            check_refusal(&error)?;
            thread.refused(&commit);
            compare(&documents(&store)?, &thread, "after a refusal")?;
        }
    }
    drop(store);
    let reader: Store = Store::builder().read_only(true).open(&directory)?;
    compare(&documents(&reader)?, &thread, "a reader of the full disk")?;
    call("rm", &[&ballast])?;
    compare(&read(&directory)?, &thread, "opened again")?;
    let store = open(&directory, plan.mode)?;
    store.set("room", &serde_json::json!({}))?;
    store.compact()?;
    store.close()?;
    Ok(refusals)
}

fn check_refusal(error: &opslog::Error) -> Outcome {
    if error.kind() != ErrorKind::Unavailable || !error.to_string().contains("free some space") {
        return Err(format!("a full disk was answered by {error:?}").into());
    }
    Ok(())
}

fn compare(found: &Documents, thread: &Thread, when: &str) -> Outcome {
    if found != thread.documents() {
        return Err(format!(
            "{when}: the store has {found:?}, and {:?} were acknowledged",
            thread.documents()
        )
        .into());
    }
    Ok(())
}

fn documents(store: &Store) -> Outcome<Documents> {
    let entries = store.entries()?.into_iter();
    Ok(entries
        .map(|(id, document)| (id, (*document).clone()))
        .collect())
}
