"use strict";
// The options of `open`, as the native half reads them.

const { invalid } = require("./errors.cjs");
const { FsBackend } = require("./backend.cjs");

const kinds = {
  checkpointThreshold: "natural", checkpointOnClose: "boolean", version: "natural", readOnly: "boolean", skipLoad: "boolean",
  writeMode: "string", groupCommitSize: "natural", groupCommitMs: "number", agentId: "string",
  osBuffered: "boolean", historyRetention: "retention", undoMode: "string", strict: "boolean",
};

const accepts = {
  natural: (value) => Number.isSafeInteger(value) && value >= 0,
  number: (value) => typeof value === "number" && value >= 0 && Number.isFinite(value),
  boolean: (value) => typeof value === "boolean",
  string: (value) => typeof value === "string",
  retention: (value) => value === "all" || value === "none" || isMeasure(value),
};

function isMeasure(value) {
  const keys = Object.keys(Object(value));
  return keys.length === 1 && ["ageMs", "bytes"].includes(keys[0]) && accepts.number(value[keys[0]]);
}

/** Options as JSON text. Those that are not known are left to those who know them, as in the reference. */
function nativeOptions(options) {
  const known = {};
  for (const [name, kind] of Object.entries(kinds)) {
    const value = options[name];
    if (value === undefined) continue;
    if (!accepts[kind](value)) throw invalid(`the option ${name} cannot be ${JSON.stringify(value) ?? typeof value}`);
    known[name] = value;
  }
  if (options.migrate !== undefined && typeof options.migrate !== "function") throw invalid("the option migrate must be a function");
  return JSON.stringify(known);
}

/** Only a directory, through an `FsBackend` as it is, can be a store's backend. */
function refuseForeignBackend(backend) {
  if (backend === undefined || Object.getPrototypeOf(Object(backend)) === FsBackend.prototype) return;
  throw invalid("the option backend must be an FsBackend of this package: a backend written in JavaScript cannot keep what a store promises "
    + "(docs/decisions/0006). Open the directory itself, keep other files with FsBackend's writeBlob, and copy a closed store, or the files its manifest names, to other storage");
}

module.exports = { nativeOptions, refuseForeignBackend };
