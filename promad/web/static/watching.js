/** Watching one group: what the daemon says of it, asked for again as long as it is looked at. */

import { LIVE_RANGES } from "./address.js";
import { merged, nearest, rowsOf, within } from "./history.js";
import { ask, Refusal, Repeater } from "./polling.js";

const EVENTS_A_PAGE = 20;
/** Samples that are asked for again: a score may still take the place of a missing one. */
const OVERLAP_SAMPLES = 5;
const [FASTEST_SECONDS, SLOWEST_SECONDS] = [2, 60];

/**
 * detail: of api/v1/group, null before the first answer; rows: the samples of the view's range,
 * and `isKnown` whether all of them are there.
 */
export class Watch {
  detail = null;
  rows = [];
  isKnown = false;
  #isComplete = false;
  #events = [];
  #older = [];
  #cursor = null;
  #explained = null;
  #repeater;

  /** `changed()` is called with every answer, `failed(error)` with every look that failed. */
  constructor(view, changed, failed) {
    this.view = view;
    this.changed = changed;
    this.failed = failed;
    this.#repeater = new Repeater((signal) => this.#ask(signal), () => this.#pause());
  }

  /** Look at another range or moment of the same group. */
  turnTo(view) {
    const range = ["range", "start", "end"].some((key) => this.view[key] !== view[key]);
    if (range) this.#forgetHistory();
    if (this.view.at !== view.at) this.#explained = null;
    this.view = view;
  }

  /** Look now. */
  look() {
    this.#repeater.now();
  }

  stop() {
    this.#repeater.stop();
  }

  /** The time of the newest verdict, which is the daemon's now: unix seconds. */
  get now() {
    return this.detail.group.at;
  }

  /** {start, end} of what is shown, in unix seconds. */
  get range() {
    const { range, start, end } = this.view;
    if (range === null) return { start, end };
    const first = this.rows[0]?.at ?? this.now - this.detail.step_seconds;
    return { start: Math.max(this.now - LIVE_RANGES[range], first), end: this.now };
  }

  /** The samples of the range. */
  get shown() {
    const { start, end } = this.range;
    return within(this.rows, start, end);
  }

  /** Events, newest first. */
  get events() {
    const newest = new Set(this.#events.map(({ id }) => id));
    return [...this.#events, ...this.#older.filter(({ id }) => !newest.has(id))];
  }

  get hasOlderEvents() {
    return this.#cursor !== null;
  }

  /** {paragraph, features} of the chosen moment, or of now; null where nothing is kept of it. */
  get explanation() {
    if (this.view.at === null) return this.detail.explanation;
    if (this.#explained?.answer) return this.#explained.answer;
    return this.events.find(({ peak_at: at }) => Math.abs(at - this.view.at) < 1) ?? null;
  }

  async fetchOlderEvents() {
    const asked = { group: this.view.group, limit: EVENTS_A_PAGE, cursor: this.#cursor };
    const page = await ask("events", asked);
    this.#older.push(...page.events);
    this.#cursor = page.next;
    this.changed();
  }

  #pause() {
    const seconds = this.detail?.interval_seconds ?? FASTEST_SECONDS;
    return Math.min(SLOWEST_SECONDS, Math.max(FASTEST_SECONDS, seconds));
  }

  async #ask(signal) {
    const { view } = this;
    try {
      await this.#fetch(view, signal);
    } catch (error) {
      if (!signal.aborted) this.failed(error);
      throw error;
    }
    if (this.view === view) this.changed();
  }

  async #fetch(view, signal) {
    const detail = await ask("group", { group: view.group }, signal);
    if (differs(this.detail, detail)) this.#forgetHistory();
    const [answer, page] = await Promise.all([
      this.#askHistory(detail, view, signal),
      ask("events", { group: view.group, limit: EVENTS_A_PAGE }, signal),
    ]);
    if (this.view !== view) return;
    this.#take(detail, view, answer, page);
    this.#explained ??= await this.#askExplanation(view, signal);
  }

  #take(detail, view, answer, page) {
    this.detail = detail;
    if (answer) this.rows = merged(this.isKnown ? this.rows : [], rowsOf(answer));
    this.isKnown = true;
    if (view.range !== null) {
      this.rows = within(this.rows, this.now - LIVE_RANGES[view.range], Infinity);
    }
    this.#isComplete = view.range === null && this.now > view.end;
    this.#events = page.events;
    if (!this.#older.length) this.#cursor = page.next;
  }

  /** Ask for all of the history again; what is there is shown until then. */
  #forgetHistory() {
    this.isKnown = this.#isComplete = false;
  }

  /** The samples that are not there yet; null where none are wanted. */
  #askHistory(detail, view, signal) {
    if (this.#isComplete) return null;
    const { group } = view;
    const start = view.range === null ? view.start : detail.group.at - LIVE_RANGES[view.range];
    const last = this.isKnown ? this.rows.at(-OVERLAP_SAMPLES)?.at : null;
    const from = Math.max(start, last ?? -Infinity);
    const asked = { group, start: Number.isFinite(from) ? from : null, end: view.end };
    return ask("history", asked, signal);
  }

  /** Why it was judged so at the chosen moment. */
  async #askExplanation(view, signal) {
    if (view.at === null || this.#isForgotten(view.at)) return null;
    // The newest sample not after it answers; an address has whole seconds.
    const at = view.at + 0.5;
    try {
      return { answer: await ask("explain", { group: view.group, at }, signal) };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { answer: null };
    }
  }

  /** Whether a time is among those that are shown, and no sample of it is kept. */
  #isForgotten(at) {
    const { start, end } = this.range;
    const row = nearest(this.rows, at);
    return at >= start && at <= end && (row === null || row.at > at + 1);
  }
}

/** Whether what was kept of the history may have changed behind the page's back. */
const differs = (before, after) =>
  before !== null &&
  (before.bundle !== after.bundle || before.group.state !== after.group.state);
