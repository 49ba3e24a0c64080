/** The list of groups: worst first, filtered by search and state, one row kept for each group. */

import { writeAddress } from "./address.js";
import {
  arrangeChildren, cloneTemplate, fillMeter, find, findById, findPart, setText, showState,
} from "./elements.js";
import { formatCount, formatDuration, formatMultiple } from "./format.js";

/** @import { View } from "./address.js" */

const WORST_FIRST = ["anomalous", "blind", "warming", "ok"];
/** The rows in the document at first, and those that "more" adds: a thousand would be slow. */
const PAGE = 100;

export class GroupTable {
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();
  #maxRows = PAGE;
  /** @type {GroupAnswer[]} */
  #groups = [];
  /** @type {View} */
  #view;
  #body = find(document, "table.groups tbody");
  #search = /** @type {HTMLInputElement} */ (findById("search"));
  #chips = /** @type {HTMLElement[]} */ ([...document.querySelectorAll(".chip")]);

  /**
   * @param {View} view
   * @param {(filter: Partial<View>) => void} onFilter is called with a new search or state
   */
  constructor(view, onFilter) {
    this.#view = view;
    /** @param {Partial<View>} filter */
    const apply = (filter) => {
      this.#maxRows = PAGE;
      onFilter(filter);
    };
    this.#search.addEventListener("input", () => apply({ search: this.#search.value }));
    for (const chip of this.#chips) {
      const state = chip.dataset.state ?? null;
      chip.addEventListener("click", () => {
        apply({ state: this.#view.state === state ? null : state });
      });
    }
    findById("more-groups").addEventListener("click", () => {
      this.#maxRows += PAGE;
      this.#render();
    });
  }

  /**
   * Show the groups that the view asks for.
   *
   * @param {GroupAnswer[]} groups
   * @param {View} view
   */
  update(groups, view) {
    this.#groups = groups;
    this.#view = view;
    this.#dropRows();
    this.#render();
  }

  /**
   * Move the focus to the row of a group, if there is one.
   *
   * @param {?string} group
   */
  focus(group) {
    const row = this.#rows.get(group ?? "") ?? this.#body.children[0];
    if (row) findPart(row, "name").focus();
  }

  /** Drop the rows of groups that are gone; they would be kept for ever. */
  #dropRows() {
    const groups = new Set(this.#groups.map(({ group }) => group));
    for (const group of this.#rows.keys()) if (!groups.has(group)) this.#rows.delete(group);
  }

  #render() {
    const words = this.#view.search.toLowerCase().split(/\s+/).filter(Boolean);
    const found = this.#sortGroups().filter((group) => matchesAll(group, words));
    const { state: wanted } = this.#view;
    const matching = found.filter(({ state }) => wanted === null || state === wanted);
    const shown = matching.slice(0, this.#maxRows);
    arrangeChildren(this.#body, shown.map((group) => this.#updateRow(group)));
    if (this.#search.value !== this.#view.search) this.#search.value = this.#view.search;
    this.#renderChips(found);
    this.#renderNote(matching.length, shown.length);
  }

  /** Groups worst first; while the reader points at the list, only a new state moves a row. */
  #sortGroups() {
    if (!this.#body.matches(":hover, :focus-within")) return this.#groups;
    const rows = /** @type {HTMLElement[]} */ ([...this.#body.children]);
    const places = new Map(rows.map((row, place) => [row.dataset.group, place]));
    /** @param {GroupAnswer} group */
    const rank = ({ state }) => WORST_FIRST.indexOf(state);
    /** @param {GroupAnswer} group */
    const getPlace = ({ group }) => places.get(group) ?? places.size;
    return [...this.#groups].sort((a, b) => rank(a) - rank(b) || getPlace(a) - getPlace(b));
  }

  /** @param {GroupAnswer} group */
  #updateRow(group) {
    const row = this.#rows.get(group.group) ?? this.#createRow(group);
    fillRow(row, group);
    const hasSeveral = this.#groups.some(({ detector }) => detector !== group.detector);
    const showsDetector = hasSeveral && Object.keys(group.labels).length > 0;
    setText(findPart(row, "detector"), showsDetector ? group.detector : "");
    const link = findPart(row, "name");
    link.setAttribute("href", writeAddress({ ...this.#view, group: group.group, at: null }));
    if (this.#view.group === group.group) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    return row;
  }

  /** @param {GroupAnswer} group */
  #createRow({ group, labels, detector }) {
    const row = cloneTemplate("group-row");
    row.dataset.group = group;
    // The label values distinguish groups; the tooltip has the whole name.
    setText(findPart(row, "name"), Object.values(labels).join(" · ") || detector);
    findPart(row, "name").title = group;
    this.#rows.set(group, row);
    return row;
  }

  /** @param {GroupAnswer[]} found the groups that match the search, in any state */
  #renderChips(found) {
    for (const chip of this.#chips) {
      const { state } = chip.dataset;
      const amount = found.filter((group) => group.state === state).length;
      if (!chip.children.length) {
        const icon = /** @type {Element} */ (find(document, "#group-state .icon").cloneNode(true));
        icon.children[0].setAttribute("href", `#icon-${state}`);
        chip.append(icon, document.createElement("span"));
      }
      setText(chip.children[1], `${formatCount(amount)} ${state}`);
      chip.setAttribute("aria-pressed", String(this.#view.state === state));
    }
  }

  /**
   * @param {number} matching
   * @param {number} shown
   */
  #renderNote(matching, shown) {
    const all = this.#groups.length;
    const total = matching === all
      ? `${formatCount(all, "group")}`
      : `${formatCount(matching, "matching group")} (${formatCount(all)} in total)`;
    const note = shown === all ? "" : `Showing ${formatCount(shown)} of ${total}.`;
    setText(findById("list-note"), note);
    const button = findById("more-groups");
    button.hidden = shown === matching;
    setText(button, `Show ${formatCount(Math.min(PAGE, matching - shown))} more`);
  }
}

/**
 * Whether a group matches all words of a search.
 *
 * @param {GroupAnswer} group
 * @param {string[]} words
 */
function matchesAll({ group, state, top_features: features }, words) {
  const text = `${group} ${state} ${features}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

/**
 * @param {HTMLElement} row
 * @param {GroupAnswer} group
 */
function fillRow(row, group) {
  row.dataset.state = group.state;
  showState(findPart(row, "state"), group.state);
  const reason = group.state === "anomalous" ? group.top_features.join(", ") : group.why;
  const { anomalous_since: since } = group;
  const duration = since === null ? "" : formatDuration(group.at - since);
  const status = group.state === "ok" ? "" : `${group.state} ${duration}`.trim();
  setText(findPart(row, "summary"), [status, reason].filter(Boolean).join(" · "));
  setText(findPart(row, "score"), group.score === null ? "" : formatMultiple(group.score));
  const meter = findPart(row, "meter");
  meter.hidden = group.score === null;
  fillMeter(meter, (group.score ?? 0) / 2);
  setText(findPart(row, "duration"), duration);
  setText(findPart(row, "reason"), reason);
  setText(findPart(row, "events"), group.events_begun ? formatCount(group.events_begun) : "");
}
