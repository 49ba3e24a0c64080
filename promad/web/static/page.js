/** The state of the page: the view that its address describes, and the connection to the daemon. */

import { readAddress, writeAddress } from "./address.js";
import { findById, setText } from "./elements.js";
import { formatClock, formatCount } from "./format.js";
import { GroupTable } from "./group-list.js";
import { GroupView } from "./group-view.js";
import { IncidentView } from "./incident-view.js";
import { identify, IncidentList } from "./incident-list.js";
import { ApiError, fetchApi, Poller } from "./polling.js";
import { listSilent, renderSilent, summariseShards } from "./shards.js";

/** @import { View } from "./address.js" */
/** @import { Parameter } from "./polling.js" */
/** @import { Group, List } from "./shards.js" */

const LIST_SECONDS = 5;
/** The most groups that the list of all shards has. */
const MAX_MERGED = 5000;
/** What the list is fetched again for. @type {(keyof View)[]} */
const FILTERS = ["group", "search", "state", "sort"];

let view = readAddress(location.search);
/** @type {?List} */
let list = null;
/** Whether to fetch the list of all shards; the list of one daemon tells. */
let isMerged = false;
/** The group that the newest list was asked for. @type {?string} */
let askedFor = null;
/** Unix seconds of the last response. @type {?number} */
let respondedAt = null;
/** Unix seconds of the first failure since. @type {?number} */
let lostSince = null;

const groupTable = new GroupTable(
  view, (filter) => changeView(filter, { replace: true }), () => poller.run(),
);
const groupView = new GroupView(changeView);
const incidentList = new IncidentList(() => render());
const incidentView = new IncidentView(view);
const poller = new Poller(refresh, () => LIST_SECONDS);

