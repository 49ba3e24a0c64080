"""`Decoded`: the samples of one request, and limits on a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from promad.prometheus.received.directory import Codes, Labelled, LabelsError, SeriesDirectory
from promad.prometheus.received.tails import ReadTails
from promad.prometheus.received.wire import OversizedError

MOST_BYTES = 4 * 2**20
"""Of a body as it is sent."""
MOST_DECOMPRESSED_BYTES = 32 * 2**20
MOST_SERIES = 100_000
"""In one request, and as many samples; Prometheus sends 2,000 by default."""
MOST_FIELDS = 1_000_000
"""In one request, of those that are read one by one: labels and samples of new series, mostly."""

HISTOGRAMS, EXEMPLARS, METADATA = "histogram", "exemplar", "metadata"
INVALID = "invalid_series"


@dataclass
class Pending:
    """What has been read of a request; `codes`, `times` and `values` are as long as each other.

    Attributes:
        codes: of the series of each sample, see `SeriesDirectory`.
        times: unix milliseconds.
        ignored: what else was sent, by kind, and samples of series that were refused.
        problems: why series were refused, one line each.
        fields: how many fields were read one by one.
    """

    codes: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    fields: int = 0

    def count_field(self) -> None:
        """One more field is read.

        Raises:
            OversizedError: if there are too many.
        """
        self.fields += 1
        if self.fields > MOST_FIELDS:
            raise OversizedError(f"more than {MOST_FIELDS} fields in a request")

    def add_series(
        self,
        directory: SeriesDirectory,
        codes: Codes,
        labelled: Labelled,
        samples: Sequence[tuple[int, float]],
    ) -> None:
        """One more series; labels that no series can have are noted as a problem.

        Args:
            codes: those of the directory in which the series is looked up.
            samples: unix milliseconds and a value.

        Raises:
            OversizedError: if there are too many samples.
        """
        try:
            code = directory.find(codes, labelled)
        except LabelsError as error:
            self.problems.append(str(error))
            self.ignored[INVALID] += len(samples)
            return
        check_sample_count(len(self.codes) + len(samples))
        for milliseconds, value in samples:
            self.codes.append(code)
            self.times.append(milliseconds)
            self.values.append(value)

    def finish(self, tails: Sequence[ReadTails]) -> Decoded:
        """The samples as arrays, with those that were read at once."""
        return Decoded(
            np.concatenate([*(part.codes for part in tails), np.array(self.codes, np.int64)]),
            np.concatenate([*(part.times for part in tails), np.array(self.times, np.int64)]),
            np.concatenate([*(part.values for part in tails), np.array(self.values, np.float64)]),
            self.ignored,
            self.problems,
        )


@dataclass(frozen=True, eq=False)
class Decoded:
    """The samples of a request, in no particular order.

    Attributes:
        codes: of the series of each sample, int64 (samples,), see `SeriesDirectory`.
        times: unix milliseconds, int64 (samples,).
        values: float64 (samples,); the NaN of a staleness marker keeps its bits.
        ignored: how much else was sent, by kind; samples of series that were refused.
        problems: why series were refused, one line each.
    """

    codes: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    ignored: Counter[str]
    problems: list[str]


def check_series_count(count: int) -> None:
    """Raise OversizedError if a request has too many series."""
    if count > MOST_SERIES:
        raise OversizedError(f"more than {MOST_SERIES} series in a request")


def check_sample_count(count: int) -> None:
    """Raise OversizedError if a request has too many samples."""
    if count > MOST_SERIES:
        raise OversizedError(f"more than {MOST_SERIES} samples in a request")
