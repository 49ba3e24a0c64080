"""Slow, obvious twins of the clever functions: written from the definition, for comparison only."""

import itertools
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


def stretches(flags):
    """Every maximal run of True as (first, one past last)."""
    found, position = [], 0
    while position < len(flags):
        end = position
        while end < len(flags) and flags[end]:
            end += 1
        if end > position:
            found.append((position, end))
        position = end + 1
    return found


def vus(scores, labels, window, thresholds):
    """Volume under the PR and the ROC surface, one buffer, threshold and sample at a time."""
    known = sorted((score for score in scores if not math.isnan(score)), reverse=True)
    if not any(labels):
        return math.nan, math.nan
    if not known:
        return 0.0, math.nan if all(labels) else 0.5
    levels = [known[int(i * (len(known) - 1) / (thresholds - 1))] for i in range(thresholds)]
    pairs = [_vus_areas(scores, labels, width, levels) for width in range(window + 1)]
    return tuple(sum(area) / len(pairs) for area in zip(*pairs, strict=True))


def _vus_areas(scores, labels, width, levels):
    samples, reach = len(labels), width // 2
    soft = [0.0] * samples
    wide = [list(stretch) for stretch in stretches(labels)]
    for start, end in wide:
        for away in range(1, reach + 1):
            for row in (start - away, end - 1 + away):
                if 0 <= row < samples and not labels[row]:
                    soft[row] = min(1.0, soft[row] + math.sqrt(1 - away / width))
    joined = [wide[0]]
    for start, end in wide[1:]:
        if start - (joined[-1][1] - 1) <= 2 * reach:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    points, pr = [(0.0, 0.0)], 0.0
    for level in levels:
        alarming = [score >= level for score in scores]
        found = sum(1 if labels[row] else soft[row] for row in range(samples) if alarming[row])
        positives = sum(labels) + sum(soft[row] for row in range(samples) if alarming[row]) / 2
        met = sum(any(alarming[max(a - reach, 0) : b + reach]) for a, b in joined) / len(joined)
        recall = min(found / positives, 1) * met
        pr += (recall - points[-1][1]) * found / sum(alarming)
        if not all(labels):
            points.append(((sum(alarming) - found) / (samples - positives), recall))
        else:
            points.append((math.nan, recall))
    points.append((1.0, 1.0))
    roc = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in itertools.pairwise(points))
    return pr, roc


def f1_points(scores, labels):
    """(precision, recall, F1) at each distinct known score, highest first."""
    found = []
    for level in sorted({score for score in scores if not math.isnan(score)}, reverse=True):
        alarming = [score >= level for score in scores]
        found.append(_precision_recall_f1(alarming, labels))
    return found


def _precision_recall_f1(alarming, labels):
    hits = sum(1 for a, b in zip(alarming, labels, strict=True) if a and b)
    precision = hits / sum(alarming) if any(alarming) else 0.0
    recall = hits / sum(labels)
    return precision, recall, 2 * hits / (sum(alarming) + sum(labels))


def auc_pr(scores, labels):
    """Average precision."""
    area, before = 0.0, 0.0
    for precision, recall, _ in f1_points(scores, labels):
        area += (recall - before) * precision
        before = recall
    return area


def best_adjusted_f1(scores, labels, more_than):
    """The best F1 of all thresholds, where segments alarming by more than a share are filled."""
    best = 0.0
    for level in {score for score in scores if not math.isnan(score)}:
        alarming = [score >= level for score in scores]
        for start, end in stretches(labels):
            if sum(alarming[start:end]) > more_than * (end - start):
                alarming[start:end] = [True] * (end - start)
        best = max(best, _precision_recall_f1(alarming, labels)[2])
    return best


def range_rewards(ranges, by, existence):
    """The mean reward of the runs in `ranges` for being met by the runs in `by` (flat bias)."""
    rewards = []
    for start, end in stretches(ranges):
        met = [(a, b) for a, b in stretches(by) if a < end and start < b]
        share = sum(min(b, end) - max(a, start) for a, b in met) / (end - start)
        rewards.append(existence * bool(met) + (1 - existence) * share / max(len(met), 1))
    return sum(rewards) / len(rewards) if rewards else math.nan


