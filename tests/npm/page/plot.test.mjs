import assert from "node:assert/strict";
import { test } from "node:test";

import { escapeLabel, fromWallClock, toWallClock } from "../../../promad/web/static/plot.js";

test("a wall-clock time leads back to its unix time", () => {
  for (let at = 1_741_000_000; at < 1_765_000_000; at += 86_400 * 7 + 3601) {
    assert.equal(fromWallClock(toWallClock(at)), at);
  }
});

test("a wall-clock time is that of the time zone", () => {
  const offset = new Date(1_750_000_020_000).getTimezoneOffset() * 60;
  const shifted = new Date((1_750_000_020 - offset) * 1000).toISOString();
  assert.equal(`${toWallClock(1_750_000_020)}Z`, shifted);
  assert.equal(toWallClock(NaN), null);
});

test("plotly's own forms of a time are read", () => {
  const midnight = fromWallClock("2025-06-15");
  assert.equal(fromWallClock("2025-06-15 00:00"), midnight);
  assert.equal(fromWallClock("2025-06-15 01:30:00.5") - midnight, 5400.5);
});

test("a label has no tags and no entities", () => {
  assert.equal(escapeLabel("<b>&amp;</b>"), "&lt;b&gt;&amp;amp;&lt;/b&gt;");
});
