/** All charts of a group, drawn again when the page's width or colours change. */

import { drawFeature, drawHeat, drawScore, HEAT_FROM } from "./charts.js";
import { plotly } from "./drawing.js";
import { arrange, byId, copyOf, make, part, say, sayName } from "./elements.js";
import { arrow } from "./features.js";
import { number, share } from "./format.js";

/** Features that are drawn on their own. */
export const MULTIPLES = 6;
const HEAT_ROWS = 20;

export class Pictures {
  #wanted = null;
  #isBusy = false;
  #again = false;
  #allRows = false;
  #multiples = new Map();

  constructor() {
    byId("all-rows").addEventListener("click", () => {
      this.#allRows = !this.#allRows;
      this.#draw();
    });
    byId("scale").append(...HEAT_FROM.map(scaleStep));
    new ResizeObserver(() => this.#draw()).observe(byId("score"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /**
   * Draw a group.
   *
   * picture: see charts.js; names: its features, the first on top; states: of an explanation.
   */
  show(group, picture, names, states) {
    if (this.#wanted?.group !== group) this.#allRows = false;
    this.#wanted = { group, picture, names, states };
    this.#draw();
  }

  /** Draw nothing any more. */
  forget() {
    this.#wanted = null;
  }

  /** One drawing at a time, and one more if something changed meanwhile. */
  async #draw() {
    this.#again = true;
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#again && this.#wanted && byId("score").clientWidth) {
      this.#again = false;
      await this.#attempt(this.#wanted);
    }
    this.#isBusy = false;
  }

  async #attempt(wanted) {
    try {
      await plotly();
      await this.#drawAll(wanted);
      byId("charts-note").hidden = true;
      byId("group").dataset.drawn = wanted.group;
    } catch (error) {
      byId("charts-note").hidden = false;
      say(byId("charts-note"), `No charts: ${error.message}. The tables below say the same.`);
    }
  }

  async #drawAll({ picture, names, states }) {
    const most = this.#allRows ? names.length : HEAT_ROWS;
    byId("all-rows").hidden = names.length <= HEAT_ROWS;
    say(byId("all-rows"), this.#allRows ? "Show fewer" : `Show all ${names.length} features`);
    await drawScore(byId("score"), picture);
    await drawHeat(byId("heat"), picture, names.slice(0, most));
    for (const [name, element] of this.#multiplesFor(names.slice(0, MULTIPLES), states)) {
      await drawFeature(element, picture, name);
    }
  }

  /** The small charts' elements, kept from one drawing to the next. */
  #multiplesFor(names, states) {
    const figure = (name) => this.#multiples.get(name) ?? copyOf("multiple");
    const kept = new Map(names.map((name) => [name, figure(name)]));
    this.#multiples = kept;
    for (const [name, element] of kept) {
      sayName(part(element, "name"), name);
      say(part(element, "text"), inWords(states.find((state) => state.name === name)));
    }
    arrange(byId("multiples"), [...kept.values()]);
    return names.map((name) => [name, part(kept.get(name), "chart")]);
  }
}

/** "71% ↑ 0.13, expected 0.086" of a feature that contributes. */
function inWords(state) {
  if (!state?.contribution) return "";
  const direction = state.direction ? ` ${arrow(state.direction)}` : "";
  const values = `${number(state.observed)}, expected ${number(state.expected)}`;
  return `${share(state.contribution)}${direction} ${values}`;
}

function scaleStep(from, step) {
  const next = HEAT_FROM[step + 1];
  const text = step === 0 ? "as usual" : next ? `${from}–${next} ×` : `over ${from} ×`;
  return make("li", text, { "data-step": String(step) });
}
