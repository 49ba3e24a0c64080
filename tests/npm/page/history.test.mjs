import assert from "node:assert/strict";
import { test } from "node:test";

import {
  fillGaps, findNearest, findStateStart, findStretches, mergeRows, rankFeatures, readRows,
  selectRows,
} from "../../../promad/web/static/history.js";

/** Rows 30 s apart from time 0 on; features a and b share the contribution. */
function createRows(states, { start = 0, shares = [], elevations = [] } = {}) {
  return readRows({
    times: states.map((_, place) => start + 30 * place),
    states,
    score: states.map((state) => (state === "ok" || state === "anomalous" ? 0.5 : null)),
    features: ["a", "b"].map((name, column) => ({
      name,
      elevation: states.map((_, place) => elevations[place]?.[column] ?? null),
      contribution: states.map((_, place) => shares[place]?.[column] ?? null),
      observed: states.map(() => null),
      expected: states.map(() => null),
    })),
  });
}

const getTimes = (rows) => rows.map((row) => row.at);

test("a row has the values of its features, null for what is unknown", () => {
  const [row] = createRows(["ok"], { shares: [[0.25, 0.75]] });
  assert.deepEqual([row.at, row.state, row.score], [0, "ok", 0.5]);
  assert.equal(row.getValue("b", "contribution"), 0.75);
  assert.equal(row.getValue("b", "observed"), null);
  assert.equal(row.getValue("gone", "contribution"), null);
});

test("newer rows replace older ones from their first time on", () => {
  const older = createRows(["blind", "blind", "blind"]);
  const newer = createRows(["ok", "ok", "ok"], { start: 30 });
  const merged = mergeRows(older, newer);
  assert.deepEqual(getTimes(merged), [0, 30, 60, 90]);
  assert.deepEqual(merged.map((row) => row.state), ["blind", "ok", "ok", "ok"]);
  assert.equal(mergeRows(older, []), older);
});

test("the oldest rows are dropped beyond a limit", () => {
  const merged = mergeRows([], createRows(Array(6000).fill("ok")));
  assert.deepEqual([merged.length, merged[0].at], [5000, 30_000]);
});

test("a range includes both of its ends", () => {
  const rows = createRows(["ok", "ok", "ok", "ok"]);
  assert.deepEqual(getTimes(selectRows(rows, 30, 60)), [30, 60]);
  assert.deepEqual(selectRows(rows, 100, 200), []);
});

test("missing samples are filled without rows", () => {
  const rows = [...createRows(["ok"]), ...createRows(["ok"], { start: 90 })];
  const grid = fillGaps(rows, 30);
  assert.deepEqual(grid.map(({ at }) => at), [0, 30, 60, 90]);
  assert.deepEqual(grid.map(({ row }) => row?.at ?? null), [0, null, null, 90]);
  assert.equal(fillGaps(createRows(["ok"]).concat(createRows(["ok"], { start: 1e9 })), 1).length, 2002);
});

test("stretches join rows of one state and end at gaps", () => {
  const rows = [...createRows(["ok", "ok", "blind"]), ...createRows(["blind"], { start: 300 })];
  assert.deepEqual(findStretches(rows, 30), [
    { state: "ok", start: -15, end: 45 },
    { state: "blind", start: 45, end: 75 },
    { state: "blind", start: 285, end: 315 },
  ]);
});

test("the start of a state is known if another state came before", () => {
  assert.deepEqual(
    findStateStart(createRows(["ok", "blind", "blind"])), { start: 30, isComplete: true },
  );
  assert.deepEqual(findStateStart(createRows(["ok", "ok"])), { start: 0, isComplete: false });
});

test("the nearest row is found on either side", () => {
  const rows = createRows(["ok", "ok", "ok"]);
  assert.equal(findNearest(rows, 44).at, 30);
  assert.equal(findNearest(rows, 46).at, 60);
  assert.equal(findNearest(rows, 1e9).at, 60);
  assert.equal(findNearest([], 0), null);
});

test("features are ranked over the newest event", () => {
  const states = ["anomalous", "ok", "anomalous", "anomalous", "ok"];
  const shares = [[1, 0], [1, 0], [0.2, 0.8], [0.4, 0.6], [1, 0]];
  const rows = createRows(states, { shares });
  assert.deepEqual(rankFeatures(["a", "b"], rows, null), ["b", "a"]);
  assert.deepEqual(rankFeatures(["a", "b"], rows, 0), ["a", "b"]);
});

test("without an event elevations decide where contributions are equal", () => {
  const rows = createRows(["ok", "ok"], { elevations: [[0.2, 0.5], [0.3, 0.9]] });
  assert.deepEqual(rankFeatures(["a", "b"], rows, null), ["b", "a"]);
  assert.deepEqual(rankFeatures(["a", "b"], [], null), ["a", "b"]);
});
