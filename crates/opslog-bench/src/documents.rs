//! The documents that every subject stores: about 200 bytes, the same in `reference/documents.mjs`.
//!
//! Invariant: a document is a function of its number and its revision, so that every subject, in whatever language, gets the same ones,
//! and a revision changes two small fields, as an edit of a task does.

use serde::{Deserialize, Serialize};

/// One document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) title: String,
    pub(crate) status: String,
    pub(crate) priority: u32,
    pub(crate) assignee: String,
    pub(crate) tags: Vec<String>,
    pub(crate) created: String,
    pub(crate) body: String,
}

const VERBS: [&str; 8] = [
    "Build", "Review", "Document", "Measure", "Rewrite", "Test", "Ship", "Plan",
];
const NOUNS: [&str; 16] = [
    "parser",
    "log reader",
    "checkpoint",
    "release",
    "index",
    "command line",
    "importer",
    "website",
    "benchmark",
    "lock file",
    "manifest",
    "archive",
    "tutorial",
    "changelog",
    "backend",
    "recovery",
];
const STATUSES: [&str; 4] = ["open", "active", "blocked", "done"];
const ASSIGNEES: [&str; 8] = [
    "ada", "grace", "edsger", "barbara", "donald", "frances", "tony", "leslie",
];
const TAGS: [&str; 8] = [
    "api", "cli", "docs", "storage", "urgent", "later", "tests", "design",
];
const WORDS: [&str; 16] = [
    "the", "writer", "waits", "until", "every", "reader", "has", "seen", "what", "was", "synced",
    "before", "it", "answers", "again", "twice",
];

/// Spreads the bits of a number (`lowbias32` of <https://nullprogram.com/blog/2018/07/31/>).
pub(crate) fn mix(number: u32) -> u32 {
    let mut x = number;
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The number of the document that the `step`-th access of a random sequence goes to.
pub(crate) fn random_number(step: u32, documents: u32) -> u32 {
    mix(step ^ 0x5bd1_e995) % documents
}

/// The id of a document.
pub(crate) fn id(number: u32) -> String {
    format!("task-{number:07}")
}

/// The document of a number at a revision.
pub(crate) fn task(number: u32, revision: u32) -> Task {
    let h = mix(number);
    let g = mix(h ^ 0x9e37_79b9);
    let body: Vec<&str> = (0..10)
        .map(|place| pick(&WORDS, (if place < 5 { g } else { h }) >> (place % 5 * 6)))
        .collect();
    Task {
        title: format!("{} {} {number}", pick(&VERBS, h), pick(&NOUNS, h >> 3)),
        status: pick(&STATUSES, number.wrapping_add(revision)).to_owned(),
        priority: (h >> 7) % 5 + revision,
        assignee: pick(&ASSIGNEES, h >> 10).to_owned(),
        tags: vec![
            pick(&TAGS, h >> 13).to_owned(),
            pick(&TAGS, h >> 16).to_owned(),
        ],
        created: format!(
            "2026-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            g % 12 + 1,
            (g >> 4) % 28 + 1,
            (g >> 9) % 24,
            (g >> 14) % 60,
            (g >> 20) % 60,
            h % 1000
        ),
        body: body.join(" "),
    }
}

/// The documents `first..first + count` with their ids, at a revision.
pub(crate) fn tasks(first: u32, count: u32, revision: u32) -> Vec<(String, Task)> {
    (first..first + count)
        .map(|number| (id(number), task(number, revision)))
        .collect()
}

/// The predicate of the filter workload: one document in eight or so.
pub(crate) fn is_wanted(task: &Task) -> bool {
    task.status == "active" && task.priority < 3
}

fn pick<'a>(from: &[&'a str], index: u32) -> &'a str {
    from[index as usize % from.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_about_200_bytes() {
        let total: usize = (0..1000)
            .map(|number| serde_json::to_string(&task(number, 0)).unwrap().len())
            .sum();
        assert!((190_000..240_000).contains(&total), "{total}");
    }
}
