// The uploads of this page: a queue over tus-js-client. Knows nothing of how they look.

import { Upload, defaultOptions } from "tus-js-client";

import * as finished from "./finished.js";
import * as words from "./words.js";

const AT_ONCE = 3;
const RETRY_DELAYS = [0, 1000, 2000, 4000, 8000, 15000, 20000, 30000, 30000, 30000, 30000, 30000];
const SPEED_WINDOW_MS = 4000;

export const store = defaultOptions.urlStorage;

export const State = Object.freeze({
  WAITING: "waiting",
  RUNNING: "running",
  RETRYING: "retrying",
  PAUSED: "paused",
  FAILED: "failed",
  DONE: "done",
  REMOVED: "removed",
});

export class Transfers extends EventTarget {
  constructor({ endpoint, maxSize }) {
    super();
    this.endpoint = endpoint;
    this.maxSize = maxSize;
    this.items = [];
    window.addEventListener("online", () => this.#goOnAfterInterruption());
  }

  /** Adds a file; `earlier` is what the URL storage knows about its unfinished upload. */
  async add(file, earlier = null) {
    const transfer = new Transfer(this, file);
    this.items.push(transfer);
    if (this.maxSize !== null && file.size > this.maxSize) {
      transfer.fail(words.tooLarge(this.maxSize), { final: true });
      return transfer;
    }
    await transfer.prepare(earlier);
    this.changed(transfer);
    this.next();
    return transfer;
  }

  next() {
    const busy = this.items.filter((item) => item.isBusy).length;
    const waiting = this.items.filter((item) => item.state === State.WAITING && item.upload);
    for (const item of waiting.slice(0, Math.max(0, AT_ONCE - busy))) item.run();
  }

  remove(transfer) {
    if (transfer.url) finished.drop(transfer.url);
    this.items = this.items.filter((item) => item !== transfer);
    this.changed(transfer);
    this.next();
  }

  changed(transfer) {
    this.dispatchEvent(new CustomEvent("change", { detail: transfer }));
  }

  #goOnAfterInterruption() {
    for (const item of this.items) if (item.interrupted) item.resume();
  }
}

export class Transfer {
  constructor(owner, file) {
    this.owner = owner;
    this.file = file;
    this.state = State.WAITING;
    this.sent = 0;
    this.message = "";
    this.final = false;
    this.interrupted = false;
    this.resumed = false;
    this.samples = [];
    this.upload = null;
  }

  get isBusy() {
    return this.state === State.RUNNING || this.state === State.RETRYING;
  }

  get url() {
    return this.upload?.url ?? null;
  }

  /** Bytes a second over the last moments; 0 while nothing moves. */
  get speed() {
    if (this.state !== State.RUNNING || this.samples.length < 2) return 0;
    const [first, last] = [this.samples[0], this.samples[this.samples.length - 1]];
    const now = performance.now();
    return ((last.sent - first.sent) / Math.max(1, now - first.at)) * 1000;
  }

  get secondsLeft() {
    return this.speed ? (this.file.size - this.sent) / this.speed : Infinity;
  }

  async prepare(earlier) {
    this.upload = new Upload(this.file, {
      endpoint: this.owner.endpoint,
      retryDelays: RETRY_DELAYS,
      removeFingerprintOnSuccess: true,
      metadata: {
        filename: this.file.name,
        filetype: this.file.type || "application/octet-stream",
      },
      onProgress: (sent) => this.#progress(sent),
      onSuccess: () => this.#succeed(),
      onError: (error) => this.#error(error),
      onShouldRetry: (error) => this.#shouldRetry(error),
    });
    const known = earlier ? [earlier] : await this.upload.findPreviousUploads();
    const latest = known.sort((a, b) => new Date(b.creationTime) - new Date(a.creationTime))[0];
    if (latest && !this.owner.items.some((item) => item !== this && item.follows(latest))) {
      this.previous = latest;
      this.resumed = true;
      this.upload.resumeFromPreviousUpload(latest);
    }
  }

  /** Whether this is the upload that an entry of the URL storage describes. */
  follows(entry) {
    const same = this.previous?.urlStorageKey === entry.urlStorageKey;
    return same || Boolean(this.url && this.url === entry.uploadUrl);
  }

  run() {
    this.samples = [];
    this.#enter(State.RUNNING);
    this.upload.start();
  }

  pause() {
    if (this.isBusy) this.upload.abort();
    this.#enter(State.PAUSED);
    this.owner.next();
  }

  resume() {
    this.#enter(State.WAITING);
    this.owner.next();
  }

  /** Ends the upload and deletes what the server has of it. */
  async discard() {
    const { upload } = this;
    this.#enter(State.REMOVED);
    this.owner.remove(this);
    try {
      await upload?.abort(Boolean(upload.url));
    } catch {
      // The server expires it by itself.
    }
  }

  fail(message, { final = false, interrupted = false } = {}) {
    this.final = final;
    this.#enter(State.FAILED, message);
    this.interrupted = interrupted;
    this.owner.next();
  }

  #enter(state, message = "") {
    this.state = state;
    this.message = message;
    this.interrupted = false;
    this.owner.changed(this);
  }

  #progress(sent) {
    if (this.state === State.RETRYING) this.#enter(State.RUNNING);
    if (this.state !== State.RUNNING) return;
    const at = performance.now();
    // The first value after a start is what the server had already: no speed in that.
    this.samples.push({ at, sent });
    this.samples = this.samples.filter((sample) => at - sample.at < SPEED_WINDOW_MS);
    this.sent = sent;
    this.owner.changed(this);
  }

  #shouldRetry(error) {
    if (!words.isInterruption(error)) return false;
    this.samples = [];
    this.#enter(State.RETRYING, `${words.describe(error)} Trying again …`);
    this.#checkFile();
    return true;
  }

  /** A file that was changed on disk looks like a broken connection to the browser's network. */
  async #checkFile() {
    try {
      await this.file.slice(0, 1).arrayBuffer();
    } catch {
      this.upload.abort();
      this.fail(words.FILE_CHANGED, { final: true });
    }
  }

  #succeed() {
    this.sent = this.file.size;
    const { name, size } = this.file;
    finished.keep({ url: this.url, name, size, at: new Date().toISOString() });
    this.#enter(State.DONE);
    this.owner.next();
  }

  #error(error) {
    if (this.state === State.REMOVED || this.state === State.PAUSED) return;
    const status = words.statusOf(error);
    this.fail(words.describe(error), {
      final: status === 413,
      interrupted: words.isInterruption(error),
    });
  }
}
