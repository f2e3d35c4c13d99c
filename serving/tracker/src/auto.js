// <script async src="https://collector/tracker.js" data-key="KEY"></script>
//
// What the page has pushed to window.streamgauge before is done first:
// (window.streamgauge = window.streamgauge || []).push(["track", "search", {query: "shoes"}])

import { createTracker } from "./tracker.js";

const script = document.currentScript;
const { key, endpoint, ...rest } = script?.dataset || {};
if (key && !window.streamgauge?.track) {
  const options = { key, endpoint: endpoint || new URL(script.src).origin };
  for (const [name, value] of Object.entries(rest)) {
    options[name] = value === "true" || (value === "false" ? false : value);
  }
  if (rest.query) options.query = rest.query.split(/[ ,]+/);
  const waiting = window.streamgauge;
  const tracker = createTracker(options);
  tracker.push = ([name, ...given]) => tracker[name](...given);
  window.streamgauge = tracker;
  if (Array.isArray(waiting)) waiting.forEach(tracker.push);
}
window.createTracker ??= createTracker;