/** @param {AbortSignal} signal */
async function refresh(signal) {
  const { group } = view;
  /** @type {List} */
  let answer;
  try {
    answer = await fetchList(signal);
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
  askedFor = group;
  render();
  if (wasLost) groupView.refresh();
}

/**
 * The list that the view asks for, of all shards where there is one; with the incidents beside it.
 *
 * @param {AbortSignal} signal
 * @returns {Promise<List>}
 */
async function fetchList(signal) {
  const { group, search, state, sort } = view;
  const query = { search: search || null, state, sort, group, limit: groupTable.limit };
  const limit = Math.min(query.limit, MAX_MERGED);
  const fetchMerged = () => fetchWithIncidents("shards/groups", { ...query, limit }, signal);
  if (isMerged) {
    try {
      return await fetchMerged();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error; // it may not be there any more
    }
  }
  /** @type {GroupList} */
  const own = await fetchWithIncidents("groups", query, signal);
  isMerged = own.merges;
  return isMerged ? fetchMerged() : own;
}

/**
 * @param {string} path
 * @param {Record<string, Parameter>} query
 * @param {AbortSignal} signal
 */
async function fetchWithIncidents(path, query, signal) {
  const [answer] = await Promise.all([fetchApi(path, query, signal), refreshIncidents(signal)]);
  return answer;
}

/** @param {AbortSignal} signal */
async function refreshIncidents(signal) {
  const isShown = view.group === null && view.incident === null && !isSingle();
  if (isShown) await incidentList.refresh(isMerged, signal);
}

/** Whether there is one group in all. */
const isSingle = () => list?.total === 1 && !listSilent(list).length;

/**
 * Change the view and the address. "Back" reverts the change, unless it replaces the entry.
 *
 * @param {Partial<View>} change
 */
function changeView(change, { replace = false } = {}) {
  const before = { shown: getShown(), view };
  view = { ...view, ...change };
  const address = writeAddress(view);
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  showView(before.view);
  if (before.shown !== getShown()) moveFocus(before.shown);
}

/**
 * Show the view, and fetch what the list of the previous one lacks.
 *
 * @param {View} before
 */
function showView(before) {
  render();
  const isBack = before.incident !== null && view.incident === null;
  if (isBack || FILTERS.some((name) => before[name] !== view[name])) poller.run();
}

/** @param {?string} from the group or incident that was shown */
function moveFocus(from) {
  scrollTo(0, 0);
  if (view.incident !== null) findById("incident").focus();
  else if (getShownName() !== null) findById("group").focus();
  else if (!incidentList.focus(from)) groupTable.focus(from);
}

/** What is shown beside the lists: an incident with its shard, a group's name, or null. */
const getShown = () =>
  view.incident === null ? getShownName() : identify(view.incident, getShard());

/** The name of the group to show: that of the view, or of the only group. */
function getShownName() {
  if (view.group !== null) return view.group;
  return isSingle() && view.incident === null ? list?.selected?.group ?? null : null;
}

/**
 * The shard of what is shown; null without shards, and if it is not known.
 *
 * @param {Group} [group]
 */
const getShard = (group) => (list?.shards ? group?.shard ?? view.shard : null);

/**
 * The group with this name; undefined if there is none, or if the list was not asked for it.
 *
 * @param {?string} name
 */
function findGroup(name) {
  if (list?.selected?.group === name) return list?.selected ?? undefined;
  return list?.groups.find(({ group }) => group === name);
}

function render() {
  renderConnection();
  if (!list) return;
  const name = getShownName();
  const group = findGroup(name);
  const shard = getShard(group);
  // Of a shard that does not respond, the group's own request tells why it is not shown.
  const isSilent = listSilent(list).some((each) => each.shard === shard);
  const isMissing = name !== null && !group && !isSilent && askedFor === name;
  const shown = isMissing ? null : name;
  document.body.dataset.view = findViewName(shown);
  document.body.dataset.single = String(isSingle());
  document.body.dataset.sharded = String(Boolean(list.shards));
  findById("list").hidden = !list.total;
  findById("group").hidden = shown === null;
  findById("incident").hidden = view.incident === null;
  const listAddress = writeAddress({ ...view, group: null, incident: null, shard: null });
  for (const id of ["home", "back", "incident-back"]) findById(id).setAttribute("href", listAddress);
  groupTable.update(list, view);
  const isFleet = list.groups.some(({ labels }) => Object.keys(labels).length > 0);
  incidentList.update(isFleet, view, list.now);
  if (shown === null) groupView.close();
  else if (!list.shards || shard !== null) groupView.open({ ...view, group: shown, shard });
  if (view.incident === null) incidentView.close();
  else incidentView.open({ ...view, incident: view.incident, shard }, list.now);
  renderSilent(list);
  renderEmpty(list, isMissing ? name : null);
  renderTitle(list, group);
}

/** @param {?string} group */
function findViewName(group) {
  if (group !== null) return "group";
  return view.incident === null ? "list" : "incident";
}

/**
 * @param {List} list
 * @param {?string} missing the group of the view, if there is none with its name
 */
function renderEmpty(list, missing) {
  const { total, detectors } = list;
  findById("empty").hidden = total > 0 && missing === null;
  const where = listSilent(list).length ? " in the shards that respond" : "";
  const empty = detectors.length
    ? "No group is monitored yet. No query has returned series."
    : "promad is starting. No detector is running yet.";
  setText(findById("empty"), total ? `No group is named ${missing}${where}.` : empty);
}

/**
 * @param {List} list
 * @param {GroupAnswer} [shown]
 */
function renderTitle(list, shown) {
  const { states } = list;
  const counts = ["anomalous", "blind"]
    .filter((state) => states[state])
    .map((state) => `${states[state]} ${state}`);
  const shards = summariseShards(list);
  if (shards) counts.push(`only ${shards}`);
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
  const shards = summariseShards(list);
  if (shards) return ["partial", shards];
  return list ? ["live", "live"] : ["waiting", "connecting"];
}

/**
 * Report changed states to screen readers. A group that was not on the page before is reported if
 * the number of groups in its state rose.
 *
 * @param {List} before
 * @param {List} after
 */
function announceChanges(before, after) {
  const states = new Map(listGroups(before).map(({ group, state }) => [group, state]));
  /** @param {GroupAnswer} group */
  const hasChanged = ({ group, state }) => {
    const earlier = states.get(group);
    const rose = state !== "ok" && after.states[state] > before.states[state];
    return earlier === undefined ? rose && before.total > 1 : earlier !== state;
  };
  const changed = listGroups(after).filter(hasChanged);
  if (!changed.length) return;
  const each = changed.map(({ group, state }) => `${group} is ${state}`).join(", ");
  const text = changed.length > 3 ? `${formatCount(changed.length)} groups changed state` : each;
  setText(findById("announcer"), text);
}

/**
 * The groups of a response, each once.
 *
 * @param {List} list
 */
function listGroups({ groups, selected }) {
  const isListed = groups.some(({ group }) => group === selected?.group);
  return selected && !isListed ? [...groups, selected] : groups;
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
  const isTyping = event.target instanceof HTMLInputElement ||
    event.target instanceof HTMLSelectElement;
  if (event.key === "/" && !isTyping && findById("search").checkVisibility()) {
    event.preventDefault();
    findById("search").focus();
  }
  if (event.key === "Escape" && !isTyping && (view.group ?? view.incident) !== null) {
    changeView({ group: null, incident: null, shard: null, at: null });
  }
});

addEventListener("popstate", () => {
  const before = view;
  view = readAddress(location.search);
  showView(before);
});

document.addEventListener("visibilitychange", () => render());

poller.run();
