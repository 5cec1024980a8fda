// The reference's faults, by their numbers in the repository's list, as far as JavaScript can show them: each test fails on version 0.8.1.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FsBackend, Store } from "../index.js";
import { codeOf, directory, failureOf, opened } from "./lib/stores.mjs";

const keepLog = { checkpointOnClose: false, checkpointThreshold: 1_000_000 };
const logOf = (dir) => join(dir, JSON.parse(readFileSync(join(dir, "manifest.json"), "utf8")).activeOps);
const linesOf = (dir) => readFileSync(logOf(dir), "utf8").split("\n").filter(Boolean);

async function reopened(context, store, options = keepLog) {
  await store.close();
  return opened(context, options, store.dir);
}

test("1: a write is synced, and os_buffered leaves that to the system", async (context) => {
  if (process.platform !== "linux") return context.skip("strace is for Linux");
  try {
    execFileSync("strace", ["-V"], { stdio: "ignore" });
  } catch {
    return context.skip("strace is not installed");
  }
  const syncs = (options) => {
    const script = `import { Store } from ${JSON.stringify(new URL("../index.js", import.meta.url).href)};
      const store = new Store(); await store.open(${JSON.stringify(directory(context))}, ${JSON.stringify(options)});
      for (let n = 0; n < 20; n += 1) await store.set("a", { n });
      process.kill(process.pid, "SIGKILL");`;
    const trace = join(directory(context), "trace");
    try {
      execFileSync("strace", ["-f", "-e", "trace=fdatasync,fsync", "-o", trace, process.execPath, "--input-type=module", "-e", script], { stdio: "ignore" });
    } catch { /* it kills itself */ }
    return readFileSync(trace, "utf8").split("\n").filter((line) => line.includes("fdatasync(")).length;
  };
  assert.ok(syncs({}) >= 20);
  assert.ok(syncs({ osBuffered: true }) < 20);
});

test("3: a torn last line takes nothing with it", async (context) => {
  const store = await opened(context, keepLog);
  for (const id of ["a", "b"]) await store.set(id, { id });
  await store.close();
  const length = readFileSync(logOf(store.dir)).length;
  truncateSync(logOf(store.dir), length - 5);
  const second = await opened(context, keepLog, store.dir);
  await second.set("c", { id: "c" });
  assert.deepEqual((await reopened(context, second)).all(), [{ id: "a" }, { id: "c" }]);
});

test("4: a batch that was cut is not there at all", async (context) => {
  const store = await opened(context, keepLog);
  await store.set("a", {});
  await store.batch(() => { for (const id of ["b", "c", "d"]) store.set(id, {}); });
  await store.close();
  writeFileSync(logOf(store.dir), `${linesOf(store.dir).slice(0, -1).join("\n")}\n`);
  assert.deepEqual((await opened(context, keepLog, store.dir)).entries(), [["a", {}]]);
});

test("6: undo counts bytes, and works before a flush", async (context) => {
  const store = await opened(context, { ...keepLog, writeMode: "group", groupCommitMs: 10_000 });
  for (const text of ["é", "日本語", "😀".repeat(1019)]) await store.set(text, { text });
  await store.flush();
  store.set("unflushed", {});
  assert.equal(await store.undo(), true);
  assert.equal(await store.undo(), true);
  const again = await reopened(context, store);
  assert.deepEqual(again.all().map(({ text }) => text), ["é", "日本語"]);
});

test("6: undo takes a batch back whole", async (context) => {
  const store = await opened(context, keepLog);
  await store.set("a", { n: 0 });
  await store.batch(() => { for (const id of ["a", "b", "c"]) store.set(id, { n: 1 }); });
  assert.equal(await store.undo(), true);
  assert.deepEqual(store.entries(), [["a", { n: 0 }]]);
});

test("7: a batch does not overtake buffered sets", async (context) => {
  for (const writeMode of ["group", "async"]) {
    const store = await opened(context, { ...keepLog, writeMode });
    store.set("a", { n: 1 });
    await store.batch(() => { store.set("a", { n: 2 }); });
    await store.close();
    assert.deepEqual(linesOf(store.dir).map((line) => JSON.parse(line).data), [{ n: 1 }, { n: 2 }]);
  }
});

