// Several agents on one store.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { callsOf } from "./lib/native.mjs";
import { randomOf } from "./lib/random.mjs";
import { directory, opened } from "./lib/stores.mjs";

const SEEDS = Number(process.env.AGENT_SEEDS ?? 20);

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

test("a look takes what is new, and nothing else", async (context) => {
  const { ann, ben, same } = await pair(context);
  await ann.batch(() => { for (let n = 0; n < 2000; n += 1) ann.set(`a${n}`, { n }); });
  await same();
  const before = ben.all();
  const counts = await callsOf(["reload", "texts", "takeOne"], async () => {
    await ann.set("a7", { n: -7 });
    await ann.delete("a8");
    await ann.set("new", { n: 0 });
    await ben.set("own", { n: 1 });
    await ben.refresh();
    await ben.compact();
    await ben.undo();
    for (const id of ["a7", "new"]) ben.get(id);
  });
  assert.deepEqual(counts, { reload: 0, texts: 0, takeOne: 2 });
  const kept = new Set(before);
  assert.equal(ben.filter((document) => !kept.has(document)).length, 2);
  assert.equal((await same()).length, 2000);
});

test("operations that came with a checkpoint are told by the next look", async (context) => {
  const { ann, ben } = await pair(context);
  await ben.set("b", { n: 1 });
  await ann.compact();
  assert.equal(ann.has("b"), true);
  await ben.set("c", { n: 2 });
  assert.deepEqual((await ann.tail()).map(({ id }) => id), ["b", "c"]);
  assert.deepEqual(await ann.tail(), []);
});

for (let seed = 1; seed <= SEEDS; seed += 1) {
  test(`whatever agents do, all see what one sees who opens the store (seed ${seed})`, async (context) => {
    const random = randomOf(seed);
    const dir = directory(context);
    const agents = [];
    for (const agentId of ["ann", "ben", "cem"]) agents.push(await opened(context, { agentId, checkpointThreshold: random.pick([5, 1000]) }, dir));
    const history = [];
    const ids = ["a", "b", "c", "d", "e", "f"];
    const document = () => ({ n: random.below(100) });
    const calls = {
      set: (agent) => agent.set(random.pick(ids), document()),
      delete: (agent) => agent.delete(random.pick(ids)).catch(({ code }) => assert.equal(code, "OPSLOG_NOT_FOUND")),
      batch: (agent) => agent.batch(() => {
        for (let n = random.below(4); n >= 0; n -= 1) {
          const id = random.pick(ids);
          if (random.chance(0.5) && agent.has(id)) agent.delete(id);
          else agent.set(id, document());
        }
      }).catch(({ code }) => assert.equal(code, "OPSLOG_NOT_FOUND")),
      undo: (agent) => agent.undo(),
      compact: (agent) => agent.compact(),
      archive: (agent) => agent.archive(({ n }) => n > 90, "old"),
      refresh: (agent) => agent.refresh(),
    };
    for (let call = 0; call < 60; call += 1) {
      const name = random.pick(["set", "set", "set", "delete", "batch", "batch", "undo", "refresh", "refresh", "compact", "archive"]);
      const agent = random.below(agents.length);
      history.push(`${name} ${agent}`);
      await calls[name](agents[agent]);
      if (!random.chance(0.2)) continue;
      for (const other of agents) await other.refresh();
      const reader = await opened(context, { readOnly: true }, dir);
      for (const other of agents) assert.deepEqual(other.entries(), reader.entries(), history.join(", "));
      await reader.close();
    }
  });
}
