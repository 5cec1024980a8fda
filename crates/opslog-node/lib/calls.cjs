"use strict";
// Calls on their way to the store's thread and back. The thread does them in order and tells each end in order.
//
// An *exclusive* call runs a function of the event loop between others: it begins when all earlier calls have ended, and later ones wait for it.

/** First in, first out, at constant cost. */
class Queue {
  #items = [];
  #head = 0;

  get length() {
    return this.#items.length - this.#head;
  }

  get first() {
    return this.#items[this.#head];
  }

  push(item) {
    this.#items.push(item);
  }

  shift() {
    const item = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    } else if (this.#head >= 4096 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }
}

class Calls {
  #owner;
  /** Handed to the thread, oldest first: `(failure, value) => void`, told how it ended. */
  #underWay = new Queue();
  /** Not begun yet, oldest first. */
  #waiting = new Queue();
  #exclusive = false;

  /** `owner` is kept while a call is under way. */
  constructor(owner) {
    this.#owner = owner;
  }

  /** Whether an ordinary call can begin at once. */
  get isFree() {
    return !this.#exclusive && this.#waiting.length === 0;
  }

  /** Notes a call that was just handed to the thread. */
  sent(told) {
    if (this.#underWay.length === 0) begin(this.#owner);
    this.#underWay.push(told);
  }

  /** Begins `start` in its turn: now, or after the exclusive calls before it. */
  begin(start) {
    if (this.isFree) start();
    else this.#waiting.push({ start, exclusive: false });
  }

  /** Runs `run` in its turn and alone. */
  alone(run) {
    return new Promise((resolve, reject) => {
      const start = async () => {
        this.#exclusive = true;
        try {
          resolve(await run());
        } catch (error) {
          reject(error);
        } finally {
          this.#exclusive = false;
          this.#next();
        }
      };
      this.#waiting.push({ start, exclusive: true });
      queueMicrotask(() => this.#next());
    });
  }

  /** `count` calls have ended; `failures` has those that failed, by their number. */
  told(count, failures, value) {
    for (let index = 0; index < count; index += 1) this.#underWay.shift()(failures?.get(index), value);
    if (this.#underWay.length === 0) end(this.#owner);
    this.#next();
  }

  #next() {
    while (!this.#exclusive && this.#waiting.length > 0) {
      if (this.#waiting.first.exclusive && this.#underWay.length > 0) return;
      this.#waiting.shift().start();
    }
  }
}

// A process does not end while a call is under way, and neither does the store; an open store alone keeps neither.
const busy = new Set();
const timer = setInterval(() => {}, 2 ** 30);
timer.unref();

function begin(owner) {
  if (busy.add(owner).size === 1) timer.ref();
}

function end(owner) {
  busy.delete(owner);
  if (busy.size === 0) timer.unref();
}

module.exports = { Calls };
