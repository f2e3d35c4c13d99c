// Events on their way to the collector: batched, repeated until answered, kept while offline.
//
// An event leaves the queue when the collector has answered for it (ok, or drop with the reason),
// when a beacon has taken it as the page goes, or when the queue is full; each loss is told to
// onDrop. What is sent twice has the same id and is counted once.

import { uuid7 } from "./identity.js";

const BEACON_BYTES = 60_000; // browsers take 64 KiB
const TIMEOUT_MS = 15_000;
const BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 60_000;
const ABANDONED_MS = 300_000;

export class Queue {
  constructor({ endpoint, key, store, onDrop, batchSize = 50, interval = 2_000, maxQueue = 1_000 }) {
    this.url = endpoint.replace(/\/$/, "") + "/v1/batch";
    Object.assign(this, { key, store, onDrop, batchSize, interval, maxQueue });
    this.name = "q." + uuid7();
    this.events = [];
    this.inFlight = [];
    this.failures = 0;
    this.sent = 0;
  }

  add(event) {
    this.events.push(event);
    if (this.events.length > this.maxQueue) {
      const oldest = this.events.find((one) => !this.inFlight.includes(one));
      this.refused([oldest], "queue_full");
    }
    if (this.events.length >= this.batchSize && !this.failures) this.flush();
    else this.wait(this.interval);
  }

  wait(ms) {
    this.timer ??= setTimeout(() => this.flush(), ms);
  }

  /** Send what is there; the answer arrives later. */
  async flush() {
    clearTimeout(this.timer);
    this.timer = null;
    if (this.inFlight.length || !this.events.length) return;
    if (navigator.onLine === false) {
      this.keep(); // `online` goes on
      return;
    }
    this.inFlight = this.events.slice(0, this.batchSize);
    let pause = 0;
    try {
      pause = await this.post(this.inFlight);
    } catch {
      pause = this.backoff(); // no network, no answer
    }
    this.inFlight = [];
    if (pause) this.keep();
    else this.store.remove(this.name);
    if (this.events.length) this.wait(pause || (this.events.length >= this.batchSize ? 0 : this.interval));
  }

  /** Returns how long to wait before the next attempt, 0 when all is well. */
  async post(events) {
    const aborted = new AbortController();
    const limit = setTimeout(() => aborted.abort(), TIMEOUT_MS);
    try {
      const answer = await fetch(this.url, {
        method: "POST",
        headers: { Authorization: "Bearer " + this.key, "Content-Type": "application/json" },
        body: body(events),
        signal: aborted.signal,
      });
      if (answer.ok) return this.settle(events, (await answer.json()).results || []);
      if (answer.status === 413 && events.length > 1) {
        this.batchSize = events.length >> 1;
        return 1;
      }
      if (answer.status < 500 && answer.status !== 408 && answer.status !== 429) {
        this.refused(events, "http_" + answer.status);
        return 0;
      }
      return Math.max(this.backoff(), after(answer.headers.get("Retry-After")));
    } finally {
      clearTimeout(limit);
    }
  }

  /** One answer an event, in their order. */
  settle(events, results) {
    const again = events.filter((_, i) => results[i]?.status === "retry");
    events.forEach((event, i) => {
      if (results[i]?.status === "drop") this.refused([event], results[i].reason);
    });
    const before = this.events.length;
    this.remove(events.filter((event) => !again.includes(event)));
    this.sent += before - this.events.length;
    if (again.length) return this.backoff();
    this.failures = 0;
    return 0;
  }

  refused(events, reason) {
    this.remove(events);
    events.forEach((event) => this.onDrop(event, reason));
  }

  remove(events) {
    const gone = new Set(events);
    this.events = this.events.filter((event) => !gone.has(event));
  }

  /** Longer with each failure, and never the same for all visitors. */
  backoff() {
    const most = Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** this.failures++);
    return most * (0.5 + Math.random() / 2);
  }

  online() {
    this.failures = 0;
    this.flush();
  }

  /** The page is out of sight, or (`last`) goes: beacons outlive it. */
  leave(last) {
    let rest = last ? this.events : this.events.filter((event) => !this.inFlight.includes(event));
    while (rest.length && navigator.onLine !== false) {
      let count = Math.min(rest.length, this.batchSize);
      while (count > 1 && new Blob([body(rest.slice(0, count))]).size > BEACON_BYTES) count >>= 1;
      const part = rest.slice(0, count);
      if (!navigator.sendBeacon?.(this.url + "?key=" + encodeURIComponent(this.key), body(part))) break;
      this.sent += part.length;
      this.remove(part);
      rest = rest.slice(count);
    }
    this.keep(last);
  }

  /** For the next page, should this one not come to send them. */
  keep(closed) {
    if (this.events.length) this.store.set(this.name, { at: Date.now(), closed, events: this.events });
    else this.store.remove(this.name);
  }

  /** What pages before this one could not send. */
  adopt() {
    for (const name of this.store.names("q.")) {
      const left = this.store.get(name);
      if (name !== this.name && (left?.closed || !(Date.now() - left?.at < ABANDONED_MS))) {
        this.store.remove(name);
        left?.events?.forEach((event) => this.add(event));
      }
    }
  }
}

function body(events) {
  return JSON.stringify({ batch: events, sent_at: new Date().toISOString() });
}

/** Retry-After in ms: seconds, or a date. */
function after(header) {
  if (!header) return 0;
  return isNaN(header) ? Math.max(0, Date.parse(header) - Date.now()) || 0 : header * 1000;
}
