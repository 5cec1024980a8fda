// What the store's calls do, beyond what the parity test compares.

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import * as esm from "../index.js";
import { callsOf, withLongestAnswer } from "./lib/native.mjs";
import { randomOf } from "./lib/random.mjs";
import { codeOf, directory, failureOf, opened } from "./lib/stores.mjs";

const { Store } = esm;

test("both module systems give the same package", () => {
  const cjs = createRequire(import.meta.url)("../index.cjs");
  assert.deepEqual(Object.keys(cjs).sort(), Object.keys(esm).sort());
  assert.equal(cjs.Store, esm.Store);
});

test("a store that is not open says so, and how to open it", async () => {
  const store = new Store();
  for (const name of ["get", "has", "all", "entries", "filter", "count", "stats", "getHistory", "getOps", "listArchiveSegments", "set", "delete", "watch"]) {
    assert.throws(() => store[name]("a", {}), { message: "Store is not open. Call open() first.", code: "OPSLOG_CLOSED" }, name);
  }
  for (const name of ["undo", "compact", "archive", "loadArchive", "batch", "refresh", "tail", "close"]) {
    await assert.rejects(store[name](() => true), { message: "Store is not open. Call open() first.", code: "OPSLOG_CLOSED" }, name);
  }
  assert.equal(store.getManifest(), null);
  await store.flush();
  await store.sync();
});

test("messages are the reference's, each with a code", async (context) => {
  const store = await opened(context);
  await store.set("a", { n: 1 });
  await assert.rejects(store.delete("x"), { message: "Record 'x' not found", code: "OPSLOG_NOT_FOUND", name: "OpslogError" });
  await assert.rejects(store.loadArchive("x"), { message: "Archive segment 'x' not found", code: "OPSLOG_NOT_FOUND" });
  const locked = { message: `Store is locked by process ${process.pid}. If this is stale, delete ${join(store.dir, ".lock")}`, code: "OPSLOG_LOCKED" };
  await assert.rejects(new Store().open(store.dir), locked);
  await assert.rejects(store.open(store.dir), locked);
  await assert.rejects(new Store().open(directory(context), { readOnly: true }), { message: "Cannot open in readOnly mode: no existing store found", code: "OPSLOG_NOT_FOUND" });

  const reader = await opened(context, { readOnly: true }, store.dir);
  const readOnly = { message: "Store is read-only. Cannot perform mutations.", code: "OPSLOG_READ_ONLY" };
  assert.throws(() => reader.set("a", {}), readOnly);
  assert.throws(() => reader.delete("a"), readOnly);
  for (const name of ["undo", "compact", "archive", "batch"]) await assert.rejects(reader[name](() => true), readOnly);

  await store.close();
  const blind = await opened(context, { skipLoad: true }, store.dir);
  const skipLoad = { message: "Cannot compact in skipLoad mode — in-memory Map is incomplete", code: "OPSLOG_INVALID_INPUT" };
  await assert.rejects(blind.compact(), skipLoad);
  await assert.rejects(blind.archive(() => true), skipLoad);
  await blind.close();

  const snapshot = JSON.parse(readFileSync(join(store.dir, "manifest.json"), "utf8")).currentSnapshot;
  rmSync(join(store.dir, snapshot));
  await assert.rejects(new Store().open(store.dir), { message: `Snapshot file not found: ${snapshot}. The data directory may be corrupted.`, code: "OPSLOG_CORRUPT" });
});

test("options that make no sense are refused by name", async (context) => {
  const dir = directory(context);
  for (const options of [{ writeMode: "fast" }, { checkpointThreshold: NaN }, { checkpointThreshold: "5" }, { groupCommitMs: "1" }, { groupCommitMs: NaN }, { backend: {} }, { version: 1.5 }, { readOnly: 1 }, { historyRetention: "some" }, { migrate: 1 }]) {
    const error = await failureOf(() => new Store().open(dir, options));
    assert.equal(error.code, "OPSLOG_INVALID_INPUT");
    assert.match(error.message, new RegExp(Object.keys(options)[0]));
  }
  assert.equal(await codeOf(() => new Store().open(undefined)), "OPSLOG_INVALID_INPUT");
});

