"use strict";
// The documents as the event loop sees them: they change only on it, between two of its turns, whatever the store's thread does meanwhile.
//
// A document is decoded when it is first read, frozen, and kept. Until then its value is the JSON text, or the place (a number) at which the
// native half has the text. Values lie in slots in insertion order; an update keeps its slot, a delete leaves a hole.
//
// Documents that were loaded have their place for a slot, and the native half knows which id has which, until all ids are needed here, and `Places`
// knows it: so opening a store makes nothing here for each document but an empty slot. It has a text until it is told that the document is here.

const { freeze } = require("./document.cjs");
const { Places } = require("./places.cjs");

/** Documents whose text is taken from the native half at a time. */
const PIECE = 256;
/** Ids that are taken at a time. */
const IDS_PIECE = 4096;
/** Slots that are made at a time. */
const SLOTS_PIECE = 1 << 16;
/** Fewer holes are not worth closing. */
const HOLES_LEAST = 1024;
/** The slot of an id without document, as the native half says it. */
const NOWHERE = -1;
/** The id in a slot that was not asked for, or that has none. */
const UNNAMED = undefined;

class Documents {
  #native;
  /** How many slots are those of the native half's places. */
  #loaded = 0;
  /** Where ids are that it does not know, or knows elsewhere, and those that somebody has asked for. */
  #slots = new Map();
  #ids = [];
  #values = [];
  #size = 0;
  /** Holes behind the loaded slots. */
  #holes = 0;
  /** The places of the loaded ids, once `#ids` has those. */
  #places = null;
  /** Documents that `get` has given: one look-up then, and the document itself is not touched. */
  #got = new Map();
  /** Slots whose document may not be decoded yet; `null` when that may be any. */
  #fresh = null;
  /** Places of documents that were decoded; the native half will be told. */
  #decoded = [];
  /** The values that somebody iterates over; whoever changes them meanwhile changes a copy. */
  #iterated = null;
  #mutable;

  /** With `mutable` each read gives a new copy, which the caller may change. */
  constructor(native, mutable) {
    this.#native = native;
    this.#mutable = mutable;
  }

  get size() {
    return this.#size;
  }

  has(id) {
    return this.#slotOf(id) !== NOWHERE;
  }

  get(id) {
    const got = this.#got.get(id);
    return got === undefined ? this.#find(id) : got;
  }

