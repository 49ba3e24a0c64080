/** The view of one incident: its groups, its leading features, and what its groups have in common. */

import { writeAddress } from "./address.js";
import {
  cloneTemplate, createElement, createTime, find, findById, findPart, setName, setText,
  setTextWithTimes,
} from "./elements.js";
import { getRange } from "./event-table.js";
import {
  formatClock, formatCount, formatDuration, formatGroup, formatLabels, formatMultiple, formatShare,
  listContributions,
} from "./format.js";
import { describeState, describeTime, identify } from "./incident-list.js";
import { fetchApi, Poller } from "./polling.js";
import { pathTo } from "./shards.js";

/** @import { View } from "./address.js" */

const MEMBERS_PER_PAGE = 50;
const MAX_MEMBERS = 1000;
const REFRESH_SECONDS = 10;

export class IncidentView {
  /** What `identify` returns. @type {?string} */
  #key = null;
  /** @type {?Poller} */
  #poller = null;
  #limit = MEMBERS_PER_PAGE;
  /** @type {View} */
  #view;
  /** The daemon's now, unix seconds. */
  #now = 0;

  /** @param {View} view */
  constructor(view) {
    this.#view = view;
    findById("more-members").addEventListener("click", () => {
      this.#limit = Math.min(MAX_MEMBERS, this.#limit + MEMBERS_PER_PAGE);
      this.#poller?.run();
    });
  }

