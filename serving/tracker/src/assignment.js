// Which variant of an experiment a user gets: the same as in Python (producers/assignment.py),
// to the last bit; both are held to tests/data/assignment.json.

import { sha256Start } from "./sha256.js";

/** A number in [0, 1): the top 53 bits of SHA-256("experiment/purpose/user") / 2^53. */
export function bucket(experiment, purpose, user) {
  const [high, low] = sha256Start(`${experiment}/${purpose}/${user}`);
  return (high * 2 ** 21 + (low >>> 11)) / 2 ** 53;
}

/**
 * The user's variant, of [name, weight] pairs; null outside the allocation, and for who is in none of
 * the experiment's segments. Who was exposed stays in, whatever these say by now.
 */
export function assign(
  experiment,
  user,
  weights,
  allocation = 1,
  { segments = [], userSegments = [], exposed = false } = {},
) {
  if (!exposed) {
    if (segments.length && !segments.some((one) => userSegments.includes(one))) return null;
    if (bucket(experiment, "allocation", user) >= allocation) return null;
  }
  let total = 0;
  for (const [, weight] of weights) total += weight;
  const share = bucket(experiment, "variant", user) * total;
  let reached = 0;
  let last = null;
  for (const [name, weight] of weights) {
    reached += weight;
    if (weight > 0) {
      last = name;
      if (share < reached) return name;
    }
  }
  return last;
}