test("9: the lock of a dead process is taken over, and a failed open keeps none", async (context) => {
  const dir = directory(context);
  const url = JSON.stringify(new URL("../index.js", import.meta.url).href);
  const script = `import { Store } from ${url}; const store = new Store(); await store.open(${JSON.stringify(dir)}); await store.set("a", {}); process.kill(process.pid, "SIGKILL");`;
  assert.throws(() => execFileSync(process.execPath, ["--input-type=module", "-e", script]));
  assert.ok(existsSync(join(dir, ".lock")));
  const store = await opened(context, {}, dir);
  assert.deepEqual(store.get("a"), {});
  await store.close();
  await assert.rejects(new Store().open(dir, { version: 2, migrate: () => { throw new Error("boom"); } }));
  await (await opened(context, {}, dir)).close();
});

test("10: a manifest that cannot be read, or has gone, is not replaced by a fresh one", async (context) => {
  const store = await opened(context);
  await store.set("a", {});
  await store.close();
  const manifest = join(store.dir, "manifest.json");
  writeFileSync(manifest, "{");
  assert.equal(await codeOf(() => new Store().open(store.dir)), "OPSLOG_CORRUPT");
  assert.equal(readFileSync(manifest, "utf8"), "{");
  rmSync(manifest);
  assert.equal(await codeOf(() => new Store().open(store.dir)), "OPSLOG_CORRUPT");
  assert.equal(existsSync(manifest), false);
});

test("11: a snapshot that was cut, or a log that is missing, does not open", async (context) => {
  const store = await opened(context, keepLog);
  for (const id of ["a", "b"]) await store.set(id, {});
  await store.compact();
  await store.close();
  const snapshot = join(store.dir, JSON.parse(readFileSync(join(store.dir, "manifest.json"), "utf8")).currentSnapshot);
  const text = readFileSync(snapshot, "utf8");
  writeFileSync(snapshot, `${text.trimEnd().split("\n").slice(0, -1).join("\n")}\n`);
  assert.equal(await codeOf(() => new Store().open(store.dir)), "OPSLOG_CORRUPT");
  writeFileSync(snapshot, text);
  rmSync(logOf(store.dir));
  assert.equal(await codeOf(() => new Store().open(store.dir)), "OPSLOG_CORRUPT");
});

test("12: what a checkpoint replaced is removed", async (context) => {
  const store = await opened(context, { historyRetention: "none" });
  for (let n = 0; n < 5; n += 1) {
    await store.set("a", { n });
    await store.compact();
  }
  const snapshot = store.getManifest().currentSnapshot.replace("snapshots/", "");
  assert.deepEqual(readdirSync(join(store.dir, "snapshots")).sort(), [snapshot.replace(".jsonl", ".index"), snapshot]);
  assert.equal(readdirSync(join(store.dir, "ops")).length, 1);
});

test("13: a reader goes on after the writer's checkpoint", async (context) => {
  const writer = await opened(context, keepLog);
  const reader = await opened(context, { readOnly: true }, writer.dir);
  await writer.compact();
  await writer.set("a", { n: 1 });
  assert.deepEqual((await reader.tail()).map(({ id }) => id), ["a"]);
});

test("14: history and undo reach across checkpoints", async (context) => {
  const store = await opened(context, keepLog);
  await store.set("a", { n: 1 });
  await store.set("a", { n: 2 });
  await store.compact();
  assert.deepEqual(store.getHistory("a").map(({ data, prev }) => [data, prev]), [[{ n: 1 }, null], [{ n: 2 }, { n: 1 }]]);
  assert.equal(await store.undo(), true);
  assert.deepEqual(store.get("a"), { n: 1 });
});

test("15: what JSON cannot express is refused at once, and spoils nothing", async (context) => {
  const cyclic = {};
  cyclic.self = cyclic;
  const bad = [undefined, null, 1, "text", [1], NaN, { a: NaN }, { a: { b: [Infinity] } }, { a: 1n }, cyclic, () => {}, new Date(), { toJSON: () => 5 }];
  for (const writeMode of ["immediate", "group", "async"]) {
    const store = await opened(context, { ...keepLog, writeMode });
    for (const document of bad) {
      await assert.rejects(store.set("a", document), { code: "OPSLOG_INVALID_INPUT" });
      await assert.rejects(store.batch(() => { store.set("b", {}); store.set("a", document); }), { code: "OPSLOG_INVALID_INPUT" });
    }
    for (const id of ["", 5, null, undefined, {}, "x".repeat(70_000)]) await assert.rejects(async () => store.set(id, {}), { code: "OPSLOG_INVALID_INPUT" });
    const deep = JSON.parse("{\"a\":".repeat(300) + "1" + "}".repeat(300));
    await assert.rejects(store.set("deep", deep), { code: "OPSLOG_INVALID_INPUT" });
    assert.deepEqual([store.count(), store.getOps().length], [0, 0]);
    await store.set("a", { kept: null, dropped: undefined, date: new Date(0) });
    await store.compact();
    assert.deepEqual((await reopened(context, store)).get("a"), { kept: null, date: "1970-01-01T00:00:00.000Z" });
  }
});

