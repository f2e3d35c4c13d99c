// Core Web Vitals as their definitions have them, without the library: LCP, CLS, INP.
// https://web.dev/articles/lcp, /cls (the largest session window), /inp (the 98th percentile).

const WINDOW_MS = 5_000;
const GAP_MS = 1_000;
const WORST = 10;

/** Observes from now on, and what the browser has buffered; returns what reads the figures. */
export function watchVitals() {
  const found = {};
  const observers = [];
  const observe = (type, each, options) => {
    try {
      const observer = new PerformanceObserver((list) => list.getEntries().forEach(each));
      observer.observe({ type, buffered: true, ...options });
      observers.push([observer, each]);
    } catch {
      // this browser does not measure it
    }
  };

  observe("largest-contentful-paint", (entry) => (found.lcp_ms = Math.round(entry.startTime)));

  let sum = 0;
  let first = 0;
  let last = 0;
  observe("layout-shift", (entry) => {
    if (entry.hadRecentInput) return;
    const at = entry.startTime;
    if (at - last < GAP_MS && at - first < WINDOW_MS) sum += entry.value;
    else [sum, first] = [entry.value, at];
    last = at;
    found.cls = Math.max(found.cls || 0, Math.round(sum * 1e4) / 1e4);
  });

  const worst = new Map(); // longest duration of an interaction, of the slowest ones
  let interactions = 0;
  let newest = 0;
  const interaction = (entry) => {
    const id = entry.interactionId;
    if (!id) return;
    if (id > newest) [newest, interactions] = [id, interactions + 1];
    worst.set(id, Math.max(worst.get(id) || 0, entry.duration));
    const sorted = [...worst].sort((a, b) => b[1] - a[1]).slice(0, WORST);
    worst.clear();
    sorted.forEach(([key, duration]) => worst.set(key, duration));
    found.inp_ms = Math.round(sorted[Math.min(sorted.length - 1, Math.floor(interactions / 50))][1]);
  };
  observe("event", interaction, { durationThreshold: 40 });
  observe("first-input", interaction);

  return {
    /** The figures if they have changed since they were asked for, or null. */
    take() {
      observers.forEach(([observer, each]) => observer.takeRecords().forEach(each));
      const changed = JSON.stringify(found) !== this.taken && Object.keys(found).length;
      this.taken = JSON.stringify(found);
      return changed ? { ...found } : null;
    },
    stop: () => observers.forEach(([observer]) => observer.disconnect()),
  };
}
