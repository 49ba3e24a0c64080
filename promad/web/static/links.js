/** Addresses in Prometheus and Grafana for expressions and a time range in unix seconds. */

/** The address below a server's own, or null where that is no web address. */
function below(base, path, parameters) {
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

/** One graph for each expression in Prometheus. */
export function prometheusLink(base, expressions, { start, end }) {
  const range = `${Math.max(60, Math.ceil(end - start))}s`;
  const until = new Date(Math.ceil(end) * 1000).toISOString().slice(0, 19).replace("T", " ");
  const parameters = expressions.flatMap((expr, place) => [
    [`g${place}.expr`, expr],
    [`g${place}.tab`, "0"],
    [`g${place}.range_input`, range],
    [`g${place}.end_input`, until],
  ]);
  return below(base, "/graph", parameters);
}

/** promad's dashboard in Grafana. */
export function dashboardLink(base, { start, end }) {
  return below(base, "/d/promad", { from: milliseconds(start), to: milliseconds(end) });
}

/** One expression in Grafana's Explore, on the data source that is its default. */
export function exploreLink(base, expr, { start, end }) {
  const pane = {
    queries: [{ refId: "A", expr, editorMode: "code", range: true }],
    range: { from: milliseconds(start), to: milliseconds(end) },
  };
  return below(base, "/explore", { schemaVersion: "1", panes: JSON.stringify({ promad: pane }) });
}

const milliseconds = (seconds) => String(Math.round(seconds * 1000));
