"""Slow, obvious twins of the clever functions: written from the definition, for comparison only."""

import json
import math
from datetime import datetime
from zoneinfo import ZoneInfo


def prometheus_series(body: bytes) -> list[tuple[dict[str, str], list[float], list[float]]]:
    """Labels, times and values of each series of an answer; NaN for what is not finite."""
    data = json.loads(body)["data"]
    if data["resultType"] == "scalar":
        items = [{"metric": {}, "values": [data["result"]]}]
    else:
        items = [{"values": [item.get("value")], **item} for item in data["result"]]
    found = []
    for item in items:
        times, values = [], []
        for time, text in item["values"]:
            value = float(text)
            times.append(float(time))
            values.append(value if math.isfinite(value) else math.nan)
        found.append((item["metric"], times, values))
    return found


def filled(values, strategy, limit, substitutes):
    """Gaps of up to `limit` rows filled, a cell at a time; rows of longer gaps are walls."""
    rows, columns = values.shape
    wall = [False] * rows
    for column in range(columns):
        row = 0
        while row < rows:
            end = row
            while end < rows and math.isnan(values[end, column]):
                end += 1
            if end - row > limit:
                wall[row:end] = [True] * (end - row)
            row = end + 1
    result = values.copy()
    if strategy in {"drop_rows", "none"}:
        return result
    for row in range(rows):
        for column in range(columns):
            if not wall[row] and math.isnan(values[row, column]):
                result[row, column] = (
                    _neighbour(values[:, column], wall, row)
                    if strategy == "ffill_then_bfill"
                    else substitutes[column]
                )
    return result


def _neighbour(column, wall, row):
    """The nearest value before the row, else the nearest after it, looking up to the next wall."""
    for ways in (range(row - 1, -1, -1), range(row + 1, len(column))):
        for other in ways:
            if wall[other]:
                break
            if not math.isnan(column[other]):
                return column[other]
    return math.nan


def windows(blocks, length):
    """Every stretch of `length` rows without NaN, block by block: (block, first row) of each."""
    return [
        (number, first)
        for number, block in enumerate(blocks)
        for first in range(len(block) - length + 1)
        if not any(math.isnan(value) for row in block[first : first + length] for value in row)
    ]


def events(scores, threshold, enter_after, leave_after):
    """(first, last, highest) of each event, as positions; `last` is None for one still open."""
    found, position = [], 0
    while position < len(scores):
        run = scores[position : position + enter_after]
        if len(run) < enter_after or not all(score > threshold for score in run):
            position += 1
            continue
        first = position
        end = first + enter_after
        while end <= len(scores):
            if end - leave_after >= first and all(
                score <= threshold for score in scores[end - leave_after : end]
            ):
                break
            end += 1
        over = end <= len(scores)
        inside = range(first, min(end, len(scores)))
        last = max(place for place in inside if scores[place] > threshold)
        highest = max(inside, key=lambda place: (scores[place], -place))
        found.append((first, last if over else None, highest))
        position = end
    return found


def calendar(time, zone):
    """Hour of the day and day of the week (Monday is 0) on the wall, both with their fractions."""
    local = datetime.fromtimestamp(time, ZoneInfo(zone))
    hour = local.hour + local.minute / 60 + local.second / 3600 + local.microsecond / 3.6e9
    return hour, local.weekday() + hour / 24
