"""Public data sets: how their files are laid out, and what is reported when they cannot be had."""

import csv
import hashlib
import io
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.cli.commands.datasets import run_fetch
from promad.datasets import entity_files as content
from promad.datasets import fetch, nab, smd, telemanom
from promad.datasets.downloading import _RETRIES as RETRIES
from promad.datasets.downloading import Downloader
from promad.datasets.entity_files import Content, read_checksums
from promad.errors import DataError, PromadError
from promad.evaluation.labelled import KnownAnomaly, entities_in, read_labelled


class Handler(SimpleHTTPRequestHandler):
    """Answers with files, and remembers what was asked for; as often as it is busy, with 503."""

    def __init__(self, *args, origin, **options):
        self.origin = origin
        super().__init__(*args, **options)

    def do_GET(self):
        self.origin.asked.append(self.path.rpartition("/")[2])
        if self.origin.busy:
            self.origin.busy -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


class Origin:
    """A server of what is written into its folder."""

    def __init__(self, folder):
        self.folder, self.asked, self.busy = folder, [], 0
        folder.mkdir()
        handler = partial(Handler, origin=self, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, path, body):
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)


@pytest.fixture
def origin(tmp_path):
    made = Origin(tmp_path / "origin")
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(autouse=True)
def no_retries(monkeypatch):
    """A failed download is not tried again; pooch waits a second and more before it does."""
    monkeypatch.setattr("promad.datasets.downloading._RETRIES", 0)


def known(monkeypatch, module, entries):
    """Replace the known checksums of a data set."""
    monkeypatch.setattr(module, "read_checksums", lambda data_set: entries)


def lines(values):
    return "".join(",".join(f"{each:.6f}" for each in row) + "\n" for row in values).encode()


def as_blob(body):
    return "git:" + hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


@pytest.fixture
def machine(origin, monkeypatch):
    """One server of SMD; the others are left out."""
    files = {
        "train": lines([[0, 0.5], [0.25, 1]]),
        "test": lines([[1, 0.125], [0, 0], [0, 1]]),
        "test_label": b"0\n1\n1\n",
        "interpretation_label": b"1-3:2\n",
    }
    for kind, body in files.items():
        origin.put(f"{smd._FOLDER}/{kind}/machine-1-1.txt", body)
    known(
        monkeypatch,
        smd,
        {
            ("machine-1-1", kind): as_blob(body)
            if "label" in kind
            else f"sha256:{hashlib.sha256(body).hexdigest()}"
            for kind, body in files.items()
        },
    )
    monkeypatch.setattr(smd, "_MACHINES", {1: 1})


def fetched(name, directory, origin):
    return list(fetch(name, directory, origin.url))


def test_a_server_is_laid_out_for_evaluate(machine, origin, tmp_path):
    directory = tmp_path / "data"
    (report,) = fetched("smd", directory, origin)
    assert vars(report) == {
        "entity": "machine-1-1",
        "train_rows": 2,
        "test_rows": 3,
        "was_there": False,
    }
    assert [path.name for path in directory.iterdir()] == ["machine-1-1"]
    data = read_labelled(*entities_in(directory))
    assert data.features == ("feature_00", "feature_01")
    np.testing.assert_array_equal(data.train, [[0, 0.5], [0.25, 1]])
    np.testing.assert_array_equal(data.test, [[1, 0.125], [0, 0], [0, 1]])
    assert data.labels.tolist() == [False, True, True]
    assert data.causes.features.tolist() == [[False, True]]


def test_what_is_there_is_not_asked_for_again(machine, origin, tmp_path):
    fetched("smd", tmp_path / "data", origin)
    origin.asked.clear()
    (report,) = fetched("smd", tmp_path / "data", origin)
    assert report.was_there
    assert origin.asked == []


def test_files_that_came_before_the_fetch_was_cut_short_are_used(machine, origin, tmp_path):
    last = origin.folder / f"{smd._FOLDER}/interpretation_label/machine-1-1.txt"
    body = last.read_bytes()
    last.unlink()
    with pytest.raises(DataError, match=r"download failed \(HTTP 404\)"):
        fetched("smd", tmp_path / "data", origin)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".downloads"]
    last.write_bytes(body)
    origin.asked.clear()
    fetched("smd", tmp_path / "data", origin)
    assert len(origin.asked) == 1


@pytest.mark.parametrize("kind", ["train", "test_label"])
def test_a_file_that_is_another_is_refused_and_not_kept(machine, origin, tmp_path, kind):
    path = f"{smd._FOLDER}/{kind}/machine-1-1.txt"
    origin.put(path, b"0.5,0.5\n")
    with pytest.raises(DataError) as caught:
        fetched("smd", tmp_path / "data", origin)
    told = str(caught.value)
    assert told.startswith(f"{origin.url}/{path}: the file does not have its known checksum, ")
    assert "\n" not in told
    assert not list((tmp_path / "data" / ".downloads").rglob(f"{kind}/*"))
    assert not (tmp_path / "data" / "machine-1-1").exists()


