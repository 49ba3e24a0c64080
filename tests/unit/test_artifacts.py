"""What a stage writes is what the next one reads, whole or not at all."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from promad.data.artifacts import (
    end_times_path,
    open_groups,
    read_array,
    read_frames,
    write_array,
    write_frames,
    write_small_array,
)
from promad.data.frame import MetricFrame, single_group
from promad.data.groups import sort_labels
from promad.data.preparation import usable_parts
from promad.data.windows import build_windows
from promad.errors import DataError
from promad.files import write_whole
from tests.support.simulated import contents

STEPS = (0.001, 0.5, 15.0, 30.0, 3600.0)


@st.composite
def label_sets(draw):
    """One to four groups with any labels; a label with an empty value is none."""
    names = draw(st.lists(st.from_regex(r"[a-zA-Z_]\w*", fullmatch=True), max_size=3, unique=True))
    values = st.tuples(*(st.text() for _ in names))
    groups = draw(st.lists(values, min_size=1, max_size=4 if names else 1, unique=True))
    return [
        {name: value for name, value in zip(names, group, strict=True) if value} for group in groups
    ]


values = st.floats(allow_nan=True, allow_infinity=True, width=64)


@st.composite
def frame_lists(draw):
    """One to three frames with anything in them, at least two steps apart."""
    groups = tuple(sort_labels(labels) for labels in draw(label_sets()))
    features = tuple(draw(st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True)))
    step = draw(st.sampled_from(STEPS))
    start = draw(st.integers(-(10**12), 2 * 10**12))  # milliseconds
    frames = []
    for samples in draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)):
        shape = (len(groups), samples, len(features))
        held = draw(arrays(np.float64, shape, elements=values))
        frames.append(MetricFrame(start / 1000, step, features, groups, held))
        start += round(1000 * step) * (samples + draw(st.integers(1, 5)))
    return frames


@given(frame_lists(), st.dictionaries(st.text(min_size=1), st.text(), max_size=3))
@settings(max_examples=150)
def test_frames_come_back_bit_by_bit(tmp_path_factory, frames, metadata):
    features = set(frames[0].features)
    if "timestamp" in features or any(name.startswith("group:") for name in features):
        return  # the configuration knows no such alias
    path = tmp_path_factory.mktemp("frames") / "raw.parquet"
    write_frames(path, frames, metadata)
    again, metadata_again = read_frames(path, "collect")
    assert len(again) == len(frames)
    for frame, other in zip(frames, again, strict=True):
        assert other.features == frame.features
        assert other.groups == frame.groups
        assert (other.start, other.step) == (frame.start, frame.step)
        np.testing.assert_array_equal(other.values, frame.values)
    assert metadata_again == {**metadata, "step_seconds": repr(frames[0].step)}


def with_gaps(groups, samples, seed):
    """A frame in which each group has gaps of its own: NaN in all features, or not in a row."""
    chance = np.random.default_rng(seed)
    labels = tuple(sort_labels({"instance": f"host-{number}:9100"}) for number in range(groups))
    held = chance.normal(size=(groups, samples, 2))
    for group in range(groups):
        for first in chance.integers(0, samples, 4).tolist():
            held[group, first : first + int(chance.integers(1, 9))] = np.nan
    return MetricFrame(START, 30.0, ("x", "y"), labels, held)


START = 1_750_000_020.0


@pytest.mark.parametrize("groups", [1, 3, 50])
@pytest.mark.parametrize("seed", range(5))
def test_each_group_comes_back_with_its_own_gaps(tmp_path, groups, seed):
    frame = with_gaps(groups, 120, seed)
    parts = [
        part
        for row in range(groups)
        for part in usable_parts(
            replace(frame, groups=frame.groups[row : row + 1], values=frame.values[row : row + 1])
        )
    ]
    write_frames(tmp_path / "x.parquet", parts, {})
    again, _ = read_frames(tmp_path / "x.parquet", "preprocess")
    found = np.full_like(frame.values, np.nan)
    for part in again:
        first = round((part.start - frame.start) / frame.step)
        assert np.isnan(found[:, first : first + part.samples]).all()
        found[:, first : first + part.samples] = part.values
        assert part.groups == frame.groups
    np.testing.assert_array_equal(found, frame.values)
    nowhere = np.isnan(frame.values).all(axis=(0, 2))
    assert sum(part.samples for part in again) == np.count_nonzero(~nowhere)


@pytest.mark.parametrize("groups", [3, 50])
def test_gaps_of_other_groups_change_no_window_of_a_group(tmp_path, groups):
    frame = with_gaps(groups, 120, seed=7)
    write_frames(tmp_path / "x.parquet", [frame], {})
    again, _ = read_frames(tmp_path / "x.parquet", "preprocess")
    for group in range(groups):
        alone, among = (build_windows(frames, group, 8) for frames in ([frame], again))
        np.testing.assert_array_equal(among.times, alone.times)
        every = np.arange(len(alone))
        np.testing.assert_array_equal(among.take(every), alone.take(every))


def test_a_file_in_which_all_groups_have_the_same_rows_is_read_as_before(tmp_path):
    """As written until now: each group whole, one after the other."""
    frame = with_gaps(2, 6, seed=0)
    tables = [
        pa.table(
            {
                "timestamp": pa.array(
                    (frame.times * 1000).astype("datetime64[ms]"), pa.timestamp("ms", tz="UTC")
                ),
                "group:instance": [dict(labels)["instance"]] * frame.samples,
                "x": pa.array(frame.values[group, :, 0], from_pandas=True),
                "y": pa.array(frame.values[group, :, 1], from_pandas=True),
            }
        )
        for group, labels in enumerate(frame.groups)
    ]
    table = pa.concat_tables(tables)
    pq.write_table(
        table.replace_schema_metadata({"promad:step_seconds": "30.0"}), tmp_path / "x.parquet"
    )
    (again,), _ = read_frames(tmp_path / "x.parquet", "preprocess")
    np.testing.assert_array_equal(again.values, frame.values)
    assert again.groups == frame.groups


def test_the_description_of_all_groups_is_read_once(tmp_path):
    path = tmp_path / "groups.parquet"
    groups = tuple(sort_labels({"host": name}) for name in ("a", "b"))
    frame = MetricFrame(0.0, 15.0, ("x",), groups, np.arange(20.0).reshape(2, 10, 1))
    write_frames(path, [frame], {})
    opened = open_groups(path, "collect")
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"gone")
    for group in (0, 1):
        (read,) = opened.read(group)
        assert np.array_equal(read.values[0], frame.values[group])


def test_two_frames_without_a_gap_between_them_are_one_stretch(tmp_path):
    frame = single_group(60.0, 30.0, ["x"], np.arange(6.0)[:, np.newaxis])
    write_frames(tmp_path / "x.parquet", [frame.slice(0, 2), frame.slice(2, 6)], {})
    (again,), _ = read_frames(tmp_path / "x.parquet", "collect")
    np.testing.assert_array_equal(again.values, frame.values)


def test_other_programs_find_utc_times_and_plain_columns(tmp_path):
    frame = single_group(1_750_000_020.0, 30.0, ["x"], np.array([[1.5], [np.nan]]))
    write_frames(tmp_path / "x.parquet", [frame], {})
    table = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert [row["timestamp"].isoformat() for row in table] == [
        "2025-06-15T15:07:00+00:00",
        "2025-06-15T15:07:30+00:00",
    ]
    assert [row["x"] for row in table] == [1.5, None]


def test_a_missing_file_is_told_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(DataError, match=r"x.parquet: no such file — run promad collect first$"):
        read_frames(tmp_path / "x.parquet", "collect")
    with pytest.raises(DataError, match=r"x.npy: no such file — run promad filter first$"):
        read_array(tmp_path / "x.npy", "filter")


@pytest.mark.parametrize("keep", [0, 3, 0.5, -1])
def test_a_damaged_file_is_told(tmp_path, keep):
    path = tmp_path / "x.parquet"
    write_frames(path, [single_group(0.0, 1.0, ["x"], np.ones((100, 1)))], {})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(DataError, match=r"x.parquet: cannot be read .* run promad collect again"):
        read_frames(path, "collect")


def test_a_file_of_another_program_is_told(tmp_path):
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="was not written by promad — run promad collect"):
        read_frames(tmp_path / "x.parquet", "collect")


def test_a_file_without_rows_is_told(tmp_path):
    write_frames(tmp_path / "x.parquet", [single_group(0.0, 1.0, ["x"], np.ones((0, 1)))], {})
    with pytest.raises(DataError, match="holds no rows — run promad collect over a longer period"):
        read_frames(tmp_path / "x.parquet", "collect")


@given(arrays(np.float32, st.tuples(st.integers(0, 7), st.just(3), st.just(2))), st.integers(1, 4))
def test_an_array_in_parts_comes_back_whole(tmp_path_factory, array, size):
    path = tmp_path_factory.mktemp("array") / "x.npy"
    parts = (array[first : first + size] for first in range(0, len(array), size))
    write_array(path, array.shape, parts)
    again = read_array(path, "filter")
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, array)
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), array)


def test_times_come_back(tmp_path):
    times = np.array([0, 1_750_000_020_123], "datetime64[ms]")
    write_small_array(tmp_path / "x.npy", times)
    np.testing.assert_array_equal(read_array(tmp_path / "x.npy", "filter"), times)


def test_reading_an_array_loads_none_of_it(tmp_path):
    write_array(tmp_path / "x.npy", (4, 2), [np.ones((4, 2), np.float32)])
    assert isinstance(read_array(tmp_path / "x.npy", "filter"), np.memmap)


class Explosive:
    """Unpickling it would leave a trace."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a file was run')",))


