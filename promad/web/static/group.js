/** One group: what is wrong with it, since when, what drives it, and what has been before. */

import { LIVE_RANGES, writeAddress } from "./address.js";
import { drawFeature, drawHeat, drawScore, HEAT_FROM } from "./charts.js";
import { plotly } from "./drawing.js";
import { arrange, byId, copyOf, make, part, say, sayName, showState } from "./elements.js";
import { EventTable } from "./events.js";
import { arrow, FeatureTable, fillLinks } from "./features.js";
import { clock, duration, fillTime, multiple, number, share, timeElement, withTimes } from "./format.js";
import { heldSince, merged, nearest, ranked, rowsOf, within } from "./history.js";
import { dashboardLink, prometheusLink } from "./links.js";
import { ask, Refusal, Repeater } from "./polling.js";

const MULTIPLES = 6;
const HEAT_ROWS = 20;
const EVENTS_A_PAGE = 20;
/** Samples that are asked for again: a score may still take the place of a missing one. */
const OVERLAP_SAMPLES = 5;
const [FASTEST_SECONDS, SLOWEST_SECONDS] = [2, 60];
const OWN_KEYS = ["group", "range", "start", "end", "at"];

export class GroupView {
  #view = null;
  #repeater = null;
  #detail = null;
  #rows = [];
  #complete = false;
  #events = [];
  #olderEvents = [];
  #cursor = null;
  #explained = null;
  #allRows = false;
  #drawing = null;
  #features = new FeatureTable();
  #eventTable = new EventTable();
  #multiples = new Map();

