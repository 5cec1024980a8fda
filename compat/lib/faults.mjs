// The faults of the reference that ours must not have. Each is one experiment that is made on both: what it
// `shows` of the reference and of ours is stated here, and checked.

import { existsSync, lstatSync, readFileSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { activeLogPath, readManifest, temporaryDirectory } from "./directories.mjs";
import { RemoteStore } from "./line-client.mjs";
import { Writer } from "./scenarios.mjs";

const keepLog = { checkpointOnClose: false };
const ids = (entries) => entries.map(([id]) => id);

/** "ok", or the kind of error with which the promise was refused. */
const outcome = (promise) => promise.then(() => "ok", (error) => error.kind);

/** One side's means to make an experiment. */
class Laboratory {
  constructor(start, context) {
    this.start = start;
    this.context = context;
    this.writer = new Writer(start);
    this.directory = temporaryDirectory(context);
  }

  /** Opens, works and closes; answers what the work answered. */
  async visit(options, work) {
    let answer;
    await this.writer.closed(this.directory, options, async (store) => {
      answer = await work(store);
    });
    return answer;
  }

  /** What opening the directory as it is gives: the ids in order, or the kind of error. */
  async idsAfterReopen(options = { readOnly: true }) {
    return this.visit(options, async (store) => ids(await store.entries())).catch((error) => error.kind);
  }

  changeLog(change) {
    const path = activeLogPath(this.directory);
    writeFileSync(path, change(readFileSync(path)));
  }

  changeManifest(change) {
    const path = join(this.directory, "manifest.json");
    writeFileSync(path, change(readFileSync(path, "utf8")));
  }

  filesIn(folder) {
    return readdirSync(join(this.directory, folder));
  }
}

async function writeThree(store) {
  for (const id of ["a", "b", "c"]) await store.set(id, { id });
}

export const faults = [
  {
    fault: 1,
    title: "nothing is ever synced",
    needs: "strace",
    async experiment(laboratory) {
      const trace = join(temporaryDirectory(laboratory.context), "trace");
      const store = new RemoteStore(laboratory.start({ traceSyncsTo: trace }));
      await store.open(laboratory.directory, {});
      await writeThree(store);
      await store.compact();
      await store.close();
      await store.client.end();
      return { syncs: /(fsync|fdatasync)\(/.test(readFileSync(trace, "utf8")) };
    },
    reference: { syncs: false },
    ours: { syncs: true },
  },
  {
    fault: 2,
    title: "a snapshot that could not be written is taken for written",
    async experiment(laboratory) {
      const filler = "x".repeat(10_000);
      await laboratory.visit({}, async (store) => {
        for (let number = 0; number < 300; number += 1) await store.set(`doc-${number}`, { filler });
        await store.compact();
      });
      const limited = new RemoteStore(laboratory.start({ largestFileKibibytes: 2048 }));
      await limited.open(laboratory.directory, {});
      await limited.set("last", { n: 1 });
      const compacted = await outcome(limited.compact());
      await limited.client.kill();
      const left = await laboratory.idsAfterReopen();
      return { compacted, everythingIsLeft: left.length === 301 };
    },
    reference: { compacted: "ok", everythingIsLeft: false },
    ours: { compacted: "Unavailable", everythingIsLeft: true },
  },
  {
    fault: 3,
    title: "a torn last line swallows the next operation",
    async experiment(laboratory) {
      await laboratory.visit(keepLog, writeThree);
      laboratory.changeLog((bytes) => bytes.subarray(0, bytes.length - 10));
      await laboratory.visit(keepLog, (store) => store.set("next", { n: 1 }));
      return laboratory.idsAfterReopen();
    },
    reference: ["a", "b"],
    ours: ["a", "b", "next"],
  },
  {
    fault: 4,
    title: "a batch cut by a crash is half applied",
    async experiment(laboratory) {
      await laboratory.visit(keepLog, async (store) => {
        await store.set("before", { n: 1 });
        await store.batch(["a", "b", "c"].map((id) => ({ op: "set", id, document: { id } })));
      });
      laboratory.changeLog((bytes) => bytes.subarray(0, bytes.length - 10));
      return laboratory.idsAfterReopen();
    },
    reference: ["before", "a", "b"],
    ours: ["before"],
  },
  {
    fault: 5,
    title: "a value whose write failed stays visible, and in history",
    async experiment(laboratory) {
      const store = new RemoteStore(laboratory.start({ largestFileKibibytes: 2048 }));
      await store.open(laboratory.directory, keepLog);
      await store.set("small", { n: 1 });
      const written = await outcome(store.set("large", { filler: "x".repeat(3_000_000) }));
      const seen = { refused: written !== "ok", visible: await store.has("large"), inHistory: (await store.history("large")).length > 0 };
      await store.client.kill();
      return seen;
    },
    reference: { refused: true, visible: true, inHistory: true },
    ours: { refused: true, visible: false, inHistory: false },
  },
  {
    fault: 6,
    title: "undo counts characters, not bytes",
    async experiment(laboratory) {
      await laboratory.visit(keepLog, async (store) => {
        await store.set("a", { text: "first" });
        await store.set("b", { text: "second é é é é é é é é" });
        await store.set("c", { text: "third" });
        await store.undo();
        await store.set("d", { text: "fourth" });
      });
      return laboratory.idsAfterReopen();
    },
    reference: ["a"],
    ours: ["a", "b", "d"],
  },
  {
    fault: 6,
    title: "undo before a last line of exactly 4,096 bytes takes two operations",
    async experiment(laboratory) {
      const lengthOfLine = async (filler) => {
        await laboratory.visit(keepLog, (store) => store.set("b", { filler }));
        const [line] = readFileSync(activeLogPath(laboratory.directory), "utf8").split("\n");
        rmSync(laboratory.directory, { recursive: true });
        return Buffer.byteLength(line) + 1;
      };
      const others = await lengthOfLine("");
      await laboratory.visit(keepLog, async (store) => {
        await store.set("a", { n: 1 });
        // The lines of ours number themselves, which may take a byte or two: all lengths around it are tried.
        for (let spare = 0; spare < 48; spare += 1) {
          await store.set("b", { filler: "x".repeat(4096 - others - spare) });
          await store.undo();
        }
      });
      return laboratory.idsAfterReopen();
    },
    reference: [],
    ours: ["a"],
  },
  {
    fault: 6,
    title: "undo of an unflushed operation removes another one",
    async experiment(laboratory) {
      const group = { ...keepLog, writeMode: "group", groupCommitMs: 60_000 };
      await laboratory.visit(group, async (store) => {
        await store.set("a", { n: 1 });
        await store.flush();
        await store.set("b", { n: 1 });
        await store.undo();
      });
      return laboratory.idsAfterReopen();
    },
    reference: ["b"],
    ours: ["a"],
  },
  {
    fault: 7,
    title: "in group mode a batch reaches the disk before earlier writes",
    async experiment(laboratory) {
      const group = { ...keepLog, writeMode: "group", groupCommitMs: 60_000 };
      await laboratory.writer.killed(laboratory.directory, group, async (store) => {
        await store.set("earlier", { n: 1 });
        await store.batch([{ op: "set", id: "later", document: { n: 2 } }]);
      });
      const left = await laboratory.idsAfterReopen();
      return { laterWithoutEarlier: left.includes("later") && !left.includes("earlier") };
    },
    reference: { laterWithoutEarlier: true },
    ours: { laterWithoutEarlier: false },
  },
  {
    fault: 9,
    title: "an open that fails keeps the lock",
    async experiment(laboratory) {
      await laboratory.visit({}, writeThree);
      const store = new RemoteStore(laboratory.start());
      const opened = await outcome(store.open(laboratory.directory, { version: 2, migrate: "fail" }));
      const locked = existsSync(join(laboratory.directory, ".lock"));
      const openedAgain = await outcome(new RemoteStore(store.client, "again").open(laboratory.directory, {}));
      await store.client.kill();
      return { refused: opened !== "ok", locked, openedAgain };
    },
    reference: { refused: true, locked: true, openedAgain: "Locked" },
    ours: { refused: true, locked: false, openedAgain: "ok" },
  },
  {
    fault: 9,
    title: "an empty .lock is stolen from the living",
    async experiment(laboratory) {
      const holder = new RemoteStore(laboratory.start());
      await holder.open(laboratory.directory, keepLog);
      truncateSync(join(laboratory.directory, ".lock"), 0);
      const intruder = new RemoteStore(laboratory.start());
      const opened = await outcome(intruder.open(laboratory.directory, keepLog));
      await Promise.all([intruder.client.kill(), holder.client.kill()]);
      return opened;
    },
    reference: "ok",
    ours: "Locked",
  },
  {
    fault: 10,
    title: "a manifest that cannot be read is taken for no store, and a fresh one is written over it",
    async experiment(laboratory) {
      await laboratory.visit({}, writeThree);
      const manifest = join(laboratory.directory, "manifest.json");
      rmSync(manifest);
      symlinkSync("manifest.json", manifest); // Reading it fails, and not because there is none.
      const opened = await laboratory.idsAfterReopen({});
      return { opened, manifestIsLeft: lstatSync(manifest).isSymbolicLink() };
    },
    reference: { opened: [], manifestIsLeft: false },
    ours: { opened: "Unavailable", manifestIsLeft: true },
  },
  {
    fault: 11,
    title: "a snapshot cut at the end of a line opens",
    async experiment(laboratory) {
      await laboratory.visit({}, async (store) => {
        await writeThree(store);
        await store.compact();
      });
      const path = join(laboratory.directory, readManifest(laboratory.directory).currentSnapshot);
      const text = readFileSync(path, "utf8");
      truncateSync(path, text.lastIndexOf("\n", text.length - 2) + 1);
      return laboratory.idsAfterReopen();
    },
    reference: ["a", "b"],
    ours: "Corrupt",
  },
  {
    fault: 11,
    title: "a missing log opens as if nothing had been written",
    async experiment(laboratory) {
      await laboratory.visit(keepLog, writeThree);
      rmSync(activeLogPath(laboratory.directory));
      return laboratory.idsAfterReopen();
    },
    reference: [],
    ours: "Corrupt",
  },
  {
    fault: 11,
    title: "a damaged line in the middle of the log is skipped without a word",
    async experiment(laboratory) {
      // Three opens, so that the damaged line was certainly on the disk before the next one was written.
      for (const id of ["a", "b", "c"]) await laboratory.visit(keepLog, (store) => store.set(id, { id }));
      laboratory.changeLog((bytes) => Buffer.from(bytes.toString("utf8").replace('"data":{"id":"b"}', '"data":{"id":"X"}}')));
      return laboratory.visit({ readOnly: true }, async (store) => {
        const { damage } = await store.openReport();
        return { ids: ids(await store.entries()), reported: damage.length > 0 };
      });
    },
    reference: { ids: ["a", "c"], reported: false },
    ours: { ids: ["a", "c"], reported: true },
  },
  {
    fault: 12,
    title: "files that a checkpoint replaced are never deleted",
    async experiment(laboratory) {
      await laboratory.visit({ checkpointThreshold: 5, historyRetention: "none", checkpointMode: "blocking" }, async (store) => {
        for (let number = 0; number < 50; number += 1) await store.set("same", { number });
      });
      return { snapshots: laboratory.filesIn("snapshots").length > 2, logs: laboratory.filesIn("ops").length > 2 };
    },
    reference: { snapshots: true, logs: true },
    ours: { snapshots: false, logs: false },
  },
  {
    fault: 13,
    title: "a reader sees nothing after the writer's first checkpoint",
    async experiment(laboratory) {
      const writer = new RemoteStore(laboratory.start());
      await writer.open(laboratory.directory, keepLog);
      await writer.set("a", { n: 1 });
      const reader = new RemoteStore(laboratory.start());
      await reader.open(laboratory.directory, { readOnly: true });
      await writer.set("b", { n: 1 });
      await writer.compact();
      await writer.set("c", { n: 1 });
      await reader.tail();
      const seen = ids(await reader.entries());
      await Promise.all([reader.client.kill(), writer.client.kill()]);
      return seen;
    },
    reference: ["a", "b"],
    ours: ["a", "b", "c"],
  },
  {
    fault: 14,
    title: "history and undo vanish at a checkpoint",
    async experiment(laboratory) {
      return laboratory.visit({}, async (store) => {
        await writeThree(store);
        await store.compact();
        return { history: (await store.history("a")).length, undone: await store.undo(), left: ids(await store.entries()) };
      });
    },
    reference: { history: 0, undone: false, left: ["a", "b", "c"] },
    ours: { history: 1, undone: true, left: ["a", "b"] },
  },
  {
    fault: 15,
    title: "an empty id is acknowledged, then lost",
    async experiment(laboratory) {
      const written = await laboratory.visit(keepLog, (store) => outcome(store.set("", { n: 1 })));
      return { written, left: await laboratory.idsAfterReopen() };
    },
    reference: { written: "ok", left: [] },
    ours: { written: "InvalidInput", left: [] },
  },
  ...[["a number", 5], ["an array", [1]], ["a text", "text"], ["null", null]].map(([name, document]) => ({
    fault: 15,
    title: `${name} is acknowledged as a document`,
    experiment: (laboratory) => laboratory.visit(keepLog, (store) => outcome(store.set("a", document))),
    reference: "ok",
    ours: "InvalidInput",
  })),
  {
    fault: 16,
    title: "the name of an archive segment can lead out of the store",
    async experiment(laboratory) {
      const outside = temporaryDirectory(laboratory.context);
      const segment = `x/../../../..${outside}/escaped`.replace("/../../../..", "/../../../../..");
      const archived = await laboratory.visit(keepLog, async (store) => {
        await writeThree(store);
        return outcome(store.archive(["a"], segment));
      });
      return { archived, escaped: readdirSync(outside).length > 0 };
    },
    reference: { archived: "ok", escaped: true },
    ours: { archived: "InvalidInput", escaped: false },
  },
  {
    fault: 16,
    title: "a manifest can name a snapshot outside of the store",
    async experiment(laboratory) {
      await laboratory.visit({}, writeThree);
      const outside = temporaryDirectory(laboratory.context);
      writeFileSync(join(outside, "foreign.jsonl"), '{"version":1,"timestamp":"2026-01-01T00:00:00.000Z"}\n{"id":"foreign","data":{}}\n');
      const foreign = `../${outside.split("/").at(-1)}/foreign.jsonl`;
      laboratory.changeManifest((text) => {
        const { opslog: _ours, checksum: _checksum, ...manifest } = JSON.parse(text);
        return JSON.stringify({ ...manifest, currentSnapshot: foreign });
      });
      return laboratory.idsAfterReopen();
    },
    reference: ["foreign"],
    ours: "Corrupt",
  },
  {
    fault: 17,
    title: "a migration skips the log",
    async experiment(laboratory) {
      await laboratory.visit({}, async (store) => {
        await store.set("in snapshot", { n: 1 });
        await store.compact();
      });
      await laboratory.visit(keepLog, (store) => store.set("in log", { n: 1 }));
      await laboratory.visit({ version: 2, migrate: "stamp" }, () => {});
      return laboratory.visit({}, async (store) => Object.fromEntries((await store.entries()).map(([id, { migratedFrom }]) => [id, migratedFrom ?? null])));
    },
    reference: { "in snapshot": 1, "in log": null },
    ours: { "in snapshot": 1, "in log": 1 },
  },
  {
    fault: 19,
    title: "async mode never checkpoints",
    async experiment(laboratory) {
      return laboratory.visit({ ...keepLog, writeMode: "async", checkpointThreshold: 10, checkpointMode: "blocking" }, async (store) => {
        for (let number = 0; number < 100; number += 1) await store.set("same", { number });
        await store.flush();
        return { logIsShort: (await store.stats()).opsCount < 100 };
      });
    },
    reference: { logIsShort: false },
    ours: { logIsShort: true },
  },
  {
    fault: "skip_load",
    title: "100 writes without loading the store erase it",
    async experiment(laboratory) {
      await laboratory.visit({}, writeThree);
      await laboratory.visit({ skipLoad: true, checkpointThreshold: 10 }, async (store) => {
        for (let number = 0; number < 20; number += 1) await store.set("d", { number });
      });
      return laboratory.idsAfterReopen();
    },
    reference: ["d"],
    ours: ["a", "b", "c", "d"],
  },
  {
    fault: "archive lookup",
    title: "an archive segment is found by part of its name",
    async experiment(laboratory) {
      return laboratory.visit(keepLog, async (store) => {
        await writeThree(store);
        await store.archive(["a"], "2025-Q1-old");
        return outcome(store.loadArchive("2025-Q1"));
      });
    },
    reference: "ok",
    ours: "NotFound",
  },
  {
    fault: "reverse patches",
    title: "a reverse patch leaves a key that every object inherits",
    async experiment(laboratory) {
      const filler = "x".repeat(100);
      await laboratory.visit(keepLog, async (store) => {
        await store.set("a", { filler });
        await store.set("a", { filler, constructor: 1, other: 2 });
      });
      return laboratory.visit(keepLog, async (store) => {
        await store.undo();
        return Object.keys(await store.get("a"));
      });
    },
    reference: ["filler", "constructor"],
    ours: ["filler"],
  },
  {
    fault: "undo of a batch",
    title: "undo takes back only the last operation of a batch",
    async experiment(laboratory) {
      return laboratory.visit(keepLog, async (store) => {
        await store.batch(["a", "b", "c"].map((id) => ({ op: "set", id, document: { id } })));
        await store.undo();
        return ids(await store.entries());
      });
    },
    reference: ["a", "b"],
    ours: [],
  },
];

/** Makes one experiment with processes that `start` starts. */
export function makeExperiment({ experiment }, start, context) {
  return experiment(new Laboratory(start, context));
}
