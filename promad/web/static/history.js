/** The samples of a group, newest last: reading, merging and searching them. */

/** @typedef {"elevation" | "contribution" | "observed" | "expected"} Quantity */
/** @typedef {{state: string, start: number, end: number}} Stretch */

/** The limit on the samples in the page: like the daemon, it drops the oldest. */
const MAX_ROWS = 5000;
const MAX_MISSING = 2000;
/** Times that differ by less are equal. */
const TOLERANCE_SECONDS = 1e-3;

/** One sample. What is unknown is null. */
export class Row {
  /**
   * @param {HistoryAnswer} answer
   * @param {Map<string, FeatureHistory>} features by name
   * @param {number} place
   */
  constructor(answer, features, place) {
    /** Unix seconds. */
    this.at = answer.times[place];
    this.state = answer.states[place];
    /** Score over threshold. */
    this.score = answer.score[place];
    /** @param {string} feature @param {Quantity} quantity @returns {?number} */
    this.getValue = (feature, quantity) => features.get(feature)?.[quantity][place] ?? null;
  }
}

/**
 * The rows of an answer of api/v1/history, oldest first.
 *
 * @param {HistoryAnswer} answer
 */
export function readRows(answer) {
  const features = new Map(answer.features.map((feature) => [feature.name, feature]));
  return answer.times.map((_, place) => new Row(answer, features, place));
}

/**
 * Rows in order of time; from the first of `newer` on they replace those of `older`.
 *
 * @param {Row[]} older
 * @param {Row[]} newer
 */
export function mergeRows(older, newer) {
  if (!newer.length) return older;
  const first = newer[0].at - TOLERANCE_SECONDS;
  return [...older.filter((row) => row.at < first), ...newer].slice(-MAX_ROWS);
}

/**
 * The rows from `start` to `end`, unix seconds, both included.
 *
 * @param {Row[]} rows
 * @param {number} start
 * @param {number} end
 */
export function selectRows(rows, start, end) {
  const [first, last] = [start - TOLERANCE_SECONDS, end + TOLERANCE_SECONDS];
  return rows.filter((row) => row.at >= first && row.at <= last);
}

/**
 * `{at, row}` one step apart from the first row to the last; `row` is null where a sample is
 * missing.
 *
 * @param {Row[]} rows
 * @param {number} step seconds
 */
export function fillGaps(rows, step) {
  /** @type {{at: number, row: ?Row}[]} */
  const grid = [];
  rows.forEach((row, place) => {
    if (place) {
      const before = rows[place - 1].at;
      const missing = Math.min(MAX_MISSING, Math.round((row.at - before) / step) - 1);
      for (let number = 1; number <= missing; number += 1) {
        grid.push({ at: before + number * step, row: null });
      }
    }
    grid.push({ at: row.at, row });
  });
  return grid;
}

/**
 * Consecutive rows of one state as `{state, start, end}`, extended by half a step at both ends.
 *
 * @param {Row[]} rows
 * @param {number} step seconds
 */
export function findStretches(rows, step) {
  /** @type {Stretch[]} */
  const found = [];
  for (const row of rows) {
    const last = found.at(-1);
    if (last?.state === row.state && row.at - last.end < 1.5 * step) last.end = row.at + step / 2;
    else found.push({ state: row.state, start: row.at - step / 2, end: row.at + step / 2 });
  }
  return found;
}

/**
 * The start of the newest state in unix seconds; `isComplete` is false if the state may have
 * started before the first row.
 *
 * @param {Row[]} rows at least one
 */
export function findStateStart(rows) {
  let place = rows.length - 1;
  while (place > 0 && rows[place - 1].state === rows[place].state) place -= 1;
  return { start: rows[place].at, isComplete: place > 0 };
}

/**
 * The row nearest to a time; null without rows.
 *
 * @param {Row[]} rows
 * @param {number} at unix seconds
 */
export function findNearest(rows, at) {
  /** @type {?Row} */
  let nearest = null;
  for (const row of rows) {
    if (nearest === null || Math.abs(row.at - at) < Math.abs(nearest.at - at)) nearest = row;
  }
  return nearest;
}

/**
 * The newest consecutive anomalous rows; none if no row is anomalous.
 *
 * @param {Row[]} rows
 */
function selectNewestEvent(rows) {
  const last = rows.findLastIndex((row) => row.state === "anomalous");
  let first = last;
  while (first > 0 && rows[first - 1].state === "anomalous") first -= 1;
  return rows.slice(Math.max(first, 0), last + 1);
}

/**
 * Features by contribution, largest first: at the time `at`, or else over the newest event, or
 * without an event over all rows.
 *
 * @param {string[]} features
 * @param {Row[]} rows
 * @param {?number} at unix seconds
 */
export function rankFeatures(features, rows, at) {
  const event = selectNewestEvent(rows);
  const chosen = at === null ? null : findNearest(rows, at);
  const counted = chosen ? [chosen] : event.length ? event : rows;
  const totals = features.map((feature) => {
    const total = { feature, contribution: 0, elevation: 0 };
    for (const row of counted) {
      total.contribution += row.getValue(feature, "contribution") ?? 0;
      total.elevation += Math.min(1e6, row.getValue(feature, "elevation") ?? 0);
    }
    return total;
  });
  // If no error exceeds its baseline, all contributions are 0 and the elevations decide.
  totals.sort((a, b) => b.contribution - a.contribution || b.elevation - a.elevation);
  return totals.map(({ feature }) => feature);
}
