// The first 64 bits of a text's SHA-256, at once: browsers' own digest answers too late for the
// first paint of a variant. Constants are computed, for they would be half of the code.

const K = [];
const H = [];
for (let n = 2; K.length < 64; n++) {
  let prime = true;
  for (let d = 2; d * d <= n; d++) prime = prime && n % d > 0;
  if (prime) {
    if (H.length < 8) H.push(((Math.sqrt(n) % 1) * 2 ** 32) | 0);
    K.push(((Math.cbrt(n) % 1) * 2 ** 32) | 0);
  }
}

const turned = (x, n) => (x >>> n) | (x << (32 - n));

/** @returns {[number, number]} the first and the second 32 bits, unsigned */
export function sha256Start(text) {
  const bytes = new TextEncoder().encode(text);
  const length = bytes.length;
  const padded = new DataView(new ArrayBuffer((((length + 8) >> 6) + 1) << 6));
  bytes.forEach((byte, i) => padded.setUint8(i, byte));
  padded.setUint8(length, 128);
  padded.setUint32(padded.byteLength - 4, length << 3);
  let state = H.slice();
  const w = [];
  for (let at = 0; at < padded.byteLength; at += 64) {
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const x = w[i - 15];
      const y = w[i - 2];
      w[i] =
        i < 16
          ? padded.getInt32(at + i * 4)
          : (w[i - 16] +
              (turned(x, 7) ^ turned(x, 18) ^ (x >>> 3)) +
              w[i - 7] +
              (turned(y, 17) ^ turned(y, 19) ^ (y >>> 10))) |
            0;
      const one = (h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      const two = ((turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + one) | 0;
      d = c;
      c = b;
      b = a;
      a = (one + two) | 0;
    }
    state = [a, b, c, d, e, f, g, h].map((word, i) => (word + state[i]) | 0);
  }
  return [state[0] >>> 0, state[1] >>> 0];
}
