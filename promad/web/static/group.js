/** One group: whether it is wrong, since when, what drives it, and what has been before. */

import { plotly } from "./drawing.js";
import { byId, make, say, showState } from "./elements.js";
import { EventTable } from "./events.js";
import { FeatureTable, fillLinks } from "./features.js";
import { clock, duration, fillTime, multiple, timeElement, withTimes } from "./format.js";
import { heldSince, nearest, ranked } from "./history.js";
import { dashboardLink, prometheusLink } from "./links.js";
import { MULTIPLES, Pictures } from "./pictures.js";
import { Watch } from "./watching.js";

const OWN_KEYS = ["group", "range", "start", "end", "at"];

export class GroupView {
  #watch = null;
  #pictures = new Pictures();
  #features = new FeatureTable();
  #events = new EventTable();

  /** `go(change)` changes what the page shows. */
  constructor(go) {
    this.go = (change) => go({ group: this.#watch.view.group, ...change });
    for (const button of document.querySelectorAll("[data-range]")) {
      button.addEventListener("click", () => this.go(live(button.dataset.range)));
    }
    byId("live").addEventListener("click", () => this.go(live("1h")));
    byId("now").addEventListener("click", () => this.go({ at: null }));
    byId("older-events").addEventListener("click", () => this.#watch.fetchOlderEvents());
  }

  /** Show a group, or the same one otherwise. */
  open(view) {
    const before = this.#watch?.view;
    if (before && OWN_KEYS.every((key) => before[key] === view[key])) return;
    if (before?.group === view.group) {
      this.#watch.turnTo(view);
      this.#render();
    } else {
      this.#begin(view);
    }
    this.#watch.look();
  }

  /** Look again at once. */
  refresh() {
    this.#watch?.look();
  }

  /** Stop asking about the group that was shown. */
  close() {
    this.#watch?.stop();
    this.#watch = null;
    this.#pictures.forget();
  }

  #begin(view) {
    this.close();
    const watch = new Watch(view, () => this.#changed(watch), (error) => this.#failed(error));
    this.#watch = watch;
    say(byId("group-name"), view.group);
    byId("group").dataset.known = "false";
    delete byId("group").dataset.drawn;
    byId("group-lost").hidden = true;
    // Meanwhile; whoever draws says it if it fails.
    plotly().catch(() => {});
  }

  #changed(watch) {
    if (watch !== this.#watch) return;
    byId("group-lost").hidden = true;
    this.#render();
  }

  #failed(error) {
    const at = this.#watch?.detail ? ` What is below was so at ${clock(this.#watch.now)}.` : "";
    say(byId("group-lost"), `No news of this group: ${error.message}.${at}`);
    byId("group-lost").hidden = false;
  }

  #render() {
    const watch = this.#watch;
    if (!watch.detail) return;
    byId("group").dataset.known = "true";
    const names = ranked(scored(watch.detail), watch.shown, watch.view.at);
    renderHeadline(watch);
    renderMoment(watch);
    renderRanges(watch, names.slice(0, MULTIPLES));
    this.#renderFeatures(watch);
    this.#events.update(watch.events, watch.hasOlderEvents, watch.view, watch.now);
    renderFacts(watch.detail);
    byId("score-empty").hidden = watch.shown.length > 0 || !watch.isKnown;
    const states = watch.explanation?.features ?? [];
    this.#pictures.show(watch.view.group, this.#picture(watch), names, states);
  }

  #renderFeatures(watch) {
    const { detail, now, rows } = watch;
    const { at } = watch.view;
    const when = clock(at ?? detail.explanation.at, now);
    say(byId("features-when"), `at ${when}, largest share of the excess first`);
    this.#features.update({
      queries: detail.queries,
      states: watch.explanation?.features ?? [],
      row: at === null ? rows.at(-1) ?? null : nearest(rows, at),
      detail,
      range: watch.range,
      now,
    });
  }

  #picture({ view, shown, detail, range, now }) {
    const kept = (start, end) => (view.at >= start && view.at <= end ? view.at : null);
    return {
      rows: shown,
      step: detail.step_seconds,
      range,
      at: view.at,
      now,
      onRange: (start, end) => this.go({ range: null, start, end, at: kept(start, end) }),
      onMoment: (at) => this.go({ at }),
    };
  }
}

