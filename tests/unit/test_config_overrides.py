"""`--set section.key=value`: what it changes, and the one line that each bad one gets."""

import pytest

from promad.config.reading import read_config
from promad.errors import ConfigError

TEXT = "queries:\n  cpu: up\ntraining_settings:\n  epochs: 3\n  scoring: mse\n"


def test_a_value_goes_before_what_the_file_says():
    config = read_config(TEXT, overrides=["training_settings.epochs=4"])
    assert (config.training_settings.epochs, config.training_settings.scoring.method) == (4, "mse")


def test_values_are_yaml():
    settings = read_config(
        TEXT,
        overrides=[
            "training_settings.lstm_forecaster.layers=[4, 5]",
            "training_settings.lstm_forecaster.dropout=.5",
            "training_settings.gate=false",
            "training_settings.scoring=auto",
        ],
    ).training_settings
    assert (settings.lstm_forecaster.layers, settings.lstm_forecaster.dropout) == ((4, 5), 0.5)
    assert settings.gate is False
    assert settings.scoring.method == "normalised"


def test_the_last_value_for_a_key_counts():
    keys = [f"training_settings.epochs={number}" for number in (4, 5)]
    assert read_config(TEXT, overrides=keys).training_settings.epochs == 5


def test_what_suits_a_model_follows_the_model_that_was_set():
    settings = read_config(TEXT, overrides=["training_settings.model=linear"]).training_settings
    assert (settings.model, settings.sequence_length, settings.epochs) == ("linear", 20, 3)


def test_a_section_may_be_set_as_a_whole():
    config = read_config(TEXT, overrides=["queries.disk={expr: up, condition: true}"])
    assert config.features == ("cpu", "disk")
    assert config.scored == 1


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("epochs", "epochs: not KEY=VALUE — write section.key=value"),
        ("a..b=1", "a..b=1: not KEY=VALUE — write section.key=value"),
        (
            "training_settings.epocs=4",
            "training_settings.epocs: unknown key — did you mean epochs?",
        ),
        (
            "training_settings.epochs=x",
            "training_settings.epochs: must be an integer (x) — "
            "write it without quotes or decimals",
        ),
        (
            "queries.cpu.condition=true",
            "queries.cpu.condition: cpu is a value, not a section — set cpu itself",
        ),
        (
            "data_settings.step=a: b",
            "data_settings.step: invalid YAML: mapping values are not allowed here — "
            "check indentation, quotes and colons",
        ),
        (
            "training_settings.sequence_length=",
            "training_settings.sequence_length: has no value — set one, or remove the key",
        ),
    ],
)
def test_what_cannot_be_set_is_one_line(override, told):
    with pytest.raises(ConfigError) as caught:
        read_config(TEXT, overrides=[override])
    assert str(caught.value) == f"--set: {told}"


def test_mistakes_of_the_file_keep_their_line():
    with pytest.raises(ConfigError) as caught:
        read_config(TEXT.replace("3", "x"), overrides=["training_settings.seed=-1"])
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["--set", "config.yaml:4"]
