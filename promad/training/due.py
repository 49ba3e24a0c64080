"""Whether it is time to train again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from promad.bundle import Bundle, BundleStore
from promad.config import format_duration
from promad.errors import BundleError


@dataclass(frozen=True)
class Due:
    """Whether to train, and why or why not in words."""

    is_due: bool
    reason: str


def find_due(store: BundleStore, digests: Mapping[str, str], longest: float, now: float) -> Due:
    """Whether the current bundle is missing, damaged, too old, or made with other settings.

    Args:
        digests: of the settings that a training depends on, by section.
        longest: seconds that a bundle may be old.
        now: unix seconds.
    """
    if store.current_id() is None:
        return Due(True, "no bundle yet")
    try:
        bundle = store.open_current()
    except BundleError as error:
        return Due(True, f"the current bundle is unusable ({error})")
    if not bundle.manifest.settings:
        return Due(True, f"bundle {bundle.id} does not record the settings of its training")
    changed = _list_changed(bundle, digests)
    if changed:
        return Due(True, f"{', '.join(changed)} changed since bundle {bundle.id}")
    age = max(0.0, now - bundle.trained_at)
    words = f"bundle {bundle.id} is {_format_age(age)} old"
    if age >= longest:
        return Due(True, f"{words} (limit {format_duration(longest)})")
    return Due(
        False,
        f"{words} (limit {format_duration(longest)}), and the configuration for training is "
        "unchanged",
    )


def _list_changed(bundle: Bundle, digests: Mapping[str, str]) -> list[str]:
    return [name for name, own in digests.items() if bundle.manifest.settings.get(name) != own]


def _format_age(seconds: float) -> str:
    """An age in full minutes; in seconds if it is less.

    >>> _format_age(59.4), _format_age(86461.0)
    ('59s', '1d1m')
    """
    return format_duration(seconds // 60 * 60 if seconds >= 60 else seconds // 1)
