/** Small dealings with the document. Text goes in as text: nothing here reads HTML. */

export const byId = (id) => document.getElementById(id);

/** A fresh copy of a template of index.html. */
export const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** The element inside `owner` that is marked `data-part`. */
export const part = (owner, name) => owner.querySelector(`[data-part="${name}"]`);

/** Put text into an element, unless it is there: a reader's selection survives. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Put a name into an element so that a line may break after each underscore. */
export function sayName(element, name) {
  if (element.textContent === name) return;
  const pieces = name.split(/(?<=_)/);
  element.replaceChildren(
    ...pieces.flatMap((piece, place) => (place ? [document.createElement("wbr"), piece] : [piece])),
  );
}

/** A new element with text and attributes. */
export function make(name, text, attributes = {}) {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** Show a state by shape, word and colour. */
export function showState(element, state) {
  element.dataset.state = state;
  element.querySelector("use").setAttribute("href", `#icon-${state}`);
  say(element.lastElementChild, state);
}

/** Fill a bar up to a share of its length, 0 to 1. */
export function fillMeter(element, share) {
  element.firstElementChild.style.inlineSize = `${100 * Math.min(1, Math.max(0, share))}%`;
}

/** Make the children of `parent` these elements in this order, moving as few as possible. */
export function arrange(parent, elements) {
  const focused = document.activeElement;
  elements.forEach((element, place) => {
    if (parent.children[place] !== element) parent.insertBefore(element, parent.children[place]);
  });
  while (parent.children.length > elements.length) parent.lastElementChild.remove();
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus();
}
