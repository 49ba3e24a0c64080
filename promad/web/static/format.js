/** Numbers and times as text: the viewer's time zone, 24 hours, four digits. */

const clockFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const dayFormat = new Intl.DateTimeFormat(undefined, {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const yearFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

/**
 * The least value, the suffix and the divisor of each unit.
 *
 * @type {[number, string, number][]}
 */
const UNITS = [[1e12, "T", 1e12], [1e9, "G", 1e9], [1e6, "M", 1e6], [1e4, "k", 1e3]];
const MISSING = "–";

/**
 * A time of day, with the date unless it is the date of `now`; unix seconds.
 *
 * @param {number} at
 * @param {number} now
 */
export function formatClock(at, now = Date.now() / 1000) {
  const date = new Date(at * 1000);
  if (Math.abs(now - at) > 180 * 86400) return yearFormat.format(date);
  const isToday = date.toDateString() === new Date(now * 1000).toDateString();
  return (isToday ? clockFormat : dayFormat).format(date);
}

/**
 * A time in UTC, to the second.
 *
 * @param {number} at unix seconds
 */
export const formatUtc = (at) => new Date(Math.floor(at) * 1000).toISOString().replace(".000", "");

/**
 * Seconds in the two largest units that matter: "2 h 05 min".
 *
 * @param {number} seconds
 */
export function formatDuration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/**
 * A number to four digits, with k, M, G and T; a dash without a value.
 *
 * @param {?number} [value]
 */
export function formatNumber(value) {
  if (value === null || value === undefined) return MISSING;
  const [, suffix, divisor] = UNITS.find(([least]) => Math.abs(value) >= least) ?? [0, "", 1];
  const digits = Number((value / divisor).toPrecision(4));
  return suffix ? `${digits} ${suffix}` : String(digits);
}

/**
 * A multiple to three digits: "2.72".
 *
 * @param {?number} [value]
 */
export function formatMultiple(value) {
  if (value === null || value === undefined) return MISSING;
  if (value < 0.001) return "0";
  return value >= 100 ? formatNumber(Math.round(value)) : value.toPrecision(3);
}

/**
 * A share, 0 to 1, in per cent.
 *
 * @param {?number} [value]
 */
export function formatShare(value) {
  if (value === null || value === undefined) return MISSING;
  return value > 0 && value < 0.005 ? "<1%" : `${Math.round(100 * value)}%`;
}

/**
 * A number of things: "1 group", "1 000 groups".
 *
 * @param {number} amount
 * @param {string} noun
 */
export function formatCount(amount, noun = "") {
  const digits = amount.toLocaleString("en").replaceAll(",", " ");
  return noun ? `${digits} ${noun}${amount === 1 ? "" : "s"}` : digits;
}

/**
 * A group by its label values; by its name if it has no labels.
 *
 * @param {Record<string, string>} labels
 * @param {string} name
 */
export const formatGroup = (labels, name) => Object.values(labels).join(" · ") || name;

/**
 * Labels as in PromQL, without braces.
 *
 * @param {Record<string, string>} labels
 */
export const formatLabels = (labels) =>
  Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(", ");

/**
 * "latency 73%, disk 20%": the three features that contribute most.
 *
 * @param {{name: string, contribution: number}[]} features largest contribution first
 */
export function listContributions(features) {
  return features
    .filter((feature) => feature.contribution > 0)
    .slice(0, 3)
    .map((feature) => `${feature.name} ${formatShare(feature.contribution)}`)
    .join(", ");
}
