"""`/health`, `/models` and `/config`: the loaded bundles, all bundles, and the configuration."""

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
from promad.detection.running_detector import RunningDetector
from promad.web.lookup import REFUSALS, Running
from promad.web.schemas import Health, LoadedDetector, TrainedModel

router = APIRouter(responses={"4XX": REFUSALS["4XX"]}, tags=["State"])

_MASK = "**********"
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")


@router.get(
    "/health",
    name="health",
    responses={503: {"model": Health, "description": "The daemon is starting."}},
)
def get_health(running: Running, response: Response) -> Health:
    """Report whether the daemon can score: 200 once all bundles are loaded, 503 until then."""
    if not running:
        response.status_code = 503
    return Health(
        status="ready" if running else "starting",
        available=[name for served in running for name in BundleStore.of(served.config).ids()],
        loaded=[served.bundle.id for served in running],
    )


@router.get("/models", name="models")
def list_models(running: Running) -> list[TrainedModel]:
    """List all trained bundles, oldest first, except damaged ones."""
    return [model for served in running for model in _list_bundles(served)]


def _list_bundles(served: RunningDetector) -> Iterator[TrainedModel]:
    store = BundleStore.of(served.config)
    current = store.current_id()
    for name in store.ids():
        try:
            manifest = _read_manifest(store.root / name / MANIFEST_FILE)
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
def _read_manifest(path: Path) -> Manifest:
    """The manifest in a file; cached, because bundles never change."""
    return Manifest.model_validate_json(path.read_bytes())


@router.get("/config", name="config")
def get_config(running: Running) -> list[LoadedDetector]:
    """Return each running detector with its configuration; secrets are masked."""
    return [_describe(served) for served in running]


def _describe(served: RunningDetector) -> LoadedDetector:
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
        config=mask_secrets(served.config),
    )


def mask_secrets(config: Config) -> dict[str, Any]:
    """All keys of a configuration; secrets, and credentials in URLs, are asterisks."""
    plain: dict[str, Any] = _mask_user_info(config.model_dump(mode="json"))
    return plain


def _mask_user_info(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mask_user_info(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mask_user_info(inner) for inner in value]
    return _USER_INFO.sub(f"{_MASK}@", value) if isinstance(value, str) else value
