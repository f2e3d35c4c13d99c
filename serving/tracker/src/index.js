// The npm package: createTracker, which does nothing where pages are rendered on a server.

import { createTracker as create } from "./tracker.js";

export { assign, bucket } from "./assignment.js";

const nothing = () => undefined;

export function createTracker(options) {
  if (typeof window !== "undefined") return create(options);
  return {
    ...{ track: nothing, page: nothing, identify: nothing, reset: nothing, consent: nothing },
    ...{ flush: async () => undefined, stop: nothing, variant: () => null },
    stats: () => ({ sent: 0, queued: 0, dropped: 0, consent: "pending" }),
  };
}
