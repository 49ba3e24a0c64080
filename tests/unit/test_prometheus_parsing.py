"""Reading an answer in bulk gives what reading it point by point gives."""

import json
import subprocess
import sys
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.data.groups import sort_labels
from promad.prometheus import bulk, parse_answer
from promad.prometheus.parsing import TooManySeriesError
from tests.support import naive

TRICKY = [
    '"values":[[',
    '\\"values":[[1,"2"]]',
    "]]",
    '"],["',
    '"values":0',
    "\\",
    '"',
    "\n",
    "ü漢\U0001f600",
    "",
]
texts = st.sampled_from(TRICKY) | st.text(max_size=8)
label_sets = st.dictionaries(texts, texts, max_size=3)
numbers = st.floats() | st.sampled_from([0.0, -0.0, 1e300, 5e-324, 0.1, 1e21, 123456789012345680.0])
times = st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
points = st.lists(st.tuples(times, numbers), max_size=6)


def go_text(value: float) -> str:
    """A number as Prometheus writes it."""
    named = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
    return named.get(repr(value), repr(value))


def body_of(series, separators=(",", ":"), values_first=False, ascii_only=False) -> bytes:
    result = []
    for labels, samples in series:
        values = [[time, go_text(value)] for time, value in samples]
        item = {"metric": labels, "values": values}
        result.append(dict(reversed(item.items())) if values_first else item)
    document = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    return json.dumps(document, separators=separators, ensure_ascii=ascii_only).encode()


def assert_like_naive(body: bytes) -> None:
    expected = naive.prometheus_series(body)
    found = parse_answer(body).series
    assert [series.labels for series in found] == [sort_labels(labels) for labels, _, _ in expected]
    for series, (_, expected_times, expected_values) in zip(found, expected, strict=True):
        assert series.times.dtype == series.values.dtype == np.float64
        np.testing.assert_array_equal(series.times, expected_times)
        np.testing.assert_array_equal(series.values, expected_values)
        np.testing.assert_array_equal(np.signbit(series.values), np.signbit(expected_values))


@given(
    st.lists(st.tuples(label_sets, points), max_size=4),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n ", " : ")]),
    st.booleans(),
    st.booleans(),
)
def test_any_matrix_is_read_like_the_naive_reader_does(series, separators, values_first, ascii):
    body = body_of(series, separators, values_first, ascii)
    with pytest.MonkeyPatch.context() as patch:
        for chunk in (1, 40, 10**9):  # in pieces, and at once
            patch.setattr(bulk, "_CHUNK_BYTES", chunk)
            assert_like_naive(body)


@pytest.mark.parametrize("count", [1, 3])
def test_long_answers_are_read_like_the_naive_reader_does(count):
    chance = np.random.default_rng(5)
    samples = [(1_763_784_000 + 15 * i, float(v)) for i, v in enumerate(chance.normal(size=10_000))]
    samples[17] = (samples[17][0], float("inf"))
    samples[99] = (samples[99][0], float("nan"))
    assert_like_naive(body_of([({"part": str(i)}, samples) for i in range(count)]))


LONG = [[1_763_784_000 + 15 * i, str(i / 7)] for i in range(400)]


def change(at, time=None, value=None):
    """The long series with another point at a place."""
    old_time, old_value = LONG[at]
    new = [old_time if time is None else time, old_value if value is None else value]
    return [*LONG[:at], new, *LONG[at + 1 :]]


READABLE = {
    "regular": LONG,
    "in order of time or not": LONG[::-1],
    "one time twice": [*LONG[:9], LONG[8], *LONG[9:]],
    "all at one time": [[LONG[0][0], value] for _, value in LONG],
    "a gap": [*LONG[:200], *LONG[201:]],
    "a gap at once": [LONG[0], *LONG[2:]],
    "half a second": [[time + 0.5, value] for time, value in LONG],
    "a late sample": change(-1, time=LONG[-1][0] + 1),
    "times of nine digits": [[time - 10**9, value] for time, value in LONG],
    "times that get a digit more": [[10**10 - 1500 + 15 * i, "1"] for i in range(400)],
    "times that get a digit more soon after": [[10**10 - 15 * i, "1"] for i in range(400, 0, -1)],
    "the first times of ten digits": [[10**9 + 3600 * i, "1"] for i in range(400)],
    "no number": change(7, value="NaN"),
    "infinities": change(7, value="+Inf")[:200] + change(300, value="-Inf")[200:],
    "none but NaN": [[time, "NaN"] for time, _ in LONG],
    "a negative zero": change(7, value="-0"),
    "a negative zero at the end": change(-1, value="-0"),
    "negative numbers": [[time, f"-{value}e-07"] for time, value in LONG],
    "a sign": change(7, value="+1"),
    "17 digits": [[time, repr(0.1 + 1 / (7 + i))] for i, (time, _) in enumerate(LONG)],
    "large integers": [[time, str(2**53 + 1 + i)] for i, (time, _) in enumerate(LONG)],
    "numbers that are no text": change(7, value=2.5),
}


