// Each opens, writes and closes the same directory in turn, and finds what the other left.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { assertSameObservation, withWholeArchives } from "../lib/comparison.mjs";
import { temporaryDirectory } from "../lib/directories.mjs";
import { RemoteStore } from "../lib/line-client.mjs";
import { observeCopy } from "../lib/observation.mjs";
import { startOurs } from "../lib/ours.mjs";
import { Random } from "../lib/random.mjs";
import { RandomCalls } from "../lib/random-calls.mjs";
import { startReference } from "../lib/reference.mjs";

const rounds = 50;
const seeds = process.env.COMPAT_SEED === undefined ? [1, 2, 3] : [Number(process.env.COMPAT_SEED)];

let sides;
before(() => {
  sides = { reference: startReference(), ours: startOurs() };
});
after(() => Promise.all(Object.values(sides).map((client) => client.end())));

function randomOptions(random) {
  return {
    writeMode: random.pick(["immediate", "group", "async"]),
    groupCommitSize: 5,
    checkpointThreshold: random.pick([5, 20, 100]),
    checkpointOnClose: random.chance(0.5),
    checkpointMode: random.pick(["background", "blocking"]),
    undoMode: random.pick(["truncate", "append"]),
    residency: random.pick(["memory", "onDemand"]),
    osBuffered: random.chance(0.7),
  };
}

/** Undo is left out where the reference would cut the log in the wrong place or take back part of a batch of ours. */
function randomCall(random, calls, side, before) {
  const undoes = side === "ours" || before?.call === "set";
  return random.weighted([
    [20, () => calls.set()],
    [5, () => calls.delete()],
    [5, () => calls.batch()],
    [1, () => calls.archive()],
    [1, () => ({ call: "compact" })],
    [undoes ? 3 : 0, () => ({ call: "undo" })],
  ])();
}

async function workOneRound(side, directory, options, random, calls) {
  const store = new RemoteStore(sides[side], directory);
  await store.open(directory, options);
  const made = [];
  for (let count = random.below(15); count > 0; count -= 1) {
    const call = randomCall(random, calls, side, made.at(-1));
    // The reference's undo of what is still in its buffer removes something else.
    if (call.call === "undo") await store.flush();
    made.push(call);
    await sides[side].send({ store: store.name, ...call }).catch(() => {});
  }
  await store.close();
  return made;
}

for (const seed of seeds) {
  test(`${rounds} rounds in turn on one directory, seed ${seed}`, async (context) => {
    const directory = temporaryDirectory(context);
    const random = new Random(seed);
    const calls = new RandomCalls(random, { asciiOnly: true });
    for (let round = 0; round < rounds; round += 1) {
      const side = round % 2 === 0 ? "reference" : "ours";
      const options = randomOptions(random);
      const made = await workOneRound(side, directory, options, random, calls);
      const fromReference = withWholeArchives(await observeCopy(sides.reference, directory), directory);
      const fromOurs = await observeCopy(sides.ours, directory);
      const story = () => [`round ${round} by ${side}, seed ${seed}: ${JSON.stringify(options)}`, ...made.map((call) => `  ${JSON.stringify(call)}`)];
      try {
        assertSameObservation(fromReference, fromOurs);
      } catch (error) {
        console.error(story().join("\n"));
        throw error;
      }
    }
    const { documents } = await observeCopy(sides.ours, directory);
    assert.ok(documents.length > 0, "the run ends with documents to compare");
  });
}
