// The tracker: what happens on the page and what the application says, to the collector.
//
// Upstream: page.js, vitals.js, the application. Downstream: queue.js. Consent decides first:
// pending events wait in memory and nothing is stored; denied, nothing is kept, stored or sent.

import { assign, bucket } from "./assignment.js";
import { createIdentity, uuid7 } from "./identity.js";
import { clean, watchPage } from "./page.js";
import { Queue } from "./queue.js";
import { createStore } from "./store.js";
import { watchVitals } from "./vitals.js";

const HELD = 100;
const SPEED = { "slow-2g": "slow", "2g": "slow", "3g": "medium", "4g": "fast" };

export function createTracker(options) {
  const store = createStore();
  const identity = createIdentity(store);
  const exposed = new Set();
  let held = [];
  let dropped = 0;
  const onDrop = (event, reason) => {
    dropped++;
    if (options.onDrop) options.onDrop(event, reason);
    else console.warn("streamgauge: an event was dropped:", reason, event.event_id);
  };
  const queue = new Queue({ ...options, store, onDrop });

  const signal = () =>
    options.doNotTrack !== false && (navigator.globalPrivacyControl === true || navigator.doNotTrack === "1");
  let purposes = store.get("c");
  /** granted: sent; pending: held; denied: nothing. What a visitor has said themselves decides. */
  const state = () => {
    if (purposes) return purposes.analytics ? "granted" : "denied";
    if (signal()) return "denied";
    return options.requireConsent ? "pending" : "granted";
  };
  const consents = () =>
    Object.fromEntries(Object.entries(purposes || {}).map(([purpose, given]) => ["consent_" + purpose, given]));
  store.durable = state() === "granted";

  const { sample = 1 } = options;
  const sampled = () => sample >= 1 || bucket("tracker", "sample", identity.anonymous()) < sample;

  function track(type, fields) {
    const now = state();
    if (now === "denied" || !sampled()) return undefined;
    const event = {
      event_id: uuid7(),
      event_type: type,
      timestamp: Date.now(),
      user_id: identity.user() || undefined,
      anonymous_id: identity.anonymous(),
      session_id: identity.session(),
      page_url: page?.address() || clean(location.href, options),
      screen_size: window.screen && screen.width + "x" + screen.height,
      connection_speed: SPEED[navigator.connection?.effectiveType],
      app_version: options.appVersion,
      ...consents(),
      ...fields,
    };
    if (now === "granted") queue.add(event);
    else if (held.push(event) > HELD) onDrop(held.shift(), "held_full");
    return event.event_id;
  }

  function consent(given) {
    const before = state();
    purposes = { ...purposes, ...given };
    const after = state();
    if (after === "granted") {
      store.settle();
      store.set("c", purposes);
      track("consent_change");
      held.forEach((event) => queue.add({ ...event, ...consents() }));
      held = [];
      if (before !== "granted") queue.adopt();
      return;
    }
    if (before === "granted") {
      // The last that is sent: that nothing more is wanted.
      purposes = { ...purposes, analytics: true };
      track("consent_change", { consent_analytics: false });
      purposes.analytics = false;
      queue.flush();
    }
    held = [];
    identity.forget();
    store.durable = true; // for the choice itself, so that nobody is asked again; no more follows
    store.set("c", purposes);
  }

  const vitals = options.vitals !== false && state() !== "denied" ? watchVitals() : null;
  const onLeave = (last) => {
    const figures = vitals?.take();
    if (figures) track("custom", { name: "web_vitals", properties: figures });
    queue.leave(last);
  };
  const online = () => queue.online();
  let page = null;
  if (options.auto !== false) {
    page = watchPage(track, onLeave, options);
    // A page that is loaded ahead may never be seen.
    if (document.prerendering) document.addEventListener("prerenderingchange", () => page.view(), { once: true });
    else page.view();
  }
  addEventListener("online", online);
  if (store.durable) queue.adopt();

  return {
    track,
    page: (fields) => (page ? page.view(fields) : track("page_view", { title: document.title, ...fields })),
    identify(user, fields) {
      identity.identify(user);
      return track("identify", fields);
    },
    reset: () => identity.forget(),
    consent,
    /** The variant, told as seen once a page; null outside the allocation or the segments. */
    variant(experiment, weights, { allocation = 1, expose = true, segments = [], userSegments } = {}) {
      const user = identity.user() || identity.anonymous();
      const seen = experiment + "/" + user;
      const stays = store.get("x") || [];
      const targeting = { segments, userSegments, exposed: stays.includes(seen) };
      const variant = assign(experiment, user, Object.entries(weights), allocation, targeting);
      if (variant && expose && !exposed.has(seen)) {
        exposed.add(seen);
        // On later pages too, when the user has left the segment.
        if (segments.length && !targeting.exposed) store.set("x", [...stays, seen]);
        track("experiment_exposure", { experiment_id: experiment, variant });
      }
      return variant;
    },
    flush: () => queue.flush(),
    stats: () => ({ sent: queue.sent, queued: queue.events.length + held.length, dropped, consent: state() }),
    stop() {
      page?.stop();
      vitals?.stop();
      removeEventListener("online", online);
      queue.leave(true);
    },
  };
}
