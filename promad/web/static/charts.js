/** The three kinds of chart: the score, the heat map of all features, and one feature. */

import { formatClock, formatMultiple, formatNumber } from "./format.js";
import { fillGaps, findNearest, findStretches } from "./history.js";
import { createLayout, drawChart, escapeLabel, readColours, toWallClock } from "./plot.js";

/** @import { Row, Quantity } from "./history.js" */
/** @import { Colours } from "./plot.js" */

/**
 * What the charts of a group show: rows of history.js, seconds between two of them, the visible
 * range, the explained time or null, the newest time, the versions that were deployed, and what
 * happens when the pointer selects a range or a time.
 *
 * @typedef {{rows: Row[], step: number, range: {start: number, end: number}, at: ?number,
 *   now: number, markers: MarkerAnswer[], onRange: (start: number, end: number) => void, onTime: (at: number) => void
 * }} Timeline
 */
/** @typedef {ReturnType<typeof fillGaps>} Grid */

/** The least elevation of each colour of the heat map; 1 is the baseline of a feature. */
export const HEAT_STEPS = [0, 1, 2, 4, 8, 16];
const ROW_PIXELS = 20;
const LETTER_PIXELS = 7;
const WIDE_LETTER_PIXELS = 8;
const LOG_FROM = 20;
const TRANSPARENT = "rgba(0,0,0,0)";

/**
 * Draw the score beside the threshold; events are shaded, stretches without a score hatched.
 *
 * @param {HTMLElement} element
 * @param {Timeline} timeline
 */
export function drawScore(element, timeline) {
  const colours = readColours();
  const grid = fillGaps(timeline.rows, timeline.step);
  const scores = grid.map(({ row }) => row?.score ?? null);
  const peak = Math.max(1.25, ...scores.map((score) => score ?? 0));
  const isLog = peak > LOG_FROM;
  const top = isLog ? peak * 1.4 : peak * 1.1;
  const bottom = isLog ? 0.01 : 0;
  const margin = getLabelPixels(element);
  const layout = createLayout(element, timeline.range, margin, 220, colours);
  layout.yaxis = createAxis(colours, {
    range: isLog ? [Math.log10(bottom), Math.log10(top)] : [0, top],
    type: isLog ? "log" : "linear",
    nticks: 5,
  });
  layout.shapes = [
    ...shadeStates(timeline, colours, element.clientWidth - margin),
    createThreshold(timeline, colours),
    ...markVersions(timeline, colours),
    ...markTime(timeline, colours),
  ];
  const line = {
    x: grid.map(({ at }) => toWallClock(at)),
    y: isLog ? scores.map((score) => score && Math.max(score, bottom)) : scores,
    customdata: grid.map(({ row }) => row?.state ?? ""),
    mode: "lines",
    line: { color: colours.ink, width: 1.6 },
    hovertemplate: "%{y:.3~g} × threshold, %{customdata}<extra></extra>",
  };
  const { xs, ys } = outlineExcess(grid);
  const excess = {
    x: xs.map(toWallClock),
    y: ys,
    mode: "none",
    fill: "toself",
    fillcolor: colours.anomalous,
    opacity: 0.35,
    hoverinfo: "skip",
  };
  element.setAttribute("aria-label", describeScore(timeline));
  const hatched = hatchUnscored(timeline, bottom, top, colours);
  return drawChart(element, [...hatched, excess, line], layout, timeline);
}

/** @param {Timeline} timeline */
function describeScore({ rows, range, now }) {
  const start = formatClock(range.start, now);
  const title = `Score over threshold from ${start} to ${formatClock(range.end, now)}`;
  const scored = rows.filter((row) => row.score !== null);
  const last = scored.at(-1);
  if (!last) return `${title}: no score.`;
  const highest = scored.reduce((best, row) => ((row.score ?? 0) > (best.score ?? 0) ? row : best));
  return (
    `${title}: highest ${formatMultiple(highest.score)} at ${formatClock(highest.at, now)}, ` +
    `last ${formatMultiple(last.score)}.`
  );
}

