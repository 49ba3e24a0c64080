"""The configuration: the shipped file says what the code does, and every mistake is told."""

import json
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from promad.config import (
    Config,
    format_duration,
    load_config,
    parse_duration,
    parse_instant,
    read_config,
)
from promad.config.durations import format_instant
from promad.config.model_defaults import PRESETS
from promad.config.settings import key_paths
from promad.errors import ConfigError
from promad.models import MODELS

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config.yaml"
MISTAKES = sorted((Path(__file__).parent / "config_mistakes").glob("*.yaml"))
EXPECT = "# expect: "
QUERIES = "queries: {load: node_load1}\n"


def told(text: str) -> tuple[str, ...]:
    """The problems of a text, none if it is sound; anything but ConfigError fails the test."""
    try:
        read_config(text)
    except ConfigError as error:
        return error.problems
    return ()


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read_config(text)
    return caught.value.problems


# The shipped file


def test_the_shipped_file_says_the_defaults_of_the_code():
    shipped = read_config(SHIPPED.read_text())
    assert shipped == Config(queries=shipped.queries, group_by=("instance",))


def test_every_key_occurs_in_the_shipped_file():
    text = SHIPPED.read_text()
    for path in key_paths():
        assert re.search(rf"\b{path[-1]}:", text), ".".join(path)


def optional_blocks() -> list[tuple[int, int]]:
    """First line and one past the last of each run of lines that are commented out."""
    lines = SHIPPED.read_text().splitlines()
    blocks, start = [], None
    for number, line in enumerate([*lines, ""]):
        commented_out = re.match(r" *#[^ \n]", line) or (
            start is not None and re.match(r" *#  ", line)
        )
        if commented_out and start is None:
            start = number
        elif not commented_out and start is not None:
            blocks.append((start, number))
            start = None
    return blocks


@pytest.mark.parametrize(("first", "end"), optional_blocks())
def test_every_optional_key_is_right_once_it_is_uncommented(first, end):
    lines = SHIPPED.read_text().replace("http://localhost", "https://localhost").splitlines()
    lines[first:end] = [re.sub("#", "", line, count=1) for line in lines[first:end]]
    changed = read_config("\n".join(lines)).model_dump(exclude={"prometheus_url"})
    default = read_config(SHIPPED.read_text()).model_dump(exclude={"prometheus_url"})
    assert changed != default


def test_the_shipped_queries_yield_one_series_for_each_instance_whatever_is_scraped():
    for alias, expr in read_config(SHIPPED.read_text()).promql.items():
        assert re.match(r"(1 - )?(sum|avg|min|max) by \(instance\) \(", expr), alias


def test_every_section_may_be_left_empty():
    sections = {path[0] for path in key_paths() if len(path) == 2} - {"queries"}
    text = QUERIES + "".join(f"{section}:\n" for section in sections)
    assert read_config(text) == read_config(QUERIES)


# Mistakes


@pytest.mark.parametrize("path", MISTAKES, ids=lambda path: path.stem)
def test_each_mistake_has_its_exact_message(path):
    text = path.read_text()
    expected = [line.removeprefix(EXPECT) for line in text.splitlines() if line.startswith(EXPECT)]
    assert list(problems(text)) == expected


def test_no_message_shows_a_secret():
    for path in MISTAKES:
        body = [line for line in path.read_text().splitlines() if not line.startswith(EXPECT)]
        if "hunter2" in "\n".join(body) or "12345678" in "\n".join(body):
            shown = "\n".join(problems("\n".join(body)))
            assert "hunter2" not in shown
            assert "12345678" not in shown


