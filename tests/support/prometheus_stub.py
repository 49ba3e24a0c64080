"""A server on loopback that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import math
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

Labels = Mapping[str, str]
Curve = Callable[[float], float | None]
"""The value at a unix time; None where there is no sample."""


@dataclass(frozen=True)
class Asked:
    """One request as it arrived.

    `form` is the decoded body, or the query of the URL; `in_url` is the query of the URL. `target`
    and `body` are the path with its query and the body as they were sent.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    form: Mapping[str, str]
    in_url: tuple[tuple[str, str], ...] = ()
    target: str = ""
    body: bytes = b""

    @property
    def points(self) -> int:
        """Samples that a range request asks for."""
        start, end, step = (float(self.form[key]) for key in ("start", "end", "step"))
        return round((end - start) / step) + 1


@dataclass(frozen=True)
class Say:
    """One reply. `cut` sends the body without its end; `hang_up` sends nothing at all."""

    status: int = 200
    body: str | bytes = '{"status":"success","data":{"resultType":"matrix","result":[]}}'
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    hang_up: bool = False


Answering = Callable[[Asked], Say]

_UNITED = re.compile(r'label_replace\(\n(.*?)\n, "united_query", "(\d+)", "", ""\)', re.DOTALL)


@dataclass
class Stub:
    """The running server: its address and what it was asked so far."""

    url: str
    port: int
    asked: list[Asked]
    most_at_once: int = 0
    at_once: int = 0

    @property
    def exprs(self) -> list[str]:
        """The PromQL of every request."""
        return [asked.form["query"] for asked in self.asked]


@contextmanager
def stub_server(
    answering: Answering | Iterable[Say], tls: ssl.SSLContext | None = None
) -> Iterator[Stub]:
    """Serve replies made by a function, or one after the other from a list."""
    handle = answering if callable(answering) else _in_turn(answering)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            body = raw.decode(errors="replace")
            path, _, in_url = self.path.partition("?")
            form = dict(parse_qsl(body or in_url, keep_blank_values=True))
            pairs = tuple(parse_qsl(in_url, keep_blank_values=True))
            asked = Asked(self.command, path, dict(self.headers), form, pairs, self.path, raw)
            with lock:
                stub.asked.append(asked)
                stub.at_once += 1
                stub.most_at_once = max(stub.most_at_once, stub.at_once)
            say = handle(asked)
            with lock:
                stub.at_once -= 1
            self._reply(say)

        def do_GET(self) -> None:
            self.do_POST()

        def _reply(self, say: Say) -> None:
            self.close_connection = say.hang_up or say.cut
            if say.hang_up:
                return
            body = say.body.encode() if isinstance(say.body, str) else say.body
            if "Date" in say.headers:
                self.send_response_only(say.status)
            else:
                self.send_response(say.status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in say.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if say.cut else body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went away is no news here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        port = int(server.server_address[1])
        scheme = "http"
        if tls is not None:
            server.socket, scheme = tls.wrap_socket(server.socket, server_side=True), "https"
        stub = Stub(f"{scheme}://127.0.0.1:{port}", port, [])
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()


def _in_turn(says: Iterable[Say]) -> Answering:
    left = iter(says)
    lock = threading.Lock()

    def handle(_: Asked) -> Say:
        with lock:
            return next(left)

    return handle


def curves(known: Mapping[str, Iterable[tuple[Labels, Curve]]]) -> Answering:
    """Answers to range and instant queries: PromQL → label sets and their curves.

    Several queries in one request are answered by what is known of each.
    """

    def handle(asked: Asked) -> Say:
        found = _find(known, asked.form["query"])
        if asked.path.endswith("/query"):
            return Say(body=_vector(found, float(asked.form["time"])))
        start, step = float(asked.form["start"]), float(asked.form["step"])
        times = [start + step * i for i in range(asked.points)]
        return Say(body=matrix({k: v for k, v in _sampled(found, times) if v}))

    return handle


def split_union(expr: str) -> list[str]:
    """The queries that the poller has united, in their order; none if it has united none."""
    return [query for query, _ in _UNITED.findall(expr)]


def _find(
    known: Mapping[str, Iterable[tuple[Labels, Curve]]], expr: str
) -> Iterable[tuple[Labels, Curve]]:
    united = split_union(expr)
    if not united:
        return known.get(expr, ())
    return [
        ({**labels, "united_query": str(number)}, curve)
        for number, query in enumerate(united)
        for labels, curve in known.get(query, ())
    ]


def _sampled(
    found: Iterable[tuple[Labels, Curve]], times: list[float]
) -> Iterator[tuple[tuple[tuple[str, str], ...], list[tuple[float, float]]]]:
    for labels, curve in found:
        samples = [(time, curve(time)) for time in times]
        yield tuple(labels.items()), [(time, v) for time, v in samples if v is not None]


def matrix(
    series: Mapping[tuple[tuple[str, str], ...], Iterable[tuple[float, float]]],
    warnings: Iterable[str] = (),
) -> str:
    """A range answer exactly as compact as Prometheus writes it."""
    result = [
        {"metric": dict(labels), "values": [[time, _text(value)] for time, value in samples]}
        for labels, samples in series.items()
    ]
    return _success({"resultType": "matrix", "result": result}, warnings)


def _vector(found: Iterable[tuple[Labels, Curve]], time: float) -> str:
    values = [(labels, curve(time)) for labels, curve in found]
    result = [
        {"metric": dict(labels), "value": [time, _text(value)]}
        for labels, value in values
        if value is not None
    ]
    return _success({"resultType": "vector", "result": result}, ())


def _success(data: Mapping[str, object], warnings: Iterable[str]) -> str:
    document = {"status": "success", "data": data, "warnings": list(warnings)}
    return json.dumps(document, separators=(",", ":"))


def _text(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)
