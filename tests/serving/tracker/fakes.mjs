// A page without a browser: what the tracker asks of one, and what it does to it.

import { mock } from "node:test";

const matches = (element, selector) =>
  selector.split(",").some((one) => {
    const [, tag, attribute, , value] = /^([a-z]*)(?:\[([\w-]+)(=([^\]]+))?\])?$/.exec(one.trim());
    if (tag && element.tagName.toLowerCase() !== tag) return false;
    if (!attribute) return true;
    const has = element.getAttribute(attribute);
    return has !== null && (value === undefined || has === value);
  });

export class FakeElement {
  constructor(tag, attributes = {}, parent = null) {
    this.tagName = tag.toUpperCase();
    this.attributes = attributes;
    this.parentElement = parent;
  }
  getAttribute(name) {
    return this.attributes[name] ?? null;
  }
  matches(selector) {
    return matches(this, selector);
  }
  closest(selector) {
    return matches(this, selector) ? this : (this.parentElement?.closest(selector) ?? null);
  }
}

class FakeStorage {
  setItem(name, value) {
    if (name.length + value.length > FakeStorage.room) throw new Error("QuotaExceededError");
    this[name] = String(value);
  }
  getItem(name) {
    return Object.hasOwn(this, name) ? this[name] : null;
  }
  removeItem(name) {
    delete this[name];
  }
}

class FakeObserver {
  static all = [];
  constructor(callback) {
    this.callback = callback;
    this.records = [];
  }
  observe({ type }) {
    this.type = type;
    FakeObserver.all.push(this);
  }
  takeRecords() {
    return this.records.splice(0);
  }
  disconnect() {}
}

export const OK = () => ({ status: 200 });

/** Installs a page's globals; `answer(batch)` is the collector. Time stands still but for tick(). */
export function openPage({ href = "https://shop.example/", storage = new FakeStorage(), ...given } = {}) {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_767_268_800_000 });
  FakeStorage.room = 5_000_000;
  FakeObserver.all = [];
  const window = new EventTarget();
  const document = new EventTarget();
  Object.assign(document, { visibilityState: "visible", title: "Shop", referrer: "", ...given.document });
  const world = {
    storage,
    requests: [],
    beacons: [],
    dropped: [],
    answer: OK,
    beaconTaken: true,
    window,
    document,
    navigator: { onLine: true, ...given.navigator },
  };
  world.navigator.sendBeacon = (url, body) => {
    if (world.beaconTaken) world.beacons.push({ url, ...JSON.parse(body) });
    return world.beaconTaken;
  };
  const set = (name, value) =>
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  const location = new URL(href);
  set("window", window);
  set("document", document);
  set("navigator", world.navigator);
  set("location", location);
  window.localStorage = storage;
  window.screen = { width: 1280, height: 800 };
  set("screen", window.screen);
  set("addEventListener", window.addEventListener.bind(window));
  set("removeEventListener", window.removeEventListener.bind(window));
  set("PerformanceObserver", FakeObserver);
  const go = (_, __, to) => void (to && (location.href = new URL(to, location.href).href));
  set("history", { pushState: go, replaceState: go });
  set("fetch", async (url, { headers, body, signal }) => {
    const sent = JSON.parse(body);
    world.requests.push({ url, headers, ...sent });
    const said = await world.answer(sent.batch, signal);
    if (said instanceof Error) throw said;
    const results = said.results ?? sent.batch.map((event) => ({ id: event.event_id, status: "ok" }));
    return {
      ok: said.status === 200,
      status: said.status,
      headers: { get: (name) => said.headers?.[name] ?? null },
      json: async () => ({ results }),
    };
  });
  return world;
}

/** Time passes, and what waits for it happens. */
export async function tick(ms = 0) {
  mock.timers.tick(ms);
  for (let i = 0; i < 5; i++) await new Promise((done) => setImmediate(done));
}

export function fire(target, type, fields = {}) {
  const event = new Event(type);
  for (const [name, value] of Object.entries(fields)) Object.defineProperty(event, name, { value });
  target.dispatchEvent(event);
}

/** An entry as a browser measures it. */
export function measured(type, entry) {
  for (const observer of FakeObserver.all.filter((one) => one.type === type)) {
    observer.callback({ getEntries: () => [entry] });
  }
}

export const hide = (world) => {
  world.document.visibilityState = "hidden";
  fire(world.document, "visibilitychange");
};

export const show = (world) => {
  world.document.visibilityState = "visible";
  fire(world.document, "visibilitychange");
};

/** All events that the collector has been sent, in order. */
export const events = (world) => [...world.requests, ...world.beacons].flatMap((one) => one.batch);
export const types = (world) => events(world).map((event) => event.name ?? event.event_type);
