"""The one place where samples become judgements: live, in backtests, reports and explanations.

    frame ─► score_samples ─► Scores ─► judge, sample by sample ─► Judgements
             (fill, scale,              (threshold, hysteresis,
              windows, model,            events, deviations)
              moving average)

`run` judges samples that follow on what the state has seen, `catch_up` those of a frame that are
new. Everything that is remembered is in the `State`, which only this module changes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from promad.data.frame import MetricFrame
from promad.data.groups import Labels
from promad.data.rows import Move
from promad.detection.judgements import ANOMALOUS, BLIND, OK, WARMING, Judgements
from promad.detection.state import State
from promad.events.event_book import JudgedColumns
from promad.events.largest_deviations import DeviatingSample, Followed
from promad.events.verdict import (
    CONTRIBUTION,
    ELEVATION,
    ERROR,
    EXPECTED,
    FEATURE_COLUMNS,
    OBSERVED,
    SINCE,
)
from promad.scoring.attribution import share_excess
from promad.scoring.calibration import Calibration
from promad.scoring.detector import Detector
from promad.scoring.onset import compare_with_before, keep_shifted
from promad.scoring.scores import Scores, raise_outside
from promad.scoring.streaming import (
    SAMPLES_AT_ONCE,
    ScoringState,
    restart_averages,
    score_samples,
)

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

_NEAR = 0.3
"""The share of the limit above which it is remembered where features deviate most."""


def step(
    detector: Detector, calibration: Calibration, state: State, samples: MetricFrame
) -> Judgements:
    """The judgements of one sample of each group, the one after the newest that the state has seen.

    Args:
        samples: a frame of one sample; its groups are the rows of calibration and state.
    """
    (judgements,) = run(detector, calibration, state, samples)
    return judgements


def run(
    detector: Detector, calibration: Calibration, state: State, frame: MetricFrame
) -> Iterator[Judgements]:
    """The judgements of samples that follow on what the state has seen, one after the other."""
    for part in frame.split(max(1, SAMPLES_AT_ONCE // max(1, state.groups))):
        scores = score_samples(detector, calibration, state.scoring, part)
        state.seen_until = part.end
        features = _describe_features(calibration, scores)
        mse = _mean_of_known(scores.window_errors)
        for sample in range(part.samples):
            changed = _look_before(detector, calibration, state, scores, sample, part.groups)
            if changed.size:
                _describe_again(calibration, scores, features, changed, sample)
            was_open = state.events.hysteresis.open
            own = features[:, sample]
            judged = _judge(detector, calibration, state, scores, own, mse[:, sample], sample)
            restarting = _find_restarting(state, judged)
            _follow_onsets(detector, state, judged, was_open, sample)
            if restarting.size:
                args = (detector, calibration, state.scoring, scores, restarting, sample)
                restart_averages(*args)
                _describe_again(calibration, scores, features, restarting, sample + 1)
            yield judged


def warm(detector: Detector, calibration: Calibration, state: State, frame: MetricFrame) -> None:
    """Let the state see samples that lead up to the first one to be judged."""
    state.scoring = ScoringState.begin(detector, state.groups)
    times, remembered = (state.restarted_at, state.onsets.at), _count_remembered(detector, state)
    _see(detector, calibration, state.scoring, frame, *times, remembered)
    state.seen_until = frame.end


def _see(
    detector: Detector,
    calibration: Calibration,
    scoring: ScoringState,
    frame: MetricFrame,
    restarted_at: Values,
    onset_at: Values,
    remembered: float,
) -> None:
    """Score samples that are not judged, and let averages restart where they did.

    Args:
        restarted_at, onset_at: see `State` and `Onsets`, of the groups of the frame.
        remembered: for how many samples after an event the window holds any of it.
    """
    for part in frame.split(max(1, SAMPLES_AT_ONCE // max(1, len(frame.groups)))):
        scores = score_samples(detector, calibration, scoring, part)
        for sample, rows in _find_places(restarted_at, part):
            restart_averages(detector, calibration, scoring, scores, rows, sample)
        for sample, rows in _find_places(onset_at, part):
            whole = rows[scores.in_window[rows, sample] == detector.length]
            scoring.remember_before(whole, sample)
        over = restarted_at, remembered, part.groups
        _see_what_is_over(detector, calibration, scoring, scores, *over)


def _see_what_is_over(
    detector: Detector,
    calibration: Calibration,
    scoring: ScoringState,
    scores: Scores,
    restarted_at: Values,
    remembered: float,
    groups: tuple[Labels, ...],
) -> None:
    """Compare samples just after an event with what was before it, as when they were judged."""
    rows, step = np.flatnonzero(scoring.has_before), detector.preparation.step
    since = scores.times - restarted_at[rows, np.newaxis]
    after = (since > step / 2) & (since < remembered * step)
    over = np.ones(len(groups), np.bool_)
    for sample in np.flatnonzero(after.any(axis=0)).tolist():
        own = rows[after[:, sample]]
        compare_with_before(detector, calibration, scoring, scores, own, sample, over, groups)


def _find_places(times: Values, frame: MetricFrame) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each sample of a frame that some groups' times name, and the rows of these groups."""
    places = np.round((times - frame.start) / frame.step)
    within = (places >= 0) & (places < frame.samples)
    for sample in np.unique(places[within]).astype(np.int64).tolist():
        yield sample, np.flatnonzero(places == sample)


