//! How opslog's figures grow with the store.

use std::io::{self, Write};

use crate::Result;
use crate::args::Arguments;
use crate::report;
use crate::runner::Runner;
use crate::statistics::median;
use crate::subjects::OPSLOG;
use crate::workloads::{self, Growth};

/// Documents, or operations.
const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Runs each workload for opslog alone at each size, and prints one table.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let runner = Runner::new(arguments)?;
    let largest = arguments.size.unwrap_or(u32::MAX);
    let sizes: Vec<u32> = SIZES.into_iter().filter(|size| *size <= largest).collect();
    let mut heading = vec![String::new()];
    heading.extend(sizes.iter().map(ToString::to_string));
    let mut rows = vec![heading];
    let mut all_well = true;
    for workload in workloads::chosen(&arguments.only)? {
        let mut lines: Vec<Vec<String>> = workload
            .figures
            .iter()
            .map(|figure| vec![format!("{}: {}", workload.id, figure.title)])
            .collect();
        for &size in &sizes {
            let (operations, before) = match workload.growth {
                Growth::Size => (size, 0),
                Growth::Before => (workload.sizes.0, size),
            };
            let results = runner.run_subjects(workload, &[OPSLOG], operations, before);
            all_well &= results.failures.is_empty();
            for failure in &results.failures {
                writeln!(io::stderr(), "{} at {size}: {failure}", workload.id)?;
            }
            for (figure, line) in workload.figures.iter().zip(&mut lines) {
                let value = median(&results.values(OPSLOG, figure.key));
                line.push(value.map_or_else(String::new, |value| figure.unit.show(value)));
            }
        }
        rows.extend(lines);
    }
    if arguments.json {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(all_well);
    }
    report::print_machine(&runner.machine)?;
    report::write_table(&mut io::stdout(), &rows)?;
    Ok(all_well)
}