@pytest.mark.parametrize(
    "secret",
    ["*hunter2", "!hunter2", "!h!hunter2 x", "&hunter2 *hunter2", "[hunter2", "{hunter2",
     "|hunter2", "%hunter2", "@hunter2", "`hunter2`", "'hunter2", '"hunter2', "hunter2: x"],
)  # fmt: skip
def test_no_secret_that_yaml_trips_over_is_shown(secret):
    text = f"{QUERIES}prometheus:\n  basic_auth:\n    username: me\n    password: {secret}\n"
    assert "hunter2" not in "\n".join(told(text))


def test_a_mistake_hides_only_the_contradictions_that_it_takes_part_in():
    found = problems(
        f"{QUERIES}data_settings: {{step: 15}}\n"
        "real_time_anomaly_detection: {data_step_duration: 15s}\n"
        "prometheus: {authorization: {type: Bearer}}\n"
    )
    assert [line.split(": ")[1] for line in found] == [
        "data_settings.step",
        "prometheus.authorization",
    ]


def test_a_message_is_one_line_however_long_the_value():
    (line,) = problems('queries:\n  load: "sum(\\n' + "x" * 300 + '"\n')
    assert "\n" not in line
    assert "…)" in line


def test_a_file_that_is_not_there_is_told_with_what_to_do(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "config.yaml")
    assert str(caught.value) == (
        f"{tmp_path}/config.yaml: cannot read the file (No such file or directory) "
        "— set its path with promad -c FILE"
    )


def test_a_folder_and_bytes_that_are_no_text_are_told_too(tmp_path):
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)
    binary = tmp_path / "config.yaml"
    binary.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_config(binary)
    binary.write_bytes(b"\x00" + QUERIES.encode())
    with pytest.raises(ConfigError, match=":1: invalid YAML: control character"):
        load_config(binary)


def test_an_endless_file_is_not_read_to_its_end():
    with pytest.raises(ConfigError, match="/dev/zero: larger than 1 MB"):
        load_config(Path("/dev/zero"))


def test_a_huge_file_is_not_read(tmp_path):
    huge = tmp_path / "config.yaml"
    huge.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        load_config(huge)


def test_a_file_that_says_everything_is_read_in_no_time():
    text = SHIPPED.read_text()
    started = time.thread_time()
    read_config(text)
    assert time.thread_time() - started < 0.5


# What suits each model


def training(**keys):
    return Config.model_validate(
        {"queries": {"a": "up"}, "training_settings": keys}
    ).training_settings


AUTOMATIC = (
    "preset", "sequence_length", "epochs", "batch_size", "learning_rate",
    "early_stopping_patience", "lstm_units_encoder1", "lstm_units_encoder2_latent",
    "lstm_units_decoder1", "lstm_units_decoder2", "scoring",
)  # fmt: skip


@pytest.mark.parametrize("model", PRESETS)
def test_auto_and_nothing_and_the_first_preset_mean_the_same(model):
    alone = training(model=model)
    assert alone == training(model=model, preset=PRESETS[model][0])
    assert alone == training(model=model, **dict.fromkeys(AUTOMATIC, "auto"))
    assert (alone.model, alone.preset) == (model, PRESETS[model][0])


def test_the_default_model_may_be_left_to_promad_too():
    assert training(model="auto") == training() == training(model="linear")


@pytest.mark.parametrize(
    ("preset", "model"),
    [
        ("auto", "linear"),
        ("standard", "linear"),
        ("residual", "lstm_autoencoder"),
        ("improved", "lstm_autoencoder"),
        ("original", "lstm_autoencoder"),
        ("strict", "tranad"),
        ("paper", "tranad"),
    ],
)
def test_a_preset_without_a_model_means_the_model_that_has_it(preset, model):
    assert training(preset=preset) == training(model=model, preset=preset)
    assert training(preset=preset, model="auto").model == model


def test_every_model_and_preset_has_settings_and_each_preset_its_own():
    assert set(PRESETS) == set(MODELS)
    for model, presets in PRESETS.items():
        assert len(
            {training(model=model, preset=preset).model_dump_json() for preset in presets}
        ) == (len(presets))


