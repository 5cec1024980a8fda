"use strict";
// The files of a store, one by one: what the reference's `FsBackend` offers to those who look at a directory themselves. A `Store` does
// not go through this; its files are written in Rust.

const { isAbsolute } = require("node:path");
const { OpslogError, invalid, notOpen, awaiting } = require("./errors.cjs");
const { native: { NativeFiles, acquireLock: acquireNativeLock } } = require("./native.cjs");
const { streamSnapshotFile } = require("./streams.cjs");

const MANIFEST = "manifest.json";
const COMPACTION_LOCK = ".compact-lock";
const FORMAT_VERSION = 1;

class FsBackend {
  #dir = null;
  #files = null;

  async initialize(dir, { readOnly } = {}) {
    this.#dir = dir;
    this.#files = new NativeFiles(dir);
    if (!readOnly) await awaiting(this.#files.initialize());
  }

  async shutdown() {}

  async readManifest() {
    const bytes = await this.#call("read", MANIFEST);
    return bytes == null ? null : parse(bytes, MANIFEST);
  }

  async writeManifest(manifest) {
    await this.#call("put", MANIFEST, Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`));
  }

  async writeSnapshot(records, version) {
    const header = JSON.stringify({ version, timestamp: new Date().toISOString() });
    const lines = Array.from(records, ([id, data]) => JSON.stringify({ id, data }));
    return this.#createUnique((ms) => `snapshots/snap-${ms}.jsonl`, `${[header, ...lines].join("\n")}\n`);
  }

  async loadSnapshot(relativePath) {
    const stream = streamSnapshotFile(this.#directory(), inside(relativePath));
    const records = new Map();
    for (;;) {
      const { done, value } = await stream.next();
      if (done) return { records, version: value.version };
      records.set(...value);
    }
  }

  async appendOps(relativePath, ops) {
    const lines = ops.map((op) => `${JSON.stringify(op)}\n`).join("");
    if (await this.#call("create", inside(relativePath), Buffer.from(lines))) return;
    const { text, end } = await this.#log(relativePath);
    const separator = end > 0 && !text.endsWith("\n") ? "\n" : "";
    await this.#call("append", relativePath, end, Buffer.from(separator + lines));
  }

  async readOps(relativePath) {
    const { text } = await this.#log(relativePath);
    const ops = [];
    for (const line of text.split("\n")) {
      // As the reference: a line that cannot be read is left out. A `Store` judges damage; this shows what is there.
      if (line.trim() !== "") try { ops.push(JSON.parse(line)); } catch { continue; }
    }
    return ops;
  }

  async truncateLastOp(relativePath) {
    const { text, bytes } = await this.#log(relativePath);
    const trimmed = text.trimEnd();
    if (trimmed === "") return false;
    const start = trimmed.lastIndexOf("\n") + 1;
    const end = start === 0 ? 0 : Buffer.byteLength(text.slice(0, start));
    if (end > bytes.length) return false;
    await this.#call("truncate", relativePath, end);
    return true;
  }

  async createOpsFile() {
    return this.#createUnique((ms) => `ops/ops-${ms}.jsonl`, "");
  }

  async createAgentOpsFile(agentId) {
    if (!/^[A-Za-z0-9._-]{1,64}$/.test(agentId)) throw invalid(`'${agentId}' cannot be an agent's id: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'`);
    return this.#createUnique((ms) => `ops/agent-${agentId}-${ms}.jsonl`, "");
  }

  async listOpsFiles() {
    const names = await this.#call("list", "ops/");
    return names.filter((name) => name.endsWith(".jsonl"));
  }

  async writeArchiveSegment(period, records) {
    if (!/^[\w. -]{1,100}$/.test(period)) throw invalid(`'${period}' cannot be an archive segment: 1 to 100 letters, digits, '.', '_', '-' and spaces`);
    const segment = { version: FORMAT_VERSION, period, timestamp: new Date().toISOString(), records: Object.fromEntries(records) };
    const name = `archive/archive-${period}.json`;
    await this.#call("put", name, Buffer.from(JSON.stringify(segment, null, 2)));
    return name;
  }

  async loadArchiveSegment(relativePath) {
    const bytes = await this.#call("read", inside(relativePath));
    if (bytes == null) throw new OpslogError("not_found", `Archive segment '${relativePath}' not found`);
    return new Map(Object.entries(parse(bytes, relativePath).records));
  }

  async listArchiveSegments() {
    const names = await this.#call("list", "archive/");
    return names.filter((name) => /^archive\/archive-.*\.json$/.test(name));
  }

  async acquireLock() {
    return acquireLock(this.#directory());
  }

  async releaseLock(handle) {
    await releaseLock(this.#directory(), handle);
  }

  async acquireCompactionLock() {
    const mine = Buffer.from(String(process.pid));
    for (let attempt = 0; attempt < 2; attempt += 1) {
      if (await this.#call("create", COMPACTION_LOCK, mine)) return {};
      const holder = await this.#call("read", COMPACTION_LOCK);
      if (holder != null && isAlive(Number(holder.toString()))) break;
      await this.#call("remove", COMPACTION_LOCK);
    }
    throw new OpslogError("locked", "Compaction lock held by another agent");
  }

  async releaseCompactionLock() {
    await this.#call("remove", COMPACTION_LOCK);
  }

  /** What tells this manifest from an earlier one. */
  async getManifestVersion() {
    return (await this.#call("version", MANIFEST)) ?? null;
  }

  async writeBlob(relativePath, content) {
    await this.#call("writeBlob", relativePath, Buffer.from(content));
  }

  async readBlob(relativePath) {
    return this.#call("readBlob", relativePath);
  }

  async readBlobRange(relativePath, offset, length) {
    if (!(offset >= 0 && length >= 0)) throw invalid("readBlobRange: offset and length must be non-negative");
    return this.#call("readBlobRange", relativePath, Math.trunc(offset), Math.trunc(length));
  }

  async listBlobs(prefix) {
    return this.#call("listBlobs", prefix);
  }

  async deleteBlob(relativePath) {
    await this.#call("deleteBlob", relativePath);
  }

  async deleteBlobDir(prefix) {
    await this.#call("deleteBlobDir", prefix);
  }

  #directory() {
    if (this.#dir === null) throw notOpen();
    return this.#dir;
  }

  #call(name, ...args) {
    this.#directory();
    return awaiting(this.#files[name](...args));
  }

  /** A log's text, and where what comes next begins: before blank padding. */
  async #log(relativePath) {
    const bytes = (await this.#call("read", inside(relativePath))) ?? Buffer.alloc(0);
    const text = bytes.toString().replace(/\n[\n\0]*$/, "\n");
    return { bytes, text, end: Buffer.byteLength(text) };
  }

  async #createUnique(name, text) {
    for (let ms = Date.now(); ; ms += 1) {
      if (await this.#call("create", name(ms), Buffer.from(text))) return name(ms);
    }
  }
}

/** Accepts the path of a file in the directory. */
function inside(relativePath) {
  const parts = String(relativePath).split(/[\\/]/);
  if (isAbsolute(relativePath) || parts.includes("..") || parts.includes("")) throw invalid(`'${relativePath}' is not the path of a file in the store`);
  return relativePath;
}

function parse(bytes, name) {
  try {
    return JSON.parse(bytes.toString());
  } catch (cause) {
    throw new OpslogError("corrupt", `${name} is not JSON: ${cause.message}`, { cause, path: name });
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Locks that are held: the collector would give up one whose handle nobody keeps. */
const held = new Set();

/** Takes the writer's lock of a directory until `releaseLock`, or the process's end; the handle goes to `releaseLock`. */
async function acquireLock(dir) {
  const handle = await awaiting(acquireNativeLock(dir));
  held.add(handle);
  return handle;
}

async function releaseLock(_dir, handle) {
  held.delete(handle);
  handle.release();
}

module.exports = { FsBackend, acquireLock, releaseLock };
