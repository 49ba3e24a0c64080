"""Work for `promad.parallel` that fails, or ends its process."""

from __future__ import annotations

import os
import time


def fail_some(settings: int, item: int) -> int:
    """The product; item 3 fails and item 5 ends its process."""
    time.sleep(0.02)
    if item == 3:
        raise ValueError("three is not allowed")
    if item == 5:
        os._exit(1)
    return settings * item


def end_process(settings: object, item: object) -> None:
    """End the process that was given the item."""
    os._exit(1)


def name_process(settings: object, item: object) -> int:
    """The number of the process that was given the item."""
    return os.getpid()


def note_times(settings: object, item: object) -> tuple[float, float]:
    """When the work at an item began and ended, by a clock that all processes share."""
    began = time.monotonic()
    time.sleep(0.02)
    return began, time.monotonic()
