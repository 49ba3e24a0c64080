/** The table of all features, with the values of the heat map and the query of each feature. */

import {
  cloneTemplate, createElement, createTime, fillMeter, find, findById, findPart,
  removeChildrenFrom, setName, setText,
} from "./elements.js";
import { formatMultiple, formatNumber, formatShare } from "./format.js";
import { linkToExplore, linkToPrometheus } from "./links.js";

/** @import { Row } from "./history.js" */
/** @import { Range } from "./links.js" */

/**
 * What the table shows at one time.
 *
 * states: of an explanation, largest contribution first; row: the sample at that time, for the
 * features that the explanation leaves out.
 *
 * @typedef {{states: FeatureState[], row: ?Row, detail: GroupDetail, range: Range, now: number
 * }} Content
 */

export class FeatureTable {
  #table = find(document, "table.features");
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();

  /** @param {Content} content */
  update({ states, row, detail, range, now }) {
    const stateOf = new Map(states.map((state) => [state.name, state]));
    for (const query of sortQueries(detail.queries, states)) {
      const element = this.#findRow(query.name);
      fillQuery(element, query, detail, range);
      fillState(element, query, stateOf.get(query.name) ?? readState(query.name, row), now);
      this.#table.append(element);
    }
    this.#removeRows(new Set(detail.queries.map(({ name }) => name)));
  }

  /** @param {string} name */
  #findRow(name) {
    let element = this.#rows.get(name);
    if (!element) {
      element = cloneTemplate("feature-rows");
      const [code, button] = [findPart(element, "expr"), findPart(element, "copy")];
      button.addEventListener("click", () => copyText(code, button));
      this.#rows.set(name, element);
    }
    return element;
  }

  /** @param {Set<string>} kept names of features */
  #removeRows(kept) {
    for (const [name, element] of this.#rows) {
      if (!kept.has(name)) {
        element.remove();
        this.#rows.delete(name);
      }
    }
  }
}

/**
 * Queries in the order of the states; then the others, those that are not scored last.
 *
 * @param {FeatureQuery[]} queries
 * @param {FeatureState[]} states
 */
function sortQueries(queries, states) {
  const places = new Map(states.map((state, place) => [state.name, place]));
  /** @param {FeatureQuery} query */
  const rank = ({ name, scored }) => places.get(name) ?? states.length + (scored ? 0 : 1);
  return [...queries].sort((a, b) => rank(a) - rank(b));
}

/**
 * The state of a feature that does not contribute.
 *
 * @param {string} name
 * @param {?Row} row
 */
function readState(name, row) {
  return {
    contribution: row?.getValue(name, "contribution") ?? null,
    elevation: row?.getValue(name, "elevation") ?? null,
    observed: row?.getValue(name, "observed") ?? null,
    expected: row?.getValue(name, "expected") ?? null,
    since: null,
    direction: null,
    largest: null,
  };
}

/**
 * @param {HTMLElement} element
 * @param {FeatureQuery} query
 * @param {GroupDetail} detail
 * @param {Range} range
 */
function fillQuery(element, { name, expr, counts }, detail, range) {
  setName(findPart(element, "name"), name);
  setText(findPart(element, "expr"), expr);
  setText(findPart(element, "counts"), counts && `Counts ${counts}.`);
  fillLinks(findPart(element, "links"), [
    ["Prometheus", linkToPrometheus(detail.prometheus_url, [expr], range)],
    ["Grafana", detail.grafana_url && linkToExplore(detail.grafana_url, expr, range)],
  ], name);
  findPart(element, "copy").setAttribute("aria-label", `Copy the PromQL of ${name}`);
}

/**
 * Show links as `[text, address]`, except those without an address.
 *
 * @param {HTMLElement} parent
 * @param {[string, ?string][]} links
 * @param {string} subject completes the text for screen readers
 */
export function fillLinks(parent, links, subject) {
  const wanted = links.filter(([, address]) => address);
  removeChildrenFrom(parent, wanted.length);
  wanted.forEach(([text, address], place) => {
    const link = parent.children[place] ??
      parent.appendChild(createElement("a", text, { target: "_blank", rel: "noreferrer" }));
    setText(link, text);
    link.setAttribute("href", address ?? "");
    link.setAttribute("aria-label", `${text}: ${subject}`);
  });
}

/**
 * @param {HTMLElement} element
 * @param {FeatureQuery} query
 * @param {FeatureState | ReturnType<typeof readState>} state
 * @param {number} now
 */
function fillState(element, { scored }, state, now) {
  const { contribution, direction, observed, expected, elevation, since, largest } = state;
  setText(findPart(element, "share"), scored ? formatShare(contribution) : "not scored");
  const meter = findPart(element, "meter");
  meter.hidden = !scored;
  fillMeter(meter, contribution ?? 0);
  setText(findPart(element, "direction"), direction ? `${getArrow(direction)} ${direction}` : "");
  setText(findPart(element, "observed"), formatNumber(observed));
  setText(findPart(element, "expected"), formatNumber(expected));
  setText(findPart(element, "elevation"), formatMultiple(elevation));
  element.dataset.deviates = String((elevation ?? 0) > 1);
  findPart(element, "since").replaceChildren(...(since === null ? [] : [createTime(since, now)]));
  findPart(element, "largest").replaceChildren(...(largest ? describeLargest(largest, now) : []));
}

/**
 * "0.9, expected 0.25, at 10:02": the values of the sample at which a feature deviated most.
 *
 * @param {LargestDeviationAnswer} largest
 * @param {number} now
 */
function describeLargest({ observed, expected, at }, now) {
  const values = `${formatNumber(observed)}, expected ${formatNumber(expected)}, at `;
  return [createElement("span", values), createTime(at, now)];
}

/** @param {string} direction */
export const getArrow = (direction) => (direction === "above" ? "↑" : "↓");

/**
 * Copy the text of an element, also on a page over plain HTTP, which has no clipboard.
 *
 * @param {HTMLElement} element
 * @param {HTMLElement} button shows that the text was copied
 */
async function copyText(element, button) {
  try {
    await navigator.clipboard.writeText(element.textContent ?? "");
  } catch {
    getSelection()?.selectAllChildren(element);
    document.execCommand("copy");
  }
  setText(findById("announcer"), "Copied");
  setText(button, "Copied");
  setTimeout(() => setText(button, "Copy"), 2000);
}
