/** The shards of the fleet: where requests about one go, and those that do not respond. */

import { createElement, createTime, findById } from "./elements.js";
import { formatCount } from "./format.js";

/** A group; its shard if there are several. @typedef {GroupAnswer & {shard?: number}} Group */
/** A part of an incident; its shard if there are several. @typedef {IncidentAnswer & {shard?: number}} Incident */
/**
 * The list of groups of this daemon, or of all shards.
 *
 * @typedef {Omit<ShardGroupList, "shards" | "groups" | "selected"> & {
 *   shards?: ShardStatus[], groups: Group[], selected: ?Group}} List
 */

/**
 * The path of a request about a group or an incident below api/v1/.
 *
 * @param {string} path
 * @param {?number} shard null without shards
 */
export const pathTo = (path, shard) => (shard === null ? path : `shards/${shard}/${path}`);

/**
 * "shard 2", in which no line breaks; empty without shards.
 *
 * @param {?number} [shard]
 */
export const nameShard = (shard) => (typeof shard === "number" ? `shard\u00a0${shard}` : "");

/**
 * The shards that do not respond.
 *
 * @param {?List} list
 */
export const listSilent = (list) => (list?.shards ?? []).filter(({ responds }) => !responds);

/**
 * Show which shards do not respond, since when, and why.
 *
 * @param {List} list
 */
export function renderSilent(list) {
  const silent = listSilent(list);
  const note = findById("silent");
  note.hidden = !silent.length;
  const key = JSON.stringify(silent);
  if (note.dataset.shown === key) return;
  note.dataset.shown = key;
  note.replaceChildren(...silent.map((shard) => createLine(shard, list.now)));
}

/**
 * "Shard 2 (http://promad-2:8001) has not responded since 10:02:00: connection failed (…). Its groups
 * and incidents are not shown."
 *
 * @param {ShardStatus} status
 * @param {number} now unix seconds
 */
function createLine({ shard, url, since, error }, now) {
  const line = createElement("p", `Shard ${shard}`);
  if (url) line.append(` (${url})`);
  if (since === null) line.append(" does not respond");
  else line.append(" has not responded since ", createTime(since, now));
  line.append(`: ${error}. Its groups and incidents are not shown.`);
  return line;
}

/**
 * "2 of 3 shards", or null if all respond.
 *
 * @param {?List} list
 */
export function summariseShards(list) {
  const all = list?.shards?.length ?? 0;
  const silent = listSilent(list).length;
  return silent ? `${all - silent} of ${formatCount(all, "shard")}` : null;
}
