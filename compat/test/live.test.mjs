// Both at once on one directory: a writer of one refuses a writer of the other while it lives and not when it is dead,
// and a reader of one follows a writer of the other.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { contentOf, temporaryDirectory } from "../lib/directories.mjs";
import { RemoteStore } from "../lib/line-client.mjs";
import { checksTheHarness, startOurs } from "../lib/ours.mjs";
import { Random } from "../lib/random.mjs";
import { RandomCalls } from "../lib/random-calls.mjs";
import { startReference } from "../lib/reference.mjs";

const starts = { reference: startReference, ours: startOurs };
const keepLog = { checkpointOnClose: false };

let clients;
before(() => {
  clients = { reference: startReference(), ours: startOurs() };
});
after(() => Promise.all(Object.values(clients).map((client) => client.end())));

for (const [holder, other] of [["reference", "ours"], ["ours", "reference"]]) {
  describe(`while a writer of ${holder} has the store`, () => {
    test(`a writer of ${other} is refused, and let in after the close`, async (context) => {
      const directory = temporaryDirectory(context);
      const first = new RemoteStore(clients[holder], directory);
      const second = new RemoteStore(clients[other], directory);
      await first.open(directory, keepLog);
      await first.set("a", { n: 1 });
      await assert.rejects(second.open(directory, keepLog), { kind: "Locked" });
      await first.set("b", { n: 2 });
      await first.close();
      await second.open(directory, keepLog);
      assert.deepEqual(await second.entries(), [["a", { n: 1 }], ["b", { n: 2 }]]);
      await assert.rejects(first.open(directory, keepLog), { kind: "Locked" });
      await second.close();
    });

    test(`a writer of ${other} takes over once its process was killed`, async (context) => {
      const directory = temporaryDirectory(context);
      const dying = starts[holder]();
      const first = new RemoteStore(dying);
      await first.open(directory, keepLog);
      await first.set("a", { n: 1 });
      await dying.kill();
      const second = new RemoteStore(clients[other], directory);
      await second.open(directory, keepLog);
      await second.set("b", { n: 2 });
      await second.close();
      const third = new RemoteStore(clients[holder], directory);
      await third.open(directory, keepLog);
      assert.deepEqual(await third.entries(), [["a", { n: 1 }], ["b", { n: 2 }]]);
      await third.close();
    });
  });
}

for (const [name, checkpointThreshold] of [["without checkpoints", 1_000_000], ["across checkpoints and undos", 7]]) {
  // Fault 13: a reader of the reference sees nothing after a checkpoint, so only ours follows across one.
  const pairs = checkpointThreshold > 1000 ? [["reference", "ours"], ["ours", "reference"]] : [["reference", "ours"]];
  for (const [writerSide, readerSide] of pairs) {
    test(`a reader of ${readerSide} follows a writer of ${writerSide} ${name}`, async (context) => {
      if (checksTheHarness && checkpointThreshold < 1000) return context.skip();
      const directory = temporaryDirectory(context);
      const writer = new RemoteStore(clients[writerSide], `${directory} writer`);
      const reader = new RemoteStore(clients[readerSide], `${directory} reader`);
      await writer.open(directory, { ...keepLog, checkpointThreshold });
      await writer.set("first", { n: 1 });
      await reader.open(directory, { readOnly: true });
      const random = new Random(5);
      const calls = new RandomCalls(random, { asciiOnly: true });
      for (let round = 0; round < 30; round += 1) {
        for (let count = random.below(4); count > 0; count -= 1) await writer.client.send({ store: writer.name, ...calls.set() });
        // The reference's reader does not notice an undo.
        if (!checksTheHarness && readerSide === "ours" && random.chance(0.3)) await writer.undo();
        await reader.tail();
        assert.deepEqual(await reader.entries(), await writer.entries(), `round ${round}`);
      }
      const { operations } = await reader.tail();
      assert.deepEqual(operations, [], "with nothing new, nothing is told");
      await reader.close();
      await writer.close();
    });
  }
}

test("a reader of ours leaves a store of the reference byte for byte as it was", { skip: checksTheHarness }, async (context) => {
  const directory = temporaryDirectory(context);
  const writer = new RemoteStore(clients.reference, directory);
  await writer.open(directory, keepLog);
  await writer.set("a", { n: 1 });
  const before = contentOf(directory);
  const reader = new RemoteStore(clients.ours, directory);
  await reader.open(directory, { readOnly: true });
  await assert.rejects(reader.set("b", { n: 1 }), { kind: "ReadOnly" });
  await reader.tail();
  await reader.close();
  assert.deepEqual(contentOf(directory), before);
  await writer.close();
});
