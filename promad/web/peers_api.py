"""`/api/v1/peers`: how a group differs from the other groups of its fleet."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from promad.events.verdict import FEATURE_COLUMNS
from promad.exposition.fleet import GroupColumns
from promad.web.answers import drop_nan
from promad.web.lookup import REFUSALS, GroupParameter, MonitoredGroup, Running, find_group
from promad.web.schemas import PeerComparison, PeerFeature, PeersAnswer

router = APIRouter(prefix="/api/v1", responses=REFUSALS, tags=["Groups"])

_OBSERVED, _CONTRIBUTION, _ELEVATION = map(
    FEATURE_COLUMNS.index, ("observed", "contribution", "elevation")
)


@router.get("/peers", name="peers")
def get_peers(
    running: Running,
    name: GroupParameter = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 6,
) -> PeersAnswer:
    """Compare a group with the other groups of its fleet: its score and its leading features."""
    group = find_group(running, name)
    columns = _read_columns(group)
    scores = columns.score / columns.threshold
    own = columns.features[group.row]
    return PeersAnswer(
        group=group.name,
        at=group.status.verdict.at,
        peers=len(columns.labels) - 1,
        score=_compare(scores, group.row),
        features=[
            PeerFeature(
                name=columns.feature_names[place],
                contribution=float(np.nan_to_num(own[place, _CONTRIBUTION])),
                **_compare(columns.features[:, place, _OBSERVED], group.row).model_dump(),
            )
            for place in _rank_features(own)[:limit]
        ],
    )


def _read_columns(group: MonitoredGroup) -> GroupColumns:
    if group.fleet is not None:
        return group.fleet
    raise HTTPException(
        404,
        f"detector {group.served.config.name} monitors one group, which has no peers "
        "— set group_by to monitor several",
    )


def _rank_features(features: NDArray[np.float64]) -> list[int]:
    """Places of the features of one group, (features, 6): largest contribution, then elevation."""
    known = np.nan_to_num(features)
    order = np.lexsort((-known[:, _ELEVATION], -known[:, _CONTRIBUTION]))
    ranked: list[int] = order.tolist()
    return ranked


def _compare(values: NDArray[np.float64], row: int) -> PeerComparison:
    """The value of one group with those of the others, (groups,); NaN where unknown."""
    own = float(values[row])
    others = np.delete(values, row)
    others = others[np.isfinite(others)]
    if not others.size:
        return PeerComparison(value=drop_nan(own), peers=0)
    lower, median, upper = np.percentile(others, (25, 50, 75)).tolist()
    return PeerComparison(
        value=drop_nan(own),
        peers=others.size,
        lower_quartile=lower,
        median=median,
        upper_quartile=upper,
        share_below=None if np.isnan(own) else float((others < own).mean()),
        share_above=None if np.isnan(own) else float((others > own).mean()),
    )