/**
 * Polygons between 1 and the score where the score is higher; they start where it crosses 1.
 *
 * @param {Grid} grid
 */
function outlineExcess(grid) {
  /** @type {number[]} */
  const xs = [];
  /** @type {(number | null)[]} */
  const ys = [];
  /** @param {number} x @param {?number} y */
  const add = (x, y) => { xs.push(x); ys.push(y); };
  grid.forEach(({ at, row }, place) => {
    const before = grid[place - 1];
    const score = row?.score ?? null;
    const last = before?.row?.score ?? null;
    if (score !== null && score > 1) {
      if (last === null) add(at, 1);
      else if (last <= 1) add(findCrossing(before.at, last, at, score), 1);
      add(at, score);
    } else if (last !== null && last > 1) {
      add(score === null ? before.at : findCrossing(before.at, last, at, score), 1);
      add(NaN, null);
    }
  });
  if (ys.length && ys.at(-1) !== null) add(xs[xs.length - 1], 1);
  return { xs, ys };
}

/**
 * The time at which a line through two scores is 1.
 *
 * @param {number} at
 * @param {number} score
 * @param {number} nextAt
 * @param {number} nextScore
 */
const findCrossing = (at, score, nextAt, nextScore) =>
  at + ((nextAt - at) * (1 - score)) / (nextScore - score);

/**
 * Hatched areas where there is no score, one trace for each state.
 *
 * @param {Timeline} timeline
 * @param {number} bottom
 * @param {number} top
 * @param {Colours} colours
 */
function hatchUnscored({ rows, step }, bottom, top, colours) {
  const patterns = { blind: "/", warming: "." };
  return Object.entries(patterns).map(([state, shape]) => {
    const parts = findStretches(rows, step).filter((stretch) => stretch.state === state);
    return {
      x: parts.flatMap(({ start, end }) => [start, start, end, end, NaN].map(toWallClock)),
      y: parts.flatMap(() => [bottom, top, top, bottom, null]),
      mode: "none",
      fill: "toself",
      fillcolor: colours.idle,
      fillpattern: { shape, fgcolor: colours.idle, bgcolor: TRANSPARENT, size: 7, solidity: 0.25 },
      hoverinfo: "skip",
    };
  });
}

/**
 * Shaded events, and the names of states where they fit into `pixels` for the whole range.
 *
 * @param {Timeline} timeline
 * @param {Colours} colours
 * @param {number} pixels
 */
function shadeStates({ rows, step, range }, colours, pixels) {
  const letter = ((range.end - range.start) / pixels) * LETTER_PIXELS;
  return findStretches(rows, step)
    .filter(({ state }) => state !== "ok")
    .map(({ state, start, end }) => ({
      type: "rect",
      layer: "below",
      yref: "paper",
      y0: 0,
      y1: 1,
      x0: toWallClock(start),
      x1: toWallClock(end),
      line: { width: 0 },
      fillcolor: state === "anomalous" ? colours.shade : TRANSPARENT,
      label: {
        text: end - start > letter * state.length ? state : "",
        textposition: "top left",
        font: { size: 11, color: colours.muted },
      },
    }));
}

/**
 * @param {Timeline} timeline
 * @param {Colours} colours
 */
const createThreshold = ({ range }, colours) => ({
  type: "line",
  x0: toWallClock(range.start),
  x1: toWallClock(range.end),
  y0: 1,
  y1: 1,
  line: { color: colours.anomalous, width: 1.2, dash: "dash" },
  label: { text: "threshold", textposition: "start", font: { size: 11, color: colours.anomalous } },
});

/**
 * A dotted line at each version that was deployed, with its name.
 *
 * @param {Timeline} timeline
 * @param {Colours} colours
 */
