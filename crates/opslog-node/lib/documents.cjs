"use strict";
// The documents as the event loop sees them: they change only on it, between two turns of it, whatever the store's thread does meanwhile.
//
// A document is decoded when it is first read, frozen, and kept. Until then its value is the JSON text, or the place (a number) at which the
// native half has the text.

const { freeze } = require("./document.cjs");

/** Documents whose text is taken from the native half at a time. */
const PIECE = 1024;

class Documents {
  #native;
  #values = new Map();
  /** Ids of documents that may not be decoded yet; `null` when that may be any. */
  #fresh = null;
  /** The values that somebody iterates over; whoever changes them meanwhile changes a copy. */
  #iterated = null;
  #mutable;

  /** With `mutable` each read gives a new copy, which the caller may change. */
  constructor(native, mutable) {
    this.#native = native;
    this.#mutable = mutable;
  }

  get size() {
    return this.#values.size;
  }

  has(id) {
    return this.#values.has(id);
  }

  get(id) {
    const value = this.#values.get(id);
    if (typeof value === "object" || value === undefined) return value;
    return this.#decode(id, value);
  }

  /** Sets the document of `id`, given as text or place; an update keeps its place in the order. */
  set(id, value) {
    this.#changeable().set(id, value);
    if (this.#fresh === null) return;
    // Looking at all of them costs no more then.
    if (this.#fresh.length > this.#values.size) this.#fresh = null;
    else this.#fresh.push(id);
  }

  delete(id) {
    this.#changeable().delete(id);
  }

  all() {
    if (this.#mutable) return Array.from(this.entries(), ([, document]) => document);
    this.#decodeAll();
    return Array.from(this.#values.values());
  }

  filter(predicate) {
    const picked = [];
    const iterated = this.#begin();
    try {
      for (const [id, document] of this.entries()) if (predicate(document, id)) picked.push(document);
    } finally {
      this.#iterated = iterated;
    }
    return picked;
  }

  count(predicate) {
    let count = 0;
    const iterated = this.#begin();
    try {
      for (const [id, document] of this.entries()) if (predicate(document, id)) count += 1;
    } finally {
      this.#iterated = iterated;
    }
    return count;
  }

  /** `[id, document]` of all; to be used up before anything changes. */
  entries() {
    if (this.#mutable) return Array.from(this.#values.keys(), (id) => [id, this.get(id)]).values();
    this.#decodeAll();
    return this.#values.entries();
  }

  /** Takes the place of `ids.length` documents more, the first of them at `place` of the native half. */
  append(ids, place) {
    for (const id of ids) this.#values.set(id, place++);
  }

  /** Takes over a document that `other` has decoded. */
  keepDecoded(id, other) {
    const document = other.#values.get(id);
    if (typeof document === "object") this.#values.set(id, document);
  }

  /** Before an iteration that runs the caller's code: gives what is to be restored after it. */
  #begin() {
    const iterated = this.#iterated;
    this.#iterated = this.#values;
    return iterated;
  }

  #changeable() {
    if (this.#iterated === this.#values) this.#values = new Map(this.#values);
    return this.#values;
  }

  #decode(id, value) {
    const text = typeof value === "string" ? value : this.#native.takeOne(value);
    if (this.#mutable) {
      if (typeof value === "number") this.#values.set(id, text);
      return JSON.parse(text);
    }
    return this.#keep(id, JSON.parse(text));
  }

  #keep(id, document) {
    this.#values.set(id, freeze(document));
    return document;
  }

  #decodeAll() {
    if (this.#fresh === null) this.#decodeMany(this.#values);
    else if (this.#fresh.length > 0) this.#decodeMany(Array.from(new Set(this.#fresh), (id) => [id, this.#values.get(id)]));
    this.#fresh = [];
  }

  /** Decodes those of `entries` that are not. */
  #decodeMany(entries) {
    let ids = [];
    let places = [];
    for (const [id, value] of entries) {
      if (typeof value === "string") this.#decode(id, value);
      if (typeof value !== "number") continue;
      ids.push(id);
      places.push(value);
      if (ids.length === PIECE) {
        this.#decodePiece(ids, places);
        ids = [];
        places = [];
      }
    }
    this.#decodePiece(ids, places);
  }

  #decodePiece(ids, places) {
    const documents = JSON.parse(this.#native.take(Uint32Array.from(places)));
    ids.forEach((id, index) => this.#keep(id, documents[index]));
  }
}

module.exports = { Documents };
