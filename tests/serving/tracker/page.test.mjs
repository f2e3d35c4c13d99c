// What is told of a page: views, routes, clicks, forms, time; and what never is.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createTracker } from "../../../serving/tracker/src/tracker.js";
import { events, FakeElement, fire, hide, measured, openPage, show, tick, types } from "./fakes.mjs";

const OPTIONS = { endpoint: "https://c.example", key: "k" };

async function sentBy(world, options, act = () => {}) {
  const tracker = createTracker({ ...OPTIONS, ...options });
  await act(tracker);
  await tick(2_000);
  return tracker;
}

test("a view says where, whence and what, and no query but utm_*", async () => {
  const world = openPage({
    href: "https://shop.example/a?email=ann@example.org&utm_source=mail&q=shoes#top",
    document: { title: "Shoes", referrer: "https://search.example/?q=secret" },
    navigator: { connection: { effectiveType: "3g" } },
  });
  await sentBy(world, { query: ["q"], appVersion: "7" });
  const [view] = events(world);
  assert.equal(view.event_type, "page_view");
  assert.equal(view.page_url, "https://shop.example/a?utm_source=mail&q=shoes");
  assert.equal(view.referrer, "https://search.example/");
  assert.deepEqual([view.title, view.screen_size, view.connection_speed], ["Shoes", "1280x800", "medium"]);
  assert.equal(view.app_version, "7");
  assert.match(view.event_id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(parseInt(view.event_id.replace("-", "").slice(0, 12), 16), view.timestamp);
});

test("each route of a single page is a view, once, with the one before as its referrer", async () => {
  const world = openPage();
  await sentBy(world, {}, async () => {
    await tick(5_000);
    history.pushState({}, "", "/cart");
    world.document.title = "Cart";
    await tick();
    history.replaceState({}, "", "/cart?step=2"); // the same page, but for what we do not look at
    await tick();
    location.href = "https://shop.example/";
    fire(world.window, "popstate");
    await tick();
  });
  const views = events(world).filter((event) => event.event_type === "page_view");
  assert.deepEqual(views.map((event) => new URL(event.page_url).pathname), ["/", "/cart", "/"]);
  assert.deepEqual(views.map((event) => event.title), ["Shop", "Cart", "Cart"]);
  assert.equal(views[1].referrer, "https://shop.example/");
  const [time] = events(world).filter((event) => event.name === "page_time");
  assert.deepEqual([time.page_url, time.properties.visible_ms], ["https://shop.example/", 5_000]);
});

test("routes behind # count where they are asked for", async () => {
  for (const [hash, views] of [[true, 2], [false, 1]]) {
    const world = openPage();
    await sentBy(world, { hash }, async () => {
      location.href = "https://shop.example/#/cart";
      fire(world.window, "hashchange");
      await tick();
    });
    assert.equal(types(world).filter((type) => type === "page_view").length, views);
  }
});

test("time in sight adds up over hiding and showing", async () => {
  const world = openPage();
  await sentBy(world, {}, async () => {
    await tick(3_000);
    hide(world);
    await tick(60_000);
    show(world);
    await tick(4_000);
    hide(world);
    fire(world.window, "pagehide");
  });
  const times = events(world).filter((event) => event.name === "page_time");
  assert.deepEqual(times.map((event) => event.properties.visible_ms), [3_000, 4_000]);
  assert.equal(times.reduce((sum, event) => sum + event.properties.duration_ms, 0), 67_000);
});

test("clicks say which element: by its mark, id or name, never its text", async () => {
  const world = openPage();
  const nav = new FakeElement("nav", { id: "top" });
  const click = (target) => fire(world.document, "click", { target });
  await sentBy(world, {}, () => {
    click(new FakeElement("button", { id: "buy", "data-track": "buy-now", value: "secret" }));
    click(new FakeElement("span", {}, new FakeElement("a", { href: "/help?token=1" }, nav)));
    click(new FakeElement("button", {}, nav));
    click(new FakeElement("button", { name: "b" }, new FakeElement("div", { "data-no-track": "" })));
    click(new FakeElement("p", { id: "text" }));
    click({}); // the document itself
  });
  const clicks = events(world).filter((event) => event.element_id);
  assert.deepEqual(
    clicks.map((event) => [event.event_type, event.element_id]),
    [
      ["button_click", "buy-now"],
      ["link_click", "https://shop.example/help"],
      ["button_click", "#top button"],
    ],
  );
});

test("of a form its name is told, not what is in it", async () => {
  const world = openPage();
  const form = new FakeElement("form", { id: "login" });
  form.elements = [{ name: "password", value: "secret" }];
  const hidden = new FakeElement("form", { id: "x", "data-no-track": "" });
  await sentBy(world, {}, () => {
    fire(world.document, "submit", { target: form });
    fire(world.document, "submit", { target: hidden });
  });
  assert.deepEqual(events(world).filter((e) => e.event_type === "form_submit").map((e) => e.element_id), ["login"]);
  assert.ok(!JSON.stringify(events(world)).includes("secret"));
});

test("an error of ours is not one of the page", async () => {
  const world = openPage();
  const broken = { closest() { throw new Error("clobbered"); } };
  await sentBy(world, {}, () => fire(world.document, "submit", { target: broken }));
  assert.deepEqual(types(world), ["page_view"]);
});

test("vitals are told on leaving: LCP, the largest window of shifts, the slowest interaction", async () => {
  const world = openPage();
  await sentBy(world, {}, () => {
    measured("largest-contentful-paint", { startTime: 800.4 });
    measured("largest-contentful-paint", { startTime: 1234.5 });
    //  shifts   0.1  0.2      |  0.25     | (typing) 0.9
    //  at       1 s  1.5 s    |  9 s      |  9.5 s
    for (const [startTime, value, hadRecentInput] of [[1000, 0.1], [1500, 0.2], [9000, 0.25], [9500, 0.9, true]]) {
      measured("layout-shift", { startTime, value, hadRecentInput });
    }
    for (const [interactionId, duration] of [[1, 56], [2, 320], [2, 104], [3, 48], [0, 900]]) {
      measured("event", { interactionId, duration });
    }
    hide(world);
    show(world);
    hide(world); // nothing new
  });
  const told = events(world).filter((event) => event.name === "web_vitals");
  assert.deepEqual(told.map((event) => event.properties), [{ lcp_ms: 1235, cls: 0.3, inp_ms: 320 }]);
});

test("of many interactions, the slowest in fifty are left out", async () => {
  const world = openPage();
  await sentBy(world, {}, () => {
    for (let id = 1; id <= 120; id++) measured("event", { interactionId: id, duration: 100 + id });
    hide(world);
  });
  const [{ properties }] = events(world).filter((event) => event.name === "web_vitals");
  assert.equal(properties.inp_ms, 218); // the third slowest of 220, 219, 218, …
});

test("closing the tab sends what waits by a beacon, with the time", async () => {
  const world = openPage();
  createTracker(OPTIONS);
  await tick(1_500);
  hide(world);
  fire(world.window, "pagehide");
  assert.deepEqual(world.requests, []);
  assert.deepEqual(types(world), ["page_view", "page_time"]);
});

test("a page that comes back from the browser's memory is viewed again", async () => {
  const world = openPage();
  await sentBy(world, {}, () => {
    fire(world.window, "pageshow", { persisted: false });
    fire(world.window, "pageshow", { persisted: true });
  });
  assert.deepEqual(types(world), ["page_view", "page_view"]);
});

test("a page that is loaded ahead is viewed when it is shown", async () => {
  const world = openPage({ document: { prerendering: true } });
  await sentBy(world, {});
  assert.deepEqual(types(world), []);
  fire(world.document, "prerenderingchange");
  await tick(2_000);
  assert.deepEqual(types(world), ["page_view"]);
});

test("stopped, it leaves the page as it was", async () => {
  const world = openPage();
  const original = history.pushState;
  const tracker = await sentBy(world, {});
  tracker.stop();
  assert.equal(history.pushState, original);
  fire(world.document, "click", { target: new FakeElement("button", { id: "b" }) });
  await tick(5_000);
  assert.ok(!types(world).includes("button_click"));
});

test("by hand: nothing is watched, and views are told by page()", async () => {
  const world = openPage();
  await sentBy(world, { auto: false }, (tracker) => {
    fire(world.document, "click", { target: new FakeElement("button", { id: "b" }) });
    tracker.page({ title: "Mine" });
    tracker.track("search", { query: "shoes" });
  });
  assert.deepEqual(types(world), ["page_view", "search"]);
  assert.equal(events(world)[0].title, "Mine");
});
