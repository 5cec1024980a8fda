// Does the reference's part of one case of opslog-bench, and prints the outcome. The case is the one argument, as JSON: see `Case` in ../src/runner.rs.

import { mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

import { Store } from "@backloghq/opslog";

import { id, isWanted, randomNumber, task, tasks } from "./documents.mjs";
import { Outcome, Stopwatch, checksum, peakMemory, residentMemory, writtenBytes } from "./measure.mjs";

/** No checkpoint of its own accord, where a workload is not about that: it is the better for it. */
const noCheckpoints = { checkpointThreshold: Number.MAX_SAFE_INTEGER };

async function open(directory, options = {}) {
  const store = new Store();
  await store.open(directory, options);
  return store;
}

/** Closes, opens again, and sums up what is there. */
async function finish(store, directory, outcome) {
  await store.close();
  const again = await open(directory, { readOnly: true });
  outcome.checksum = checksum(again);
  await again.close();
}

async function prepare({ directory, size, action }) {
  const store = await open(directory, { ...noCheckpoints, checkpointOnClose: false, writeMode: "async", groupCommitSize: 10_000 });
  if (action.prepare === "Log") {
    const documents = Math.max(1, Math.floor(size / 10));
    for (let step = 0; step < size; step += 1) {
      const number = step < documents ? step : randomNumber(step, documents);
      await store.set(id(number), task(number, step % 7));
    }
  } else {
    for (let first = 0; first < size; first += 10_000) {
      await store.batch(() => {
        for (const [key, document] of tasks(first, Math.min(10_000, size - first), 0)) store.set(key, document);
      });
    }
    await store.compact();
  }
  await store.close();
}

async function singleSets({ directory, size, before }, outcome) {
  const documents = tasks(before, size, 0);
  const store = await open(directory);
  const stopwatch = new Stopwatch();
  for (const [key, document] of documents) await store.set(key, document);
  outcome.rate("set", size, stopwatch.elapsed());
  await finish(store, directory, outcome);
}

/** Node has one thread: as many writes are under way at a time. */
async function concurrentSets({ directory, size, before }, outcome) {
  const store = await open(directory);
  let first = before;
  for (const [threads, times] of [[1, 1], [4, 1], [16, 2], [64, 4]]) {
    const documents = tasks(first, size * times, 0);
    first += size * times;
    const rest = documents.values();
    const writer = async () => {
      for (const [key, document] of rest) await store.set(key, document);
    };
    const stopwatch = new Stopwatch();
    await Promise.all(Array.from({ length: threads }, writer));
    outcome.rate(`threads-${threads}`, documents.length, stopwatch.elapsed());
  }
  await finish(store, directory, outcome);
}

async function bufferedSets({ directory, size, before }, outcome) {
  const documents = tasks(before, size, 0);
  for (const mode of ["group", "async"]) {
    const place = join(directory, mode);
    mkdirSync(place);
    const store = await open(place, { ...noCheckpoints, writeMode: mode });
    const stopwatch = new Stopwatch();
    for (const [key, document] of documents) await store.set(key, document);
    outcome.rate(mode, size, stopwatch.elapsed());
    await store.sync();
    outcome.rate(`${mode}-synced`, size, stopwatch.elapsed());
    await finish(store, place, outcome);
  }
}

async function batches({ directory, size, before }, outcome) {
  const documents = tasks(before, size, 0);
  const store = await open(directory, noCheckpoints);
  const stopwatch = new Stopwatch();
  for (let first = 0; first < size; first += 100) {
    await store.batch(() => {
      for (const [key, document] of documents.slice(first, first + 100)) store.set(key, document);
    });
  }
  outcome.rate("set", size, stopwatch.elapsed());
  await finish(store, directory, outcome);
}

async function openAll({ directory, size }, outcome, documents = size) {
  const stopwatch = new Stopwatch();
  const store = await open(directory, { readOnly: true });
  if (store.count() !== documents) throw new Error(`${store.count()} documents instead of ${documents}`);
  outcome.time("open", 1, stopwatch.elapsed());
  const peak = peakMemory();
  // What it needs, without the garbage of opening.
  globalThis.gc();
  outcome.value("memory", residentMemory());
  outcome.checksum = checksum(store);
  outcome.peak_bytes = peak;
  await store.close();
}

const replay = (work, outcome) => openAll(work, outcome, Math.max(1, Math.floor(work.size / 10)));

async function firstGet({ directory, size }, outcome) {
  const stopwatch = new Stopwatch();
  const store = await open(directory, { readOnly: true });
  if (store.get(id(Math.floor(size / 2))) === undefined) throw new Error("a document is missing");
  outcome.time("first-get", 1, stopwatch.elapsed());
  outcome.value("memory", peakMemory());
  await store.close();
}

function shuffled(documents, turn) {
  const numbers = Array.from({ length: documents }, (_, number) => number);
  for (let place = documents - 1; place > 0; place -= 1) {
    const other = randomNumber(place ^ (turn << 28), place + 1);
    [numbers[place], numbers[other]] = [numbers[other], numbers[place]];
  }
  return numbers.map(id);
}

async function gets({ directory, size }, outcome) {
  const orders = [["first", shuffled(size, 0)], ["later", shuffled(size, 1)]];
  const store = await open(directory, { readOnly: true });
  let sum = 0;
  for (const [key, ids] of orders) {
    const stopwatch = new Stopwatch();
    for (const wanted of ids) sum += store.get(wanted).priority;
    outcome.time(key, size, stopwatch.elapsed());
  }
  if (!(sum > 0)) throw new Error("the documents are not as they should be");
  await store.close();
}

async function filters({ directory }, outcome) {
  const store = await open(directory, { readOnly: true });
  for (const key of ["first", "later"]) {
    const stopwatch = new Stopwatch();
    const found = store.filter(isWanted);
    outcome.time(key, 1, stopwatch.elapsed());
    outcome.checksum = { count: found.length, sum: 0 };
  }
  await store.close();
}

async function setsBesideCheckpoints({ directory, size }, outcome) {
  const count = Math.min(5000, Math.max(50, Math.floor(size / 20)));
  const updates = [];
  let accepted = 0;
  for (let step = 0; step < count; step += 1) {
    const number = randomNumber(step, size);
    const update = [id(number), task(number, (step % 7) + 1)];
    accepted += update[0].length + JSON.stringify(update[1]).length;
    updates.push(update);
  }
  const store = await open(directory);
  const written = writtenBytes();
  let longest = 0;
  const stopwatch = new Stopwatch();
  for (const [key, document] of updates) {
    const one = new Stopwatch();
    await store.set(key, document);
    longest = Math.max(longest, one.elapsed().seconds);
  }
  outcome.rate("set", count, stopwatch.elapsed());
  outcome.value("longest", longest);
  outcome.value("written", (writtenBytes() - written) / accepted);
  await finish(store, directory, outcome);
}

async function checkpoint({ directory }, outcome) {
  const store = await open(directory);
  await store.set(id(0), task(0, 1));
  globalThis.gc();
  const before = residentMemory();
  const opened = peakMemory();
  const stopwatch = new Stopwatch();
  await store.compact();
  outcome.time("checkpoint", 1, stopwatch.elapsed());
  // Where opening took more memory than this, it is not seen.
  if (peakMemory() > opened) outcome.value("memory", peakMemory() - before);
  await store.close();
}

async function tails({ directory, size }, outcome) {
  const logs = [[Math.ceil(size / 100), "nothing-short", "new-short"], [size, "nothing", "new"]];
  for (const [operations, nothing, fresh] of logs) {
    const place = join(directory, String(operations));
    mkdirSync(place);
    const writer = await open(place, { ...noCheckpoints, checkpointOnClose: false, writeMode: "async" });
    const setAll = async (first, count) => {
      for (const [key, document] of tasks(first, count, 0)) await writer.set(key, document);
      await writer.flush();
    };
    await setAll(0, operations);
    const reader = await open(place, { readOnly: true });
    const looks = 3;
    let stopwatch = new Stopwatch();
    for (let look = 0; look < looks; look += 1) await reader.tail();
    outcome.time(nothing, looks, stopwatch.elapsed());
    await setAll(operations, 100);
    stopwatch = new Stopwatch();
    const found = await reader.tail();
    outcome.time(fresh, 1, stopwatch.elapsed());
    if (found.length !== 100) throw new Error(`${found.length} new operations instead of 100`);
    await reader.close();
    await writer.close();
  }
}

async function updates({ directory, size }, outcome) {
  const documents = Math.ceil(size / 100);
  const revisions = 4;
  const all = Array.from({ length: documents }, (_, number) =>
    Array.from({ length: revisions }, (_, revision) => task(number, revision)));
  const ids = Array.from({ length: documents }, (_, number) => id(number));
  const store = await open(directory, { writeMode: "async" });
  const stopwatch = new Stopwatch();
  for (let step = 0; step < size; step += 1) {
    const number = randomNumber(step, documents);
    await store.set(ids[number], all[number][step % revisions]);
  }
  await store.close();
  outcome.rate("set", size, stopwatch.elapsed());
  const disk = diskBytes(directory);
  const again = await open(directory, { readOnly: true });
  let live = 0;
  for (const [key, document] of again.entries()) live += key.length + JSON.stringify(document).length;
  outcome.value("disk", disk / live);
  outcome.checksum = checksum(again);
  await again.close();
}

function diskBytes(directory) {
  let bytes = 0;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    bytes += entry.isDirectory() ? diskBytes(path) : statSync(path).blocks * 512;
  }
  return bytes;
}

const workloads = {
  P1: singleSets,
  P2: concurrentSets,
  P3: bufferedSets,
  P4: batches,
  P5: openAll,
  P5b: firstGet,
  P6: openAll,
  P7: gets,
  P8: filters,
  P9: setsBesideCheckpoints,
  P10: checkpoint,
  P11: replay,
  P12: tails,
  P13: updates,
};

const work = JSON.parse(process.argv[2]);
const outcome = new Outcome();
if (work.action === "run") {
  await workloads[work.workload](work, outcome);
} else {
  await prepare(work);
}
process.stdout.write(`${JSON.stringify(outcome)}\n`);
