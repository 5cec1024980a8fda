// Clocks and counters of this process, and what it reports: as in ../src/measure.rs.

import { readFileSync } from "node:fs";

/** Wall and CPU time since it was made. */
export class Stopwatch {
  #wall = process.hrtime.bigint();
  #cpu = process.cpuUsage();

  elapsed() {
    const wall = process.hrtime.bigint() - this.#wall;
    const cpu = process.cpuUsage(this.#cpu);
    return { seconds: Number(wall) / 1e9, cpuSeconds: (cpu.user + cpu.system) / 1e6 };
  }
}

/** What one round gave. */
export class Outcome {
  figures = {};
  checksum = null;
  peak_bytes = 0;

  rate(key, count, elapsed) {
    this.value(key, count / elapsed.seconds, elapsed.cpuSeconds);
  }

  time(key, count, elapsed) {
    this.value(key, elapsed.seconds / count, elapsed.cpuSeconds);
  }

  value(key, value, cpuSeconds = 0) {
    this.figures[key] = { value, cpu_seconds: cpuSeconds };
    this.peak_bytes = peakMemory();
  }
}

export const peakMemory = () => 1024 * numberAfter("/proc/self/status", "VmHWM:");
export const residentMemory = () => 1024 * numberAfter("/proc/self/status", "VmRSS:");
export const writtenBytes = () => numberAfter("/proc/self/io", "wchar:");

function numberAfter(path, key) {
  const line = readFileSync(path, "utf8").split("\n").find((line) => line.startsWith(key));
  return Number.parseInt(line.slice(key.length), 10);
}

/** The number of documents and a sum over a hash of each, whatever their order. */
export function checksum(store) {
  let count = 0;
  let sum = 0;
  for (const [id, document] of store.entries()) {
    count += 1;
    sum += fnv1a(fnv1a(0x811c9dc5, Buffer.from(id)), Buffer.from(JSON.stringify(document)));
  }
  return { count, sum };
}

function fnv1a(start, bytes) {
  let hash = start;
  for (let place = 0; place < bytes.length; place += 1) {
    hash = Math.imul(hash ^ bytes[place], 0x01000193);
  }
  return hash >>> 0;
}
