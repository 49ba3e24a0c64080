/** The list of incidents: open ones first, then those that ended, newest first. */

import { writeAddress } from "./address.js";
import {
  cloneTemplate, createTime, find, findById, findPart, setText,
} from "./elements.js";
import {
  formatClock, formatCount, formatDuration, formatGroup, formatLabels, formatMultiple,
} from "./format.js";
import { fetchApi } from "./polling.js";
import { nameShard } from "./shards.js";

/** @import { View } from "./address.js" */
/** @import { Parameter } from "./polling.js" */
/** @import { Incident } from "./shards.js" */

const MAX_OPEN = 50;
const ENDED_PER_PAGE = 5;
/** Ended incidents are fetched again after this time, or when an open one appears or ends. */
const ENDED_SECONDS = 60;
const FEATURES = 3;

export class IncidentList {
  /** @type {Incident[]} */
  #open = [];
  #hasMoreOpen = false;
  /** @type {Incident[]} */
  #ended = [];
  /** @type {?string} */
  #cursor = null;
  #pages = 1;
  /** Unix seconds. */
  #endedAt = -Infinity;
  #isLoaded = false;
  #isMerged = false;
  #table = find(document, "table.incidents");

  /** @param {() => void} onChange is called when more incidents were fetched */
  constructor(onChange) {
    findById("older-incidents").addEventListener("click", async () => {
      this.#pages += 1;
      await this.#fetchEnded(null).catch(showError);
      onChange();
    });
  }

