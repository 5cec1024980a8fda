// Directories and stores that go away with their test.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Store } from "../../index.js";

export function directory(context) {
  const path = mkdtempSync(join(tmpdir(), "opslog-node-"));
  context.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** An open store in a new directory, or in `dir`. */
export async function opened(context, options = {}, dir = directory(context)) {
  const store = new Store();
  await store.open(dir, options);
  context.after(() => store.close().catch(() => {}));
  return Object.assign(store, { dir });
}

/** What a call throws or rejects with. */
export async function failureOf(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error("the call succeeded");
}

export const codeOf = async (call) => (await failureOf(call)).code;
