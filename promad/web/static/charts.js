/** The three kinds of chart: the score, the heat map of features, one feature's two lines. */

import { colours, draw, layout, literal, wall } from "./drawing.js";
import { clock, multiple, number } from "./format.js";
import { nearest, regular, stretches } from "./history.js";

/** Elevations from which on the heat map's colours hold; 1 is what is usual. */
export const HEAT_FROM = [0, 1, 2, 4, 8, 16];
const ROW_PIXELS = 20;
const LETTER_PIXELS = 7;
const LOG_FROM = 20;

/**
 * What is drawn: rows of history.js, seconds from one to the next, the {start, end} shown, the
 * moment that is explained or null, the newest time, and what to do when the pointer chooses.
 *
 * @typedef {{rows: object[], step: number, range: {start: number, end: number}, at: ?number,
 *   now: number, onRange: Function, onMoment: Function}} Picture
 */

/** The score beside the threshold; events shaded, stretches without a score hatched and named. */
export function drawScore(element, picture) {
  const look = colours();
  const grid = regular(picture.rows, picture.step);
  const scores = grid.map(({ row }) => row?.score ?? null);
  const peak = Math.max(1.25, ...scores);
  const log = peak > LOG_FROM;
  const top = log ? peak * 1.4 : peak * 1.1;
  const bottom = log ? 0.01 : 0;
  const plan = layout(element, picture.range, labelPixels(element), 220, look);
  plan.yaxis = axis(look, {
    range: log ? [Math.log10(bottom), Math.log10(top)] : [0, top],
    type: log ? "log" : "linear",
    nticks: 5,
  });
  const pixels = element.clientWidth - labelPixels(element);
  plan.shapes = [...shades(picture, look, pixels), ...limit(picture, look), ...mark(picture, look)];
  const times = grid.map(({ at }) => wall(at));
  const states = grid.map(({ row }) => row?.state ?? "");
  const line = {
    x: times,
    y: log ? scores.map((score) => score && Math.max(score, bottom)) : scores,
    customdata: states,
    mode: "lines",
    line: { color: look.ink, width: 1.6 },
    hovertemplate: "%{y:.3~g} × threshold, %{customdata}<extra></extra>",
  };
  const { xs, ys } = excess(grid);
  const over = {
    x: xs.map(wall), y: ys, mode: "none", fill: "toself", fillcolor: look.anomalous, opacity: 0.35,
    hoverinfo: "skip",
  };
  element.setAttribute("aria-label", scoreInWords(picture, scores));
  return draw(element, [...unscored(picture, bottom, top, look), over, line], plan, picture);
}

function scoreInWords({ rows, range, now }, scores) {
  const known = scores.filter((score) => score !== null);
  const span = `Score over threshold from ${clock(range.start, now)} to ${clock(range.end, now)}`;
  if (!known.length) return `${span}: none is known.`;
  const highest = rows.find((row) => row.score === Math.max(...known));
  return (
    `${span}: highest ${multiple(highest.score)} at ${clock(highest.at, now)}, ` +
    `last ${multiple(known.at(-1))}.`
  );
}

/** Polygons between 1 and the score wherever that is above, their feet where it crosses 1. */
function excess(grid) {
  const xs = [];
  const ys = [];
  const add = (x, y) => { xs.push(x); ys.push(y); };
  grid.forEach(({ at, row }, place) => {
    const before = grid[place - 1];
    const score = row?.score ?? null;
    const last = before?.row?.score ?? null;
    if (score !== null && score > 1) {
      if (last === null) add(at, 1);
      else if (last <= 1) add(crossing(before.at, last, at, score), 1);
      add(at, score);
    } else if (last !== null && last > 1) {
      add(score === null ? before.at : crossing(before.at, last, at, score), 1);
      add(null, null);
    }
  });
  if (ys.length && ys.at(-1) !== null) add(xs.at(-1), 1);
  return { xs: xs.map((x) => x ?? NaN), ys };
}

const crossing = (at, score, next, other) => at + ((next - at) * (1 - score)) / (other - score);

/** Hatched areas, one trace a state. */
function unscored({ rows, step }, bottom, top, look) {
  const pattern = { blind: "/", warming: "." };
  return Object.entries(pattern).map(([state, shape]) => {
    const parts = stretches(rows, step).filter((stretch) => stretch.state === state);
    return {
      x: parts.flatMap(({ start, end }) => [start, start, end, end, NaN].map(wall)),
      y: parts.flatMap(() => [bottom, top, top, bottom, null]),
      mode: "none",
      fill: "toself",
      fillcolor: look.idle,
      fillpattern: { shape, fgcolor: look.idle, bgcolor: "rgba(0,0,0,0)", size: 7, solidity: 0.25 },
      hoverinfo: "skip",
    };
  });
}

/** Shaded events, and the names of states where they fit into `pixels` for the whole range. */
function shades({ rows, step, range }, look, pixels) {
  const letter = ((range.end - range.start) / pixels) * LETTER_PIXELS;
  return stretches(rows, step)
    .filter(({ state }) => state !== "ok")
    .map(({ state, start, end }) => ({
      type: "rect",
      layer: "below",
      yref: "paper",
      y0: 0,
      y1: 1,
      x0: wall(start),
      x1: wall(end),
      line: { width: 0 },
      fillcolor: state === "anomalous" ? look.shade : "rgba(0,0,0,0)",
      label: {
        text: end - start > letter * state.length ? state : "",
        textposition: "top left",
        font: { size: 11, color: look.muted },
      },
    }));
}

