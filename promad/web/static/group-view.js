/** The view of one group: its state, the features that cause it, its charts and its events. */

import {
  createElement, createTime, find, findById, setText, setTextWithTimes, setTime, showState,
} from "./elements.js";
import { EventTable } from "./event-table.js";
import { FeatureTable, fillLinks } from "./feature-table.js";
import { formatClock, formatCount, formatDuration, formatMultiple } from "./format.js";
import { GroupCharts, MAX_FEATURE_CHARTS } from "./group-charts.js";
import { GroupData } from "./group-data.js";
import { findNearest, findStateStart, rankFeatures } from "./history.js";
import { linkToDashboard, linkToPrometheus } from "./links.js";
import { renderPeers } from "./peer-table.js";
import { loadPlotly } from "./plot.js";

/** @import { View } from "./address.js" */

export class GroupView {
  /** @type {?GroupData} */
  #data = null;
  #charts = new GroupCharts();
  #features = new FeatureTable();
  #events = new EventTable();

  /** @param {(change: Partial<View>) => void} changeView */
  constructor(changeView) {
    /** @param {Partial<View>} change */
    this.changeView = (change) => {
      if (!this.#data) return;
      const { group, shard } = this.#data.view;
      changeView({ group, shard, ...change });
    };
    for (const button of listRangeButtons()) {
      button.addEventListener("click", () => this.changeView(createLiveRange(button.dataset.range)));
    }
    findById("live").addEventListener("click", () => this.changeView(createLiveRange("1h")));
    findById("now").addEventListener("click", () => this.changeView({ at: null }));
    findById("older-events").addEventListener("click", () => this.#data?.fetchOlderEvents());
  }

  /**
   * Show a group, or another range or time of the same group.
   *
   * @param {View & {group: string}} view
   */
  open(view) {
    if (this.#data && isSameView(this.#data.view, view)) return;
    if (this.#data?.view.group === view.group && this.#data.view.shard === view.shard) {
      this.#data.setView(view);
      this.#render(this.#data);
    } else {
      this.#start(view);
    }
    this.refresh();
  }

  /** Fetch the group now. */
  refresh() {
    this.#data?.refresh();
  }

  /** Stop fetching. */
  close() {
    this.#data?.stop();
    this.#data = null;
    this.#charts.clear();
  }

  /** @param {View & {group: string}} view */
  #start(view) {
    this.close();
    const data = new GroupData(view, () => this.#handleChange(data), (error) => showError(data, error));
    this.#data = data;
    setText(findById("group-name"), view.group);
    findById("group").dataset.known = "false";
    delete findById("group").dataset.drawn;
    findById("group-lost").hidden = true;
    // Load it early; whoever draws reports a failure.
    loadPlotly().catch(() => {});
  }

  /** @param {GroupData} data */
  #handleChange(data) {
    if (data !== this.#data) return;
    findById("group-lost").hidden = true;
    this.#render(data);
  }

  /** @param {GroupData} data */
  #render(data) {
    if (!data.isLoaded) return;
    findById("group").dataset.known = "true";
    const { detail, shown, view, now } = data;
    const scored = detail.queries.filter((query) => query.scored).map(({ name }) => name);
    const names = rankFeatures(scored, shown, view.at);
    renderHeadline(data);
    renderExplainedTime(data);
    renderPeers(data.peers, now, view.shard);
    renderRange(data, names.slice(0, MAX_FEATURE_CHARTS));
    this.#renderFeatures(data);
    this.#events.update(data.events, data.hasOlderEvents, view, now);
    renderFacts(detail, view.shard);
    findById("score-empty").hidden = shown.length > 0 || !data.isKnown;
    const states = data.explanation?.features ?? [];
    this.#charts.show(view.group, this.#createTimeline(data), names, states);
  }

  /** @param {GroupData} data */
  #renderFeatures({ detail, now, rows, range, explanation, view: { at } }) {
    const time = formatClock(at ?? detail.explanation.at, now);
    setText(findById("features-when"), `at ${time}, largest share of the deviation first`);
    const states = explanation?.features ?? [];
    const row = at === null ? rows.at(-1) ?? null : findNearest(rows, at);
    this.#features.update({ states, row, detail, range, now });
  }

  /** @param {GroupData} data */
  #createTimeline({ view: { at }, shown, detail, range, now, markers }) {
    return {
      markers,
      rows: shown,
      step: detail.step_seconds,
      range,
      at,
      now,
      /** @param {number} start @param {number} end */
      onRange: (start, end) => {
        const isInside = at !== null && at >= start && at <= end;
        this.changeView({ range: null, start, end, at: isInside ? at : null });
      },
      /** @param {number} time */
      onTime: (time) => this.changeView({ at: time }),
    };
  }
}

/**
 * Whether two views show the same of a group, regardless of the filters of the list.
 *
 * @param {View} one
 * @param {View} other
 */