  /**
   * Fetch what may have changed. Failures are shown.
   *
   * @param {boolean} isMerged whether to show the incidents of all shards
   * @param {AbortSignal} signal
   */
  async refresh(isMerged, signal) {
    if (isMerged !== this.#isMerged) this.#endedAt = -Infinity;
    this.#isMerged = isMerged;
    try {
      const page = await this.#fetchPage({ open: true, limit: MAX_OPEN }, signal);
      const isSame = listIds(page.incidents) === listIds(this.#open);
      this.#open = page.incidents;
      this.#hasMoreOpen = page.next !== null;
      if (!isSame || Date.now() / 1000 - this.#endedAt > ENDED_SECONDS) {
        await this.#fetchEnded(signal);
      }
      this.#isLoaded = true;
      findById("incidents-note").hidden = true;
    } catch (error) {
      if (!signal.aborted) showError(error);
    }
  }

  /** @param {?AbortSignal} signal */
  async #fetchEnded(signal) {
    const query = { open: false, limit: ENDED_PER_PAGE * this.#pages };
    const page = await this.#fetchPage(query, signal);
    this.#ended = page.incidents;
    this.#cursor = page.next;
    this.#endedAt = Date.now() / 1000;
  }

  /**
   * @param {Record<string, Parameter>} query
   * @param {?AbortSignal} signal
   * @returns {Promise<{incidents: Incident[], next: ?string}>}
   */
  #fetchPage(query, signal) {
    return fetchApi(this.#isMerged ? "shards/incidents" : "incidents", query, signal);
  }

  /**
   * Show the incidents; none of detectors of one group each, which have no incidents.
   *
   * @param {boolean} isFleet
   * @param {View} view
   * @param {number} now unix seconds
   */
  update(isFleet, view, now) {
    const incidents = [...this.#open, ...this.#ended];
    const isEmpty = !incidents.length;
    findById("incidents").hidden = !this.#isLoaded || (isEmpty && !isFleet);
    this.#table.hidden = isEmpty;
    findById("no-incidents").hidden = !isEmpty;
    findById("older-incidents").hidden = this.#cursor === null;
    const open = `${formatCount(this.#open.length)}${this.#hasMoreOpen ? "+" : ""} open`;
    setText(findById("incidents-count"), isEmpty ? "" : open);
    // A row that has the focus keeps it.
    const focused = this.#findFocused();
    const rows = incidents.map((incident) => createRow(incident, view, now));
    find(this.#table, "tbody").replaceChildren(...rows);
    if (focused) this.focus(focused);
  }

  #findFocused() {
    const row = document.activeElement?.closest("table.incidents tbody tr");
    return row instanceof HTMLElement ? row.dataset.key ?? null : null;
  }

  /**
   * Move the focus to an incident; false if it is not in the list.
   *
   * @param {?string} key of `identify`
   */
  focus(key) {
    const rows = /** @type {HTMLElement[]} */ ([...find(this.#table, "tbody").children]);
    const row = rows.find(({ dataset }) => dataset.key === key);
    if (row) findPart(row, "link").focus();
    return row !== undefined;
  }
}

/** @param {Incident[]} incidents */
const listIds = (incidents) =>
  incidents.map(({ id, shard = null }) => identify(id, shard)).join();

/**
 * What tells an incident from all others: the parts of several shards may have the same id.
 *
 * @param {string} id
 * @param {?number} shard
 */
export const identify = (id, shard) => (shard === null ? id : `${shard}/${id}`);

/** @param {unknown} error */
function showError(error) {
  const note = findById("incidents-note");
  const reason = error instanceof Error ? error.message : String(error);
  setText(note, `Could not refresh the incidents: ${reason}.`);
  note.hidden = false;
  findById("incidents").hidden = false;
}

/**
 * @param {Incident} incident
 * @param {View} view
 * @param {number} now
 */
function createRow(incident, view, now) {
  const row = cloneTemplate("incident-row");
  row.dataset.open = String(incident.open);
  row.dataset.state = incident.open ? "anomalous" : "ok";
  const { id, shard = null } = incident;
  row.dataset.key = identify(id, shard);
  setText(findPart(row, "state"), describeState(incident));
  const link = findPart(row, "link");
  link.setAttribute("href", writeAddress({ ...view, group: null, incident: id, shard }));
  link.append(createTime(incident.start, now));
  link.title = incident.paragraph;
  const length = formatDuration((incident.end ?? now) - incident.start);
  const features = listLeading(incident);
  const first = formatGroup(incident.first_labels, incident.first_group);
  const common = formatLabels(incident.common_labels);
  const causes = [features, common && `in common: ${common}`].filter(Boolean).join(" · ");
  setText(findPart(row, "shard"), String(shard ?? ""));
  const summary = [length, `first ${first}`, causes, nameShard(shard)].filter(Boolean).join(" · ");
  setText(findPart(row, "summary"), summary);
  setText(findPart(row, "groups"), countGroups(incident));
  setText(findPart(row, "length"), length);
  setText(findPart(row, "peak"), `${formatMultiple(incident.peak_score)} ×`);
  setText(findPart(row, "first"), first);
  setText(findPart(row, "features"), causes);
  return row;
}

/**
 * "open", "ended", or "ended, muted" if no alert could fire.
 *
 * @param {IncidentAnswer} incident
 */
export function describeState({ open, muted, unmuted_at: unmutedAt }) {
  const state = open ? "open" : "ended";
  return muted !== null && unmutedAt === null ? `${state}, muted` : state;
}

/**
 * "7 of 200": its groups, of all groups of its scope.
 *
 * @param {IncidentAnswer} incident
 */
const countGroups = ({ groups, groups_watched: watched }) =>
  `${formatCount(groups)} of ${formatCount(watched)}`;

/**
 * "latency (38), errors (31)": leading features and in how many groups they deviate.
 *
 * @param {IncidentAnswer} incident
 */
function listLeading({ leading_features: features }) {
  return features
    .filter(({ groups }) => groups)
    .slice(0, FEATURES)
    .map(({ name, groups }) => `${name} (${formatCount(groups)})`)
    .join(", ");
}

/**
 * When an incident began and ended: "10:02:00 to 10:24:00, 22 min".
 *
 * @param {IncidentAnswer} incident
 * @param {number} now
 */
export function describeTime({ start, end }, now) {
  const length = formatDuration((end ?? now) - start);
  return end === null
    ? `since ${formatClock(start, now)}, ${length}`
    : `${formatClock(start, now)} to ${formatClock(end, now)}, ${length}`;
}
