// Faults of the reference: the same experiment shows each of the reference and not of ours.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { faults, makeExperiment } from "../lib/faults.mjs";
import { checksTheHarness, startOurs } from "../lib/ours.mjs";
import { startReference } from "../lib/reference.mjs";

/** Says why an experiment cannot be made here. */
function missingFor({ needs }) {
  return needs !== undefined && spawnSync(needs, ["--version"]).error !== undefined && `${needs} is not installed`;
}

describe("a fault of the reference", () => {
  for (const fault of faults) {
    test(`${fault.fault}: ${fault.title}`, { skip: missingFor(fault) }, async (context) => {
      assert.deepEqual(await makeExperiment(fault, startReference, context), fault.reference, "the reference has the fault");
    });
  }
});

describe("ours does not have the fault", { skip: checksTheHarness }, () => {
  for (const fault of faults) {
    test(`${fault.fault}: ${fault.title}`, { skip: missingFor(fault) }, async (context) => {
      assert.deepEqual(await makeExperiment(fault, startOurs, context), fault.ours);
    });
  }
});