const live = (range) => ({ range, start: null, end: null, at: null });

const scored = (detail) => detail.queries.filter((query) => query.scored).map(({ name }) => name);

function renderHeadline(watch) {
  const { group, explanation, failed_queries: failed } = watch.detail;
  document.querySelector(".headline").dataset.state = group.state;
  showState(byId("group-state"), group.state);
  byId("group-since").replaceChildren(...since(watch));
  const [figure, unit] = byId("group-score").children;
  say(figure, group.score === null ? "" : `${multiple(group.score)} ×`);
  say(unit, group.score === null ? "no score" : "threshold");
  sayWithTimes(byId("paragraph"), explanation.paragraph, group.at);
  // Without a score the paragraph says it.
  const why = group.score === null ? "" : group.why;
  const entries = Object.entries(failed);
  say(byId("why"), why);
  byId("failed").replaceChildren(
    ...entries.flatMap(([alias, reason]) => [make("dt", alias), make("dd", reason)]),
  );
  byId("failed-title").hidden = !entries.length;
  byId("troubles").hidden = !why && !entries.length;
}

/** "since 02:41:05, 23 min", as far as it is known. */
function since({ detail: { group }, rows, view }) {
  if (group.anomalous_since !== null) return told("since ", group.anomalous_since, group.at);
  const newest = view.range === null ? null : rows.at(-1);
  if (newest?.state !== group.state) return [];
  const held = heldSince(rows);
  if (held.atLeast) return ["since before ", timeElement(held.since, group.at)];
  return told("since ", held.since, group.at);
}

const told = (words, at, now) => [words, timeElement(at, now), `, ${duration(now - at)}`];

function renderMoment({ view: { at }, explanation, now }) {
  byId("moment").hidden = at === null;
  if (at === null) return;
  fillTime(byId("moment-title").firstElementChild, at, now);
  const words = explanation?.paragraph ?? "No sample of then is kept any more.";
  sayWithTimes(byId("moment-text"), words, now);
}

/** Put a text with times into an element, unless it is there. */
function sayWithTimes(element, words, now) {
  if (element.dataset.words === words) return;
  element.dataset.words = words;
  element.replaceChildren(...withTimes(words, now));
}

/** The range, and links to the features `top` in it. */
function renderRanges({ view, detail, range, now }, top) {
  for (const button of document.querySelectorAll("[data-range]")) {
    button.setAttribute("aria-pressed", String(button.dataset.range === view.range));
  }
  byId("live").hidden = view.range !== null;
  const ends = [timeElement(range.start, now), " – ", timeElement(range.end, now)];
  byId("range-text").replaceChildren(...ends);
  const { prometheus_url: prometheus, grafana_url: grafana } = detail;
  const expressions = top.map((name) => detail.queries.find((query) => query.name === name).expr);
  fillLinks(byId("range-links"), [
    ["Prometheus", prometheusLink(prometheus, expressions, range)],
    ["Grafana", grafana && dashboardLink(grafana, range)],
  ], "this time range");
}

function renderFacts({ group, model, bundle, step_seconds: step, window_size: size }) {
  const facts = {
    Detector: group.detector,
    Model: model,
    Bundle: bundle,
    Step: duration(step),
    Window: `${size} samples, ${group.samples_in_window} complete`,
    Events: `${group.events_begun} since the daemon started`,
  };
  byId("facts").replaceChildren(...Object.entries(facts).map(([name, text]) => {
    const fact = make("div", "");
    fact.append(make("dt", name), make("dd", text));
    return fact;
  }));
}