def test_what_suits_a_model_is_what_its_papers_or_measurements_say():
    autoencoder, tranad = training(model="lstm_autoencoder"), training(model="tranad")
    assert (autoencoder.preset, autoencoder.sequence_length, autoencoder.epochs) == (
        "residual",
        20,
        30,
    )
    assert (tranad.preset, tranad.sequence_length, tranad.learning_rate) == ("strict", 10, 0.0005)
    assert training(model="lstm_forecaster").sequence_length == 101
    assert training(model="fusion").sequence_length == 20
    original = training(preset="original")
    assert (original.sequence_length, original.epochs, original.scoring.method) == (30, 50, "mse")


def test_what_is_said_goes_before_what_suits():
    said = training(model="tranad", sequence_length=33, epochs="auto", batch_size=7)
    assert (said.sequence_length, said.batch_size) == (33, 7)
    assert said.epochs == training(model="tranad").epochs


def test_one_key_of_scoring_leaves_the_others_as_they_suit_the_model():
    said = training(model="linear", scoring={"aggregate": "top_k", "smoothing_samples": "auto"})
    expected = training(model="linear").scoring.model_copy(update={"aggregate": "top_k"})
    assert said.scoring == expected
    assert expected.smoothing_samples == 20


def test_a_word_for_scoring_is_its_method():
    assert training(scoring="mse") == training(scoring={"method": "mse"})
    assert training(preset="original", scoring="normalised").scoring.method == "normalised"
    assert training(scoring="auto") == training(scoring=None) == training()


def test_a_limit_that_a_person_gives_is_held_to_the_plain_error():
    for scoring in ("auto", "normalised", "mse", {"aggregate": "top_k"}):
        config = Config.model_validate(
            {
                "queries": {"a": "up"},
                "training_settings": {"scoring": scoring},
                "real_time_anomaly_detection": {"anomaly_threshold_mse": 0.5},
            }
        )
        assert config.training_settings.scoring.method == "mse"
    automatic = {"queries": {"a": "up"}, "real_time_anomaly_detection": {"threshold": "quantile"}}
    assert Config.model_validate(automatic).training_settings.scoring.method == "normalised"


# Conditions and exclusions


def test_conditions_come_after_all_that_is_scored_in_the_order_of_the_file():
    config = read_config(
        "queries:\n"
        "  c: {expr: host_c, condition: true}\n"
        "  z: host_z\n"
        "  b: {expr: host_b, condition: on}\n"
        "  a: {expr: host_a, condition: false}\n"
    )
    assert config.features == ("z", "a", "c", "b")
    assert config.scored == 2
    assert list(config.promql.items()) == [(name, f"host_{name}") for name in config.features]


def test_without_conditions_everything_is_scored():
    config = read_config("queries: {b: up, a: up}")
    assert (config.features, config.scored) == (("b", "a"), 2)


def test_what_training_leaves_out_is_a_period_or_an_expression():
    config = read_config(
        f"{QUERIES}data_settings:\n  exclude:\n"
        "    - {start: 2026-11-02, end: 2026-11-03}\n"
        "    - changes(version[5m])\n"
        "    - {expr: maintenance}\n"
    )
    period, *expressions = config.data_settings.exclude
    assert period.end - period.start == 86400.0
    assert [each.expr for each in expressions] == ["changes(version[5m])", "maintenance"]
    assert read_config(QUERIES).data_settings.exclude == ()


# What is read


def test_relative_paths_are_relative_to_the_file(tmp_path):
    folder = tmp_path / "somewhere"
    folder.mkdir()
    (folder / "c.yaml").write_text(
        f"{QUERIES}artifacts_dir: out\n"
        "prometheus:\n"
        "  basic_auth: {username: me, password_file: secret}\n"
        "  http_headers: {X-A: {files: [token, /etc/token]}}\n"
    )
    config = load_config(folder / "c.yaml")
    assert config.artifacts_dir == folder / "out"
    assert config.prometheus.basic_auth.password_file == folder / "secret"
    assert config.prometheus.http_headers["X-A"].files == (folder / "token", Path("/etc/token"))


