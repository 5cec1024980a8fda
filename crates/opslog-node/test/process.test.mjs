// The package as a process meets it: worker threads, several stores, ends of the process, a binary that is missing, a packed package.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { directory, opened } from "./lib/stores.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const index = JSON.stringify(new URL("../index.js", import.meta.url).href);

/** Runs a program that has the package's `Store`, and gives how it ended. */
function run(body, ...args) {
  return spawnSync(process.execPath, ["--input-type=module", "-e", `import { Store } from ${index};\n${body}`, ...args], { encoding: "utf8", timeout: 30_000 });
}

test("two stores in one process know nothing of each other", async (context) => {
  const [one, other] = [await opened(context), await opened(context, { writeMode: "async" })];
  await Promise.all([one.set("a", { n: 1 }), other.set("a", { n: 2 })]);
  await one.close();
  await other.set("b", { n: 3 });
  await other.flush();
  assert.deepEqual(other.entries(), [["a", { n: 2 }], ["b", { n: 3 }]]);
});

test("worker threads have stores of their own, and exclude each other", async (context) => {
  const dirs = [directory(context), directory(context)];
  const body = `const { parentPort, workerData } = require("node:worker_threads");
    (async () => {
      const { Store } = await import(${index});
      const store = new Store();
      await store.open(workerData);
      await Promise.all(Array.from({ length: 200 }, (_, n) => store.set("k" + n, { n })));
      const locked = await new Store().open(workerData).catch(({ code }) => code);
      await store.close();
      parentPort.postMessage([store.getManifest(), locked]);
    })();`;
  const ended = dirs.map((dir) => new Promise((resolve, reject) => {
    const worker = new Worker(body, { eval: true, workerData: dir });
    worker.once("message", resolve);
    worker.once("error", reject);
  }));
  assert.deepEqual(await Promise.all(ended), [[null, "OPSLOG_LOCKED"], [null, "OPSLOG_LOCKED"]]);
  for (const dir of dirs) assert.equal((await opened(context, {}, dir)).count(), 200);
});

test("a worker thread that is ended with its store open keeps what it acknowledged", async (context) => {
  const dir = directory(context);
  const body = `const { parentPort, workerData } = require("node:worker_threads");
    (async () => {
      const { Store } = await import(${index});
      const store = new Store();
      await store.open(workerData);
      await store.set("a", { n: 1 });
      parentPort.postMessage("written");
    })();`;
  const worker = new Worker(body, { eval: true, workerData: dir });
  await new Promise((resolve) => { worker.once("message", resolve); });
  await worker.terminate();
  assert.deepEqual((await opened(context, {}, dir)).get("a"), { n: 1 });
});

test("a killed process loses only what its write mode allows", async (context) => {
  const kill = 'process.kill(process.pid, "SIGKILL");';
  const immediate = directory(context);
  assert.equal(run(`const store = new Store(); await store.open(process.argv[1]); for (let n = 0; n < 50; n += 1) await store.set("k" + n, { n }); ${kill}`, immediate).signal, "SIGKILL");
  assert.equal((await opened(context, {}, immediate)).count(), 50);
  const group = directory(context);
  run(`const store = new Store(); await store.open(process.argv[1], { writeMode: "group", groupCommitSize: 1000, groupCommitMs: 20 });
    await store.set("a", {}); await new Promise((resolve) => setTimeout(resolve, 1000)); await store.set("b", {}); ${kill}`, group);
  assert.ok((await opened(context, {}, group)).has("a"));
});

test("a process that ends without close ends, and has flushed what it accepted", async (context) => {
  for (const end of ["", "process.exit(0);", "await new Promise((resolve) => setImmediate(resolve)); process.exit(0);"]) {
    const dir = directory(context);
    const { status, stderr } = run(`const store = new Store(); await store.open(process.argv[1], { writeMode: "async", groupCommitMs: 60000 });
      await store.set("a", { n: 1 }); await store.flush(); await store.set("b", { n: 2 }); await null; ${end}`, dir);
    assert.deepEqual([status, stderr], [0, ""], end);
    const store = await opened(context, {}, dir);
    assert.deepEqual(store.entries(), [["a", { n: 1 }], ["b", { n: 2 }]], end);
    await store.close();
  }
});

test("a write in an exit handler is flushed, or throws when it comes too late", async (context) => {
  for (const writeMode of ["group", "async"]) {
    const dir = directory(context);
    const { status, stdout } = run(`const store = new Store(); await store.open(process.argv[1], { writeMode: process.argv[2], groupCommitMs: 60000 });
      const write = (id) => () => { try { store.set(id, {}); console.log("accepted", id); } catch (error) { console.log(error.code, id, store.has("a")); } };
      await store.set("a", {});
      process.prependListener("exit", write("early"));
      process.on("exit", write("late"));
      process.exit(0);`, dir, writeMode);
    assert.deepEqual([status, stdout], [0, "accepted early\nOPSLOG_CLOSED late true\n"]);
    const store = await opened(context, {}, dir);
    assert.deepEqual(store.entries().map(([id]) => id), ["a", "early"]);
    await store.close();
  }
});

test("calls that are under way keep a process alive, an open store does not", async (context) => {
  const dir = directory(context);
  const { status, stdout } = run('const store = new Store(); store.open(process.argv[1]).then(() => store.set("a", {})).then(() => store.close()).then(() => console.log("closed"));', dir);
  assert.deepEqual([status, stdout], [0, "closed\n"]);
  assert.equal(run("const store = new Store(); await store.open(process.argv[1]);", dir).status, 0);
});