  /**
   * Show an incident.
   *
   * @param {View & {incident: string}} view
   * @param {number} now unix seconds
   */
  open(view, now) {
    this.#view = view;
    this.#now = now;
    const key = identify(view.incident, view.shard);
    if (this.#key === key) return;
    this.close();
    this.#key = key;
    this.#limit = MEMBERS_PER_PAGE;
    findById("incident").dataset.known = "false";
    findById("incident-lost").hidden = true;
    this.#poller = new Poller((signal) => this.#refresh(view, signal), () => REFRESH_SECONDS);
    this.#poller.run();
  }

  /** Stop fetching. */
  close() {
    this.#poller?.stop();
    this.#poller = null;
    this.#key = null;
  }

  /**
   * @param {View & {incident: string}} view
   * @param {AbortSignal} signal
   */
  async #refresh({ incident, shard }, signal) {
    try {
      const path = pathTo(`incidents/${encodeURIComponent(incident)}`, shard);
      /** @type {IncidentDetail} */
      const detail = await fetchApi(path, { limit: this.#limit }, signal);
      if (identify(incident, shard) !== this.#key) return;
      findById("incident-lost").hidden = true;
      render(detail, this.#view, this.#now);
    } catch (error) {
      if (!signal.aborted) showError(error);
      throw error;
    }
  }
}

/** @param {unknown} error */
function showError(error) {
  const note = findById("incident-lost");
  const reason = error instanceof Error ? error.message : String(error);
  setText(note, `Could not refresh this incident: ${reason}.`);
  note.hidden = false;
}

/**
 * @param {IncidentDetail} detail
 * @param {View} view
 * @param {number} now
 */
function render({ incident, members }, view, now) {
  findById("incident").dataset.known = "true";
  renderHeadline(incident, now);
  renderFacts(incident, view, now);
  const leading = incident.leading_features.map((feature) => createLeadingRow(feature, incident));
  find(document, "table.leading tbody").replaceChildren(...leading);
  const rows = members.map((member) => createMemberRow(member, view, now));
  find(document, "table.members tbody").replaceChildren(...rows);
  renderNote(members.length, incident.groups);
}

/**
 * @param {IncidentAnswer} incident
 * @param {number} now
 */
function renderHeadline(incident, now) {
  find(document, "#incident .headline").dataset.open = String(incident.open);
  const state = findById("incident-state");
  state.dataset.state = incident.open ? "anomalous" : "warming";
  setText(state.children[1], describeState(incident));
  setText(findById("incident-time"), describeTime(incident, now));
  const [groups, unit] = findById("incident-groups").children;
  setText(groups, formatCount(incident.groups));
  setText(unit, `of ${formatCount(incident.groups_watched, "group")}`);
  setTextWithTimes(findById("incident-text"), incident.paragraph, now);
}

/**
 * @param {IncidentAnswer} incident
 * @param {View} view
 * @param {number} now
 */
function renderFacts(incident, view, now) {
  const { first_group: first, first_labels: labels, peak_group: peak, scope } = incident;
  /** @type {[string, string | Node][]} */
  const facts = [
    ["First group", linkToGroup(first, formatGroup(labels, first), view)],
    ["In common", formatLabels(incident.common_labels) || "no label"],
    ["Scope", formatLabels(scope) || "all groups"],
    ["Still deviating", formatCount(incident.open_groups, "group")],
    ["Peak", `${formatMultiple(incident.peak_score)} × at ${formatClock(incident.peak_at, now)}`],
    ["Group of the peak", linkToGroup(peak, peak, view)],
    ["Features that deviate", formatShare(incident.feature_share)],
    ["Muted", describeMute(incident, now)],
    ["Detector", incident.detector],
    ["Id", incident.id],
  ];
  if (view.shard !== null) facts.push(["Shard", `${view.shard}, the groups of which are counted here`]);
  findById("incident-facts").replaceChildren(...facts.map(([name, value]) => {
    const fact = createElement("div", "");
    const text = createElement("dd", "");
    text.append(value);
    fact.append(createElement("dt", name), text);
    return fact;
  }));
}

/**
 * "backup until 10:24:00", or "no".
 *
 * @param {IncidentAnswer} incident
 * @param {number} now
 */
function describeMute({ muted, unmuted_at: unmutedAt }, now) {
  if (muted === null) return "no";
  return unmutedAt === null ? muted : `${muted} until ${formatClock(unmutedAt, now)}`;
}

/**
 * @param {string} group
 * @param {string} text
 * @param {View} view
 */
function linkToGroup(group, text, view) {
  const href = writeAddress({ ...view, incident: null, group, at: null });
  return createElement("a", text, { href, title: group });
}

/**
 * @param {LeadingFeatureAnswer} feature
 * @param {IncidentAnswer} incident
 */
function createLeadingRow({ name, contribution, groups }, incident) {
  const row = cloneTemplate("leading-row");
  setName(findPart(row, "name"), name);
  setText(findPart(row, "share"), formatShare(contribution));
  setText(findPart(row, "groups"), `${formatCount(groups)} of ${formatCount(incident.groups)}`);
  return row;
}

/**
 * @param {MemberAnswer} member
 * @param {View} view
 * @param {number} now
 */
function createMemberRow(member, view, now) {
  const row = cloneTemplate("member-row");
  row.dataset.group = member.group;
  const link = findPart(row, "link");
  setText(link, formatGroup(member.labels, member.group));
  link.title = member.group;
  const range = getRange(member.onset, member.end, now);
  const target = { ...view, incident: null, group: member.group, ...range, at: member.peak_at };
  link.setAttribute("href", writeAddress(target));
  findPart(row, "start").append(createTime(member.onset, now));
  const length = formatDuration((member.end ?? now) - member.onset);
  setText(findPart(row, "length"), member.open ? `open, ${length}` : length);
  setText(findPart(row, "peak"), `${formatMultiple(member.peak_score)} ×`);
  setText(findPart(row, "features"), listContributions(member.features));
  return row;
}

/**
 * @param {number} shown
 * @param {number} total
 */
function renderNote(shown, total) {
  const all = `${formatCount(total, "group")}`;
  const note = shown < total ? `Showing ${formatCount(shown)} of ${all}.` : "";
  setText(findById("members-note"), note);
  const button = findById("more-members");
  button.hidden = shown >= Math.min(total, MAX_MEMBERS);
  setText(button, `Show ${formatCount(Math.min(MEMBERS_PER_PAGE, total - shown))} more`);
}
