"use strict";
// The store as the event loop sees it. What is durable is decided on the store's thread, in Rust; this side keeps the documents that are
// visible, sends the calls, and settles their promises in order.

const { join } = require("node:path");
const { OpslogError, notFound, notOpen, readOnly, invalid, fromFailure, calling } = require("./errors.cjs");
const { native: { NativeStore, checkDocument } } = require("./native.cjs");
const { checkId, encode, line } = require("./document.cjs");
const { Documents } = require("./documents.cjs");
const { Batch } = require("./batch.cjs");
const { Calls } = require("./calls.cjs");
const { migrating } = require("./migration.cjs");
const { items } = require("./streams.cjs");
const { settledOptions, nativeOptions } = require("./options.cjs");
const { tellWatcher, warn, warnOfDamage } = require("./warnings.cjs");

/** Characters of writes that are handed to the thread at once, at the latest. */
const LINES_MOST = 1 << 20;
/** Characters that may wait for the thread before a write in `group` or `async` mode waits too. */
const QUEUED_MOST = 16 << 20;
/** Operations that are kept for the next `tail`; with more of them, nobody asks. */
const UNTOLD_MOST = 10_000;
/** How long loading may keep the event loop at a time, in milliseconds. */
const SLICE = 5;
/** Longer texts and ids might be more than a store takes. */
const SURELY_ACCEPTED = 512;

/** Stores in `group` or `async` mode. */
const buffered = new Set();
const DONE = Promise.resolve();
const nextTurn = () => new Promise((resolve) => { setImmediate(resolve); });

/** What a long piece of work awaits off and on: lets others have a turn after each slice. */
function slices() {
  let began = performance.now();
  return async () => {
    if (performance.now() - began <= SLICE) return;
    await nextTurn();
    began = performance.now();
  };
}

class Store {
  /** The native half while the store is open, or being opened. */
  #native = null;
  /** Whether the store is open, being opened or being closed: nobody else may open it then. */
  #isClaimed = false;
  #isOpen = false;
  #isReadOnly = false;
  /** Whether reads give copies that the caller may change. */
  #isMutable = false;
  /** Whether other agents may write at the same time: then whatever looks at the storage may bring documents of theirs. */
  #isShared = false;
  /** Whether documents may lie in another order than on storage, since that could not be read. */
  #isOutOfOrder = false;
  #willLook = false;
  /** Operations of others that are visible already, for the next `tail`. */
  #untold = [];
  /** In `group` and `async` mode a write is visible, and has ended, when it is accepted here. */
  #isBuffered = false;
  /** In `group` mode, after how many writes one waits for the flush. */
  #groupSize = Infinity;
  #checkpointThreshold;
  #documents = null;
  /** What reads see: the documents, inside a batch its writes on top, nothing while the store is closed. */
  #visible = null;
  #calls = new Calls(this);
  #batch = null;
  /** A batch that was asked for inside a batch. */
  #inner = null;
  #manifest = null;
  #opsOnThread = 0;
  /** Buffered writes that the thread has not told of. */
  #opsAhead = 0;
  /** Writes that are not handed over yet: lines, as the native half reads them. */
  #lines = "";
  /** Characters of buffered writes since the thread had told of all. */
  #queued = 0;
  #unflushed = 0;
  /** Why a buffered write failed, for the next caller. */
  #failure = null;
  #watch = null;

  async open(dir, options) {
    if (typeof dir !== "string") throw invalid(`the store's directory must be a string, not ${typeof dir}`);
    if (this.#isClaimed) {
      throw new OpslogError("locked", `Store is locked by process ${process.pid}. If this is stale, delete ${join(dir, ".lock")}`);
    }
    this.#isClaimed = true;
    try {
      await this.#open(dir, options);
    } catch (error) {
      this.#native?.letGo();
      this.#native = null;
      this.#isClaimed = false;
      throw error;
    }
  }

