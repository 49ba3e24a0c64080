/** The page's one state: which view its address asks for, and whether the daemon answers. */

import { readAddress, writeAddress } from "./address.js";
import { byId, say } from "./elements.js";
import { clock, count } from "./format.js";
import { GroupView } from "./group.js";
import { GroupTable } from "./groups.js";
import { ask, Repeater } from "./polling.js";

const LIST_SECONDS = 5;

let view = readAddress(location.search);
let list = null;
let answeredAt = null;
let lostSince = null;

const table = new GroupTable((wish) => go(wish, { replace: true }));
const group = new GroupView(go);
const groups = new Repeater(refresh, () => LIST_SECONDS);

async function refresh(signal) {
  let answer;
  try {
    answer = await ask("groups", {}, signal);
  } catch (error) {
    lostSince ??= Date.now() / 1000;
    renderConnection();
    throw error;
  }
  // A screen on a wall is never reloaded by hand.
  if (list && answer.version !== list.version) location.reload();
  const lost = lostSince !== null;
  answeredAt = Date.now() / 1000;
  lostSince = null;
  announce(list, answer);
  list = answer;
  show();
  if (lost) group.refresh();
}

/** Change the view and the address with it; "back" undoes it, unless it is to replace. */
function go(change, { replace = false } = {}) {
  const before = shownGroup();
  view = { ...view, ...change };
  const address = writeAddress(view);
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  show();
  if (before !== shownGroup()) moveFocus(before);
}

function moveFocus(from) {
  scrollTo(0, 0);
  if (shownGroup() === null) table.focus(from);
  else byId("group").focus();
}

/** The group that is shown: the one asked for, or the only one there is. */
function shownGroup() {
  const only = list?.groups.length === 1 ? list.groups[0].group : null;
  return view.group ?? only;
}

function show() {
  renderConnection();
  if (!list) return;
  const name = shownGroup();
  const shown = list.groups.find((one) => one.group === name);
  document.body.dataset.view = shown ? "group" : "list";
  document.body.dataset.single = String(list.groups.length === 1);
  byId("list").hidden = !list.groups.length;
  byId("group").hidden = !shown;
  byId("home").href = byId("back").href = writeAddress({ ...view, group: null });
  table.update(list, view);
  if (shown) group.open({ ...view, group: name });
  else group.close();
  renderEmpty(name, shown);
  renderTitle(shown);
}

function renderEmpty(name, shown) {
  byId("empty").hidden = list.groups.length > 0 && (name === null || Boolean(shown));
  say(byId("empty"), list.groups.length
    ? `There is no group called ${name}.`
    : "promad is starting: no detector is at work yet.");
}

function renderTitle(shown) {
  const anomalous = list.groups.filter(({ state }) => state === "anomalous").length;
  const blind = list.groups.filter(({ state }) => state === "blind").length;
  const counts = [anomalous && `${anomalous} anomalous`, blind && `${blind} blind`].filter(Boolean);
  const about = shown ? `${shown.group} ${shown.state}` : counts.join(", ") || "all ok";
  document.title = lostSince === null ? `${about} · promad` : "no answer · promad";
}

function connection() {
  if (document.hidden) return "paused";
  if (lostSince !== null) return "lost";
  return list ? "live" : "waiting";
}

function renderConnection() {
  const state = connection();
  document.body.dataset.connection = state;
  const words = { waiting: "connecting", live: "live", paused: "paused", lost: "no answer" };
  say(byId("connection").firstElementChild, words[state]);
  say(byId("connection").lastElementChild, answeredAt === null ? "" : clock(answeredAt));
  if (list) say(byId("version"), list.version);
  byId("lost").hidden = state !== "lost";
  if (state !== "lost") return;
  document.title = "no answer · promad";
  const since = `The daemon has not answered since ${clock(lostSince)}.`;
  const old = answeredAt === null ? "" : ` What is below was so at ${clock(answeredAt)}.`;
  say(byId("lost"), since + old);
}

/** Tell those who cannot see it which states changed. */
function announce(before, after) {
  if (!before) return;
  const states = new Map(before.groups.map((one) => [one.group, one.state]));
  const changed = after.groups.filter((one) => (states.get(one.group) ?? one.state) !== one.state);
  if (!changed.length) return;
  const each = changed.map((one) => `${one.group} is ${one.state}`).join(", ");
  say(byId("announcer"), changed.length > 3 ? `${count(changed.length)} groups changed` : each);
}

/** The view that a link of this page leads to; null for any other link, or a click with a key. */
function linkedView(event) {
  const link = event.target.closest("a[href]");
  if (!link || link.target || event.button || event.ctrlKey || event.metaKey || event.shiftKey) {
    return null;
  }
  const url = new URL(link.href);
  const here = url.origin === location.origin && url.pathname === location.pathname && !url.hash;
  return here ? readAddress(url.search) : null;
}

document.addEventListener("click", (event) => {
  const wanted = linkedView(event);
  if (!wanted) return;
  event.preventDefault();
  go(wanted);
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input");
  if (event.key === "/" && !typing && byId("search").checkVisibility()) {
    event.preventDefault();
    byId("search").focus();
  }
  if (event.key === "Escape" && !typing && view.group !== null) go({ group: null, at: null });
});

addEventListener("popstate", () => {
  view = readAddress(location.search);
  show();
});

document.addEventListener("visibilitychange", () => show());

groups.now();
