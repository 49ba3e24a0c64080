/** The list of groups: a page that the daemon searched and sorted, one row kept for each group. */

import { writeAddress } from "./address.js";
import {
  arrangeChildren, cloneTemplate, fillMeter, find, findById, findPart, setText, showState,
} from "./elements.js";
import { formatCount, formatDuration, formatGroup, formatMultiple } from "./format.js";
import { nameShard } from "./shards.js";

/** @import { View } from "./address.js" */
/** @import { Group, List } from "./shards.js" */

const WORST_FIRST = ["anomalous", "blind", "warming", "ok"];
/** The rows that are fetched at first, and those that "more" adds: a thousand would be slow. */
const PAGE = 100;

export class GroupTable {
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();
  #maxRows = PAGE;
  /** @type {View} */
  #view;
  #body = find(document, "table.groups tbody");
  #search = /** @type {HTMLInputElement} */ (findById("search"));
  #sort = /** @type {HTMLSelectElement} */ (findById("sort"));
  #chips = /** @type {HTMLElement[]} */ ([...document.querySelectorAll(".chip")]);

  /**
   * @param {View} view
   * @param {(filter: Partial<View>) => void} onFilter is called with a new search, state or order
   * @param {() => void} onMore is called when more groups are asked for
   */
  constructor(view, onFilter, onMore) {
    this.#view = view;
    /** @param {Partial<View>} filter */
    const apply = (filter) => {
      this.#maxRows = PAGE;
      onFilter(filter);
    };
    this.#search.addEventListener("input", () => apply({ search: this.#search.value }));
    this.#sort.addEventListener("change", () => apply({ sort: this.#sort.value }));
    for (const chip of this.#chips) {
      const state = chip.dataset.state ?? null;
      chip.addEventListener("click", () => {
        apply({ state: this.#view.state === state ? null : state });
      });
    }
    findById("more-groups").addEventListener("click", () => {
      this.#maxRows += PAGE;
      onMore();
    });
  }

  /** The number of groups to fetch. */
  get limit() {
    return this.#maxRows;
  }

  /**
   * Show a page of the groups that the view asks for.
   *
   * @param {List} list
   * @param {View} view
   */
  update(list, view) {
    this.#view = view;
    this.#dropRows(list);
    this.#render(list);
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

  /**
   * Drop the rows of groups that are not on the page; they would be kept for ever.
   *
   * @param {List} list
   */
  #dropRows(list) {
    const groups = new Set(list.groups.map(({ group }) => group));
    for (const group of this.#rows.keys()) if (!groups.has(group)) this.#rows.delete(group);
  }

  /** @param {List} list */
  #render(list) {
    const shown = this.#sortGroups(list.groups);
    arrangeChildren(this.#body, shown.map((group) => this.#updateRow(group, list)));
    if (this.#search.value !== this.#view.search) this.#search.value = this.#view.search;
    this.#sort.value = this.#view.sort;
    this.#renderChips(list);
    renderNote(list);
  }

  /**
   * Groups in their order; while the reader points at the list, only a new state moves a row.
   *
   * @param {Group[]} groups
   */
  #sortGroups(groups) {
    const isRead = this.#body.matches(":hover, :focus-within");
    if (!isRead || this.#view.sort !== "worst") return groups;
    const rows = /** @type {HTMLElement[]} */ ([...this.#body.children]);
    const places = new Map(rows.map((row, place) => [row.dataset.group, place]));
    /** @param {Group} group */
    const rank = ({ state }) => WORST_FIRST.indexOf(state);
    /** @param {Group} group */
    const getPlace = ({ group }) => places.get(group) ?? places.size;
    return [...groups].sort((a, b) => rank(a) - rank(b) || getPlace(a) - getPlace(b));
  }

  /**
   * @param {Group} group
   * @param {List} list
   */
  #updateRow(group, { detectors }) {
    const row = this.#rows.get(group.group) ?? this.#createRow(group);
    fillRow(row, group);
    const showsDetector = detectors.length > 1 && Object.keys(group.labels).length > 0;
    setText(findPart(row, "detector"), showsDetector ? group.detector : "");
    setText(findPart(row, "shard"), String(group.shard ?? ""));
    const link = findPart(row, "name");
    link.setAttribute("href", writeAddress({ ...this.#view, ...toGroup(group) }));
    if (this.#view.group === group.group) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    return row;
  }

  /** @param {Group} group */
  #createRow({ group, labels, detector }) {
    const row = cloneTemplate("group-row");
    row.dataset.group = group;
    // The label values distinguish groups; the tooltip has the whole name.
    setText(findPart(row, "name"), formatGroup(labels, detector));
    findPart(row, "name").title = group;
    this.#rows.set(group, row);
    return row;
  }

  /** @param {List} list */
  #renderChips({ counts }) {
    for (const chip of this.#chips) {
      const state = chip.dataset.state ?? "";
      const amount = counts[state] ?? 0;
      if (!chip.children.length) {
        const icon = /** @type {Element} */ (find(document, "#group-state .icon").cloneNode(true));
        icon.children[0].setAttribute("href", `#icon-${state}`);
        chip.append(icon, document.createElement("span"));
      }
      setText(chip.children[1], `${formatCount(amount)} ${state}`);
      chip.setAttribute("aria-pressed", String(this.#view.state === state));
    }
  }
}

/**
 * The change that leads to a group.
 *
 * @param {Group} group
 */
const toGroup = ({ group, shard }) => ({ group, shard: shard ?? null, incident: null, at: null });

/** @param {List} list */
function renderNote({ groups, matching, total }) {
  const shown = groups.length;
  const all = matching === total
    ? `${formatCount(total, "group")}`
    : `${formatCount(matching, "matching group")} (${formatCount(total)} in total)`;
  const note = shown === total ? "" : `Showing ${formatCount(shown)} of ${all}.`;
  setText(findById("list-note"), note);
  const button = findById("more-groups");
  button.hidden = shown >= matching;
  setText(button, `Show ${formatCount(Math.min(PAGE, matching - shown))} more`);
}

/**
 * @param {HTMLElement} row
 * @param {Group} group
 */
function fillRow(row, group) {
  row.dataset.state = group.state;
  showState(findPart(row, "state"), group.state);
  const reason = group.state === "anomalous" ? group.top_features.join(", ") : group.why;
  const { anomalous_since: since } = group;
  const duration = since === null ? "" : formatDuration(group.at - since);
  const status = group.state === "ok" ? "" : `${group.state} ${duration}`.trim();
  const summary = [status, reason, nameShard(group.shard)].filter(Boolean).join(" · ");
  setText(findPart(row, "summary"), summary);
  setText(findPart(row, "score"), group.score === null ? "" : formatMultiple(group.score));
  const meter = findPart(row, "meter");
  meter.hidden = group.score === null;
  fillMeter(meter, (group.score ?? 0) / 2);
  setText(findPart(row, "duration"), duration);
  setText(findPart(row, "reason"), reason);
  setText(findPart(row, "events"), group.events_begun ? formatCount(group.events_begun) : "");
}
