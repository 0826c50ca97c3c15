"""The command line of the versions."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lib.cli.versions import versions
from lib.learning.arms import Comparison, write_arms
from lib.registry.registry import Registry
from lib.registry.version import Facts
from lib.registry.versions import Versions
from tests.support.program import REPOSITORY
from tests.support.small_app import copy_small_app
from tests.support.trained import write_trained
from tests.support.weights import write_test_weights


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_small_app(tmp_path_factory.mktemp("site") / "app", ("test", "unet"))


@pytest.fixture
def here(app: Path, tmp_path: Path) -> Versions:
    return Registry(tmp_path / "learning").of("test", "test")


@pytest.fixture
def ids(here: Versions, app: Path, tmp_path: Path) -> list[str]:
    base = app / "weights/test_base.safetensors"
    paths = [write_trained(base, tmp_path / f"{seed}.safetensors", seed=seed) for seed in range(3)]
    return [here.add(path, Facts("training", metrics={"dice": 0.71234})).id for path in paths]


@pytest.fixture
def call(app: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    def call(*command: object, folder: str = "learning", preset: str = "test") -> tuple[int, str]:
        caplog.clear()
        where = ["--preset", preset, "--learning-dir", str(tmp_path / folder)]
        done = CliRunner().invoke(versions, [*map(str, command), *where], obj=lambda: app)
        return done.exit_code, done.stdout + caplog.text

    return call


def test_a_table_of_what_there_is(here: Versions, ids: list[str], call) -> None:
    status, text = call("list")
    assert status == 0 and re.search(r"^shipped +served", text, re.MULTILINE)
    here.publish(ids[0], "me", is_best=True)
    here.publish(ids[1], "me")
    here.refuse(ids[2], ["no"])
    status, text = call("list")
    for name, stage in zip(ids, ("published, best", "served", "refused"), strict=True):
        assert re.search(
            rf"^{name} +{stage} +\d{{4}}-\d\d-\d\dT.* training +shipped +dice 0\.7123$", text, re.MULTILINE
        )
    (here.path(ids[2]) / "version.json").write_bytes(b"{")
    status, text = call("list")
    assert status == 0 and f"{ids[2]}  refused, damaged" in text and "Problem: Version" in text


def test_the_list_says_how_next_sample_did_beside_chance(here: Versions, call) -> None:
    write_arms(here.folder, [Comparison("coverage", 0.52, 0.72, 16, 12, -0.2, -0.23, -0.18)])
    assert "0.52 on the 16 patients that 'coverage' chose and 0.72 on 12 drawn at random" in call("list")[1]


def test_publish_roll_back_and_show(here: Versions, ids: list[str], call) -> None:
    assert call("publish", ids[0], "--by", "Dr. Jones", "--reason", "better") == (
        0,
        f"Preset test serves {ids[0]} from now on.\n",
    )
    assert here.served().id == ids[0]  # type: ignore[union-attr]
    status, text = call("show", ids[0])
    assert status == 0 and '"state": "served"' in text and "published by Dr. Jones: better" in text
    assert call("roll-back", "--by", "Dr. Jones") == (0, "Preset test serves shipped again.\n")
    assert here.served() is None
    assert '"sha256"' in call("show", "shipped")[1]


def test_prune_and_what_is_known_afterwards(here: Versions, ids: list[str], call) -> None:
    status, text = call("prune", "--keep", 1)
    assert status == 0 and text.startswith(f"Removed: {ids[0]}, {ids[1]}. Kept: {ids[2]}.")
    assert '"state": "pruned"' in call("show", ids[0])[1]
    assert f"{ids[0]}  pruned" in call("list")[1]


def test_export_and_import(here: Versions, ids: list[str], call, tmp_path: Path) -> None:
    status, text = call("export", ids[0], tmp_path / "out.zip")
    assert status == 0 and re.search(r"sha256 of the file [0-9a-f]{64}", text)
    status, text = call("import", tmp_path / "out.zip", "--by", "me", folder="elsewhere")
    assert status == 0 and "not served" in text
    there = Registry(tmp_path / "elsewhere").of("test", "test")
    assert there.versions()[0].sha256 == here.get(ids[0]).sha256 and there.served() is None
    assert "measured elsewhere: dice 0.7123" in call("list", folder="elsewhere")[1]
    status, text = call("import", tmp_path / "out.zip", "--by", "me", folder="elsewhere")
    assert status == 1 and "here already" in text


def test_refusals_are_one_sentence_and_exit_with_1(here: Versions, ids: list[str], call, tmp_path: Path) -> None:
    for command, words in (
        (("publish", "v0009-00000000", "--by", "me"), f"choose from: shipped, {ids[0]}"),
        (("publish", ids[0], "--by", " "), "name of who"),
        (("roll-back", "--by", "me"), "nothing that was served before"),
        (("prune", "--keep", "-1"), "0 or more"),
        (("import", tmp_path / "absent.zip", "--by", "me"), "No such file"),
        (("export", ids[0], tmp_path / "no" / "folder.zip"), "No such file"),
    ):
        status, text = call(*command)
        assert status == 1 and words in text and text.count("\n") == 1, text
    status, text = call("list", preset="nonsense")
    assert status == 1 and "choose from: test, unet" in text
    assert call("publish", ids[0])[0] == 2
    assert here.history() == []


def test_another_family_names_its_own_file(call, tmp_path: Path) -> None:
    assert call("list", preset="unet")[0] == 0


def test_looking_and_publishing_need_no_torch(here: Versions, ids: list[str], tmp_path: Path, app: Path) -> None:
    code = (
        "import sys\n"
        "from sam3d.__main__ import main\n"
        f"where = ['--preset', 'test', '--learning-dir', {str(tmp_path / 'learning')!r}]\n"
        f"for command in (['list'], ['show', {ids[0]!r}], ['publish', {ids[0]!r}, '--by', 'me']):\n"
        f"    main(['--app', {str(app)!r}, 'versions', *command, *where], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert here.served().id == ids[0]  # type: ignore[union-attr]


def test_publishing_over_a_lost_best_version_says_so(
    here: Versions, ids: list[str], call, app: Path, tmp_path: Path
) -> None:
    strange = here.add(write_test_weights(tmp_path / "elsewhere", seed=9)[1], Facts("me")).id
    here.publish(strange, "gate", is_best=True)
    here.publish(ids[0], "me")
    status, text = call("publish", ids[1], "--by", "me")
    assert status == 0 and f"{strange}, cannot be loaded any more. {ids[1]} counts as the best" in text
    assert call("publish", ids[2], "--by", "me") == (0, f"Preset test serves {ids[2]} from now on.\n")
    assert here.state().best == ids[1]
    (here.path(ids[1]) / "version.json").write_text("{")
    assert "shipped counts as the best" in call("publish", "shipped", "--by", "me")[1]
    assert here.best() is None
