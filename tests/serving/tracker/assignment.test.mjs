import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { assign, bucket } from "../../../serving/tracker/src/assignment.js";
import { sha256Start } from "../../../serving/tracker/src/sha256.js";

const golden = JSON.parse(readFileSync(new URL("../../data/assignment.json", import.meta.url)));

test("SHA-256 is that of everybody else, whatever the length", () => {
  for (let length = 0; length < 300; length++) {
    const text = "aé€😀".repeat(length).slice(0, length).replace(/[\ud800-\udbff]$/, "");
    const digest = createHash("sha256").update(text).digest();
    assert.deepEqual(sha256Start(text), [digest.readUInt32BE(0), digest.readUInt32BE(4)]);
  }
});

test("users get the variants that Python gives them, to the last bit", () => {
  assert.ok(golden.cases.length > 100);
  for (const { experiment, user, weights, allocation, variant, ...buckets } of golden.cases) {
    assert.equal(bucket(experiment, "allocation", user), buckets.allocation_bucket);
    assert.equal(bucket(experiment, "variant", user), buckets.variant_bucket);
    assert.equal(assign(experiment, user, weights, allocation), variant, `${experiment}/${user}`);
  }
});

test("segments keep out whom they keep out in Python", () => {
  assert.ok(golden.targeting.length > 10);
  for (const { experiment, user, weights, allocation, variant, ...given } of golden.targeting) {
    const targeting = { segments: given.segments, userSegments: given.user_segments, exposed: given.exposed };
    assert.equal(assign(experiment, user, weights, allocation, targeting), variant, JSON.stringify(given));
  }
});

test("without a weight there is no variant", () => {
  assert.equal(assign("e", "u", []), null);
  assert.equal(assign("e", "u", [["a", 0]]), null);
});
