//! Four agents, each a process of its own, share a task list: `cargo run --example agents`.
//!
//! Each adds its own tasks, and works through everybody's; one of them makes a snapshot while the others write. At the end all see the same list.
#![allow(clippy::disallowed_macros, missing_docs)]

use std::path::Path;
use std::process::Command;

use opslog::Store;
use serde::{Deserialize, Serialize};

const AGENTS: [&str; 4] = ["ada", "bob", "cleo", "dan"];
const TASKS: usize = 5;

#[derive(Clone, Serialize, Deserialize)]
struct Task {
    title: String,
    done_by: Option<String>,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn open(agent: &str, path: &Path) -> opslog::Result<Store<Task>> {
    Store::builder().agent_id(agent).open(path)
}

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(agent), Some(path)) => work(&agent, Path::new(&path)),
        _ => share(),
    }
}

/// What one agent does.
fn work(agent: &str, path: &Path) -> Outcome {
    let store = open(agent, path)?;
    for number in 1..=TASKS {
        let task = Task {
            title: format!("task {number} of {agent}"),
            done_by: None,
        };
        store.set(&format!("{agent}-{number}"), &task)?;
        if agent == "bob" {
            store.compact()?;
        }
    }
    // Every agent does the tasks that have its place in the list of agents as their number.
    let mine = AGENTS.iter().position(|name| *name == agent).unwrap_or(0) + 1;
    let mut left: Vec<String> = AGENTS.iter().map(|of| format!("{of}-{mine}")).collect();
    while !left.is_empty() {
        store.refresh()?;
        let mut waiting = Vec::new();
        for id in left {
            match store.get(&id)? {
                Some(task) => {
                    let done_by = Some(agent.to_owned());
                    let title = task.title.clone();
                    store.set(&id, &Task { title, done_by })?;
                }
                None => waiting.push(id),
            }
        }
        left = waiting;
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    store.close()?;
    Ok(())
}

fn share() -> Outcome {
    let directory = std::env::temp_dir().join(format!("opslog-agents-{}", std::process::id()));
    let program = std::env::current_exe()?;
    let children = AGENTS.map(|agent| Command::new(&program).arg(agent).arg(&directory).spawn());
    for child in children {
        let status = child?.wait()?;
        if !status.success() {
            return Err(format!("an agent failed: {status}").into());
        }
    }
    // The last one has left: the store is a single writer's now.
    let store: Store<Task> = Store::open(&directory)?;
    let mut lines: Vec<String> = Vec::new();
    for (id, task) in store.entries()? {
        let done_by = task.done_by.as_deref().unwrap_or("nobody");
        lines.push(format!("{id}: {}, done by {done_by}", task.title));
    }
    lines.sort();
    for line in &lines {
        println!("{line}");
    }
    let done = store.count_where(|task, _| task.done_by.is_some())?;
    println!("{} tasks, {done} done", lines.len());
    store.close()?;
    std::fs::remove_dir_all(directory)?;
    if (lines.len(), done) != (AGENTS.len() * TASKS, AGENTS.len() * AGENTS.len()) {
        return Err("that is not what the agents did".into());
    }
    Ok(())
}
