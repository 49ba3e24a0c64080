"""`/health`, `/models` and `/config`: what there is to score with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from promad.bundle import MANIFEST_FILE, BundleStore, Manifest
from promad.config import Config
from promad.detection.running_detector import Served
from promad.web.lookup import REFUSALS, AtWork
from promad.web.schemas import Health, LoadedDetector, TrainedModel

router = APIRouter(responses={"4XX": REFUSALS["4XX"]}, tags=["State"])

_MASK = "**********"
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")


@router.get("/health", responses={503: {"model": Health, "description": "The daemon starts."}})
def health(at_work: AtWork, response: Response) -> Health:
    """Whether the daemon can score: 200 once every bundle is loaded, 503 until then."""
    if not at_work:
        response.status_code = 503
    return Health(
        status="ready" if at_work else "starting",
        available=[name for served in at_work for name in BundleStore.of(served.config).ids()],
        loaded=[served.bundle.id for served in at_work],
    )


@router.get("/models")
def models(at_work: AtWork) -> list[TrainedModel]:
    """Every bundle that a training left, oldest first; those that are damaged are left out."""
    return [model for served in at_work for model in _trained(served)]


def _trained(served: Served) -> Iterator[TrainedModel]:
    store = BundleStore.of(served.config)
    current = store.current_id()
    for name in store.ids():
        try:
            manifest = _manifest(store.root / name / MANIFEST_FILE)
            yield TrainedModel(
                detector=served.config.name,
                bundle=name,
                model=manifest.model,
                preset=manifest.preset,
                trained_at=manifest.created,
                n_features=len(manifest.queries),
                threshold=manifest.threshold["value"],
                threshold_method=manifest.threshold["method"],
                current=name == current,
                loaded=name == served.bundle.id,
            )
        except (OSError, ValidationError, KeyError):
            continue


@lru_cache(maxsize=1000)
def _manifest(path: Path) -> Manifest:
    """The manifest in a file, which is read once: bundles never change."""
    return Manifest.model_validate_json(path.read_bytes())


@router.get("/config")
def config(at_work: AtWork) -> list[LoadedDetector]:
    """What is at work, with its configuration; secrets are masked."""
    return [_loaded(served) for served in at_work]


def _loaded(served: Served) -> LoadedDetector:
    detector, manifest = served.detector, served.bundle.manifest
    threshold, preparation = detector.threshold, detector.preparation
    return LoadedDetector(
        detector=served.config.name,
        bundle=served.bundle.id,
        model=manifest.model,
        preset=manifest.preset,
        threshold=threshold.value,
        threshold_method=threshold.method,
        expected_false_alarms_per_week=threshold.expected_false_alarms_per_week,
        n_features=len(preparation.features),
        features=list(preparation.features),
        window_size=detector.length,
        step_seconds=preparation.step,
        device="cpu",
        config=masked(served.config),
    )


def masked(config: Config) -> dict[str, Any]:
    """Every key of a configuration; secrets, and credentials in addresses, are stars."""
    plain: dict[str, Any] = _without_user_info(config.model_dump(mode="json"))
    return plain


def _without_user_info(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_user_info(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_user_info(inner) for inner in value]
    return _USER_INFO.sub(f"{_MASK}@", value) if isinstance(value, str) else value
