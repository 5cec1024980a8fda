"use strict";
// Streams of the native half as async generators.

const { join } = require("node:path");
const { awaiting } = require("./errors.cjs");
const { native: { NativeStream } } = require("./native.cjs");

async function* items(stream) {
  for (let piece = await awaiting(stream.next()); piece != null; piece = await awaiting(stream.next())) {
    yield* JSON.parse(piece);
  }
}

/** The documents of a snapshot file, a piece at a time; returns `{ version }`. */
async function* streamSnapshotFile(dir, relativePath) {
  const stream = NativeStream.ofFile(join(dir, relativePath));
  yield* items(stream);
  return { version: stream.version };
}

module.exports = { items, streamSnapshotFile };
