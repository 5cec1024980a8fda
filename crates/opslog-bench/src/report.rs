//! What is printed: Markdown tables, or JSON.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::thread;

use serde_json::{Value, json};

use crate::Result;
use crate::goals::{self, Verdict};
use crate::runner::Results;
use crate::statistics::{median, spread};
use crate::subjects::OPSLOG;
use crate::workloads::{Figure, Unit};

/// Where it was measured.
pub(crate) struct Machine {
    cores: usize,
    directory: String,
    file_system: String,
    load_before: String,
    rounds: u32,
}

impl Machine {
    pub(crate) fn of(directory: &Path, rounds: u32) -> Result<Self> {
        Ok(Self {
            cores: thread::available_parallelism()?.get(),
            directory: directory.display().to_string(),
            file_system: file_system(directory)?,
            load_before: load()?,
            rounds,
        })
    }
}

/// The load averages of the last 1, 5 and 15 minutes.
fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let averages: Vec<&str> = text.split_whitespace().take(3).collect();
    Ok(averages.join(", "))
}

/// The type of the file system that a directory is on.
fn file_system(directory: &Path) -> Result<String> {
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let longest = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(place, _)| directory.starts_with(place))
        .max_by_key(|(place, _)| place.len());
    Ok(longest.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned()))
}

pub(crate) fn print_machine(machine: &Machine) -> Result<()> {
    let mut out = io::stdout();
    writeln!(
        out,
        "{} cores, {} rounds, {} ({}), load average {}",
        machine.cores, machine.rounds, machine.file_system, machine.directory, machine.load_before
    )?;
    if ["tmpfs", "ramfs", "overlay"].contains(&machine.file_system.as_str()) {
        writeln!(
            out,
            "NOTE: this file system may not reach a disk; choose a directory with --dir"
        )?;
    }
    Ok(())
}

/// Prints the part of the performance page that is measured.
pub(crate) fn print_page(machine: &Machine, all: &[Results]) -> Result<()> {
    let mut out = io::stdout();
    print_machine(machine)?;
    writeln!(out, "\n{}\n", versions().join(", "))?;
    let heading = ["", "figure", "goal", "measured", "met"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for results in all {
        for figure in results.workload.figures {
            rows.extend(verdicts(results, figure).map(|verdict| {
                vec![
                    results.workload.id.to_owned(),
                    figure.title.to_owned(),
                    verdict.goal.clone(),
                    verdict.show(figure),
                    if verdict.is_met { "yes" } else { "**no**" }.to_owned(),
                ]
            }));
        }
    }
    write_table(&mut out, &rows)?;
    all.iter().try_for_each(print)
}

/// The versions of the peers that were built in.
fn versions() -> Vec<String> {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let version = |name: &str| {
        let (_, package) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", package.split_once('"')?.0))
    };
    let peers = ["rusqlite", "redb", "fjall", "heed"];
    let mut versions: Vec<String> = peers.into_iter().filter_map(version).collect();
    versions.push(format!("SQLite {}", rusqlite::version()));
    versions
}

/// Prints the tables of one workload.
pub(crate) fn print(results: &Results) -> Result<()> {
    let mut out = io::stdout();
    let workload = results.workload;
    writeln!(out, "\n## {}: {}", workload.id, workload.title)?;
    writeln!(out, "size {}", results.size)?;
    for failure in &results.failures {
        writeln!(out, "\nFAILURE: {failure}")?;
    }
    for figure in workload.figures {
        writeln!(out, "\n{} ({})\n", figure.title, figure.unit.name())?;
        write_table(&mut out, &table(results, figure))?;
        writeln!(out)?;
        for verdict in verdicts(results, figure) {
            let word = if verdict.is_met { "met" } else { "MISSED" };
            writeln!(
                out,
                "- {word}: {}; measured {}",
                verdict.goal,
                verdict.show(figure)
            )?;
        }
    }
    Ok(())
}

fn verdicts<'a>(results: &'a Results, figure: &'a Figure) -> impl Iterator<Item = Verdict> + 'a {
    let judge = |goal| goals::judge(results, figure, goal);
    figure.goals.iter().copied().filter_map(judge)
}

impl Verdict {
    fn show(&self, figure: &Figure) -> String {
        if self.goal.contains('×') {
            format!("{} ×", significant(self.measured))
        } else {
            figure.unit.show(self.measured)
        }
    }
}

/// The rows of one figure, the heading first.
fn table(results: &Results, figure: &Figure) -> Vec<Vec<String>> {
    let limit = results.subjects().find(|name| name.starts_with("limit"));
    let mut heading = vec!["", "median", "min to max", "CPU s", "peak MiB"];
    heading.extend(limit.map(|_| "of limit"));
    heading.push("opslog is better by");
    let mut rows = vec![heading.into_iter().map(str::to_owned).collect()];
    for name in results.subjects() {
        let values = results.values(name, figure.key);
        let (Some(middle), Some((least, most))) = (median(&values), spread(&values)) else {
            continue;
        };
        let ratio = |name: &str, other: &str| {
            goals::better(results, figure, name, other)
                .map_or_else(String::new, |ratio| format!("{} ×", significant(ratio)))
        };
        let cpu = median(&results.cpu_seconds(name, figure.key)).unwrap_or(0.0);
        let mut row = vec![
            name.to_owned(),
            figure.unit.show(middle),
            format!("{} to {}", figure.unit.show(least), figure.unit.show(most)),
            if cpu > 0.0 {
                format!("{cpu:.3}")
            } else {
                String::new()
            },
            (results.peak_bytes(name) >> 20).to_string(),
        ];
        row.extend(limit.map(|limit| ratio(name, limit)));
        row.push(if name == OPSLOG {
            String::new()
        } else {
            ratio(OPSLOG, name)
        });
        rows.push(row);
    }
    rows
}

/// Writes rows as a Markdown table: the first is the heading, the first column is text and the others are numbers.
pub(crate) fn write_table(out: &mut impl Write, rows: &[Vec<String>]) -> Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        writeln!(out, "| {} |", cells.join(" | "))?;
        if number == 0 {
            let rule = |(column, width): (usize, &usize)| match column {
                0 => "-".repeat(width + 2),
                _ => format!("{}:", "-".repeat(width + 1)),
            };
            let rules: Vec<String> = widths.iter().enumerate().map(rule).collect();
            writeln!(out, "|{}|", rules.join("|"))?;
        }
    }
    Ok(())
}

