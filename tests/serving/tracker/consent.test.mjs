// Who is told of: consent, Do-Not-Track, sampling; and the ids of visitors and sessions.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createTracker } from "../../../serving/tracker/src/index.js";
import { events, openPage, tick, types } from "./fakes.mjs";

const OPTIONS = { endpoint: "https://c.example", key: "k" };
const stored = (world) => Object.keys(world.storage);

test("until consent is given nothing is sent and nothing stored; then all of it", async () => {
  const world = openPage();
  const tracker = createTracker({ ...OPTIONS, requireConsent: true });
  tracker.track("search", { query: "shoes" });
  await tick(10_000);
  assert.deepEqual([world.requests, stored(world)], [[], []]);
  assert.deepEqual([tracker.stats().consent, tracker.stats().queued], ["pending", 2]);

  tracker.consent({ analytics: true, marketing: false });
  await tick(2_000);
  assert.deepEqual(types(world), ["consent_change", "page_view", "search"]);
  for (const event of events(world)) {
    assert.deepEqual([event.consent_analytics, event.consent_marketing], [true, false]);
    assert.equal(event.anonymous_id, events(world)[0].anonymous_id);
  }
  assert.ok(stored(world).includes("sg.a"));
});

test("refused, what was held is gone, and the next page knows", async () => {
  const world = openPage();
  const tracker = createTracker({ ...OPTIONS, requireConsent: true });
  tracker.consent({ analytics: false });
  await tick(10_000);
  assert.deepEqual([world.requests, stored(world)], [[], ["sg.c"]]);

  const next = openPage({ storage: world.storage });
  assert.equal(createTracker(OPTIONS).track("search"), undefined);
  await tick(10_000);
  assert.deepEqual([next.requests, stored(next)], [[], ["sg.c"]]);
});

test("withdrawn, that alone is still sent, and the visitor's ids are forgotten", async () => {
  const world = openPage();
  const tracker = createTracker(OPTIONS);
  await tick(2_000);
  const visitor = events(world)[0].anonymous_id;
  tracker.consent({ analytics: false });
  assert.equal(tracker.track("search"), undefined);
  await tick(2_000);
  assert.deepEqual(types(world), ["page_view", "consent_change"]);
  const change = events(world)[1];
  assert.deepEqual([change.consent_analytics, change.anonymous_id], [false, visitor]);
  assert.deepEqual(stored(world), ["sg.c"]);
});

test("held events have a limit too, and what falls out is told", async () => {
  const world = openPage();
  const onDrop = (event, reason) => world.dropped.push(reason);
  const tracker = createTracker({ ...OPTIONS, requireConsent: true, onDrop });
  for (let i = 0; i < 101; i++) tracker.track("search");
  assert.deepEqual(world.dropped, ["held_full", "held_full"]);
  assert.equal(tracker.stats().dropped, 2);
});

for (const signal of [{ doNotTrack: "1" }, { globalPrivacyControl: true }]) {
  test(`${Object.keys(signal)} is honoured, unless the visitor or the site says else`, async () => {
    const world = openPage({ navigator: signal });
    const tracker = createTracker(OPTIONS);
    await tick(10_000);
    assert.deepEqual([world.requests, stored(world)], [[], []]);
    tracker.consent({ analytics: true });
    await tick(2_000);
    assert.deepEqual(types(world), ["consent_change"]);

    const other = openPage({ navigator: signal });
    createTracker({ ...OPTIONS, doNotTrack: false });
    await tick(2_000);
    assert.deepEqual(types(other), ["page_view"]);
  });
}

test("a sample is of visitors, always the same ones", async () => {
  let taken = 0;
  for (let i = 0; i < 400; i++) {
    const world = openPage();
    const tracker = createTracker({ ...OPTIONS, sample: 0.25 });
    const first = tracker.track("search") !== undefined;
    assert.equal(tracker.track("search") !== undefined, first);
    taken += first;
    openPage({ storage: world.storage });
    assert.equal(createTracker({ ...OPTIONS, sample: 0.25 }).track("search") !== undefined, first);
  }
  assert.ok(taken > 60 && taken < 140, `${taken} of 400`);
});

