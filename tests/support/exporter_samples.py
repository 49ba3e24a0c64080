"""What exporters expose, in their text format: as the history of a server, and to be scraped.

A sample is the text of one scrape; `exporters/<name>.prom` are such texts. What it declares to be
a counter, or a sum or count of a summary, grows evenly and has this value after an hour.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SECONDS = 3600.0
"""The length of the history in which a counter has grown to its value."""

_LINE = re.compile(r"^((\w+)(?:\{.*\})?) (\S+)$", re.MULTILINE)
_COUNTED = ("_sum", "_count")


def read_history(name: str, end: float, step: float) -> dict[str, Sequence[tuple[float, float]]]:
    """The samples of each series of a sample, up to `end`; see `build_history`."""
    return build_history(_read_text(name), name, f"{name}:1", end, step)


def build_history(
    text: str, job: str, instance: str, end: float, step: float
) -> dict[str, Sequence[tuple[float, float]]]:
    """The samples of each series up to `end` (unix seconds), as `openmetrics` takes them."""
    start = end - SECONDS
    times = [start + place * step for place in range(round(SECONDS / step) + 1)]
    return {
        _add_labels(series, f'instance="{instance}",job="{job}"'): [
            (at, value * (at - start) / SECONDS if grows else value) for at in times
        ]
        for series, value, grows in _read_series(text)
    }


def _read_text(name: str) -> str:
    return (Path(__file__).parent / "exporters" / f"{name}.prom").read_text()


def _read_series(text: str) -> Iterator[tuple[str, float, bool]]:
    """Each series, its value, and whether it only grows."""
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    for series, metric, value in _LINE.findall(text):
        family = next((metric.removesuffix(end) for end in _COUNTED if metric.endswith(end)), "")
        grows = types.get(metric) == "counter" or types.get(family) == "summary"
        yield series, float(value), grows


def _add_labels(series: str, labels: str) -> str:
    own = series.removesuffix("}").partition("{")
    return f"{own[0]}{{{own[2]},{labels}}}" if own[2] else f"{own[0]}{{{labels}}}"


@contextmanager
def serve_samples(names: Sequence[str], start: float) -> Iterator[str]:
    """Scrape configurations for exporters that go on from a history that began at `start`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            elapsed = (time.time() - start) / SECONDS
            lines = (
                f"{series} {value * elapsed if grows else value!r}"
                for series, value, grows in _read_series(_read_text(self.path[1:]))
            )
            body = "\n".join([*lines, ""]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield "\n".join(_scrape(name, server.server_address[1]) for name in names)
        finally:
            server.shutdown()


def _scrape(name: str, port: int) -> str:
    return (
        f"- job_name: {name}\n  metrics_path: /{name}\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{port}']\n    labels: {{instance: '{name}:1'}}"
    )
