// Small histories of a store, each for one thing that a directory can hold. Either implementation can
// write them: the reference's become fixtures, and both are written anew and read by the other.

import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { activeLogPath, readManifest } from "./directories.mjs";
import { RemoteStore } from "./line-client.mjs";

/** Text long enough that a reverse patch is shorter than the document. */
const body = "a document long enough that the previous value is stored as a reverse patch";

const keepLog = { checkpointOnClose: false };

/** Writes stores with one implementation, each in a process of its own. `start` starts such a process. */
export class Writer {
  constructor(start) {
    this.start = start;
  }

  /** Opens, works and closes. */
  async closed(directory, options, work) {
    await this.#inProcess(directory, [options], async (client, [store]) => {
      await work(store);
      await store.close();
      await client.end();
    });
  }

  /** Opens and works with as many stores as there are options, and is killed without closing any. */
  async killed(directory, options, work) {
    await this.#inProcess(directory, [options].flat(), async (client, stores) => {
      await work(...stores);
      await client.kill();
    });
  }

  async #inProcess(directory, optionsOfStores, work) {
    const client = this.start();
    try {
      const stores = optionsOfStores.map((_, index) => new RemoteStore(client, `store-${index}`));
      for (const [index, options] of optionsOfStores.entries()) await stores[index].open(directory, options);
      await work(client, stores);
    } catch (error) {
      await client.kill();
      throw error;
    }
  }
}

/** Creates, updates, deletes and puts back. */
export async function writeLittleOfEverything(store) {
  await store.set("task-1", { title: "one", body, done: false });
  await store.set("task-2", { title: "two", tags: ["x", "y"], nested: { deep: { value: 1.5 } } });
  await store.set("task-3", { title: "three", nothing: null });
  await store.set("task-1", { title: "one", body, done: true });
  await store.delete("task-2");
  await store.set("task-4", { title: "four" });
  await store.set("task-2", { title: "two again" });
}

function writeMode(mode) {
  return async (writer, directory) => {
    const options = { writeMode: mode, groupCommitSize: 3, groupCommitMs: 10 };
    await writer.closed(directory, options, writeLittleOfEverything);
    await writer.closed(directory, { ...options, ...keepLog }, async (store) => {
      await store.set("task-5", { title: "five" });
      await store.set("task-1", { title: "one", body, done: false, reopened: 1 });
      await store.delete("task-3");
    });
  };
}

