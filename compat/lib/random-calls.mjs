// Random calls on a store. Few ids, so that calls meet each other; ids and documents that parsers stumble over.

const ids = ["a", "b", "c", "d", "e", "task-1", "task-2", "10", "9", "007", "__proto__", "constructor", "é😀", "\u2028",
  "new\nline", "\"quoted\"\\", " "];
const keys = ["title", "done", "count", "tags", "nested", "é", "", "10", "9", "$set", "$unset"];
const texts = ["", "x", "é😀", "line\nbreak", "\u2028", "\u0000", "\\\"", "日本語"];
const segments = ["2025-Q1", "2025-Q2", "old ones"];
const longText = "text that makes the document long enough for a reverse patch to be shorter than the whole of it";

const isAscii = (text) => /^[\0-\x7f]*$/.test(text);

/** Remembers what it last gave each id, so that an update can change little of it. */
export class RandomCalls {
  #random;
  #latest = new Map();
  #ids;
  #keys;
  #texts;

  constructor(random, { asciiOnly = false } = {}) {
    this.#random = random;
    [this.#ids, this.#keys, this.#texts] = [ids, keys, texts].map((pool) => (asciiOnly ? pool.filter(isAscii) : pool));
  }

  id() {
    return this.#random.pick(this.#ids);
  }

  document(id) {
    const random = this.#random;
    let document = this.#latest.get(id);
    if (document === undefined || random.chance(0.3)) document = this.#newDocument();
    else if (random.chance(0.9)) {
      document = { ...document };
      if (random.chance(0.3)) delete document[random.pick(Object.keys(document))];
      else document[random.pick(this.#keys)] = this.#value(0);
    }
    this.#latest.set(id, document);
    return document;
  }

  set() {
    const id = this.id();
    return { call: "set", id, document: this.document(id) };
  }

  delete() {
    return { call: "delete", id: this.id() };
  }

  batch() {
    const random = this.#random;
    const operations = Array.from({ length: random.below(7) }, () => {
      const id = this.id();
      return random.weighted([
        [6, () => ({ op: "set", id, document: this.document(id) })],
        [1, () => ({ op: "delete", id })],
        [3, () => ({ op: "tryDelete", id })],
        [1, () => ({ op: "get", id })],
        [1, () => ({ op: "has", id })],
        [1, () => ({ op: "count" })],
        [1, () => ({ op: "entries" })],
      ])();
    });
    if (random.chance(0.15)) operations.push({ op: "fail" });
    return { call: "batch", operations };
  }

  archive() {
    const random = this.#random;
    const chosen = this.#ids.filter(() => random.chance(0.2));
    return { call: "archive", ids: chosen, segment: random.pick(segments) };
  }

  loadArchive() {
    return { call: "loadArchive", segment: this.#random.pick([...segments, "missing"]) };
  }

  read() {
    const id = this.id();
    return this.#random.pick([{ call: "get", id }, { call: "has", id }, { call: "all" }, { call: "count" }, { call: "flush" }]);
  }

  observedId() {
    return this.id();
  }

  observedSegment() {
    return this.#random.pick(segments);
  }

  #value(depth) {
    const random = this.#random;
    return random.weighted([
      [3, () => random.below(1000)],
      [1, () => random.pick([0, -1, 1.5, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 123456789012345680])],
      [2, () => random.pick([...this.#texts, longText])],
      [1, () => random.pick([true, false, null])],
      [depth < 2 ? 1 : 0, () => Array.from({ length: random.below(4) }, () => this.#value(depth + 1))],
      [depth < 2 ? 1 : 0, () => this.#members(random.below(3), depth + 1)],
    ])();
  }

  #newDocument() {
    const document = this.#members(this.#random.below(6), 0);
    if (this.#random.chance(0.6)) document.body = longText;
    return document;
  }

  #members(count, depth) {
    return Object.fromEntries(Array.from({ length: count }, () => [this.#random.pick(this.#keys), this.#value(depth)]));
  }
}
