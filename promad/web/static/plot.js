/** Loading plotly and drawing with it, in the colours of the page and the viewer's time zone. */

/** @type {?Promise<Plotly>} */
let loading = null;

/** plotly, loaded on first use: the list of groups does not need it. */
export function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = String(new URL("plotly.min.js", import.meta.url));
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => {
      loading = null;
      script.remove();
      reject(new Error("could not load plotly.min.js"));
    });
    document.head.append(script);
  });
  return loading;
}

/**
 * Text that plotly shows literally: it interprets tags and entities.
 *
 * @param {string} text
 */
export const escapeLabel = (text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** The colours of charts, from page.css; `heat` has one for each step of the heat map. */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const [ink, muted, line, surface, accent, anomalous, shade, idle, ...heat] = [
    "ink", "muted", "line", "surface", "accent", "anomalous", "shade", "idle",
    "heat-0", "heat-1", "heat-2", "heat-3", "heat-4", "heat-5",
  ].map((name) => style.getPropertyValue(`--${name}`));
  return { ink, muted, line, surface, accent, anomalous, shade, idle, heat };
}

/** @typedef {ReturnType<typeof readColours>} Colours */

/**
 * The viewer's wall-clock time for plotly, which has no time zones; null for NaN.
 *
 * @param {number} at unix seconds
 */
export function toWallClock(at) {
  if (Number.isNaN(at)) return null;
  const offset = new Date(at * 1000).getTimezoneOffset() * 60;
  return new Date((at - offset) * 1000).toISOString().slice(0, -1);
}

/**
 * Unix seconds of a wall-clock time, as plotly returns it.
 *
 * @param {string} text
 */
export function fromWallClock(text) {
  const asUtc = Date.parse(`${text.replace(" ", "T").padEnd(16, "T00:00")}Z`);
  const offset = new Date(asUtc).getTimezoneOffset() * 60_000;
  return (asUtc + new Date(asUtc + offset).getTimezoneOffset() * 60_000) / 1000;
}

/**
 * Draw or update a chart. The pointer selects ranges and times.
 *
 * @param {HTMLElement} element
 * @param {object[]} traces
 * @param {object} layout
 * @param {{onRange: (start: number, end: number) => void, onTime: (at: number) => void}} handlers
 *   unix seconds
 */
export async function drawChart(element, traces, layout, { onRange, onTime }) {
  const plotly = await loadPlotly();
  const isNew = !element.classList.contains("js-plotly-plot");
  await plotly.react(element, traces, layout, {
    displayModeBar: false, doubleClick: false, showTips: false, scrollZoom: false,
  });
  if (!isNew) return;
  const chart = /** @type {PlotlyElement} */ (element);
  chart.on("plotly_relayout", (change) => {
    const [start, end] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (start !== undefined && end !== undefined) onRange(fromWallClock(start), fromWallClock(end));
  });
  chart.on("plotly_click", ({ points }) => onTime(fromWallClock(points[0].x)));
}

/**
 * The layout that all charts share.
 *
 * @param {HTMLElement} element
 * @param {{start: number, end: number}} range unix seconds
 * @param {number} margin pixels left of the plot
 * @param {number} height pixels
 * @param {Colours} colours
 * @returns {Record<string, any>}
 */
export function createLayout(element, range, margin, height, colours) {
  return {
    width: element.clientWidth,
    height,
    margin: { t: 6, b: 38, l: margin, r: 10, pad: 0 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: colours.muted },
    // On a touch screen a drag scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hovermode: "x",
    hoverlabel: {
      bgcolor: colours.surface, bordercolor: colours.line, font: { color: colours.ink },
    },
    showlegend: false,
    xaxis: {
      type: "date",
      range: [toWallClock(range.start), toWallClock(range.end)],
      showgrid: false,
      zeroline: false,
      linecolor: colours.line,
      tickcolor: colours.line,
      ticks: "outside",
      nticks: Math.max(3, Math.round(element.clientWidth / 95)),
      hoverformat: "%H:%M:%S",
      tickformatstops: [
        { dtickrange: [null, 60_000], value: "%H:%M:%S" },
        { dtickrange: [60_000, 86_400_000], value: "%H:%M\n%b %-d" },
        { dtickrange: [86_400_000, null], value: "%b %-d\n%Y" },
      ],
    },
  };
}