test("a session ends after half an hour without an event; a visitor stays", async () => {
  const world = openPage();
  const tracker = createTracker({ ...OPTIONS, auto: false });
  for (const pause of [0, 29 * 60_000, 29 * 60_000, 31 * 60_000]) {
    await tick(pause);
    tracker.track("search");
    await tick(2_000);
  }
  const sessions = events(world).map((event) => event.session_id);
  assert.equal(new Set(sessions.slice(0, 3)).size, 1);
  assert.notEqual(sessions[3], sessions[2]);
  assert.equal(new Set(events(world).map((event) => event.anonymous_id)).size, 1);
});

test("known once, a user is known on the next page; reset forgets", async () => {
  const world = openPage();
  createTracker({ ...OPTIONS, auto: false }).identify("ann");
  await tick(2_000);
  const next = openPage({ storage: world.storage });
  const tracker = createTracker(OPTIONS);
  await tick(2_000);
  tracker.reset();
  tracker.track("search");
  await tick(2_000);
  const [identified] = events(world);
  const [view, search] = events(next);
  assert.deepEqual([identified.event_type, identified.user_id], ["identify", "ann"]);
  assert.deepEqual([view.user_id, view.anonymous_id], ["ann", identified.anonymous_id]);
  assert.equal(search.user_id, undefined);
  assert.notEqual(search.anonymous_id, view.anonymous_id);
});

test("a variant is told as seen once a page, and follows the user", async () => {
  const world = openPage();
  const tracker = createTracker({ ...OPTIONS, auto: false });
  tracker.identify("user-0000001");
  const weights = { control: 0.5, treatment: 0.5 };
  for (let i = 0; i < 3; i++) {
    assert.equal(tracker.variant("feed-ranking", weights, { allocation: 0.2 }), "control");
  }
  tracker.identify("user-0000000"); // outside the allocation, by the golden vectors
  assert.equal(tracker.variant("feed-ranking", weights, { allocation: 0.2 }), null);
  await tick(2_000);
  const exposures = events(world).filter((event) => event.event_type === "experiment_exposure");
  assert.deepEqual(
    exposures.map((event) => [event.experiment_id, event.variant, event.user_id]),
    [["feed-ranking", "control", "user-0000001"]],
  );
});

test("who is outside the segments gets no variant, and who was exposed stays in", async () => {
  const storage = openPage().storage;
  const weights = { control: 0.5, treatment: 0.5 };
  const ask = (tracker, userSegments, more) =>
    tracker.variant("feed-ranking", weights, { allocation: 0.2, segments: ["power"], userSegments, ...more });
  const first = createTracker({ ...OPTIONS, auto: false });
  first.identify("user-0000001");
  assert.deepEqual([ask(first), ask(first, ["new"])], [null, null]);
  assert.equal(ask(first, ["power"], { expose: false }), "control");
  assert.equal(ask(first, []), null); // nothing was shown yet
  assert.equal(ask(first, ["power"]), "control");
  await tick(2_000);
  const later = openPage({ storage }); // another page, and the user has left the segment
  const second = createTracker({ ...OPTIONS, auto: false });
  assert.equal(ask(second, []), "control");
  second.identify("somebody-else");
  assert.equal(ask(second, []), null);
  second.identify("user-0000001");
  second.reset();
  second.identify("user-0000001");
  assert.equal(ask(second, []), null);
  await tick(2_000);
  const told = events(later).filter((event) => event.event_type === "experiment_exposure");
  assert.deepEqual(told.map((event) => event.variant), ["control"]);
});

test("where pages are rendered on a server it does nothing", async () => {
  openPage();
  delete globalThis.window;
  const tracker = createTracker(OPTIONS);
  tracker.track("search");
  tracker.consent({ analytics: true });
  await tracker.flush();
  assert.deepEqual([tracker.variant("e", { a: 1 }), tracker.stats().sent], [null, 0]);
});
