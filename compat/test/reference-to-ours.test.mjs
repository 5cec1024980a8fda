// Directories that the reference wrote open in ours with the same documents in the same order, the same
// operations and the same archives.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { assertSameObservation, assertSameOfAgents } from "../lib/comparison.mjs";
import { archivePeriods, copyOf, readManifest, temporaryDirectory } from "../lib/directories.mjs";
import { RemoteStore } from "../lib/line-client.mjs";
import { asAgent, observe, observeCopy } from "../lib/observation.mjs";
import { checksTheHarness, startOurs } from "../lib/ours.mjs";
import { Random } from "../lib/random.mjs";
import { RandomCalls } from "../lib/random-calls.mjs";
import { startReference } from "../lib/reference.mjs";
import { Writer, scenarios } from "../lib/scenarios.mjs";

const fixtures = fileURLToPath(new URL("../../crates/opslog/tests/fixtures/reference", import.meta.url));

const waysToOpen = {
  "read-only": { readOnly: true },
  "for writing": { checkpointOnClose: false },
  "for writing, documents on demand": { checkpointOnClose: false, residency: "onDemand" },
};

let reference;
let ours;
before(() => {
  reference = startReference();
  ours = startOurs();
});
after(() => Promise.all([reference.end(), ours.end()]));

async function assertOursReadsTheSame(directory, agents = false) {
  const expected = await observeCopy(reference, directory, agents ? asAgent : undefined);
  for (const [way, options] of Object.entries(waysToOpen)) {
    const assertSame = agents ? assertSameOfAgents : assertSameObservation;
    assertSame(expected, await observeCopy(ours, directory, options), way);
  }
  return expected;
}

/** Ours takes the directory over, writes and closes; then the reference finds all of it. */
async function assertOursCanTakeOver(directory, expected, context) {
  const copy = copyOf(directory, context);
  const store = new RemoteStore(ours, copy);
  await store.open(copy, {});
  await store.set("added by ours", { n: 1 });
  await store.compact();
  await store.close();
  const observed = await observeCopy(reference, copy);
  assert.deepEqual(observed.documents, [...expected.documents, ["added by ours", { n: 1 }]]);
  assert.deepEqual(observed.archives, expected.archives);
}

describe("a directory written by the reference opens in ours", () => {
  for (const [name, { about, agents, write }] of Object.entries(scenarios)) {
    test(`${name}: ${about}`, async (context) => {
      const directory = temporaryDirectory(context);
      await write(new Writer(startReference), directory);
      const expected = await assertOursReadsTheSame(directory, agents);
      await assertOursCanTakeOver(directory, expected, context);
    });
  }
});

describe("a committed fixture opens in ours", () => {
  for (const name of readdirSync(fixtures)) {
    test(name, async () => {
      const directory = join(fixtures, name);
      const expected = JSON.parse(readFileSync(join(directory, "expected.json"), "utf8"));
      for (const [way, options] of Object.entries(waysToOpen)) {
        const observed = await observeCopy(ours, directory, options);
        if (scenarios[name]?.agents) {
          assertSameOfAgents(expected, observed, way);
          continue;
        }
        assertSameObservation(expected, observed, way);
        if (!checksTheHarness) assert.deepEqual(observed.operations, expected.allOperations, `all operations ${way}`);
      }
    });
  }
});

for (const writeMode of ["immediate", "group", "async"]) {
  test(`a writer in ${writeMode} mode killed in the middle leaves what both read the same`, async (context) => {
    for (let round = 0; round < 5; round += 1) {
      const directory = temporaryDirectory(context);
      const client = startReference();
      const store = new RemoteStore(client);
      await store.open(directory, { writeMode, groupCommitSize: 5, groupCommitMs: 1, checkpointThreshold: 37 });
      const calls = new RandomCalls(new Random(round + 1));
      const writes = Array.from({ length: 400 }, () => client.send({ store: "main", ...calls.set() }).catch(() => {}));
      await writes[round * 60];
      await client.kill();
      await assertOursReadsTheSame(directory);
    }
  });
}

test("the log cut at any byte is read the same", async (context) => {
  const directory = temporaryDirectory(context);
  await new Writer(startReference).closed(directory, { checkpointOnClose: false }, async (store) => {
    await store.set("first", { text: "é😀" });
    await store.set("second", { n: 1 });
  });
  const path = join(directory, readManifest(directory).activeOps);
  const whole = readFileSync(path);
  for (let length = 0; length <= whole.length; length += 1) {
    writeFileSync(path, whole.subarray(0, length));
    const expected = await observeCopy(reference, directory);
    assertSameObservation(expected, await observeCopy(ours, directory), `cut at ${length}`);
  }
});

test("a store of random calls opens in ours", async (context) => {
  for (let seed = 1; seed <= 10; seed += 1) {
    const directory = temporaryDirectory(context);
    const calls = new RandomCalls(new Random(seed));
    await new Writer(startReference).closed(directory, { checkpointThreshold: 30, checkpointOnClose: seed % 2 === 0 }, async (store) => {
      for (let count = 0; count < 60; count += 1) {
        const call = [calls.set(), calls.set(), calls.delete(), calls.batch(), ...(count % 20 === 19 ? [calls.archive()] : [])].at(-(1 + (count % 4)));
        await store.client.send({ store: store.name, ...call }).catch(() => {});
      }
    });
    await assertOursReadsTheSame(directory);
  }
});

test("a lone surrogate in a document is kept", async (context) => {
  const directory = temporaryDirectory(context);
  await new Writer(startReference).closed(directory, { checkpointOnClose: false }, async (store) => {
    await store.set("surrogate", { text: "\ud800", "\udc00": 1 });
    await store.set("after", { n: 1 });
  });
  const store = new RemoteStore(ours, directory);
  await store.open(directory, {});
  assert.deepEqual(await observe(store, archivePeriods(directory)).then(({ documents }) => documents),
    [["surrogate", { text: "\ud800", "\udc00": 1 }], ["after", { n: 1 }]]);
  await store.close();
});
