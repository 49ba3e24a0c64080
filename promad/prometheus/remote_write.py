"""Remote write 1.0: samples pushed into a server that takes them.

The message is small enough to encode by hand: WriteRequest{1: TimeSeries}, TimeSeries{1:
Label, 2: Sample}, Label{1: name, 2: value}, Sample{1: value, 2: milliseconds}.
(https://prometheus.io/docs/specs/prw/remote_write_spec/)
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

import cramjam
from urllib3 import PoolManager

from promad.config import PrometheusSettings
from promad.data.groups import Labels
from promad.errors import PrometheusError
from promad.prometheus.one_series import flatten_text
from promad.prometheus.retrying import LONGEST_WAIT_SECONDS, RetryPolicy
from promad.prometheus.sessions import open_session
from promad.prometheus.transport import exchange

STALE_MARKER = struct.pack("<Q", 0x7FF0000000000002)
"""The NaN that ends a series in Prometheus's storage."""

_HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
_VARINT, _FIXED64, _BYTES = 0, 1, 2

Sample = tuple[float, float | None]
"""Unix seconds and a value; None ends the series."""


class RemoteWriter:
    """Pushes samples to one address, with the server's own credentials if it is the same server.

    `pools` takes the place of the network.
    """

    def __init__(
        self,
        url: str,
        server_url: str,
        settings: PrometheusSettings,
        *,
        pools: PoolManager | None = None,
    ) -> None:
        same = urlsplit(url)[:2] == urlsplit(server_url)[:2]
        self._url = url
        self._settings = settings if same else _forget_credentials(settings)
        self._closing = threading.Event()
        self._session = open_session(
            self._settings, RetryPolicy(3, LONGEST_WAIT_SECONDS, self._closing), pools
        )
        self._session.headers.update(_HEADERS)

    def push(self, series: Mapping[Labels, Sequence[Sample]]) -> None:
        """Send samples, by label set (`__name__` among the labels), each series in order of time.

        Raises:
            PrometheusError: if the server does not answer, or refuses them.
        """
        body = bytes(cramjam.snappy.compress_raw(encode(series)))
        try:
            reply = exchange(
                self._session,
                "POST",
                self._url,
                body,
                self._settings.timeout,
                self._settings.timeout,
                self._closing,
            )
        except PrometheusError as error:
            raise PrometheusError(f"{self._url}: {error}", error.reason) from None
        if reply.status // 100 != 2:
            said = flatten_text(reply.body.decode(errors="replace")) or reply.reason
            raise PrometheusError(
                f"{self._url}: HTTP {reply.status} ({said}) — enable the remote write receiver, "
                "and set storage.tsdb.out_of_order_time_window to accept old samples",
                "bad_request",
            )

    def close(self) -> None:
        """Close every connection."""
        self._closing.set()
        self._session.close()


def _forget_credentials(settings: PrometheusSettings) -> PrometheusSettings:
    """The defaults but for the timeout: another server must not get the secrets."""
    return PrometheusSettings().model_copy(update={"timeout": settings.timeout})


def encode(series: Mapping[Labels, Sequence[Sample]]) -> bytes:
    """The WriteRequest of samples, before compression."""
    return b"".join(
        _encode_field(1, _encode_labels(labels) + _encode_samples(samples))
        for labels, samples in series.items()
    )


def _encode_labels(labels: Labels) -> bytes:
    pairs = (
        _encode_field(1, name.encode()) + _encode_field(2, value.encode())
        for name, value in sorted(labels)
    )
    return b"".join(_encode_field(1, pair) for pair in pairs)


def _encode_samples(samples: Iterable[Sample]) -> bytes:
    return b"".join(
        _encode_field(
            2,
            _encode_key(1, _FIXED64)
            + (STALE_MARKER if value is None else struct.pack("<d", value))
            + _encode_key(2, _VARINT)
            + _encode_varint(round(at * 1000)),
        )
        for at, value in samples
    )


def _encode_field(number: int, content: bytes) -> bytes:
    return _encode_key(number, _BYTES) + _encode_varint(len(content)) + content


def _encode_key(number: int, kind: int) -> bytes:
    return _encode_varint(number << 3 | kind)


def _encode_varint(value: int) -> bytes:
    """A whole number from 0 on, seven bits a byte, the lowest first."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
