import assert from "node:assert/strict";
import { test } from "node:test";

import {
  formatClock, formatCount, formatDuration, formatMultiple, formatNumber, formatShare, formatUtc,
  listContributions,
} from "../../../promad/web/static/format.js";

const NOW = 1_750_000_020;

/** Each value with its text. */
function check(format, cases) {
  for (const [value, text] of cases) assert.equal(format(value), text);
}

test("a number has four digits and a unit", () => {
  check(formatNumber, [
    [0, "0"], [0.086_21, "0.08621"], [-1.5, "-1.5"], [9999, "9999"], [12_345, "12.35 k"],
    [-2.5e6, "-2.5 M"], [3.1e9, "3.1 G"], [7e12, "7 T"],
  ]);
});

test("a multiple has three digits", () => {
  check(formatMultiple, [
    [0, "0"], [0.0001, "0"], [0.25, "0.250"], [2.718, "2.72"], [99.6, "99.6"], [1091.2, "1091"],
    [1.09e5, "109 k"],
  ]);
});

test("a share is in per cent, and a small one is not 0", () => {
  check(formatShare, [[0, "0%"], [0.004, "<1%"], [0.005, "1%"], [0.534, "53%"], [1, "100%"]]);
});

test("a missing value is a dash", () => {
  for (const format of [formatNumber, formatMultiple, formatShare]) {
    check(format, [[null, "–"], [undefined, "–"]]);
  }
});

test("a duration has the two largest units", () => {
  check(formatDuration, [
    [-3, "0 s"], [29.6, "30 s"], [90, "2 min"], [300, "5 min"], [3600, "1 h 00 min"],
    [7500, "2 h 05 min"], [47 * 3600, "47 h 00 min"], [50 * 3600, "2 d 2 h"],
  ]);
});

test("a count has its noun in the right number", () => {
  assert.equal(formatCount(1, "event"), "1 event");
  assert.equal(formatCount(0, "event"), "0 events");
  assert.equal(formatCount(12_345, "group"), "12 345 groups");
  assert.equal(formatCount(1000), "1 000");
});

test("the three largest contributions are listed", () => {
  const features = [0.5, 0.3, 0.15, 0.05].map((contribution, place) => (
    { name: `f${place}`, contribution }
  ));
  assert.equal(listContributions(features), "f0 50%, f1 30%, f2 15%");
  assert.equal(listContributions([{ name: "quiet", contribution: 0 }]), "");
});

test("a time of today has no date, an older one has no clock", () => {
  assert.match(formatClock(NOW, NOW + 30), /^\d\d:\d\d:\d\d$/);
  assert.match(formatClock(NOW, NOW + 3 * 86_400), /Jun|15|14/);
  assert.match(formatClock(NOW, NOW + 300 * 86_400), /2025/);
});

test("UTC is the same in every time zone", () => {
  assert.equal(formatUtc(NOW + 0.7), "2025-06-15T15:07:00Z");
});
