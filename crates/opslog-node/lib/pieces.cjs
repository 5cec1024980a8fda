"use strict";
// The pieces that the reference exports beside the store. The work is done in Rust; values cross as JSON text.

const { invalid, calling } = require("./errors.cjs");
const { native } = require("./native.cjs");

class LamportClock {
  #clock;

  constructor(initial = 0) {
    this.#clock = new native.NativeClock(time(initial));
  }

  tick() {
    return this.#clock.tick();
  }

  merge(received) {
    return this.#clock.merge(time(received));
  }

  get current() {
    return this.#clock.current;
  }
}

function time(value) {
  if (!Number.isSafeInteger(value) || value < 0) throw invalid(`a clock's value must be a non-negative integer, not ${value}`);
  return value;
}

const text = (value) => JSON.stringify(value) ?? "null";

function createDelta(oldRecord, newRecord) {
  return JSON.parse(calling(() => native.createDelta(text(oldRecord), text(newRecord))));
}

function applyDelta(record, patch) {
  return JSON.parse(calling(() => native.applyDelta(text(record), text(patch))));
}

function isDeltaSmaller(patch, fullRecord) {
  return calling(() => native.isDeltaSmaller(text(patch), text(fullRecord)));
}

/** The reference's words for what the library finds; the last ones look at the value once more. */
const words = [
  [/^invalid ([a-z ]+): it must be an object$/, "Invalid $1: not an object"],
  [/^invalid operation: prev is missing$/, "Invalid operation: missing prev"],
  [/^invalid operation: data of a set must not be null$/, "Invalid operation: set op must have non-null data"],
  [/^invalid operation: prev of a delete must not be null$/, "Invalid operation: delete op must have non-null prev"],
  [/^invalid operation: data must not be in a delete$/, "Invalid operation: delete op must not have data field"],
  [/^invalid ([a-z ]+): version must be a positive integer$/, "Invalid $1: version must be a positive finite integer"],
  [/^invalid manifest: (currentSnapshot|activeOps) must be a non-empty string$/, "Invalid manifest: missing $1"],
  [/^invalid manifest: stats must be an object$/, "Invalid manifest: missing stats"],
  [/^invalid operation: (op|encoding) must be (.*)$/, (raw) => `Invalid operation: $1 must be $2, got "${raw.op === "set" || raw.op === "delete" ? raw.encoding : raw.op}"`],
  [/^invalid manifest: archiveSegments must be.*$/, ({ archiveSegments }) => `Invalid manifest: archiveSegments ${Array.isArray(archiveSegments) ? "entries must be non-empty strings" : "must be an array"}`],
  [/^invalid manifest: activeAgentOps must be.*$/, ({ activeAgentOps }) => `Invalid manifest: activeAgentOps ${isObject(activeAgentOps) ? "values must be non-empty strings" : "must be an object"}`],
  [/^invalid/, "Invalid"],
];

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** A number that is not finite is neither null nor anything that is accepted. */
const finite = (_key, value) => (typeof value === "number" && !Number.isFinite(value) ? false : value);

function validator(what) {
  return (raw) => {
    try {
      calling(() => native.validate(what, JSON.stringify(raw, finite) ?? "null"));
    } catch (error) {
      const [pattern, found] = words.find(([pattern]) => pattern.test(error.message)) ?? [/^/, ""];
      error.message = error.message.replace(pattern, typeof found === "function" ? found(raw) : found);
      throw error;
    }
    return raw;
  };
}

module.exports = {
  LamportClock, createDelta, applyDelta, isDeltaSmaller,
  validateOp: validator("operation"),
  validateManifest: validator("manifest"),
  validateSnapshot: validator("snapshot"),
  validateArchiveSegment: validator("archive segment"),
};
