"""Everything that speaks to a Prometheus-compatible server.

`client` asks one question and returns bytes or an `Answer`; `parsing` turns those bytes into
arrays. What it sends goes through a session (`sessions`): `pools` and `proxies` connect it,
`authentication`, `oauth2` and `sigv4` say who asks, `transport` retries and follows redirects. On
top of these, each command has its own way of asking: `history` fetches whole periods for `collect`,
through `cache`; `polling` keeps the newest samples for `detect`, and asks for those of many queries
at once through `united`; `checking` looks at each query once for `check-config --online`. Times are
unix seconds UTC throughout, and every question is put on absolute multiples of the step (`grid`),
so that the same sample always has the same time, whoever asks.
"""

from promad.prometheus.cache import ChunkCache
from promad.prometheus.checking import QueryCheck, inspect_queries
from promad.prometheus.client import PrometheusClient
from promad.prometheus.history import History, fetch_history
from promad.prometheus.parsing import Answer, Series, parse_answer
from promad.prometheus.polling import Poll, Poller

__all__ = [
    "Answer",
    "ChunkCache",
    "History",
    "Poll",
    "Poller",
    "PrometheusClient",
    "QueryCheck",
    "Series",
    "fetch_history",
    "inspect_queries",
    "parse_answer",
]
