// Plans a random run from a seed, makes it on both stores, and compares what can be seen after each call.

import { allow } from "../intended-differences.mjs";
import { canonical } from "./canonical.mjs";
import { inReferenceOrder } from "./comparison.mjs";
import { periodOf } from "./directories.mjs";
import { Model } from "./model.mjs";
import { checksTheHarness } from "./ours.mjs";
import { Random } from "./random.mjs";
import { RandomCalls } from "./random-calls.mjs";

/** The reference standing in for ours needs the reference's allowances too. */
const oursSide = checksTheHarness ? "forReference" : "forOurs";
const outOfReach = 1_000_000;

function randomOptions(random) {
  const writeMode = random.pick(["immediate", "immediate", "group", "async"]);
  const options = {
    writeMode,
    groupCommitSize: random.pick([2, 7, 50]),
    groupCommitMs: random.pick([1, 10, 100]),
    checkpointThreshold: random.pick([3, 10, 40, 200]),
    checkpointOnClose: false,
    // The rest are options of ours alone, set so that the two promise the same.
    osBuffered: true,
    checkpointMode: "blocking",
    historyRetention: random.pick(["all", "none"]),
    undoMode: random.chance(0.2) ? "append" : "truncate",
    residency: random.chance(0.25) ? "onDemand" : "memory",
  };
  // What undo appends counts as operations: checkpoints come sooner, and must not take from undo what the reference can undo.
  if (options.undoMode === "append") options.historyRetention = "all";
  if (writeMode === "async") {
    allow("async-mode-checkpoints");
    options.checkpointThreshold = outOfReach;
  }
  return options;
}

/**
 * What is sent to each side, step by step. `compared` names what an answer is; answers without a name
 * (those of the allowances) are not compared.
 */
class Plan {
  steps = [];

  constructor(seed, callCount) {
    this.seed = seed;
    this.random = new Random(seed);
    this.options = randomOptions(this.random);
    this.model = new Model(this.options);
    this.asciiOnly = this.random.chance(0.7);
    allow("keys-that-every-object-has");
    this.calls = new RandomCalls(this.random, { asciiOnly: this.asciiOnly });
    this.buffers = this.options.writeMode !== "immediate";
    for (let count = 0; count < callCount; count += 1) this.#addStep(count === callCount - 1);
  }

  #addStep(last) {
    const { random, calls } = this;
    const kind = random.weighted([[40, "set"], [8, "delete"], [12, "batch"], [12, "undo"], [2, "compact"],
      [3, "archive"], [3, "loadArchive"], [3, "reopen"], [8, "read"]]);
    const step = { forReference: [], forOurs: [], both(command, compared) {
      this.forReference.push({ command, compared });
      this.forOurs.push({ command, compared });
    } };
    step.call = calls[kind]?.() ?? { call: kind };
    this[`plan_${kind}`](step);
    step.presentIds = this.model.ids.sort();
    this.#observe(step, last || random.chance(0.2));
    this.steps.push(step);
  }

  plan_set(step) {
    this.model.set(step.call.id);
    step.both(step.call, "answer");
  }

  plan_delete(step) {
    if (!this.model.has(step.call.id)) allow("error-texts");
    this.model.delete(step.call.id);
    step.both(step.call, "answer");
  }

  plan_batch(step) {
    if (this.buffers) this.#referenceOnly(step, "batch-overtakes-buffer", { call: "flush" });
    const { committed, deletes } = this.model.batch(step.call.operations);
    step.both(step.call, "answer");
    if (!committed && deletes) this.#reopenReference(step, "rolled-back-delete-keeps-its-place");
  }

  plan_undo(step) {
    const commit = this.model.lastCommit;
    const retainsNothing = this.options.historyRetention === "none";
    if (commit === undefined) {
      if (retainsNothing) step.both(step.call, "answer");
      else this.#skip(step, "undo-reaches-across-checkpoints");
      return;
    }
    if (!this.asciiOnly) {
      this.#skip(step, "undo-counts-bytes");
      return;
    }
    this.model.undo();
    if (this.buffers) this.#referenceOnly(step, "undo-of-unflushed-operation", { call: "flush" });
    for (let extra = 1; extra < commit.operations; extra += 1) {
      this.#referenceOnly(step, "batch-undone-whole", { call: "undo" });
    }
    step.both(step.call, "answer");
    if (commit.deletes) this.#reopenReference(step, "undone-delete-keeps-its-place");
  }

  plan_compact(step) {
    this.model.checkpoint();
    step.both(step.call, "answer");
  }

  plan_archive(step) {
    this.model.archive(step.call.ids);
    step.both(step.call, "answer");
  }

  plan_loadArchive(step) {
    step.both(step.call, "archive");
  }

  plan_reopen(step) {
    step.both({ call: "close" }, "answer");
    step.both({ call: "open" }, "answer");
  }

  plan_read(step) {
    step.both(step.call, "answer");
  }

  /** Documents after every call, in order; the rest now and then. */
  #observe(step, everything) {
    step.both({ call: "entries" }, "answer");
    step.both({ call: "count" }, "answer");
    step.both({ call: "stats" }, "stats");
    if (!everything) return;
    const id = this.calls.observedId();
    step.both({ call: "ops" }, "operations");
    step.both({ call: "history", id }, "operations");
    allow("streams-are-current");
    step.forReference.push({ command: { call: "entries" }, compared: "streamed" });
    step.forOurs.push({ command: { call: "streamed" }, compared: "streamed" });
    const index = this.random.below(8);
    step.both({ call: "opsSinceOperation", index }, "operationsSince");
    step.both({ call: "archiveSegments" }, "segments");
    step.both({ call: "loadArchive", segment: this.calls.observedSegment() }, "archive");
  }

  #skip(step, difference) {
    allow(difference);
    step.call = { ...step.call, skipped: difference };
  }

  #referenceOnly(step, difference, command) {
    allow(difference);
    step.forReference.push({ command });
  }

  #reopenReference(step, difference) {
    this.#referenceOnly(step, difference, { call: "close" });
    step.forReference.push({ command: { call: "open" } });
  }
}

