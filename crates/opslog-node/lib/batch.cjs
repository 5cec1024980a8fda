"use strict";
// The writes of a batch while its function runs: what it sees on top of the store, and what it will commit.

const { notFound } = require("./errors.cjs");
const { freeze } = require("./document.cjs");

class Batch {
  #store;
  /** The newest of each id that the batch has written: its text, or null; `moved` when the batch had deleted it, and so it goes last. */
  #newest = new Map();
  /** `[id, text or null]` of every write, in order. */
  writes = [];

  /** `store` reads what was there before: `get(id)`, `has(id)`, `entries()`, `size`. */
  constructor(store) {
    this.#store = store;
  }

  set(id, text) {
    const before = this.#newest.get(id);
    if (before?.text === null) this.#newest.delete(id);
    this.#newest.set(id, { text, moved: before !== undefined && before.moved });
    this.writes.push([id, text]);
  }

  delete(id) {
    if (!this.has(id)) throw notFound(id);
    this.#newest.set(id, { text: null, moved: true });
    this.writes.push([id, null]);
  }

  get(id) {
    const newest = this.#newest.get(id);
    return newest === undefined ? this.#store.get(id) : decoded(newest);
  }

  has(id) {
    const newest = this.#newest.get(id);
    return newest === undefined ? this.#store.has(id) : newest.text !== null;
  }

  get size() {
    let size = this.#store.size;
    for (const [id, { text }] of this.#newest) size += (text !== null) - this.#store.has(id);
    return size;
  }

  *entries() {
    for (const [id, document] of this.#store.entries()) {
      const newest = this.#newest.get(id);
      if (newest === undefined) yield [id, document];
      else if (!newest.moved) yield [id, decoded(newest)];
    }
    for (const [id, newest] of this.#newest) {
      if (newest.text !== null && (newest.moved || !this.#store.has(id))) yield [id, decoded(newest)];
    }
  }
}

function decoded(newest) {
  if (newest.text === null) return undefined;
  newest.document ??= freeze(JSON.parse(newest.text));
  return newest.document;
}

module.exports = { Batch };
