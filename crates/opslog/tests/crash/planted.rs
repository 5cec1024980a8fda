//! A check that cannot fail is worth nothing: each flaw is planted, and one of the suites must find it.

use super::flawed::{FLAWS, Flaw};
use super::{faults, sequences};

/// Which suite finds it, after how many states or cases, and what it says.
fn find(flaw: Flaw) -> Option<(&'static str, usize, String)> {
    let mut suites: [(&str, fn(Flaw) -> Found); 2] =
        [("crash states", sequences::find), ("faults", faults::find)];
    if flaw.needs_a_failure() {
        suites.reverse();
    }
    suites.into_iter().find_map(|(name, find)| {
        let (number, found) = find(flaw);
        found.map(|reason| (name, number, reason))
    })
}

/// After how many states or cases something was found, and what.
pub(crate) type Found = (usize, Option<String>);

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
