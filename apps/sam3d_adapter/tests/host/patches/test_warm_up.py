"""The first answer is not slower than the next for the writer's sake."""

import logging

from lib.host.patches import warm_up


def test_it_writes_with_the_hosts_own_writer(monkeypatch):
    written = []
    original = warm_up.write_itk
    monkeypatch.setattr(warm_up, "write_itk", lambda *a: (original(*a), written.append(a)))
    warm_up.warm_up_writer()
    assert len(written) == 1


def test_a_failure_is_logged_and_no_more(monkeypatch, caplog):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(warm_up, "write_itk", fail)
    with caplog.at_level(logging.WARNING):
        warm_up.warm_up_writer()
    assert "disk full" in caplog.text
