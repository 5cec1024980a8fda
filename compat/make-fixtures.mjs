// Writes small directories with the reference package, and what the reference reads from each.
//
// The result is committed and never made again: it is evidence of what the reference wrote. So this
// script leaves a fixture alone that exists.

import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { logPaths, operationsIn, readManifest } from "./lib/directories.mjs";
import { observeCopy } from "./lib/observation.mjs";
import { historiesOf, plainOperation } from "./lib/operations.mjs";
import { startReference } from "./lib/reference.mjs";
import { Writer, scenarios } from "./lib/scenarios.mjs";

const root = process.env.OPSLOG_FIXTURES ?? fileURLToPath(new URL("../crates/opslog/tests/fixtures/reference", import.meta.url));

async function expectation(reader, directory, { about, agents }) {
  const options = agents ? { agentId: "reader", checkpointOnClose: false } : { readOnly: true };
  const observed = await observeCopy(reader, directory, options);
  const expected = { about, version: readManifest(directory).version, ...observed, history: historiesOf(observed.operations) };
  // The reference forgets what came before a checkpoint, but leaves the logs: a store that reads
  // them finds these operations, oldest first.
  if (!agents) expected.allOperations = logPaths(directory).flatMap(operationsIn).map(plainOperation);
  return expected;
}

const reader = startReference();
for (const [name, scenario] of Object.entries(scenarios)) {
  const directory = join(root, name);
  if (existsSync(directory)) {
    console.log(`${name}: exists, left alone`);
    continue;
  }
  mkdirSync(directory, { recursive: true });
  await scenario.write(new Writer(startReference), directory);
  if (!scenario.keepsLock) rmSync(join(directory, ".lock"), { force: true });
  const expected = await expectation(reader, directory, scenario);
  writeFileSync(join(directory, "expected.json"), `${JSON.stringify(expected, null, 2)}\n`);
  console.log(`${name}: ${expected.documents.length} documents, ${expected.operations.length} operations`);
}
await reader.end();