function withoutTimes(operations) {
  return operations.map(({ op, id, prev, data }) => ({ op, id, prev, data }));
}

/** Lists of documents, also those that were read inside a batch, sorted. */
function inNoOrder(answer) {
  if (!Array.isArray(answer)) return answer;
  const inner = answer.map((element) => (Array.isArray(element) ? inNoOrder(element) : element));
  return inner.sort((left, right) => (canonical(left) < canonical(right) ? -1 : 1));
}

/** Brings the two answers into a form in which they must be equal. */
const comparable = {
  answer(reference, ours, { undoMode }) {
    if (undoMode !== "append") return [reference, ours];
    return [inNoOrder(reference), inNoOrder(ours)];
  },
  stats(reference, ours, { undoMode }) {
    const plain = ({ activeRecords, opsCount, archiveSegments }) => ({
      activeRecords, archiveSegments, ...(undoMode === "append" ? {} : { opsCount }),
    });
    return [plain(reference), plain(ours)];
  },
  operations(reference, ours, { undoMode, historyRetention }) {
    if (undoMode === "append") {
      allow("undo-that-appends");
      return [[], []];
    }
    let comparedOurs = ours;
    if (historyRetention !== "none" && ours.length > reference.length) {
      allow("history-reaches-across-checkpoints");
      comparedOurs = ours.slice(ours.length - reference.length);
    }
    return [withoutTimes(reference), withoutTimes(comparedOurs)];
  },
  streamed(reference, ours, { undoMode }) {
    const documents = checksTheHarness ? ours : documentsOf(ours);
    return undoMode === "append" ? [inNoOrder(reference), inNoOrder(documents)] : [reference, documents];
  },
  // The two have other times, so each is compared with its own operations.
  operationsSince: (reference, ours, options, { index }) => [[], [...misplacedSince(reference, index), ...misplacedSince(ours, index)]],
  segments: (reference, ours) => [reference.map(periodOf).sort(), ours.map(periodOf).sort()],
  archive(reference, ours, { undoMode }) {
    if (canonical(ours) !== canonical(inReferenceOrder(ours))) allow("archived-documents-keep-their-order");
    return undoMode === "append" ? [inNoOrder(reference), inNoOrder(ours)] : [inReferenceOrder(reference), inReferenceOrder(ours)];
  },
};

/** The documents that a snapshot and the operations after it make together. */
function documentsOf({ snapshot, operations }) {
  const documents = new Map(snapshot);
  for (const { op, id, data } of operations) {
    if (op === "set") documents.set(id, data);
    else documents.delete(id);
  }
  return [...documents];
}

