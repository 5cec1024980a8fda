// This package beside the reference, in one run, interleaved: medians of `--rounds` (5) for each of `--sizes` (100000,1000000; none for new stores only).

import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { remove, storeOf } from "./data.mjs";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" }, sizes: { type: "string", default: "100000,1000000" }, sets: { type: "string", default: "50000" } } });
const rounds = Number(values.rounds);
const implementations = ["opslog", "os_buffered", "reference"];
const worker = fileURLToPath(new URL("work.mjs", import.meta.url));

function run(implementation, workload, directory, count) {
  const output = execFileSync(process.execPath, ["--expose-gc", "--max-old-space-size=8192", worker, implementation, workload, directory, String(count)], { stdio: ["ignore", "pipe", "ignore"] });
  return JSON.parse(output);
}

function median(numbers) {
  const sorted = numbers.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Prints a table of the medians; `which` implementations differ in this workload. */
function table(title, workload, directory, count, which = implementations) {
  const seen = new Map();
  for (let round = 0; round < rounds; round += 1) {
    for (const implementation of which) {
      for (const [name, value] of Object.entries(run(implementation, workload, directory, count))) {
        const row = seen.get(name) ?? new Map();
        row.set(implementation, [...(row.get(implementation) ?? []), value]);
        seen.set(name, row);
      }
    }
  }
  console.log(`\n| ${title} | ${which.join(" | ")} | ours : reference |\n|---|${"---|".repeat(which.length + 1)}`);
  for (const [name, row] of seen) {
    const medians = which.map((implementation) => median(row.get(implementation)));
    const [ours, theirs] = [medians.at(-2), medians.at(-1)];
    const times = name.endsWith("/s") ? ours / theirs : theirs / ours;
    console.log(`| ${name} | ${medians.map(shown).join(" | ")} | ${times.toFixed(times < 10 ? 2 : 0)} × better |`);
  }
}

const shown = (number) => (number >= 100 ? Math.round(number).toLocaleString("en") : number.toFixed(number >= 10 ? 1 : 2));

console.log(`Node ${process.version}, ${cpus().length} × ${cpus()[0].model}, medians of ${rounds}`);
const nowhere = "-";
table("new store", "set", nowhere, Number(values.sets));
table("new store", "batch", nowhere, Number(values.sets));
for (const size of values.sizes.split(",").filter(Boolean).map(Number)) {
  const snapshot = await storeOf(size, "snapshot");
  const log = await storeOf(size, "log");
  const title = `${size.toLocaleString("en")} documents`;
  // The reference decodes all documents when it opens: what it promises is the second column.
  table(title, "get", snapshot, size, ["opslog", "decoded", "reference"]);
  table(title, "filter", snapshot, size, ["opslog", "decoded", "reference"]);
  table(title, "replay", log, size, ["opslog", "reference"]);
  table(title, "compact", snapshot, size);
  table(title, "usual", snapshot, size);
  table(title, "updates", snapshot, size);
  remove(snapshot);
  remove(log);
}
