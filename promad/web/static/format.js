/** Numbers and times as people read them: the viewer's time zone, 24 hours, four digits. */

const clockFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const dayFormat = new Intl.DateTimeFormat(undefined, {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const yearFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const STEPS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k", 1e3]];

/** A time of day, with the date unless it is near `now`; unix seconds. */
export function clock(at, now = Date.now() / 1000) {
  const date = new Date(at * 1000);
  if (Math.abs(now - at) > 180 * 86400) return yearFormat.format(date);
  const sameDay = date.toDateString() === new Date(now * 1000).toDateString();
  return (sameDay ? clockFormat : dayFormat).format(date);
}

/** The same time in UTC, to the second. */
export const utc = (at) => new Date(Math.floor(at) * 1000).toISOString().replace(".000", "");

/** A <time> in the viewer's zone that tells UTC to machines and in its tooltip. */
export function fillTime(element, at, now) {
  element.dateTime = utc(at);
  element.title = `${utc(at)} (UTC)`;
  const text = clock(at, now);
  if (element.textContent !== text) element.textContent = text;
  return element;
}

export const timeElement = (at, now) => fillTime(document.createElement("time"), at, now);

/** A text's parts, its UTC times as <time> in the viewer's zone. */
export function withTimes(text, now) {
  return text
    .split(/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)/)
    .map((piece, place) => (place % 2 ? timeElement(Date.parse(piece) / 1000, now) : piece));
}

/** Seconds in the two largest units that say something: "2 h 05 min". */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Four digits, with k, M, G and T; a dash for what is not known. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  const [, suffix, divisor] = STEPS.map(([from, name, by]) => [from, name, by ?? from])
    .find(([from]) => Math.abs(value) >= from) ?? [0, "", 1];
  const digits = Number((value / divisor).toPrecision(4));
  return suffix ? `${digits} ${suffix}` : String(digits);
}

/** A multiple to three digits: "2.72". */
export function multiple(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.001) return "0";
  return value >= 100 ? number(Math.round(value)) : value.toPrecision(3);
}

/** A share, 0 to 1, in per cent. */
export function share(value) {
  if (value === null || value === undefined) return "–";
  return value > 0 && value < 0.005 ? "<1%" : `${Math.round(100 * value)}%`;
}

/** "latency 73%, disk 20%" of features that contribute, the largest three. */
export function drivers(features) {
  return features
    .filter((feature) => feature.contribution > 0)
    .slice(0, 3)
    .map((feature) => `${feature.name} ${share(feature.contribution)}`)
    .join(", ");
}

export const count = (amount) => amount.toLocaleString("en").replaceAll(",", " ");
