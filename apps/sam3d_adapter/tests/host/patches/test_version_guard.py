"""A newer host is remarked upon, once."""

import importlib.metadata

import pytest

from lib.host.patches import version_guard


@pytest.mark.parametrize(
    ("installed", "warns"), [("0.8.5", False), ("0.8.4", False), ("0.8.6", True), ("0.10.0", True)]
)
def test_newer_versions_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, installed: str, warns: bool
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed)
    version_guard.check_host_version.cache_clear()
    version_guard.check_host_version("some_patch")
    version_guard.check_host_version("some_patch")
    assert caplog.text.count("some_patch") == int(warns)
    version_guard.check_host_version.cache_clear()