  /** Sets the document of `id`, given as text or place; an update keeps its place in the order. */
  set(id, value) {
    this.#beforeChange();
    let slot = this.#slotOf(id);
    if (slot === NOWHERE) {
      slot = this.#ids.length;
      this.#slots.set(id, slot);
      this.#ids.push(id);
      this.#values.push(value);
      this.#size += 1;
    } else {
      this.#letGo(this.#values[slot], value);
      this.#values[slot] = value;
      this.#got.delete(id);
    }
    if (this.#fresh === null) return;
    // Looking at all of them costs no more then.
    if (this.#fresh.length > this.#size) this.#fresh = null;
    else this.#fresh.push(slot);
  }

  delete(id) {
    const slot = this.#slotOf(id);
    if (slot === NOWHERE) return;
    this.#letGo(this.#values[slot]);
    this.#vacate(id, slot);
  }

  /** The id of the nearest document before that of `id` that is not gone: empty for the first one, null where there is no document of `id`. */
  before(id, isGone) {
    let slot = this.#slotOf(id);
    if (slot === NOWHERE) return null;
    for (slot -= 1; slot >= 0; slot -= 1) {
      if (this.#values[slot] !== undefined && !isGone(this.#idIn(slot))) return this.#ids[slot];
    }
    return "";
  }

  /** Puts the documents of `ids` behind all others, in this order. */
  putLast(ids) {
    for (const id of ids) {
      const slot = this.#slotOf(id);
      if (slot === NOWHERE) continue;
      const value = this.#values[slot];
      this.#vacate(id, slot);
      this.set(id, value);
    }
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

  /** Adds `count` documents that were loaded, all of them before any other; `pause` is awaited between pieces. */
  async load(count, pause) {
    for (const end = this.#loaded + count; this.#loaded < end;) {
      this.#addLoaded(Math.min(SLOTS_PIECE, end - this.#loaded));
      await pause();
    }
  }

  /** As `load`, decoded. */
  async decode(count, pause) {
    while (this.#loaded < count) {
      const [ids, documents] = JSON.parse(this.#native.piece(this.#loaded, PIECE));
      for (let index = 0; index < ids.length; index += 1) {
        this.#ids.push(ids[index]);
        this.#values.push(freeze(documents[index]));
        this.#loaded += 1;
      }
      await pause();
    }
    this.#size += count;
    this.#endNaming();
    this.#native.forgetLoaded();
    this.#fresh = [];
  }

  #addLoaded(count) {
    for (const end = this.#loaded + count; this.#loaded < end; this.#loaded += 1) {
      this.#ids.push(UNNAMED);
      this.#values.push(this.#loaded);
    }
    this.#size += count;
  }

  #vacate(id, slot) {
    this.#beforeChange();
    if (this.#loadedSlotOf(id) === NOWHERE) this.#slots.delete(id);
    else this.#slots.set(id, NOWHERE);
    this.#got.delete(id);
    this.#ids[slot] = UNNAMED;
    this.#values[slot] = undefined;
    this.#size -= 1;
    if (slot < this.#loaded) return;
    this.#holes += 1;
    if (this.#holes > HOLES_LEAST && this.#holes * 2 > this.#ids.length - this.#loaded) this.#closeHoles();
  }

  /** A text that came after the load, and that nobody will ask for. */
  #letGo(value, next) {
    if (typeof value === "number" && value >= this.#loaded && value !== next) this.#native.letGoOf(Uint32Array.of(value));
  }

  #slotOf(id) {
    const known = this.#slots.get(id);
    if (known !== undefined) return known;
    const slot = this.#loadedSlotOf(id);
    // Who asks once may ask again, and is answered sooner from here.
    if (slot !== NOWHERE && this.#places === null) this.#slots.set(id, slot);
    return slot;
  }

  #loadedSlotOf(id) {
    if (this.#places !== null) return typeof id === "string" ? this.#places.find(id, this.#ids) : NOWHERE;
    return this.#mayBeLoaded(id) ? this.#native.find(id) : NOWHERE;
  }

  #mayBeLoaded(id) {
    return this.#loaded > 0 && typeof id === "string" && id.isWellFormed();
  }

  #idIn(slot) {
    if (this.#ids[slot] === UNNAMED) [this.#ids[slot]] = JSON.parse(this.#native.ids(slot, 1));
    return this.#ids[slot];
  }

  #find(id) {
    const known = this.#slots.get(id);
    const document = (known === undefined ? this.#readLoaded(id) : undefined) ?? this.#read(known ?? this.#loadedSlotOf(id));
    if (!this.#mutable && document !== undefined) this.#got.set(id, document);
    return document;
  }

  /** Finds and reads in one call a document that nobody has asked for. */
  #readLoaded(id) {
    if (this.#mutable || this.#fresh !== null || !this.#mayBeLoaded(id)) return undefined;
    const loaded = this.#native.loaded(id);
    if (loaded === null) return undefined;
    const [slot, document] = JSON.parse(loaded);
    this.#values[slot] = freeze(document);
    if (this.#decoded.push(slot) === PIECE) this.#native.letGoOf(Uint32Array.from(this.#decoded.splice(0)));
    return document;
  }

  #read(slot) {
    if (slot === NOWHERE) return undefined;
    const value = this.#values[slot];
    return typeof value === "object" ? value : this.#decode(slot);
  }

  /** Calls the caller's code with each document as it is now. */
  #visit(visitor) {
    this.#readAll();
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

  /** Closes the holes behind the loaded slots, which have to stay where they are. */
  #closeHoles() {
    const isKept = (_, slot) => slot < this.#loaded || this.#values[slot] !== undefined;
    const [ids, values] = [this.#ids.filter(isKept), this.#values.filter(isKept)];
    for (let slot = this.#loaded; slot < ids.length; slot += 1) this.#slots.set(ids[slot], slot);
    [this.#ids, this.#values, this.#holes, this.#fresh] = [ids, values, 0, null];
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

  /** Takes from the native half what it still has, and decodes what is to be kept decoded. */
  #readAll() {
    if (this.#places === null) this.#nameAll();
    if (this.#fresh === null) {
      this.#readMany(this.#values.keys());
      this.#native.forgetLoaded();
      this.#decoded = [];
    } else if (this.#fresh.length > 0) {
      this.#readMany(new Set(this.#fresh));
    }
    this.#fresh = [];
  }

  #nameAll() {
    for (let first = 0; first < this.#loaded; first += IDS_PIECE) {
      const ids = JSON.parse(this.#native.ids(first, IDS_PIECE));
      for (let index = 0; index < ids.length; index += 1) this.#ids[first + index] = ids[index];
    }
    this.#endNaming();
  }

  #endNaming() {
    this.#places = new Places(this.#native.places());
    // Not before: where the stack ends is for the caller to say.
    this.#native.forgetIds();
  }

  #readMany(slots) {
    let cold = [];
    for (const slot of slots) {
      const value = this.#values[slot];
      if (typeof value === "number" && !this.#mutable) {
        if (cold.push(slot) < PIECE) continue;
        this.#decodePiece(cold);
        cold = [];
      } else if (this.#mutable) this.#text(this.#values, slot);
      else if (typeof value === "string") this.#decode(slot);
    }
    this.#decodePiece(cold);
  }

  #decodePiece(slots) {
    const values = this.#values;
    for (let first = 0; first < slots.length;) {
      // Of long documents the native half gives fewer at a time.
      const places = Uint32Array.from(slots.slice(first), (slot) => values[slot]);
      const documents = JSON.parse(this.#native.texts(places));
      for (const document of documents) values[slots[first++]] = freeze(document);
      // Not before: where the stack ends is for the caller to say.
      this.#native.letGoOf(places.subarray(0, documents.length));
    }
  }
}

module.exports = { Documents };
