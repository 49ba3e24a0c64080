"""Segments and their parts, sample by sample: for comparison only."""


def segments(scores, limits):
    """(first, last, peak_at, peak, mean) of each run above the limits."""
    found, run = [], []
    for position in range(len(scores) + 1):
        if position < len(scores) and scores[position] > limits[position]:
            run.append(position)
        elif run:
            peak_at = max(run, key=lambda at: (scores[at], -at))
            mean = sum(scores[at] for at in run) / len(run)
            found.append((run[0], run[-1], peak_at, scores[peak_at], mean))
            run = []
    return found


def parts(first, last, errors, baseline):
    """(elevation, contribution) of every feature."""
    rows = range(first, last + 1)
    means = [
        sum(errors[row][column] for row in rows) / len(rows) for column in range(len(baseline))
    ]
    excess = [max(0.0, mean - usual) for mean, usual in zip(means, baseline, strict=True)]
    counted = excess if sum(excess) > 0 else means
    total = sum(counted) or 1.0
    return [
        (mean / usual, part / total)
        for mean, usual, part in zip(means, baseline, counted, strict=True)
    ]
