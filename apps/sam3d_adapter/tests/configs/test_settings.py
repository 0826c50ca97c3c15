"""--conf strings."""

from pathlib import Path

import pytest

from lib.configs.settings import Conf, ConfError, parse_conf


def test_nothing_given() -> None:
    assert parse_conf({}) == Conf()


def test_values_are_read() -> None:
    conf = parse_conf(
        {"models": " ct, mr,ct ", "embedding_cache_mb": "3", "volume_cache_mb": "0", "max_upload_mb": "5"}
    )
    assert conf == Conf(models=("ct", "mr"), embedding_cache_mb=3, volume_cache_mb=0, max_upload_mb=5)
    assert conf.embedding_cache_bytes == 3 * 1024 * 1024
    assert conf.max_upload_bytes == 5 * 1024 * 1024


def test_what_the_host_sets_itself_is_let_through() -> None:
    assert parse_conf({"server_mode": "true"}) == Conf()


def test_place_and_size_of_the_audit() -> None:
    conf = parse_conf({"audit_dir": " /var/lib/audit ", "audit_mb": "3"})
    assert conf.audit_dir == Path("/var/lib/audit") and conf.audit_bytes == 3 * 1024 * 1024


def test_place_of_what_is_learned() -> None:
    assert parse_conf({}).learning_dir == Path("model")
    assert parse_conf({"learning_dir": " /srv/learning "}).learning_dir == Path("/srv/learning")


def test_what_a_second_reader_changes() -> None:
    conf = parse_conf({"train_on": " accepted ", "own_review": "yes", "review_only": "yes"})
    assert (conf.train_on, conf.own_review, conf.review_only) == ("accepted", True, True)
    assert (Conf().train_on, Conf().own_review, Conf().review_only) == ("submitted", False, False)


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ({"model": "ct"}, "--conf model is unknown; choose from: models"),
        ({"embedding_cache_mb": "-1"}, "embedding_cache_mb"),
        ({"volume_cache_mb": "1.5"}, "volume_cache_mb"),
        ({"audit_mb": "0"}, "audit_mb"),
        ({"audit_dir": " "}, "audit_dir"),
        ({"learning_dir": ""}, "learning_dir is empty"),
        ({"train_on": "all"}, "--conf train_on is 'all'; choose from: submitted, accepted"),
        ({"own_review": "maybe"}, "own_review is 'maybe'; choose from: yes, no"),
        ({"review_only": ""}, "review_only"),
        ({"ohif": "none"}, "ohif is .none., which holds no index.html"),
    ],
)
def test_mistakes_are_named(conf: dict, text: str) -> None:
    with pytest.raises(ConfError, match=text):
        parse_conf(conf)


def test_how_next_sample_chooses() -> None:
    assert (parse_conf({}).strategy, parse_conf({}).random_share) == ("queue", 0.2)
    given = parse_conf({"strategy": "coverage", "random_share": "0"})
    assert (given.strategy, given.random_share) == ("coverage", 0.0)
    for wrong, words in (
        ({"strategy": "best"}, "queue, coverage, foreground, predicted_error, random"),
        ({"random_share": "20 %"}, "from 0 to 1"),
    ):
        with pytest.raises(ConfError, match=words):
            parse_conf(wrong)
    for share in ("-0.1", "1.1", "nan"):
        with pytest.raises(ConfError, match="from 0 to 1"):
            parse_conf({"random_share": share})
