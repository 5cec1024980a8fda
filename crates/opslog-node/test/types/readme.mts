// The examples of the reference's README, with one import changed. They are compiled by `tsc`, and run by `readme.test.mjs`.

import { Store, FsBackend, LamportClock, OpslogError, createDelta, applyDelta, isDeltaSmaller, streamSnapshotFile, acquireLock, releaseLock, validateOp, validateManifest, validateSnapshot, validateArchiveSegment } from "opslog";
import type { StorageBackend, StoreOptions, StoreStats, Operation, Snapshot, Manifest, ManifestInfo, ManifestStats, ArchiveSegment, LockHandle, DeltaPatch, OpslogErrorCode } from "opslog";

type Task = { name: string; status: string };

export async function usage(dir: string): Promise<unknown> {
  const store = new Store<Task>();
  await store.open(dir);
  await store.set("task-1", { name: "Build API", status: "active" });
  const task = store.get("task-1");
  if (task === undefined) throw new Error("it was set");
  await store.set("task-1", { ...task, status: "done" });
  await store.delete("task-1");
  await store.undo();
  const active: Task[] = store.filter((r) => r.status === "active");
  const count: number = store.count((r) => r.status === "done");
  await store.batch(() => {
    store.set("a", { name: "A", status: "active" });
    store.set("b", { name: "B", status: "active" });
    store.set("c", { name: "C", status: "active" });
  });
  await store.close();
  await store.open(dir);
  const entries: [string, Task][] = store.entries();
  await store.close();
  return { active, count, ids: entries.map(([id]) => id) };
}

export async function streaming(dir: string, sinceTimestamp?: string): Promise<unknown> {
  const store = new Store<Task>();
  await store.open(dir);
  const seen: unknown[] = [];
  for await (const [id, record] of store.streamSnapshot()) seen.push([id, record.name]);
  for await (const op of store.getWalOps(sinceTimestamp)) {
    const { ts, op: kind, id, data, prev }: Operation<Task> = op;
    seen.push([typeof ts, kind, id, data?.name, prev?.name]);
  }
  await store.close();
  return seen;
}

export async function history(dir: string): Promise<unknown> {
  const store = new Store<Task>();
  await store.open(dir);
  await store.set("x", { name: "X", status: "active" });
  const ops: Operation<Task>[] = store.getHistory("x");
  const since: Operation<Task>[] = store.getOps(new Date(0).toISOString());
  const undone: boolean = await store.undo();
  await store.compact();
  const archived: number = await store.archive((record, id) => record.status === "active" && id === "a", "2026-Q1");
  const loaded: Map<string, Task> = await store.loadArchive("2026-Q1");
  const segments: string[] = store.listArchiveSegments();
  const stats: StoreStats = store.stats();
  const info: ManifestInfo | null = store.getManifest();
  const facts: ManifestStats | undefined = info?.stats;
  await store.refresh();
  await store.close();
  return [ops.length, since.length > 0, undone, archived, loaded.size, segments, stats.activeRecords, typeof facts?.created];
}

export async function blobs(dir: string): Promise<unknown> {
  const backend: StorageBackend = new FsBackend();
  await backend.initialize(dir, { readOnly: false });
  await backend.writeBlob("data/file.jsonl", Buffer.from("hello world"));
  const buf: Buffer = await backend.readBlob("data/file.jsonl");
  const range: Buffer = await backend.readBlobRange("data/file.jsonl", 6, 256);
  const names: string[] = await backend.listBlobs("data");
  await backend.deleteBlob("data/file.jsonl");
  return [buf.toString(), range.toString(), names];
}

export async function options(dir: string): Promise<unknown> {
  const all: StoreOptions = {
    checkpointThreshold: 100, checkpointOnClose: true, version: 1, migrate: (record, fromVersion) => (fromVersion < 1 ? record : record),
    readOnly: false, skipLoad: false, writeMode: "immediate", groupCommitSize: 50, groupCommitMs: 100, backend: new FsBackend(),
    osBuffered: true, historyRetention: { ageMs: 1000 }, undoMode: "truncate", strict: true, mutableDocuments: true, decodeOnOpen: true,
  };
  const store = new Store();
  await store.open(dir, all);
  await store.set("a", { anything: 1 });
  const value: unknown = store.get("a")?.anything;
  await store.close();
  return value;
}

