import assert from "node:assert/strict";
import { test } from "node:test";

import { readAddress, writeAddress } from "../../../promad/web/static/address.js";

const LIST = {
  group: null, incident: null, shard: null, range: "1h", start: null, end: null, at: null, search: "",
  state: null, sort: "worst",
};

test("an empty address is the list", () => {
  assert.deepEqual(readAddress(""), LIST);
  assert.equal(writeAddress(LIST), "./");
});

test("what is written is read again", () => {
  const [start, end, at] = [1_750_000_000, 1_750_003_600, 1_750_001_000];
  for (const view of [
    { ...LIST, search: "db & 1", state: "blind" },
    { ...LIST, sort: "name" },
    { ...LIST, incident: "0123456789ab" },
    { ...LIST, group: 'web{instance="a:9100", job="node"}' },
    { ...LIST, group: "web", range: "15m", at },
    { ...LIST, group: "web", shard: 0 },
    { ...LIST, incident: "0123456789ab", shard: 12 },
    { ...LIST, group: "web", range: null, start, end },
  ]) {
    assert.deepEqual(readAddress(writeAddress(view)), view);
  }
});

test("an address is easy to read", () => {
  const view = { ...LIST, group: 'a{b="c:1"}', range: null, start: 0, end: 60 };
  assert.equal(
    writeAddress(view),
    "?group=a%7Bb%3D%22c:1%22%7D&start=1970-01-01T00:00:00Z&end=1970-01-01T00:01:00Z",
  );
});

test("a shard is that of a group or an incident", () => {
  assert.equal(writeAddress({ ...LIST, group: "web", shard: 2 }), "?shard=2&group=web");
  assert.equal(writeAddress({ ...LIST, shard: 2 }), "./");
  for (const query of ["?shard=2", "?group=web&shard=-1", "?group=web&shard=two", "?group=web"]) {
    assert.equal(readAddress(query).shard, null);
  }
});

test("times are unix seconds or ISO 8601", () => {
  const { start, end } = readAddress("?start=1970-01-01T01:00:00%2B01:00&end=90.5");
  assert.deepEqual([start, end], [0, 90.5]);
});

test("invalid values fall back to the defaults", () => {
  for (const query of ["?range=2y", "?range=toString", "?start=9&end=3", "?start=x&end=9", "?end=9",
    "?state=odd", "?sort=age"]) {
    assert.deepEqual(readAddress(query), LIST);
  }
  assert.equal(readAddress("?at=noon").at, null);
  assert.equal(readAddress("?at= ").at, null);
});