def rewarm(
    detector: Detector,
    calibration: Calibration,
    state: State,
    frame: MetricFrame,
    rows: NDArray[np.int64],
) -> None:
    """Let the state of some groups see again the samples up to the newest that it has seen.

    Of groups that are new, or whose samples were corrected; what was judged stays judged.

    Args:
        frame: the newest samples of all groups.
        rows: of the groups, int64 (rows,).
    """
    if state.seen_until is None:
        return
    last = round((state.seen_until - frame.start) / frame.step) + 1
    lead = frame.slice(max(last - detector.samples_needed, 0), max(last, 0))
    groups = tuple(frame.groups[row] for row in rows.tolist())
    part = MetricFrame(lead.start, lead.step, lead.features, groups, lead.values[rows])
    fresh, own = ScoringState.begin(detector, len(rows)), calibration.take(rows)
    times = state.restarted_at[rows], state.onsets.at[rows]
    _see(detector, own, fresh, part, *times, _count_remembered(detector, state))
    state.scoring.adopt(fresh, Move(np.arange(len(rows)), rows))


def catch_up(
    detector: Detector,
    calibration: Calibration,
    state: State,
    frame: MetricFrame,
    corrected_from: float | None = None,
) -> Iterator[Judgements]:
    """The judgements of what is new in a frame of the newest samples.

    At first that is only its last sample, unless the state was resumed; the others lead up to it.
    A sample that was judged before is judged again only in what it shows: it counts no more.

    Args:
        frame: the newest `samples_needed` samples at least, for the first new one.
        corrected_from: unix seconds of the earliest sample that has changed since the last call.
    """
    _turn_back(state, frame)
    seen = state.seen_until
    if seen is None:
        seen = _find_resumption(state, frame)
    elif corrected_from is not None:
        seen = min(seen, corrected_from - frame.step)
    first = round((seen - frame.start) / frame.step) + 1
    is_cut_off = first < 0  # samples between were never polled, and no window may span them
    if is_cut_off:
        first = min(detector.samples_needed, frame.samples) - 1
    if is_cut_off or seen != state.seen_until:
        lead = max(first - detector.samples_needed, 0)
        warm(detector, calibration, state, frame.slice(lead, first))
    yield from run(detector, calibration, state, frame.slice(first, frame.samples))


def _turn_back(state: State, frame: MetricFrame) -> None:
    """If time went back, let what was judged of the future count as not judged."""
    ahead = frame.end + frame.step / 2
    if state.seen_until is not None and state.seen_until > ahead:
        state.seen_until = None
    before = frame.end - frame.step
    state.scored_until = np.where(state.scored_until > ahead, before, state.scored_until)
    state.judged_from = np.minimum(state.judged_from, before)


def _find_resumption(state: State, frame: MetricFrame) -> float:
    """The time after which samples are new to a state that has seen none: unix seconds.

    Of a group that was resumed these are the samples after its newest judged one, of any other only
    the last.
    """
    before = frame.end - frame.step
    resumed = ~np.isnan(state.scored_until)
    state.judged_from = np.where(resumed, -np.inf, before)
    return float(min([before, *state.scored_until[resumed].tolist()]))


