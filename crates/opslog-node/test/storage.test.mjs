// Documents are read from the snapshot on storage when they are needed: what fails there, and what must not come of it.

import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as reference from "@backloghq/opslog";
import { codeOf, directory, opened } from "./lib/stores.mjs";

const noCheckpoint = { checkpointThreshold: 1_000_000, checkpointOnClose: false };

async function fill(store, count) {
  await store.batch(() => { for (let n = 0; n < count; n += 1) store.set(`k${n}`, { n, text: `text ${n}.` }); });
}

/** The snapshot of `dir`, whose bytes change in place: whoever has it open sees that. */
function snapshotOf(dir) {
  const path = join(dir, JSON.parse(readFileSync(join(dir, "manifest.json"), "utf8")).currentSnapshot);
  const write = (bytes) => {
    const file = openSync(path, "r+");
    writeSync(file, bytes, 0, bytes.length, 0);
    closeSync(file);
  };
  const good = readFileSync(path);
  const damage = (text) => {
    const bad = readFileSync(path);
    bad[bad.indexOf(text)] = 0x58;
    write(bad);
  };
  return { path, good, damage, mend: () => write(good) };
}

async function storeOfReference(context) {
  const dir = directory(context);
  const store = new reference.Store();
  await store.open(dir);
  for (let n = 0; n < 100; n += 1) await store.set(`k${n}`, { n, text: `text ${n}.` });
  await store.compact();
  await store.close();
  return dir;
}

test("a write that needs a damaged document is refused, and the store goes on", async (context) => {
  const store = await opened(context, noCheckpoint);
  await fill(store, 10);
  await store.compact();
  const snapshot = snapshotOf(store.dir);
  snapshot.damage("text 5.");
  assert.equal(await codeOf(() => store.set("k5", { n: 55 })), "OPSLOG_CORRUPT");
  assert.equal(store.get("k5").n, 5);
  await store.set("k6", { n: 66 });
  assert.equal(await codeOf(() => store.compact()), "OPSLOG_CORRUPT");
  snapshot.mend();
  await store.set("k5", { n: 55 });
  await store.compact();
  assert.deepEqual([store.get("k5"), store.get("k6")], [{ n: 55 }, { n: 66 }]);
});

for (const writeMode of ["group", "async"]) {
  test(`what ${writeMode} mode has accepted is stored, whatever became of the snapshot and its index`, async (context) => {
    const store = await opened(context, { writeMode, ...noCheckpoint });
    await fill(store, 10);
    await store.compact();
    const snapshot = snapshotOf(store.dir);
    const index = snapshot.path.replace(".jsonl", ".index");
    const goodIndex = readFileSync(index);
    for (const n of [4, 5, 6]) snapshot.damage(`text ${n}.`);
    writeFileSync(index, Buffer.alloc(goodIndex.length));
    await store.set("k5", { n: 55 });
    await store.delete("k4");
    await store.set("k7", { n: 77 });
    await store.set("new", { n: 1 });
    await store.set("k5", { n: 56 });
    await store.flush();
    writeFileSync(index, goodIndex);
    assert.equal(await codeOf(() => store.batch(() => { store.set("k6", { n: 66 }); })), "OPSLOG_CORRUPT");
    const changes = store.getOps().map(({ op, id, prev, blind }) => [op, id, prev?.n ?? null, blind === true]);
    assert.deepEqual(changes.slice(10), [
      ["set", "k5", null, true], ["delete", "k4", null, true], ["set", "k7", null, true], ["set", "new", null, true], ["set", "k5", 55, false],
    ]);
    assert.equal(await store.undo(), true);
    assert.deepEqual(store.get("k5"), { n: 55 });
    assert.equal(await codeOf(() => store.undo()), "OPSLOG_CORRUPT");
    assert.deepEqual([store.get("k7"), store.get("new")], [{ n: 77 }, { n: 1 }]);
    assert.equal(await codeOf(() => store.compact()), "OPSLOG_CORRUPT");
    const entries = store.entries();
    await store.close();
    assert.equal(await codeOf(() => store.open(store.dir)), "OPSLOG_CORRUPT");
    snapshot.mend();
    await store.open(store.dir);
    assert.deepEqual(store.entries(), entries);
    assert.deepEqual(entries.map(([, { n }]) => n), [0, 1, 2, 3, 55, 6, 77, 8, 9, 1]);
  });

  test(`checkpoints that fail keep nothing out in ${writeMode} mode`, async (context) => {
    const store = await opened(context, { writeMode, checkpointThreshold: 5 });
    await fill(store, 10);
    await store.compact();
    const snapshot = snapshotOf(store.dir);
    snapshot.damage("text 5.");
    for (let n = 0; n < 30; n += 1) await store.set("k5", { n });
    await store.flush();
    assert.equal(store.stats().opsCount, 30);
    snapshot.mend();
    await store.close();
    await store.open(store.dir);
    assert.deepEqual(store.get("k5"), { n: 29 });
  });
}

