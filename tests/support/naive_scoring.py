"""Slow, obvious twins of scoring, filling as it comes, and the linear pair, for comparison only."""

import math

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge


def moving_average(values, at, span, memory):
    """Weights from the definition, a row, a column and a sample at a time: (rows, columns)."""
    if span == 1:
        return values.copy()
    decay = 1 - 2 / (span + 1)
    half = sum(decay**back for back in range(memory)) / 2
    result = np.full(values.shape, math.nan)
    for row in range(len(values)):
        for column in range(values.shape[1]):
            if math.isnan(values[row, column]):
                continue
            pairs = [
                (decay ** int(at[row] - at[other]), values[other, column])
                for other in range(row + 1)
                if at[row] - at[other] < memory and not math.isnan(values[other, column])
            ]
            known = sum(weight for weight, _ in pairs)
            total = sum(weight * value for weight, value in pairs)
            result[row, column] = total / max(known, half)
    return result


def recursive_average(values, at, span, restarts=(), recent_samples=1):
    """The mean at the last row, each sample before weighing a share less: (columns,).

    Args:
        at: the number of each row's sample; those in between are unknown.
        restarts: after which samples nothing is remembered but the mean of the newest few.
        recent_samples: how many these are.
    """
    decay = 1 - 2 / (span + 1)
    result = np.full(values.shape[1], math.nan)
    for column in range(values.shape[1]):
        total = weight = 0.0
        known = dict(zip(at, values[:, column].tolist(), strict=True))
        for sample in range(at[0], at[-1] + 1):
            total, weight = decay * total, decay * weight
            value = known.get(sample, math.nan)
            if not math.isnan(value):
                total, weight = total + value, weight + 1
            if sample in restarts:
                total = _mean_of_newest(known, sample, recent_samples) * weight
        if not math.isnan(values[-1, column]):
            result[column] = total / max(weight, 0.5 / (1 - decay))
    return result


def recent_average(values, at, recent_samples):
    """The mean of the newest few samples at the last row: (columns,)."""
    result = np.full(values.shape[1], math.nan)
    for column in range(values.shape[1]):
        if not math.isnan(values[-1, column]):
            known = dict(zip(at, values[:, column].tolist(), strict=True))
            result[column] = _mean_of_newest(known, at[-1], recent_samples)
    return result


def _mean_of_newest(known, sample, count):
    newest = [known.get(each, math.nan) for each in range(sample - count + 1, sample + 1)]
    newest = [value for value in newest if not math.isnan(value)]
    return sum(newest) / max(len(newest), 0.5 * count)


def member_score(row, top_k, required_share, compression=None):
    """One model's score of one row of smoothed errors, a list; NaN where too little is known."""
    known = sorted((value for value in row if not math.isnan(value)), reverse=True)
    if not known or len(known) < required_share * len(row) - 1e-9:
        return math.nan
    chosen = known if top_k is None else known[:top_k]
    if compression is not None:
        chosen = [compression * math.log1p(value / compression) for value in chosen]
    return sum(chosen) / len(chosen)


def score(row, members, top_k, required_share, compression=None):
    """A row's score: of several members the mean of log(1 + s)."""
    size = len(row) // members
    each = [
        member_score(row[start : start + size], top_k, required_share, compression)
        for start in range(0, len(row), size)
    ]
    return each[0] if members == 1 else sum(math.log1p(value) for value in each) / members


def fill_as_it_comes(values, strategy, limit, substitutes):
    """Each cell filled if no more than `limit` in a row have been missing up to it."""
    result = values.copy()
    if strategy in {"drop_rows", "none"}:
        return result
    for column in range(values.shape[1]):
        missing, last = 0, math.nan
        for row in range(len(values)):
            if not math.isnan(values[row, column]):
                missing, last = 0, values[row, column]
                continue
            missing += 1
            if missing <= limit:
                fills = strategy == "ffill_then_bfill"
                result[row, column] = last if fills else substitutes[column]
    return result


def linear_parts(training, windows, features, components, lags, ridge):
    """The residuals of all parts and the window errors, by scikit-learn's PCA and Ridge.

    Returns:
        The three parts' residuals at the last sample, (3, windows, features), and the first part's
        mean squared residual over the window.
    """
    plane = PCA(components, svd_solver="full").fit(training.reshape(len(training), -1))
    flat = windows.reshape(len(windows), -1)
    drawn = plane.inverse_transform(plane.transform(flat)).reshape(windows.shape)[:, :, :features]
    past, target = linear_history(training, features, lags), training[:, -1, :features]
    after = Ridge(ridge).fit(past, target)
    predicted = after.predict(linear_history(windows, features, lags)).reshape(-1, features)
    actual = windows[:, :, :features]
    residuals = (
        actual[:, -1] - drawn[:, -1],
        actual[:, -1] - predicted,
        np.column_stack(
            [
                own_residual(training, windows, each, features, lags, ridge)
                for each in range(features)
            ]
        ),
    )
    return np.stack(residuals), np.square(actual - drawn).mean(axis=1)


def own_residual(training, windows, feature, features, lags, ridge):
    """What a Ridge on a feature's own last samples leaves of its last step: (windows,)."""

    def own_history(each):
        own = each[:, -1 - lags : -1, feature]
        return np.column_stack([own, each[:, -1, features:]])

    def steps(each):
        return each[:, -1, feature] - each[:, -2, feature]

    after = Ridge(ridge).fit(own_history(training), steps(training))
    return steps(windows) - after.predict(own_history(windows))


def linear_history(windows, features, lags):
    """For each window the `lags` samples before the last one, and that one's conditions."""
    rows = []
    for window in windows:
        before = [value for sample in window[-1 - lags : -1] for value in sample]
        rows.append(before + list(window[-1, features:]))
    return np.array(rows)
