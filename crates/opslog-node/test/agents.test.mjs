// Several agents on one store.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { directory, opened } from "./lib/stores.mjs";

/** Two agents of one store, `same` once both have looked. */
async function pair(context, options = {}) {
  const dir = directory(context);
  const [ann, ben] = [await opened(context, { agentId: "ann", ...options }, dir), await opened(context, { agentId: "ben", ...options }, dir)];
  const same = async () => {
    await ann.refresh();
    await ben.refresh();
    assert.deepEqual(ann.entries(), ben.entries());
    return ann.entries();
  };
  return { ann, ben, same, dir };
}

test("agents see what others wrote when they look, in one order", async (context) => {
  const { ann, ben, same } = await pair(context);
  await ann.set("a", { by: "ann" });
  await ben.set("b", { by: "ben" });
  await ann.set("c", { by: "ann" });
  assert.equal(ann.has("b"), false);
  const operations = await ann.tail();
  assert.deepEqual(operations.map(({ id, agent }) => [id, agent]), [["b", "ben"]]);
  assert.ok(operations[0].clock >= 1);
  assert.deepEqual((await same()).map(([id]) => id).toSorted(), ["a", "b", "c"]);
});

test("the later write wins, and an agent undoes its own", async (context) => {
  const { ann, ben, same } = await pair(context);
  await ann.set("shared", { by: "ann" });
  await ben.refresh();
  await ben.set("shared", { by: "ben" });
  await ann.set("mine", { by: "ann" });
  assert.deepEqual(new Map(await same()).get("shared"), { by: "ben" });
  assert.equal(await ann.undo(), true);
  assert.deepEqual((await same()).map(([id]) => id), ["shared"]);
  assert.equal(await ben.undo(), true);
  assert.deepEqual(await same(), [["shared", { by: "ann" }]]);
});

test("compacting, archiving and automatic checkpoints lose nobody's writes", async (context) => {
  const { ann, ben, same } = await pair(context, { checkpointThreshold: 10 });
  await Promise.all(Array.from({ length: 35 }, (_, n) => [ann.set(`a${n}`, { n }), ben.set(`b${n}`, { n })]).flat());
  await ann.compact();
  await ben.set("last", { n: 0 });
  assert.equal((await same()).length, 71);
  assert.equal(await ben.archive(({ n }) => n > 0 && n % 2 === 0), 34);
  assert.equal((await same()).length, 37);
  await ann.close();
  await ben.close();
  await ann.open(ben.dir);
  assert.equal(ann.count(), 37);
});

test("an agent's own writes show beside what a checkpoint brought", async (context) => {
  const { ann, ben } = await pair(context, { checkpointThreshold: 5 });
  await ben.set("from ben", { n: 1 });
  for (let n = 0; n < 6; n += 1) await ann.set(`a${n}`, { n });
  await ann.flush();
  // What the checkpoint brought shows without a look.
  for (let n = 0; n < 100 && !ann.has("from ben"); n += 1) await new Promise((resolve) => { setTimeout(resolve, 5); });
  assert.equal(ann.has("from ben"), true);
  assert.equal(ann.count(), 7);
});

test("group and async mode are immediate for agents, with a warning; ids are judged", async (context) => {
  const dir = directory(context);
  const warned = once(process, "warning");
  const store = await opened(context, { agentId: "ann", writeMode: "async" }, dir);
  assert.match((await warned)[0].message, /immediate with an agentId/);
  const set = store.set("a", { n: 1 });
  assert.equal(store.has("a"), false);
  await set;
  await assert.rejects(opened(context, { agentId: "ann" }, dir), { code: "OPSLOG_LOCKED" });
  await assert.rejects(opened(context, {}, dir), { code: "OPSLOG_LOCKED" });
  await assert.rejects(opened(context, { agentId: "a/b" }, dir), { code: "OPSLOG_INVALID_INPUT" });
});

test("a reader and a watch follow agents", async (context) => {
  const { ann, ben, dir } = await pair(context);
  const reader = await opened(context, { readOnly: true }, dir);
  const seen = new Promise((resolve) => { reader.watch(resolve, 5); });
  await ann.set("a", { n: 1 });
  assert.deepEqual((await seen).map(({ agent }) => agent), ["ann"]);
  await ben.set("b", { n: 2 });
  reader.unwatch();
  await reader.refresh();
  assert.deepEqual(reader.entries().map(([id]) => id).toSorted(), ["a", "b"]);
});