/// The results of one workload as JSON, every round's values among them.
pub(crate) fn to_json(results: &Results) -> Value {
    let figures: Vec<Value> = results
        .workload
        .figures
        .iter()
        .map(|figure| {
            let subject = |name: &str| {
                let values = results.values(name, figure.key);
                json!({
                    "subject": name,
                    "median": median(&values),
                    "values": values,
                    "cpu_seconds": median(&results.cpu_seconds(name, figure.key)),
                    "peak_bytes": results.peak_bytes(name),
                    "opslog_is_better_by": goals::better(results, figure, OPSLOG, name),
                })
            };
            let verdict = |verdict: Verdict| {
                json!({"goal": verdict.goal, "measured": verdict.measured, "met": verdict.is_met})
            };
            json!({
                "figure": figure.key,
                "title": figure.title,
                "unit": figure.unit.name(),
                "subjects": results.subjects().map(subject).collect::<Vec<_>>(),
                "goals": verdicts(results, figure).map(verdict).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "workload": results.workload.id,
        "title": results.workload.title,
        "size": results.size,
        "failures": results.failures,
        "figures": figures,
    })
}

pub(crate) fn print_json(machine: &Machine, workloads: &[Value]) -> Result<()> {
    let report = json!({
        "cores": machine.cores,
        "file_system": machine.file_system,
        "load_before": machine.load_before,
        "load_after": load()?,
        "rounds": machine.rounds,
        "workloads": workloads,
    });
    writeln!(io::stdout(), "{report:#}")?;
    Ok(())
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "per second",
            Self::Seconds => "time",
            Self::Bytes => "MiB",
            Self::Times => "times",
        }
    }

    /// A value, with its unit where the size decides about it.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{value:.0}"),
            Self::Bytes => format!("{:.1}", value / (1024.0 * 1024.0)),
            Self::Times => significant(value),
            Self::Seconds if value >= 1.0 => format!("{value:.2} s"),
            Self::Seconds if value >= 1e-3 => format!("{} ms", significant(value * 1e3)),
            Self::Seconds if value >= 1e-6 => format!("{} µs", significant(value * 1e6)),
            Self::Seconds => format!("{:.0} ns", value * 1e9),
        }
    }
}

/// Three digits or so.
fn significant(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
