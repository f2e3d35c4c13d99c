// What happens on the page: views, single-page routes, clicks, forms, time in sight.
//
// Never what somebody typed: of a form its name alone, of an address no query (a form sent by GET
// puts its values there) but utm_* and the names that are allowed.

const CLICKABLE = 'a[href],button,[role=button],input[type=button],input[type=submit],[data-track]';
const CAPTURE = { capture: true };

/** An address without what may be somebody's own. */
export function clean(address, { query = [], hash = false } = {}) {
  if (!address) return undefined;
  try {
    const url = new URL(address, location.href);
    const kept = [...url.searchParams].filter(([name]) => /^utm_/.test(name) || query.includes(name));
    const search = kept.length ? "?" + new URLSearchParams(kept) : "";
    const origin = url.origin === "null" ? url.protocol + "//" : url.origin;
    return origin + url.pathname + search + (hash ? url.hash : "");
  } catch {
    return undefined;
  }
}

/** What to call an element: never its text or value. */
export function nameOf(element, options) {
  const own = ["data-track", "id", "name"].map((name) => element.getAttribute(name)).find(Boolean);
  if (own) return own;
  const href = element.getAttribute("href");
  if (href) return clean(href, options);
  const parent = element.parentElement?.closest("[id]");
  return (parent ? "#" + parent.getAttribute("id") + " " : "") + element.tagName.toLowerCase();
}

/** Watches the page for `track(type, fields)`; returns what undoes it. */
export function watchPage(track, onLeave, options) {
  const undo = [];
  const listen = (target, type, listener) => {
    const guarded = (event) => {
      try {
        listener(event);
      } catch {
        // an error of ours is not one of the page
      }
    };
    target.addEventListener(type, guarded, CAPTURE);
    undo.push(() => target.removeEventListener(type, guarded, CAPTURE));
  };

  let address;
  const referrer = document.referrer;
  let begun = Date.now();
  let seen = 0; // ms in sight before `visible`
  let visible = document.visibilityState === "hidden" ? 0 : begun;

  /** The time since it was told last: all of a page's rows add up. */
  const time = () => {
    const now = Date.now();
    const inSight = seen + (visible ? now - visible : 0);
    if (address && inSight >= 100) {
      const properties = { duration_ms: now - begun, visible_ms: inSight };
      track("custom", { name: "page_time", page_url: address, properties });
      begun = now;
      seen = 0;
      if (visible) visible = now;
    }
  };
  const view = (fields) => {
    time();
    const from = address || clean(referrer);
    address = clean(location.href, options);
    begun = Date.now();
    seen = 0;
    if (visible) visible = begun;
    track("page_view", { referrer: from, title: document.title || undefined, ...fields });
  };
  const route = () => {
    // After the application has set the title.
    setTimeout(() => clean(location.href, options) !== address && view(), 0);
  };

  for (const name of ["pushState", "replaceState"]) {
    const original = history[name];
    const ours = function (...given) {
      const result = original.apply(this, given);
      route();
      return result;
    };
    history[name] = ours;
    undo.push(() => history[name] === ours && (history[name] = original));
  }
  listen(window, "popstate", route);
  listen(window, "hashchange", route);

  listen(window, "pageshow", ({ persisted }) => persisted && view()); // back, from the browser's memory

  listen(document, "click", ({ target }) => {
    const element = target.closest?.(CLICKABLE);
    if (!element || element.closest("[data-no-track]")) return;
    const type = element.matches("a[href]") ? "link_click" : "button_click";
    track(type, { element_id: nameOf(element, options) });
  });
  listen(document, "submit", ({ target }) => {
    if (!target.closest("[data-no-track]")) track("form_submit", { element_id: nameOf(target, options) });
  });

  listen(document, "visibilitychange", () => {
    if (document.visibilityState !== "hidden") {
      visible = Date.now();
      return;
    }
    time();
    seen = visible = 0;
    onLeave(false);
  });
  listen(window, "pagehide", () => {
    time();
    onLeave(true);
  });

  return { view, address: () => address, stop: () => undo.forEach((one) => one()) };
}
