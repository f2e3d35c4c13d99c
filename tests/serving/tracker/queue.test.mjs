// Nothing leaves the queue but by an answer, a beacon, or a drop that is told.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Queue } from "../../../serving/tracker/src/queue.js";
import { createStore } from "../../../serving/tracker/src/store.js";
import { OK, openPage, tick } from "./fakes.mjs";

const BUSY = (seconds) => () => ({ status: 429, headers: { "Retry-After": seconds } });

function opened(world, options) {
  const onDrop = (event, reason) => world.dropped.push([event.event_id, reason]);
  const given = { endpoint: "https://c.example/", key: "k 1", store: createStore(), onDrop, ...options };
  const queue = new Queue(given);
  queue.ids = () => queue.events.map((event) => event.event_id);
  queue.put = (...ids) => ids.forEach((id) => queue.add({ event_id: id, event_type: "search" }));
  return queue;
}
const sent = (world) => world.requests.map(({ batch }) => batch.map((event) => event.event_id).join(""));
const stored = (world) => Object.keys(world.storage).filter((name) => name.startsWith("sg.q."));

test("events go together after a pause, or at once when there are many", async () => {
  const world = openPage();
  const queue = opened(world, { batchSize: 3 });
  queue.put("a", "b");
  await tick(1_999);
  assert.deepEqual(sent(world), []);
  await tick(1);
  assert.deepEqual(sent(world), ["ab"]);
  queue.put("c", "d", "e", "f");
  await tick();
  assert.deepEqual(sent(world), ["ab", "cde"]);
  await tick(2_000);
  assert.deepEqual(sent(world), ["ab", "cde", "f"]);
  const [{ url, headers, sent_at }] = world.requests;
  assert.equal(url, "https://c.example/v1/batch");
  assert.equal(headers.Authorization, "Bearer k 1");
  assert.equal(sent_at, "2026-01-01T12:00:02.000Z");
  assert.deepEqual(stored(world), []);
});

test("each event has its own answer: ok goes, retry comes again, drop is told", async () => {
  const world = openPage();
  const queue = opened(world);
  world.answer = () => ({
    status: 200,
    results: [{ status: "ok" }, { status: "retry" }, { status: "drop", reason: "unknown_type" }],
  });
  queue.put("a", "b", "c");
  await tick(2_000);
  assert.deepEqual(world.dropped, [["c", "unknown_type"]]);
  assert.deepEqual([queue.ids(), queue.sent], [["b"], 1]);
  world.answer = OK;
  await tick(1_000);
  assert.deepEqual(sent(world), ["abc", "b"]);
  assert.deepEqual([queue.ids(), queue.sent], [[], 2]);
});

test("failures are repeated, later each time, and what waits is kept on the device", async () => {
  const world = openPage();
  const queue = opened(world);
  world.answer = () => new TypeError("Failed to fetch");
  queue.put("a");
  await tick(2_000);
  assert.equal(stored(world).length, 1);
  for (const [from, to] of [[499, 1_000], [999, 2_000], [1_999, 4_000]]) {
    const before = world.requests.length;
    await tick(from);
    assert.equal(world.requests.length, before);
    await tick(to - from);
    assert.equal(world.requests.length, before + 1);
  }
  queue.put("b");
  world.answer = () => ({ status: 503 });
  await tick(60_000);
  world.answer = OK;
  await tick(60_000);
  assert.deepEqual(queue.ids(), []);
  assert.deepEqual([stored(world), world.dropped], [[], []]);
});

test("Retry-After is honoured, as seconds and as a date", async () => {
  const world = openPage();
  const queue = opened(world);
  world.answer = BUSY("30");
  queue.put("a");
  await tick(2_000);
  world.answer = BUSY(new Date(Date.now() + 30_000 + 50_000).toUTCString());
  await tick(29_999);
  assert.equal(world.requests.length, 1);
  await tick(1);
  assert.equal(world.requests.length, 2);
  world.answer = OK;
  await tick(49_999);
  assert.equal(world.requests.length, 2);
  await tick(1);
  assert.deepEqual([sent(world), queue.ids()], [["a", "a", "a"], []]);
});

