// The documents that every subject stores: the same as in ../src/documents.rs.

const verbs = ["Build", "Review", "Document", "Measure", "Rewrite", "Test", "Ship", "Plan"];
const nouns = [
  "parser", "log reader", "checkpoint", "release", "index", "command line", "importer", "website",
  "benchmark", "lock file", "manifest", "archive", "tutorial", "changelog", "backend", "recovery",
];
const statuses = ["open", "active", "blocked", "done"];
const assignees = ["ada", "grace", "edsger", "barbara", "donald", "frances", "tony", "leslie"];
const tags = ["api", "cli", "docs", "storage", "urgent", "later", "tests", "design"];
const words = [
  "the", "writer", "waits", "until", "every", "reader", "has", "seen",
  "what", "was", "synced", "before", "it", "answers", "again", "twice",
];

const pick = (from, index) => from[index % from.length];
const padded = (number, digits) => String(number).padStart(digits, "0");

/** Spreads the bits of a number. */
export function mix(number) {
  let x = number >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** The number of the document that the `step`-th access of a random sequence goes to. */
export const randomNumber = (step, documents) => mix((step ^ 0x5bd1e995) >>> 0) % documents;

/** The id of a document. */
export const id = (number) => `task-${padded(number, 7)}`;

/** The document of a number at a revision. */
export function task(number, revision) {
  const h = mix(number);
  const g = mix((h ^ 0x9e3779b9) >>> 0);
  const body = [];
  for (let place = 0; place < 10; place += 1) {
    body.push(pick(words, (place < 5 ? g : h) >>> ((place % 5) * 6)));
  }
  const date = `2026-${padded((g % 12) + 1, 2)}-${padded(((g >>> 4) % 28) + 1, 2)}`;
  const time = `${padded((g >>> 9) % 24, 2)}:${padded((g >>> 14) % 60, 2)}:${padded((g >>> 20) % 60, 2)}`;
  return {
    title: `${pick(verbs, h)} ${pick(nouns, h >>> 3)} ${number}`,
    status: pick(statuses, number + revision),
    priority: ((h >>> 7) % 5) + revision,
    assignee: pick(assignees, h >>> 10),
    tags: [pick(tags, h >>> 13), pick(tags, h >>> 16)],
    created: `${date}T${time}.${padded(h % 1000, 3)}Z`,
    body: body.join(" "),
  };
}

/** Ids and documents `first` to `first + count`, at a revision. */
export function tasks(first, count, revision) {
  const all = [];
  for (let number = first; number < first + count; number += 1) {
    all.push([id(number), task(number, revision)]);
  }
  return all;
}

/** The predicate of the filter workload. */
export const isWanted = (document) => document.status === "active" && document.priority < 3;
