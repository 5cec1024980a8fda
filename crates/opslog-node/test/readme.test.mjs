// Runs the examples that `tsc` has checked: what the reference's README does, does the same here and there.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import ts from "typescript";
import { directory } from "./lib/stores.mjs";

const source = readFileSync(new URL("types/readme.mts", import.meta.url), "utf8");

/** The examples with the package at `url`. */
async function examplesWith(url, folder) {
  const { outputText } = ts.transpileModule(source, { compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 } });
  const file = join(folder, "readme.mjs");
  writeFileSync(file, outputText.replace("\"opslog\"", JSON.stringify(url)));
  return import(pathToFileURL(file));
}

test("the examples of the reference's README give what they say", async (context) => {
  const examples = await examplesWith(new URL("../index.js", import.meta.url).href, directory(context));
  const dir = directory(context);
  assert.deepEqual(await examples.usage(dir), { active: [], count: 1, ids: ["task-1", "a", "b", "c"] });
  assert.deepEqual((await examples.streaming(dir)).length >= 4, true);
  assert.deepEqual(await examples.history(dir), [1, true, true, 1, 1, ["archive/archive-2026-Q1.json"], 3, "string"]);
  assert.deepEqual(await examples.blobs(directory(context)), ["hello world", "world", ["file.jsonl"]]);
  assert.equal(await examples.options(directory(context)), 1);
  const modes = directory(context);
  assert.deepEqual(await examples.groupAndAsync(modes), [3, "OPSLOG_READ_ONLY"]);
  assert.deepEqual(await examples.migration(modes), ["default", "default", "default"]);
  assert.deepEqual(await examples.watching(directory(context)), [["watched"], 0]);
  assert.deepEqual(await examples.pieces(directory(context)), [6, { a: 1 }, false, "a", 1, 1, "p", true]);
});