test("an answer that never comes is given up and asked for again", async () => {
  const world = openPage();
  const queue = opened(world);
  world.answer = (_, signal) =>
    new Promise((_, failed) => signal.addEventListener("abort", () => failed(new Error("aborted"))));
  queue.put("a");
  await tick(2_000);
  world.answer = OK;
  await tick(15_000);
  await tick(1_000);
  assert.deepEqual([sent(world), queue.ids()], [["a", "a"], []]);
});

test("what is too large is halved until it fits, and one that never fits is told", async () => {
  const world = openPage();
  const queue = opened(world);
  world.answer = (batch) => ({ status: batch.length > 1 || batch[0].event_id === "c" ? 413 : 200 });
  queue.put("a", "b", "c", "d");
  for (let i = 0; i < 9; i++) await tick(2_000);
  assert.deepEqual(queue.ids(), []);
  assert.deepEqual(world.dropped, [["c", "http_413"]]);
});

test("a key that is refused is told for each event", async () => {
  const world = openPage();
  const queue = opened(world);
  world.answer = () => ({ status: 401 });
  queue.put("a", "b");
  await tick(2_000);
  assert.deepEqual(world.dropped, [["a", "http_401"], ["b", "http_401"]]);
});

test("offline nothing is tried; the oldest give way and are told; online again all go", async () => {
  const world = openPage();
  const queue = opened(world, { maxQueue: 3 });
  world.navigator.onLine = false;
  queue.put("a", "b", "c", "d");
  await tick(2_000);
  assert.deepEqual([sent(world), world.dropped], [[], [["a", "queue_full"]]]);
  assert.equal(stored(world).length, 1);
  world.navigator.onLine = true;
  queue.online();
  await tick();
  assert.deepEqual([sent(world), stored(world)], [["bcd"], []]);
});

test("what a page could not send is sent by the next one", async () => {
  const first = openPage();
  const queue = opened(first);
  first.navigator.onLine = false;
  queue.put("a", "b");
  queue.leave(true);
  assert.deepEqual(first.beacons, []);

  const second = openPage({ storage: first.storage });
  const next = opened(second);
  next.adopt();
  await tick(2_000);
  assert.deepEqual([sent(second), stored(second)], [["ab"], []]);
});

test("another tab's queue is left alone while that tab lives", async () => {
  const world = openPage();
  const other = opened(world);
  world.navigator.onLine = false;
  other.put("a");
  await tick(2_000);
  const mine = opened(world);
  mine.adopt();
  assert.deepEqual(mine.ids(), []);
  await tick(300_000 - 2_000 + 2_001);
  mine.adopt();
  assert.deepEqual(mine.ids(), ["a"]);
});

test("leaving, beacons take all in parts that browsers carry, also what is on its way", async () => {
  const world = openPage();
  const queue = opened(world);
  world.answer = () => new Promise(() => {});
  queue.put("a");
  await tick(2_000);
  queue.put("b", "c");
  queue.events.forEach((event) => (event.text = "€".repeat(15_000)));
  queue.leave(false);
  assert.deepEqual(queue.ids(), ["a"]); // hidden only: it is being sent
  queue.leave(true);
  assert.deepEqual(queue.ids(), []);
  assert.deepEqual(world.beacons.map(({ batch }) => batch.map((e) => e.event_id).join("")), ["b", "c", "a"]);
  assert.equal(world.beacons[0].url, "https://c.example/v1/batch?key=k%201");
});

test("what no beacon takes is kept for the next page", async () => {
  const world = openPage();
  const queue = opened(world);
  world.beaconTaken = false;
  queue.put("a");
  queue.leave(true);
  assert.deepEqual(queue.ids(), ["a"]);
  assert.equal(stored(world).length, 1);
});

test("a full or forbidden storage costs what outlives the page, no event on it", async () => {
  const world = openPage();
  const queue = opened(world);
  Object.defineProperty(world.storage, "setItem", { value: () => { throw new Error("full"); } });
  world.answer = () => ({ status: 503 });
  queue.put("a");
  await tick(2_000);
  world.answer = OK;
  await tick(1_000);
  assert.deepEqual([sent(world), queue.ids()], [["a", "a"], []]);
});