test("a store that nobody holds any more lets go of its directory", async (context) => {
  const dir = directory(context);
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--expose-gc", "--input-type=module", "-e", `import { Store } from ${index};
    await (async () => { const store = new Store(); await store.open(process.argv[1]); await store.set("a", { n: 1 }); })();
    for (let n = 0; n < 100; n += 1) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 10));
      const store = new Store();
      if (await store.open(process.argv[1]).then(() => true, () => false)) {
        console.log(store.get("a").n);
        await store.close();
        break;
      }
    }`, dir], { encoding: "utf8" });
  assert.deepEqual([status, stdout, stderr], [0, "1\n", ""]);
});

test("a lock whose handle nobody keeps is held", async (context) => {
  const { stdout, stderr } = spawnSync(process.execPath, ["--expose-gc", "--input-type=module", "-e", `import { acquireLock, FsBackend } from ${index};
    const backend = new FsBackend();
    await backend.initialize(process.argv[2], { readOnly: false });
    await acquireLock(process.argv[1]);
    await backend.acquireLock();
    for (let n = 0; n < 5; n += 1) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    for (const dir of process.argv.slice(1)) await acquireLock(dir).catch(({ code }) => console.log(code));`, directory(context), directory(context)], { encoding: "utf8" });
  assert.deepEqual([stdout, stderr], ["OPSLOG_LOCKED\nOPSLOG_LOCKED\n", ""]);
});

test("a store that was closed has let go of its documents, whether or not it is collected", async (context) => {
  const dir = directory(context);
  const { status, stdout, stderr } = run(`const store = new Store(); await store.open(process.argv[1], { osBuffered: true });
    for (let n = 0; n < 100; n += 1) await store.set("k" + n, { filler: "x".repeat(200_000) });
    await store.close();
    const kept = [];
    for (let n = 0; n < 30; n += 1) {
      const again = new Store();
      await again.open(process.argv[1]);
      again.get("k1");
      await again.close();
      kept.push(again);
    }
    console.log(Math.round(process.memoryUsage().rss / 2 ** 20));`, dir);
  assert.deepEqual([status, stderr], [0, ""]);
  assert.ok(Number(stdout) < 400, `${stdout} MiB after opening 20 MiB thirty times`);
});

test("a binary that is missing or broken is named, with its platform and what to do", (context) => {
  const copy = directory(context);
  cpSync(join(root, "lib"), join(copy, "lib"), { recursive: true });
  const load = () => spawnSync(process.execPath, ["-e", "try { require('./lib/native.cjs') } catch (error) { console.log(JSON.stringify([error.code, error.message])) }"], { cwd: copy, encoding: "utf8" });
  const [missingCode, missing] = JSON.parse(load().stdout);
  assert.equal(missingCode, "OPSLOG_NO_BINARY");
  assert.match(missing, new RegExp(`no native binary for ${process.platform}-${process.arch}.*opslog\\.${process.platform}-${process.arch}.*is missing.*npm run build`));
  const name = readdirSync(root).find((file) => /^opslog\..*\.node$/.test(file));
  writeFileSync(join(copy, name), "not a library");
  const [brokenCode, broken] = JSON.parse(load().stdout);
  assert.equal(brokenCode, "OPSLOG_NO_BINARY");
  assert.match(broken, new RegExp(`${process.platform}-${process.arch}.*does not load.*${process.version.replaceAll(".", "\\.")}`));
  renameSync(join(copy, name), join(copy, "opslog.other-cpu.node"));
  assert.match(JSON.parse(load().stdout)[1], /this package has opslog\.other-cpu\.node/);
});

test("what npm packs installs into an empty folder, and works there", (context) => {
  const folder = directory(context);
  // Without the user's settings, so that nothing but the package counts.
  const npm = (args, cwd) => execFileSync("npm", args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  const [{ filename, files }] = JSON.parse(npm(["pack", "--json", "--pack-destination", folder], root));
  assert.deepEqual(files.map(({ path }) => path).filter((path) => /^(test|bench|src|node_modules)\b/.test(path)), []);
  const app = join(folder, "app");
  mkdirSync(app);
  writeFileSync(join(app, "package.json"), '{ "private": true }');
  npm(["install", "--offline", "--no-audit", "--no-fund", join(folder, filename)], app);
  assert.ok(existsSync(join(app, "node_modules/opslog/LICENSE")));
  assert.deepEqual(Object.keys(JSON.parse(readFileSync(join(app, "node_modules/opslog/package.json"))).dependencies ?? {}), []);
  const body = 'const store = new Store(); await store.open("data"); await store.set("a", { n: 1 }); await store.close(); await store.open("data"); console.log(store.get("a").n);';
  const esm = spawnSync(process.execPath, ["--input-type=module", "-e", `import { Store } from "opslog"; ${body}`], { cwd: app, encoding: "utf8" });
  const cjs = spawnSync(process.execPath, ["-e", `const { Store } = require("opslog"); (async () => { ${body} })();`], { cwd: app, encoding: "utf8" });
  assert.deepEqual([esm.stdout, esm.stderr, cjs.stdout, cjs.stderr], ["1\n", "", "1\n", ""]);
});
