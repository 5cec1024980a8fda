// Random calls on the reference and on this package, side by side: the same results, errors, order and visible state after each. The
// intended differences are kept out of their way, each where it says so; README.md lists them.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as reference from "@backloghq/opslog";
import * as ours from "../index.js";
import { randomOf } from "./lib/random.mjs";
import { directory } from "./lib/stores.mjs";

const SEEDS = Number(process.env.PARITY_SEEDS ?? 60);
const CALLS = 60;
const FIRST = Number(process.env.PARITY_SEED ?? 1);

// ASCII, since the reference's undo counts characters.
const ids = ["a", "b", "c", "task-1", "10", "9", "__proto__", "constructor", "quoted \"\\", "new\nline", " "];

function documentOf(random) {
  const document = { n: random.below(5) };
  if (random.chance(0.5)) document.tags = ["x", { deep: [null, true, 1.5e300] }];
  if (random.chance(0.5)) document.body = `a text that is long enough for a reverse patch to be worth it ${random.below(3)}`;
  return document;
}

/** How a call ends: at once or later, with a result or an error. */
async function outcomeOf(call) {
  let result;
  try {
    result = call();
  } catch (error) {
    return { threw: error.message };
  }
  const when = typeof result?.then === "function" ? "later" : "at once";
  try {
    return { when, result: await result };
  } catch (error) {
    return { when, rejected: error.message };
  }
}

function previous({ prev, encoding, data }) {
  if (prev === null || encoding !== "delta") return prev;
  return reference.applyDelta(data, prev);
}

/** A merged segment has a new file (decision 0004). */
const plainSegment = (path) => path.replace(/\.\d{13}\.json$/, ".json");

const plain = (operation) => ({ op: operation.op, id: operation.id, data: operation.data, prev: previous(operation) });

function stateOf(store, id, opsCount) {
  // The reference's operations end at the checkpoint.
  const newest = (operations) => operations.map(plain).slice(operations.length - opsCount);
  return {
    entries: store.entries(), all: store.all(), count: store.count(), some: store.count(({ n }) => n > 2), filter: store.filter(({ n }, key) => n < 2 || key === "a"),
    get: store.get(id), has: store.has(id), stats: store.stats(), segments: store.listArchiveSegments().map(plainSegment).toSorted(), ops: opsCount === 0 ? [] : newest(store.getOps()),
  };
}