export async function groupAndAsync(dir: string): Promise<unknown> {
  const store = new Store();
  await store.open(dir, { writeMode: "group", groupCommitSize: 50, groupCommitMs: 100 });
  await store.set("a", { n: 1 });
  await store.set("b", { n: 2 });
  await store.flush();
  await store.close();
  await store.open(dir, { writeMode: "async", groupCommitSize: 50, groupCommitMs: 100 });
  await store.set("c", { n: 3 });
  await store.sync();
  await store.close();
  await store.open(dir, { readOnly: true });
  const n = store.all().length;
  try {
    await store.set("x", { n: 4 });
  } catch (error) {
    const code: OpslogErrorCode | undefined = error instanceof OpslogError ? error.code : undefined;
    return [n, code];
  } finally {
    await store.close();
  }
  return undefined;
}

export async function migration(dir: string): Promise<unknown> {
  const store = new Store<{ newField: string }>();
  await store.open(dir, {
    version: 2,
    migrate: (record, fromVersion) => (fromVersion < 2 ? { ...(record as object), newField: "default" } : record),
  });
  const fields = store.all().map((record) => record.newField);
  await store.close();
  return fields;
}

export async function watching(dir: string): Promise<unknown> {
  const writer = new Store<Task>();
  await writer.open(dir);
  const reader = new Store<Task>();
  await reader.open(dir, { readOnly: true });
  const ops = new Promise<Operation<Task>[]>((resolve) => { reader.watch(resolve, 5, (error: unknown) => { throw error; }); });
  await writer.set("watched", { name: "W", status: "active" });
  const seen = (await ops).map(({ id }) => id);
  reader.unwatch();
  const news: Operation<Task>[] = await reader.tail();
  await reader.close();
  await writer.close();
  return [seen, news.length];
}

export async function pieces(dir: string): Promise<unknown> {
  const clock = new LamportClock(1);
  clock.tick();
  clock.merge(5);
  const now: number = clock.current;
  const patch: DeltaPatch | null = createDelta({ a: 1 }, { a: 2 });
  const before = patch && applyDelta({ a: 2 }, patch);
  const smaller: boolean = isDeltaSmaller(patch, { a: 1 });
  const handle: LockHandle = await acquireLock(dir);
  await releaseLock(dir, handle);
  const op: Operation<Task> = validateOp<Task>({ ts: "t", op: "set", id: "a", prev: null, data: { name: "A", status: "active" } });
  const stats = { activeRecords: 0, archivedRecords: 0, opsCount: 0, created: "t", lastCheckpoint: "t" };
  const manifest: Manifest = validateManifest({ version: 1, currentSnapshot: "s", activeOps: "o", archiveSegments: [], stats });
  const snapshot: Snapshot<Task> = validateSnapshot<Task>({ version: 1, timestamp: "t", records: {} });
  const segment: ArchiveSegment<Task> = validateArchiveSegment<Task>({ version: 1, period: "p", timestamp: "t", records: {} });
  const store = new Store<Task>();
  await store.open(dir);
  const stream: AsyncGenerator<[string, Task], { version: number }> = streamSnapshotFile<Task>(dir, store.getManifest()!.currentSnapshot);
  const first = await stream.next();
  await store.close();
  return [now, before, smaller, op.id, manifest.version, snapshot.version, segment.period, first.done];
}

// What must not compile.
export function mistakes(store: Store<Task>): void {
  // @ts-expect-error a field is missing
  void store.set("a", { name: "A" });
  // @ts-expect-error there is no such mode
  void store.open("dir", { writeMode: "fast" });
  // @ts-expect-error it may be undefined
  void store.get("a").name;
}
