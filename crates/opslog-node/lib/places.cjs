"use strict";
// Which place an id has, as `src/places.rs` has filled the table; the hash is the same there. The ids are in an array by place.

class Places {
  #table;
  #mask;
  #seed;
  #factor;

  constructor({ table, seed, factor }) {
    this.#table = table;
    this.#mask = table.length - 1;
    this.#seed = seed;
    this.#factor = factor;
  }

  /** The place whose id in `ids` is this one; -1 where there is none. */
  find(id, ids) {
    let hash = this.#seed;
    for (let index = 0; index < id.length; index += 1) {
      hash = Math.imul(hash ^ id.charCodeAt(index), this.#factor);
      hash ^= hash >>> 15;
    }
    for (let at = hash & this.#mask; ; at = (at + 1) & this.#mask) {
      const place = this.#table[at] - 1;
      if (place === -1 || ids[place] === id) return place;
    }
  }
}

module.exports = { Places };