def test_pickled_content_is_refused_and_not_run(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([Explosive()], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"x.npy: cannot be read .* run promad filter again"):
        read_array(path, "filter")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not an array at all"])
def test_what_is_no_array_is_refused(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"x.npy: cannot be read"):
        read_array(tmp_path / "x.npy", "filter")


def test_an_array_cut_short_is_refused(tmp_path):
    write_array(tmp_path / "x.npy", (1000, 2), [np.ones((1000, 2), np.float32)])
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-1])
    with pytest.raises(DataError, match="cannot be read"):
        read_array(tmp_path / "x.npy", "filter")


def test_an_archive_of_arrays_is_refused(tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        np.savez(file, a=np.ones(3))
    with pytest.raises(DataError, match="holds more than one array"):
        read_array(tmp_path / "x.npy", "filter")


def test_an_interrupted_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.npy"
    write_array(path, (1, 2), [np.ones((1, 2), np.float32)])
    before = contents(tmp_path)

    def parts():
        yield np.zeros((1, 2), np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_array(path, (2, 2), parts())
    assert contents(tmp_path) == before


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("before")

    def write():
        with write_whole(path) as aside:
            aside.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"x.txt: cannot be written \(No space left on device\)"):
        write()
    assert contents(tmp_path) == {"x.txt": b"before"}


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"file/x.npy: cannot be written"):
        write_small_array(tmp_path / "file" / "x.npy", np.ones(1))