  /** `go(change)` changes what the page shows. */
  constructor(go) {
    this.go = (change) => go({ group: this.#view.group, ...change });
    for (const button of document.querySelectorAll("[data-range]")) {
      button.addEventListener("click", () => this.go(live(button.dataset.range)));
    }
    byId("live").addEventListener("click", () => this.go(live("1h")));
    byId("now").addEventListener("click", () => this.go({ at: null }));
    byId("older-events").addEventListener("click", () => this.#showOlder());
    byId("all-rows").addEventListener("click", () => {
      this.#allRows = !this.#allRows;
      this.#draw();
    });
    byId("scale").append(...HEAT_FROM.map(scaleStep));
    new ResizeObserver(() => this.#draw()).observe(byId("score"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** Show a group, or the same one otherwise. */
  open(view) {
    if (OWN_KEYS.every((key) => this.#view?.[key] === view[key])) return;
    const other = this.#view?.group !== view.group;
    const range = ["range", "start", "end"].some((key) => this.#view?.[key] !== view[key]);
    this.#view = view;
    if (other) this.#begin();
    else if (range) this.#forgetHistory();
    if (this.#explained?.at !== view.at) this.#explained = null;
    // Once the newest samples are there, a change of view is shown before they are newer.
    if (!other && this.#detail) this.#render();
    this.#repeater.now();
  }

  /** Stop asking about the group that was shown. */
  close() {
    this.#repeater?.stop();
    this.#repeater = this.#view = this.#detail = null;
  }

  #begin() {
    this.#repeater?.stop();
    this.#detail = this.#explained = null;
    this.#events = [];
    this.#olderEvents = [];
    this.#allRows = false;
    this.#forgetHistory();
    this.#repeater = new Repeater((signal) => this.#refresh(signal), () => this.#pause());
    say(byId("group-name"), this.#view.group);
    byId("group").dataset.known = "false";
    plotly().catch(() => {});
  }

  #forgetHistory() {
    this.#rows = [];
    this.#complete = false;
  }

  #pause() {
    const seconds = this.#detail?.interval_seconds ?? FASTEST_SECONDS;
    return Math.min(SLOWEST_SECONDS, Math.max(FASTEST_SECONDS, seconds));
  }

  async #refresh(signal) {
    const view = this.#view;
    const detail = await ask("group", { group: view.group }, signal);
    if (this.#view !== view) return;
    if (differs(this.#detail, detail)) this.#forgetHistory();
    const [answer, page] = await Promise.all([
      this.#askHistory(detail, view, signal),
      ask("events", { group: view.group, limit: EVENTS_A_PAGE }, signal),
    ]);
    if (this.#view !== view) return;
    this.#take(detail, view, answer, page);
    this.#explained ??= await this.#askExplanation(view, signal);
    if (this.#view === view) this.#render();
  }

  #take(detail, view, answer, page) {
    this.#detail = detail;
    if (answer) this.#rows = merged(this.#rows, rowsOf(answer));
    if (view.range !== null) this.#rows = within(this.#rows, this.#start(), Infinity);
    this.#complete = view.range === null && detail.group.at > view.end;
    this.#events = page.events;
    this.#cursor ??= page.next;
  }

  /** The samples that are not there yet; null where none are wanted. */
  #askHistory(detail, view, signal) {
    if (this.#complete) return null;
    const last = this.#rows.at(-OVERLAP_SAMPLES)?.at;
    const seconds = LIVE_RANGES[view.range];
    const start = view.range === null ? view.start : detail.group.at - seconds;
    const from = Math.max(start, last ?? -Infinity);
    return ask("history", {
      group: view.group,
      start: Number.isFinite(from) ? from : null,
      end: view.range === null ? view.end : null,
    }, signal);
  }

  /** Why it was judged so at the chosen moment; from the event where no sample is kept. */
  async #askExplanation(view, signal) {
    if (view.at === null || this.#isForgotten(view.at)) return null;
    // The newest sample not after it answers; an address has whole seconds.
    const at = view.at + 0.5;
    try {
      const answer = await ask("explain", { group: view.group, at }, signal);
      return { at: view.at, answer };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { at: view.at, answer: null };
    }
  }

  /** Whether a time is among those that are shown, and no sample of it is kept. */
  #isForgotten(at) {
    const { start, end } = this.#range();
    const row = nearest(this.#rows, at);
    return at >= start && at <= end && (row === null || row.at > at + 1);
  }

  async #showOlder() {
    const page = await ask("events", {
      group: this.#view.group, limit: EVENTS_A_PAGE, cursor: this.#cursor,
    });
    this.#olderEvents.push(...page.events);
    this.#cursor = page.next;
    this.#render();
  }

  #allEvents() {
    const newest = new Set(this.#events.map(({ id }) => id));
    return [...this.#events, ...this.#olderEvents.filter(({ id }) => !newest.has(id))];
  }

  #start() {
    return this.#detail.group.at - LIVE_RANGES[this.#view.range];
  }

  /** {start, end} of what is shown, in unix seconds. */
  #range() {
    const { range, start, end } = this.#view;
    if (range === null) return { start, end };
    const first = this.#rows[0]?.at ?? this.#detail.group.at - this.#detail.step_seconds;
    return { start: Math.max(this.#start(), first), end: this.#detail.group.at };
  }

  /** The explanation that is shown: of the chosen moment, or of now. */
  #explanation() {
    if (this.#view.at === null) return this.#detail.explanation;
    if (this.#explained?.answer) return this.#explained.answer;
    const event = this.#allEvents().find(({ peak_at: at }) => Math.abs(at - this.#view.at) < 1);
    return event ? { paragraph: event.paragraph, features: event.features } : null;
  }

  #render() {
    if (!this.#detail) return;
    byId("group").dataset.known = "true";
    this.#renderHeadline();
    this.#renderMoment();
    this.#renderRanges();
    this.#renderFeatures();
    this.#eventTable.update(
      this.#allEvents(), this.#cursor !== null, this.#view, this.#detail.group.at,
    );
    this.#renderFacts();
    this.#draw();
  }

  #renderHeadline() {
    const { group, failed_queries: failed } = this.#detail;
    document.querySelector(".headline").dataset.state = group.state;
    showState(byId("group-state"), group.state);
    byId("group-since").replaceChildren(...this.#since());
    const [figure, unit] = byId("group-score").children;
    say(figure, group.score === null ? "" : `${multiple(group.score)} ×`);
    say(unit, group.score === null ? "no score" : "threshold");
    sayWithTimes(byId("paragraph"), this.#detail.explanation.paragraph, group.at);
    // Without a score the paragraph says it.
    say(byId("why"), group.score === null ? "" : group.why);
    const entries = Object.entries(failed);
    byId("failed").replaceChildren(
      ...entries.flatMap(([alias, why]) => [make("dt", alias), make("dd", why)]),
    );
    byId("failed-title").hidden = !entries.length;
    byId("troubles").hidden = !byId("why").textContent && !entries.length;
  }

  #renderMoment() {
    const { at } = this.#view;
    byId("moment").hidden = at === null;
    if (at === null) return;
    const now = this.#detail.group.at;
    fillTime(byId("moment-title").firstElementChild, at, now);
    const words = this.#explanation()?.paragraph ?? "No sample of then is kept any more.";
    sayWithTimes(byId("moment-text"), words, now);
  }

  /** "since 02:41:05, 23 min", as far as it is known. */
  #since() {
    const { group } = this.#detail;
    let [since, words] = [group.anomalous_since, "since "];
    if (since === null) {
      if (!this.#rows.length || this.#rows.at(-1).state !== group.state) return [];
      if (this.#view.range === null) return [];
      const held = heldSince(this.#rows);
      since = held.since;
      words = held.atLeast ? "since before " : "since ";
    }
    const length = duration(group.at - since);
    return [words, timeElement(since, group.at), words === "since " ? `, ${length}` : ""];
  }

  #renderRanges() {
    const range = this.#range();
    for (const button of document.querySelectorAll("[data-range]")) {
      button.setAttribute("aria-pressed", String(button.dataset.range === this.#view.range));
    }
    byId("live").hidden = this.#view.range !== null;
    const now = this.#detail.group.at;
    byId("range-text").replaceChildren(timeElement(range.start, now), " – ", timeElement(range.end, now));
    const { prometheus_url: prometheus, grafana_url: grafana } = this.#detail;
    const expressions = this.#top().map((name) => this.#expression(name));
    fillLinks(byId("range-links"), [
      ["Prometheus", prometheusLink(prometheus, expressions, range)],
      ["Grafana", grafana && dashboardLink(grafana, range)],
    ], "this time range");
  }

  #expression(name) {
    return this.#detail.queries.find((query) => query.name === name).expr;
  }

  #scored() {
    return this.#detail.queries.filter(({ scored }) => scored).map(({ name }) => name);
  }

  #ranked() {
    return ranked(this.#scored(), this.#shown(), this.#view.at);
  }

  #top() {
    return this.#ranked().slice(0, MULTIPLES);
  }

  #shown() {
    const { start, end } = this.#range();
    return within(this.#rows, start, end);
  }

  #renderFeatures() {
    const { at } = this.#view;
    const now = this.#detail.group.at;
    const row = at === null ? this.#rows.at(-1) ?? null : nearest(this.#rows, at);
    const when = at ?? this.#detail.explanation.at;
    say(byId("features-when"), `at ${clock(when, now)}, largest share of the excess first`);
    this.#features.update({
      queries: this.#detail.queries,
      states: this.#explanation()?.features ?? [],
      row,
      detail: this.#detail,
      range: this.#range(),
      now,
    });
  }

  #renderFacts() {
    const { group, model, bundle, step_seconds: step, window_size: size } = this.#detail;
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

  /** Draw every chart; one drawing at a time, and again if something changed meanwhile. */
  async #draw() {
    if (!this.#detail || !byId("score").clientWidth) return;
    if (this.#drawing) {
      this.#drawing.again = true;
      return;
    }
    this.#drawing = { again: false };
    try {
      await this.#drawAll();
      byId("charts-note").hidden = true;
    } catch (error) {
      byId("charts-note").hidden = false;
      say(byId("charts-note"), `No charts: ${error.message}. The tables below say the same.`);
    }
    const { again } = this.#drawing;
    this.#drawing = null;
    if (again) this.#draw();
  }

  async #drawAll() {
    const picture = this.#picture();
    this.#noteEmpty(picture);
    const names = this.#ranked();
    const most = this.#allRows ? names.length : HEAT_ROWS;
    byId("all-rows").hidden = names.length <= HEAT_ROWS;
    say(byId("all-rows"), this.#allRows ? "Show fewer" : `Show all ${names.length} features`);
    await plotly();
    if (!this.#detail) return;
    await drawScore(byId("score"), picture);
    await drawHeat(byId("heat"), picture, names.slice(0, most));
    for (const [name, element] of this.#multipleElements(names)) {
      await drawFeature(element, picture, name);
    }
    byId("group").dataset.drawn = this.#view?.group ?? "";
  }

  #noteEmpty({ rows }) {
    const words = "No sample of this time range is kept any more. Prometheus may still have it.";
    byId("group").dataset.samples = String(rows.length);
    document.querySelectorAll(".panel-empty").forEach((element) => element.remove());
    if (!rows.length) byId("score").before(make("p", words, { class: "panel-empty muted" }));
  }

  #picture() {
    const { at } = this.#view;
    return {
      rows: this.#shown(),
      step: this.#detail.step_seconds,
      range: this.#range(),
      at,
      now: this.#detail.group.at,
      onRange: (start, end) =>
        this.go({ range: null, start, end, at: at >= start && at <= end ? at : null }),
      onMoment: (at) => this.go({ at }),
    };
  }

  /** The small charts' elements for the features at the top, kept from one drawing to the next. */
  #multipleElements(names) {
    const chosen = names.slice(0, MULTIPLES);
    for (const name of chosen) {
      if (!this.#multiples.has(name)) this.#multiples.set(name, copyOf("multiple"));
      this.#captionOf(this.#multiples.get(name), name);
    }
    for (const name of this.#multiples.keys()) {
      if (!chosen.includes(name)) this.#multiples.delete(name);
    }
    arrange(byId("multiples"), chosen.map((name) => this.#multiples.get(name)));
    return chosen.map((name) => [name, part(this.#multiples.get(name), "chart")]);
  }

  #captionOf(figure, name) {
    const state = this.#explanation()?.features.find((feature) => feature.name === name);
    sayName(part(figure, "name"), name);
    const words = state && state.contribution > 0
      ? `${share(state.contribution)}${state.direction ? ` ${arrow(state.direction)}` : ""} ` +
        `${number(state.observed)}, expected ${number(state.expected)}`
      : "";
    say(part(figure, "text"), words);
  }
}

/** Put a text with times into an element, unless it is there. */
function sayWithTimes(element, words, now) {
  if (element.dataset.words === words) return;
  element.dataset.words = words;
  element.replaceChildren(...withTimes(words, now));
}

const live = (range) => ({ range, start: null, end: null, at: null });

/** Whether what was kept of the history may have changed behind the page's back. */
const differs = (before, after) =>
  before !== null &&
  (before.bundle !== after.bundle || before.group.state !== after.group.state);

function scaleStep(from, step) {
  const next = HEAT_FROM[step + 1];
  const text = step === 0 ? "as usual" : next ? `${from}–${next} ×` : `over ${from} ×`;
  const item = make("li", text);
  item.dataset.step = String(step);
  return item;
}
