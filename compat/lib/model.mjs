// Just enough of a model to know where the two stores are meant to differ: which ids exist, and which
// commits the reference's active log holds. What the documents contain is compared, not modelled.

export class Model {
  #present = new Set();
  #log = [];
  #checkpointThreshold;

  constructor({ checkpointThreshold }) {
    this.#checkpointThreshold = checkpointThreshold;
  }

  has(id) {
    return this.#present.has(id);
  }

  get ids() {
    return [...this.#present];
  }

  /** The commit that an undo would take back, of those since the last checkpoint. */
  get lastCommit() {
    return this.#log.at(-1);
  }

  set(id) {
    this.batch([{ op: "set", id }]);
  }

  delete(id) {
    this.batch([{ op: "delete", id }]);
  }

  /** Applies a batch whole or not at all, and says which of it happened and whether a document was deleted in it. */
  batch(operations) {
    const present = new Set(this.#present);
    const commit = { operations: 0, deletes: false, before: this.#present };
    for (const { op, id } of operations) {
      const missing = !present.has(id);
      if (op === "fail" || (op === "delete" && missing)) return { committed: false, deletes: commit.deletes };
      if (op === "set") present.add(id);
      else if ((op === "delete" || op === "tryDelete") && !missing) {
        present.delete(id);
        commit.deletes = true;
      } else continue;
      commit.operations += 1;
    }
    if (commit.operations > 0) this.#commit(commit, present);
    return { committed: true, deletes: commit.deletes };
  }

  undo() {
    this.#present = this.#log.pop().before;
  }

  archive(ids) {
    const matching = ids.filter((id) => this.#present.has(id));
    this.#present = new Set([...this.#present].filter((id) => !matching.includes(id)));
    if (matching.length > 0) this.checkpoint();
  }

  checkpoint() {
    this.#log = [];
  }

  #commit(commit, present) {
    this.#present = present;
    this.#log.push(commit);
    const operations = this.#log.reduce((sum, entry) => sum + entry.operations, 0);
    if (operations >= this.#checkpointThreshold) this.checkpoint();
  }
}
