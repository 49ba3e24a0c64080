"""Slow, obvious twins of the thresholds: written from the definitions, for comparison only."""

import math

import numpy as np


def cluster_peaks(values, level, gap, enter_after):
    """The highest of each run of `enter_after`-sample minima above a level."""
    peaks, below = [], gap
    for row in range(enter_after - 1, len(values)):
        lowest = min(values[row - enter_after + 1 : row + 1])
        if lowest <= level:
            below += 1
        elif below >= gap:
            peaks.append(lowest)
            below = 0
        else:
            peaks[-1] = max(peaks[-1], lowest)
            below = 0
    return peaks


def pareto_likelihood(excesses, shape, scale):
    """The mean log-likelihood of a generalised Pareto tail."""
    total = 0.0
    for excess in excesses:
        if abs(shape) < 1e-12:
            total -= math.log(scale) + excess / scale
        elif 1 + shape * excess / scale <= 0:
            return -math.inf
        else:
            total -= math.log(scale) + (1 / shape + 1) * math.log(1 + shape * excess / scale)
    return total / len(excesses)


def widened(rows, reach, samples):
    """All rows within `reach` of one of `rows`."""
    return sorted({near for row in rows for near in range(row - reach, row + reach + 1)}
                  & set(range(samples)))  # fmt: skip


def runs(rows):
    """Consecutive rows, together."""
    found = []
    for row in rows:
        if found and row == found[-1][-1] + 1:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def epsilon(errors, error_buffer):
    """Epsilon of a window: every factor tried in turn."""
    mean, std = np.mean(errors), np.std(errors)
    best, chosen = -math.inf, mean + 12 * std
    factor = 2.5
    while factor < 12:
        limit = mean + factor * std
        above = [row for row, error in enumerate(errors) if error >= limit]
        if 0 < len(above) < len(errors):
            others = [error for error in errors if error < limit]
            rows = widened(above, error_buffer - 1, len(errors))
            count = sum(len(run) > 1 for run in runs(rows))
            gained = (mean - np.mean(others)) / mean + (std - np.std(others)) / std
            worth = gained / (count**2 + len(rows))
            if worth >= best and count <= 5 and len(rows) < 0.5 * len(errors):
                best, chosen = worth, limit
        factor += 0.5
    return chosen


def sequences(errors, gate, history, batch, error_buffer, minimum_drop, ignore):
    """Anomalous sequences as published: (first row, row after the last, score).

    `gate` gives the gate of a window from its first row and the row after its last.
    """
    size, count = history, -1
    while (count := int((len(errors) - size) / batch)) < 0:
        size -= batch
    scores = {}
    for number in range(count + 1):
        start = number * batch
        window = errors[start:] if number == count else errors[start : start + size]
        first = ignore if number == 0 else len(window) - batch
        found = {}
        own = gate(start, start + len(window))
        for row, score in _window(window, own, first, error_buffer, minimum_drop,
                                  {row - start for row in scores}):  # fmt: skip
            found[row] = max(score, found.get(row, 0.0))
        for row, score in found.items():
            scores[row + start] = max(score, scores.get(row + start, 0.0))
    return [
        (run[0], run[-1] + 1, max(scores[row] for row in run))
        for run in runs(sorted(scores))
        if len(run) > 1
    ]


def _window(errors, gate, first, error_buffer, minimum_drop, known):
    mean, std, highest = np.mean(errors), np.std(errors), max(errors)
    if (
        std == 0
        or not (std > 0.05 * gate.std or highest > 0.05 * gate.spread)
        or highest <= gate.least
    ):
        return []
    turned = 2 * mean - errors
    limits = [epsilon(errors, error_buffer), epsilon(turned, error_buffer)]
    found = []
    for values, limit in zip([errors, turned], limits, strict=True):
        above = [
            row for row, error in enumerate(values) if error >= limit and error > 0.05 * gate.spread
        ]
        rows = [row for row in widened(above, error_buffer, len(errors)) if row >= first]
        others = [error for row, error in enumerate(values) if row not in known | set(rows)]
        groups = sorted((run for run in runs(rows) if len(run) > 1),
                        key=lambda run: -max(values[run]))  # fmt: skip
        peaks = [max(values[run]) for run in groups] + [max(others, default=-math.inf)]
        doubtful = []
        for place in range(len(groups)):
            if (peaks[place] - peaks[place + 1]) / peaks[place] < minimum_drop:
                doubtful.append(place)
            else:
                doubtful = []
        for place, run in enumerate(groups):
            if place not in doubtful:
                found += [
                    (row, max(abs(errors[row] - limits[0]), abs(turned[row] - limits[1]))
                     / (mean + std))
                    for row in run
                ]  # fmt: skip
    return found


def smoothed(errors, span):
    """The weighted mean of all errors so far, weights falling by `1 - 2 / (span + 1)`."""
    keep = 1 - 2 / (span + 1)
    return [
        sum(keep**age * errors[row - age] for age in range(row + 1))
        / sum(keep**age for age in range(row + 1))
        for row in range(len(errors))
    ]
