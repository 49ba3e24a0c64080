/** Addresses in Prometheus and Grafana for expressions and a time range in unix seconds. */

/** @typedef {{start: number, end: number}} Range */

/**
 * An address below the base address of a server; null if the base is not an HTTP address.
 *
 * @param {string} base
 * @param {string} path
 * @param {string[][] | Record<string, string>} parameters
 */
function buildUrl(base, path, parameters) {
  let url;
  try {
    url = new URL(base);
  } catch {
    return null;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  url.username = url.password = "";
  url.pathname = url.pathname.replace(/\/*$/, path);
  url.search = new URLSearchParams(parameters).toString();
  return url.href;
}

/**
 * One graph for each expression in Prometheus.
 *
 * @param {string} base
 * @param {string[]} expressions
 * @param {Range} range
 */
export function linkToPrometheus(base, expressions, { start, end }) {
  const range = `${Math.max(60, Math.ceil(end - start))}s`;
  const until = new Date(Math.ceil(end) * 1000).toISOString().slice(0, 19).replace("T", " ");
  const parameters = expressions.flatMap((expr, place) => [
    [`g${place}.expr`, expr],
    [`g${place}.tab`, "0"],
    [`g${place}.range_input`, range],
    [`g${place}.end_input`, until],
  ]);
  return buildUrl(base, "/graph", parameters);
}

/**
 * promad's dashboard in Grafana.
 *
 * @param {string} base
 * @param {Range} range
 */
export function linkToDashboard(base, { start, end }) {
  return buildUrl(base, "/d/promad", { from: toMilliseconds(start), to: toMilliseconds(end) });
}

/**
 * One expression in Grafana's Explore, on its default data source.
 *
 * @param {string} base
 * @param {string} expr
 * @param {Range} range
 */
export function linkToExplore(base, expr, { start, end }) {
  const pane = {
    queries: [{ refId: "A", expr, editorMode: "code", range: true }],
    range: { from: toMilliseconds(start), to: toMilliseconds(end) },
  };
  return buildUrl(base, "/explore", { schemaVersion: "1", panes: JSON.stringify({ promad: pane }) });
}

/** @param {number} seconds */
const toMilliseconds = (seconds) => String(Math.round(seconds * 1000));