function limit({ range }, look) {
  return [{
    type: "line",
    x0: wall(range.start),
    x1: wall(range.end),
    y0: 1,
    y1: 1,
    line: { color: look.anomalous, width: 1.2, dash: "dash" },
    label: { text: "threshold", textposition: "start", font: { size: 11, color: look.anomalous } },
  }];
}

function mark({ at }, look) {
  if (at === null) return [];
  const line = { color: look.accent, width: 1.5 };
  return [{ type: "line", yref: "paper", x0: wall(at), x1: wall(at), y0: 0, y1: 1, line }];
}

const valuesOf = (grid, feature, what) =>
  grid.map(({ row }) => row?.value(feature, what) ?? null);

const axis = (look, more) => ({
  gridcolor: look.line, zeroline: false, fixedrange: true, tickcolor: look.line, ...more,
});

/** The elevation of every feature over time, in steps of colour; `features` from the top down. */
export function drawHeat(element, picture, features) {
  const look = colours();
  const grid = regular(picture.rows, picture.step);
  const margin = labelPixels(element);
  const plan = layout(element, picture.range, margin, features.length * ROW_PIXELS + 44, look);
  plan.hovermode = "closest";
  plan.yaxis = axis(look, {
    showgrid: false,
    range: [features.length - 0.5, -0.5],
    tickvals: features.map((_, row) => row),
    ticktext: features.map((name) => literal(shortened(name, (margin - 14) / LETTER_PIXELS))),
  });
  plan.shapes = mark(picture, look);
  const elevations = features.map((name) => valuesOf(grid, name, "elevation"));
  const trace = {
    type: "heatmap",
    x: grid.map(({ at }) => wall(at)),
    y: features.map((_, row) => row),
    z: elevations.map((row) => row.map(heatStep)),
    text: elevations.map((row) => row.map(multiple)),
    customdata: features.map((name) => grid.map(() => literal(name))),
    zmin: 0,
    zmax: HEAT_FROM.length,
    colorscale: look.heat.flatMap((colour, step) => [
      [step / look.heat.length, colour], [(step + 1) / look.heat.length, colour],
    ]),
    showscale: false,
    hoverongaps: false,
    // A gap also keeps plotly from a way of drawing that the content security policy forbids.
    ygap: 1,
    hovertemplate: "%{customdata}: %{text} × usual, %{x|%H:%M:%S}<extra></extra>",
  };
  element.setAttribute("aria-label", heatInWords(picture, features));
  const hatched = unscored(picture, -0.5, features.length - 0.5, look);
  return draw(element, [trace, ...hatched], plan, picture);
}

/** Beside the score and the heat map, which share their times, there is room for names. */
const labelPixels = (element) => (element.clientWidth < 560 ? 92 : 190);

const heatStep = (elevation) =>
  elevation === null ? null : HEAT_FROM.findLastIndex((from) => elevation >= from) + 0.5;

function heatInWords({ rows }, features) {
  const highest = (name) => Math.max(...rows.map((row) => row.value(name, "elevation") ?? 0));
  const worst = features.slice(0, 3).map((name) => `${name} up to ${multiple(highest(name))}`);
  return `Error of each feature over what is usual for it: ${worst.join(", ")}. ` +
    "The table of every feature has the values.";
}

function shortened(name, length) {
  const half = Math.floor(length / 2);
  return name.length <= length ? name : `${name.slice(0, half)}…${name.slice(1 - half)}`;
}

/** What one feature was and what it would have been, in its own unit. */
export function drawFeature(element, picture, feature) {
  const look = colours();
  const grid = regular(picture.rows, picture.step);
  const times = grid.map(({ at }) => wall(at));
  const plan = layout(element, picture.range, 52, 150, look);
  plan.hovermode = "x unified";
  const lines = ["expected", "observed"].map((what) => valuesOf(grid, feature, what));
  const format = lines.flat().some((value) => Math.abs(value) >= 1e4) ? "~s" : "~g";
  plan.yaxis = axis(look, { nticks: 4, tickformat: `.3${format}` });
  plan.shapes = [...shades(picture, look, 1), ...mark(picture, look)];
  const trace = (y, what, line) => ({
    x: times, y, mode: "lines", line, hovertemplate: `%{y:.4${format}} ${what}<extra></extra>`,
  });
  const traces = [
    trace(lines[0], "expected", { color: look.muted, width: 1.4, dash: "dot" }),
    trace(lines[1], "observed", { color: look.accent, width: 1.6 }),
  ];
  element.setAttribute("aria-label", featureInWords(picture, feature));
  return draw(element, traces, plan, picture);
}

function featureInWords({ rows, at }, feature) {
  const row = at === null ? rows.at(-1) : nearest(rows, at);
  const value = (what) => number(row?.value(feature, what));
  return `${feature}: observed ${value("observed")}, expected ${value("expected")}.`;
}