/** The current snapshot is rewritten by hand in the form that earlier versions wrote. */
function legacySnapshot(indent) {
  return async (writer, directory) => {
    await writer.closed(directory, {}, async (store) => {
      await store.set("old-1", { title: "one", tags: ["x"] });
      await store.set("old-2", { title: "two", nested: { value: 0.25 } });
      await store.set("multi\nline \"id\"", { title: "three" });
      await store.set("empty", {});
      await store.set("old-3", { title: "deleted after the snapshot" });
    });
    const path = join(directory, readManifest(directory).currentSnapshot);
    const [header, ...lines] = readFileSync(path, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
    const records = Object.fromEntries(lines.map(({ id, data }) => [id, data]));
    writeFileSync(path, JSON.stringify({ ...header, records }, null, indent));
    await writer.closed(directory, keepLog, async (store) => {
      await store.set("after", { title: "written after the snapshot" });
      await store.set("old-1", { title: "updated after the snapshot" });
      await store.delete("old-3");
    });
  };
}

async function writeAsTwoAgents(first, second) {
  await first.set("from-a", { title: "one", body, done: false });
  await second.set("from-b", { title: "two" });
  await first.set("shared", { writer: "A", round: 1 });
  await second.refresh();
  await second.set("shared", { writer: "B", round: 2 });
  await first.refresh();
  await first.set("from-a", { title: "one", body, done: true });
  await first.set("gone", { title: "soon deleted" });
  await first.delete("gone");
}

/** Ids that parsers stumble over. */
export const awkwardIds = ["__proto__", "constructor", "emoji 😀🏳️‍🌈", "new\nline", "tab\tand \"quotes\" \\", "10", "9",
  "007", "\u2028\u2029", "é", "e\u0301", " ", "\u0000\u001f", "日本語", "x".repeat(300)];

/**
 * By name: what it is `about` and how to `write` it. `agents`: several agents write. `byReferenceOnly`: only
 * the reference's files can be brought into that shape. `keepsLock`: the `.lock` is part of it.
 */
export const scenarios = {
  "immediate": { about: "immediate mode: a checkpoint, then a log", write: writeMode("immediate") },
  "group": { about: "group mode: a checkpoint, then a log", write: writeMode("group") },
  "async": { about: "async mode: a checkpoint, then a log", write: writeMode("async") },
  "batch": {
    about: "batches, one of them failed and rolled back, in the log",
    write: (writer, directory) => writer.closed(directory, keepLog, async (store) => {
      await store.set("before", { n: 0 });
      await store.batch([
        { op: "set", id: "a", document: { n: 1, body } },
        { op: "set", id: "b", document: { n: 2 } },
        { op: "set", id: "a", document: { n: 3, body } },
        { op: "delete", id: "before" },
      ]);
      await store.batch([{ op: "set", id: "never", document: { n: 4 } }, { op: "fail" }]).catch(() => {});
      await store.batch([{ op: "set", id: "c", document: { n: 5 } }]);
    }),
  },
  "delta": {
    about: "reverse patches: changed, added and removed keys, an undo of one, a delete with the full document",
    write: (writer, directory) => writer.closed(directory, keepLog, async (store) => {
      await store.set("doc", { title: "one", body, count: 1 });
      await store.set("doc", { title: "one", body, count: 2 });
      await store.set("doc", { title: "one", body, count: 2, added: [1, 2, 3] });
      await store.set("doc", { title: "one", body });
      await store.set("doc", { title: "undone", body });
      await store.undo();
      await store.set("other", { body, "$set": 1, "$unset": ["body"] });
      await store.set("other", { body, "$set": 2, "$unset": ["body"] });
      await store.set("removed", { body });
      await store.delete("removed");
    }),
  },
  "archive": {
    about: "two archive segments, and a document set again after it was archived",
    write: (writer, directory) => writer.closed(directory, keepLog, async (store) => {
      await writeLittleOfEverything(store);
      await store.archive(["task-1"], "2025-Q1");
      await store.archive(["task-3"], "2025-Q2");
      await store.set("task-1", { title: "a new one" });
    }),
  },
  "archive-merged": {
    about: "one archive segment archived to three times, a document twice",
    write: (writer, directory) => writer.closed(directory, keepLog, async (store) => {
      await writeLittleOfEverything(store);
      await store.archive(["task-1"], "2025-Q1");
      await store.archive(["task-3"], "2025-Q1");
      await store.set("task-1", { title: "archived again" });
      await store.archive(["task-1", "task-4"], "2025-Q1");
      await store.set("task-9", { title: "after the archives" });
    }),
  },
  "legacy-one-line": {
    about: "a snapshot in the legacy format on one line, and a log",
    byReferenceOnly: true,
    write: legacySnapshot(undefined),
  },
  "legacy-pretty": {
    about: "a snapshot in the legacy format, pretty-printed, and a log",
    byReferenceOnly: true,
    write: legacySnapshot(2),
  },
  "unclean": {
    about: "the writer was killed: .lock is left, and a log after a checkpoint",
    keepsLock: true,
    write: (writer, directory) => writer.killed(directory, {}, async (store) => {
      await writeLittleOfEverything(store);
      await store.compact();
      await store.set("task-6", { title: "six", body });
      await store.set("task-6", { title: "seven", body });
      await store.delete("task-4");
    }),
  },
  "torn-tail": {
    about: "the last line of the log was cut in the middle",
    write: async (writer, directory) => {
      await writer.closed(directory, keepLog, async (store) => {
        await writeLittleOfEverything(store);
        await store.set("torn", { title: "this line loses its end", body });
      });
      const path = activeLogPath(directory);
      truncateSync(path, readFileSync(path).length - 40);
    },
  },
  "unicode": {
    about: "ids and documents that parsers stumble over, in the snapshot and in the log",
    write: async (writer, directory) => {
      await writer.closed(directory, {}, async (store) => {
        for (const id of awkwardIds) await store.set(id, { id, body });
      });
      await writer.closed(directory, keepLog, async (store) => {
        for (const id of awkwardIds) await store.set(`${id}2`, { id });
        for (const id of awkwardIds) await store.set(id, { id, body, changed: "é😀\n\u2028\u0000" });
        await store.set("numbers", { values: [0, -0, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 9007199254740993] });
        await store.set("keys", { "": 1, " ": 2, "10": 3, "9": 4, "é": 5, "\n": 6 });
        await store.delete("007");
      });
    },
  },
  "checkpoints": {
    about: "several checkpoints by threshold: the replaced snapshots and logs are still there",
    write: (writer, directory) => writer.closed(directory, { ...keepLog, checkpointThreshold: 5 }, async (store) => {
      for (let number = 0; number < 23; number += 1) await store.set(`doc-${number % 7}`, { number, body });
      await store.delete("doc-0");
    }),
  },
  "version-2": {
    about: "a store migrated from version 1 to 2, and a log written after that",
    write: async (writer, directory) => {
      await writer.closed(directory, { version: 1 }, writeLittleOfEverything);
      const migrated = { version: 2, migrate: "stamp" };
      await writer.closed(directory, migrated, (store) => store.set("task-7", { title: "seven" }));
      await writer.closed(directory, { ...migrated, ...keepLog }, (store) => store.set("task-8", { title: "eight" }));
    },
  },
  "multi-agent": {
    about: "two agents, one after the other, both closed",
    agents: true,
    write: async (writer, directory) => {
      await writer.closed(directory, { agentId: "agent-A" }, async (store) => {
        await store.set("from-a", { title: "one", body });
        await store.set("shared", { writer: "A" });
      });
      await writer.closed(directory, { agentId: "agent-B", ...keepLog }, async (store) => {
        await store.set("from-b", { title: "two" });
        await store.set("shared", { writer: "B" });
      });
    },
  },
  "multi-agent-unclosed": {
    about: "two agents at once, killed before they closed",
    agents: true,
    write: (writer, directory) => writer.killed(directory, [{ agentId: "agent-A" }, { agentId: "agent-B" }], writeAsTwoAgents),
  },
};
