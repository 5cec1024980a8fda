//! A check that cannot fail is worth nothing: each flaw is planted, and one of the suites must find it.

use super::flawed::{FLAWS, Flaw, plant};
use super::{faults, sequences};

/// Which suite finds it, and after how many states or cases.
fn find(flaw: Flaw) -> Option<(&'static str, usize, String)> {
    let (states, found) = sequences::find(flaw);
    if let Some(reason) = found {
        return Some(("crash states", states, reason));
    }
    plant(Some(flaw));
    let (cases, found) = faults::find();
    plant(None);
    found.map(|reason| ("faults", cases, reason))
}

#[test]
fn every_planted_flaw_is_found() {
    let mut missed = Vec::new();
    for flaw in FLAWS {
        if let Some((suite, number, reason)) = find(flaw) {
            // Behind the place where it happened.
            let reason = reason.lines().next().unwrap_or_default();
            let reason = reason
                .split_once("]: ")
                .map_or(reason, |(_, reason)| reason);
            let reason = reason
                .split_once("): ")
                .map_or(reason, |(_, reason)| reason);
            let name = format!("{flaw:?}");
            eprintln!("{name:<32} {suite:<12} {number:>7}  {reason:.100}");
        } else {
            missed.push(flaw);
        }
    }
    assert!(missed.is_empty(), "nobody finds {missed:?}");
}