const isSameView = (one, other) =>
  one.group === other.group && one.shard === other.shard && one.range === other.range &&
  one.start === other.start && one.end === other.end && one.at === other.at;

const listRangeButtons = () =>
  /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-range]")]);

/** @param {string} [range] */
const createLiveRange = (range = "1h") => ({ range, start: null, end: null, at: null });

/**
 * @param {GroupData} data
 * @param {unknown} error
 */
function showError(data, error) {
  const note = findById("group-lost");
  const reason = error instanceof Error ? error.message : String(error);
  const age = data.isLoaded ? ` The data below is from ${formatClock(data.now)}.` : "";
  setText(note, `Could not refresh this group: ${reason}.${age}`);
  note.hidden = false;
}

/** @param {GroupData} data */
function renderHeadline(data) {
  const { group, explanation, failed_queries: failed } = data.detail;
  find(document, "#group .headline").dataset.state = group.state;
  showState(findById("group-state"), group.state);
  const muted = group.muted_by === null ? [] : [` muted: ${group.muted_by}`];
  findById("group-since").replaceChildren(...describeDuration(data), ...muted);
  const [score, unit] = findById("group-score").children;
  setText(score, group.score === null ? "" : `${formatMultiple(group.score)} ×`);
  setText(unit, group.score === null ? "no score" : "threshold");
  setTextWithTimes(findById("paragraph"), explanation.paragraph, group.at);
  // Without a score the paragraph contains the reason.
  renderProblems(group.score === null ? "" : group.why, Object.entries(failed));
}

/**
 * @param {string} reason
 * @param {[string, string][]} failed queries by alias
 */
function renderProblems(reason, failed) {
  setText(findById("why"), reason);
  findById("failed").replaceChildren(
    ...failed.flatMap(([alias, error]) => [createElement("dt", alias), createElement("dd", error)]),
  );
  findById("failed-title").hidden = !failed.length;
  findById("problems").hidden = !reason && !failed.length;
}

/**
 * "since 02:41:05, 23 min", or less if the start of the state is unknown.
 *
 * @param {GroupData} data
 */
function describeDuration({ detail: { group }, rows, view }) {
  if (group.anomalous_since !== null) return describeSince(group.anomalous_since, group.at);
  const newest = view.range === null ? null : rows.at(-1);
  if (newest?.state !== group.state) return [];
  const { start, isComplete } = findStateStart(rows);
  if (!isComplete) return ["since ", createTime(start, group.at), " or earlier"];
  return describeSince(start, group.at);
}

/**
 * @param {number} start
 * @param {number} now
 */
const describeSince = (start, now) =>
  ["since ", createTime(start, now), `, ${formatDuration(now - start)}`];

/** @param {GroupData} data */
function renderExplainedTime({ view: { at }, explanation, now }) {
  findById("explained").hidden = at === null;
  if (at === null) return;
  setTime(/** @type {HTMLTimeElement} */ (find(findById("explained-title"), "time")), at, now);
  const text = explanation?.paragraph ?? "No sample of this time is available.";
  setTextWithTimes(findById("explained-text"), text, now);
}

/**
 * The range, and links to Prometheus and Grafana for it.
 *
 * @param {GroupData} data
 * @param {string[]} names features to show in Prometheus
 */
function renderRange({ view, detail, range, now }, names) {
  for (const button of listRangeButtons()) {
    button.setAttribute("aria-pressed", String(button.dataset.range === view.range));
  }
  findById("live").hidden = view.range !== null;
  const ends = [createTime(range.start, now), " – ", createTime(range.end, now)];
  findById("range-text").replaceChildren(...ends);
  const { prometheus_url: prometheus, grafana_url: grafana, queries } = detail;
  const exprOf = new Map(queries.map(({ name, expr }) => [name, expr]));
  const expressions = names.map((name) => exprOf.get(name) ?? "");
  fillLinks(findById("range-links"), [
    ["Prometheus", linkToPrometheus(prometheus, expressions, range)],
    ["Grafana", grafana && linkToDashboard(grafana, range)],
  ], "this time range");
}

/**
 * @param {GroupDetail} detail
 * @param {?number} shard
 */
function renderFacts({ group, model, bundle, step_seconds: step, window_size: size }, shard) {
  /** @type {Record<string, string>} */
  const facts = {
    Detector: group.detector,
    Model: model,
    Bundle: bundle,
    Step: formatDuration(step),
    Calibration: group.calibration === "pooled" ? "pooled, not trained on this group" : "own",
    Window: `${group.samples_in_window} of ${formatCount(size, "sample")}`,
    Events: `${formatCount(group.events_begun)} since the daemon started`,
  };
  if (shard !== null) facts.Shard = String(shard);
  findById("facts").replaceChildren(...Object.entries(facts).map(([name, text]) => {
    const fact = createElement("div", "");
    fact.append(createElement("dt", name), createElement("dd", text));
    return fact;
  }));
}
