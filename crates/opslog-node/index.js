import opslog from "./index.cjs";

export const {
  Store, FsBackend, LamportClock, createDelta, applyDelta, isDeltaSmaller, streamSnapshotFile, acquireLock, releaseLock,
  validateOp, validateManifest, validateSnapshot, validateArchiveSegment, OpslogError,
} = opslog;
