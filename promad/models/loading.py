"""Loading a model: what is damaged or does not fit is one error, and is found before it is used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

from promad.errors import BundleError
from promad.files import DAMAGED, explain_damage
from promad.models.base import Model, Outcome

LARGEST_FILE = 1 << 29
"""The bytes that a model's file may have."""


@contextmanager
def refuse_unreadable(path: Path, wanted: str = "readable model") -> Iterator[None]:
    """Make a BundleError that names the path of any error that damaged content causes.

    Args:
        wanted: what the file should have been.
    """
    try:
        yield
    except DAMAGED as error:
        raise BundleError(
            f"{path}: not a {wanted} ({explain_damage(error)}) — train again or roll back"
        ) from error


def require_fit(model: Model, shape: tuple[int, int], features: int, members: int | None) -> None:
    """Try a model on a window of zeros, and refuse what does not fit the rest of the bundle.

    Args:
        shape: of a window, (length, width).
        features: how many columns it must reconstruct.
        members: how many models' errors it must return side by side; None if they are not used.

    Raises:
        ValueError: naming what is wrong.
    """
    if not 1 <= model.length <= shape[0]:
        raise ValueError(f"it looks at {model.length} samples; windows have {shape[0]}")
    outcome = model.apply(np.zeros((1, *shape), np.float32))
    if not _has_width(outcome, features, members):
        raise ValueError(f"it does not reconstruct {features} features")
    for values in (outcome.errors, outcome.expected, outcome.window_errors):
        if not np.isfinite(values).all():
            raise ValueError("its results are not finite")


def _has_width(outcome: Outcome, features: int, members: int | None) -> bool:
    one = (1, features)
    return (
        (members is None or outcome.errors.shape == (1, members * features))
        and outcome.expected.shape == one
        and outcome.window_errors.shape == one
    )


def read_arrays(
    file: BytesIO, names: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """The arrays of an .npz file as `np.savez` writes it: exactly these, of finite numbers.

    Those that are optional may be missing. Nothing is unpacked: every entry must be stored
    uncompressed and hold just what its header announces, so the arrays are no larger than the file.

    Raises:
        ValueError, BadZipFile: if the file is anything else.
    """
    with ZipFile(file) as archive:
        entries = archive.infolist()
        found = [entry.filename.removesuffix(".npy") for entry in entries]
        present = [*names, *(name for name in optional if name in found)]
        if sorted(entry.filename for entry in entries) != sorted(f"{name}.npy" for name in present):
            raise ValueError(f"does not contain exactly the arrays {', '.join(names)}")
        if any(entry.compress_type != ZIP_STORED for entry in entries):
            raise ValueError("contains compressed arrays")
        if sum(entry.file_size for entry in entries) > file.getbuffer().nbytes:
            raise ValueError("announces more bytes than it has")
        return {name: _read_numbers(archive.read(f"{name}.npy"), name) for name in present}


def _read_numbers(content: bytes, name: str) -> NDArray[np.float64]:
    """A .npy file's finite integers or floats as float64."""
    file = BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{name} has an unknown format")
    shape, in_columns, kind = np.lib.format.read_array_header_1_0(file)
    if kind not in (np.dtype(np.float64), np.dtype(np.int64)):
        raise ValueError(f"{name} has the type {kind}")
    numbers = content[file.tell() :]
    if math.prod(shape) * kind.itemsize != len(numbers):
        raise ValueError(f"{name} does not have its {math.prod(shape)} numbers")
    array = np.frombuffer(numbers, kind).reshape(shape, order="F" if in_columns else "C")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has numbers that are not finite")
    return np.array(array, np.float64, order="C")