def test_the_default_folder_is_beside_the_file_too(tmp_path):
    (tmp_path / "c.yaml").write_text(QUERIES)
    assert load_config(tmp_path / "c.yaml").artifacts_dir == tmp_path / "artifacts"


def test_a_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text(f"{QUERIES}artifacts_dir: ~/promad\n")
    assert load_config(tmp_path / "c.yaml").artifacts_dir == tmp_path / "promad"


def test_a_query_is_an_expression_or_a_mapping_with_one():
    short, long = "node_load1", "{expr: node_load1}"
    assert read_config(f"queries: {{a: {short}, b: {long}}}").promql == {"a": short, "b": short}


def test_the_features_keep_the_order_of_the_file():
    assert read_config("queries: {z: up, a: up, m: up}").features == ("z", "a", "m")


def test_words_that_yaml_would_turn_into_something_else_stay_words():
    config = read_config(
        "name: 1:30\nqueries: {on: up, 2026-11-22: up, 7: up, null: up}\n"
        "data_settings: {start_time_iso: 20261101, end_time_iso: 2026-11-08}\n"
        "prometheus: {basic_auth: {username: no, password: 0x10}}\n"
    )
    assert config.name == "1:30"
    assert config.features == ("on", "2026-11-22", "7", "null")
    assert config.data_settings.start_time_iso == parse_instant("2026-11-01T00:00:00Z")
    assert config.prometheus.basic_auth.username == "no"
    assert config.prometheus.basic_auth.password == SecretStr("0x10")


@pytest.mark.parametrize(("text", "number"), [("1e-3", 0.001), ("5", 5.0), (".5", 0.5), ("+2.", 2)])
def test_numbers_may_be_written_in_every_usual_way(text, number):
    config = read_config(f"{QUERIES}training_settings: {{learning_rate: {text}}}")
    assert config.training_settings.learning_rate == number


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "yes", "on"])
def test_a_switch_may_be_written_in_every_usual_way(word):
    assert read_config(
        f"{QUERIES}data_settings: {{allow_partial: {word}}}"
    ).data_settings.allow_partial


def test_times_are_utc_unless_an_offset_is_written():
    config = read_config(
        f"{QUERIES}data_settings:\n  collection_periods_iso:\n"
        "    - {start: 2026-11-02T01:00:00+01:00, end: 2026-11-09}\n"
    )
    (period,) = config.data_settings.collection_periods_iso
    assert (format_instant(period.start), format_instant(period.end)) == (
        "2026-11-02T00:00:00Z",
        "2026-11-09T00:00:00Z",
    )


def test_anchors_aliases_and_merge_keys_work():
    config = read_config(
        "queries:\n"
        "  a: &base {expr: up}\n"
        "  b: *base\n"
        "  c: {<<: *base, expr: node_load1}\n"
        "  d: {<<: [*base, {expr: node_load5}]}\n"
    )
    assert config.promql == {"a": "up", "b": "up", "c": "node_load1", "d": "up"}


def test_a_trailing_slash_of_the_server_does_not_matter():
    assert read_config(f"{QUERIES}prometheus_url: http://x/prom/").prometheus_url == "http://x/prom"


def test_no_way_of_showing_a_configuration_shows_its_secrets():
    config = read_config(
        f"{QUERIES}prometheus:\n"
        "  basic_auth: {username: me, password: hunter2}\n"
        "  http_headers: {X-A: {secrets: [hunter2]}}\n"
    )
    assert "hunter2" not in f"{config!r}{config}{config.model_dump_json()}"
    config = read_config(
        f"{QUERIES}prometheus: {{oauth2: {{client_id: me, client_secret: hunter2, "
        "token_url: https://sso.example}}\n"
    )
    assert "hunter2" not in f"{config!r}{config}{config.model_dump_json()}"
    config = read_config(
        f"{QUERIES}prometheus: {{sigv4: {{access_key: a, secret_key: hunter2}}}}\n"
    )
    assert "hunter2" not in f"{config!r}{config}{config.model_dump_json()}"


