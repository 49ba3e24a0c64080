/** The list of a group's events, and what people made of them. */

import { writeAddress } from "./address.js";
import { byId, copyOf, make, part, say } from "./elements.js";
import { drivers, duration, multiple, timeElement } from "./format.js";

const AROUND_SECONDS = 900;
const ENDED = {
  bundle: "cut short: another bundle took over",
  unwatched: "cut short: nobody watched",
};

export class EventTable {
  #body = document.querySelector("table.events tbody");

  /** Show events, newest first; `now` is unix seconds. */
  update(events, more, view, now) {
    this.#body.replaceChildren(...events.map((event) => rowOf(event, view, now)));
    document.querySelector("table.events").hidden = !events.length;
    byId("no-events").hidden = events.length > 0;
    byId("older-events").hidden = !more;
    say(byId("record"), record(events));
  }
}

/** "2 judged right, 1 false alarm, of the newest 20". */
function record(events) {
  if (!events.length) return "";
  const judged = (feedback) => events.filter((event) => event.feedback === feedback).length;
  const [right, wrong] = [judged("true"), judged("false")];
  if (!right && !wrong) return `${events.length} shown, none judged yet`;
  return `of ${events.length} shown, ${right} judged real and ${wrong} a false alarm`;
}

function rowOf(event, view, now) {
  const row = copyOf("event-row");
  row.dataset.open = String(event.open);
  row.dataset.event = event.id;
  const length = duration((event.end ?? now) - event.start);
  say(part(row, "length"), event.open ? `open, ${length}` : length);
  say(part(row, "peak"), `${multiple(event.peak_score)} ×`);
  say(part(row, "driven"), drivers(event.features));
  part(row, "driven").title = event.paragraph;
  part(row, "opinion").append(...opinion(event, now));
  const show = part(row, "show");
  show.href = writeAddress({ ...view, ...around(event, now), at: event.peak_at });
  show.append(timeElement(event.start, now));
  return row;
}

function opinion(event, now) {
  const parts = [];
  if (event.feedback === "true") parts.push(make("strong", "real"));
  if (event.feedback === "false") parts.push(make("strong", "false alarm"));
  if (event.acknowledged_at !== null) {
    parts.push(make("span", "acknowledged "), timeElement(event.acknowledged_at, now));
  }
  if (event.comment) parts.push(make("q", event.comment));
  if (ENDED[event.end_reason]) parts.push(make("span", ENDED[event.end_reason]));
  return parts.flatMap((element, place) => (place ? [" ", element] : [element]));
}

/** The time range of an event with what was before and after. */
export function around(event, now) {
  const end = event.end ?? now;
  const pad = Math.max(AROUND_SECONDS, (end - event.start) / 2);
  return { range: null, start: event.start - pad, end: Math.min(end + pad, Math.max(now, end)) };
}