@pytest.mark.parametrize("name", READABLE)
def test_long_series_of_any_form_are_read_like_the_naive_reader_does(name):
    values = [READABLE[name], LONG, [LONG[0]], READABLE[name], LONG[:50], LONG, LONG[:40]] * 3
    result = [{"metric": {"n": str(n)}, "values": each} for n, each in enumerate(values)]
    document = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    assert_like_naive(json.dumps(document, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "value", ["null", "", "1,2", '1"],["2', "[", "infinite", "0x1", "1 2", "--1"]
)
@pytest.mark.parametrize("at", [0, 7, -1])
def test_a_long_series_with_a_value_that_is_no_number_is_refused(value, at):
    for others in ("5", "NaN"):
        points = [[time, others] for time, _ in LONG]
        points[at] = [LONG[at][0], value]
        values = json.dumps(points, separators=(",", ":")).replace(r"\"", '"')
        body = f'{HEAD.decode()}[{{"metric":{{}},"values":{values}}},'
        body += f'{{"metric":{{}},"values":{LONG * 10}}}]}}}}'.replace("'", '"')
        with pytest.raises(ValueError, match="not a time and a value"):
            parse_answer(body.encode())


def peak_bytes(body: bytes, **options) -> int:
    """What reading takes at its peak, beside the body."""
    tracemalloc.start()
    try:
        with suppress(ValueError):
            parse_answer(body, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


HEAD = b'{"status":"success","data":{"resultType":"matrix","result":'
HOSTILE = {
    "lists": (b"", b"[]", b""),
    "lists as data": (b'{"status":"success","data":', b"[]", b"}"),
    "lists as series": (HEAD, b"[]", b"}}"),
    "series without labels": (HEAD, b'{"metric":{},"values":[]}', b"}}"),
    "lists as points": (HEAD + b'[{"metric":{},"values":', b"[]", b"}]}}"),
    "points": (HEAD + b'[{"metric":{},"values":', b'[1763784000,"0.1234"]', b"}]}}"),
    "odd points": (
        HEAD + b'[{"metric":{},"values":',
        b'[1763784000, "+2.25"]',
        b"}]}}",
    ),
    "lists as labels": (HEAD + b'[{"metric":', b"[]", b',"values":[]}]}}'),
    "lists as a label": (HEAD + b'[{"metric":{"a":', b"[]", b'},"values":[]}]}}'),
    "lists as a type": (b'{"status":"success","data":{"resultType":', b"[]", b',"result":[]}}'),
    "lists as warnings": (HEAD + b'[]},"warnings":', b"[]", b"}"),
    "lists beside the data": (HEAD + b'[]},"stats":', b"[]", b"}"),
    "lists as an error": (b'{"status":"error","error":', b"[]", b"}"),
}


def fill(before: bytes, piece: bytes, after: bytes) -> bytes:
    """JSON with a list of the piece, 4 MiB long."""
    return before + b"[" + b",".join([piece] * (2**22 // (len(piece) + 1))) + b"]" + after


@pytest.mark.parametrize("name", HOSTILE)
def test_reading_takes_no_more_memory_than_the_body(name):
    body = fill(*HOSTILE[name])
    assert peak_bytes(body) < len(body) + 2**21


def node(series: int) -> dict[str, str]:
    """Labels as those of a pod's metrics."""
    shared = ("cluster", "container", "endpoint", "job", "mode", "namespace", "prometheus")
    own = {"instance": f"host-{series:04d}.example.com:9100", "pod": f"node-exporter-{series:05x}"}
    return own | {name: f"the same {name} of all" for name in shared}


@pytest.mark.parametrize(("series", "samples"), [(1000, 1), (1000, 240), (1, 11_000)])
def test_an_answer_takes_less_than_twice_the_memory_of_its_body(series, samples):
    points = [(1763784000.0 + 15 * at, at / 7) for at in range(samples)]
    body = body_of([(node(number), points) for number in range(series)])
    assert peak_bytes(body) < 2 * len(body)


def test_too_many_series_take_next_to_no_memory():
    body = body_of([({"instance": f"host-{i}"}, [(1.0, 1.0)]) for i in range(10_000)])
    assert peak_bytes(body, most_series=1) < 2**14


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (HEAD + b"[" * 10**6, "incomplete or not JSON"),
        (HEAD + b'[{"metric":{"a":"%s"},"values":[]}]}}' % (b"x" * 10**6), "longer than 64 KiB"),
    ],
    ids=["deep", "long label"],
)
def test_depth_and_a_long_label_are_refused(body, why):
    with pytest.raises(ValueError, match=why):
        parse_answer(body)


def test_an_answer_of_too_many_series_is_refused_with_the_first_labels():
    body = body_of([({"metric": str(i)}, [(0.0, 1.0)]) for i in range(30)])
    assert len(parse_answer(body, most_series=30).series) == 30
    for part in (body, body[: len(body) * 2 // 3]):
        with pytest.raises(TooManySeriesError, match="more than 10 series") as caught:
            parse_answer(part, most_series=10)
        assert caught.value.labels == tuple((("metric", str(i)),) for i in range(5))


def test_vectors_and_scalars_are_series_of_one_sample():
    vector = (
        b'{"status":"success","data":{"resultType":"vector","result":'
        b'[{"metric":{"a":"b"},"value":[1.5,"2"]},{"metric":{},"value":[1.5,"NaN"]}]}}'
    )
    scalar = b'{"status":"success","data":{"resultType":"scalar","result":[3,"-Inf"]}}'
    assert_like_naive(vector)
    assert_like_naive(scalar)


def test_warnings_are_kept_and_a_partial_answer_is_one():
    body = (
        '{"status":"success","isPartial":true,"warnings":["a store is down"],"infos":["x"],'
        '"data":{"resultType":"matrix","result":[]}}'
    )
    assert parse_answer(body.encode()).warnings == (
        "a store is down",
        "the response is partial",
    )


def test_no_field_but_data_and_warnings_matters():
    body = '{"status":"success","data":{"resultType":"matrix","result":[]},"stats":{"a":[[1]]}}'
    assert parse_answer(body.encode()).series == ()


@pytest.mark.parametrize("chunk", [1, 10**9])
@pytest.mark.parametrize(
    "values",
    [
        '[[1,"2]3"]]',
        '[[1,"2[3"]]',
        '[[[1],"2"]]',
        '[[1,"2","3"]]',
        '[[1,"2"],[3]]',
        '[[1,"2"],[]]',
        '[[1,"2"],["x","3"]]',
        '[[1,"two"]]',
        "7",
        '[["NaN","1"]]',
    ],
)
def test_points_that_are_no_points_are_refused(values, chunk, monkeypatch):
    monkeypatch.setattr(bulk, "_CHUNK_BYTES", chunk)
    body = (
        '{"status":"success","data":{"resultType":"matrix","result":'
        f'[{{"metric":{{}},"values":{values}}}]}}}}'
    )
    with pytest.raises(ValueError, match=r"."):
        parse_answer(body.encode())


@pytest.mark.parametrize("chunk", [1, 10**9])
@pytest.mark.parametrize("key", ["histogram", "histograms"])
def test_a_native_histogram_is_refused_even_beside_numbers(key, chunk, monkeypatch):
    monkeypatch.setattr(bulk, "_CHUNK_BYTES", chunk)
    kind = "vector" if key == "histogram" else "matrix"
    body = (
        f'{{"status":"success","data":{{"resultType":"{kind}","result":'
        f'[{{"metric":{{}},"values":[[1,"2"]],"value":[1,"2"],"{key}":[[3,{{}}]]}}]}}}}'
    )
    with pytest.raises(ValueError, match="native histograms"):
        parse_answer(body.encode())


def test_an_answer_cut_at_any_byte_is_refused():
    body = body_of([({"a": "b"}, [(float(i), i / 3) for i in range(400)])])
    for end in range(0, len(body), 7):
        with pytest.raises(ValueError, match="incomplete or not JSON"):
            parse_answer(body[:end])


def test_the_daemon_reads_a_long_answer_without_heavy_libraries():
    body = body_of([({}, [(float(i), 1.0) for i in range(5000)])])
    code = (
        "import sys, promad.stages.detect; from promad.prometheus import parse_answer\n"
        "assert len(parse_answer(sys.stdin.buffer.read()).series[0].values) == 5000\n"
        "heavy = {'pandas', 'pyarrow', 'tensorflow', 'sklearn', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], input=body, check=True)