def affiliation(alarming, labels):
    """Affiliation precision and recall, by the middles of quarters of samples."""
    events, samples = stretches(labels), len(labels)
    if not events:
        return math.nan, math.nan
    precisions, recalls = [], []
    for number, (start, end) in enumerate(events):
        low = 0 if number == 0 else (events[number - 1][1] + start) / 2
        high = samples if number == len(events) - 1 else (end + events[number + 1][0]) / 2
        middles = [k / 4 + 1 / 8 for k in range(4 * samples)]
        zone = [x for x in middles if low < x < high]
        alarms = [x for x in zone if alarming[int(x)]]

        def chance(centre_low, centre_high, away, low=low, high=high):
            outside = max(0, centre_low - away - low) + max(0, high - centre_high - away)
            return 1 if away == 0 else outside / (high - low)

        if alarms:
            values = [chance(start, end, max(start - x, x - end, 0)) for x in alarms]
            precisions.append(sum(values) / len(values))
        total = 0.0
        for y in (x for x in zone if start < x < end):
            edges = [abs(y - x) - 1 / 8 for x in alarms if x != y]
            away = 0 if y in alarms else min(edges, default=math.inf)
            total += chance(y, y, away) / (4 * (end - start))
        recalls.append(total)
    precision = sum(precisions) / len(precisions) if precisions else math.nan
    return precision, sum(recalls) / len(recalls)


def hits_and_gain(contributions, blamed, looked_at):
    """Hits and discounted gain among the first places, over every order of tied features."""
    features = range(len(blamed))
    orders = [
        order
        for order in itertools.permutations(features)
        if all(
            _height(contributions[a]) >= _height(contributions[b])
            for a, b in itertools.pairwise(order)
        )
    ]
    hits = gain = 0.0
    for order in orders:
        for place, feature in enumerate(order[:looked_at]):
            if blamed[feature] and not math.isnan(contributions[feature]):
                hits += 1
                gain += 1 / math.log2(place + 2)
    return hits / len(orders), gain / len(orders)


def _height(contribution):
    return -math.inf if math.isnan(contribution) else contribution


def sequence_counts(predicted, known):
    """(found, missed, false): each credits the first known one that it shares a row with."""
    credited, false = set(), 0
    for start, end in predicted:
        met = [i for i, (a, b) in enumerate(known) if set(range(a, b)) & set(range(start, end))]
        if met:
            credited.add(met[0])
        else:
            false += 1
    return len(credited), len(known) - len(credited), false


def nab_score(series, threshold, false_alarm, missed):
    """The NAB score of several (ratios, windows) at one threshold, sample by sample."""

    def sigmoid(place):
        return -1.0 if place > 3 else 2 / (1 + math.exp(5 * place)) - 1

    earned = windows_in_all = 0
    for ratios, windows in series:
        first_hit = {}
        for row, ratio in enumerate(ratios):
            if math.isnan(ratio) or ratio < threshold:
                continue
            inside = [i for i, (start, end) in enumerate(windows) if start <= row < end]
            over = [(start, end) for start, end in windows if end <= row]
            if inside:
                start, end = windows[inside[0]]
                first_hit.setdefault(inside[0], sigmoid((row - end) / (end - start)) / sigmoid(-1))
            elif over:
                start, end = over[-1]
                earned += false_alarm * sigmoid((row - (end - 1)) / max(end - 1 - start, 1))
            else:
                earned -= false_alarm
        earned += sum(first_hit.get(i, -missed) for i in range(len(windows)))
        windows_in_all += len(windows)
    null, perfect = -missed * windows_in_all, windows_in_all
    return 100 * (earned - null) / (perfect - null) if windows_in_all else math.nan


def last_value_smoothed(changes, share):
    """The mean of the known changes so far, each weighing a share less than the sample after it."""
    total, weight, found = 0.0, 0.0, []
    for change in changes:
        total, weight = (1 - share) * total, (1 - share) * weight
        if math.isnan(change):
            found.append(math.nan)
            continue
        total, weight = total + change, weight + 1
        found.append(total / weight)
    return found
