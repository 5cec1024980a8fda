// Builds the native half with cargo and puts it, named after this platform, beside the JavaScript half.

import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const libraries = { darwin: "libopslog_node.dylib", win32: "opslog_node.dll" };

execFileSync("cargo", ["build", "--release", "-p", "opslog-node"], { cwd: here, stdio: "inherit" });
const metadata = JSON.parse(execFileSync("cargo", ["metadata", "--format-version", "1", "--no-deps"], { cwd: here, maxBuffer: 1 << 28 }));
const library = join(metadata.target_directory, "release", libraries[process.platform] ?? "libopslog_node.so");
if (!existsSync(library)) throw new Error(`cargo has built no ${library}`);

const musl = process.platform === "linux" && !process.report.getReport().header.glibcVersionRuntime;
const binary = join(here, `opslog.${process.platform}-${process.arch}${musl ? "-musl" : ""}.node`);
// A process that has the old binary loaded keeps it.
copyFileSync(library, `${binary}.new`);
strip(`${binary}.new`);
renameSync(`${binary}.new`, binary);
copyFileSync(join(here, "index.d.ts"), join(here, "index.d.cts"));
copyFileSync(join(here, "../../LICENSE"), join(here, "LICENSE"));

/** Lines for debuggers are most of the file; where there is no `strip` they stay. */
function strip(file) {
  try {
    execFileSync("strip", process.platform === "darwin" ? ["-x", file] : ["--strip-unneeded", file], { stdio: "ignore" });
  } catch {
    console.warn("the binary keeps its debug information: there is no `strip` here");
  }
}
