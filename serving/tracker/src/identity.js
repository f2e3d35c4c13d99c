// Who and when: ids of events, visitors and sessions.

const IDLE_MS = 30 * 60_000;
const NOTE_MS = 10_000;

/** A UUIDv7: sorts by time. */
export function uuid7(now = Date.now()) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 0; i < 6; i++) bytes[i] = Math.floor(now / 2 ** (8 * (5 - i))) & 255;
  bytes[6] = 0x70 | (bytes[6] & 15);
  bytes[8] = 0x80 | (bytes[8] & 63);
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export function createIdentity(store) {
  const made = (name) => {
    let id = store.get(name);
    if (!id) store.set(name, (id = uuid7()));
    return id;
  };
  return {
    anonymous: () => made("a"),
    user: () => store.get("u"),
    identify: (user) => store.set("u", user),
    /** A session ends after 30 minutes without an event, in all tabs together. */
    session(now = Date.now()) {
      const known = store.get("s");
      const fresh = !known || now - known[1] > IDLE_MS;
      const id = fresh ? uuid7(now) : known[0];
      if (fresh || now - known[1] > NOTE_MS) store.set("s", [id, now]);
      return id;
    },
    forget: () => ["a", "u", "s", "x"].forEach(store.remove),
  };
}
