"""Labelled folders: what is read, and the one line that each bad folder gets."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promad.errors import DataError
from promad.evaluation.labelled import KnownAnomaly, entities_in, read_labelled

LABELS = np.array([0, 1, 1, 0, 0, 1, 1, 1])


def write(path, **columns):
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "data" / "host-1"
    made.mkdir(parents=True)
    write(made / "train.parquet", a=np.arange(4.0), b=np.ones(4, np.float32))
    write(made / "test.parquet", a=np.arange(8.0), b=[1.0, None, 1, np.inf, 1, 1, 1, 1])
    write(made / "test_label.parquet", label=LABELS.astype(np.int8))
    return made


def test_an_entity_is_read_as_it_stands(folder):
    data = read_labelled(folder)
    assert (data.entity, data.features) == ("host-1", ("a", "b"))
    np.testing.assert_array_equal(data.train, [[0, 1], [1, 1], [2, 1], [3, 1]])
    np.testing.assert_array_equal(data.test[:, 1], [1, np.nan, 1, np.nan, 1, 1, 1, 1])
    np.testing.assert_array_equal(data.labels, LABELS == 1)
    assert data.known_anomalies == (KnownAnomaly(1, 3, ""), KnownAnomaly(5, 8, ""))
    assert data.causes is data.train_times is data.test_times is None
    assert data.test.dtype == np.float64


def test_the_entities_of_a_directory_are_its_folders_by_name(folder):
    other = folder.parent / "host-0"
    other.mkdir()
    (other / "test.parquet").touch()
    (folder.parent / "names.csv").touch()
    assert entities_in(folder.parent) == [other, folder]
    assert entities_in(folder) == [folder]


@pytest.mark.parametrize("ends", [(3, 8), (2, 7)], ids=["excluded", "included"])
def test_an_interpretation_is_read_whether_or_not_its_ends_are_included(folder, ends):
    (folder / "interpretation.txt").write_text(f"1-{ends[0]}:1,2\n5-{ends[1]}:2\n\n")
    causes = read_labelled(folder).causes
    assert (causes.starts.tolist(), causes.ends.tolist()) == ([1, 5], [3, 8])
    assert causes.features.tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize(
    ("content", "expected", "counting"),
    [
        (
            "start,end,class\n1,2,point\n5,7,contextual\n",
            ((1, 3, "point"), (5, 8, "contextual")),
            "sequences",
        ),
        (
            "kind,start_timestamp,end_timestamp,test_start,test_end\nwindow,60,120,1,2\n",
            ((1, 3, "window"),),
            "windows",
        ),
    ],
    ids=["telemanom", "nab"],
)
def test_anomalies_are_as_their_publishers_count_them(folder, content, expected, counting):
    (folder / "labels.csv").write_text(content)
    data = read_labelled(folder)
    assert data.known_anomalies == tuple(KnownAnomaly(*each) for each in expected)
    assert data.counting == counting


def test_without_a_table_of_anomalies_the_segments_count(folder):
    assert read_labelled(folder).counting == "segments"


def test_the_first_features_alone_have_no_causes_but_all_have(folder):
    (folder / "interpretation.txt").write_text("1-3:2\n")
    data = read_labelled(folder)
    first = data.with_first(1)
    assert (first.features, first.train.shape, first.test.shape) == (("a",), (4, 1), (8, 1))
    assert first.causes is None
    assert data.with_first(2) is data


def test_times_are_seconds(folder):
    write(folder / "test_timestamp.parquet", timestamp=np.arange(8) * 300 + 1_400_000_000)
    times = read_labelled(folder).test_times
    assert (times.dtype, times[1] - times[0]) == (np.float64, 300)


def test_clocks_that_were_put_back_once_are_taken_as_they_are(folder):
    put_back = [60, 120, 180, 180, 60, 120, 180, 240]
    write(folder / "test_timestamp.parquet", timestamp=put_back)
    assert read_labelled(folder).test_times.tolist() == put_back


def test_an_interpretation_of_one_sample_is_one_sample_long(folder):
    (folder / "interpretation.txt").write_text("1-3:1\n5-8:1\n6-6:2\n")
    causes = read_labelled(folder).causes
    assert (causes.starts.tolist(), causes.ends.tolist()) == ([1, 5, 6], [3, 8, 7])


def test_a_directory_without_entities_says_what_belongs_there(tmp_path):
    with pytest.raises(DataError) as caught:
        entities_in(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no labelled data — give a directory with one folder for each entity, "
        "each with train.parquet, test.parquet and test_label.parquet"
    )
    with pytest.raises(DataError, match="nowhere: no such directory"):
        entities_in(tmp_path / "nowhere")


def refused(folder):
    with pytest.raises(DataError) as caught:
        read_labelled(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


@pytest.mark.parametrize("name", ["train.parquet", "test.parquet", "test_label.parquet"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert refused(folder) == (
        f"{name}: no such file — an entity needs train.parquet, test.parquet and test_label.parquet"
    )


def test_a_file_that_is_no_parquet_is_named(folder):
    (folder / "test.parquet").write_bytes(b"PAR?")
    assert refused(folder).startswith("test.parquet: cannot be read as Parquet (")


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        (
            "test",
            {"a": [1.0], "c": [1.0]},
            "test.parquet: its columns differ from those of train.parquet",
        ),
        ("train", {"a": [], "b": []}, "train.parquet: no rows or no columns"),
        ("train", {"a": ["x"], "b": [1.0]}, "train.parquet: column a is not numeric"),
        ("test_label", {"label": [1, 0]}, "test_label.parquet: 2 rows, but 8 samples"),
        ("test_label", {"labels": LABELS}, "test_label.parquet: no column label"),
        ("test_label", {"label": LABELS * 2}, "test_label.parquet: labels must be 0 or 1"),
        (
            "test_timestamp",
            {"timestamp": [3, 2, 3, 3, 3, 3, 3, 3]},
            "test_timestamp.parquet: timestamps must increase from row to row",
        ),
    ],
)
def test_files_that_contradict_each_other_are_refused(folder, name, columns, message):
    write(folder / f"{name}.parquet", **columns)
    assert refused(folder) == message


@pytest.mark.parametrize("line", ["1-3", "1-3:0", "1-3:3", "3-1:1", "1-9:1", "8-8:1", "a-b:1"])
def test_a_line_of_interpretation_that_means_nothing_is_named(folder, line):
    (folder / "interpretation.txt").write_text(f"1-3:1\n{line}\n")
    assert refused(folder) == (
        "interpretation.txt: entry 2 does not name rows or features of test.parquet"
    )


@pytest.mark.parametrize("row", ["3,2,point", "0,8,point", "x,2,point", "-1,2,point", "1"])
def test_an_anomaly_that_means_nothing_is_named(folder, row):
    (folder / "labels.csv").write_text(f"start,end,class\n{row}\n")
    assert refused(folder) == "labels.csv: entry 1 does not name rows or features of test.parquet"


def test_label_files_of_another_kind_are_refused(folder):
    (folder / "labels.csv").write_text("from,to\n1,2\n")
    assert refused(folder) == (
        "labels.csv: neither columns start and end nor test_start and test_end"
    )
