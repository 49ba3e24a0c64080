"""What glibc keeps of the memory that was freed; elsewhere these functions change nothing."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_M_ARENA_MAX = -8
_SETTINGS = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def use_one_arena() -> None:
    """Let all threads allocate from one arena, unless the environment sets their number.

    Each thread would get an arena of its own, and keep there what only it may use again. Call it
    before the first thread starts.
    """
    if not any(name in os.environ for name in _SETTINGS):
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Return to the system what is free: it takes milliseconds, so call it after rare work."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
