/** A group's newest samples, as the page has them so far. */

/** No more than these are kept of "all": the daemon forgets too. */
const MOST_ROWS = 5000;
const MOST_MISSING = 2000;
const SAME_SECONDS = 1e-3;

/**
 * One sample: `at`, `state`, `score`, `threshold`, `why`, and by a feature's name and one of
 * elevation, contribution, observed and expected, `value`. What is not known is null.
 */
class Row {
  constructor(answer, features, place) {
    this.at = answer.times[place];
    this.state = answer.states[place];
    this.score = answer.score[place];
    this.threshold = answer.threshold[place];
    this.why = answer.why[place];
    this.value = (feature, what) => features.get(feature)?.[what][place] ?? null;
  }
}

/** The rows of an answer of api/v1/history, oldest first. */
export function rowsOf(answer) {
  const features = new Map(answer.features.map((feature) => [feature.name, feature]));
  return answer.times.map((_, place) => new Row(answer, features, place));
}

/** Rows in order, the newer taking the place of the older from their first on. */
export function merged(older, newer) {
  if (!newer.length) return older;
  const first = newer[0].at - SAME_SECONDS;
  return [...older.filter((row) => row.at < first), ...newer].slice(-MOST_ROWS);
}

export const within = (rows, start, end) =>
  rows.filter((row) => row.at >= start - SAME_SECONDS && row.at <= end + SAME_SECONDS);

/** `{at, row}` a step apart from the first row to the last; `row` is null where there is none. */
export function regular(rows, step) {
  const grid = [];
  rows.forEach((row, place) => {
    if (place) {
      const before = rows[place - 1].at;
      const missing = Math.min(MOST_MISSING, Math.round((row.at - before) / step) - 1);
      for (let number = 1; number <= missing; number += 1) {
        grid.push({ at: before + number * step, row: null });
      }
    }
    grid.push({ at: row.at, row });
  });
  return grid;
}

/** `{state, start, end}` of rows in a row that share a state, half a step beyond both ends. */
export function stretches(rows, step) {
  const found = [];
  for (const row of rows) {
    const last = found.at(-1);
    if (last?.state === row.state && row.at - last.end < 1.5 * step) last.end = row.at + step / 2;
    else found.push({ state: row.state, start: row.at - step / 2, end: row.at + step / 2 });
  }
  return found;
}

/** Since when the newest state has held, in unix seconds, and whether that is all that is known. */
export function heldSince(rows) {
  let place = rows.length - 1;
  while (place > 0 && rows[place - 1].state === rows[place].state) place -= 1;
  return { since: rows[place].at, atLeast: place === 0 };
}

/** The row nearest to a time; null without rows. */
export function nearest(rows, at) {
  const distance = (row) => Math.abs(row.at - at);
  return rows.reduce(
    (best, row) => (best === null || distance(row) < distance(best) ? row : best), null,
  );
}

/** The newest samples in a row that are anomalous; none if no sample is. */
function newestEvent(rows) {
  const last = rows.findLastIndex((row) => row.state === "anomalous");
  let first = last;
  while (first > 0 && rows[first - 1].state === "anomalous") first -= 1;
  return rows.slice(Math.max(first, 0), last + 1);
}

/**
 * Features by what they contributed, largest first: at `at`, or else over the newest event, or
 * where there is none over all samples.
 */
export function ranked(features, rows, at) {
  const anomalous = newestEvent(rows);
  const some = at === null ? null : nearest(rows, at);
  const counted = some ? [some] : anomalous.length ? anomalous : rows;
  const totals = new Map(features.map((feature) => [feature, [0, 0]]));
  for (const row of counted) {
    for (const [feature, total] of totals) {
      total[0] += row.value(feature, "contribution") ?? 0;
      total[1] += Math.min(1e6, row.value(feature, "elevation") ?? 0);
    }
  }
  // Where nothing lies above its baseline every share is 0, and the elevations decide.
  const more = (a, b, which) => totals.get(b)[which] - totals.get(a)[which];
  return [...features].sort((a, b) => more(a, b, 0) || more(a, b, 1));
}
