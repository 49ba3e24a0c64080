/** All charts of a group, drawn again when the width or the colours of the page change. */

import { drawFeature, drawHeatMap, drawScore, HEAT_STEPS } from "./charts.js";
import {
  arrangeChildren, cloneTemplate, createElement, findById, findPart, setName, setText,
} from "./elements.js";
import { getArrow } from "./feature-table.js";
import { formatNumber, formatShare } from "./format.js";
import { loadPlotly } from "./plot.js";

/** @import { Timeline } from "./charts.js" */

/** @typedef {{group: string, timeline: Timeline, names: string[], states: FeatureState[]}} Wanted */

/** The number of features with a chart of their own. */
export const MAX_FEATURE_CHARTS = 6;
const HEAT_ROWS = 20;

export class GroupCharts {
  /** @type {?Wanted} */
  #wanted = null;
  #isBusy = false;
  #again = false;
  #showsAllRows = false;
  /** @type {Map<string, HTMLElement>} */
  #figures = new Map();

  constructor() {
    findById("all-rows").addEventListener("click", () => {
      this.#showsAllRows = !this.#showsAllRows;
      this.#draw();
    });
    findById("scale").append(...HEAT_STEPS.map(createScaleStep));
    new ResizeObserver(() => this.#draw()).observe(findById("score"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /**
   * Draw a group.
   *
   * @param {string} group
   * @param {Timeline} timeline
   * @param {string[]} names features from the top down
   * @param {FeatureState[]} states of an explanation
   */
  show(group, timeline, names, states) {
    if (this.#wanted?.group !== group) this.#showsAllRows = false;
    this.#wanted = { group, timeline, names, states };
    this.#draw();
  }

  /** Stop drawing. */
  clear() {
    this.#wanted = null;
  }

  /** Draws once at a time, and once more if something changed meanwhile. */
  async #draw() {
    this.#again = true;
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#again && this.#wanted && findById("score").clientWidth) {
      this.#again = false;
      await this.#tryToDraw(this.#wanted);
    }
    this.#isBusy = false;
  }

  /** @param {Wanted} wanted */
  async #tryToDraw(wanted) {
    const note = findById("charts-note");
    try {
      await loadPlotly();
      await this.#drawAll(wanted);
      note.hidden = true;
      findById("group").dataset.drawn = wanted.group;
    } catch (error) {
      note.hidden = false;
      const reason = error instanceof Error ? error.message : String(error);
      setText(note, `Charts are unavailable: ${reason}. The tables below show the same data.`);
    }
  }

  /** @param {Wanted} wanted */
  async #drawAll({ timeline, names, states }) {
    const button = findById("all-rows");
    button.hidden = names.length <= HEAT_ROWS;
    setText(button, this.#showsAllRows ? "Show fewer" : `Show all ${names.length} features`);
    await drawScore(findById("score"), timeline);
    const rows = this.#showsAllRows ? names : names.slice(0, HEAT_ROWS);
    await drawHeatMap(findById("heat"), timeline, rows);
    for (const [name, figure] of this.#arrangeFigures(names.slice(0, MAX_FEATURE_CHARTS), states)) {
      await drawFeature(findPart(figure, "chart"), timeline, name);
    }
  }

  /**
   * The figures of features by name, kept from one drawing to the next.
   *
   * @param {string[]} names
   * @param {FeatureState[]} states
   */
  #arrangeFigures(names, states) {
    const figures = new Map(
      names.map((name) => [name, this.#figures.get(name) ?? cloneTemplate("feature-figure")]),
    );
    this.#figures = figures;
    for (const [name, figure] of figures) {
      setName(findPart(figure, "name"), name);
      setText(findPart(figure, "text"), describe(states.find((state) => state.name === name)));
    }
    arrangeChildren(findById("feature-charts"), [...figures.values()]);
    return figures;
  }
}

/**
 * "71% ↑ 0.13, expected 0.086" of a feature that contributes.
 *
 * @param {FeatureState} [state]
 */
function describe(state) {
  if (!state?.contribution) return "";
  const direction = state.direction ? ` ${getArrow(state.direction)}` : "";
  const values = `${formatNumber(state.observed)}, expected ${formatNumber(state.expected)}`;
  return `${formatShare(state.contribution)}${direction} ${values}`;
}

/**
 * One entry of the heat map's legend.
 *
 * @param {number} least
 * @param {number} step
 */
function createScaleStep(least, step) {
  const next = HEAT_STEPS[step + 1];
  const text = next ? `${least}–${next} ×` : `over ${least} ×`;
  return createElement("li", text, { "data-step": String(step) });
}
