/** The table of every feature, which is the heat map's other form, and the queries behind it. */

import { byId, copyOf, fillMeter, make, part, say, sayName } from "./elements.js";
import { multiple, number, share, timeElement } from "./format.js";
import { exploreLink, prometheusLink } from "./links.js";

export class FeatureTable {
  #table = document.querySelector("table.features");
  #rows = new Map();

  /**
   * Show features as they stand at one time.
   *
   * queries: of api/v1/group; states: of an explanation, largest contribution first; row: the
   * sample then, for the features that the explanation leaves out.
   */
  update({ queries, states, row, detail, range, now }) {
    const stated = new Map(states.map((state) => [state.name, state]));
    const rank = new Map(states.map((state, place) => [state.name, place]));
    const place = (query) => rank.get(query.name) ?? (query.scored ? Infinity : NaN);
    const ordered = [...queries].sort((a, b) => compare(place(a), place(b)));
    for (const query of ordered) {
      const element = this.#element(query.name);
      fillQuery(element, query, detail, range);
      fillState(element, query, stated.get(query.name) ?? stateOf(query.name, row), now);
      this.#table.append(element);
    }
    const there = new Set(queries.map(({ name }) => name));
    for (const [name, element] of this.#rows) {
      if (!there.has(name)) {
        element.remove();
        this.#rows.delete(name);
      }
    }
  }

  #element(name) {
    let element = this.#rows.get(name);
    if (!element) {
      element = copyOf("feature-rows");
      const code = part(element, "expr");
      part(element, "copy").addEventListener("click", ({ target }) => copyText(code, target));
      this.#rows.set(name, element);
    }
    return element;
  }
}

/** By rank; those without one, which are not scored, come last. */
function compare(a, b) {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a === b ? 0 : a - b;
}

function stateOf(name, row) {
  const value = (what) => row?.value(name, what) ?? null;
  return {
    contribution: value("contribution"), elevation: value("elevation"), since: null,
    observed: value("observed"), expected: value("expected"), direction: null,
  };
}

function fillQuery(element, query, detail, range) {
  sayName(part(element, "name"), query.name);
  say(part(element, "expr"), query.expr);
  const links = [
    ["Prometheus", prometheusLink(detail.prometheus_url, [query.expr], range)],
    ["Grafana", detail.grafana_url && exploreLink(detail.grafana_url, query.expr, range)],
  ];
  fillLinks(part(element, "links"), links, query.name);
  part(element, "copy").setAttribute("aria-label", `Copy the PromQL of ${query.name}`);
}

/** Links that lead somewhere, each `[text, address or null]`; `about` is for who only hears. */
export function fillLinks(parent, links, about) {
  const wanted = links.filter(([, address]) => address);
  while (parent.children.length > wanted.length) parent.lastElementChild.remove();
  wanted.forEach(([text, address], place) => {
    const link = parent.children[place] ??
      parent.appendChild(make("a", text, { target: "_blank", rel: "noreferrer" }));
    say(link, text);
    link.href = address;
    link.setAttribute("aria-label", `${text}: ${about}`);
  });
}

function fillState(element, query, state, now) {
  const scored = query.scored;
  say(part(element, "share"), scored ? share(state.contribution) : "not scored");
  part(element, "meter").hidden = !scored;
  fillMeter(part(element, "meter"), state.contribution ?? 0);
  const { direction } = state;
  say(part(element, "direction"), direction ? `${arrow(direction)} ${direction}` : "");
  say(part(element, "observed"), number(state.observed));
  say(part(element, "expected"), number(state.expected));
  say(part(element, "elevation"), multiple(state.elevation));
  element.dataset.deviates = String((state.elevation ?? 0) > 1);
  const since = state.since === null ? [] : [timeElement(state.since, now)];
  part(element, "since").replaceChildren(...since);
}

export const arrow = (direction) => (direction === "above" ? "↑" : "↓");

/** Copy an element's text, also where a page over plain HTTP may not use the clipboard. */
async function copyText(element, button) {
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    getSelection().selectAllChildren(element);
    document.execCommand("copy");
  }
  byId("announcer").textContent = "Copied";
  say(button, "Copied");
  setTimeout(() => say(button, "Copy"), 2000);
}
