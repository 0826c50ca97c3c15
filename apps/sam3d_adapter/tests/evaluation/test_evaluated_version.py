"""Which weights an evaluation takes, and that its folder says so."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.baselines import distance_mm
from lib.evaluation.cases import from_folders
from lib.evaluation.compare import compare
from lib.evaluation.evaluate import Evaluation, evaluate
from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.evaluation.evaluated_version import SERVED, with_version
from lib.files.checksums import file_sha256
from lib.presets import Preset, load_preset
from lib.registry.errors import DamagedFile, RegistryError, UnknownVersion
from lib.registry.registry import Registry
from lib.registry.version import SHIPPED, Facts
from lib.registry.versions import Versions
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.program import sam3d
from tests.support.server import APP_DIR
from tests.support.small_app import copy_small_app
from tests.support.trained import write_trained

REPOSITORY = APP_DIR.parents[1]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing was learned in it."""
    return copy_small_app(tmp_path_factory.mktemp("version") / "app", ("test", "unet"))


@pytest.fixture(scope="module")
def preset(app: Path) -> Preset:
    whole = load_preset(app / "configs/test.yaml")
    return dataclasses.replace(whole, image_free=None)


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Registry(tmp_path / "learned").of("test", "test")


@pytest.fixture(scope="module")
def trained(app: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("trained")
    return [write_trained(app / "weights/test_base.safetensors", folder / f"{n}.safetensors", seed=n) for n in range(2)]


@pytest.fixture
def ids(versions: Versions, trained: list[Path]) -> list[str]:
    """Two versions, the first of them served."""
    found = [versions.add(path, Facts("training")).id for path in trained]
    versions.publish(found[0], "me")
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    shape, rng = (30, 28, 24), np.random.default_rng(2)
    for number, centre in enumerate([(15, 14, 12), (12, 15, 10)]):
        truth = distance_mm(shape, (1.0, 1.0, 1.5), centre) <= 7
        image = (60 * truth + rng.normal(40, 10, shape)).astype(np.int16)
        for name, values in (("images", image), ("labels", truth.astype(np.uint8))):
            (folder / name).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 1.5, 1.0])), folder / f"{name}/p{number}.nii")
    return folder


def weights_of(preset: Preset) -> str:
    return file_sha256(Path(preset.model.file("weights")))


def test_where_nothing_was_learned_it_is_the_presets_own(preset: Preset, versions: Versions) -> None:
    for wanted in (SERVED, SHIPPED):
        assert with_version(preset, versions, wanted) == (preset, SHIPPED)
    assert not versions.folder.exists()


def test_what_is_served_is_taken_unless_another_one_is_named(
    preset: Preset, versions: Versions, ids: list[str], trained: list[Path]
) -> None:
    chosen, version = with_version(preset, versions, SERVED)
    assert version == ids[0] and weights_of(chosen) == file_sha256(trained[0])
    assert chosen.model.file("base") == preset.model.file("base")
    chosen, version = with_version(preset, versions, ids[1])
    assert version == ids[1] and weights_of(chosen) == file_sha256(trained[1])
    assert with_version(preset, versions, SHIPPED) == (preset, SHIPPED)
    versions.roll_back("me")
    assert with_version(preset, versions, SERVED) == (preset, SHIPPED)


def test_a_family_without_a_base(app: Path, tmp_path: Path) -> None:
    unet = load_preset(app / "configs/unet.yaml")
    versions = Registry(tmp_path / "learned").of("unet", "test", "click_unet")
    version = versions.add(app / unet.model.file("weights"), Facts("training"))
    chosen, _ = with_version(unet, versions, version.id)
    assert chosen.model.files == (str(versions.weights(version.id).resolve()),)


def test_an_unknown_one_is_refused_with_those_that_there_are(
    preset: Preset, versions: Versions, ids: list[str]
) -> None:
    for wanted in ("v0009-00000000", "ids", "", "../v0001"):
        with pytest.raises(UnknownVersion, match=f"choose from: shipped, {ids[0]}, {ids[1]}"):
            with_version(preset, versions, wanted)
    assert versions.prune(0, "me") == [ids[1]]
    with pytest.raises(UnknownVersion, match="removed by pruning"):
        with_version(preset, versions, ids[1])


def test_a_damaged_one_is_refused_and_nothing_takes_its_place(
    preset: Preset, versions: Versions, ids: list[str]
) -> None:
    for name in ids:
        weights = versions.weights(name)
        whole = weights.read_bytes()
        weights.chmod(0o600)
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedFile, match=f"The weights of version {ids[1]} are damaged"):
        with_version(preset, versions, ids[1])
    with pytest.raises(RegistryError, match=f"'test' serves cannot be evaluated: .*{ids[0]} are damaged.*or shipped"):
        with_version(preset, versions, SERVED)
    (versions.folder / "history.jsonl").unlink()
    (versions.folder / "served.json").write_text("{")
    with pytest.raises(RegistryError, match="'test' serves cannot be evaluated"):
        with_version(preset, Registry(versions.folder.parents[1]).of("test", "test"), SERVED)
    assert with_version(preset, versions, SHIPPED) == (preset, SHIPPED)


