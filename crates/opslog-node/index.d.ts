/** An embedded, event-sourced document store: a drop-in for `@backloghq/opslog` 0.8.1. */

/** Documents of type `T` under ids. Reads are synchronous; what they give is frozen, unless `mutableDocuments` was asked for. */
export declare class Store<T = Record<string, unknown>> {
  /** Opens the store in a directory, or creates it. Documents are loaded off the event loop. */
  open(dir: string, options?: StoreOptions): Promise<void>;
  /** Flushes, makes a checkpoint where it is worth it, and lets go of the directory. */
  close(): Promise<void>;
  get(id: string): T | undefined;
  /** Creates or replaces a document; a promise outside of a batch, nothing inside. What a crash can take is said by `writeMode`. */
  set(id: string, value: T): Promise<void> | void;
  /** Deletes a document; fails when there is none. */
  delete(id: string): Promise<void> | void;
  has(id: string): boolean;
  all(): T[];
  entries(): [string, T][];
  filter(predicate: (value: T, id: string) => boolean): T[];
  count(predicate?: (value: T, id: string) => boolean): number;
  /** What the manifest says now; null unless the store is open. */
  getManifest(): ManifestInfo | null;
  /** The documents of the current snapshot, a piece at a time. */
  streamSnapshot(): AsyncGenerator<[string, T]>;
  /** The operations after the snapshot, those after a time. */
  getWalOps(sinceTimestamp?: string): AsyncGenerator<Operation<T>>;
  /** Makes what `fn` sets and deletes one commit: all of it, or, when it throws, nothing. `fn` must not be async. */
  batch(fn: () => void): Promise<void>;
  /** Takes back the last commit (a batch is one), and says whether there was one. */
  undo(): Promise<boolean>;
  /** The operations of one document, oldest first; reads files while the event loop waits. */
  getHistory(id: string): Operation<T>[];
  /** The operations after a time, or all that are kept; reads files while the event loop waits. */
  getOps(since?: string): Operation<T>[];
  /** Makes a checkpoint now. */
  compact(): Promise<void>;
  /** Moves documents to an archive segment (by default the quarter, such as `2026-Q4`), and says how many. */
  archive(predicate: (value: T, id: string) => boolean, segment?: string): Promise<number>;
  listArchiveSegments(): string[];
  /** The documents of the segment of this name, or else of the first that has it in its file's name. */
  loadArchive(segment: string): Promise<Map<string, T>>;
  stats(): StoreStats;
  /** Picks up what another process wrote. */
  refresh(): Promise<void>;
  /** As `refresh`, and gives the operations that came; of more than a JavaScript string can hold, none. */
  tail(): Promise<Operation<T>[]>;
  /** Calls `callback` with the operations that come, looking every `intervalMs` (1000); errors, and what `callback` throws, go to `onError`, by default a process warning. */
  watch(callback: (ops: Operation<T>[]) => void, intervalMs?: number, onError?: (error: unknown) => void): void;
  unwatch(): void;
  /** Resolves when everything accepted before is on stable storage. */
  flush(): Promise<void>;
  /** The same as `flush`. */
  sync(): Promise<void>;
}

export interface StoreOptions {
  /** Makes a checkpoint after this many operations (default: 1,000, or as many as the snapshot has documents, or three quarters of those there are, whichever is most); `Infinity` is never. */
  checkpointThreshold?: number;
  /** Whether `close` makes a checkpoint, where that costs less than replaying the log (default: true). */
  checkpointOnClose?: boolean;
  /** The version of the application's documents (default: what the store has). */
  version?: number;
  /** Makes a document of the present version from one of an older; called for each document of snapshot and log; must not be async. */
  migrate?: (record: unknown, fromVersion: number) => unknown;
  /** Opens beside a writer, without a lock, and refuses all mutations. */
  readOnly?: boolean;
  /** Opens for writing without loading documents: reads see what was written since, and nothing can be compacted or archived. */
  skipLoad?: boolean;
  /** An `FsBackend` of this package, which is the default. Others are refused. */
  backend?: StorageBackend;
  /** Makes this the log of one of several writers. */
  agentId?: string;
  /**
   * `immediate` (default): a write has ended when it is on stable storage; calls that are not awaited share a sync. `group`: when it is in the
   * buffer, which is flushed after `groupCommitSize` writes or `groupCommitMs`. `async`: the same, and no write waits.
   */
  writeMode?: "immediate" | "group" | "async";
  /** Writes that fill the buffer (default: 50). */
  groupCommitSize?: number;
  /** The longest time that a write stays in the buffer, in milliseconds (default: 100). */
  groupCommitMs?: number;
  /** Leaves syncing to the operating system, as the reference does: writes survive a killed process, and not a power cut (default: false). */
  osBuffered?: boolean;
  /** How long replaced logs are kept for history and undo (default: "all"). */
  historyRetention?: "all" | "none" | { ageMs: number } | { bytes: number };
  /** Whether undo cuts the commit off the log, or appends its reverse (default: "truncate"). */
  undoMode?: "truncate" | "append";
  /** Whether a damaged log is refused, instead of opened without its damaged part, which a process warning tells of (default: false). */
  strict?: boolean;
  /** Whether reads give a new copy each time, which the caller may change (default: false: they give one frozen object). */
  mutableDocuments?: boolean;
  /** Whether opening decodes all documents, in slices that leave the event loop to others, so that no first read has to (default: false). Nothing with `mutableDocuments`, where every read decodes. */
  decodeOnOpen?: boolean;
}

