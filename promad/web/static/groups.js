/** The list of groups: worst first, narrowed by search and state, one row kept for each group. */

import { writeAddress } from "./address.js";
import { arrange, byId, copyOf, fillMeter, part, say, showState } from "./elements.js";
import { count, duration, multiple } from "./format.js";

const WORST_FIRST = ["anomalous", "blind", "warming", "ok"];
/** Rows that are in the document at first, and that "more" adds: a thousand would be slow. */
const PAGE = 100;

export class GroupTable {
  #rows = new Map();
  #most = PAGE;
  #detectors = 0;
  #answer = null;
  #view = null;
  #body = document.querySelector("table.groups tbody");

  /** `narrow({search, state})` is called with what the reader wants to see of the list. */
  constructor(narrow) {
    const search = byId("search");
    search.addEventListener("input", () => this.#narrowed(narrow, { search: search.value }));
    for (const chip of this.#chips()) {
      const { state } = chip.dataset;
      chip.addEventListener("click", () => {
        this.#narrowed(narrow, { state: this.#view.state === state ? null : state });
      });
    }
    byId("more-groups").addEventListener("click", () => {
      this.#most += PAGE;
      this.#render();
    });
  }

  /** Show an answer of api/v1/groups, as far as the view asks for it. */
  update(answer, view) {
    this.#answer = answer;
    this.#view = view;
    this.#detectors = new Set(answer.groups.map(({ detector }) => detector)).size;
    this.#forget();
    this.#render();
  }

  /** Move the focus to a group's row, if it is there. */
  focus(group) {
    part(this.#rows.get(group) ?? byId("list"), "name")?.focus({ preventScroll: false });
  }

  #narrowed(narrow, wish) {
    this.#most = PAGE;
    narrow(wish);
  }

  #chips() {
    return document.querySelectorAll(".chip");
  }

  /** Rows of groups that are gone would otherwise be kept for ever. */
  #forget() {
    const there = new Set(this.#answer.groups.map(({ group }) => group));
    for (const group of this.#rows.keys()) if (!there.has(group)) this.#rows.delete(group);
  }

  #render() {
    const groups = this.#ordered();
    const words = this.#view.search.toLowerCase().split(/\s+/).filter(Boolean);
    const found = groups.filter((group) => matches(group, words));
    const chosen = found.filter(({ state }) => [null, state].includes(this.#view.state));
    const shown = chosen.slice(0, this.#most);
    arrange(this.#body, shown.map((group) => this.#row(group)));
    if (byId("search").value !== this.#view.search) byId("search").value = this.#view.search;
    this.#renderChips(found);
    this.#renderNote(groups.length, chosen.length, shown.length);
  }

  /** As the daemon orders them; under the reader's hand only a new state moves a row. */
  #ordered() {
    const { groups } = this.#answer;
    if (!this.#body.matches(":hover, :focus-within")) return groups;
    const names = [...this.#body.children].map((row) => row.dataset.group);
    const place = new Map(names.map((name, number) => [name, number]));
    const rank = (group) => WORST_FIRST.indexOf(group.state);
    const before = (group) => place.get(group.group) ?? groups.length;
    return [...groups].sort((a, b) => rank(a) - rank(b) || before(a) - before(b));
  }

  #row(group) {
    let row = this.#rows.get(group.group);
    if (!row) {
      row = copyOf("group-row");
      row.dataset.group = group.group;
      // What tells groups apart is their labels' values; the whole name is in the tooltip.
      const values = Object.values(group.labels).join(" · ");
      say(part(row, "name"), values || group.detector);
      part(row, "name").title = group.group;
      this.#rows.set(group.group, row);
    }
    fillRow(row, group);
    const told = this.#detectors > 1 && Object.keys(group.labels).length > 0;
    say(part(row, "detector"), told ? group.detector : "");
    part(row, "name").href = writeAddress({ ...this.#view, group: group.group, at: null });
    const current = this.#view.group === group.group;
    if (current) part(row, "name").setAttribute("aria-current", "true");
    else part(row, "name").removeAttribute("aria-current");
    return row;
  }

  #renderChips(found) {
    for (const chip of this.#chips()) {
      const { state } = chip.dataset;
      const amount = found.filter((group) => group.state === state).length;
      if (!chip.firstElementChild) {
        const icon = document.querySelector("#group-state .icon").cloneNode(true);
        icon.firstElementChild.setAttribute("href", `#icon-${state}`);
        chip.append(icon, document.createElement("span"));
      }
      say(chip.lastElementChild, `${count(amount)} ${state}`);
      chip.setAttribute("aria-pressed", String(this.#view.state === state));
    }
  }

  #renderNote(all, chosen, shown) {
    const of = chosen === all ? count(all) : `${count(chosen)} that match, ${count(all)} in all`;
    say(byId("list-note"), shown === all ? "" : `Shown: ${count(shown)} of ${of}.`);
    byId("more-groups").hidden = shown === chosen;
    say(byId("more-groups"), `Show ${count(Math.min(PAGE, chosen - shown))} more`);
  }
}

function matches({ group, state, top_features: features }, words) {
  const text = `${group} ${state} ${features}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function fillRow(row, group) {
  row.dataset.state = group.state;
  showState(part(row, "state"), group.state);
  const driven = group.state === "anomalous" ? group.top_features.join(", ") : group.why;
  const held = group.anomalous_since === null ? "" : duration(group.at - group.anomalous_since);
  const standing = group.state === "ok" ? "" : `${group.state} ${held}`.trim();
  say(part(row, "sub"), [standing, driven].filter(Boolean).join(" · "));
  say(part(row, "score"), group.score === null ? "" : multiple(group.score));
  part(row, "meter").hidden = group.score === null;
  fillMeter(part(row, "meter"), (group.score ?? 0) / 2);
  say(part(row, "since"), held);
  say(part(row, "driven"), driven);
  say(part(row, "events"), group.events_begun ? count(group.events_begun) : "");
}