const markVersions = ({ markers, range }, colours) => markers
  .filter(({ at }) => at >= range.start && at <= range.end)
  .map(({ at, name, version }) => ({
    type: "line",
    yref: "paper",
    x0: toWallClock(at),
    x1: toWallClock(at),
    y0: 0,
    y1: 1,
    line: { color: colours.muted, width: 1.2, dash: "dot" },
    label: {
      text: escapeLabel(`${name} ${version}`),
      textposition: "end",
      font: { size: 11, color: colours.muted },
    },
  }));

/**
 * A line at the explained time.
 *
 * @param {Timeline} timeline
 * @param {Colours} colours
 */
function markTime({ at }, colours) {
  if (at === null) return [];
  const line = { color: colours.accent, width: 1.5 };
  const x = toWallClock(at);
  return [{ type: "line", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line }];
}

/**
 * @param {Grid} grid
 * @param {string} feature
 * @param {Quantity} quantity
 */
const getValues = (grid, feature, quantity) =>
  grid.map(({ row }) => row?.getValue(feature, quantity) ?? null);

/**
 * @param {Colours} colours
 * @param {object} options
 */
const createAxis = (colours, options) => ({
  gridcolor: colours.line, zeroline: false, fixedrange: true, tickcolor: colours.line, ...options,
});

/**
 * Draw the elevation of all features over time in steps of colour.
 *
 * @param {HTMLElement} element
 * @param {Timeline} timeline
 * @param {string[]} features from the top down
 */
export function drawHeatMap(element, timeline, features) {
  const colours = readColours();
  const grid = fillGaps(timeline.rows, timeline.step);
  const margin = getLabelPixels(element);
  const height = features.length * ROW_PIXELS + 44;
  const layout = createLayout(element, timeline.range, margin, height, colours);
  layout.hovermode = "closest";
  layout.yaxis = createAxis(colours, {
    showgrid: false,
    range: [features.length - 0.5, -0.5],
    tickvals: features.map((_, row) => row),
    ticktext: shortenNames(features, Math.floor((margin - 14) / WIDE_LETTER_PIXELS)).map(escapeLabel),
  });
  layout.shapes = markTime(timeline, colours);
  const elevations = features.map((name) => getValues(grid, name, "elevation"));
  const steps = colours.heat.length;
  const trace = {
    type: "heatmap",
    x: grid.map(({ at }) => toWallClock(at)),
    y: features.map((_, row) => row),
    z: elevations.map((row) => row.map(toHeatStep)),
    text: elevations.map((row) => row.map((elevation) => formatMultiple(elevation))),
    customdata: features.map((name) => grid.map(() => escapeLabel(name))),
    zmin: 0,
    zmax: HEAT_STEPS.length,
    colorscale: colours.heat.flatMap((colour, step) => [
      [step / steps, colour], [(step + 1) / steps, colour],
    ]),
    showscale: false,
    hoverongaps: false,
    // Without a gap plotly renders the map in a way that the content security policy forbids.
    ygap: 1,
    hovertemplate: "%{customdata}: %{text} × baseline, %{x|%H:%M:%S}<extra></extra>",
  };
  element.setAttribute("aria-label", describeHeatMap(timeline, features));
  const hatched = hatchUnscored(timeline, -0.5, features.length - 0.5, colours);
  return drawChart(element, [trace, ...hatched], layout, timeline);
}

/**
 * The space for labels left of the score and the heat map, which share their time axis.
 *
 * @param {HTMLElement} element
 */
const getLabelPixels = (element) => (element.clientWidth < 560 ? 104 : 190);

/** @param {?number} elevation */
const toHeatStep = (elevation) =>
  elevation === null ? null : HEAT_STEPS.findLastIndex((least) => elevation >= least) + 0.5;

/**
 * @param {Timeline} timeline
 * @param {string[]} features
 */