for (const writeMode of ["immediate", "group"]) {
  test(`an undo that is done is shown in ${writeMode} mode, whatever can be read`, async (context) => {
    const store = await opened(context, { writeMode, ...noCheckpoint });
    await fill(store, 10);
    await store.compact();
    await store.batch(() => {
      store.delete("k1");
      store.set("new", { n: 1 });
    });
    const snapshot = snapshotOf(store.dir);
    const index = snapshot.path.replace(".jsonl", ".index");
    const goodIndex = readFileSync(index);
    snapshot.damage("text 5.");
    writeFileSync(index, Buffer.alloc(goodIndex.length));
    assert.equal(await store.undo(), true);
    assert.deepEqual([store.has("new"), store.get("k1").n], [false, 1]);
    if (writeMode === "group") await store.set("new", { n: 2 });
    snapshot.mend();
    writeFileSync(index, goodIndex);
    await store.delete("k0");
    await store.undo();
    await store.flush();
    await store.compact();
    const entries = store.entries();
    assert.deepEqual(entries.map(([, { n }]) => n), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].concat(writeMode === "group" ? [2] : []));
    await store.close();
    await store.open(store.dir);
    assert.deepEqual(store.entries(), entries);
  });
}

test("what an undo has taken back is shown, also where its place in the order cannot be read", async (context) => {
  const store = await opened(context, noCheckpoint);
  await fill(store, 10);
  await store.compact();
  await store.delete("k1");
  const snapshot = snapshotOf(store.dir);
  snapshot.damage("text 5.");
  const warned = new Promise((resolve) => { process.once("warning", resolve); });
  assert.equal(await store.undo(), true);
  assert.match((await warned).message, /checksum/);
  assert.deepEqual(store.get("k1"), { n: 1, text: "text 1." });
  snapshot.mend();
  await store.close();
  await store.open(store.dir);
  assert.deepEqual(store.all().map(({ n }) => n), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test("a checkpoint gives damage no new checksum, nor to a snapshot of the reference", async (context) => {
  const dir = await storeOfReference(context);
  const store = await opened(context, noCheckpoint, dir);
  const snapshot = snapshotOf(dir);
  snapshot.damage("text 50.");
  assert.equal(await codeOf(() => store.compact()), "OPSLOG_CORRUPT");
  truncateSync(snapshot.path, snapshot.good.indexOf('{"id":"k50"'));
  assert.equal(await codeOf(() => store.compact()), "OPSLOG_CORRUPT");
  snapshot.mend();
  await store.compact();
  await store.close();
  await store.open(dir);
  assert.equal(store.get("k50").text, "text 50.");
  assert.equal(store.count(), 100);
});

test("a reader that could not show what came shows and tells it the next time", async (context) => {
  const store = await opened(context);
  await store.set("z", { n: 0 });
  await store.compact();
  const reader = await opened(context, { readOnly: true }, store.dir);
  await store.set("a", { text: "hello" });
  await store.compact();
  const snapshot = snapshotOf(store.dir);
  snapshot.damage("hello");
  assert.equal(await codeOf(() => reader.tail()), "OPSLOG_CORRUPT");
  await store.set("b", { n: 1 });
  assert.equal(await codeOf(() => reader.tail()), "OPSLOG_CORRUPT");
  snapshot.mend();
  assert.deepEqual((await reader.tail()).map(({ id }) => id), ["a", "b"]);
  assert.deepEqual(reader.entries(), [["z", { n: 0 }], ["a", { text: "hello" }], ["b", { n: 1 }]]);
  assert.deepEqual(await reader.tail(), []);
});

test("a reader that could not load everything anew does so the next time", async (context) => {
  const store = await opened(context);
  await fill(store, 10);
  await store.compact();
  const reader = await opened(context, { readOnly: true }, store.dir);
  await store.archive(({ n }) => n === 3);
  const snapshot = snapshotOf(store.dir);
  snapshot.damage("text 5.");
  assert.equal(await codeOf(() => reader.tail()), "OPSLOG_CORRUPT");
  snapshot.mend();
  await reader.tail();
  assert.deepEqual(reader.entries(), store.entries());
});

test("nobody has the empty id", async (context) => {
  const store = await opened(context);
  await fill(store, 2000);
  await store.close();
  for (let round = 0; round < 20; round += 1) {
    await store.open(store.dir, { checkpointOnClose: false });
    store.all();
    await store.batch(() => { for (let n = 0; n < 2000; n += 1) store.delete(`k${n}`); });
    assert.deepEqual([store.has(""), store.get("")], [false, undefined]);
    await store.undo();
    await store.close();
  }
});

test("a document is that of its id after reading all was cut short by a full stack", async (context) => {
  const store = await opened(context);
  const deep = (n) => Array.from({ length: 100 }).reduce((d) => ({ d }), { n });
  const bottom = (document) => { while (document?.d !== undefined) document = document.d; return document?.n; };
  await store.batch(() => { for (let n = 0; n < 3000; n += 1) store.set(`k${n}`, deep(n)); });
  await store.close();
  let cut = 0;
  for (let round = 0; round < 15; round += 1) {
    await store.open(store.dir, { checkpointOnClose: false });
    let tries = 0;
    const fall = () => {
      try {
        fall();
      } catch (error) {
        tries += 1;
        if (tries > round * 3 + 1) throw error;
        store.all();
      }
    };
    try { fall(); } catch { cut += 1; }
    for (let n = 2999; n >= 0; n -= 1) {
      assert.equal(bottom(store.get(`k${n}`)), n);
      assert.equal(store.get(`x${n}`), undefined);
    }
    assert.deepEqual(store.all().map(bottom), Array.from({ length: 3000 }, (_, n) => n));
    await store.close();
  }
  assert.ok(cut > 0);
});
