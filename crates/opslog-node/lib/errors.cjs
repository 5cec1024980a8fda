"use strict";
// Errors as JavaScript sees them: the reference's words where it has any, and a stable `code`.

/** What the calls of this package throw or reject with, but for a `TypeError` where something should be a function, and what the caller's own functions throw. */
class OpslogError extends Error {
  constructor(kind, message, { cause, path, line, offset } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = `OPSLOG_${kind.toUpperCase()}`;
    for (const [key, value] of Object.entries({ path, line, offset })) if (value !== undefined) this[key] = value;
  }
}
Object.defineProperty(OpslogError.prototype, "name", { value: "OpslogError", configurable: true, writable: true });

/** The reference's words for what the library says. */
const translations = [
  ["not_found", /^record '([^]*)' not found$/, ([, id]) => notFoundMessage(id)],
  ["not_found", /^archive segment '([^]*)' not found$/, ([, segment]) => `Archive segment '${segment}' not found`],
  ["not_found", /^there is no store here/, () => "Cannot open in readOnly mode: no existing store found"],
  ["not_found", /^the store is gone/, () => "Manifest not found during refresh"],
  ["invalid_input", /^cannot compact or archive in skip_load mode/, () => "Cannot compact in skipLoad mode — in-memory Map is incomplete"],
  ["locked", /^store is locked by (?:this )?process \(?(\d+)/, ([, pid], { path }) => `Store is locked by process ${pid}. If this is stale, delete ${path}`],
  ["corrupt", /is missing; restore it/, (_, { path }) => snapshotMissing(path)],
];

const notFoundMessage = (id) => `Record '${id}' not found`;
const notFound = (id) => new OpslogError("not_found", notFoundMessage(id));
const notOpen = () => new OpslogError("closed", "Store is not open. Call open() first.");
const readOnly = () => new OpslogError("read_only", "Store is read-only. Cannot perform mutations.");
const invalid = (message, cause) => new OpslogError("invalid_input", message, { cause });

function snapshotMissing(path) {
  const snapshot = /snapshots[\\/][^\\/]+$/.exec(path ?? "");
  return snapshot && `Snapshot file not found: ${snapshot[0]}. The data directory may be corrupted.`;
}

/** The error for a failure as the native half describes it. */
function fromFailure(failure) {
  const [, pattern, words] = translations.find(([kind, pattern]) => kind === failure.kind && pattern.test(failure.text)) ?? [];
  const message = (words && words(pattern.exec(failure.text), failure)) ?? failure.message;
  return new OpslogError(failure.kind, message, failure);
}

/** The error for what a call of the native half threw. */
function fromThrown(error) {
  if (error instanceof Error && error.message.startsWith("{\"kind\":")) return fromFailure(JSON.parse(error.message));
  return error;
}

/** Calls the native half. */
function calling(call) {
  try {
    return call();
  } catch (error) {
    throw fromThrown(error);
  }
}

/** Awaits the native half. */
async function awaiting(promise) {
  try {
    return await promise;
  } catch (error) {
    throw fromThrown(error);
  }
}

module.exports = { OpslogError, notFound, notOpen, readOnly, invalid, fromFailure, calling, awaiting };
