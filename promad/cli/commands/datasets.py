"""`promad datasets`: public labelled data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.extras import require_downloads
from promad.cli.output import format_count, print_lines

if TYPE_CHECKING:
    from promad.datasets import Fetched

HELP = "Download public labelled data."


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="smd, smap-msl or nab.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Directory to create (default: data/NAME)."),
    ] = None,
) -> None:
    """Download a public data set and convert it for promad evaluate.

    Every file is verified. Files that exist are kept, so an interrupted download resumes.
    """
    require_downloads("datasets fetch")
    run_fetch(name, to or Path("data") / name)


def run_fetch(name: str, directory: Path) -> None:
    """Fetch a public data set, and print a line for each entity."""
    from promad.datasets import fetch as fetch_entities

    folders = set()
    for fetched in fetch_entities(name, directory):
        print_lines([format_fetched(fetched)])
        folders.add((directory / fetched.entity).parent)
    print_lines(
        f"datasets: {name} is complete; run promad evaluate {folder}" for folder in sorted(folders)
    )


def format_fetched(fetched: Fetched) -> str:
    """One entity of a public data set."""
    how = "exists" if fetched.was_there else "downloaded"
    train = format_count(fetched.train_rows, "training row")
    return f"  {fetched.entity}: {how}, {train}, {format_count(fetched.test_rows, 'test row')}"


COMMANDS: Mapping[str, Callable[..., None]] = {"fetch": fetch}