for (let seed = FIRST; seed < FIRST + SEEDS; seed += 1) {
  test(`seed ${seed}`, async (context) => {
    const random = randomOf(seed);
    const writeMode = random.pick(["immediate", "immediate", "group", "async"]);
    // In async mode the reference never makes a checkpoint.
    const checkpointThreshold = writeMode === "async" ? 1_000_000 : random.pick([7, 20, 1000]);
    const options = { writeMode, checkpointThreshold, groupCommitSize: random.pick([1, 3, 50]), checkpointOnClose: random.chance(0.5) };
    const stores = [reference, ours].map(({ Store }) => ({ Store, dir: directory(context), store: new Store() }));
    const [theirs] = stores;
    const open = () => Promise.all(stores.map(({ store, dir }) => store.open(dir, options)));
    await open();
    context.after(() => Promise.all(stores.map(({ store }) => store.close().catch(() => {}))));
    /** The commits since the checkpoint: how many operations each has. */
    let commits = [];
    const history = [];

    const both = async (name, call) => {
      history.push(name);
      const outcomes = [];
      for (const { store } of stores) outcomes.push(await outcomeOf(() => call(store)));
      const text = `${JSON.stringify(options)}\n${history.join("\n")}`;
      assert.deepEqual(outcomes[1], outcomes[0], text);
      const opsCount = theirs.store.stats().opsCount;
      if (opsCount === 0) commits = [];
      const id = random.pick(ids);
      assert.deepEqual(stateOf(stores[1].store, id, opsCount), stateOf(theirs.store, id, opsCount), text);
      return outcomes[0];
    };
    const wrote = (operations, deletes) => { if (theirs.store.stats().opsCount > 0) commits.push({ operations, deletes }); };
    // In group and async mode the reference's batch and undo overtake what is buffered.
    const flushed = () => theirs.store.flush();

    const calls = {
      async set() {
        const [id, document] = [random.pick(ids), documentOf(random)];
        await both(`set ${id} ${JSON.stringify(document)}`, (store) => store.set(id, document));
        wrote(1, false);
      },
      async delete() {
        const id = random.pick(ids);
        const { rejected } = await both(`delete ${id}`, (store) => store.delete(id));
        if (!rejected) wrote(1, true);
      },
      async several() {
        const writes = Array.from({ length: random.below(6) }, () => [random.pick(ids), documentOf(random)]);
        await both(`not awaited ${JSON.stringify(writes)}`, (store) => Promise.all(writes.map(([id, document]) => store.set(id, document))).then(() => {}));
        for (const _ of writes) wrote(1, false);
      },
      async batch() {
        await flushed();
        const writes = Array.from({ length: random.below(5) }, () => ({ id: random.pick(ids), document: random.chance(0.75) ? documentOf(random) : null }));
        // The reference puts a document whose delete was rolled back at the end.
        const fails = random.chance(0.2) && writes.every(({ document }) => document !== null);
        let deletes = false;
        const { rejected } = await both(`batch ${fails} ${JSON.stringify(writes)}`, async (store) => {
          const seen = [];
          deletes = false;
          await store.batch(() => {
            for (const { id, document } of writes) {
              if (document !== null) seen.push(store.set(id, document));
              else if (store.has(id)) { seen.push(store.delete(id)); deletes = true; }
              seen.push(store.get(id), store.count(), store.entries());
            }
            if (fails) throw new Error("on purpose");
          });
          return structuredClone(seen);
        });
        const operations = writes.length;
        if (!rejected && operations > 0) wrote(null, true);
      },
      async undo() {
        // A batch is undone whole, and the reference puts an undone delete last.
        const last = commits.at(-1);
        if (last === undefined || last.operations !== 1 || last.deletes) return;
        await flushed();
        await both("undo", (store) => store.undo());
        commits.pop();
      },
      compact: () => both("compact", (store) => store.compact()),
      flush: () => both("flush", (store) => store.flush()),
      async archive() {
        const [n, segment] = [random.below(5), random.pick(["2025-Q1", "old ones"])];
        await both(`archive ${n} ${segment}`, (store) => store.archive((document) => document.n === n, segment));
        commits = theirs.store.stats().opsCount === 0 ? [] : commits;
      },
      async loadArchive() {
        const segment = random.pick(["2025-Q1", "old ones", "missing"]);
        // The reference reads an archive into an object, which orders its keys.
        await both(`loadArchive ${segment}`, async (store) => [...(await store.loadArchive(segment))].toSorted(([one], [other]) => (one < other ? -1 : 1)));
      },
      async reopen() {
        await both("close", (store) => store.close().then(() => store.open(stores.find((side) => side.store === store).dir, options)));
        if (theirs.store.stats().opsCount === 0) commits = [];
      },
    };
    const names = ["set", "set", "set", "set", "delete", "delete", "several", "batch", "batch", "undo", "undo", "compact", "flush", "archive", "loadArchive"];
    for (let n = 0; n < CALLS; n += 1) await calls[random.pick(names)]();
  });
}

test("the exported pieces answer as the reference's", () => {
  const values = [undefined, null, 1, "x", [], {}, { ts: "t" }];
  const operation = { ts: "t", op: "set", id: "a", prev: null, data: {} };
  const manifest = { version: 1, currentSnapshot: "s", activeOps: "o", archiveSegments: [], stats: { activeRecords: 0, archivedRecords: 0, opsCount: 0, created: "t", lastCheckpoint: "t" } };
  const snapshot = { version: 1, timestamp: "t", records: {} };
  const segment = { version: 1, period: "p", timestamp: "t", records: {} };
  const subjects = { validateOp: [operation, { ts: "t", op: "delete", id: "a", prev: {} }], validateManifest: [manifest, { ...manifest, activeAgentOps: { a: "x" } }], validateSnapshot: [snapshot], validateArchiveSegment: [segment] };
  const candidates = [null, "", "x", 0, -1, 1.5, 1e400, [], [1], {}, { a: 1 }, true];
  let compared = 0;
  for (const [name, valid] of Object.entries(subjects)) {
    const check = (value) => {
      const [theirs, mine] = [reference, ours].map((side) => {
        try {
          return side[name](value) === value;
        } catch (error) {
          return error.message;
        }
      });
      assert.equal(mine, theirs, `${name} ${JSON.stringify(value)}`);
      compared += 1;
    };
    for (const value of [...values, ...valid]) check(value);
    for (const value of valid) {
      const keys = [...Object.keys(value), "encoding", "agent", "clock", "activeAgentOps"];
      for (const key of keys) {
        for (const candidate of candidates) check({ ...value, [key]: candidate });
        // A key with `undefined` is as good as absent here.
        const { [key]: _absent, ...rest } = value;
        check(rest);
      }
      for (const key of Object.keys(value.stats ?? {})) for (const candidate of candidates) check({ ...value, stats: { ...value.stats, [key]: candidate } });
    }
  }
  assert.ok(compared > 300, `${compared}`);
});

