// The same random calls on both stores give the same documents, operations and archives after every call.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, test } from "node:test";
import { allowancesNotNeeded } from "../intended-differences.mjs";
import { runSeed } from "../lib/differential.mjs";
import { temporaryDirectory } from "../lib/directories.mjs";
import { checksTheHarness, startOurs } from "../lib/ours.mjs";
import { startReference } from "../lib/reference.mjs";

const callsPerSeed = Number(process.env.COMPAT_CALLS ?? 80);
const onlySeed = process.env.COMPAT_SEED;
const firstSeed = Number(onlySeed ?? process.env.COMPAT_FIRST_SEED ?? 1);
const seedCount = onlySeed === undefined ? Number(process.env.COMPAT_SEEDS ?? 320) : 1;
/** Failures beyond these add nothing: the first ones are read first. */
const failuresShown = 5;

let reference;
let ours;
before(() => {
  reference = startReference();
  ours = startOurs();
});
after(() => Promise.all([reference.end(), ours.end()]));

async function runInNewDirectories(seed) {
  const directories = { referenceDirectory: temporaryDirectory(), oursDirectory: temporaryDirectory() };
  try {
    return await runSeed(seed, callsPerSeed, { reference, ours, ...directories });
  } finally {
    for (const directory of Object.values(directories)) rmSync(directory, { recursive: true, force: true });
  }
}

test(`${seedCount} random runs of ${callsPerSeed} calls are the same on both stores`, async (context) => {
  let calls = 0;
  const failures = [];
  for (let seed = firstSeed; seed < firstSeed + seedCount; seed += 1) {
    try {
      calls += await runInNewDirectories(seed);
    } catch (error) {
      failures.push({ seed, error });
    }
  }
  context.diagnostic(`${calls} calls compared from seed ${firstSeed} on`);
  for (const { error } of failures.slice(0, failuresShown)) console.error(`${error.message}\n`);
  assert.deepEqual(failures.map(({ seed }) => seed), [], "these seeds differ");
  if (onlySeed === undefined && seedCount >= 300) {
    assert.ok(calls >= 20_000, `only ${calls} calls were compared`);
    if (checksTheHarness) return;
    assert.deepEqual(allowancesNotNeeded(), [], "these intended differences were never needed");
  }
});