def _judge(
    detector: Detector,
    calibration: Calibration,
    state: State,
    scores: Scores,
    features: Values,
    mse: Values,
    sample: int,
) -> Judgements:
    """Hold one sample of each group to its limit, and enter it into the event book.

    Args:
        features: what `_describe_features` has of the sample; what it leaves out is filled in.
        mse: its mean squared error, (groups,).
    """
    at, score = float(scores.times[sample]), scores.score[:, sample]
    known = ~np.isnan(score)
    until = np.fmax(state.scored_until, state.judged_from)
    fresh = known & (at > until + detector.preparation.step / 2)
    recent, held_open = _find_recent(detector, state, scores.recent[:, sample])
    muted = state.mutes.find(at)
    normal, recently = np.where(fresh, score, np.nan), recent
    if muted.flags.any():  # maintenance moves no threshold
        normal[muted.flags] = np.nan
        recently = None if recent is None else np.where(muted.flags, np.nan, recent)
    limit = state.limits.follow(normal, recently, held_open)
    outside = scores.outside[:, sample].any(axis=1)
    score = raise_outside(score, limit, outside)
    recent = None if recent is None else raise_outside(recent, limit, outside)
    _date_deviations(state, features, fresh, at)
    alone = scores.sample_errors[:, sample]
    held = state.held.follow(alone, np.where(fresh, score, np.nan), detector.calm)
    features[:, :, CONTRIBUTION] = share_excess(held, calibration.baseline)
    elevation = alone / calibration.baseline
    groups = Followed(
        fresh,
        near=fresh & (score > _NEAR * limit),
        kept=state.events.hysteresis.open | (fresh & (score > limit)),
    )
    largest = _follow_deviations(state, features, elevation, groups, at)
    columns = JudgedColumns(fresh, score, limit, mse, features)
    began, ended, unmuted = state.events.enter(at, columns, recent, muted)
    state.events.deviations.forget(np.array(list(ended), np.int64))
    state.scored_until = np.where(fresh, at, state.scored_until)
    in_window = scores.in_window[:, sample]
    measured = scores.measured[:, sample]
    warming = measured & (in_window > 0) & (in_window < detector.length)
    with_score = np.where(state.events.hysteresis.open, ANOMALOUS, OK)
    without = np.where(warming, WARMING, BLIND)
    return Judgements(
        at=at,
        names=detector.preparation.features,
        length=detector.length,
        plain=state.events.plain,
        state=np.where(known, with_score, without).astype(np.uint8),
        score=score,
        recent=scores.recent[:, sample],
        limit=limit,
        mse=mse,
        errors=scores.errors[:, sample],
        held_errors=held,
        baseline=calibration.baseline,
        features=features,
        largest=largest,
        missing=scores.missing[:, sample],
        measured=measured,
        in_window=in_window,
        fresh=fresh,
        began=began,
        ended=ended,
        unmuted=unmuted,
    )


def _look_before(
    detector: Detector,
    calibration: Calibration,
    state: State,
    scores: Scores,
    sample: int,
    groups: tuple[Labels, ...],
) -> NDArray[np.int64]:
    """Correct the recent scores of groups with an open event by what was before its onset.

    Returns:
        The groups whose scores changed too, as their event was over a short while ago.
    """
    rule, at = state.events.hysteresis, float(scores.times[sample])
    if rule.hold_seconds == 0 or np.isnan(state.onsets.at).all():
        return np.empty(0, np.int64)
    over = _find_over(detector, state, at)
    held = state.onsets.find_held(at, rule.open | over, rule.hold_seconds)
    compare_with_before(detector, calibration, state.scoring, scores, held, sample, over, groups)
    lasting, limits = held[rule.open[held]], state.limits.limits()
    keep_shifted(state.onsets, calibration, state.scoring, scores, lasting, sample, limits)
    return held[over[held]]


def _count_remembered(detector: Detector, state: State) -> float:
    """For how many samples after an event the window holds any of it, and half a sample less."""
    return max(detector.length - state.events.hysteresis.leave_after, 0) - 0.5


def _find_over(detector: Detector, state: State, at: float) -> Flags:
    """The groups whose window still holds samples of an event that is over: bool (groups,)."""
    since = at - state.restarted_at
    recently = since < _count_remembered(detector, state) * detector.preparation.step
    return np.asarray(recently & ~state.events.hysteresis.open, np.bool_)