KILLED_WHILE_WRITING = """
import sys, time
from pathlib import Path
import numpy as np
from promad.data.artifacts import write_array

def parts():
    yield np.zeros((1, 2), np.float32)
    print("half", flush=True)
    time.sleep(60)

write_array(Path(sys.argv[1]), (2, 2), parts())
"""


def test_a_writer_that_is_killed_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.npy"
    write_array(path, (1, 2), [np.ones((1, 2), np.float32)])
    before = path.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"half\n"
        writer.kill()
    assert path.read_bytes() == before
    np.testing.assert_array_equal(read_array(path, "filter"), np.ones((1, 2)))


def test_end_times_stand_beside_their_windows(tmp_path):
    assert end_times_path(tmp_path / "normal.npy") == tmp_path / "normal_end_times.npy"


# What other programs wrote


def column(kind, values=(1, 2)):
    return pa.array(values, kind)


def foreign_tables():
    time = column(pa.timestamp("ms", tz="UTC"))
    double, text = column(pa.float64()), column(pa.string(), ("a", "b"))
    return {
        "text in a feature": {"timestamp": time, "cpu": text},
        "times that are no times": {"timestamp": text, "cpu": double},
        "a time that is missing": {"timestamp": column(time.type, (1, None)), "cpu": double},
        "a group that is missing": {
            "timestamp": time,
            "group:host": column(pa.string(), ("a", None)),
            "cpu": double,
        },
        "a group that is a number": {"timestamp": time, "group:host": double, "cpu": double},
        "no feature": {"timestamp": time},
        "a list in a feature": {
            "timestamp": time,
            "cpu": pa.array([[1.0], [2.0]], pa.list_(pa.float64())),
        },
    }


@pytest.mark.parametrize("what", list(foreign_tables()))
def test_columns_of_another_kind_are_refused(tmp_path, what):
    table = pa.table(foreign_tables()[what])
    pq.write_table(table.replace_schema_metadata({"promad:step_seconds": "30.0"}), tmp_path / "x")
    with pytest.raises(DataError, match=r"x: was not written by promad — run promad collect$"):
        read_frames(tmp_path / "x", "collect")


@pytest.mark.parametrize("step", ["", "soon", "nan", "inf", "0", "-30"])
def test_a_step_that_is_none_is_refused(tmp_path, step):
    columns = {"timestamp": column(pa.timestamp("ms", tz="UTC")), "cpu": column(pa.float64())}
    table = pa.table(columns).replace_schema_metadata({"promad:step_seconds": step})
    pq.write_table(table, tmp_path / "x")
    with pytest.raises(DataError, match=r"^[^\n]*/x: [^\n]*run promad collect[^\n]*$"):
        read_frames(tmp_path / "x", "collect")


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_is_one_line(tmp_path, seed):
    """Some damage goes unnoticed; what is noticed has its file and one line."""
    write_frames(tmp_path / "x", [single_group(0.0, 30.0, ("cpu",), np.ones((50, 1)))], {})
    write_small_array(tmp_path / "y", np.ones(50))
    random = np.random.default_rng(seed)
    for name, read in (("x", read_frames), ("y", read_array)):
        content = bytearray((tmp_path / name).read_bytes())
        for place in random.integers(0, len(content), 8):
            content[place] = random.integers(256)
        (tmp_path / name).write_bytes(content)
        message = ""
        try:
            read(tmp_path / name, "collect")
        except DataError as error:
            message = str(error)
        assert not message or message.startswith(f"{tmp_path / name}: ")
        assert "\n" not in message


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_without_opening_it(tmp_path, make):
    make(tmp_path / "x")
    for read in (read_frames, read_array):
        with pytest.raises(DataError, match="x: is not a regular file"):
            read(tmp_path / "x", "collect")
