// Directories that ours wrote open in the reference with the same documents in the same order, the same
// operations since the checkpoint and the same archives: after a close, and at any moment before it.

import assert from "node:assert/strict";
import { readFileSync, rmSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { assertSameObservation } from "../lib/comparison.mjs";
import { activeLogPath, copyOf, readManifest, temporaryDirectory } from "../lib/directories.mjs";
import { RemoteStore } from "../lib/line-client.mjs";
import { asAgent, observeCopy } from "../lib/observation.mjs";
import { checksTheHarness, startOurs } from "../lib/ours.mjs";
import { Random } from "../lib/random.mjs";
import { RandomCalls } from "../lib/random-calls.mjs";
import { startReference } from "../lib/reference.mjs";
import { Writer, scenarios, writeLittleOfEverything } from "../lib/scenarios.mjs";

let reference;
let ours;
before(() => {
  reference = startReference();
  ours = startOurs();
});
after(() => Promise.all([reference.end(), ours.end()]));

const writer = new Writer(startOurs);

async function assertReferenceReadsTheSame(directory, where, agents = false) {
  const expected = await observeCopy(reference, directory, agents ? asAgent : undefined);
  assertSameObservation(expected, await observeCopy(ours, directory), where);
  // Of logs that agents have left, the reference's single writer would read one only.
  if (!agents) await assertReferenceCanTakeOver(directory, expected, where);
  return expected;
}

/** The reference opens the store for writing and checkpoints it; then ours finds all of it. */
async function assertReferenceCanTakeOver(directory, expected, where) {
  const copy = copyOf(directory);
  try {
    const store = new RemoteStore(reference, copy);
    await store.open(copy, {});
    await store.set("added by the reference", { n: 1 });
    await store.close();
    const observed = await observeCopy(ours, copy);
    assert.deepEqual(observed.documents, [...expected.documents, ["added by the reference", { n: 1 }]], where);
    assert.deepEqual(observed.archives.map(([, entries]) => entries.length), expected.archives.map(([, entries]) => entries.length), where);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

describe("a directory written by ours opens in the reference", () => {
  for (const [name, { about, agents, byReferenceOnly, write }] of Object.entries(scenarios)) {
    if (byReferenceOnly) continue;
    test(`${name}: ${about}`, async (context) => {
      const directory = temporaryDirectory(context);
      await write(writer, directory);
      const fromOurs = await assertReferenceReadsTheSame(directory, name, agents);
      // The same calls on the reference give the same documents.
      const sameByReference = temporaryDirectory(context);
      await write(new Writer(startReference), sameByReference);
      const fromReference = await observeCopy(reference, sameByReference, agents ? asAgent : undefined);
      assert.deepEqual(fromOurs.documents, fromReference.documents);
      assert.deepEqual(fromOurs.archives.map(([period]) => period), fromReference.archives.map(([period]) => period));
    });
  }
});

test("a store that our last agent closed opens in the reference as a single writer's", { skip: checksTheHarness }, async (context) => {
  const directory = temporaryDirectory(context);
  const client = startOurs();
  const agents = ["ann", "ben", "cho"].map((agentId) => [new RemoteStore(client, agentId), agentId]);
  for (const [store, agentId] of agents) await store.open(directory, { agentId });
  for (let round = 0; round < 10; round += 1) {
    for (const [store, agentId] of agents) {
      await store.set(`${agentId}-${round}`, { round });
      await store.set("shared", { agentId, round });
      if (round % 4 === 1) await store.refresh();
      if (round === 5) await store.delete(`${agentId}-0`);
      if (round === 7) await store.undo();
    }
  }
  for (const [store] of agents) await store.close();
  await client.end();
  const { documents } = await assertReferenceReadsTheSame(directory);
  assert.equal(documents.length, 3 * 8 + 1 + 3);
});

describe("a store of ours that was killed opens in the reference", () => {
  for (const writeMode of ["immediate", "group", "async"]) {
    test(`in ${writeMode} mode, after a flush`, async (context) => {
      const directory = temporaryDirectory(context);
      await writer.killed(directory, { writeMode }, async (store) => {
        await writeLittleOfEverything(store);
        await store.flush();
      });
      const { documents } = await assertReferenceReadsTheSame(directory);
      assert.deepEqual(documents.map(([id]) => id), ["task-1", "task-3", "task-4", "task-2"]);
    });

    test(`in ${writeMode} mode, in the middle of writing`, async (context) => {
      for (let round = 0; round < 5; round += 1) {
        const directory = temporaryDirectory(context);
        const client = startOurs();
        const store = new RemoteStore(client);
        await store.open(directory, { writeMode, groupCommitSize: 5, groupCommitMs: 1, checkpointThreshold: 37 });
        const calls = new RandomCalls(new Random(round + 1));
        const writes = Array.from({ length: 400 }, () => client.send({ store: "main", ...calls.set() }).catch(() => {}));
        await writes[round * 60];
        await client.kill();
        await assertReferenceReadsTheSame(directory, `round ${round}`);
      }
    });
  }

  test("with blank padding at the end of its log", { skip: checksTheHarness }, async (context) => {
    const directory = temporaryDirectory(context);
    await writer.killed(directory, {}, writeLittleOfEverything);
    assert.match(readFileSync(activeLogPath(directory), "utf8"), /\}\n\n+$/, "the log is extended ahead of need");
    await assertReferenceReadsTheSame(directory);
    // The reference appends behind the padding, and ours reads that.
    await new Writer(startReference).closed(directory, { checkpointOnClose: false }, (store) => store.set("behind", { n: 1 }));
    const { documents } = await assertReferenceReadsTheSame(directory);
    assert.deepEqual(documents.at(-1), ["behind", { n: 1 }]);
  });

  test("after an undo", { skip: checksTheHarness }, async (context) => {
    const directory = temporaryDirectory(context);
    await writer.killed(directory, {}, async (store) => {
      await writeLittleOfEverything(store);
      await store.batch([{ op: "set", id: "undone", document: { n: 1 } }, { op: "delete", id: "task-1" }]);
      assert.equal(await store.undo(), true);
    });
    const { documents } = await assertReferenceReadsTheSame(directory);
    assert.deepEqual(documents.map(([id]) => id), ["task-1", "task-3", "task-4", "task-2"]);
  });

  test("after an undo across a checkpoint", { skip: checksTheHarness }, async (context) => {
    const directory = temporaryDirectory(context);
    await writer.killed(directory, {}, async (store) => {
      await writeLittleOfEverything(store);
      await store.compact();
      assert.equal(await store.undo(), true);
      assert.equal(await store.undo(), true);
    });
    const { documents } = await assertReferenceReadsTheSame(directory);
    assert.deepEqual(documents.map(([id]) => id), ["task-1", "task-3"]);
  });

  for (const checkpointMode of ["background", "blocking"]) {
    test(`at every moment of a run with ${checkpointMode} checkpoints`, async (context) => {
      const directory = temporaryDirectory(context);
      const client = startOurs();
      context.after(() => client.kill());
      const store = new RemoteStore(client);
      await store.open(directory, { checkpointMode, checkpointThreshold: 10, osBuffered: true });
      const calls = new RandomCalls(new Random(7));
      for (let round = 0; round < 20; round += 1) {
        const writes = Array.from({ length: 13 }, () => client.send({ store: "main", ...calls.set() }));
        await Promise.all(writes);
        const { documents } = await observedBetweenCheckpoints(directory);
        assert.deepEqual(documents, await store.entries(), `round ${round}`);
      }
      await client.kill();
      await assertReferenceReadsTheSame(directory);
    });
  }
});

/**
 * A checkpoint may replace files while they are copied: such a copy is of no one moment, and another is made. The files that it replaced
 * are removed after it has switched the manifest, so one may also be gone within one generation.
 */
async function observedBetweenCheckpoints(directory) {
  for (let tries = 1; ; tries += 1) {
    const { opslog: before } = readManifest(directory);
    const observed = await observeCopy(reference, directory).catch((error) => error);
    const { opslog: after } = readManifest(directory);
    const wasRemoved = observed.code === "ENOENT" && tries < 200;
    if (before?.generation !== after?.generation || wasRemoved) continue;
    if (observed instanceof Error) throw observed;
    return observed;
  }
}

test("the text of numbers survives, and the reference reads their values", { skip: checksTheHarness }, async (context) => {
  const directory = temporaryDirectory(context);
  const client = startOurs();
  const text = '{"one":1.0,"big":12345678901234567890,"exact":0.10,"exponent":1E+2}';
  const store = new RemoteStore(client);
  await store.open(directory, { checkpointOnClose: false });
  // As a line of text: JSON.stringify would change the numbers.
  await client.sendLine(`{"store":"main","call":"set","id":"numbers","document":${text}}`);
  assert.equal(await store.getText("numbers"), text);
  await store.compact();
  await store.close();
  await store.open(directory, {});
  assert.equal(await store.getText("numbers"), text);
  await store.close();
  await client.end();
  const { documents } = await observeCopy(reference, directory);
  assert.deepEqual(documents, [["numbers", JSON.parse(text)]]);
});
