//! The Rust part of the README's tour, as it stands there.
#![allow(clippy::disallowed_macros, clippy::unwrap_used, missing_docs)]

use opslog::{Since, Store};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Task {
    title: String,
    done: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store: Store<Task> = Store::open("tasks")?;

    // Durable when it returns.
    store.set(
        "task-1",
        &Task {
            title: "Build API".into(),
            done: false,
        },
    )?;
    store.set(
        "task-1",
        &Task {
            title: "Build API".into(),
            done: true,
        },
    )?;

    // Reads never touch the disk; a filter sees one consistent state.
    let done = store.filter(|task, _id| task.done)?;
    assert_eq!(done.len(), 1);

    // Take back the last commit; called again, the one before. By default it leaves no trace in the
    // history, unless a checkpoint has sealed it; with `UndoMode::Append` it always does.
    store.undo()?;
    assert!(store.get("task-1")?.is_some_and(|task| !task.done));

    // Several changes as one: all or nothing, also after a crash, and one undo.
    store.batch(|batch| {
        batch.set(
            "task-2",
            &Task {
                title: "Write tests".into(),
                done: true,
            },
        )?;
        batch.set(
            "task-3",
            &Task {
                title: "Ship".into(),
                done: false,
            },
        )
    })?;

    // What happened, as far back as you keep it (by default: everything).
    for operation in store.ops(Since::Start)? {
        println!("{}", operation.to_json());
    }

    // Move what is finished out of the way.
    store.archive(|task, _id| task.done, Some("2026-Q4"))?;
    store.close()?;
    Ok(())
}
