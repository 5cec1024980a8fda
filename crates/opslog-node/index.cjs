"use strict";

const { Store } = require("./lib/store.cjs");
const { FsBackend, acquireLock, releaseLock } = require("./lib/backend.cjs");
const { streamSnapshotFile } = require("./lib/streams.cjs");
const { OpslogError } = require("./lib/errors.cjs");
const pieces = require("./lib/pieces.cjs");

module.exports = { Store, FsBackend, acquireLock, releaseLock, streamSnapshotFile, OpslogError, ...pieces };
