// One workload with one implementation, in a process of its own: prints what it measured, in milliseconds, operations a second, or MiB.

import { cpSync } from "node:fs";
import { documentOf, idOf, remove, temporary } from "./data.mjs";

const [, , implementation, workload, given, counted] = process.argv;
const { Store } = await import(implementation === "reference" ? "@backloghq/opslog" : "../index.js");
const count = Number(counted);
const options = implementation === "os_buffered" ? { osBuffered: true } : {};
const now = () => performance.now();
const perSecond = (operations, milliseconds) => Math.round((operations / milliseconds) * 1000);

async function timed(call) {
  const began = now();
  await call();
  return now() - began;
}

const workloads = {
  /** Opens, and reads, a store of `count` documents. */
  async read() {
    globalThis.gc();
    let longest = 0;
    let last = now();
    const timer = setInterval(() => {
      longest = Math.max(longest, now() - last - 10);
      last = now();
    }, 10);
    const store = new Store();
    const open = await timed(() => store.open(given, { readOnly: true, ...options }));
    await new Promise((resolve) => { setTimeout(resolve, 30); });
    clearInterval(timer);
    globalThis.gc();
    const rssOpen = process.memoryUsage().rss / 2 ** 20;
    const order = Array.from({ length: Math.min(count, 100_000) }, () => idOf(Math.floor(Math.random() * count)));
    const get = () => { for (const id of order) if (store.get(id) === undefined) throw new Error(id); };
    const firstGet = await timed(get);
    const laterGet = Math.min(await timed(get), await timed(get), await timed(get));
    const filter = () => store.filter((document) => document.status === "done").length;
    const firstFilter = await timed(filter);
    const laterFilter = Math.min(await timed(filter), await timed(filter), await timed(filter));
    globalThis.gc();
    const rssRead = process.memoryUsage().rss / 2 ** 20;
    await store.close();
    return {
      "open, ms": open, "open and first filter, ms": open + firstGet + firstFilter, "timer late while opening, ms": longest,
      "first get, ns": (firstGet / order.length) * 1e6, "later get, ns": (laterGet / order.length) * 1e6,
      "first filter, ms": firstFilter, "later filter, ms": laterFilter, "memory after open, MiB": rssOpen, "memory after reading all, MiB": rssRead,
    };
  },

  async replay() {
    const store = new Store();
    const open = await timed(() => store.open(given, { readOnly: true, ...options }));
    await store.close();
    return { "replay, ms": open };
  },

  async compact() {
    const directory = temporary();
    cpSync(given, directory, { recursive: true });
    const store = new Store();
    await store.open(directory, { checkpointOnClose: false, ...options });
    await store.set(idOf(0), documentOf(1));
    let longest = 0;
    let last = now();
    const timer = setInterval(() => {
      longest = Math.max(longest, now() - last - 10);
      last = now();
    }, 10);
    const compact = await timed(() => store.compact());
    clearInterval(timer);
    longest = Math.max(longest, now() - last - 10);
    await store.close();
    remove(directory);
    return { "compact, ms": compact, "timer late while compacting, ms": longest };
  },

  async set() {
    const results = {};
    for (const writeMode of ["immediate", "group", "async"]) {
      for (const style of ["awaited", "pipelined"]) {
        const directory = temporary();
        const store = new Store();
        await store.open(directory, { writeMode, checkpointThreshold: Number.MAX_SAFE_INTEGER, checkpointOnClose: false, ...options });
        const operations = style === "awaited" && writeMode === "immediate" ? Math.min(count, 2000) : count;
        const took = await timed(async () => {
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
    const took = await timed(async () => {
      for (let batch = 0; batch < batches; batch += 1) {
        await store.batch(() => {
          for (let number = batch * 100; number < batch * 100 + 100; number += 1) store.set(idOf(number), documentOf(number));
        });
      }
    });
    await store.close();
    remove(directory);
    return { "batches of 100, documents/s": perSecond(batches * 100, took) };
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
};

console.log(JSON.stringify(await workloads[workload]()));