def _follow_onsets(
    detector: Detector, state: State, judged: Judgements, was_open: Flags, sample: int
) -> None:
    """Note which groups leave their normal state with a sample, and which are back in it."""
    rule = state.events.hysteresis
    if rule.hold_seconds == 0:
        return
    lasting = rule.find_lasting(judged.score, judged.recent, judged.limit)
    counted = judged.fresh & (judged.in_window == detector.length)
    state.onsets.follow(
        detector,
        state.scoring,
        sample,
        judged.at,
        np.where(judged.fresh, counted & lasting, ~np.isnan(state.onsets.at)),
        was_open,
        rule.open | _find_over(detector, state, judged.at),
    )


def _find_recent(
    detector: Detector, state: State, recent: Values
) -> tuple[Values | None, Flags | None]:
    """The recent scores and the groups whose events they hold open; None where events end by score.

    While an event is open, its samples do not change what is normal.
    """
    if detector.scoring.recent_samples is None or state.events.hysteresis.leave_below is None:
        return None, None
    return recent, state.events.hysteresis.open


def _find_restarting(state: State, judged: Judgements) -> NDArray[np.int64]:
    """The groups whose averages restart after a sample: int64 (rows,).

    Those whose event ended with it, or had when the sample was judged for the first time.
    """
    if state.events.hysteresis.leave_below is None:
        return np.empty(0, np.int64)
    ended = np.array(list(judged.ended), np.int64)
    state.restarted_at[ended] = judged.at
    state.onsets.forget_shifts(ended)
    return np.flatnonzero(state.restarted_at == judged.at)


def _describe_again(
    calibration: Calibration, scores: Scores, features: Values, rows: NDArray[np.int64], first: int
) -> None:
    """Correct what `_describe_features` has of some groups from a sample on."""
    baseline = calibration.baseline[rows, np.newaxis]
    features[rows, first:, :, ELEVATION] = scores.errors[rows, first:] / baseline


def _describe_features(calibration: Calibration, scores: Scores) -> Values:
    """What `FEATURE_COLUMNS` names, but for contributions and since when: (..., features, 6).

    Of all groups and samples. Each column by itself lies contiguous in memory, as it is read by
    itself.
    """
    baseline = calibration.baseline[:, np.newaxis]
    columns = np.empty((len(FEATURE_COLUMNS), *scores.errors.shape))
    columns[ERROR] = scores.window_errors
    columns[OBSERVED], columns[EXPECTED] = scores.observed, scores.expected
    np.divide(scores.errors, baseline, out=columns[ELEVATION])
    columns[[CONTRIBUTION, SINCE]] = np.nan
    return np.moveaxis(columns, 0, -1)


def _date_deviations(state: State, features: Values, fresh: Flags, at: float) -> None:
    """Remember since when each feature has deviated, and put it into the last column."""
    deviates, since = features[:, :, ELEVATION] > 1, state.deviating_since
    counted = fresh[:, np.newaxis]
    np.copyto(since, at, where=deviates & counted & np.isnan(since))
    np.copyto(since, np.nan, where=~deviates & counted)
    np.copyto(features[:, :, SINCE], since, where=deviates)


def _follow_deviations(
    state: State, features: Values, alone: Values, groups: Followed, at: float
) -> Values | None:
    """Remember where each feature deviated most; as `LARGEST_COLUMNS`, of those that deviate.

    In an event that is open or about to begin these are all that have deviated since.

    Args:
        alone: the error of the sample alone over the baseline, (groups, features).
    """
    sample = DeviatingSample(features[:, :, OBSERVED], features[:, :, EXPECTED], alone)
    state.events.deviations.follow(at, sample, groups)
    deviates = (features[:, :, ELEVATION] > 1) | groups.kept[:, np.newaxis]
    return state.events.deviations.view(deviates)


def _mean_of_known(errors: Values) -> Values:
    """The mean of the known features' errors: (..., features) to (...,); NaN if none is known."""
    means = errors.mean(axis=-1)
    rows = np.isnan(means)
    if rows.any():
        known = ~np.isnan(errors[rows])
        total = np.where(known, errors[rows], 0.0).sum(axis=-1)
        count = known.sum(axis=-1)
        means[rows] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return np.asarray(means, np.float64)
