// What a store's directory holds, read by the documented format and by nobody's code.

import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A new empty directory that is removed when the test that asked for it ends. */
export function temporaryDirectory(testContext) {
  const directory = mkdtempSync(join(tmpdir(), "opslog-compat-"));
  testContext?.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A copy of a store, so that opening it cannot change the original. Locks are not copied. */
export function copyOf(directory, testContext) {
  const copy = temporaryDirectory(testContext);
  cpSync(directory, copy, { recursive: true, filter: (source) => !/[/\\]\.(opslog\.)?lock$/.test(source) });
  return copy;
}

/** Every file of a directory and its bytes. */
export function contentOf(directory) {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files.map(({ parentPath, path, name }) => join(parentPath ?? path, name)).sort().map((path) => [path, readFileSync(path, "latin1")]);
}

/** The manifest as it lies on disk. */
export function readManifest(directory) {
  return JSON.parse(readFileSync(join(directory, "manifest.json"), "utf8"));
}

/** The path of the log that the manifest says is written to. */
export function activeLogPath(directory) {
  return join(directory, readManifest(directory).activeOps);
}

/** The single-writer logs, oldest first: the number in the name is the time of creation. */
export function logPaths(directory) {
  const folder = join(directory, "ops");
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .map((name) => ({ name, created: Number(/^ops-(\d+)\.jsonl$/.exec(name)?.[1]) }))
    .filter(({ created }) => Number.isInteger(created))
    .sort((left, right) => left.created - right.created)
    .map(({ name }) => join(folder, name));
}

/** The operations of a log's well-formed lines; blank and torn lines are left out. */
export function operationsIn(path) {
  const operations = [];
  for (const line of readFileSync(path, "utf8").split("\n")) {
    try {
      if (line.trim() !== "") operations.push(JSON.parse(line));
    } catch {
      // A torn line: nothing that was acknowledged.
    }
  }
  return operations;
}

/** The periods of the archive segments that the manifest lists, each once. */
export function archivePeriods(directory) {
  return [...new Set(readManifest(directory).archiveSegments.map(periodOf))];
}

/** The documents of a period from all its files, later files winning; and how many files there are. */
export function archiveOnDisk(directory, period) {
  const paths = readManifest(directory).archiveSegments.filter((path) => periodOf(path) === period);
  const documents = new Map();
  for (const path of paths) {
    const { records } = JSON.parse(readFileSync(join(directory, path), "utf8"));
    for (const [id, document] of Object.entries(records)) documents.set(id, document);
  }
  return { documents: [...documents], files: paths.length };
}

/** The period in an archive segment's path: `archive/archive-2026-Q4.json` is `2026-Q4`. */
export function periodOf(path) {
  return /^archive\/archive-(.*?)(\.\d+)?\.json$/.exec(path)[1];
}
