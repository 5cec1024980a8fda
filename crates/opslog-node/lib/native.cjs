"use strict";
// Finds the native half, and says what is missing where it cannot.

const { existsSync, readdirSync } = require("node:fs");
const { join } = require("node:path");

const root = join(__dirname, "..");

function isMusl() {
  return process.platform === "linux" && !process.report.getReport().header.glibcVersionRuntime;
}

/** What a binary for this process is called after: such as `linux-x64` or `linux-arm64-musl`. */
function platformName() {
  return `${process.platform}-${process.arch}${isMusl() ? "-musl" : ""}`;
}

function load() {
  const platform = platformName();
  const file = join(root, `opslog.${platform}.node`);
  if (!existsSync(file)) {
    const present = readdirSync(root).filter((name) => name.endsWith(".node"));
    const instead = present.length > 0 ? `this package has ${present.join(", ")}` : "this package has no binary at all";
    throw failure(`opslog has no native binary for ${platform}: ${file} is missing, and ${instead}. `
      + "Install the package on the platform that it runs on, or build it from source there: cargo and `npm run build` in crates/opslog-node");
  }
  try {
    return require(file);
  } catch (cause) {
    throw failure(`opslog's native binary for ${platform} does not load: ${cause.message} (${file}, Node ${process.version}, `
      + `N-API ${process.versions.napi})`, cause);
  }
}

function failure(message, cause) {
  return Object.assign(new Error(message, cause && { cause }), { code: "OPSLOG_NO_BINARY" });
}

module.exports = { native: load(), platformName };
