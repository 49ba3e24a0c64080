/** How a group differs from the other groups of its fleet. */

import { cloneTemplate, find, findById, findPart, setName, setText } from "./elements.js";
import { formatClock, formatCount, formatMultiple, formatNumber, formatShare } from "./format.js";

/**
 * Show a comparison, or nothing without peers.
 *
 * @param {?PeersAnswer} answer
 * @param {number} now unix seconds
 * @param {?number} shard of which the peers are; null without shards
 */
export function renderPeers(answer, now, shard) {
  findById("peers").hidden = answer === null;
  if (!answer) return;
  setText(findById("peers-when"), `at ${formatClock(answer.at, now)}, its leading features`);
  setText(findById("peers-text"), describeScore(answer.score, shard));
  const body = find(document, "table.peers tbody");
  body.replaceChildren(...answer.features.map(createRow));
}

/**
 * @param {PeerComparison} score
 * @param {?number} shard
 */
function describeScore(score, shard) {
  const { value, peers, median, lower_quartile: lower, upper_quartile: upper } = score;
  const own = value === null ? "No score." : `Score: ${formatMultiple(value)} × threshold`;
  if (!peers) return value === null ? own : `${own}. No other group has a score.`;
  const where = shard === null ? "" : ` of shard ${shard}`;
  const others = `${formatCount(peers, "other group")}${where}`;
  const range = `${formatMultiple(lower)} to ${formatMultiple(upper)}`;
  const fleet = `Median of ${others}: ${formatMultiple(median)}, quartiles ${range}.`;
  return value === null ? `${own} ${fleet}` : `${own}, ${describePosition(score)}. ${fleet}`;
}

/** @param {PeerFeature} feature */
function createRow(feature) {
  const row = cloneTemplate("peer-row");
  setName(findPart(row, "name"), feature.name);
  setText(findPart(row, "value"), formatNumber(feature.value));
  setText(findPart(row, "median"), formatNumber(feature.median));
  const [lower, upper] = [feature.lower_quartile, feature.upper_quartile];
  setText(findPart(row, "quartiles"), `${formatNumber(lower)} to ${formatNumber(upper)}`);
  setText(findPart(row, "position"), describePosition(feature));
  return row;
}

/**
 * "higher than 99% of the others".
 *
 * @param {PeerComparison} comparison
 */
function describePosition({ share_below: below, share_above: above }) {
  if (below === null || above === null) return "–";
  if (below === 1) return "higher than all others";
  if (above === 1) return "lower than all others";
  if (below === 0 && above === 0) return "equal to all others";
  const [word, share] = below >= above ? ["higher", below] : ["lower", above];
  return `${word} than ${formatShare(Math.min(share, 0.99))} of the others`;
}
