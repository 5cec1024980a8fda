// Talks to a process that reads one JSON command a line and answers one JSON line each, in order.
//
// Commands may be sent without waiting for earlier answers; that is what makes long runs quick.

import { spawn } from "node:child_process";

/** An error that the store answered with. `kind` is what callers should compare; the text may differ. */
export class StoreError extends Error {
  constructor({ kind, message }) {
    super(message);
    this.name = "StoreError";
    this.kind = kind;
  }
}

export class LineClient {
  #child;
  #waiting = [];
  #partialLine = "";
  #exited;

  /**
   * With `largestFileKibibytes` the process cannot write larger files: as good as a full disk. With
   * `traceSyncsTo` its syncs are written to that file.
   */
  constructor(program, programArguments, { largestFileKibibytes, traceSyncsTo } = {}) {
    let command = [program, ...programArguments];
    if (traceSyncsTo) command = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", traceSyncsTo, ...command];
    if (largestFileKibibytes) {
      command = ["bash", "-c", `trap "" XFSZ; ulimit -f ${largestFileKibibytes}; exec "$@"`, "limited", ...command];
    }
    this.#child = spawn(command[0], command.slice(1), { stdio: ["pipe", "pipe", process.env.COMPAT_VERBOSE ? "inherit" : "ignore"] });
    this.#child.stdout.setEncoding("utf8");
    this.#child.stdout.on("data", (text) => this.#receive(text));
    this.#child.stdin.on("error", () => {}); // The exit tells more than the broken pipe.
    this.#exited = new Promise((resolve) => {
      this.#child.once("error", (error) => this.#abandon(error, resolve));
      this.#child.once("close", (code, signal) => this.#abandon(new Error(`the process ended (${signal ?? code})`), resolve));
    });
  }

  get processId() {
    return this.#child.pid;
  }

  /** The answer to one command; rejects with a `StoreError` when the answer is an error. */
  send(command) {
    return this.sendLine(JSON.stringify(command));
  }

  /** As `send`, for a command that is JSON text already. */
  sendLine(line) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#child.stdin.write(`${line}\n`);
    });
  }

  /** The answers to many commands, errors included as values, without waiting in between. */
  sendAll(commands) {
    return Promise.all(commands.map((command) => this.send(command).catch((error) => {
      if (error instanceof StoreError) return { error: { kind: error.kind, message: error.message } };
      throw error;
    })));
  }

  /** Lets the process finish what it was told, and end. */
  async end() {
    this.#child.stdin.end();
    await this.#exited;
  }

  /** Ends the process as a crash of the machine's software would: nothing of it runs any more. */
  async kill() {
    this.#child.kill("SIGKILL");
    await this.#exited;
  }

  // Lines are cut at "\n" alone: node's readline also cuts at U+2028, which JSON text may hold.
  #receive(text) {
    const lines = (this.#partialLine + text).split("\n");
    this.#partialLine = lines.pop();
    for (const line of lines) {
      const { resolve, reject } = this.#waiting.shift();
      const answer = JSON.parse(line);
      if (answer.error) reject(new StoreError(answer.error));
      else resolve(answer.result);
    }
  }

  #abandon(error, resolve) {
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    resolve();
  }
}

/** One store in a process: the same methods whichever implementation the process runs. */
export class RemoteStore {
  constructor(client, name = "main") {
    this.client = client;
    this.name = name;
  }

  call(call, parameters = {}) {
    return this.client.send({ store: this.name, call, ...parameters });
  }

  open(dir, options = {}) { return this.call("open", { dir, options }); }
  set(id, document) { return this.call("set", { id, document }); }
  delete(id) { return this.call("delete", { id }); }
  get(id) { return this.call("get", { id }); }
  getText(id) { return this.call("getText", { id }); }
  has(id) { return this.call("has", { id }); }
  all() { return this.call("all"); }
  entries() { return this.call("entries"); }
  count() { return this.call("count"); }
  batch(operations) { return this.call("batch", { operations }); }
  undo() { return this.call("undo"); }
  history(id) { return this.call("history", { id }); }
  ops() { return this.call("ops"); }
  opsSinceOperation(index) { return this.call("opsSinceOperation", { index }); }
  compact() { return this.call("compact"); }
  archive(ids, segment) { return this.call("archive", { ids, segment }); }
  loadArchive(segment) { return this.call("loadArchive", { segment }); }
  archiveSegments() { return this.call("archiveSegments"); }
  stats() { return this.call("stats"); }
  manifest() { return this.call("manifest"); }
  streamSnapshot() { return this.call("streamSnapshot"); }
  logOps() { return this.call("logOps"); }
  flush() { return this.call("flush"); }
  refresh() { return this.call("refresh"); }
  tail() { return this.call("tail"); }
  openReport() { return this.call("openReport"); }
  close() { return this.call("close"); }
}
