"""How long answers of a server take to read, and how much memory beside their own length.

    python -m benchmarks.parsing [--rounds 7]

CPU time in milliseconds (the fastest round) of the arrays alone, and of series with their labels;
and peak memory in units of the body's length.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from promad.prometheus.parsing import parse_answer, read_table

FORMS = {"matrix": '"values":[%s]', "vector": '"value":%s'}
LABELS = (
    '"__name__":"node_load1","instance":"host-%06d.example.internal:9100","job":"node",'
    '"region":"eu-central-1","pod":"node-exporter-7d9f8b6c5-x2x4z"'
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print("| answer | bytes | arrays (ms) | series (ms) | peak memory / bytes |")
    print("|---|---|---|---|---|")
    for name, body in list_answers():
        print(
            f"| {name} | {len(body)} | {cpu(read_table, body, rounds):.2f} "
            f"| {cpu(parse_answer, body, rounds):.2f} | {peak(body):.2f} |"
        )


def list_answers() -> Iterator[tuple[str, bytes]]:
    yield "1 series × 11,000 points", answer(1, 11_000)
    for points in (1, 2, 4):
        yield f"1,000 series × {points} points", answer(1000, points)
    yield "1,000 series, instant", answer(1000, 1, "vector")
    yield "50,000 series, instant", answer(50_000, 1, "vector")
    yield "40 MiB of []", b"[%s]" % b",".join([b"[]"] * (40 * 2**20 // 3))
    yield "depth of 1,000,000", b'{"data":' + b"[" * 10**6


def answer(series: int, points: int, kind: str = "matrix") -> bytes:
    values = np.random.default_rng(series).normal(size=(series, points))
    items = (
        f'{{"metric":{{{LABELS % row}}},{FORMS[kind] % samples(values[row])}}}'
        for row in range(series)
    )
    data = f'{{"resultType":"{kind}","result":[{",".join(items)}]}}'
    return f'{{"status":"success","data":{data}}}'.encode()


def samples(values: np.ndarray) -> str:
    start = 1_763_784_000
    return ",".join(f'[{start + 15 * i},"{value!r}"]' for i, value in enumerate(values.tolist()))


def cpu(reader: Callable[[bytes], object], body: bytes, rounds: int) -> float:
    return min(measure(reader, body) for _ in range(rounds)) * 1000


def measure(reader: Callable[[bytes], object], body: bytes) -> float:
    begun = time.process_time()
    read(reader, body)
    return time.process_time() - begun


def peak(body: bytes) -> float:
    tracemalloc.start()
    read(parse_answer, body)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return taken / len(body)


def read(reader: Callable[[bytes], object], body: bytes) -> None:
    with suppress(ValueError, RecursionError):
        reader(body)


if __name__ == "__main__":
    main()
