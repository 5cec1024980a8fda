// Answers commands on standard input with the reference package, one JSON line each, in order.

import { ReferenceStores, errorKindOf } from "./reference.mjs";

const stores = new ReferenceStores();
let partialLine = "";
let earlierCommands = Promise.resolve();

async function answer(line) {
  let reply;
  try {
    reply = { result: await stores.answer(JSON.parse(line)) };
  } catch (error) {
    reply = { error: { kind: errorKindOf(error), message: error.message } };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

process.stdin.setEncoding("utf8");
process.stdin.on("data", (text) => {
  const lines = (partialLine + text).split("\n");
  partialLine = lines.pop();
  for (const line of lines) earlierCommands = earlierCommands.then(() => answer(line));
});
// A store that is still open may have timers; the commands are what decides when to end.
process.stdin.on("end", () => earlierCommands.then(() => process.exit(0)));
