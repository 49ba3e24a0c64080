"""Bundles: a trained detector as a directory, checked before anything in it is opened.

`artifacts_dir/bundles/<UTC time>-<hash>/` holds one training's outcome; the link `current` beside
them points at the one that `filter` and `detect` use.

    manifest    what a bundle contains, and whether it does
    store       which there are, which is in use, and how another is added
    loading     the detector in it, and whether it fits a configuration
"""

from promad.bundle.loading import Opened, check_fits, load_detector, open_detector
from promad.bundle.manifest import (
    CALIBRATION_FILE,
    FORMAT,
    GROUPS_FILE,
    HISTOGRAM_PLOT,
    HISTORY_PLOT,
    MANIFEST_FILE,
    PREPARATION_FILE,
    SCORING_FILE,
    THRESHOLD_FILE,
    Bundle,
    Manifest,
    Range,
    open_bundle,
)
from promad.bundle.store import BundleStore

__all__ = [
    "CALIBRATION_FILE",
    "FORMAT",
    "GROUPS_FILE",
    "HISTOGRAM_PLOT",
    "HISTORY_PLOT",
    "MANIFEST_FILE",
    "PREPARATION_FILE",
    "SCORING_FILE",
    "THRESHOLD_FILE",
    "Bundle",
    "BundleStore",
    "Manifest",
    "Opened",
    "Range",
    "check_fits",
    "load_detector",
    "open_bundle",
    "open_detector",
]