# Whatever is written


yaml_like = st.text(st.sampled_from(list("abq: \n-#&*!|>'\"%@`{}[],?<~0159.eE\t")), max_size=60)
keys = st.sampled_from(sorted({path[-1] for path in key_paths()} | {"x", "<<"}))
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from(["1h", "auto", "up", "2026-11-22", "9999-12-31T23:59:59-23:59", "~", "~x/y"]),
)  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def check(text: str) -> None:
    for line in told(text):
        assert re.match(r"config\.yaml:[1-9][0-9]*: .+", line)
        assert line.isprintable()


@given(st.text() | yaml_like | yaml_like.map(lambda text: f"queries: {{a: up}}\n{text}"))
@example("[" * 5000)
@example("queries: &a {b: *a}")
@example("a: !!python/object:os.system x")
@example("\ufeffqueries: {a: up}")
@settings(max_examples=150, deadline=None)
def test_no_text_makes_the_reader_trip(text):
    check(text)


@given(st.dictionaries(keys, trees, max_size=6))
@settings(max_examples=150, deadline=None)
def test_no_values_in_the_right_places_make_the_reader_trip(tree):
    check(yaml.safe_dump(tree, allow_unicode=True))


@given(
    st.text(max_size=20) | st.from_regex(r"(sum|rate)\(up[\[\]{}@0-9a-z=~\"']*\)", fullmatch=True)
)
@settings(max_examples=150, deadline=None)
def test_no_expression_makes_the_reader_trip(expr):
    check(f"queries: {{a: {json.dumps(expr)}}}")


@given(st.integers(0, 10**12))
def test_formatting_a_duration_is_the_inverse_of_parsing_it(milliseconds):
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(st.text(max_size=10) | st.from_regex(r"([0-9]{1,12}(y|w|d|h|m|s|ms)){1,3}", fullmatch=True))
def test_what_is_parsed_as_a_duration_is_formatted_as_the_same(text):
    with suppress(ValueError):
        seconds = parse_duration(text)
        assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["", "5", "-5s", "1.5h", "5 s", "1m1h", "1s1s", "٥s", "5S", "s"])
def test_what_prometheus_does_not_take_for_a_duration_is_none(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(-(10**9), 10**10))
def test_formatting_an_instant_is_the_inverse_of_parsing_it(seconds):
    assert parse_instant(format_instant(seconds)) == seconds


def test_code_may_give_times_in_unix_seconds():
    settings = {"start_time_iso": 0.0, "end_time_iso": 86400.0}
    config = Config.model_validate({"queries": {"a": "up"}, "data_settings": settings})
    assert config.data_settings.end_time_iso == 86400.0


# Incidents


@pytest.mark.parametrize(
    ("written", "step", "seconds"),
    [("auto", 30.0, 120.0), ("auto", 300.0, 600.0), ("45s", 30.0, 45.0), ("0s", 30.0, 0.0)],
)
def test_onsets_join_within_two_minutes_or_two_steps_unless_set(written, step, seconds):
    config = read_config(f"{QUERIES}incidents: {{join_within: {written}}}\n")
    assert config.incidents.join_seconds(step) == seconds


# The examples of the documentation


def documented_examples() -> list[str]:
    text = (ROOT / "docs" / "servers.md").read_text()
    return re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("example", documented_examples())
def test_each_documented_way_to_a_server_is_a_sound_configuration(example):
    read = read_config(QUERIES + example)
    assert read.prometheus != Config(queries=read.queries).prometheus
    assert read.prometheus_url in example
