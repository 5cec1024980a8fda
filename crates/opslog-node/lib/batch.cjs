"use strict";
// The writes of a batch while its function runs: what it sees on top of the store, and what it will commit.

const { notFound } = require("./errors.cjs");
const { freeze, line } = require("./document.cjs");

class Batch {
  #documents;
  /** The newest of each id that the batch has written: its text, or null where it was deleted. */
  #newest = new Map();
  /** Ids that the batch has deleted; one that it has set again goes last. */
  #deleted = new Set();
  #decoded = new Map();
  #mutable;
  /** Every write, as the native half reads them. */
  lines = "";

  /** `documents` has what was there before; with `mutable` each read gives a new copy. */
  constructor(documents, mutable) {
    this.#documents = documents;
    this.#mutable = mutable;
  }

  set(id, text) {
    if (this.#deleted.size > 0 && this.#newest.get(id) === null) this.#newest.delete(id);
    this.#newest.set(id, text);
    this.lines += line(id, text);
  }

  delete(id) {
    if (!this.has(id)) throw notFound(id);
    this.#deleted.add(id);
    this.#newest.set(id, null);
    this.lines += line(id, null);
  }

  get(id) {
    const text = this.#newest.get(id);
    return text === undefined ? this.#documents.get(id) : this.#decode(id, text);
  }

  has(id) {
    const text = this.#newest.get(id);
    return text === undefined ? this.#documents.has(id) : text !== null;
  }

  get size() {
    let { size } = this.#documents;
    for (const [id, text] of this.#newest) size += (text !== null) - this.#documents.has(id);
    return size;
  }

  *entries() {
    for (const [id, document] of this.#documents.entries()) {
      const text = this.#newest.get(id);
      if (text === undefined) yield [id, document];
      else if (!this.#deleted.has(id)) yield [id, this.#decode(id, text)];
    }
    for (const [id, text] of this.#newest) {
      if (text !== null && (this.#deleted.has(id) || !this.#documents.has(id))) yield [id, this.#decode(id, text)];
    }
  }

  /** Makes the batch's writes visible. */
  applyTo(documents) {
    for (const id of this.#deleted) documents.delete(id);
    for (const [id, text] of this.#newest) if (text !== null) documents.set(id, text);
  }

  #decode(id, text) {
    if (text === null) return undefined;
    if (this.#mutable) return JSON.parse(text);
    let known = this.#decoded.get(id);
    if (known?.text !== text) this.#decoded.set(id, known = { text, document: freeze(JSON.parse(text)) });
    return known.document;
  }
}

module.exports = { Batch };
