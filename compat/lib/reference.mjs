// The reference package behind the commands that the driver of ours understands.

import { fileURLToPath } from "node:url";
import { Store } from "@backloghq/opslog";
import { LineClient } from "./line-client.mjs";
import { plainOperation } from "./operations.mjs";

/** The reference in a process of its own, so that it can be killed and the two run side by side. */
export function startReference(limits) {
  return new LineClient(process.execPath, [fileURLToPath(new URL("reference-process.mjs", import.meta.url))], limits);
}

const migrations = {
  /** Writes into each document the version it came from. */
  stamp: (document, from) => ({ ...document, migratedFrom: from }),
  fail: () => {
    throw new Error("this migration always fails");
  },
};

/** Only what the reference knows; the rest are options of ours alone. */
function referenceOptions({ checkpointThreshold, checkpointOnClose, version, migrate, readOnly, skipLoad, writeMode,
  groupCommitSize, groupCommitMs, agentId }) {
  const options = { checkpointThreshold, checkpointOnClose, version, migrate: migrations[migrate], readOnly, skipLoad,
    writeMode, groupCommitSize, groupCommitMs, agentId };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** Thrown inside a batch by the harness, to see it rolled back. */
class BatchFailure extends Error {}

function runBatch(store, operations) {
  const results = [];
  const run = {
    set: ({ id, document }) => void store.set(id, document),
    delete: ({ id }) => void store.delete(id),
    tryDelete: ({ id }) => {
      try {
        store.delete(id);
        results.push(true);
      } catch {
        results.push(false);
      }
    },
    get: ({ id }) => results.push(store.get(id) ?? null),
    has: ({ id }) => results.push(store.has(id)),
    count: () => results.push(store.count()),
    // Kept as text: a later operation may change what the store handed out.
    entries: () => results.push(JSON.parse(JSON.stringify(store.entries()))),
    fail: () => {
      throw new BatchFailure("the batch failed on purpose");
    },
  };
  return store.batch(() => operations.forEach((operation) => run[operation.op](operation))).then(() => results);
}

const calls = {
  set: (store, { id, document }) => store.set(id, document),
  delete: (store, { id }) => store.delete(id),
  get: (store, { id }) => store.get(id) ?? null,
  getText: (store, { id }) => (store.has(id) ? JSON.stringify(store.get(id)) : null),
  has: (store, { id }) => store.has(id),
  all: (store) => store.all(),
  entries: (store) => store.entries(),
  count: (store) => store.count(),
  batch: (store, { operations }) => runBatch(store, operations),
  undo: (store) => store.undo(),
  history: (store, { id }) => store.getHistory(id).map(plainOperation),
  ops: (store) => store.getOps().map(plainOperation),
  opsSinceOperation: (store, { index }) => {
    const all = store.getOps();
    if (index >= all.length) return null;
    return { all: all.map(plainOperation), afterTime: store.getOps(all[index].ts).map(plainOperation) };
  },
  compact: (store) => store.compact(),
  archive: (store, { ids, segment }) => store.archive((_, id) => ids.includes(id), segment ?? undefined),
  loadArchive: async (store, { segment }) => [...await store.loadArchive(segment)],
  archiveSegments: (store) => store.listArchiveSegments(),
  stats: (store) => store.stats(),
  manifest: (store) => store.getManifest(),
  streamSnapshot: async (store) => {
    const documents = [];
    for await (const entry of store.streamSnapshot()) documents.push(entry);
    return documents;
  },
  logOps: async (store) => {
    const operations = [];
    for await (const operation of store.getWalOps()) operations.push(plainOperation(operation));
    return operations;
  },
  flush: (store) => store.flush(),
  refresh: (store) => store.refresh(),
  tail: async (store) => ({ operations: (await store.tail()).map(plainOperation) }),
  openReport: () => ({ damage: [] }),
  close: (store) => store.close(),
};

const errorKinds = [
  [/not found/, "NotFound"],
  [/read-?only/i, "ReadOnly"],
  [/not open/, "Closed"],
  [/locked by/, "Locked"],
];

export function errorKindOf(error) {
  if (error instanceof BatchFailure) return "BatchFailure";
  return errorKinds.find(([pattern]) => pattern.test(error.message))?.[1] ?? "Other";
}

/** Stores by name, answering commands. */
export class ReferenceStores {
  #stores = new Map();

  async answer({ store: name, call, ...parameters }) {
    if (call === "open") {
      const store = new Store();
      await store.open(parameters.dir, referenceOptions(parameters.options ?? {}));
      this.#stores.set(name, store);
      return null;
    }
    const store = this.#stores.get(name);
    if (store === undefined) throw new Error("Store is not open");
    return (await calls[call](store, parameters)) ?? null;
  }
}
