// The calls that the JavaScript half makes of the native one.

import native from "../../lib/native.cjs";

/** How often each of `methods` of the native half is called while `run` runs. */
export async function callsOf(methods, run) {
  const { prototype } = native.native.NativeStore;
  const counts = {};
  const originals = methods.map((method) => [method, prototype[method]]);
  for (const [method, original] of originals) {
    counts[method] = 0;
    prototype[method] = function counted(...args) {
      counts[method] += 1;
      return original.apply(this, args);
    };
  }
  try {
    await run();
  } finally {
    for (const [method, original] of originals) prototype[method] = original;
  }
  return counts;
}

/** Runs `run` while an answer of the native half has `bytes` at most. */
export async function withLongestAnswer(bytes, run) {
  native.native.setLongestAnswer(bytes);
  try {
    await run();
  } finally {
    native.native.setLongestAnswer(500_000_000);
  }
}
