"""Public labelled data, downloaded and laid out for `promad evaluate`.

    smd, nab, telemanom    the data sets: which entities there are, and how their files are read
    entity_files           what an entity holds, its checks, and the folder that evaluate reads
    downloading            files from a server, by pooch
    checksums.csv          what is known of the files

A data set is a module with `entities(get) -> names` and `read(name, get) -> Content`, where `get`
downloads a file; `SHARED` are the files that several entities come from. Everything is from fixed
commits of public repositories, and is checked:

    smd       OmniAnomaly's Server Machine Dataset: every file by its checksum
    smap-msl  telemanom's data, whose own address is gone, from TranAD's copy: 54 of the 81
              channels by the digest of their content, the others by their numbers of rows
    nab       NAB's realKnownCause series: each by the digest of its content

Beside `promad.prometheus` this is the only part of promad that opens outgoing connections, and it
does so for `promad datasets fetch` alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq

from promad.datasets import nab, smd, telemanom
from promad.datasets.entity_files import write_entity
from promad.errors import DataError, PromadError
from promad.evaluation.labelled import TEST, TRAIN

ORIGIN = "https://raw.githubusercontent.com"

DATA_SETS: Mapping[str, ModuleType] = {"smd": smd, "smap-msl": telemanom, "nab": nab}


@dataclass(frozen=True)
class Fetched:
    """An entity that is there now, and how many rows it has."""

    entity: str
    train_rows: int
    test_rows: int
    was_there: bool


def fetch(name: str, directory: Path, origin: str = ORIGIN) -> Iterator[Fetched]:
    """Download a data set entity by entity; entities that are there already are not changed.

    Args:
        origin: the server to ask, in place of GitHub's for raw files.

    Raises:
        DataError: if there is no such data set, or a file cannot be downloaded or is not the one
            that is known.
        PromadError: if pooch is missing.
    """
    if name not in DATA_SETS:
        raise DataError(f"{name}: no such data set — use one of {', '.join(DATA_SETS)}")
    try:
        from promad.datasets.downloading import Downloader
    except ImportError as error:
        raise PromadError(
            f"data sets are downloaded with pooch ({error}) — pip install 'promad-exporter[train]'"
        ) from None
    source, downloads = DATA_SETS[name], directory / ".downloads"
    downloader = Downloader(origin, downloads)
    for entity in source.entities(downloader.get):
        folder = directory / entity
        was_there = (folder / TEST).exists()
        if not was_there:
            write_entity(folder, source.read(entity, downloader.get))
            downloader.forget(but=source.SHARED)
        train, test = (pq.read_metadata(folder / part).num_rows for part in (TRAIN, TEST))
        yield Fetched(entity, train, test, was_there)
    shutil.rmtree(downloads, ignore_errors=True)
