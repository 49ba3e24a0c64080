/** What the page shows, as its own address tells it: share the one and you share the other. */

/** The ranges that follow the newest sample, in seconds; `all` is whatever the daemon keeps. */
export const LIVE_RANGES = { "15m": 900, "1h": 3600, "6h": 21600, all: Infinity };
const DEFAULT_RANGE = "1h";

/**
 * The view that a query string asks for.
 *
 * group: name of a group, or null for the list; range: a key of LIVE_RANGES, or null where start
 * and end (unix seconds) are given; at: the moment that is explained, or null for now; search and
 * state: what the list is narrowed to.
 */
export function readAddress(query) {
  const given = new URLSearchParams(query);
  const [start, end, at] = ["start", "end", "at"].map((name) => seconds(given.get(name)));
  const fixed = start !== null && end !== null && start < end;
  const range = Object.hasOwn(LIVE_RANGES, given.get("range")) ? given.get("range") : DEFAULT_RANGE;
  return {
    group: given.get("group"),
    range: fixed ? null : range,
    start: fixed ? start : null,
    end: fixed ? end : null,
    at,
    search: given.get("search") ?? "",
    state: given.get("state"),
  };
}

/** The query string of a view; what is as usual is left out. */
export function writeAddress(view) {
  const asked = new URLSearchParams();
  if (view.group !== null) {
    asked.set("group", view.group);
    if (view.range === null) {
      asked.set("start", instant(view.start));
      asked.set("end", instant(view.end));
    } else if (view.range !== DEFAULT_RANGE) {
      asked.set("range", view.range);
    }
    if (view.at !== null) asked.set("at", instant(view.at));
  }
  if (view.search) asked.set("search", view.search);
  if (view.state) asked.set("state", view.state);
  // Colons and commas are fine in a query, and easier on the eye.
  const text = asked.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
  return text ? `?${text}` : "./";
}

/** ISO 8601 or unix seconds, as unix seconds; null for what is neither. */
function seconds(text) {
  if (text === null || text.trim() === "") return null;
  const value = Number.isNaN(Number(text)) ? Date.parse(text) / 1000 : Number(text);
  return Number.isFinite(value) ? value : null;
}

const instant = (at) => new Date(Math.round(at) * 1000).toISOString().replace(".000", "");
