// localStorage under a prefix of ours; in memory where there is none, it is full, or we may not.

const PREFIX = "sg.";

export function createStore() {
  const memory = new Map();
  let storage = null;
  try {
    storage = window.localStorage;
    storage.getItem(PREFIX);
  } catch {
    storage = null;
  }
  const store = {
    /** Until consent is given nothing of a visitor is stored on their device. */
    durable: true,
    get(name) {
      if (memory.has(name)) return memory.get(name);
      try {
        return JSON.parse(storage.getItem(PREFIX + name));
      } catch {
        return null;
      }
    },
    /** @returns {boolean} whether it outlives the page */
    set(name, value) {
      if (store.durable) {
        try {
          storage.setItem(PREFIX + name, JSON.stringify(value));
          memory.delete(name);
          return true;
        } catch {
          // no storage, or it is full
        }
      }
      memory.set(name, value);
      return false;
    },
    remove(name) {
      memory.delete(name);
      try {
        storage.removeItem(PREFIX + name);
      } catch {
        // there is none
      }
    },
    /** Names that begin so, of all tabs. */
    names(begin) {
      try {
        return Object.keys(storage)
          .filter((key) => key.startsWith(PREFIX + begin))
          .map((key) => key.slice(PREFIX.length));
      } catch {
        return [];
      }
    },
    /** What was held in memory only is written down. */
    settle() {
      store.durable = true;
      for (const [name, value] of [...memory]) store.set(name, value);
    },
  };
  return store;
}
