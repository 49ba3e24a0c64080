"""Public labelled data, downloaded and laid out for `promad evaluate`.

This is the one part of promad beside `promad.prometheus` that opens outgoing connections, and it
does so for `promad datasets fetch` alone. Everything comes from fixed commits of public
repositories, and is checked against what is known of it:

    smd       OmniAnomaly's Server Machine Dataset: every file by its checksum
    smap-msl  the telemanom data, whose own address is gone, from TranAD's copy: 54 of the 81
              channels by the digest of their content, the others by their numbers of rows
    nab       NAB's realKnownCause series: each by the digest of its content

A data set is a module with `entities(get) -> names` and `read(name, get) -> Content`, where `get`
downloads a file; `SHARED` are the files that several entities come from.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq

from promad.datasets import nab, smd, telemanom
from promad.datasets.downloading import ORIGIN, Downloader
from promad.datasets.entity_files import write_entity
from promad.errors import DataError
from promad.evaluation.labelled import TEST, TRAIN

DATA_SETS: Mapping[str, ModuleType] = {"smd": smd, "smap-msl": telemanom, "nab": nab}


@dataclass(frozen=True)
class Fetched:
    """An entity that is there now, and how many rows it has."""

    entity: str
    train_rows: int
    test_rows: int
    was_there: bool


def fetch(name: str, directory: Path, origin: str = ORIGIN) -> Iterator[Fetched]:
    """Download a data set entity by entity; what is there is left as it is.

    Args:
        origin: the server to ask, in place of GitHub's for raw files.

    Raises:
        DataError: if there is no such data set, a file cannot be had, or is not what it should be.
    """
    if name not in DATA_SETS:
        raise DataError(f"{name}: no such data set — there are {', '.join(DATA_SETS)}")
    source = DATA_SETS[name]
    downloads = directory / ".downloads"
    with closing(Downloader(origin, downloads)) as downloader:
        for entity in source.entities(downloader.get):
            folder = directory / entity
            was_there = (folder / TEST).exists()
            if not was_there:
                write_entity(folder, source.read(entity, downloader.get))
                downloader.forget(but=source.SHARED)
            train, test = (pq.read_metadata(folder / part).num_rows for part in (TRAIN, TEST))
            yield Fetched(entity, train, test, was_there)
    shutil.rmtree(downloads, ignore_errors=True)