def test_a_kept_file_that_was_spoilt_is_fetched_again(machine, origin, tmp_path):
    downloader = Downloader(origin.url, tmp_path / "kept")
    path = f"{smd._FOLDER}/test_label/machine-1-1.txt"
    checksum = smd.read_checksums("smd")["machine-1-1", "test_label"]
    good = downloader.get(path, checksum)
    kept = tmp_path / "kept" / path
    kept.write_bytes(b"spoilt")
    assert downloader.get(path, checksum) == good == kept.read_bytes()


def test_without_a_network_it_is_one_line(tmp_path):
    with pytest.raises(DataError) as caught:
        list(fetch("nab", tmp_path / "data", "http://127.0.0.1:9"))
    told = str(caught.value)
    assert "download failed (ConnectionError) — " in told
    assert "\n" not in told


@pytest.mark.parametrize("busy", [3, 4])
def test_a_busy_server_is_asked_four_times(origin, tmp_path, monkeypatch, busy):
    monkeypatch.setattr("promad.datasets.downloading._RETRIES", RETRIES)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    origin.put("file", b"content")
    origin.busy, downloader = busy, Downloader(origin.url, tmp_path / "kept")
    if busy < 4:
        assert downloader.get("file", None) == b"content"
    else:
        with pytest.raises(DataError, match=r"download failed \(HTTP 503\)"):
            downloader.get("file", None)
    assert origin.asked == 4 * ["file"]


def test_a_directory_that_cannot_be_written_is_named(origin, tmp_path):
    origin.put("file", b"content")
    (tmp_path / "kept").write_text("in the way")
    with pytest.raises(
        DataError, match=rf"^{tmp_path}/kept: cannot be written \(Not a directory\)$"
    ):
        Downloader(origin.url, tmp_path / "kept").get("file", None)


def test_without_pooch_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.delitem(sys.modules, "promad.datasets.downloading")
    with pytest.raises(PromadError) as caught:
        list(fetch("nab", tmp_path))
    assert str(caught.value).startswith("data sets are downloaded with pooch (")
    assert str(caught.value).endswith(") — pip install 'promad-exporter[train]'")


def test_a_file_without_an_end_is_given_up(origin, tmp_path, monkeypatch):
    monkeypatch.setattr("promad.datasets.downloading._LARGEST_FILE_BYTES", 1000)
    origin.put("large", bytes(1001))
    with pytest.raises(DataError, match=r"larger than 0\.000953674 MiB"):
        Downloader(origin.url, tmp_path / "kept").get("large", None)


def test_a_data_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError) as caught:
        list(fetch("ucr", tmp_path))
    assert str(caught.value) == "ucr: no such data set — use one of smd, smap-msl, nab"


def saved(values):
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


@pytest.fixture
def channels(origin, monkeypatch):
    """A channel of each spacecraft, one of them in the table of labels twice."""
    table = (
        "chan_id,spacecraft,anomaly_sequences,class,num_values\n"
        'P-2,SMAP,"[[1, 2], [5, 5]]","[contextual, point]",6\n'
        'M-1,MSL,"[[0, 1]]",[point],3\n'
        'P-2,SMAP,"[[4, 4]]",[point],6\n'
    )
    origin.put(telemanom._LABELS, table.encode())
    for channel, rows in (("P-2", 6), ("M-1", 3)):
        for part in ("train", "test"):
            values = np.arange(rows * 2.0).reshape(rows, 2)
            origin.put(f"{telemanom._VALUES}/{part}/{channel}.npy", saved(values))
    known(monkeypatch, content, {})


def test_channels_are_laid_out_by_spacecraft(channels, origin, tmp_path):
    reports = fetched("smap-msl", tmp_path / "data", origin)
    assert [report.entity for report in reports] == ["MSL/M-1", "SMAP/P-2"]
    data = read_labelled(*entities_in(tmp_path / "data" / "SMAP"))
    assert data.counting == "sequences"
    assert data.known_anomalies == (
        KnownAnomaly(1, 3, "contextual"),
        KnownAnomaly(5, 6, "point"),
        KnownAnomaly(4, 5, "point"),
    )
    assert data.labels.tolist() == [False, True, True, False, True, True]
    assert origin.asked.count("labeled_anomalies.csv") == 1


def test_labels_for_another_number_of_rows_are_refused(channels, origin, tmp_path):
    origin.put(f"{telemanom._VALUES}/test/M-1.npy", saved(np.zeros((4, 2))))
    with pytest.raises(DataError) as caught:
        fetched("smap-msl", tmp_path / "data", origin)
    assert str(caught.value) == (
        "smap-msl: MSL/M-1 has 4 test rows, its labels are for 3 — "
        "values and labels are of different versions"
    )


