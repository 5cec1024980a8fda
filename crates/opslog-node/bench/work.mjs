// One workload with one implementation, in a process of its own: prints what it measured, in milliseconds, operations a second, or MiB.

import { cpSync } from "node:fs";
import { documentOf, idOf, remove, temporary } from "./data.mjs";

const [, , implementation, workload, given, counted] = process.argv;
const { Store } = await import(implementation === "reference" ? "@backloghq/opslog" : "../index.js");
const count = Number(counted);
const options = { os_buffered: { osBuffered: true }, decoded: { decodeOnOpen: true } }[implementation] ?? {};
const now = () => performance.now();
const perSecond = (operations, milliseconds) => Math.round((operations / milliseconds) * 1000);

async function timed(call) {
  const began = now();
  await call();
  return now() - began;
}

/** Microseconds of all cores for each of `operations` that `call` does. */
async function cpu(operations, call) {
  const before = process.cpuUsage();
  const took = await timed(call);
  const { user, system } = process.cpuUsage(before);
  return { took, each: (user + system) / operations };
}

/** How late a timer of 10 ms was at most while `call` ran. */
async function lateness(call) {
  let longest = 0;
  let last = now();
  const note = () => {
    longest = Math.max(longest, now() - last - 10);
    last = now();
  };
  const timer = setInterval(note, 10);
  await call();
  note();
  clearInterval(timer);
  return longest;
}

/** MiB that the process has once garbage is collected and given back, which takes more than one collection. */
async function memory() {
  for (let time = 0; time < 3; time += 1) {
    globalThis.gc();
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
  return process.memoryUsage().rss / 2 ** 20;
}

/** MiB that the process had at most. */
const peak = () => process.resourceUsage().maxRSS / 2 ** 10;

const workloads = {
  /** Opens a store of `count` documents, and gets some. */
  async get() {
    const idle = await lateness(() => new Promise((resolve) => { setTimeout(resolve, 300); }));
    const store = new Store();
    let open;
    const late = await lateness(async () => { open = await timed(() => store.open(given, { readOnly: true, ...options })); });
    const most = peak();
    const kept = await memory();
    const order = Array.from({ length: Math.min(count, 100_000) }, () => idOf(Math.floor(Math.random() * count)));
    const get = () => { for (const id of order) if (store.get(id) === undefined) throw new Error(id); };
    const first = await timed(get);
    const later = Math.min(await timed(get), await timed(get), await timed(get));
    await store.close();
    return {
      "open, ms": open, "open and first get of 100,000, ms": open + first, "later get, ns": (later / order.length) * 1e6,
      "10 ms timer late: idle process, ms": idle, "10 ms timer late: opening, ms": late, "memory after open, MiB": kept, "most memory while opening, MiB": most,
    };
  },

  /** Opens a store of `count` documents, and looks at all. */
  async filter() {
    const store = new Store();
    const open = await timed(() => store.open(given, { readOnly: true, ...options }));
    const filter = () => { if (store.filter((document) => document.status === "done").length === 0) throw new Error("none"); };
    const first = await timed(filter);
    const later = Math.min(await timed(filter), await timed(filter), await timed(filter));
    const most = peak();
    const kept = await memory();
    await store.close();
    return {
      "first filter, ms": first, "open and first filter, ms": open + first, "later filter, ms": later,
      "memory after reading all, MiB": kept, "most memory until then, MiB": most,
    };
  },

  async replay() {
    const store = new Store();
    let open;
    const late = await lateness(async () => { open = await timed(() => store.open(given, { readOnly: true, ...options })); });
    await store.close();
    return { "replay, ms": open, "10 ms timer late: replaying, ms": late };
  },

  async compact() {
    const directory = temporary();
    cpSync(given, directory, { recursive: true });
    const store = new Store();
    await store.open(directory, { checkpointOnClose: false, ...options });
    await store.set(idOf(0), documentOf(1));
    let compact;
    const late = await lateness(async () => { compact = await timed(() => store.compact()); });
    const most = peak();
    await store.close();
    remove(directory);
    return { "compact, ms": compact, "10 ms timer late: compacting, ms": late, "most memory with opening, MiB": most };
  },

  async set() {
    const results = {};
    for (const writeMode of ["immediate", "group", "async"]) {
      for (const style of ["awaited", "pipelined"]) {
        const directory = temporary();
        const store = new Store();
        await store.open(directory, { writeMode, checkpointThreshold: Number.MAX_SAFE_INTEGER, checkpointOnClose: false, ...options });
        const operations = style === "awaited" && writeMode === "immediate" ? Math.min(count, 2000) : count;
        const { took, each } = await cpu(operations, async () => {
          let sets = [];
          for (let number = 0; number < operations; number += 1) {
            const set = store.set(idOf(number), documentOf(number));
            if (style === "awaited") await set;
            else if (sets.push(set) === 1000) {
              await Promise.all(sets);
              sets = [];
            }
          }
          await Promise.all(sets);
          await store.flush();
        });
        results[`set, ${writeMode}, ${style}, /s`] = perSecond(operations, took);
        results[`set, ${writeMode}, ${style}, CPU µs each`] = each;
        await store.close();
        remove(directory);
      }
    }
    return results;
  },

  async batch() {
    const directory = temporary();
    const store = new Store();
    await store.open(directory, { checkpointThreshold: Number.MAX_SAFE_INTEGER, checkpointOnClose: false, ...options });
    const batches = Math.ceil(count / 100);
    const { took, each } = await cpu(batches * 100, async () => {
      for (let batch = 0; batch < batches; batch += 1) {
        await store.batch(() => {
          for (let number = batch * 100; number < batch * 100 + 100; number += 1) store.set(idOf(number), documentOf(number));
        });
      }
    });
    await store.close();
    remove(directory);
    return { "batches of 100, documents/s": perSecond(batches * 100, took), "batches of 100, CPU µs a document": each };
  },

  /** Sets with the usual options on a store of `count` documents. */
  async usual() {
    const directory = temporary();
    cpSync(given, directory, { recursive: true });
    const store = new Store();
    await store.open(directory, { checkpointOnClose: false, ...options });
    const took = await timed(async () => { for (let number = 0; number < 300; number += 1) await store.set(idOf(number), documentOf(number + 1)); });
    await store.close();
    remove(directory);
    return { "set with usual options on a full store, /s": perSecond(300, took) };
  },

  /** Changes some of `count` documents in `group` mode, 1,000 at a time, and looks at all. */
  async updates() {
    const directory = temporary();
    cpSync(given, directory, { recursive: true });
    const store = new Store();
    await store.open(directory, { writeMode: "group", checkpointThreshold: Number.MAX_SAFE_INTEGER, checkpointOnClose: false, ...options });
    const numbers = Array.from({ length: 25_000 }, () => Math.floor(Math.random() * count));
    const { took, each } = await cpu(numbers.length, async () => {
      for (let from = 0; from < numbers.length; from += 1000) {
        await Promise.all(numbers.slice(from, from + 1000).map((number) => store.set(idOf(number), documentOf(number + 1))));
      }
      await store.flush();
    });
    store.count(() => true);
    const kept = await memory();
    await store.close();
    remove(directory);
    return { "updates of a full store, group, /s": perSecond(numbers.length, took), "CPU µs each": each, "memory after reading all then, MiB": kept };
  },
};

console.log(JSON.stringify(await workloads[workload]()));
