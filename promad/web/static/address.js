/** The view of the page in its address, so that a copied address shows the same view. */

/**
 * What the page shows.
 *
 * group: name of a group, or null for the list; incident: id of an incident, or null; shard: that of
 * the group or incident, or null without shards; range: a key of LIVE_RANGES, or null where start and
 * end (unix seconds) are given; at: the explained time, or null for now; search, state and sort: the
 * filters and the order of the list.
 *
 * @typedef {{group: ?string, incident: ?string, shard: ?number, range: ?string, start: ?number, end: ?number,
 *   at: ?number, search: string, state: ?string, sort: string}} View
 */

/**
 * The ranges that end at the newest sample, in seconds; `all` is all samples of the daemon.
 *
 * @type {Record<string, number>}
 */
export const LIVE_RANGES = { "15m": 900, "1h": 3600, "6h": 21600, all: Infinity };
const DEFAULT_RANGE = "1h";
const STATES = ["anomalous", "blind", "warming", "ok"];
const SORTS = ["worst", "score", "name"];
const MAX_SEARCH = 200;

/**
 * The view that a query string describes; invalid values fall back to the defaults.
 *
 * @param {string} query
 * @returns {View}
 */
export function readAddress(query) {
  const given = new URLSearchParams(query);
  const [start, end, at] = ["start", "end", "at"].map((name) => parseTime(given.get(name)));
  const range = given.get("range");
  const live = range !== null && Object.hasOwn(LIVE_RANGES, range) ? range : DEFAULT_RANGE;
  const isFixed = start !== null && end !== null && start < end;
  return {
    group: given.get("group"),
    incident: given.get("incident"),
    shard: parseShard(given),
    range: isFixed ? null : live,
    start: isFixed ? start : null,
    end: isFixed ? end : null,
    at,
    search: (given.get("search") ?? "").slice(0, MAX_SEARCH),
    state: STATES.find((state) => state === given.get("state")) ?? null,
    sort: SORTS.find((sort) => sort === given.get("sort")) ?? SORTS[0],
  };
}

/**
 * The query string of a view, without default values.
 *
 * @param {View} view
 */
export function writeAddress(view) {
  const { group, incident, shard, range, start, end, at, search, state, sort } = view;
  const query = new URLSearchParams();
  if (shard !== null && (group ?? incident) !== null) query.set("shard", String(shard));
  if (group !== null) {
    query.set("group", group);
    if (start !== null && end !== null) {
      query.set("start", formatTime(start));
      query.set("end", formatTime(end));
    } else if (range !== null && range !== DEFAULT_RANGE) {
      query.set("range", range);
    }
    if (at !== null) query.set("at", formatTime(at));
  } else if (incident !== null) {
    query.set("incident", incident);
  }
  if (search) query.set("search", search);
  if (state) query.set("state", state);
  if (sort !== SORTS[0]) query.set("sort", sort);
  // Colons and commas are valid in a query and easier to read.
  const text = query.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
  return text ? `?${text}` : "./";
}

/**
 * The shard of the group or incident that a query string names; null without one.
 *
 * @param {URLSearchParams} given
 */
function parseShard(given) {
  const text = given.get("shard") ?? "";
  const isNamed = given.has("group") || given.has("incident");
  return isNamed && /^[0-9]{1,6}$/.test(text) ? Number(text) : null;
}

/**
 * ISO 8601 or unix seconds as unix seconds; null for other text.
 *
 * @param {?string} text
 */
function parseTime(text) {
  if (text === null || text.trim() === "") return null;
  const value = Number.isNaN(Number(text)) ? Date.parse(text) / 1000 : Number(text);
  return Number.isFinite(value) ? value : null;
}

/** @param {number} at unix seconds */
const formatTime = (at) => new Date(Math.round(at) * 1000).toISOString().replace(".000", "");
