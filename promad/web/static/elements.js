/** Reading and changing the document. All text is set as text; nothing parses HTML. */

import { formatClock, formatUtc } from "./format.js";

/**
 * The first element inside `owner` that matches a selector.
 *
 * @param {ParentNode} owner
 * @param {string} selector
 */
export function find(owner, selector) {
  const element = /** @type {?HTMLElement} */ (owner.querySelector(selector));
  if (!element) throw new Error(`no element matches ${selector}`);
  return element;
}

/** @param {string} id */
export const findById = (id) => find(document, `#${id}`);

/**
 * The element inside `owner` with this `data-part`.
 *
 * @param {ParentNode} owner
 * @param {string} name
 */
export const findPart = (owner, name) => find(owner, `[data-part="${name}"]`);

/**
 * A copy of a template of index.html.
 *
 * @param {string} id
 */
export function cloneTemplate(id) {
  const template = /** @type {HTMLTemplateElement} */ (findById(id));
  return /** @type {HTMLElement} */ (template.content.children[0].cloneNode(true));
}

/**
 * Set text if it differs, so that the reader's selection survives.
 *
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Set a name as text in which a line may break after each underscore.
 *
 * @param {Element} element
 * @param {string} name
 */
export function setName(element, name) {
  if (element.textContent === name) return;
  const pieces = name.split(/(?<=_)/);
  element.replaceChildren(
    ...pieces.flatMap((piece, place) => (place ? [document.createElement("wbr"), piece] : [piece])),
  );
}

/**
 * A new element with text and attributes.
 *
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {string} text
 * @param {Record<string, string>} attributes
 */
export function createElement(name, text, attributes = {}) {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/**
 * Set a <time> to the viewer's time zone; machines and the tooltip get UTC.
 *
 * @param {HTMLTimeElement} element
 * @param {number} at unix seconds
 * @param {number} now
 */
export function setTime(element, at, now) {
  element.dateTime = formatUtc(at);
  element.title = `${formatUtc(at)} (UTC)`;
  setText(element, formatClock(at, now));
  return element;
}

/**
 * @param {number} at unix seconds
 * @param {number} now
 */
export const createTime = (at, now) => setTime(document.createElement("time"), at, now);

/**
 * Set text with UTC times, which become <time> elements in the viewer's time zone.
 *
 * @param {HTMLElement} element
 * @param {string} text
 * @param {number} now
 */
export function setTextWithTimes(element, text, now) {
  if (element.dataset.text === text) return;
  element.dataset.text = text;
  const pieces = text.split(/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)/);
  element.replaceChildren(
    ...pieces.map((piece, place) => (place % 2 ? createTime(Date.parse(piece) / 1000, now) : piece)),
  );
}

/**
 * Show a state by shape, word and colour.
 *
 * @param {HTMLElement} element
 * @param {string} state
 */
export function showState(element, state) {
  element.dataset.state = state;
  find(element, "use").setAttribute("href", `#icon-${state}`);
  setText(element.children[1], state);
}

/**
 * Fill a bar up to a share of its length, 0 to 1.
 *
 * @param {HTMLElement} element
 * @param {number} share
 */
export function fillMeter(element, share) {
  find(element, "span").style.inlineSize = `${100 * Math.min(1, Math.max(0, share))}%`;
}

/**
 * Make the children of `parent` these elements in this order, moving as few as possible.
 *
 * @param {Element} parent
 * @param {Element[]} elements
 */
export function arrangeChildren(parent, elements) {
  const focused = /** @type {?HTMLElement} */ (document.activeElement);
  elements.forEach((element, place) => {
    if (parent.children[place] !== element) parent.insertBefore(element, parent.children[place]);
  });
  removeChildrenFrom(parent, elements.length);
  if (focused && focused !== document.activeElement && parent.contains(focused)) focused.focus();
}

/**
 * Remove all children from a place on.
 *
 * @param {Element} parent
 * @param {number} place
 */
export function removeChildrenFrom(parent, place) {
  while (parent.children.length > place) parent.children[place].remove();
}
