"""Progress bars, which show on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from promad.config import Config
from promad.config.durations import format_instant

Update = Callable[[int, int, str], None]
"""Called with what is done, how much there is in all, and a few words."""

_SHOWN_EVERY = 100


@contextmanager
def show_progress(text: str) -> Iterator[Update]:
    """A progress bar that is gone at the end; yields the function that moves it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
    with Progress(
        *columns, TimeElapsedColumn(), transient=True, disable=not sys.stdout.isatty()
    ) as progress:
        task = progress.add_task(text, total=None, words="")
        yield lambda done, total, words: progress.update(
            task, completed=done, total=total, words=words
        )


@contextmanager
def show_replay_progress(
    config: Config, start: float, end: float
) -> Iterator[Callable[[float], None]]:
    """A bar over the samples from `start` to `end`, in unix seconds.

    Yields what is called with the time of each of them.
    """
    samples = max(round((end - start) / config.data_settings.step), 1)
    seen = count(1)
    with show_progress("replay") as update:

        def show(at: float) -> None:
            number = next(seen)
            if number % _SHOWN_EVERY == 0:
                update(number, samples, format_instant(at))

        yield show