test("a thousand calls that were not awaited end in order, and share syncs", async (context) => {
  const store = await opened(context, { checkpointThreshold: 10_000 });
  const ended = [];
  const calls = Array.from({ length: 1000 }, (_, n) => store.set(`k${n}`, { n }).then(() => ended.push(n)));
  assert.equal(store.count(), 0, "nothing is visible before it is durable");
  await Promise.all(calls);
  assert.deepEqual(ended, Array.from({ length: 1000 }, (_, n) => n));
  assert.deepEqual(store.all().map(({ n }) => n), ended);
  assert.equal(store.stats().opsCount, 1000);
  const groups = new Set(readFileSync(join(store.dir, store.getManifest().activeOps), "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line).at));
  assert.ok(groups.size <= 10, `${groups.size} writes for 1000 sets`);
});

test("a set and a delete of one id that were not awaited happen in order", async (context) => {
  for (const writeMode of ["immediate", "group", "async"]) {
    const store = await opened(context, { writeMode });
    const calls = [store.set("a", { n: 1 }), store.delete("a"), store.set("a", { n: 2 }), store.delete("b").catch(({ code }) => code)];
    assert.equal((await Promise.all(calls)).at(-1), "OPSLOG_NOT_FOUND");
    assert.deepEqual(store.entries(), [["a", { n: 2 }]]);
    assert.equal(store.getOps().length, 3, writeMode);
  }
});

test("what is visible changes only between turns of the event loop", async (context) => {
  const store = await opened(context);
  await store.set("a", { n: 1 });
  const deleted = store.delete("a");
  const until = performance.now() + 50;
  // The delete is on the disk long before this loop ends.
  while (performance.now() < until) assert.deepEqual(store.get("a"), { n: 1 });
  await deleted;
  assert.equal(store.get("a"), undefined);
});

test("a batch sees the calls before it, its own writes, and none of those after it", async (context) => {
  for (const writeMode of ["immediate", "group", "async"]) {
    const store = await opened(context, { writeMode });
    const calls = [store.set("before", { n: 1 })];
    calls.push(store.batch(() => {
      assert.deepEqual(store.get("before"), { n: 1 });
      assert.equal(store.has("after"), false);
      assert.equal(store.set("in", { n: 2 }), undefined);
      assert.equal(store.delete("before"), undefined);
      assert.throws(() => store.delete("missing"), { message: "Record 'missing' not found" });
      store.set("before", { n: 3 });
      assert.deepEqual(store.entries(), [["in", { n: 2 }], ["before", { n: 3 }]]);
      assert.deepEqual(store.filter(({ n }) => n > 2), [{ n: 3 }]);
      assert.deepEqual([store.count(), store.count(({ n }) => n === 2), store.stats().activeRecords], [2, 1, 2]);
      assert.deepEqual(store.all(), [{ n: 2 }, { n: 3 }]);
    }));
    calls.push(store.set("after", { n: 4 }));
    await Promise.all(calls);
    assert.deepEqual(store.entries(), [["in", { n: 2 }], ["before", { n: 3 }], ["after", { n: 4 }]], writeMode);
    assert.deepEqual(store.getOps().map(({ id }) => id), ["before", "in", "before", "before", "after"]);
  }
});

test("a batch that throws leaves no trace, whatever it did", async (context) => {
  const store = await opened(context);
  for (const id of ["a", "b", "c"]) await store.set(id, { id });
  const before = store.entries();
  const boom = new Error("boom");
  assert.equal(await failureOf(() => store.batch(() => {
    store.delete("a");
    store.set("a", { id: "again" });
    store.set("d", { id: "d" });
    throw boom;
  })), boom);
  assert.deepEqual(store.entries(), before);
  assert.equal(store.stats().opsCount, 3);
  assert.equal(await failureOf(() => store.batch(() => { store.set("e", {}); store.set("f", []); })).then(({ code }) => code), "OPSLOG_INVALID_INPUT");
  assert.deepEqual(store.entries(), before);
});

test("an empty batch touches no file", async (context) => {
  const store = await opened(context);
  const files = () => readdirSync(store.dir, { recursive: true }).sort();
  const before = [files(), store.getManifest()];
  await store.batch(() => {});
  assert.deepEqual([files(), store.getManifest()], before);
});

test("a batch inside a batch comes after it", async (context) => {
  const store = await opened(context);
  let inner;
  await store.batch(() => {
    store.set("a", { n: 1 });
    inner = store.batch(() => { store.set("b", { n: store.get("a").n + 1 }); });
    return inner;
  });
  await inner;
  assert.deepEqual(store.entries(), [["a", { n: 1 }], ["b", { n: 2 }]]);
});

test("undo puts documents back in their places", async (context) => {
  const store = await opened(context);
  for (const id of ["a", "b", "c"]) await store.set(id, { id });
  await store.batch(() => {
    store.delete("a");
    store.set("b", { id: "changed" });
    store.set("d", { id: "d" });
  });
  assert.equal(await store.undo(), true);
  assert.deepEqual(store.entries(), [["a", { id: "a" }], ["b", { id: "b" }], ["c", { id: "c" }]]);
  for (let n = 0; n < 3; n += 1) assert.equal(await store.undo(), true);
  assert.equal(await store.undo(), false);
  assert.equal(store.count(), 0);
});

test("an undone batch that deleted and set a document puts it back in its place, also in a later session", async (context) => {
  for (const options of [{}, { undoMode: "append" }]) {
    let store = await opened(context, { checkpointOnClose: false, ...options });
    for (const id of ["a", "b", "c"]) await store.set(id, { id });
    for (const isLater of [false, true]) {
      await store.batch(() => {
        store.delete("a");
        store.set("a", { id: "again" });
      });
      assert.deepEqual(store.all().map(({ id }) => id), ["b", "c", "again"]);
      if (isLater) {
        await store.close();
        await store.open(store.dir, { checkpointOnClose: false, ...options });
      }
      await store.undo();
      const seen = store.entries();
      await store.close();
      await store.open(store.dir, { checkpointOnClose: false, ...options });
      assert.deepEqual(seen, store.entries(), JSON.stringify([options, isLater]));
    }
  }
});

test("a checkpoint that a call causes is over when the call is", async (context) => {
  for (const options of [{ checkpointThreshold: 10 }, {}, { writeMode: "group", groupCommitSize: 7 }, { writeMode: "group", groupCommitSize: 7, checkpointThreshold: 10 }]) {
    const store = await opened(context, options);
    const { currentSnapshot } = store.getManifest();
    const threshold = options.checkpointThreshold ?? 1_000;
    for (let n = 1; n < threshold; n += 1) await store.set("a", { n });
    assert.deepEqual([store.stats().opsCount, store.getManifest().currentSnapshot], [threshold - 1, currentSnapshot]);
    await store.set("a", { n: 0 });
    assert.equal(store.stats().opsCount, 0);
    assert.notEqual(store.getManifest().currentSnapshot, currentSnapshot);
    assert.equal(store.getManifest().stats.activeRecords, 1);
  }
});

test("archives keep their documents and their order", async (context) => {
  const store = await opened(context);
  for (const id of ["z", "10", "9", "keep"]) await store.set(id, { id });
  assert.equal(await store.archive((_, id) => id !== "keep", "old ones"), 3);
  assert.deepEqual(store.entries(), [["keep", { id: "keep" }]]);
  assert.deepEqual([...(await store.loadArchive("old ones"))], [["z", { id: "z" }], ["10", { id: "10" }], ["9", { id: "9" }]]);
  assert.deepEqual([store.listArchiveSegments(), store.stats().archiveSegments], [["archive/archive-old ones.json"], 1]);
  assert.equal(await store.archive(() => false), 0);
  const boom = new Error("boom");
  assert.equal(await failureOf(() => store.archive(() => { throw boom; })), boom);
  assert.equal(await store.archive(() => true), 1);
  assert.match(store.listArchiveSegments()[1], /^archive\/archive-\d{4}-Q[1-4]\.json$/);
});

test("snapshot and operations stream, and make the state together", async (context) => {
  for (const writeMode of ["immediate", "async"]) {
    const store = await opened(context, { checkpointThreshold: 10_000, writeMode });
    for (let n = 0; n < 2000; n += 1) store.set(`k${n}`, { n });
    await store.compact();
    store.set("k1", { n: -1 });
    await store.delete("k2");
    const state = new Map();
    for await (const [id, document] of store.streamSnapshot()) state.set(id, document);
    assert.equal(state.size, 2000);
    let last;
    for await (const operation of store.getWalOps()) {
      last = operation;
      if (operation.op === "set") state.set(operation.id, operation.data);
      else state.delete(operation.id);
    }
    assert.deepEqual([...state], store.entries());
    const later = [];
    for await (const operation of store.getWalOps(last.ts)) later.push(operation);
    assert.deepEqual(later, []);
    const file = new Map();
    const stream = esm.streamSnapshotFile(store.dir, store.getManifest().currentSnapshot);
    for (;;) {
      const { done, value } = await stream.next();
      if (done) assert.deepEqual(value, { version: 1 });
      if (done) break;
      file.set(...value);
    }
    assert.equal(file.size, 2000);
  }
});

test("a reader follows a writer, over checkpoints, undos and archives", async (context) => {
  const writer = await opened(context);
  await writer.set("a", { n: 1 });
  const reader = await opened(context, { readOnly: true }, writer.dir);
  const same = async () => {
    const operations = await reader.tail();
    assert.deepEqual(reader.entries(), writer.entries());
    return operations.map(({ op, id }) => `${op} ${id}`);
  };
  assert.deepEqual(await same(), []);
  await writer.set("b", { n: 2 });
  await writer.delete("a");
  await writer.set("a", { n: 3 });
  assert.deepEqual(await same(), ["set b", "delete a", "set a"]);
  await writer.compact();
  await writer.set("c", { n: 4 });
  assert.deepEqual(await same(), ["set c"]);
  await writer.undo();
  await same();
  await writer.archive((_, id) => id === "b");
  await same();
  await writer.delete("a");
  await writer.undo();
  await reader.refresh();
  assert.deepEqual(reader.entries(), writer.entries());
});

test("a reader that follows lets go of what is replaced before anybody reads it", async (context) => {
  const writer = await opened(context);
  const reader = await opened(context, { readOnly: true }, writer.dir);
  const calls = await callsOf(["letGoOf"], async () => {
    for (let n = 0; n < 4; n += 1) {
      for (const id of ["a", "b"]) await writer.set(id, { n });
      await writer.delete("b");
      await writer.set("b", { n });
      await reader.refresh();
    }
    reader.get("a");
    await writer.delete("a");
    await writer.delete("b");
    await reader.refresh();
  });
  assert.equal(calls.letGoOf, 3 + 3 + 1);
  assert.deepEqual(reader.entries(), []);
});

test("a watch tells what comes, and its end is the end", async (context) => {
  const writer = await opened(context);
  const reader = await opened(context, { readOnly: true }, writer.dir);
  const seen = new Promise((resolve) => { reader.watch(resolve, 5); });
  await writer.set("a", { n: 1 });
  assert.deepEqual((await seen).map(({ id }) => id), ["a"]);
  assert.deepEqual(reader.get("a"), { n: 1 });
  reader.unwatch();
  const failed = new Promise((resolve) => { reader.watch(() => {}, 5, resolve); });
  await writer.close();
  writeFileSync(join(writer.dir, "manifest.json"), "{");
  assert.equal((await failed).code, "OPSLOG_CORRUPT");
  reader.unwatch();
});

test("a migration sees snapshot and log, and its error is the open's", async (context) => {
  const first = await opened(context, { checkpointOnClose: false });
  await first.set("snapshot", { n: 1 });
  await first.compact();
  await first.set("log", { n: 2 });
  await first.close();
  const boom = new Error("boom");
  const failing = new Store().open(first.dir, { version: 2, migrate: () => { throw boom; } });
  assert.equal(await failureOf(() => failing), boom);
  const store = await opened(context, { version: 2, migrate: (record, from) => ({ ...record, from }) }, first.dir);
  assert.deepEqual(store.entries(), [["snapshot", { n: 1, from: 1 }], ["log", { n: 2, from: 1 }]]);
  await store.close();
  assert.equal(await codeOf(() => new Store().open(first.dir, { version: 1 })), "OPSLOG_UNSUPPORTED_VERSION");
});

test("a store opens again after close, with everything", async (context) => {
  const store = await opened(context, { writeMode: "async" });
  store.set("a", { n: 1 });
  await store.close();
  assert.throws(() => store.get("a"), { code: "OPSLOG_CLOSED" });
  assert.equal(existsSync(join(store.dir, ".lock")), false);
  await store.open(store.dir);
  assert.deepEqual(store.get("a"), { n: 1 });
});

test("calls that wait when the store closes are told", async (context) => {
  const store = await opened(context);
  const calls = [store.close(), store.set("a", {}), store.batch(() => {}), store.undo()].map((call) => call.then(() => "ended", ({ code }) => code));
  assert.deepEqual(await Promise.all(calls), ["ended", "OPSLOG_CLOSED", "OPSLOG_CLOSED", "OPSLOG_CLOSED"]);
});

test("documents change while somebody iterates, and he sees what was there", async (context) => {
  const store = await opened(context, { writeMode: "async" });
  for (let n = 0; n < 10; n += 1) await store.set(`k${n}`, { n });
  const seen = store.filter(({ n }, id) => {
    store.set(`new ${id}`, { n });
    if (n === 0) store.delete("k5");
    return true;
  });
  assert.deepEqual(seen.map(({ n }) => n), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.equal(store.count(), 19);
});

for (let seed = 1; seed <= 20; seed += 1) {
  test(`documents of a store that was opened again are those of a map, in whatever order they are asked for (seed ${seed})`, async (context) => {
    const random = randomOf(seed);
    const options = { writeMode: "async", osBuffered: true, checkpointThreshold: 1_000_000, mutableDocuments: random.chance(0.3) };
    const store = await opened(context, options);
    const expected = new Map();
    const ids = Array.from({ length: random.pick([5, 300, 6000]) }, (_, n) => random.pick([`k${n}`, `"${n}\\`, `é${n}`, `\u{1f600}${n}`, "\ufffd"]));
    const id = () => random.pick([random.pick(ids), random.pick(ids), `new ${random.below(2000)}`]);
    const calls = {
      set(key) {
        store.set(key, { n: random.below(10) + expected.size });
        expected.set(key, store.get(key));
      },
      delete(key) {
        if (!expected.delete(key)) return assert.rejects(store.delete(key), { code: "OPSLOG_NOT_FOUND" });
        return store.delete(key);
      },
      /** Leaves more holes than are kept. */
      async churn() {
        for (let n = 0; n < 3000; n += 1) calls.set(`churn ${n}`);
        for (let n = 0; n < 3000; n += 1) if (n % 5 > 0) await calls.delete(`churn ${n}`);
      },
      get: (key) => assert.deepEqual(store.get(key), expected.get(key)),
      has: (key) => assert.equal(store.has(key), expected.has(key)),
      absent: () => assert.deepEqual([store.get("\ud800"), store.has(""), store.get(5), store.has(undefined)], [undefined, false, undefined, false]),
      entries() {
        assert.deepEqual(store.entries(), [...expected]);
        assert.deepEqual(store.filter(({ n }) => n % 2 === 0), [...expected.values()].filter(({ n }) => n % 2 === 0));
        assert.equal(store.count(), expected.size);
      },
    };
    for (let session = 0; session < 3; session += 1) {
      if (session === 0) for (const key of ids) calls.set(key);
      for (let call = 0; call < 4000; call += 1) {
        const name = random.chance(0.001) ? random.pick(["entries", "churn"]) : random.pick(["set", "set", "delete", "delete", "get", "has", "absent"]);
        await calls[name](id());
      }
      await store.close();
      await store.open(store.dir, options);
      if (random.chance(0.5)) calls.entries();
    }
    calls.entries();
  });
}

test("opening makes nothing on the event loop for each document", async (context) => {
  const store = await opened(context);
  await store.batch(() => { for (let n = 0; n < 5000; n += 1) store.set(`k${n}`, { n }); });
  await store.close();
  const calls = await callsOf(["ids", "find", "texts", "takeOne"], () => store.open(store.dir));
  assert.deepEqual(calls, { ids: 0, find: 0, texts: 0, takeOne: 0 });
  assert.equal(store.count(({ n }) => n % 2 === 0), 2500);
});

test("an id that nobody has is not found, before and after the ids are here", async (context) => {
  const store = await opened(context);
  await store.batch(() => { for (let n = 0; n < 5000; n += 1) store.set(`k${n}`, { n }); });
  await store.close();
  await store.open(store.dir);
  const look = () => {
    for (let n = 0; n < 5000; n += 1) {
      assert.equal(store.has(`x${n}`), false);
      assert.equal(store.get(`x${n}`), undefined);
      assert.equal(store.has(`k${n}`), n % 7 > 0, `k${n}`);
    }
  };
  await store.batch(() => { for (let n = 0; n < 5000; n += 7) store.delete(`k${n}`); });
  look();
  assert.equal(store.count(() => true), 4285);
  const { find, loaded } = await callsOf(["find", "loaded"], async () => look());
  assert.deepEqual([find, loaded], [0, 0]);
});

test("an id is found by the table that the native half has filled, whatever it is made of", async (context) => {
  const store = await opened(context);
  const ids = Array.from({ length: 3000 }, (_, n) => ["k", "\u{1F600}", "\0", "\uFFFD", "é\u0301", "漢"][n % 6].repeat(1 + (n % 40)) + n);
  await store.batch(() => { for (const id of ids) store.set(id, { id }); });
  await store.close();
  for (const options of [{ decodeOnOpen: true }, {}]) {
    await store.open(store.dir, options);
    store.count(() => true);
    const { find } = await callsOf(["find"], async () => {
      assert.deepEqual(ids.map((id) => store.get(id).id), ids);
      for (const id of [...ids.map((id) => `${id}x`), "", "\uD83D", 7, null, undefined]) assert.deepEqual([store.has(id), store.get(id)], [false, undefined]);
    });
    assert.equal(find, 0);
    await store.close();
  }
});

test("decodeOnOpen decodes everything before the store is open, and off and on lets others have a turn", async (context) => {
  const store = await opened(context);
  // Of some documents a piece is shorter than of others.
  const text = (n) => "x".repeat(n % 5000 === 0 ? 600_000 : 200);
  await store.batch(() => { for (let n = 0; n < 20_000; n += 1) store.set(`k${n}`, { n, text: text(n) }); });
  await store.delete("k7");
  await store.close();
  let turns = 0;
  const timer = setInterval(() => { turns += 1; }, 1);
  await store.open(store.dir, { decodeOnOpen: true });
  clearInterval(timer);
  assert.ok(turns > 0);
  const calls = await callsOf(["ids", "texts", "takeOne", "loaded", "find"], async () => {
    assert.equal(store.filter((document, id) => id === `k${document.n}` && document.text === text(document.n)).length, 19_999);
    assert.equal(store.get("k19999").n, 19_999);
    assert.deepEqual([store.get("k7"), store.has("x"), store.count()], [undefined, false, 19_999]);
  });
  assert.deepEqual(calls, { ids: 0, texts: 0, takeOne: 0, loaded: 0, find: 0 });
  await store.set("k0", { n: 0 });
  await store.delete("k1");
  assert.deepEqual(store.entries().slice(0, 2).map(([id]) => id), ["k0", "k2"]);
  await store.close();

  await store.open(store.dir, { decodeOnOpen: true, mutableDocuments: true });
  store.get("k2").n = 7;
  assert.deepEqual([store.get("k2").n, store.count()], [2, 19_998]);
  await store.close();
  for (const option of ["decodeOnOpen", "mutableDocuments"]) {
    assert.equal(await codeOf(() => store.open(store.dir, { [option]: 1 })), "OPSLOG_INVALID_INPUT");
  }
});

test("mutableDocuments gives copies that can be changed", async (context) => {
  const store = await opened(context, { mutableDocuments: true });
  await store.set("a", { tags: ["x"] });
  await store.close();
  await store.open(store.dir, { mutableDocuments: true });
  for (const read of [() => store.get("a"), () => store.all()[0], () => store.entries()[0][1], () => store.filter(() => true)[0]]) {
    read().tags.push("y");
    assert.deepEqual(read(), { tags: ["x"] });
  }
  assert.equal(store.count(({ tags }) => tags.length === 1), 1);
});

test("a backend written in JavaScript is refused, with what to use instead", async (context) => {
  class Mine extends esm.FsBackend {}
  for (const backend of [{}, new Mine()]) {
    await assert.rejects(new Store().open(directory(context), { backend }), ({ code, message }) => code === "OPSLOG_INVALID_INPUT" && /FsBackend.*writeBlob/.test(message));
  }
});

test("the library's own options arrive", async (context) => {
  const none = await opened(context, { historyRetention: "none", osBuffered: true });
  await none.set("a", { n: 1 });
  await none.compact();
  assert.deepEqual([none.getOps(), await none.undo()], [[], false]);
  const append = await opened(context, { undoMode: "append", checkpointOnClose: false });
  await append.set("a", { n: 1 });
  await append.undo();
  assert.equal(append.getOps().length, 2);
  await append.close();
  const log = join(append.dir, JSON.parse(readFileSync(join(append.dir, "manifest.json"), "utf8")).activeOps);
  writeFileSync(log, readFileSync(log, "utf8").replace("\"n\":1", "\"n\":7"));
  await assert.rejects(new Store().open(append.dir, { strict: true }), { code: "OPSLOG_CORRUPT" });
});

test("a watch callback that throws is told to onError, or warned of, and the watch goes on", async (context) => {
  const writer = await opened(context);
  const reader = await opened(context, { readOnly: true }, writer.dir);
  const warnings = [];
  const warned = ({ message }) => warnings.push(message);
  process.on("warning", warned);
  context.after(() => process.off("warning", warned));
  const boom = new Error("boom");
  const turns = async (done) => { while (!done()) await new Promise((resolve) => setTimeout(resolve, 5)); };

  const told = [];
  reader.watch(() => { throw boom; }, 5, (error) => told.push(error));
  for (let n = 1; n <= 2; n += 1) {
    await writer.set("a", { n });
    await turns(() => told.length === n);
  }
  reader.watch(() => { throw "no error"; }, 5);
  await writer.set("a", { n: 3 });
  await turns(() => warnings.length === 1);
  reader.watch(() => { throw boom; }, 5, () => { throw new Error("onError"); });
  await writer.set("a", { n: 4 });
  await turns(() => warnings.length === 2);
  reader.unwatch();
  assert.deepEqual([told, warnings], [[boom, boom], ["no error", "onError"]]);
});

test("what a watch finds while it ends is told to who asks next", async (context) => {
  const writer = await opened(context);
  const reader = await opened(context, { readOnly: true }, writer.dir);
  await writer.set("a", { n: 1 });
  const tail = reader.tail.bind(reader);
  const nextLook = (end) => new Promise((resolve) => {
    reader.tail = async () => {
      const operations = await tail();
      delete reader.tail;
      end();
      setImmediate(resolve);
      return operations;
    };
  });
  const ids = (operations) => operations.map(({ id }) => id);

  reader.watch(() => assert.fail("it has ended"), 5);
  await nextLook(() => reader.unwatch());
  assert.deepEqual(ids(await reader.tail()), ["a"]);

  await writer.set("b", { n: 1 });
  reader.watch(() => assert.fail("it has ended"), 5);
  let told;
  const another = new Promise((resolve) => { told = resolve; });
  await nextLook(() => reader.watch(told, 5));
  assert.deepEqual(ids(await another), ["b"]);
});

test("with mutableDocuments, reads inside a batch give copies too", async (context) => {
  const store = await opened(context, { mutableDocuments: true });
  await store.set("old", { n: 1 });
  await store.batch(() => {
    store.set("new", { n: 1 });
    const reads = () => [store.get("old"), store.get("new"), ...store.all(), ...store.filter(() => true), ...store.entries().map(([, document]) => document)];
    for (const document of reads()) document.n = 2;
    assert.ok(reads().every(({ n }) => n === 1));
  });
  assert.deepEqual(store.all(), [{ n: 1 }, { n: 1 }]);
});

test("of two opens at once of one store the second is refused, and the directory is free after close", async (context) => {
  for (const backend of [false, true]) {
    const store = new Store();
    const dir = directory(context);
    const open = () => store.open(dir, backend ? { backend: new esm.FsBackend() } : {});
    const [first, second] = await Promise.allSettled([open(), open()]);
    assert.deepEqual([first.status, second.reason?.code], ["fulfilled", "OPSLOG_LOCKED"]);
    await store.set("a", {});
    await store.close();
    await store.open(dir);
    assert.equal(store.count(), 1);
    await store.close();
    await assert.rejects(store.open(dir, { writeMode: "fast" }), { code: "OPSLOG_INVALID_INPUT" });
    await (await opened(context, {}, dir)).close();
    await store.open(dir);
    await store.close();
  }
});

test("an answer that no string can hold is an error, and what comes after goes on", async (context) => {
  const options = { checkpointThreshold: 1_000_000 };
  const writer = await opened(context, options);
  await writer.set("a", {});
  const reader = await opened(context, { readOnly: true }, writer.dir);
  for (let n = 0; n < 40; n += 1) await writer.set(`k${n % 4}`, { n, filler: "x".repeat(200) });
  const refused = ({ code, message }) => code === "OPSLOG_INVALID_INPUT" && /bytes.*ask for less/.test(message);
  await withLongestAnswer(2000, async () => {
    assert.throws(() => writer.getOps(), refused);
    assert.equal(writer.getHistory("a").length, 1);
    assert.throws(() => writer.getHistory("k0"), refused);
    // The documents come; the operations that brought them are left out.
    assert.deepEqual(await reader.tail(), []);
    assert.deepEqual(reader.entries(), writer.entries());
    await writer.set("a", { n: 41 });
    assert.deepEqual((await reader.tail()).map(({ id }) => id), ["a"]);
    assert.equal(await writer.archive(({ filler }) => filler !== undefined, "q"), 4);
  });
  await withLongestAnswer(500, async () => {
    await assert.rejects(writer.loadArchive("q"), refused);
    await writer.set("b", {});
    assert.deepEqual(writer.entries().map(([id]) => id), ["a", "b"]);
  });
  assert.equal((await writer.loadArchive("q")).size, 4);
});

test("documents that are long together are read all the same", async (context) => {
  const store = await opened(context, { osBuffered: true });
  for (let n = 0; n < 7; n += 1) await store.set(`k${n}`, { n, filler: "x".repeat(600_000) });
  await store.close();
  await store.open(store.dir);
  const native = await callsOf(["texts"], () => assert.deepEqual(store.all().map(({ n }) => n), [0, 1, 2, 3, 4, 5, 6]));
  assert.equal(native.texts, 4);
});

test("what a store is opened without is told, with its place", async (context) => {
  const store = await opened(context, { checkpointOnClose: false, checkpointThreshold: 1_000_000 });
  const { activeOps } = store.getManifest();
  const log = join(store.dir, activeOps);
  for (const id of ["a", "b", "c"]) await store.set(id, { id });
  await store.close();
  const lines = readFileSync(log, "utf8").split("\n");
  const second = lines.findIndex((line) => line.includes('"b"'));
  const offset = Buffer.byteLength(lines.slice(0, second).map((line) => `${line}\n`).join(""));
  lines[second] = lines[second].replace('{"id":"b"}', '{"id":"x"}');
  writeFileSync(log, lines.join("\n"));
  const warnings = [];
  const warned = ({ message }) => warnings.push(message);
  process.on("warning", warned);
  context.after(() => process.off("warning", warned));
  await store.open(store.dir);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /\.damaged/);
  assert.ok(warnings[0].includes(store.dir) && warnings[0].includes(`${activeOps} at byte ${offset}`), warnings[0]);
});

test("an archive is found by its name, and else by a part of its file's", async (context) => {
  const store = await opened(context);
  for (const segment of ["2025-Q4-old", "2025-Q4", "2026-5"]) {
    for (const half of ["a", "b"]) {
      // The second time makes a new file for the segment.
      await store.set(`${segment}-${half}`, {});
      await store.archive(() => true, segment);
    }
  }
  const found = async (segment) => [...(await store.loadArchive(segment)).keys()].map((id) => id.slice(0, -2));
  assert.deepEqual(await found("2025-Q4"), ["2025-Q4", "2025-Q4"]);
  assert.deepEqual(await found("2025"), ["2025-Q4-old", "2025-Q4-old"]);
  assert.deepEqual(await found(2026), ["2026-5", "2026-5"]);
  assert.deepEqual(await found("old"), ["2025-Q4-old", "2025-Q4-old"]);
  for (const missing of ["Q5", undefined, null]) await assert.rejects(found(missing), { message: `Archive segment '${missing}' not found`, code: "OPSLOG_NOT_FOUND" });
  for (const segment of [5, {}, true]) await assert.rejects(store.archive(() => true, segment), { code: "OPSLOG_INVALID_INPUT" });
  assert.equal(await store.archive(() => true, null), 0);
});

test("options that the reference takes are taken, and mean the same", async (context) => {
  const nothing = { agentId: null, backend: null, migrate: null, writeMode: null, checkpointThreshold: null, readOnly: null, historyRetention: null, mutableDocuments: null, unknown: 5 };
  for (const options of [null, undefined, nothing, { agentId: "" }, Object.create({ checkpointOnClose: false })]) {
    const store = await opened(context, options);
    await store.set("a", {});
    await store.close();
    await store.open(store.dir, options);
    assert.equal(store.count(), 1);
    await store.close();
  }
  const opsAfter = async (checkpointThreshold, sets, options) => {
    const store = await opened(context, { checkpointThreshold, ...options });
    for (let n = 0; n < sets; n += 1) await store.set("a", { n });
    return store.stats().opsCount;
  };
  for (const writeMode of ["immediate", "group"]) {
    assert.equal(await opsAfter(Infinity, 1500, { writeMode, osBuffered: true }), 1500);
    for (const [threshold, left] of [[-1, 0], [-Infinity, 0], [0.5, 0], [2.5, 2]]) assert.equal(await opsAfter(threshold, 2, { writeMode }), left, `${threshold}`);
  }

  const store = await opened(context, { writeMode: "group", groupCommitMs: Infinity, groupCommitSize: Infinity, checkpointThreshold: Infinity });
  const log = join(store.dir, store.getManifest().activeOps);
  for (let n = 0; n < 500; n += 1) await store.set("a", { n });
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(readFileSync(log, "utf8").split("\n").filter(Boolean).length, 0);
  await store.flush();
  assert.equal(store.getOps().length, 500);
  for (const options of [{ groupCommitSize: -1 }, { groupCommitSize: 0.5 }, { groupCommitMs: -1 }]) {
    const other = await opened(context, { writeMode: "group", ...options });
    await other.set("a", {});
    await other.close();
  }
});

test("an async migration is refused, and changes nothing", async (context) => {
  const store = await opened(context, { version: 1 });
  await store.set("a", { n: 1 });
  await store.close();
  for (const migrate of [async (document) => document, () => Promise.reject(new Error("later"))]) {
    await assert.rejects(store.open(store.dir, { version: 2, migrate }), ({ code, message }) => code === "OPSLOG_INVALID_INPUT" && /migrate.*async/.test(message));
  }
  await store.open(store.dir, { version: 2, migrate: (document) => ({ ...document, migrated: true }) });
  assert.deepEqual(store.get("a"), { n: 1, migrated: true });
});