@pytest.mark.parametrize(
    "body", [b"<html>", saved(np.array([{}], object)), b""], ids=["page", "pickle", "nothing"]
)
def test_what_is_no_table_of_numbers_is_never_opened(channels, origin, tmp_path, body):
    origin.put(f"{telemanom._VALUES}/train/M-1.npy", body)
    with pytest.raises(DataError, match="MSL/M-1: not a table of numbers"):
        fetched("smap-msl", tmp_path / "data", origin)


def test_content_that_is_not_what_is_known_is_refused(channels, origin, tmp_path, monkeypatch):
    fetched("smap-msl", tmp_path / "data", origin)
    known(monkeypatch, content, {("MSL/M-1", "content"): "content:0123"})
    with pytest.raises(DataError, match="MSL/M-1 does not have its known digest, content:0123"):
        fetched("smap-msl", tmp_path / "elsewhere", origin)


@pytest.fixture
def series(origin, monkeypatch):
    """Forty hours of one NAB series: six of probation, a window and a point in it."""
    rows = "".join(f"2014-01-{1 + at // 24:02d} {at % 24:02d}:00:00,{at}\n" for at in range(40))
    name = "realKnownCause/nyc_taxi.csv"
    origin.put(f"{nab._FOLDER}/data/{name}", f"timestamp,value\n{rows}".encode())
    window = '[["2014-01-01 10:00:00.000000", "2014-01-01 12:00:00.000000"]]'
    origin.put(f"{nab._FOLDER}/{nab._WINDOWS}", f'{{"{name}": {window}}}'.encode())
    point = '["2014-01-01 11:00:00"]'
    origin.put(f"{nab._FOLDER}/{nab._POINTS}", f'{{"{name}": {point}}}'.encode())
    monkeypatch.setattr(nab, "_SERIES", ("nyc_taxi",))
    known(monkeypatch, content, {})


def test_of_a_series_the_probation_is_for_training(series, origin, tmp_path):
    fetched("nab", tmp_path / "data", origin)
    data = read_labelled(*entities_in(tmp_path / "data"))
    np.testing.assert_array_equal(data.train[:, 0], np.arange(6))
    np.testing.assert_array_equal(data.test[:, 0], np.arange(6, 40))
    assert data.counting == "windows"
    assert data.known_anomalies == (KnownAnomaly(4, 7, "window"), KnownAnomaly(5, 6, "point"))
    assert np.flatnonzero(data.labels).tolist() == [4, 5, 6]
    assert data.test_times[0] == 1388534400 + 6 * 3600


def test_windows_that_are_not_there_are_an_error(series, origin, tmp_path):
    origin.put(f"{nab._FOLDER}/{nab._WINDOWS}", b"{}")
    with pytest.raises(DataError, match="nab: nyc_taxi: no series with labelled windows"):
        fetched("nab", tmp_path / "data", origin)


def test_the_command_says_what_to_do_next(series, origin, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("promad.datasets.fetch", partial(fetch, origin=origin.url))
    run_fetch("nab", tmp_path / "data")
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "  nyc_taxi: downloaded, 6 training rows, 34 test rows",
        f"datasets: nab is complete; run promad evaluate {tmp_path}/data",
    ]


ORDER = (("train", 0), ("test", 0), ("labels", 0))


@given(st.sampled_from(ORDER), st.integers(0, 2))
def test_a_digest_depends_on_every_value(part, row):
    def made():
        values = np.arange(6.0).reshape(3, 2)
        return {"train": values, "test": values.copy(), "labels": np.zeros(3, bool)}

    other = made()
    name, column = part
    if name == "labels":
        other[name][row] = True
    else:
        other[name][row, column] += 1
    assert Content(**made()).digest() == Content(**made()).digest() != Content(**other).digest()


def test_what_is_known_covers_what_it_says():
    files = {"train", "test", "test_label", "interpretation_label"}
    assert set(read_checksums("smd")) == {
        (machine, file) for machine in smd.entities(None) for file in files
    }
    assert {entity for entity, _ in read_checksums("nab")} == set(nab.entities(None))
    assert len(read_checksums("smap-msl")) == 54
    for name in ("smd", "smap-msl", "nab"):
        for checksum in read_checksums(name).values():
            kind, _, digest = checksum.partition(":")
            assert len(digest) == {"git": 40, "sha256": 64, "content": 64}[kind]
            assert int(digest, 16) > 0


def test_the_table_of_checksums_says_nothing_twice():
    text = content.resources.files("promad.datasets").joinpath("checksums.csv").read_text()
    rows = [tuple(row) for row in csv.reader(text.splitlines())]
    assert len({row[:3] for row in rows}) == len(rows)