test("15: half a surrogate pair survives in a document, and is refused in an id", async (context) => {
  const store = await opened(context, keepLog);
  const document = { text: "\ud800 \udc00\ud800", whole: "😀\u2028\u0000", "\udfff": 1 };
  await store.set("😀", document);
  await assert.rejects(store.set("\ud800", {}), { code: "OPSLOG_INVALID_INPUT" });
  assert.deepEqual(store.get("😀"), document);
  await store.compact();
  const again = await reopened(context, store);
  assert.deepEqual(again.entries(), [["😀", document]]);
  assert.deepEqual(again.getHistory("😀")[0].data, document);
});

test("16: no name leaves the store's directory, and blobs cannot replace its files", async (context) => {
  const store = await opened(context);
  await store.set("a", {});
  for (const segment of ["../x", "a/b", "..", "", "x\0"]) {
    await assert.rejects(store.archive(() => true, segment), { code: "OPSLOG_INVALID_INPUT" }, segment);
    await assert.rejects(store.loadArchive(segment), { code: "OPSLOG_INVALID_INPUT" }, segment);
  }
  const backend = new FsBackend();
  await backend.initialize(store.dir, { readOnly: false });
  for (const path of ["manifest.json", "../x", "/x", "ops/x", ".lock", ""]) {
    await assert.rejects(backend.writeBlob(path, Buffer.from("x")), { code: "OPSLOG_INVALID_INPUT" }, path);
  }
  for (const path of ["../x", "/etc/hostname", "a/../../x"]) {
    await assert.rejects(backend.readOps(path), { code: "OPSLOG_INVALID_INPUT" }, path);
    await assert.rejects(backend.loadArchiveSegment(path), { code: "OPSLOG_INVALID_INPUT" }, path);
    await assert.rejects(backend.appendOps(path, []), { code: "OPSLOG_INVALID_INPUT" }, path);
    await assert.rejects(backend.truncateLastOp(path), { code: "OPSLOG_INVALID_INPUT" }, path);
    await assert.rejects(backend.loadSnapshot(path), { code: "OPSLOG_INVALID_INPUT" }, path);
  }
});

test("18: a document that was read cannot be changed, nor can one that was set", async (context) => {
  const store = await opened(context, keepLog);
  const mine = { n: 1, tags: ["x"] };
  await store.set("a", mine);
  mine.n = 2;
  mine.tags.push("y");
  const read = store.get("a");
  assert.deepEqual(read, { n: 1, tags: ["x"] });
  for (const change of [() => { read.n = 3; }, () => { read.tags.push("z"); }, () => { delete read.n; }]) assert.throws(change, TypeError);
  for (const given of [...store.all(), ...store.filter(() => true), store.entries()[0][1]]) assert.ok(Object.isFrozen(given) && Object.isFrozen(given.tags));
  store.all().pop();
  store.entries().pop();
  assert.equal(store.count(), 1);
  store.getHistory("a")[0].data.n = 9;
  store.getManifest().stats.created = "never";
  assert.notEqual(store.getManifest().stats.created, "never");
  assert.deepEqual(store.get("a"), { n: 1, tags: ["x"] });
});

test("19: flush after writes that were not awaited flushes them", async (context) => {
  for (const writeMode of ["immediate", "group", "async"]) {
    const store = await opened(context, { ...keepLog, writeMode, groupCommitMs: 10_000, groupCommitSize: 1000 });
    for (let n = 0; n < 100; n += 1) store.set(`k${n}`, { n });
    await store.flush();
    assert.equal(linesOf(store.dir).length, 100, writeMode);
    store.batch(() => { store.set("b", {}); });
    await store.sync();
    assert.equal(linesOf(store.dir).length, 101, writeMode);
  }
});

test("19: async mode makes checkpoints", async (context) => {
  const store = await opened(context, { writeMode: "async", checkpointThreshold: 10 });
  for (let n = 0; n < 100; n += 1) await store.set("a", { n });
  await store.flush();
  assert.ok(store.stats().opsCount < 100);
});

test("sets made while a batch is under way are not part of it", async (context) => {
  const store = await opened(context, keepLog);
  const boom = new Error("boom");
  const failing = store.batch(() => { store.set("in", {}); throw boom; });
  const set = store.set("beside", {});
  assert.equal(await failureOf(() => failing), boom);
  await set;
  const batch = store.batch(() => { store.set("in", {}); });
  const during = store.set("during", {});
  await Promise.all([batch, during]);
  await store.undo();
  assert.deepEqual(store.entries(), [["beside", {}], ["in", {}]]);
});

