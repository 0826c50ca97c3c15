"""What a request to train may say."""

import json

import pytest

from lib.learning.settings import SettingError, TrainSettings, read_settings, shown_settings


def test_nothing_said_gives_the_defaults():
    assert read_settings({"model": "ct"}) == TrainSettings(device=read_settings({}).device)


def test_what_a_viewer_sends_back_as_it_got_it_gives_the_defaults():
    """Slicer sends every widget; a list as its chosen item or whole, emptied fields as text or 0."""
    shown = shown_settings()
    chosen = {name: value[0] if isinstance(value, list) else value for name, value in shown.items()}
    for sent in (shown, chosen, {**chosen, "label_name": 0, "started_by": 0.0, "max_epochs": ""}):
        assert read_settings(sent) == read_settings({})
    json.dumps(shown)


def test_values_are_read():
    sent = {
        "max_epochs": "3", "max_minutes": 2, "parent": "v0002-0123abcd", "label_name": " kidney tumor ",
        "started_by": "Dr. Roe", "tracking": "mlflow", "fresh": "true", "publish": False, "seed": 7,
    }  # fmt: skip
    read = read_settings(sent)
    assert (read.max_epochs, read.max_minutes, read.parent) == (3, 2.0, "v0002-0123abcd")
    assert (read.label_name, read.started_by, read.tracking) == ("kidney tumor", "Dr. Roe", "mlflow")
    assert (read.fresh, read.publish, read.seed) == (True, False, 7)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("max_epochs", -1, "from 1 to"),
        ("max_epochs", 1.5, "whole number"),
        ("max_epochs", True, "from 1 to"),
        ("max_epochs", "many", "from 1 to"),
        ("max_epochs", float("inf"), "from 1 to"),
        ("max_minutes", -3, "number from"),
        ("parent", "v1", "id of a version"),
        ("parent", "../x", "id of a version"),
        ("label_name", "a\nb", "printable"),
        ("label_name", ["x"], "printable"),
        ("started_by", "x" * 65, "printable"),
        ("device", "tpu", "choose from"),
        ("tracking", "excel", "choose from"),
        ("fresh", "perhaps", "true or false"),
        ("seed", "x", "number from"),
    ],
)
def test_wrong_values_are_said(key, value, words):
    with pytest.raises(ValueError, match=words) as caught:
        read_settings({key: value})
    assert key in str(caught.value)


def test_unknown_keys_are_refused_and_the_known_ones_named():
    with pytest.raises(SettingError, match="'train_ds'.*max_epochs"):
        read_settings({"train_ds": [{"image": "/etc/passwd"}]})


def test_a_request_to_all_trainers_holds_objects_for_the_others():
    assert read_settings({"ct": {"max_epochs": 2}, "max_epochs": 4}, trainers=("ct", "mr")).max_epochs == 4
    with pytest.raises(SettingError):
        read_settings({"ct": {}})
