/** The data of one group, fetched again and again while the group is shown. */

import { LIVE_RANGES } from "./address.js";
import { findNearest, mergeRows, readRows, selectRows } from "./history.js";
import { ApiError, fetchApi, Poller } from "./polling.js";
import { pathTo } from "./shards.js";

/** @import { View } from "./address.js" */
/** @import { Row } from "./history.js" */
/** @import { Parameter } from "./polling.js" */

const EVENTS_PER_PAGE = 20;
const MARKERS = 50;
/** Samples that are fetched again: a score may still replace a missing one. */
const OVERLAP_SAMPLES = 5;
const [MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS] = [2, 60];

export class GroupData {
  /** The samples of the view's range; complete once `isKnown`. @type {Row[]} */
  rows = [];
  isKnown = false;
  /** How the group differs from its peers; null if it has none. @type {?PeersAnswer} */
  peers = null;
  /** The newest versions that were deployed. @type {MarkerAnswer[]} */
  markers = [];
  /** @type {?GroupDetail} */
  #detail = null;
  #isComplete = false;
  /** @type {EventAnswer[]} */
  #events = [];
  /** @type {EventAnswer[]} */
  #older = [];
  /** @type {?string} */
  #cursor = null;
  /** The answer about the explained time, null in it if there is no sample. @type {?{answer: ?ExplanationAnswer}} */
  #explained = null;
  #poller;

  /**
   * @param {View & {group: string}} view
   * @param {() => void} onChange is called after each response
   * @param {(error: unknown) => void} onError is called after each failure
   */
  constructor(view, onChange, onError) {
    this.view = view;
    this.onChange = onChange;
    this.onError = onError;
    this.#poller = new Poller((signal) => this.#update(signal), () => this.#getPause());
  }

  /**
   * Show another range or time of the same group.
   *
   * @param {View & {group: string}} view
   */
  setView(view) {
    const { range, start, end, at } = this.view;
    if (range !== view.range || start !== view.start || end !== view.end) this.#expireHistory();
    if (at !== view.at) this.#explained = null;
    this.view = view;
  }

  /** Fetch now. */
  refresh() {
    this.#poller.run();
  }

  stop() {
    this.#poller.stop();
  }

  get isLoaded() {
    return this.#detail !== null;
  }