/** What the package throws or rejects with, but for a `TypeError` where something should be a function, V8's `RangeError` for too long a text, and what the caller's own functions throw. */
export declare class OpslogError extends Error {
  readonly name: "OpslogError";
  readonly code: OpslogErrorCode;
  readonly path?: string;
  readonly line?: number;
  readonly offset?: number;
}

export type OpslogErrorCode =
  | "OPSLOG_INVALID_INPUT" | "OPSLOG_NOT_FOUND" | "OPSLOG_CONFLICT" | "OPSLOG_LOCKED" | "OPSLOG_READ_ONLY" | "OPSLOG_CLOSED"
  | "OPSLOG_UNAVAILABLE" | "OPSLOG_CORRUPT" | "OPSLOG_UNSUPPORTED_VERSION" | "OPSLOG_POISONED";

export interface Operation<T = Record<string, unknown>> {
  /** ISO 8601, UTC, with milliseconds. */
  ts: string;
  op: "set" | "delete";
  id: string;
  /** The new document of a set. */
  data?: T;
  /** The whole document before; null for a create. */
  prev: T | null;
  encoding?: "full" | "delta";
  agent?: string;
  clock?: number;
  /** Its place in its batch, and how many operations that has. */
  batch?: [index: number, count: number];
}

export interface Snapshot<T = Record<string, unknown>> {
  version: number;
  timestamp: string;
  records: Record<string, T>;
}

export interface Manifest {
  version: number;
  currentSnapshot: string;
  activeOps: string;
  /** Each agent's log. */
  activeAgentOps?: Record<string, string>;
  archiveSegments: string[];
  stats: ManifestStats;
}

export interface ManifestStats {
  activeRecords: number;
  archivedRecords: number;
  opsCount: number;
  created: string;
  lastCheckpoint: string;
}

export interface ArchiveSegment<T = Record<string, unknown>> {
  version: number;
  period: string;
  timestamp: string;
  records: Record<string, T>;
}

export interface ManifestInfo {
  readonly currentSnapshot: string;
  readonly activeOps: string;
  readonly archiveSegments: readonly string[];
  readonly stats: Readonly<ManifestStats>;
}

export interface StoreStats {
  activeRecords: number;
  /** Operations since the last checkpoint. */
  opsCount: number;
  archiveSegments: number;
}

/** What an acquire gives and a release takes. */
export interface LockHandle {}

export interface StorageBackend {
  initialize(dir: string, opts: { readOnly: boolean }): Promise<void>;
  shutdown(): Promise<void>;
  readManifest(): Promise<Manifest | null>;
  writeManifest(manifest: Manifest): Promise<void>;
  writeSnapshot(records: Map<string, unknown>, version: number): Promise<string>;
  loadSnapshot(relativePath: string): Promise<{ records: Map<string, unknown>; version: number }>;
  appendOps(relativePath: string, ops: Operation[]): Promise<void>;
  readOps(relativePath: string): Promise<Operation[]>;
  truncateLastOp(relativePath: string): Promise<boolean>;
  createOpsFile(): Promise<string>;
  writeArchiveSegment(period: string, records: Map<string, unknown>): Promise<string>;
  loadArchiveSegment(relativePath: string): Promise<Map<string, unknown>>;
  listArchiveSegments(): Promise<string[]>;
  acquireLock(): Promise<LockHandle>;
  releaseLock(handle: LockHandle): Promise<void>;
  createAgentOpsFile(agentId: string): Promise<string>;
  listOpsFiles(): Promise<string[]>;
  acquireCompactionLock(): Promise<LockHandle>;
  releaseCompactionLock(handle: LockHandle): Promise<void>;
  getManifestVersion(): Promise<string | null>;
  writeBlob(relativePath: string, content: Buffer): Promise<void>;
  readBlob(relativePath: string): Promise<Buffer>;
  /** `length` bytes from `offset` on, or fewer where the blob ends before. */
  readBlobRange(relativePath: string, offset: number, length: number): Promise<Buffer>;
  listBlobs(prefix: string): Promise<string[]>;
  deleteBlob(relativePath: string): Promise<void>;
  deleteBlobDir(prefix: string): Promise<void>;
}

/** The files of a store's directory, and blobs beside them. */
export declare class FsBackend {}
export interface FsBackend extends StorageBackend {}

/** Orders the operations of several writers. */
export declare class LamportClock {
  constructor(initial?: number);
  /** Counts a local event. */
  tick(): number;
  /** Counts an event from elsewhere. */
  merge(received: number): number;
  get current(): number;
}

/** What turns a document back into the one before it. */
export interface DeltaPatch {
  $set?: Record<string, unknown>;
  $unset?: string[];
}

/** The patch that turns `newRecord` into `oldRecord`; null where there is no old one, or they are the same. */
export declare function createDelta(oldRecord: Record<string, unknown> | null, newRecord: Record<string, unknown>): DeltaPatch | null;
export declare function applyDelta(record: Record<string, unknown>, patch: DeltaPatch): Record<string, unknown>;
export declare function isDeltaSmaller(patch: DeltaPatch | null, fullRecord: Record<string, unknown> | null): boolean;

/** The documents of a snapshot file, a piece at a time. */
export declare function streamSnapshotFile<T>(dir: string, relativePath: string): AsyncGenerator<[string, T], { version: number }>;

/** Takes the writer's lock of a directory, until `releaseLock` or the end of the process. */
export declare function acquireLock(dir: string): Promise<LockHandle>;
export declare function releaseLock(dir: string, handle: LockHandle): Promise<void>;

export declare function validateOp<T>(raw: unknown): Operation<T>;
export declare function validateManifest(raw: unknown): Manifest;
export declare function validateSnapshot<T>(raw: unknown): Snapshot<T>;
export declare function validateArchiveSegment<T>(raw: unknown): ArchiveSegment<T>;
