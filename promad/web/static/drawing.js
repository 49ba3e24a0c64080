/** Getting plotly's script and drawing with it, in the page's own colours and time zone. */

let loading = null;

/** plotly, loaded when it is first needed: the list of groups does without. */
export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    letStylesBeSheets();
    const script = document.createElement("script");
    script.src = new URL("plotly.min.js", import.meta.url);
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => {
      loading = null;
      script.remove();
      reject(new Error("the charts' script could not be loaded"));
    });
    document.head.append(script);
  });
  return loading;
}

/**
 * plotly writes its rules into <style> elements, which the content security policy forbids. It
 * gets a stand-in that has a constructed sheet, which the policy allows.
 */
function letStylesBeSheets() {
  const create = document.createElement.bind(document);
  document.createElement = (name, options) => {
    if (name !== "style") return create(name, options);
    const sheet = new CSSStyleSheet();
    document.adoptedStyleSheets.push(sheet);
    return Object.defineProperty(create("template"), "sheet", { value: sheet });
  };
}

/** Text as plotly shows it literally: it would read tags and entities. */
export const literal = (text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** The colours that page.css gives charts. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "muted", "line", "surface", "accent", "anomalous", "shade", "idle"];
  const colour = (name) => style.getPropertyValue(`--${name}`);
  const heat = [0, 1, 2, 3, 4, 5].map((step) => colour(`heat-${step}`));
  return { ...Object.fromEntries(names.map((name) => [name, colour(name)])), heat };
}

/** Unix seconds as the viewer's clock has them, in words: plotly knows no time zones. */
export function wall(at) {
  if (Number.isNaN(at)) return null;
  const offset = new Date(at * 1000).getTimezoneOffset() * 60;
  return new Date((at - offset) * 1000).toISOString().slice(0, -1);
}

/** Unix seconds of a time of the viewer's clock, as plotly gives it back. */
export function fromWall(text) {
  const asUtc = Date.parse(`${text.replace(" ", "T").padEnd(11, "T00:00")}Z`);
  const offset = new Date(asUtc).getTimezoneOffset() * 60_000;
  return (asUtc + new Date(asUtc + offset).getTimezoneOffset() * 60_000) / 1000;
}

/** Draw, or change what is drawn, and let the pointer choose ranges and moments. */
export async function draw(element, traces, layout, { onRange, onMoment }) {
  const Plotly = await plotly();
  const first = !element.classList.contains("js-plotly-plot");
  await Plotly.react(element, traces, layout, {
    displayModeBar: false, doubleClick: false, showTips: false, scrollZoom: false,
  });
  if (!first) return;
  element.on("plotly_relayout", (change) => {
    const [start, end] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (start !== undefined && end !== undefined) onRange(fromWall(start), fromWall(end));
  });
  element.on("plotly_click", ({ points }) => onMoment(fromWall(points[0].x)));
}

/** What every chart's layout has in common; `range` is {start, end} in unix seconds. */
export function layout(element, range, margin, height, look) {
  return {
    width: element.clientWidth,
    height,
    margin: { t: 6, b: 38, l: margin, r: 10, pad: 0 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12, color: look.muted },
    // On a touch screen a drag scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hovermode: "x",
    hoverlabel: { bgcolor: look.surface, bordercolor: look.line, font: { color: look.ink } },
    showlegend: false,
    xaxis: {
      type: "date",
      range: [wall(range.start), wall(range.end)],
      showgrid: false,
      zeroline: false,
      linecolor: look.line,
      tickcolor: look.line,
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
