/** The state of the page: the view that its address describes, and the connection to the daemon. */

import { readAddress, writeAddress } from "./address.js";
import { findById, setText } from "./elements.js";
import { formatClock, formatCount } from "./format.js";
import { GroupTable } from "./group-list.js";
import { GroupView } from "./group-view.js";
import { fetchApi, Poller } from "./polling.js";

/** @import { View } from "./address.js" */

const LIST_SECONDS = 5;

let view = readAddress(location.search);
/** @type {?GroupList} */
let list = null;
/** Unix seconds of the last response. @type {?number} */
let respondedAt = null;
/** Unix seconds of the first failure since. @type {?number} */
let lostSince = null;

const groupTable = new GroupTable(view, (filter) => changeView(filter, { replace: true }));
const groupView = new GroupView(changeView);
const poller = new Poller(refresh, () => LIST_SECONDS);

/** @param {AbortSignal} signal */
async function refresh(signal) {
  /** @type {GroupList} */
  let answer;
  try {
    answer = await fetchApi("groups", {}, signal);
  } catch (error) {
    lostSince ??= Date.now() / 1000;
    renderConnection();
    throw error;
  }
  // Nobody reloads a wall screen by hand.
  if (list && answer.version !== list.version) location.reload();
  const wasLost = lostSince !== null;
  respondedAt = Date.now() / 1000;
  lostSince = null;
  if (list) announceChanges(list, answer);
  list = answer;
  render();
  if (wasLost) groupView.refresh();
}

/**
 * Change the view and the address. "Back" reverts the change, unless it replaces the entry.
 *
 * @param {Partial<View>} change
 */
function changeView(change, { replace = false } = {}) {
  const before = getShownName();
  view = { ...view, ...change };
  const address = writeAddress(view);
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  render();
  if (before !== getShownName()) moveFocus(before);
}

/** @param {?string} from the group that was shown */
function moveFocus(from) {
  scrollTo(0, 0);
  if (getShownName() === null) groupTable.focus(from);
  else findById("group").focus();
}

/** The name of the group to show: that of the view, or of the only group. */
function getShownName() {
  const only = list?.groups.length === 1 ? list.groups[0].group : null;
  return view.group ?? only;
}

function render() {
  renderConnection();
  if (!list) return;
  const { groups } = list;
  const name = getShownName();
  const shown = groups.find(({ group }) => group === name);
  document.body.dataset.view = shown ? "group" : "list";
  document.body.dataset.single = String(groups.length === 1);
  findById("list").hidden = !groups.length;
  findById("group").hidden = !shown;
  const listAddress = writeAddress({ ...view, group: null });
  for (const id of ["home", "back"]) findById(id).setAttribute("href", listAddress);
  groupTable.update(groups, view);
  if (shown) groupView.open({ ...view, group: shown.group });
  else groupView.close();
  renderEmpty(groups, name);
  renderTitle(groups, shown);
}

/**
 * @param {GroupAnswer[]} groups
 * @param {?string} name
 */
function renderEmpty(groups, name) {
  const isFound = name === null || groups.some(({ group }) => group === name);
  findById("empty").hidden = groups.length > 0 && isFound;
  setText(findById("empty"), groups.length
    ? `No group is named ${name}.`
    : "promad is starting. No detector is running yet.");
}

/**
 * @param {GroupAnswer[]} groups
 * @param {GroupAnswer} [shown]
 */
function renderTitle(groups, shown) {
  const counts = ["anomalous", "blind"]
    .map((state) => [groups.filter((group) => group.state === state).length, state])
    .filter(([amount]) => amount)
    .map(([amount, state]) => `${amount} ${state}`);
  const summary = shown ? `${shown.group} ${shown.state}` : counts.join(", ") || "all ok";
  document.title = lostSince === null ? `${summary} · promad` : "no response · promad";
}

function renderConnection() {
  const [state, text] = getConnection();
  document.body.dataset.connection = state;
  const [label, time] = findById("connection").children;
  setText(label, text);
  setText(time, respondedAt === null ? "" : formatClock(respondedAt));
  if (list) setText(findById("version"), list.version);
  findById("lost").hidden = state !== "lost";
  if (state !== "lost" || lostSince === null) return;
  document.title = "no response · promad";
  const age = respondedAt === null ? "" : ` The data below is from ${formatClock(respondedAt)}.`;
  setText(findById("lost"), `The daemon has not responded since ${formatClock(lostSince)}.${age}`);
}

/** The state of the connection, and its text. */
function getConnection() {
  if (document.hidden) return ["paused", "paused"];
  if (lostSince !== null) return ["lost", "no response"];
  return list ? ["live", "live"] : ["waiting", "connecting"];
}

/**
 * Report changed states to screen readers.
 *
 * @param {GroupList} before
 * @param {GroupList} after
 */
function announceChanges(before, after) {
  const states = new Map(before.groups.map(({ group, state }) => [group, state]));
  const changed = after.groups.filter(({ group, state }) => (states.get(group) ?? state) !== state);
  if (!changed.length) return;
  const each = changed.map(({ group, state }) => `${group} is ${state}`).join(", ");
  const text = changed.length > 3 ? `${formatCount(changed.length)} groups changed state` : each;
  setText(findById("announcer"), text);
}

/**
 * The view that a click on a link of this page leads to; null for other links, and for clicks with
 * a modifier key.
 *
 * @param {MouseEvent} event
 */
function readLinkedView({ target, button, ctrlKey, metaKey, shiftKey }) {
  const link = target instanceof Element ? target.closest("a") : null;
  if (!link?.href || link.target || button || ctrlKey || metaKey || shiftKey) return null;
  const url = new URL(link.href);
  const isHere = url.origin === location.origin && url.pathname === location.pathname && !url.hash;
  return isHere ? readAddress(url.search) : null;
}

document.addEventListener("click", (event) => {
  const linked = readLinkedView(event);
  if (!linked) return;
  event.preventDefault();
  changeView(linked);
});

document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !isTyping && findById("search").checkVisibility()) {
    event.preventDefault();
    findById("search").focus();
  }
  if (event.key === "Escape" && !isTyping && view.group !== null) {
    changeView({ group: null, at: null });
  }
});

addEventListener("popstate", () => {
  view = readAddress(location.search);
  render();
});

document.addEventListener("visibilitychange", () => render());

poller.run();
