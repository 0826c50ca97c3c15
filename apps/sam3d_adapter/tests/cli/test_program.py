"""The program: its help, what it refuses, and that its options are those of the library."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lib.cli.evaluate import evaluate
from lib.cli.finetune import finetune
from lib.cli.replay import replay
from lib.cli.weights import weights
from lib.configs.settings import Conf
from lib.evaluation.interaction import TIMEOUT_S
from lib.learning.settings import TrainSettings
from lib.models.precision import PRECISIONS
from lib.pretraining.recipe import STRUCTURES
from lib.version import __version__
from sam3d.__main__ import main
from tests.support.program import REPOSITORY


def commands(group: click.Group, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its words."""
    for name, command in group.commands.items():
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)


ALL = dict(commands(main))


def test_help_lists_the_commands() -> None:
    said = CliRunner().invoke(main, ["--help"]).stdout
    found = re.findall(r"^  ([a-z]+)  +[A-Z].*\.$", said.partition("Commands:")[2], re.MULTILINE)
    assert found == [
        "serve",
        "evaluate",
        "finetune",
        "calibrate",
        "score",
        "propose",
        "versions",
        "labels",
        "replay",
        "convert",
        "weights",
    ]
    assert CliRunner().invoke(main, ["--version"]).stdout == f"sam3d, version {__version__}\n"


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_of_each_command_explains_every_option_and_makes_nothing(words: tuple[str, ...], tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--app", str(tmp_path / "app"), *words, "--help"])
    assert done.exit_code == 0 and not (tmp_path / "app").exists()
    for option in ALL[words].params:
        if isinstance(option, click.Option):
            assert option.opts[0] in done.stdout and (option.help or isinstance(option.type, click.Choice)), option
    if words[0] not in ("versions", "labels"):
        assert f"sam3d {words[0]} " in done.stdout  # an example


def test_help_loads_neither_torch_nor_monai() -> None:
    words = [list(words) for words in ALL]
    code = (
        "import sys\n"
        "from sam3d.__main__ import main\n"
        f"for words in {[[], *words]!r}:\n"
        "    try:\n"
        "        main([*words, '--help'])\n"
        "    except SystemExit as end:\n"
        "        assert not end.code\n"
        "assert not {'torch', 'numpy', 'monai', 'monailabel'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "--preset", "ct", "--out", "run"], "Give one of --images, --manifest and --compare."),
        (["evaluate", "--images", "a", "--manifest", "b"], "Give one of --images, --manifest and --compare."),
        (["evaluate", "--images", "a"], "--preset and --out are needed"),
        (["evaluate", "--images", "a", "--preset", "ct", "--out", "b", "--base", "c"], "--base needs --model"),
        (
            ["evaluate", "--images", "a", "--preset", "ct", "--out", "b", "--model", "c", "--version", "d"],
            "--version and --model name different weights",
        ),
        (["evaluate", "--images", "a", "--preset", "ct", "--out", "b", "--jobs", "0"], "--jobs"),
        (["evaluate", "--images", "a", "--preset", "ct", "--out", "b", "--timeout", "0"], "--timeout"),
        (["convert", "--preset", "kits"], "Give one of --checkpoint and --base-only."),
        (["convert", "--preset", "kits", "--base-only", "--checkpoint", "a"], "Give one of --checkpoint"),
        (["replay", "1"], "Give one of --studies and --image."),
        (["serve"], "--studies"),
        (["server"], "server"),
    ],
)
def test_wrong_usage_is_said_with_exit_status_2(words: list[str], said: str) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and said in done.stderr and done.stderr.startswith("Usage: ")


@pytest.mark.parametrize("words", [["serve", "--studies", "absent"], ["versions", "list", "--preset", "absent"]])
def test_refusals_are_one_line_with_exit_status_1(words: list[str], caplog: pytest.LogCaptureFixture) -> None:
    assert CliRunner().invoke(main, words).exit_code == 1
    assert len(caplog.messages) == 1 and "absent" in caplog.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tls-cert", "a.pem"], "--tls-cert and --tls-key belong together"),
        (["--tls-key", "a.pem"], "--tls-cert and --tls-key belong together"),
        (["--tls-cert", "a.pem", "--tls-key", "b.pem"], "a.pem, which is no file"),
        (["--tls-self-signed", "--tls-key", "b.pem"], "--tls-self-signed makes a pair of its own"),
    ],
)
def test_wrong_certificates_are_one_line_with_exit_status_2(
    words: list[str], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = CliRunner().invoke(main, ["serve", "--studies", str(tmp_path), *words])
    assert done.exit_code == 2 and not done.stdout
    assert len(caplog.messages) == 1 and said in caplog.text


def option(command: click.Command, name: str) -> click.Option:
    found = next(one for one in command.params if one.name == name)
    assert isinstance(found, click.Option)
    return found


def test_defaults_and_choices_in_the_help_are_those_of_the_library() -> None:
    """They are written there again, because the library's modules load torch."""
    precision = option(evaluate, "precision")
    assert isinstance(precision.type, click.Choice) and tuple(precision.type.choices) == PRECISIONS
    assert all(name in str(option(finetune, "precision").help) for name in PRECISIONS)
    assert option(evaluate, "timeout").default == TIMEOUT_S
    assert option(replay, "audit_dir").default == Conf().audit_dir
    assert option(replay, "learning_dir").default == Conf().learning_dir
    assert f"[default: {STRUCTURES.minutes:g}]" in str(option(weights, "minutes").help)
    for setting in fields(TrainSettings):
        # The library's default of a device is another one where there is a GPU.
        if setting.name not in ("label_name", "device"):
            default = str(setting.default).lower()
            assert f"[default: {default}]" in str(option(finetune, setting.name).help), setting.name
