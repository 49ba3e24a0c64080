"""The compression of remote write: one block of snappy."""

from __future__ import annotations

import cramjam

from promad.prometheus.received.decoded import MOST_DECOMPRESSED_BYTES
from promad.prometheus.received.wire import MalformedError, OversizedError


def decompress(compressed: bytes) -> bytes:
    """The content of a block of snappy; its length is known before it is decompressed.

    Raises:
        MalformedError: if it is none.
        OversizedError: if it would be too large.
    """
    try:
        size = cramjam.snappy.decompress_raw_len(compressed)
        if size > MOST_DECOMPRESSED_BYTES:
            raise OversizedError(
                f"the body has {size} bytes after decompression, at most "
                f"{MOST_DECOMPRESSED_BYTES} are accepted"
            )
        return bytes(cramjam.snappy.decompress_raw(compressed, output_len=size))
    except cramjam.DecompressionError as error:
        raise MalformedError(f"the body is no block of snappy: {error}") from None
