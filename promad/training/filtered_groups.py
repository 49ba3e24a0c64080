"""Which group each window in a file of `filter` is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels, list_matchers
from promad.errors import DataError
from promad.files import DAMAGED, explain_damage, write_whole


def locate_groups(path: Path) -> Path:
    """The file that has the groups of the windows in a .npy file.

    >>> print(locate_groups(Path("normal_sequences.npy")))
    normal_sequences_groups.npz
    """
    return path.with_name(f"{path.stem}_groups.npz")


def write_groups_of(path: Path, of: NDArray[np.int64], groups: Sequence[Labels]) -> None:
    """Write which group each window is of: `group_of` (windows,), places in `groups`, their names.

    Args:
        path: of the windows.

    Raises:
        DataError: if the file cannot be written.
    """
    names = np.array([list_matchers(labels) for labels in groups], np.str_)
    with write_whole(locate_groups(path)) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, groups=names, group_of=of.astype(np.int32))


def read_groups_of(path: Path, groups: Sequence[Labels]) -> NDArray[np.int64]:
    """The place in `groups` of the group of each window: int64 (windows,).

    Args:
        path: of the windows.

    Raises:
        DataError: if the file is missing or damaged, or has other groups.
    """
    source = locate_groups(path)
    if not source.is_file():
        raise DataError(f"{source}: no such file — run promad filter first")
    try:
        with np.load(source, allow_pickle=False) as stored:
            names, of = stored["groups"].tolist(), stored["group_of"].astype(np.int64)
        if of.ndim != 1 or (len(of) and not 0 <= of.min() <= of.max() < len(names)):
            raise ValueError("its groups are not numbered")
    except (*DAMAGED, KeyError) as error:
        raise DataError(
            f"{source}: cannot be read ({explain_damage(error)}) — run promad filter again"
        ) from error
    if names != [list_matchers(labels) for labels in groups]:
        raise DataError(
            f"{source}: was not made from the groups of the current processed data — run promad "
            "filter again"
        )
    return np.asarray(of, np.int64)