test("an async batch function is refused, and nothing of it is written", async (context) => {
  const store = await opened(context, keepLog);
  let began = false;
  await assert.rejects(store.batch(async () => { began = true; store.set("a", {}); }), ({ code, message }) => code === "OPSLOG_INVALID_INPUT" && message.includes("async"));
  assert.equal(began, false);
  await assert.rejects(store.batch(() => { store.set("a", {}); return Promise.reject(new Error("later")); }), { code: "OPSLOG_INVALID_INPUT" });
  assert.deepEqual([store.count(), store.getOps()], [0, []]);
});

test("20: a snapshot streams without being read first", async (context) => {
  const store = await opened(context, { ...keepLog, writeMode: "async" });
  for (let n = 0; n < 50_000; n += 1) store.set(`k${n}`, { n, filler: "x".repeat(100) });
  await store.compact();
  const stream = store.streamSnapshot();
  assert.deepEqual((await stream.next()).value[0], "k0");
  // What the stream has not read yet can still be damaged, and is then told.
  const snapshot = join(store.dir, store.getManifest().currentSnapshot);
  const size = readFileSync(snapshot).length;
  truncateSync(snapshot, size >> 1);
  appendFileSync(snapshot, "\n");
  await assert.rejects(async () => { for await (const _ of stream); }, { code: "OPSLOG_CORRUPT" });
});

test("100 writes in skipLoad mode erase nothing", async (context) => {
  const store = await opened(context);
  await store.set("a", {});
  await store.close();
  const blind = await opened(context, { skipLoad: true, checkpointThreshold: 10 }, store.dir);
  for (let n = 0; n < 30; n += 1) await blind.set("b", { n });
  assert.deepEqual(blind.entries(), [["b", { n: 29 }]]);
  await blind.close();
  assert.deepEqual((await opened(context, {}, store.dir)).entries(), [["a", {}], ["b", { n: 29 }]]);
});

/** What a program prints that can write files of `kibibytes` at most; nothing where a process cannot be limited. */
function limited(kibibytes, body, ...args) {
  const script = `import { Store } from ${JSON.stringify(new URL("../index.js", import.meta.url).href)};\n${body}`;
  const command = `trap '' XFSZ; ulimit -f ${kibibytes} && exec "$0" --input-type=module -e "$@"`;
  try {
    return JSON.parse(execFileSync("bash", ["-c", command, process.execPath, script, ...args], { encoding: "utf8" }));
  } catch {
    return undefined;
  }
}

test("2: a snapshot that could not be written is not taken for one that was", async (context) => {
  const store = await opened(context, keepLog);
  for (let n = 0; n < 40; n += 1) await store.set(`k${n}`, { text: "x".repeat(8192) });
  await store.compact();
  await store.close();
  const seen = limited(128, `const store = new Store(); await store.open(process.argv[1], { checkpointOnClose: false });
    const { currentSnapshot } = store.getManifest();
    await store.set("k0", { n: 1 });
    const compact = await store.compact().then(() => "ok", ({ code }) => code);
    console.log(JSON.stringify({ compact, same: store.getManifest().currentSnapshot === currentSnapshot, count: store.count() }));
    await store.close();`, store.dir);
  if (seen === undefined) return context.skip("a process cannot be limited here");
  assert.deepEqual(seen, { compact: "OPSLOG_UNAVAILABLE", same: true, count: 40 });
  assert.equal((await opened(context, {}, store.dir)).count(), 40);
});

test("5: a write that failed leaves no trace, and takes no other with it", async (context) => {
  const dir = directory(context);
  const seen = limited(128, `const store = new Store(); await store.open(process.argv[1], { checkpointOnClose: false });
    const results = [];
    for (let n = 0; n < 40; n += 1) results.push(await store.set("k" + n, { text: "x".repeat(8192) }).then(() => "ok", ({ code }) => code));
    const ok = results.filter((result) => result === "ok").length;
    console.log(JSON.stringify({ codes: [...new Set(results)], extra: [store.count() - ok, store.getOps().length - ok], ok }));`, dir);
  if (seen === undefined) return context.skip("a process cannot be limited here");
  assert.deepEqual([seen.codes, seen.extra], [["ok", "OPSLOG_UNAVAILABLE"], [0, 0]]);
  assert.equal((await opened(context, {}, dir)).count(), seen.ok);
});
