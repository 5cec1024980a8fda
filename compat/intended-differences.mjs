// Where ours deliberately does something else than the reference, and how the comparison allows for it.
//
// Every allowance that a comparison makes is in this list and is made by calling `allow`, so that
// nothing is overlooked by accident. An allowance that a whole run never needs fails the run.

export const intendedDifferences = {
  "undone-delete-keeps-its-place": {
    reason: "the reference puts a document whose delete was undone at the end, and back in its place when it is "
      + "reopened; ours puts it back in its place at once, because the state is a function of the log",
    allowance: "the reference is reopened after such an undo",
  },
  "rolled-back-delete-keeps-its-place": {
    reason: "a failed batch leaves no trace with ours; the reference moves a document that the batch had deleted to the end",
    allowance: "the reference is reopened after such a batch",
  },
  "batch-undone-whole": {
    reason: "a batch is one commit and ours takes it back whole; the reference takes back its last operation",
    allowance: "the reference is told to undo as often as the batch has operations",
  },
  "undo-reaches-across-checkpoints": {
    reason: "ours can undo as far back as history is retained; the reference forgets everything at each checkpoint",
    allowance: "undo is not called when the reference's log is empty, unless ours is set to retain nothing",
  },
  "history-reaches-across-checkpoints": {
    reason: "ours answers history and ops from the retained logs; the reference only from the active one",
    allowance: "of ours, as many operations are compared as the reference has, from the newest back",
  },
  "undo-counts-bytes": {
    reason: "the reference counts characters where it should count bytes, so one `é` near the log's end makes it cut the wrong place",
    allowance: "undo is called only in runs whose ids and documents are ASCII",
  },
  "undo-of-unflushed-operation": {
    reason: "the reference cuts its log file although the operation is still in its buffer, and so removes another one",
    allowance: "the reference is flushed before an undo in group and async mode",
  },
  "batch-overtakes-buffer": {
    reason: "in group and async mode the reference writes a batch before the operations that were buffered earlier",
    allowance: "the reference is flushed before a batch in group and async mode",
  },
  "async-mode-checkpoints": {
    reason: "the reference never checkpoints by itself in async mode, so its log grows without bound",
    allowance: "in async mode the threshold is out of reach on both sides",
  },
  "archived-documents-keep-their-order": {
    reason: "the reference reads archived documents into an object, which puts ids such as \"10\" first; ours keeps the order of archiving",
    allowance: "archives are compared in the reference's order",
  },
  "streams-are-current": {
    reason: "the reference streams the snapshot and the log that were current when the store was opened",
    allowance: "snapshot and operations of ours together are compared with the reference's documents",
  },
  "undo-that-appends": {
    reason: "with undo_mode Append the log keeps what was undone, which the reference cannot; a document whose delete was "
      + "undone was set again as far as the log goes, and so is last",
    allowance: "documents are compared in no order, and neither operations nor their number are compared",
  },
  "keys-that-every-object-has": {
    reason: "the reference takes `constructor` and its like for keys that the old document had, and so forgets to remove "
      + "them when it applies a reverse patch",
    allowance: "documents have no such keys; ids may be such words",
  },
  "period-in-several-files": {
    reason: "ours writes a merged segment under a new name, so that a crash cannot lose it; when the reference then archives to the same period, it "
      + "adds a file of the old name, and finds only one of the two by the period",
    allowance: "in turns on one directory: what the files of the period hold together is compared with what ours shows",
    onlyInTurns: true,
  },
  "error-texts": {
    reason: "messages of ours are lowercase and say what to do",
    allowance: "the kinds of errors are compared, not their texts",
  },
};

const timesUsed = new Map(Object.keys(intendedDifferences).map((name) => [name, 0]));

/** Records that the comparison makes an allowance; says so loudly when the list does not have it. */
export function allow(name) {
  if (!timesUsed.has(name)) throw new Error(`'${name}' is not an intended difference`);
  timesUsed.set(name, timesUsed.get(name) + 1);
}

/** The allowances of the random run that were never made. */
export function allowancesNotNeeded() {
  return [...timesUsed].filter(([name, times]) => times === 0 && !intendedDifferences[name].onlyInTurns).map(([name]) => name);
}
