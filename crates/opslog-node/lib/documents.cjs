"use strict";
// The documents as the event loop sees them: they change only on it, between two of its turns, whatever the store's thread does meanwhile.
//
// A document is decoded when it is first read, frozen, and kept. Until then its value is the JSON text, or the place (a number) at which the
// native half has the text. Values lie in slots in insertion order; an update keeps its slot, a delete leaves a hole.

const { freeze } = require("./document.cjs");

/** Documents whose text is taken from the native half at a time. */
const PIECE = 256;
/** Fewer holes are not worth closing. */
const HOLES_LEAST = 1024;

class Documents {
  #native;
  /** id -> slot */
  #slots = new Map();
  #ids = [];
  #values = [];
  /** Documents that `get` has given: one look-up then, and the document itself is not touched. */
  #got = new Map();
  /** Slots whose document may not be decoded yet; `null` when that may be any. */
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
    return this.#slots.size;
  }

  has(id) {
    return this.#slots.has(id);
  }

  get(id) {
    const got = this.#got.get(id);
    return got === undefined ? this.#find(id) : got;
  }

  /** Sets the document of `id`, given as text or place; an update keeps its place in the order. */
  set(id, value) {
    this.#beforeChange();
    let slot = this.#slots.get(id);
    if (slot === undefined) {
      slot = this.#ids.length;
      this.#slots.set(id, slot);
      this.#ids.push(id);
      this.#values.push(value);
    } else {
      this.#values[slot] = value;
      this.#got.delete(id);
    }
    if (this.#fresh === null) return;
    // Looking at all of them costs no more then.
    if (this.#fresh.length > this.#slots.size) this.#fresh = null;
    else this.#fresh.push(slot);
  }

  delete(id) {
    const slot = this.#slots.get(id);
    if (slot === undefined) return;
    this.#beforeChange();
    this.#slots.delete(id);
    this.#got.delete(id);
    this.#ids[slot] = this.#values[slot] = undefined;
    const holes = this.#ids.length - this.#slots.size;
    if (holes > HOLES_LEAST && holes > this.#slots.size) this.#closeHoles();
  }

  all() {
    return this.entries().map(([, document]) => document);
  }

  /** `[id, document]` of all. */
  entries() {
    const entries = [];
    this.#visit((document, id) => { entries.push([id, document]); });
    return entries;
  }

  filter(predicate) {
    const picked = [];
    this.#visit((document, id) => { if (predicate(document, id)) picked.push(document); });
    return picked;
  }

  count(predicate) {
    let count = 0;
    this.#visit((document, id) => { if (predicate(document, id)) count += 1; });
    return count;
  }

  /** Adds documents that are not there yet, the first of them at `place` of the native half. */
  append(ids, place) {
    for (const id of ids) {
      this.#slots.set(id, this.#ids.length);
      this.#ids.push(id);
      this.#values.push(place);
      place += 1;
    }
  }

  /** Takes over a document that `other` has decoded. */
  keepDecoded(id, other) {
    const document = other.#values[other.#slots.get(id)];
    if (typeof document === "object") this.#values[this.#slots.get(id)] = document;
  }

  #find(id) {
    const slot = this.#slots.get(id);
    if (slot === undefined) return undefined;
    const value = this.#values[slot];
    const document = typeof value === "object" ? value : this.#decode(slot);
    if (!this.#mutable) this.#got.set(id, document);
    return document;
  }

  /** Calls the caller's code with each document as it is now. */
  #visit(visitor) {
    if (this.#mutable) for (const slot of this.#values.keys()) this.#text(this.#values, slot);
    else this.#decodeAll();
    const [ids, values, iterated] = [this.#ids, this.#values, this.#iterated];
    this.#iterated = values;
    try {
      for (let slot = 0; slot < values.length; slot += 1) {
        const value = values[slot];
        if (value === undefined) continue;
        visitor(this.#mutable ? JSON.parse(value) : value, ids[slot]);
      }
    } finally {
      this.#iterated = iterated;
    }
  }

  #beforeChange() {
    if (this.#iterated !== this.#values || this.#iterated === null) return;
    this.#ids = this.#ids.slice();
    this.#values = this.#values.slice();
  }

  #closeHoles() {
    this.#values = this.#values.filter((_, slot) => this.#ids[slot] !== undefined);
    this.#ids = this.#ids.filter((id) => id !== undefined);
    this.#slots = new Map(this.#ids.map((id, slot) => [id, slot]));
    this.#fresh = null;
  }

  #decode(slot) {
    const text = this.#text(this.#values, slot);
    if (this.#mutable) return JSON.parse(text);
    return (this.#values[slot] = freeze(JSON.parse(text)));
  }

  /** The text of a slot that has no object; the native half gives it once. */
  #text(values, slot) {
    if (typeof values[slot] === "number") values[slot] = this.#native.takeOne(values[slot]);
    return values[slot];
  }

  #decodeAll() {
    if (this.#fresh === null) this.#decodeMany(this.#values.keys());
    else if (this.#fresh.length > 0) this.#decodeMany(new Set(this.#fresh));
    this.#fresh = [];
  }

  #decodeMany(slots) {
    let cold = [];
    for (const slot of slots) {
      const value = this.#values[slot];
      if (typeof value === "string") this.#decode(slot);
      if (typeof value === "number" && cold.push(slot) === PIECE) {
        this.#decodePiece(cold);
        cold = [];
      }
    }
    this.#decodePiece(cold);
  }

  #decodePiece(slots) {
    const values = this.#values;
    const documents = JSON.parse(this.#native.take(Uint32Array.from(slots, (slot) => values[slot])));
    for (let index = 0; index < slots.length; index += 1) values[slots[index]] = freeze(documents[index]);
  }
}

module.exports = { Documents };
