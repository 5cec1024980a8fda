// Documents of about 200 bytes, and stores of them.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Store } from "../index.js";

export const idOf = (number) => `task-${String(number).padStart(7, "0")}`;

export function documentOf(number) {
  return {
    title: `Task number ${number}`, status: number % 3 === 0 ? "done" : "active", priority: number % 5, assignee: `person-${number % 97}`,
    tags: ["alpha", `tag-${number % 11}`], created: "2026-01-01T00:00:00.000Z", body: "Lorem ipsum dolor sit amet, consectetur adipiscing elit",
  };
}

export const temporary = () => mkdtempSync(join(process.env.BENCH_DIR ?? tmpdir(), "opslog-bench-"));
export const remove = (directory) => rmSync(directory, { recursive: true, force: true });

/** A directory with `count` documents, in the snapshot or in the log. */
export async function storeOf(count, where) {
  const directory = temporary();
  const store = new Store();
  await store.open(directory, { writeMode: "async", osBuffered: true, checkpointThreshold: Number.MAX_SAFE_INTEGER, checkpointOnClose: false });
  for (let number = 0; number < count; number += 1) {
    await store.set(idOf(number), documentOf(number));
    if (number % 10_000 === 0) await store.flush();
  }
  await store.close();
  if (where === "snapshot") {
    // As a store with the usual options leaves it.
    await store.open(directory, { osBuffered: true });
    await store.compact();
    await store.close();
  }
  return directory;
}