  async close() {
    this.#ensureOpen();
    await this.#calls.alone(async () => {
      this.#ensureOpen();
      this.unwatch();
      try {
        await this.#send((native) => native.close());
        if (this.#failure !== null) throw this.#takeFailure();
      } finally {
        this.#isOpen = this.#isClaimed = false;
        this.#native.letGo();
        this.#native = this.#documents = this.#visible = this.#manifest = this.#failure = null;
        this.#untold = [];
      }
    });
  }

  get(id) {
    const documents = this.#visible;
    if (documents === null) throw notOpen();
    return documents.get(id);
  }

  has(id) {
    return this.#readable().has(id);
  }

  all() {
    const documents = this.#readable();
    return documents === this.#documents ? documents.all() : Array.from(documents.entries(), ([, document]) => document);
  }

  entries() {
    const documents = this.#readable();
    return documents === this.#documents ? documents.entries() : Array.from(documents.entries());
  }

  filter(predicate) {
    const documents = this.#readable();
    if (typeof predicate !== "function") throw new TypeError("predicate is not a function");
    if (documents === this.#documents) return documents.filter(predicate);
    return Array.from(documents.entries()).filter(([id, document]) => predicate(document, id)).map(([, document]) => document);
  }

  count(predicate) {
    const documents = this.#readable();
    if (predicate === undefined) return documents.size;
    if (typeof predicate !== "function") throw new TypeError("predicate is not a function");
    return documents === this.#documents ? documents.count(predicate) : this.filter(predicate).length;
  }

  set(id, document) {
    this.#ensureWritable();
    if (this.#batch !== null) {
      checkId(id);
      const text = encode(id, document);
      checkLong(id, text);
      this.#batch.set(id, text);
      return undefined;
    }
    try {
      checkId(id);
      return this.#write(id, encode(id, document));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  delete(id) {
    this.#ensureWritable();
    if (this.#batch !== null) return this.#batch.delete(id);
    try {
      checkId(id);
      return this.#write(id, null);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  batch(fn) {
    const done = this.#batched(fn);
    if (this.#batch !== null) this.#inner = done;
    return done;
  }

  async undo() {
    this.#ensureWritable();
    return this.#calls.alone(async () => {
      this.#ensureWritable();
      const undone = await this.#send((native) => native.undo());
      if (undone === null) return false;
      if (this.#isShared) await this.#look(undone.changed);
      else await this.#apply(new Map(undone.changed), undone.mayMove);
      return true;
    });
  }

  async compact() {
    this.#ensureWritable();
    await this.#ordinary((native) => native.compact(), this.#isShared);
  }

  async archive(predicate, segment) {
    this.#ensureWritable();
    if (typeof predicate !== "function") throw new TypeError("predicate is not a function");
    if (segment != null && typeof segment !== "string") throw invalid(`an archive segment's name must be a string, not ${typeof segment}`);
    return this.#calls.alone(async () => {
      this.#ensureWritable();
      const ids = [];
      this.#documents.filter((document, id) => predicate(document, id) && ids.push(id));
      const count = await this.#send((native) => native.archive(JSON.stringify(ids), segment));
      for (const id of ids) this.#documents.delete(id);
      if (this.#isShared) await this.#look();
      return count;
    });
  }

  async loadArchive(segment) {
    this.#ensureOpen();
    const load = (name) => this.#ordinary((native) => native.loadArchive(name));
    try {
      return new Map(await load(String(segment)));
    } catch (error) {
      // As the reference: without a segment of this name, the first that has it in its file's name.
      const path = error.code === "OPSLOG_NOT_FOUND" && this.#manifest?.archiveSegments.find((path) => path.includes(segment));
      if (!path) throw error;
      return new Map(await load(/^archive\/archive-(.+?)(\.\d+)?\.json$/.exec(path)[1]));
    }
  }

  listArchiveSegments() {
    this.#ensureOpen();
    return [...this.#manifest.archiveSegments];
  }

  getManifest() {
    return this.#manifest && structuredClone(this.#manifest);
  }

  stats() {
    const { size } = this.#readable();
    const opsCount = this.#opsOnThread + this.#opsAhead;
    return { activeRecords: size, opsCount, archiveSegments: this.#manifest.archiveSegments.length };
  }

  getHistory(id) {
    const native = this.#readLog();
    return JSON.parse(calling(() => native.history(String(id))));
  }

  getOps(since) {
    const native = this.#readLog();
    const operations = JSON.parse(calling(() => native.operations(timeOf(since))));
    return since ? operations.filter(({ ts }) => ts > since) : operations;
  }

  async *streamSnapshot() {
    this.#ensureOpen();
    yield* items(calling(() => this.#native.streamSnapshot()));
  }

  async *getWalOps(since) {
    this.#ensureOpen();
    if (this.#isBuffered) await this.flush();
    for await (const operation of items(calling(() => this.#native.streamOperations(timeOf(since))))) {
      if (!since || operation.ts > since) yield operation;
    }
  }

  async refresh() {
    await this.tail();
  }

  async tail() {
    this.#ensureOpen();
    return this.#calls.alone(async () => {
      this.#ensureOpen();
      await this.#look();
      const operations = this.#untold;
      this.#untold = [];
      return operations;
    });
  }

  watch(callback, intervalMs = 1000, onError = warn) {
    this.#ensureOpen();
    this.unwatch();
    let isLooking = false;
    const look = async () => {
      if (isLooking) return;
      isLooking = true;
      try {
        const operations = await this.tail();
        if (operations.length === 0) return;
        if (this.#watch === timer) callback(operations);
        // Who asks next is told, as if this watch had ended before it looked.
        else this.#untold = operations.concat(this.#untold);
      } catch (error) {
        if (this.#watch === timer) tellWatcher(onError, error);
      } finally {
        isLooking = false;
      }
    };
    const timer = setInterval(look, intervalMs);
    this.#watch = timer;
  }

  unwatch() {
    clearInterval(this.#watch);
    this.#watch = null;
  }

  async flush() {
    if (!this.#isOpen || this.#isReadOnly) return;
    await this.#ordinary((native) => native.flush());
    if (this.#failure !== null) throw this.#takeFailure();
  }

  async sync() {
    return this.flush();
  }

  async #open(dir, given) {
    const options = settledOptions(given);
    const text = nativeOptions(options);
    if (options.backend !== undefined) await options.backend.initialize(dir, { readOnly: options.readOnly === true });
    const migration = migrating(options.migrate);
    this.#native = calling(() => new NativeStore(dir, text, Store.#telling(new WeakRef(this)), migration?.migrate));
    this.#isReadOnly = options.readOnly === true;
    this.#isShared = options.agentId !== undefined;
    const isBuffered = options.writeMode === "group" || options.writeMode === "async";
    if (this.#isShared && isBuffered) process.emitWarning(`opslog: writeMode ${options.writeMode} is immediate with an agentId`);
    this.#isBuffered = isBuffered && !this.#isShared;
    this.#groupSize = this.#isBuffered && options.writeMode === "group" ? Math.max(options.groupCommitSize ?? 50, 1) : Infinity;
    this.#checkpointThreshold = options.skipLoad ? Infinity : options.checkpointThreshold;
    this.#isMutable = options.mutableDocuments === true;
    try {
      warnOfDamage(dir, await new Promise((resolve, reject) => { this.#calls.sent(settling(resolve, reject)); }));
    } catch (error) {
      throw migration?.thrown ? migration.thrown.error : error;
    }
    await this.#load(options.decodeOnOpen === true && !this.#isMutable);
    this.#isOpen = true;
    if (this.#isBuffered) this.#flushAtExit();
  }

  #ensureOpen() {
    if (!this.#isOpen) throw notOpen();
  }

  #ensureWritable() {
    if (!this.#isOpen) throw notOpen();
    if (this.#isReadOnly) throw readOnly();
  }

  #readable() {
    if (this.#visible === null) throw notOpen();
    return this.#visible;
  }

  /** Makes sure that the log has every write that has ended, for those who read it at once. */
  #readLog() {
    this.#ensureOpen();
    if (this.#isBuffered) {
      this.#handOver();
      this.#native.wait();
    }
    return this.#native;
  }

  #write(id, text) {
    if (!this.#calls.isFree) {
      return new Promise((resolve, reject) => {
        this.#calls.begin(() => {
          try {
            this.#ensureWritable();
            resolve(this.#writeNow(id, text));
          } catch (error) {
            reject(error);
          }
        });
      });
    }
    return this.#writeNow(id, text);
  }

  #writeNow(id, text) {
    if (this.#isBuffered) return this.#writeBuffered(id, text);
    return new Promise((resolve, reject) => {
      this.#queueLine(id, text);
      this.#calls.sent((failure) => {
        if (failure !== undefined) return reject(fromFailure(failure));
        this.#show(id, text);
        return resolve();
      });
    });
  }

  #writeBuffered(id, text) {
    if (this.#failure !== null) throw this.#takeFailure();
    const existed = this.#documents.has(id);
    if (text === null && !existed) throw notFound(id);
    if (text !== null) checkLong(id, text);
    this.#queueLine(id, text, existed);
    this.#show(id, text);
    this.#opsAhead += 1;
    this.#unflushed += 1;
    this.#queued += text === null ? 0 : text.length;
    const mayRunAhead = this.#unflushed < this.#groupSize && this.#queued < QUEUED_MOST && !this.#isCheckpointDue();
    if (mayRunAhead) {
      this.#calls.sent(this.#toldBuffered);
      return DONE;
    }
    this.#unflushed = 0;
    return new Promise((resolve) => {
      this.#calls.sent((failure) => {
        this.#toldBuffered(failure);
        resolve();
      });
    });
  }

  #toldBuffered = (failure) => {
    this.#opsAhead -= 1;
    if (this.#opsAhead === 0) this.#queued = 0;
    if (failure !== undefined) this.#failure = fromFailure(failure);
  };

  /** Whether a write has made a checkpoint due that it is to be settled after. */
  #isCheckpointDue() {
    if (this.#groupSize === Infinity) return false;
    const threshold = this.#checkpointThreshold ?? Math.max(1000, this.#manifest.stats.activeRecords, 0.75 * this.#documents.size);
    return this.#opsOnThread + this.#opsAhead >= threshold;
  }

  /** A failure that the caller is told; one that ended all writing stays. */
  #takeFailure() {
    const failure = this.#failure;
    if (failure.code !== "OPSLOG_POISONED") this.#failure = null;
    return failure;
  }

  /** `process.exit` gives nothing else the time to flush what was accepted. */
  #flushAtExit() {
    for (const store of buffered) if (store.deref() === undefined) buffered.delete(store);
    buffered.add(new WeakRef(this));
  }

  /** A write in a handler that comes after ours would be accepted, and lost: it throws. */
  static #atExit(store) {
    if (!store?.#isOpen || !store.#isBuffered) return;
    store.#handOver();
    store.#native.finish();
    store.#isOpen = false;
  }

  static {
    process.on("exit", () => { for (const store of buffered) Store.#atExit(store.deref()); });
  }

  #queueLine(id, text, existed) {
    if (this.#lines === "") queueMicrotask(() => this.#handOver());
    this.#lines += line(id, text, existed);
    if (this.#lines.length > LINES_MOST) this.#handOver();
  }

  #handOver() {
    if (this.#lines === "" || this.#native === null) return;
    const lines = this.#lines;
    this.#lines = "";
    this.#native.write(lines);
  }

  /** Makes a write visible. */
  #show(id, text) {
    if (this.#documents === null) return;
    if (text === null) this.#documents.delete(id);
    else this.#documents.set(id, text);
  }

  /** Hands a call to the thread. */
  #send(call) {
    this.#handOver();
    return new Promise((resolve, reject) => {
      call(this.#native);
      this.#calls.sent(settling(resolve, reject));
    });
  }

  #ordinary(call, bringsNews = false) {
    if (bringsNews) {
      return this.#calls.alone(async () => {
        this.#ensureOpen();
        await this.#send(call);
        await this.#look();
      });
    }
    return new Promise((resolve, reject) => {
      this.#calls.begin(() => {
        if (this.#isOpen) this.#send(call).then(resolve, reject);
        else reject(notOpen());
      });
    });
  }

  /** What the native half calls; it must not keep a store that nobody else holds. */
  static #telling(store) {
    return (...told) => store.deref()?.#told(...told);
  }

  #told(count, ops, failures, value, manifest, bringsNews) {
    if (manifest != null) this.#manifest = JSON.parse(manifest);
    this.#opsOnThread = ops;
    this.#calls.told(count, failures == null ? undefined : new Map(JSON.parse(failures)), value);
    // A write has made a checkpoint, which has looked at what others wrote.
    if (bringsNews && !this.#willLook) this.#lookSoon();
  }

  async #batched(fn) {
    this.#ensureWritable();
    if (typeof fn !== "function") throw new TypeError("fn is not a function");
    if (isAsyncFunction(fn)) throw asyncBatch();
    return this.#calls.alone(() => {
      this.#ensureWritable();
      return this.#commit(this.#collect(fn));
    });
  }

  /** Runs the function of a batch and gives it. */
  #collect(fn) {
    const batch = new Batch(this.#documents, this.#isMutable);
    this.#batch = this.#visible = batch;
    this.#inner = null;
    let result;
    try {
      result = fn();
    } finally {
      this.#batch = null;
      this.#visible = this.#documents;
    }
    if (typeof result?.then === "function" && result !== this.#inner) {
      // What it does later is none of the batch's.
      Promise.resolve(result).catch(() => {});
      throw asyncBatch();
    }
    return batch;
  }

  async #commit(batch) {
    if (batch.lines === "") return;
    if (this.#failure !== null) throw this.#takeFailure();
    await this.#send((native) => native.batch(batch.lines));
    batch.applyTo(this.#documents);
  }

  /** All documents anew, a slice at a time. */
  async #load(isToDecode = false) {
    const native = this.#native;
    const documents = new Documents(native, this.#isMutable);
    const count = native.countNext();
    if (isToDecode) {
      native.adopt();
      await documents.decode(count, slices());
    } else {
      await documents.load(count, slices());
      native.adopt();
    }
    this.#documents = this.#visible = documents;
    this.#isOutOfOrder = false;
  }

  async #reload() {
    await this.#send((native) => native.reload());
    await this.#load();
  }

  async #lookSoon() {
    this.#willLook = true;
    try {
      await this.#calls.alone(async () => { if (this.#isOpen) await this.#look(); });
    } catch (error) {
      warn(error);
    } finally {
      this.#willLook = false;
    }
  }

  /** Shows what others wrote, and what an undo has changed, and keeps the operations for the next `tail`. */
  async #look(undone = []) {
    const { operations, rewound, changed } = await this.#send((native) => native.tail());
    if (rewound) await this.#load();
    else if (this.#isShared || operations.some(({ agent }) => agent !== undefined)) await this.#apply(new Map([...undone, ...changed]), true);
    else this.#follow(operations, new Map(changed));
    this.#untold = this.#untold.length + operations.length > UNTOLD_MOST ? operations : this.#untold.concat(operations);
  }

  /**
   * Shows documents that changed on the thread: id -> place, or null when it is gone. Where agents write, or a delete is undone, a document's place in the
   * order depends on more than is known here; then those from the first on that is not where it was are put in their order. Where that cannot be read
   * they come last, and all are loaded anew the next time.
   */
  async #apply(changed, mayMove) {
    const present = [...changed.keys()].filter((id) => changed.get(id) !== null);
    let order = [];
    if (mayMove ? present.length > 0 : present.some((id) => !this.#documents.has(id))) {
      const isGone = (id) => changed.get(id) === null;
      const places = present.map((id) => [id, this.#documents.before(id, isGone)]);
      try {
        order = this.#isOutOfOrder ? null : await this.#send((native) => native.order(JSON.stringify(places)));
        if (order === null) {
          await this.#reload();
          return;
        }
      } catch (error) {
        warn(error);
        this.#isOutOfOrder = true;
        order = [];
      }
    }
    for (const [id, place] of changed) this.#show(id, place);
    this.#documents.putLast(order);
  }

  /** Applies operations that came from the only writer; `changed` has what became of their documents. */
  #follow(operations, changed) {
    const lastDelete = new Map(operations.map(({ op, id }, index) => [op === "delete" ? id : null, index]));
    operations.forEach(({ op, id }, index) => {
      if (op === "delete") this.#show(id, null);
      else if (!(index < lastDelete.get(id))) this.#show(id, changed.get(id));
    });
  }
}

function settling(resolve, reject) {
  return (failure, value) => {
    if (failure === undefined) resolve(value == null ? undefined : JSON.parse(value));
    else reject(fromFailure(failure));
  };
}

/** What is accepted on this side must be accepted on the other. */
function checkLong(id, text) {
  if (text.length > SURELY_ACCEPTED || id.length > SURELY_ACCEPTED) calling(() => checkDocument(id, text));
}

/** A time that the library can look for, where it is one; others are compared as text. */
function timeOf(since) {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.test(since ?? "") && !Number.isNaN(Date.parse(since)) ? since : undefined;
}

function isAsyncFunction(fn) {
  return Object.prototype.toString.call(fn) === "[object AsyncFunction]";
}

function asyncBatch() {
  return invalid("the function of a batch must not be async: what it does after its first await would not be part of the batch, so nothing was written; "
    + "await first, then batch");
}

module.exports = { Store };
