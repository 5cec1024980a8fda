// Two processes of ours that race for a dead writer's lock: exactly one wins, every time.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { temporaryDirectory } from "../lib/directories.mjs";
import { checksTheHarness, startOurs } from "../lib/ours.mjs";

const TRIES = 1000;

test("of two processes exactly one takes a dead writer's lock", { skip: checksTheHarness }, async (context) => {
  const directory = temporaryDirectory(context);
  const racers = [startOurs(), startOurs()];
  context.after(() => Promise.all(racers.map((racer) => racer.kill())));
  const open = (racer) => racer.send({ store: "main", call: "open", dir: directory, options: { osBuffered: true } });
  const dead = spawnSync(process.execPath, ["--version"]).pid;
  const wins = [0, 0];
  for (let round = 0; round < TRIES; round += 1) {
    // As the reference leaves it when it is killed, and as ours does.
    writeFileSync(`${directory}/.lock`, round % 2 === 0 ? `${dead}` : `${dead}\nopslog\n`);
    const answers = await Promise.all(
      racers.map((racer) => open(racer).then(() => "open", (error) => error.kind ?? error.message)),
    );
    const winner = answers.indexOf("open");
    assert.equal(answers.filter((answer) => answer === "open").length, 1, `round ${round}: ${answers}`);
    assert.match(answers[1 - winner], /locked/i, `round ${round}`);
    wins[winner] += 1;
    await racers[winner].send({ store: "main", call: "close" });
  }
  assert.equal(wins[0] + wins[1], TRIES);
});
