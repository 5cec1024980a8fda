// Asserts that both implementations see the same in a directory.

import assert from "node:assert/strict";
import { allow } from "../intended-differences.mjs";
import { canonical } from "./canonical.mjs";
import { archiveOnDisk } from "./directories.mjs";

/** The order in which a JavaScript object lists its keys: ids such as "10" first. */
export function inReferenceOrder(entries) {
  const order = Object.keys(Object.fromEntries(entries.map(([id]) => [id, true])));
  const documents = new Map(entries);
  return order.map((id) => [id, documents.get(id)]);
}

function assertSame(reference, ours, what) {
  assert.deepEqual(ours.map(canonical), reference.map(canonical), what);
}

/**
 * Where a period has several files, the reference finds only one of them by name. It has the others, though: then what
 * the manifest's files hold stands for what the reference shows.
 */
export function withWholeArchives(observation, directory) {
  const archives = observation.archives.map(([period, entries]) => {
    const { documents, files } = archiveOnDisk(directory, period);
    if (files < 2) return [period, entries];
    allow("period-in-several-files");
    return [period, documents];
  });
  return { ...observation, archives };
}

/** As `assertSameObservation`, of what the reference's agents wrote: ours merges in logs that the reference has replaced, and folds what it opens for writing. */
export function assertSameOfAgents(reference, ours, where = "") {
  assertSame(reference.documents, ours.documents, `documents ${where}`);
  const known = new Set(reference.operations.map(canonical));
  const shared = ours.operations.filter((operation) => known.has(canonical(operation)));
  assertSame(reference.operations, shared, `operations ${where}`);
  assert.deepEqual(ours.stats.activeRecords, reference.stats.activeRecords, `stats ${where}`);
}

/** Documents and archives are equal and in order; ours has at least the operations that the reference has. */
export function assertSameObservation(reference, ours, where = "") {
  assertSame(reference.documents, ours.documents, `documents ${where}`);
  const reached = ours.operations.slice(ours.operations.length - reference.operations.length);
  assertSame(reference.operations, reached, `operations ${where}`);
  const inOrder = (archives) => archives.map(([period, entries]) => [period, inReferenceOrder(entries)]);
  assertSame(inOrder(reference.archives), inOrder(ours.archives), `archives ${where}`);
  assert.deepEqual(ours.stats, reference.stats, `stats ${where}`);
}