/** What `ops` of a time, and of a cursor where there are cursors, answered wrongly. */
function misplacedSince(answer, index) {
  if (answer === null) return [];
  const { all, afterTime, afterCursor } = answer;
  const wrong = [];
  if (canonical(afterTime) !== canonical(all.filter(({ ts }) => ts > all[index].ts))) wrong.push({ all, index, afterTime });
  if (afterCursor && canonical(afterCursor) !== canonical(all.slice(index + 1))) wrong.push({ all, index, afterCursor });
  return wrong;
}

function comparableAnswers({ compared, command }, reference, ours, options) {
  if (reference?.error || ours?.error) return [reference?.error?.kind ?? reference, ours?.error?.kind ?? ours];
  return comparable[compared](reference, ours, options, command);
}

function commandsOf(plan, side, dir) {
  const open = { call: "open", dir, options: plan.options };
  const commands = plan.steps.flatMap((step) => step[side]).map(({ command }) => (command.call === "open" ? open : command));
  return [open, ...commands, { call: "close" }].map((command) => ({ store: `seed-${plan.seed}`, ...command }));
}

/** Lists are long: where they begin to differ is what matters. */
function firstDifference(reference, ours) {
  if (!Array.isArray(reference) || !Array.isArray(ours)) return [`reference: ${canonical(reference)}`, `ours:      ${canonical(ours)}`];
  let index = 0;
  while (index < reference.length && canonical(reference[index]) === canonical(ours[index])) index += 1;
  const shown = (list) => `${list.length} elements, number ${index}: ${index < list.length ? canonical(list[index]) : "none"}`;
  return [`reference: ${shown(reference)}`, `ours:      ${shown(ours)}`];
}

function failureText(plan, stepIndex, { command, reference, ours }) {
  const calls = plan.steps.slice(0, stepIndex + 1).map((step) => `  ${JSON.stringify(step.call)}`);
  return [`seed ${plan.seed}: ${command.call} differs after call ${stepIndex + 1}`,
    ...firstDifference(JSON.parse(reference), JSON.parse(ours)),
    `options: ${JSON.stringify(plan.options)}`, "calls:", ...calls,
    `run this seed alone: COMPAT_SEED=${plan.seed} npm test`].join("\n");
}

/** Takes a step's answers off the front, and keeps those that are compared. */
function takeCompared(commands, answers) {
  return answers.splice(0, commands.length)
    .map((answer, position) => ({ ...commands[position], answer }))
    .filter(({ compared }) => compared !== undefined);
}

/** The model must know which ids there are, or the allowances that rest on it are wrong. */
function checkAllowances(seed, index, fromReference, { presentIds }) {
  const { answer } = fromReference.find(({ command }) => command.call === "entries");
  const ids = answer.map(([id]) => id).sort();
  if (canonical(ids) !== canonical(presentIds)) {
    throw new Error(`seed ${seed}: after call ${index + 1} the reference has ${canonical(ids)}, the model ${canonical(presentIds)}`);
  }
}

/** Runs one seed. Returns the number of calls made; throws with the whole story where the stores differ. */
export async function runSeed(seed, callCount, { reference, ours, referenceDirectory, oursDirectory }) {
  const plan = new Plan(seed, callCount);
  const [[referenceOpened, ...referenceAnswers], [oursOpened, ...oursAnswers]] = await Promise.all([
    reference.sendAll(commandsOf(plan, "forReference", referenceDirectory)),
    ours.sendAll(commandsOf(plan, oursSide, oursDirectory)),
  ]);
  if (referenceOpened?.error || oursOpened?.error) throw new Error(`seed ${seed}: ${JSON.stringify({ referenceOpened, oursOpened })}`);
  let made = 0;
  for (const [index, step] of plan.steps.entries()) {
    const fromReference = takeCompared(step.forReference, referenceAnswers);
    const fromOurs = takeCompared(step[oursSide], oursAnswers);
    for (const [position, { command, compared, answer }] of fromReference.entries()) {
      const [expected, got] = comparableAnswers({ command, compared }, answer, fromOurs[position].answer, plan.options).map(canonical);
      if (expected !== got) throw new Error(failureText(plan, index, { command, reference: expected, ours: got }));
    }
    checkAllowances(seed, index, fromReference, step);
    if (!step.call.skipped) made += 1;
  }
  return made;
}
