/** Sends what happens on a page to Streamgauge's collector. */

export interface Options {
  /** The collector's address: events go to `${endpoint}/v1/batch`. */
  endpoint: string;
  /** A write key. */
  key: string;
  /** Watch views, routes, clicks, forms and time by itself; default true. */
  auto?: boolean;
  /** Hold events in memory, and store nothing, until `consent()` is called; default false. */
  requireConsent?: boolean;
  /** Honour Do-Not-Track and Global Privacy Control; default true. */
  doNotTrack?: boolean;
  /** Share of visitors that send anything, 0 to 1; default 1. */
  sample?: number;
  /** Parameters of addresses to keep beside utm_*; the others are cut off. */
  query?: string[];
  /** Keep the part after #, for applications that route by it; default false. */
  hash?: boolean;
  /** Web vitals; default true. */
  vitals?: boolean;
  appVersion?: string;
  /** Events in a request; default 50. */
  batchSize?: number;
  /** Milliseconds to wait for more; default 2000. */
  interval?: number;
  /** Most events that wait, offline too; default 1000. Beyond it the oldest goes to onDrop. */
  maxQueue?: number;
  /** Told of every event that will not be counted, with the reason. Default: a warning on the console. */
  onDrop?: (event: TrackedEvent, reason: string) => void;
}

export interface TrackedEvent {
  event_id: string;
  event_type: string;
  timestamp: number;
  [field: string]: unknown;
}

export interface Purposes {
  analytics: boolean;
  personalisation?: boolean;
  marketing?: boolean;
}

export interface Stats {
  /** Answered by the collector, or taken by a beacon. */
  sent: number;
  queued: number;
  dropped: number;
  consent: "granted" | "pending" | "denied";
}

export interface Tracker {
  /** Queues an event; returns its id, or undefined where consent or sampling keeps it from being one. */
  track(type: string, fields?: Record<string, unknown>): string | undefined;
  /** A page view, where routes are not the history's. */
  page(fields?: Record<string, unknown>): string | undefined | void;
  /** From here on the visitor is this user. */
  identify(userId: string, fields?: Record<string, unknown>): string | undefined;
  /** Forget visitor, user and session (on logging out). */
  reset(): void;
  consent(purposes: Purposes): void;
  /**
   * The visitor's variant, the same as in Python; null outside the allocation, and for who is in none
   * of `segments` (of the experiment) by `userSegments`, and was not exposed before. Sends the exposure.
   */
  variant(
    experiment: string,
    weights: Record<string, number>,
    options?: { allocation?: number; expose?: boolean; segments?: string[]; userSegments?: string[] },
  ): string | null;
  flush(): Promise<void>;
  stats(): Stats;
  stop(): void;
}

export function createTracker(options: Options): Tracker;

/** A number in [0, 1): the top 53 bits of SHA-256("experiment/purpose/user") / 2^53. */
export function bucket(experiment: string, purpose: string, user: string): number;

/** A user's variant of [name, weight] pairs, or null outside the allocation or the segments. */
export function assign(
  experiment: string,
  user: string,
  weights: Iterable<[string, number]>,
  allocation?: number,
  targeting?: { segments?: string[]; userSegments?: string[]; exposed?: boolean },
): string | null;
