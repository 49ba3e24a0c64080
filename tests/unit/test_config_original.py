"""A configuration of the original system means what it meant there, and what differs is named."""

import sys
from pathlib import Path

import pytest
import yaml

from promad.cli.app import main
from promad.config import Config, load_config, read_config
from promad.config.original import find_implied_preset, is_original
from promad.errors import ConfigError

FILE = Path(__file__).parent / "original" / "config.yaml"
TEXT = FILE.read_text(encoding="utf-8")
SHIPPED = Path(__file__).parents[2] / "config.yaml"


@pytest.fixture
def original() -> Config:
    return load_config(FILE)


def test_its_network_has_all_four_layers(original: Config) -> None:
    training = original.training_settings
    assert (training.model, training.preset) == ("lstm_autoencoder", "original")
    assert (training.lstm_units_decoder1, training.sequence_length) == (48, 20)


def test_its_threshold_is_a_limit_of_the_error_of_the_window(original: Config) -> None:
    assert original.training_settings.scoring.method == "mse"
    assert original.real_time_anomaly_detection.anomaly_threshold_mse == 0.0025


def test_calendar_inputs_are_on(original: Config) -> None:
    assert original.preprocessing_settings.time_features == ("hour_of_day", "day_of_week")


def test_the_flag_is_that_of_the_newest_sample(original: Config) -> None:
    live = original.real_time_anomaly_detection
    assert (live.enter_after_samples, live.leave_after_samples) == (1, 1)


def test_missing_keys_have_the_defaults_of_the_original() -> None:
    config = read_config(
        "queries: {a: up}\npreset: original\n"
        "data_settings: {}\ntraining_settings: {early_stopping_patience: 0}\n"
    )
    assert config.preprocessing_settings.scaler_type == "MinMaxScaler"
    assert config.real_time_anomaly_detection.query_interval_seconds == 60
    training = config.training_settings
    assert (training.sequence_length, training.epochs) == (20, 50)
    assert training.early_stopping_patience == 50  # 0 is never, there
    assert training.scoring.method == "mse"


def test_what_is_written_is_kept() -> None:
    config = read_config(
        "queries: {a: up}\npreset: original\npreprocessing_settings: {time_features: []}\n"
        "real_time_anomaly_detection: {enter_after_samples: 3}\n"
    )
    assert config.preprocessing_settings.time_features == ()
    assert config.real_time_anomaly_detection.enter_after_samples == 3


def test_another_model_has_its_own_defaults() -> None:
    config = read_config("queries: {a: up}\npreset: original\ntraining_settings: {model: linear}\n")
    assert config.training_settings.preset == "standard"
    config = load_config(FILE, ["training_settings.model=linear"])
    assert (config.preset, config.training_settings.preset) == ("original", "standard")


def test_explicit_and_implied_mean_the_same(original: Config) -> None:
    for preset in ("original", "auto"):
        assert read_config(f"preset: {preset}\n{TEXT}", directory=FILE.parent) == original


@pytest.mark.parametrize(
    "change",
    [
        "preset: standard",
        "name: web",
        "web: {}",
        "training_settings: {model: lstm_autoencoder, lstm_units_decoder1: 32}",
        "training_settings: {epochs: auto, lstm_units_decoder1: 32}",
        "preprocessing_settings: {scaler_type: ParetoScaler}",
        "queries: {a: {expr: up}}",
        "data_settings: 3",
        "queries: [up]",
    ],
)
def test_a_key_or_a_value_of_promad_makes_it_promads(change: str) -> None:
    values = yaml.safe_load(TEXT)
    assert is_original(values)
    assert not is_original({**values, **yaml.safe_load(change)})


def test_a_short_configuration_is_promads() -> None:
    assert not is_original({"queries": {"a": "up"}})
    assert not is_original(
        {"queries": {"a": "up"}, "real_time_anomaly_detection": {"anomaly_threshold_mse": 0.5}}
    )
    assert read_config(SHIPPED.read_text(encoding="utf-8")).preset == "auto"


def test_mistakes_in_it_still_have_their_lines() -> None:
    text = TEXT.replace("epochs: 50", "epochs: many")
    with pytest.raises(ConfigError) as caught:
        read_config(text)
    line = text.splitlines().index("  epochs: many") + 1
    assert [each.split(": ")[0] for each in caught.value.problems] == [f"config.yaml:{line}"]


BLOCK = """\
{path}: looks like a configuration of the original system: using preset: original
  As there: LSTM layers, mean squared error of the window as score, calendar inputs.
  Different:
  - anomaly_threshold_mse (0.0025) is compared with errors of a newly trained network: check it \
against reconstruction_error_histogram.png in the bundle, or set it to auto.
  - The series of the flag and of the errors are absent without a score (there: 0 or -1).
  - The counter of anomalies counts events (there: polls above the threshold).
  - Every series has the label detector.
  - hour_of_day and day_of_week are inputs of the network, but not part of the error.
  - The output of the network is not limited to the range of the training data; the scaler is \
fitted to the training part only.
  - Gaps of more than 5 steps are not filled, and no window spans one.
  - Samples are read at least 10 s after their time (latency_offset).
  - train rejects a network that is no better than an untrained baseline (gate).
  Write preset: original to hide this, or preset: standard for promad's defaults.
"""


def test_one_block_names_what_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["promad", "-c", str(FILE), "check-config"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    expected = f"{FILE}: 2 queries, no mistakes\n" + BLOCK.format(path=FILE)
    assert capsys.readouterr().out == expected


def test_without_a_threshold_train_chooses_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT.replace("  anomaly_threshold_mse: 0.0025\n", ""), encoding="utf-8")
    block = list(find_implied_preset(path, load_config(path)))
    assert "  - anomaly_threshold_mse is not set: train chooses it (there: 0.0025)." in block


@pytest.mark.parametrize("preset", ["original", "standard"])
def test_a_file_that_names_its_preset_has_no_block(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"preset: {preset}\n{TEXT}", encoding="utf-8")
    assert list(find_implied_preset(path, load_config(path))) == []
