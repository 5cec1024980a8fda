//! Clocks and counters of this process, and what a child process reports of one run.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Wall time and the CPU time of all threads of this process, since `start`.
pub(crate) struct Stopwatch {
    wall: Instant,
    cpu_seconds: f64,
}

/// What a stopwatch shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elapsed {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            cpu_seconds: process_cpu_seconds(),
            wall: Instant::now(),
        }
    }

    pub(crate) fn elapsed(&self) -> Elapsed {
        Elapsed {
            seconds: self.wall.elapsed().as_secs_f64(),
            cpu_seconds: process_cpu_seconds() - self.cpu_seconds,
        }
    }
}

fn process_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// One figure of one run, in the unit of its [`Figure`](crate::workloads::Figure).
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) value: f64,
    pub(crate) cpu_seconds: f64,
}

/// A count of documents and a sum over a hash of each id and document, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checksum {
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

impl Checksum {
    pub(crate) fn add(&mut self, id: &str, document: &str) {
        self.count += 1;
        self.sum += u64::from(fnv1a(
            fnv1a(0x811c_9dc5, id.as_bytes()),
            document.as_bytes(),
        ));
    }
}

/// FNV-1a with 32 bits, because JavaScript can do it as fast.
fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// What one subject did in one round, in a process of its own.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) figures: BTreeMap<String, Measured>,
    /// The documents afterwards; equal for all subjects that did the same work.
    pub(crate) checksum: Option<Checksum>,
    /// The most memory that the process had, at the end of what was measured.
    pub(crate) peak_bytes: u64,
}

impl Outcome {
    /// Notes that `count` operations took `elapsed`, as a rate.
    pub(crate) fn rate(&mut self, key: &str, count: u64, elapsed: Elapsed) {
        self.value(key, count as f64 / elapsed.seconds, elapsed.cpu_seconds);
    }

    /// Notes the time that something took, divided by how often it was done.
    pub(crate) fn time(&mut self, key: &str, count: u64, elapsed: Elapsed) {
        self.value(key, elapsed.seconds / count as f64, elapsed.cpu_seconds);
    }

    /// Notes a figure that is neither, and the memory so far.
    pub(crate) fn value(&mut self, key: &str, value: f64, cpu_seconds: f64) {
        self.figures
            .insert(key.to_owned(), Measured { value, cpu_seconds });
        self.peak_bytes = peak_memory().unwrap_or(0);
    }
}

/// The most memory this process had resident, in bytes: of its own, and pages of mapped files.
pub(crate) fn peak_memory() -> Result<u64> {
    status("VmHWM:")
}

/// The memory this process has resident now, in bytes.
pub(crate) fn resident_memory() -> Result<u64> {
    status("VmRSS:")
}

/// Makes the present memory the peak.
pub(crate) fn reset_peak_memory() -> Result<()> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}

/// Bytes that this process handed to `write` and its kin so far.
pub(crate) fn written_bytes() -> Result<u64> {
    number_after("/proc/self/io", "wchar:")
}

fn status(key: &str) -> Result<u64> {
    Ok(number_after("/proc/self/status", key)? * 1024)
}

fn number_after(path: &str, key: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or_else(|| format!("{path} has no {key}"))?;
    Ok(number.parse()?)
}