function describeHeatMap({ rows }, features) {
  /** @param {string} name */
  const findHighest = (name) => Math.max(...rows.map((row) => row.getValue(name, "elevation") ?? 0));
  const worst = features
    .slice(0, 3)
    .map((name) => `${name} up to ${formatMultiple(findHighest(name))}`);
  return `Error of each feature as a multiple of its baseline: ${worst.join(", ")}. ` +
    "The table of all features has the values.";
}

/**
 * Names shortened to a length, no two of them alike.
 *
 * @param {string[]} names
 * @param {number} length letters
 */
function shortenNames(names, length) {
  const short = names.map((name) => shorten(name, length));
  const apart = names.map((name, place) => {
    const alike = names.filter((_, other) => other !== place && short[other] === short[place]);
    return alike.length ? shortenApart(name, alike, length) : short[place];
  });
  return apart.map((label, place) => {
    const isAlone = apart.indexOf(label) === apart.lastIndexOf(label);
    return isAlone ? label : `${label.slice(0, length - 4)}…${place + 1}`;
  });
}

/**
 * A name with what is left out in front of where it parts from others.
 *
 * @param {string} name
 * @param {string[]} others
 * @param {number} length letters
 */
function shortenApart(name, others, length) {
  const parting = Math.max(...others.map((other) => countCommonLetters(name, other)));
  const start = Math.min(parting, Math.max(name.length - length + 4, 0));
  if (start < 4) return `${name.slice(0, length - 1)}…`;
  return `${name.slice(0, 3)}…${name.slice(start, start + length - 4)}`;
}

/**
 * How many letters two names have in common from the start.
 *
 * @param {string} name
 * @param {string} other
 */
function countCommonLetters(name, other) {
  let count = 0;
  while (count < name.length && name[count] === other[count]) count += 1;
  return count;
}

/**
 * A name with its middle left out if it is too long.
 *
 * @param {string} name
 * @param {number} length letters
 */
function shorten(name, length) {
  const half = Math.floor(length / 2);
  return name.length <= length ? name : `${name.slice(0, half)}…${name.slice(1 - half)}`;
}

/**
 * Draw the observed and expected values of one feature, in its own unit.
 *
 * @param {HTMLElement} element
 * @param {Timeline} timeline
 * @param {string} feature
 */
export function drawFeature(element, timeline, feature) {
  const colours = readColours();
  const grid = fillGaps(timeline.rows, timeline.step);
  const times = grid.map(({ at }) => toWallClock(at));
  const expected = getValues(grid, feature, "expected");
  const observed = getValues(grid, feature, "observed");
  const isLarge = [...expected, ...observed].some((value) => Math.abs(value ?? 0) >= 1e4);
  const format = isLarge ? "~s" : "~g";
  const layout = createLayout(element, timeline.range, 52, 150, colours);
  layout.hovermode = "x unified";
  layout.yaxis = createAxis(colours, { nticks: 4, tickformat: `.3${format}` });
  layout.shapes = [...shadeStates(timeline, colours, 1), ...markTime(timeline, colours)];
  /** @param {(number | null)[]} y @param {string} name @param {object} line */
  const createTrace = (y, name, line) => ({
    x: times, y, mode: "lines", line, hovertemplate: `%{y:.4${format}} ${name}<extra></extra>`,
  });
  const traces = [
    createTrace(expected, "expected", { color: colours.muted, width: 1.4, dash: "dot" }),
    createTrace(observed, "observed", { color: colours.accent, width: 1.6 }),
  ];
  element.setAttribute("aria-label", describeFeature(timeline, feature));
  return drawChart(element, traces, layout, timeline);
}

/**
 * @param {Timeline} timeline
 * @param {string} feature
 */
function describeFeature({ rows, at }, feature) {
  const row = at === null ? rows.at(-1) : findNearest(rows, at);
  /** @param {Quantity} quantity */
  const format = (quantity) => formatNumber(row?.getValue(feature, quantity));
  return `${feature}: observed ${format("observed")}, expected ${format("expected")}.`;
}
