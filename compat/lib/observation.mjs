// What can be seen of a store in a directory, by either implementation.

import { rmSync } from "node:fs";
import { archivePeriods, copyOf } from "./directories.mjs";
import { RemoteStore } from "./line-client.mjs";
import { plainOperation } from "./operations.mjs";

/** Everything that a store shows: documents in order, operations, archives. */
export async function observe(store, periods) {
  const operations = (await store.ops()).map(plainOperation);
  const archives = [];
  for (const period of periods) archives.push([period, await store.loadArchive(period)]);
  const { activeRecords, opsCount, archiveSegments } = await store.stats();
  return { documents: await store.entries(), operations, archives, stats: { activeRecords, opsCount, archiveSegments } };
}

/** How the reference has to open a store to see what all its agents wrote: without an agent id it reads one log only. */
export const asAgent = { agentId: "observer", checkpointOnClose: false };

/** What an implementation shows of a copy of the directory; the directory stays as it is. */
export async function observeCopy(client, directory, options = { readOnly: true }) {
  const copy = copyOf(directory);
  const store = new RemoteStore(client, copy);
  try {
    const periods = archivePeriods(copy);
    await store.open(copy, options);
    return await observe(store, periods);
  } finally {
    await store.close().catch(() => {});
    rmSync(copy, { recursive: true, force: true });
  }
}
