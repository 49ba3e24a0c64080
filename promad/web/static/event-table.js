/** The table of a group's events and their feedback. */

import { writeAddress } from "./address.js";
import { cloneTemplate, createElement, createTime, find, findById, findPart, setText }
  from "./elements.js";
import { formatDuration, formatMultiple, listContributions } from "./format.js";

/** @import { View } from "./address.js" */

const MARGIN_SECONDS = 900;
/** @type {Record<string, string>} */
const EARLY_END = {
  bundle: "ended early: the bundle was replaced",
  unwatched: "ended early: monitoring was interrupted",
  moved: "continues in another shard",
};

export class EventTable {
  #table = find(document, "table.events");

  /**
   * @param {EventAnswer[]} events newest first
   * @param {boolean} hasOlder whether the log has older events
   * @param {View} view
   * @param {number} now unix seconds
   */
  update(events, hasOlder, view, now) {
    const rows = events.map((event) => createRow(event, view, now));
    find(this.#table, "tbody").replaceChildren(...rows);
    this.#table.hidden = !events.length;
    findById("no-events").hidden = events.length > 0;
    findById("older-events").hidden = !hasOlder;
    setText(findById("feedback"), summarise(events));
  }
}

/**
 * "20 shown: 2 confirmed, 1 false alarm".
 *
 * @param {EventAnswer[]} events
 */
function summarise(events) {
  if (!events.length) return "";
  /** @param {string} feedback */
  const count = (feedback) => events.filter((event) => event.feedback === feedback).length;
  const [confirmed, falseAlarms] = [count("true"), count("false")];
  if (!confirmed && !falseAlarms) return `${events.length} shown, no feedback`;
  const plural = falseAlarms === 1 ? "" : "s";
  return `${events.length} shown: ${confirmed} confirmed, ${falseAlarms} false alarm${plural}`;
}

/**
 * @param {EventAnswer} event
 * @param {View} view
 * @param {number} now
 */
function createRow(event, view, now) {
  const row = cloneTemplate("event-row");
  row.dataset.open = String(event.open);
  row.dataset.event = event.id;
  const length = formatDuration((event.end ?? now) - event.start);
  setText(findPart(row, "length"), event.open ? `open, ${length}` : length);
  setText(findPart(row, "peak"), `${formatMultiple(event.peak_score)} ×`);
  setText(findPart(row, "features"), listContributions(event.features));
  findPart(row, "features").title = event.paragraph;
  findPart(row, "feedback").append(...createFeedback(event, now));
  const incident = findPart(row, "incident");
  incident.hidden = event.incident === null;
  incident.setAttribute("href", writeAddress({ ...view, group: null, incident: event.incident }));
  const link = findPart(row, "show");
  const range = getRange(event.start, event.end, now);
  link.setAttribute("href", writeAddress({ ...view, ...range, at: event.peak_at }));
  link.append(createTime(event.start, now));
  return row;
}

/**
 * @param {EventAnswer} event
 * @param {number} now
 */
function createFeedback(event, now) {
  const parts = [];
  if (event.feedback === "true") parts.push(createElement("strong", "confirmed"));
  if (event.feedback === "false") parts.push(createElement("strong", "false alarm"));
  if (event.acknowledged_at !== null) {
    parts.push(createElement("span", "acknowledged "), createTime(event.acknowledged_at, now));
  }
  if (event.comment) parts.push(createElement("q", event.comment));
  if (event.muted !== null) parts.push(...describeMute(event.muted, event.unmuted_at, now));
  const early = EARLY_END[event.end_reason ?? ""];
  if (early) parts.push(createElement("span", early));
  return parts.flatMap((element, place) => (place ? [" ", element] : [element]));
}

/**
 * "muted: backup", and until when, if the event outlasted that.
 *
 * @param {string} title
 * @param {?number} unmutedAt unix seconds
 * @param {number} now
 */
function describeMute(title, unmutedAt, now) {
  const text = createElement("span", `muted: ${title}`);
  return unmutedAt === null ? [text] : [text, createElement("span", "until"), createTime(unmutedAt, now)];
}

/**
 * The time range that shows an event with some time before and after it; unix seconds.
 *
 * @param {number} start
 * @param {?number} ended null while it is open
 * @param {number} now
 */
export function getRange(start, ended, now) {
  const end = ended ?? now;
  const margin = Math.max(MARGIN_SECONDS, (end - start) / 2);
  const latest = Math.min(end + margin, Math.max(now, end));
  return { range: null, start: start - margin, end: latest };
}
