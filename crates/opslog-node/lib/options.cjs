"use strict";
// The options of `open`, as the native half reads them.

const { invalid } = require("./errors.cjs");
const { FsBackend } = require("./backend.cjs");

const kinds = {
  checkpointThreshold: "count", checkpointOnClose: "boolean", version: "natural", readOnly: "boolean", skipLoad: "boolean",
  writeMode: "string", groupCommitSize: "count", groupCommitMs: "interval", agentId: "string",
  osBuffered: "boolean", historyRetention: "retention", undoMode: "string", strict: "boolean",
};

/** Options that stay on this side; those without a kind are looked at below. */
const kindsHere = { mutableDocuments: "boolean", decodeOnOpen: "boolean", backend: undefined, migrate: undefined };

/** More than ever comes, for the native half, which has no infinity. */
const NEVER_COUNT = 2 ** 40;
const NEVER_MS = 1e12;

const accepts = {
  count: (value) => typeof value === "number" && !Number.isNaN(value),
  interval: (value) => typeof value === "number" && !Number.isNaN(value),
  natural: (value) => Number.isSafeInteger(value) && value >= 0,
  number: (value) => typeof value === "number" && value >= 0 && Number.isFinite(value),
  boolean: (value) => typeof value === "boolean",
  string: (value) => typeof value === "string",
  retention: (value) => value === "all" || value === "none" || isMeasure(value),
};

/** Numbers mean what they mean to a comparison: `Infinity` is never, a fraction the next whole number, and less than nothing at once. */
const becomes = {
  count: (value) => Math.min(Math.max(Math.ceil(value), 0), NEVER_COUNT),
  interval: (value) => Math.min(Math.max(value, 0), NEVER_MS),
};

function isMeasure(value) {
  const keys = Object.keys(Object(value));
  return keys.length === 1 && ["ageMs", "bytes"].includes(keys[0]) && accepts.number(value[keys[0]]);
}

/**
 * The options that were given, each accepted. Those that are not known are left to those who know them, and `null` is none, as is an `agentId` without
 * a character: all as in the reference.
 */
function settledOptions(given) {
  const options = {};
  const allKinds = { ...kinds, ...kindsHere };
  for (const name of Object.keys(allKinds)) {
    const value = given?.[name] ?? undefined;
    if (value === undefined || name === "agentId" && value === "") continue;
    const kind = allKinds[name];
    if (kind !== undefined && !accepts[kind](value)) throw invalid(`the option ${name} cannot be ${described(value)}`);
    options[name] = becomes[kind]?.(value) ?? value;
  }
  if (options.migrate !== undefined && typeof options.migrate !== "function") throw invalid("the option migrate must be a function");
  refuseForeignBackend(options.backend);
  return options;
}

function described(value) {
  return typeof value === "number" ? String(value) : JSON.stringify(value) ?? typeof value;
}

/** Settled options as JSON text, for the native half. */
function nativeOptions(options) {
  return JSON.stringify(options, ["ageMs", "bytes", ...Object.keys(kinds)]);
}

/** Only a directory, through an `FsBackend` as it is, can be a store's backend. */
function refuseForeignBackend(backend) {
  if (backend === undefined || Object.getPrototypeOf(Object(backend)) === FsBackend.prototype) return;
  throw invalid("the option backend must be an FsBackend of this package: a backend written in JavaScript cannot keep what a store promises "
    + "(docs/decisions/0006). Open the directory itself, keep other files with FsBackend's writeBlob, and copy a closed store, or the files its manifest names, to other storage");
}

module.exports = { settledOptions, nativeOptions };