  /** The answer of api/v1/group. */
  get detail() {
    if (!this.#detail) throw new Error("the group is not loaded");
    return this.#detail;
  }

  /** The time of the newest verdict, the daemon's now: unix seconds. */
  get now() {
    return this.detail.group.at;
  }

  /** The visible range {start, end} in unix seconds. */
  get range() {
    const { range, start, end } = this.view;
    if (start !== null && end !== null) return { start, end };
    const first = this.rows[0]?.at ?? this.now - this.detail.step_seconds;
    return { start: Math.max(this.now - LIVE_RANGES[range ?? "all"], first), end: this.now };
  }

  /** The samples of the range. */
  get shown() {
    const { start, end } = this.range;
    return selectRows(this.rows, start, end);
  }

  /** Events, newest first. */
  get events() {
    const newest = new Set(this.#events.map(({ id }) => id));
    return [...this.#events, ...this.#older.filter(({ id }) => !newest.has(id))];
  }

  get hasOlderEvents() {
    return this.#cursor !== null;
  }

  /** {paragraph, features} of the explained time, or of now; null if there is no sample. */
  get explanation() {
    const { at } = this.view;
    if (at === null) return this.detail.explanation;
    if (this.#explained?.answer) return this.#explained.answer;
    return this.events.find(({ peak_at: peak }) => Math.abs(peak - at) < 1) ?? null;
  }

  async fetchOlderEvents() {
    const query = { group: this.view.group, limit: EVENTS_PER_PAGE, cursor: this.#cursor };
    /** @type {EventPage} */
    const page = await fetchApi(pathTo("events", this.view.shard), query);
    this.#older.push(...page.events);
    this.#cursor = page.next;
    this.onChange();
  }

  #getPause() {
    const seconds = this.#detail?.interval_seconds ?? MIN_PAUSE_SECONDS;
    return Math.min(MAX_PAUSE_SECONDS, Math.max(MIN_PAUSE_SECONDS, seconds));
  }

  /** @param {AbortSignal} signal */
  async #update(signal) {
    const { view } = this;
    try {
      await this.#fetch(view, signal);
    } catch (error) {
      if (!signal.aborted) this.onError(error);
      throw error;
    }
    if (this.view === view) this.onChange();
  }

  /**
   * @param {View & {group: string}} view
   * @param {AbortSignal} signal
   */
  async #fetch(view, signal) {
    /** @type {GroupDetail} */
    const detail = await this.#ask("group", {}, view, signal);
    if (this.#detail && hasChanged(this.#detail, detail)) this.#expireHistory();
    const [history, events, peers, deployed] = await Promise.all([
      this.#fetchHistory(detail, view, signal),
      this.#ask("events", { limit: EVENTS_PER_PAGE }, view, signal),
      detail.peers ? this.#ask("peers", {}, view, signal) : null,
      this.#ask("markers", { limit: MARKERS }, view, signal),
    ]);
    if (this.view !== view) return;
    this.#detail = detail;
    this.peers = peers;
    this.markers = deployed.markers;
    this.#setHistory(view, history);
    this.#setEvents(events);
    this.#explained ??= await this.#fetchExplanation(view, signal);
  }

  /**
   * What the group's shard answers about it.
   *
   * @param {string} path
   * @param {Record<string, Parameter>} query
   * @param {View & {group: string}} view
   * @param {AbortSignal} signal
   */
  #ask(path, query, { group, shard }, signal) {
    return fetchApi(pathTo(path, shard), { group, ...query }, signal);
  }

  /**
   * @param {View} view
   * @param {?HistoryAnswer} history
   */
  #setHistory({ range, end }, history) {
    if (history) this.rows = mergeRows(this.isKnown ? this.rows : [], readRows(history));
    this.isKnown = true;
    if (range !== null) {
      this.rows = selectRows(this.rows, this.now - LIVE_RANGES[range], Infinity);
    }
    this.#isComplete = end !== null && this.now > end;
  }

  /** @param {EventPage} page */
  #setEvents(page) {
    this.#events = page.events;
    if (!this.#older.length) this.#cursor = page.next;
  }

  /** Fetch the whole history next time; the present one stays visible until then. */
  #expireHistory() {
    this.isKnown = this.#isComplete = false;
  }

  /**
   * The samples that are missing; null if there are none.
   *
   * @param {GroupDetail} detail
   * @param {View & {group: string}} view
   * @param {AbortSignal} signal
   * @returns {Promise<?HistoryAnswer>}
   */
  async #fetchHistory(detail, view, signal) {
    if (this.#isComplete) return null;
    const { range, start, end } = view;
    const first = range === null ? start ?? -Infinity : detail.group.at - LIVE_RANGES[range];
    const last = this.isKnown ? this.rows.at(-OVERLAP_SAMPLES)?.at ?? -Infinity : -Infinity;
    const from = Math.max(first, last);
    const query = { start: Number.isFinite(from) ? from : null, end };
    return this.#ask("history", query, view, signal);
  }

  /**
   * The explanation at the explained time; null if none is asked for or available.
   *
   * @param {View & {group: string}} view
   * @param {AbortSignal} signal
   */
  async #fetchExplanation(view, signal) {
    const { at } = view;
    if (at === null || this.#isUnavailable(at)) return null;
    try {
      // The answer is about the newest sample up to `at`; an address has whole seconds.
      return { answer: await this.#ask("explain", { at: at + 0.5 }, view, signal) };
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return { answer: null };
    }
  }

  /**
   * Whether a time is in the visible range without a sample.
   *
   * @param {number} at
   */
  #isUnavailable(at) {
    const { start, end } = this.range;
    const row = findNearest(this.rows, at);
    return at >= start && at <= end && (row === null || row.at > at + 1);
  }
}

/**
 * Whether the history that the page has may have changed since.
 *
 * @param {GroupDetail} before
 * @param {GroupDetail} after
 */
const hasChanged = (before, after) =>
  before.bundle !== after.bundle || before.group.state !== after.group.state;