def test_the_folder_says_which_version_and_two_can_be_compared(
    app: Path, preset: Preset, versions: Versions, ids: list[str], trained: list[Path], data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("lib.evaluation.evaluate.draw_case", lambda *_: None)
    monkeypatch.setattr("lib.evaluation.report.draw_curves", lambda *_: None)
    for wanted, expected in ((SERVED, ids[0]), (SHIPPED, SHIPPED)):
        used, version = with_version(preset, versions, wanted)
        choice, out = SegmenterChoice(app, used, "cpu", "fp32"), tmp_path / wanted
        sources = from_folders(data / "images")[:1]
        summary = evaluate(Evaluation(choice, sources, out, ("paper-3",), (42,), timeout_s=90.0, version=version))
        assert summary["protocol"]["model"]["version"] == version == expected
        assert (out / "summary.md").read_text().startswith(f"# Evaluation of test, version {version}\n")
    own = file_sha256(app / preset.model.file("weights"))
    assert compare(tmp_path / SERVED, tmp_path / SHIPPED)["models"] == [
        {"id": "test", "sha256": file_sha256(trained[0]), "version": ids[0]},
        {"id": "test", "sha256": own, "version": SHIPPED},
    ]


def test_make_hands_the_version_on_and_takes_none_from_the_environment() -> None:
    make = ["env", "VERSION=1.2.3", "make", "-n", "-C", str(REPOSITORY), "-o", f"{sys.prefix}/.installed"]
    make += [f"VENV={sys.prefix}", "evaluate", "IMAGES=a", "LABELS=b", "PRESET=ct", "OUT=c"]
    plain = subprocess.run(make, capture_output=True, text=True, check=True).stdout
    assert "--preset='ct'" in plain and "version" not in plain and "learning" not in plain
    given = [*make, "VERSION=shipped", "LEARNING_DIR=/some where"]
    said = subprocess.run(given, capture_output=True, text=True, check=True).stdout
    assert "--version='shipped' --learning-dir='/some where'" in said


@pytest.mark.slow  # processes that import everything
@pytest.mark.timeout(600)
def test_the_command_takes_what_is_served_and_says_so(
    app: Path, data: Path, trained: list[Path], tmp_path: Path
) -> None:
    site = shutil.copytree(app, tmp_path / "app")

    def command(out: str, *options: object) -> tuple[int, str, str]:
        line = ["evaluate", "--images", data / "images", "--preset", "test", "--out", tmp_path / out, "--jobs", 1]
        done = sam3d(*line, *options, app=site, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    def model(out: str) -> dict:
        return dict(json.loads((tmp_path / out / "summary.json").read_text())["protocol"]["model"])

    status, said, told = command("fresh")
    assert status == 0 and said.startswith("# Evaluation of test, version shipped\n"), told
    # With one job the requests are made in this process, and the host's words of them would be here.
    assert told.splitlines() == [f"{tmp_path}/fresh/summary.json, summary.md, dice_per_click.png, cases.jsonl"]
    versions = Registry(site / "model").of("test", "test")
    ids = [versions.add(path, Facts("training")).id for path in trained]
    versions.publish(ids[0], "me")
    status, said, told = command("learned")
    assert status == 0 and said.startswith(f"# Evaluation of test, version {ids[0]}\n"), told
    assert len(told.splitlines()) == 2 and f"Preset test serves version {ids[0]}, so that is evaluated" in told
    assert model("learned") == {"id": "test", "version": ids[0], "weights_sha256": file_sha256(trained[0])}
    # The same folder goes on with the version that is asked for alone.
    status, _, told = command("learned", "--version", SHIPPED)
    assert status == 1 and "weights_sha256 was" in told
    status, _, told = command("other", "--version", ids[1], "--learning-dir", site / "model")
    assert status == 0 and len(told.splitlines()) == 1 and model("other")["version"] == ids[1], told
    for options, code, words in (
        (("--version", "v0009-00000000"), 1, f"choose from: shipped, {ids[0]}, {ids[1]}."),
        (("--learning-dir", "modle"), 1, f"LEARNING_DIR=modle: {site}/modle is no folder"),
        (("--version", ids[1], "--model", trained[0]), 2, "--version and --model name different weights"),
    ):
        status, said, told = command("refused", *options)
        assert status == code and words in told.splitlines()[-1] and not said, told
        assert not (tmp_path / "refused").exists()
