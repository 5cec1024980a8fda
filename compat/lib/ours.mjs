// The Rust library, through its driver process.

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { LineClient } from "./line-client.mjs";
import { startReference } from "./reference.mjs";

const target = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../target", import.meta.url));

/** With COMPAT_OURS=reference the reference stands in for ours: that checks the harness itself. */
export const checksTheHarness = process.env.COMPAT_OURS === "reference";

function driverPath() {
  const candidates = [process.env.OPSLOG_COMPAT_DRIVER, `${target}/release/opslog-compat`, `${target}/debug/opslog-compat`];
  const found = candidates.find((path) => path && existsSync(path));
  if (!found) throw new Error("the driver is not built: run `cargo build -p opslog-compat`, or set OPSLOG_COMPAT_DRIVER");
  return found;
}

export function startOurs(limits) {
  return checksTheHarness ? startReference(limits) : new LineClient(driverPath(), [], limits);
}