test("patches and clocks are the reference's", () => {
  const random = randomOf(7);
  const record = () => Object.fromEntries(Array.from({ length: random.below(5) }, () => [random.pick(["a", "b", "c", "d"]), random.pick([1, "x", null, [1], { a: 1 }])]));
  for (let n = 0; n < 500; n += 1) {
    const [old, now] = [random.chance(0.1) ? null : record(), record()];
    const patch = ours.createDelta(old, now);
    assert.deepEqual(patch, reference.createDelta(old, now));
    assert.equal(ours.isDeltaSmaller(patch, old), reference.isDeltaSmaller(patch, old));
    if (patch !== null) assert.deepEqual([ours.applyDelta(now, patch), ours.applyDelta(now, patch)], [reference.applyDelta(now, patch), old]);
  }
  const clocks = [new reference.LamportClock(3), new ours.LamportClock(3)];
  for (let n = 0; n < 100; n += 1) {
    const received = random.below(200);
    const [theirs, mine] = clocks.map((clock) => [n % 3 === 0 ? clock.merge(received) : clock.tick(), clock.current]);
    assert.deepEqual(mine, theirs);
  }
  assert.throws(() => new ours.LamportClock(-1), { code: "OPSLOG_INVALID_INPUT" });
});

test("the backend's methods answer as the reference's", async (context) => {
  const record = new Map([["a", { n: 1 }], ["b", { n: 2 }]]);
  const operation = { ts: "2026-01-01T00:00:00.000Z", op: "set", id: "é", prev: null, data: { n: 1 } };
  const answers = [];
  for (const { FsBackend } of [reference, ours]) {
    const backend = new FsBackend();
    const shape = (path) => path.replace(/\d{13}/, "MS");
    const dir = directory(context);
    await backend.initialize(dir, { readOnly: false });
    const seen = [await backend.readManifest(), await backend.getManifestVersion(), await backend.listOpsFiles(), await backend.listArchiveSegments()];
    const snapshot = await backend.writeSnapshot(record, 3);
    seen.push(shape(snapshot), await backend.loadSnapshot(snapshot));
    const log = await backend.createOpsFile();
    const agent = await backend.createAgentOpsFile("agent-1");
    seen.push(shape(log), shape(agent), (await backend.listOpsFiles()).map(shape).toSorted(), await backend.readOps(log), await backend.truncateLastOp(log));
    await backend.appendOps(log, [operation]);
    await backend.appendOps(log, [operation, { ...operation, id: "b" }]);
    seen.push(await backend.readOps(log));
    await backend.appendOps("ops/other.jsonl", [operation]);
    seen.push(await backend.readOps("ops/other.jsonl"), await backend.readOps("ops/none.jsonl"), await backend.truncateLastOp(log), await backend.truncateLastOp("ops/none.jsonl").catch(() => "error"));
    const segment = await backend.writeArchiveSegment("2026-Q1", record);
    seen.push(segment, await backend.loadArchiveSegment(segment), await backend.listArchiveSegments());
    const manifest = { version: 1, currentSnapshot: snapshot, activeOps: log, archiveSegments: [segment], stats: { activeRecords: 2, archivedRecords: 0, opsCount: 0, created: operation.ts, lastCheckpoint: operation.ts } };
    await backend.writeManifest(manifest);
    const { currentSnapshot: _snapshot, activeOps: _log, ...rest } = await backend.readManifest();
    // The reference's version is a time, which two writes can share.
    seen.push(rest, typeof (await backend.getManifestVersion()));
    const lock = await backend.acquireLock();
    seen.push(await backend.acquireLock().catch(({ message }) => message.replace(dir, "DIR")));
    await backend.releaseLock(lock);
    const compaction = await backend.acquireCompactionLock();
    seen.push(await backend.acquireCompactionLock().catch(({ message }) => message));
    await backend.releaseCompactionLock(compaction);
    await backend.releaseCompactionLock(await backend.acquireCompactionLock());
    await backend.writeBlob("x/y/z.bin", Buffer.from("hello"));
    await backend.writeBlob("x/a.bin", Buffer.from([0, 255]));
    const text = async (promise) => promise.then(String);
    seen.push(await text(backend.readBlob("x/y/z.bin")), Buffer.isBuffer(await backend.readBlob("x/a.bin")), await text(backend.readBlobRange("x/y/z.bin", 1, 2)));
    seen.push(await text(backend.readBlobRange("x/y/z.bin", 3, 100)), await text(backend.readBlobRange("x/y/z.bin", 9, 1)));
    for (const [offset, length] of [[-1, 1], [1, -1]]) seen.push(await backend.readBlobRange("x/y/z.bin", offset, length).catch(({ message }) => message));
    seen.push((await backend.listBlobs("x/y")), await backend.listBlobs("none"));
    await backend.deleteBlob("x/a.bin");
    await backend.deleteBlob("x/a.bin");
    await backend.deleteBlobDir("x");
    await backend.deleteBlobDir("x");
    seen.push(await backend.listBlobs("x"), await backend.readBlob("x/y/z.bin").catch(() => "no such blob"));
    await backend.shutdown();
    answers.push(seen);
  }
  assert.deepEqual(answers[1], answers[0]);
});

test("a store that is closed here opens in the reference, and the other way round", async (context) => {
  const dir = directory(context);
  for (let round = 0; round < 6; round += 1) {
    const { Store } = round % 2 === 0 ? ours : reference;
    const store = new Store();
    await store.open(dir);
    assert.deepEqual(store.entries(), Array.from({ length: round }, (_, n) => [`k${n}`, { n }]));
    await store.set(`k${round}`, { n: round });
    await store.close();
  }
});

test("every public name of the reference is here", () => {
  for (const name of Object.keys(reference)) assert.equal(typeof ours[name], typeof reference[name], name);
  for (const Class of ["Store", "FsBackend", "LamportClock"]) {
    const names = Object.getOwnPropertyNames(ours[Class].prototype);
    const internal = ["serialize", "isMultiWriter", "initFreshStore", "loadExistingStore", "loadMultiWriterOps", "makeOp", "ensureOpen", "ensureWritable", "applyOp", "reverseOp", "persistOp", "flushGroupBuffer", "defaultPeriod"];
    for (const name of Object.getOwnPropertyNames(reference[Class].prototype)) {
      if (!name.startsWith("_") && !internal.includes(name)) assert.ok(names.includes(name), `${Class}.${name}`);
    }
  }
});

/** What each of the two packages does with what only the reference takes, as the README's table has it. */
test("a store of the reference with documents that are no objects, or ids that are too long, is opened without them or not at all", async (context) => {
  const odd = [["array", [1, 2]], ["number", 5], ["string", "text"], ["boolean", true], ["\ud800", { n: 1 }], ["x".repeat(70_000), { n: 1 }]];
  for (const [id, document] of odd) {
    for (const checkpointOnClose of [false, true]) {
      const dir = directory(context);
      const theirs = new reference.Store();
      await theirs.open(dir, { checkpointOnClose });
      await theirs.set("first", { n: 0 });
      await theirs.set(id, document);
      await theirs.set("last", { n: 0 });
      await theirs.close();
      const refused = { code: "OPSLOG_CORRUPT" };
      const inSnapshot = checkpointOnClose && id.length === 70_000 ? ["first", id, "last"] : null;
      const open = async (options) => {
        const store = new ours.Store();
        await store.open(dir, { readOnly: true, ...options });
        const ids = store.entries().map(([id]) => id);
        await store.close();
        return ids;
      };
      if (!checkpointOnClose) assert.deepEqual(await open(), ["first", "last"]);
      else if (inSnapshot === null) await assert.rejects(open(), refused, id.slice(0, 10));
      if (inSnapshot !== null) assert.deepEqual(await open(), inSnapshot);
      else await assert.rejects(open({ strict: true }), refused, id.slice(0, 10));
      await theirs.open(dir, { readOnly: true });
      assert.equal(theirs.count(), 3);
    }
  }
});

test("where the pieces are stricter than the reference's, they say so", async (context) => {
  for (const value of [1.5, -1, "5", NaN]) {
    assert.throws(() => new ours.LamportClock(value), { code: "OPSLOG_INVALID_INPUT" });
    assert.throws(() => new ours.LamportClock().merge(value), { code: "OPSLOG_INVALID_INPUT" });
  }
  assert.throws(() => ours.createDelta([1], [2]), { code: "OPSLOG_INVALID_INPUT" });
  assert.throws(() => ours.applyDelta([1], {}), { code: "OPSLOG_INVALID_INPUT" });
  assert.throws(() => ours.applyDelta({}, null), { code: "OPSLOG_INVALID_INPUT" });
  assert.deepEqual(ours.createDelta({ a: undefined }, { a: 1 }), { $unset: ["a"] });

  const backend = new ours.FsBackend();
  await backend.initialize(directory(context), { readOnly: false });
  await backend.writeManifest({});
  await backend.writeBlob("mine/blob", Buffer.from("x"));
  assert.deepEqual(await backend.listBlobs(""), ["mine"]);
});

test("a number without JSON that JSON.stringify alone can see is stored as null", async (context) => {
  for (const { Store } of [ours, reference]) {
    const store = new Store();
    await store.open(directory(context));
    await store.set("a", { toJSON: () => ({ n: NaN }) });
    await store.set("b", { n: new Number(NaN) });
    await store.compact();
    assert.deepEqual(JSON.parse(JSON.stringify(store.all())), [{ n: null }, { n: null }]);
    await store.close();
  }
});
