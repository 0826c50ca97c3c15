"""The one command: what it makes, says, keeps and refuses."""

import json
import logging
from pathlib import Path

import pytest
import torch

from lib.cli.convert import run
from lib.files.checksums import file_sha256
from lib.models.checkpoint import load_model
from lib.models.checkpoint_error import CheckpointError
from lib.models.trainable import frozen_names, interaction_names, trained_names
from lib.serving.model_store import ModelSpec, ModelStore
from tests.support.conversion_site import Site
from tests.support.file_server import serving
from tests.support.program import sam3d
from tests.support.published import reference_state, trained_model, write_sam_file

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def say(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_makes_both_files_which_load_to_the_published_values(site: Site) -> None:
    assert site.run("--sam", site.sam) == 0
    model, report = load_model(size="test", base=site.base, weights=site.weights)
    for name, value in site.model.named_parameters():
        assert torch.equal(model.get_parameter(name), value), name
    assert report.version == file_sha256(site.weights)


def test_fetches_sams_file_itself(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(site.sam.read_bytes()) as server:
        monkeypatch.setenv("SAM3D_SAM_URL", server.url)
        assert site.run() == 0
    assert site.base.is_file() and (site.cache / "sam_test.pth").is_file()


def test_provenance_names_source_and_that_there_is_no_licence(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.run("--sam", site.sam)
    _, report = load_model(size="test", base=site.base, weights=site.weights)
    provenance = report.provenance
    assert provenance["file"] == "last.pth.tar" and provenance["sha256"] == file_sha256(site.checkpoint)
    assert provenance["training"] == {"epoch": 12.0, "best_val_loss": 0.25}
    assert provenance["base"]["sha256"] == site.sam_file.sha256 and provenance["base"]["licence"] == "Apache-2.0"
    assert provenance["preset"] == "organ"
    for text in (provenance["licence"], caplog.text):
        assert "without a licence" in text and "do not pass this file on" in text and "never publishes" in text


def test_report_accounts_for_every_key_of_both_files(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.run("--sam", site.sam)
    report = json.loads(site.weights.with_suffix(".conversion.json").read_text())
    theirs, sams = report["keys"]
    state = reference_state(site.model)
    keys = {f"{part}.{name}" for part in ("encoder_dict", "decoder_dict") for name in state[part]}
    keys |= {f"feature_dict.{i}.{name}" for i, entries in enumerate(state["feature_dict"]) for name in entries}
    keys |= {"epoch", "best_val_loss", "encoder_opt"}
    assert theirs["loaded"].keys() | theirs["ignored"].keys() == keys
    assert not theirs["loaded"].keys() & theirs["ignored"].keys()
    later = interaction_names(site.model)
    assert theirs["created"].keys() == later and all("without effect" in rule for rule in theirs["created"].values())
    places = {place for place in theirs["loaded"].values()}
    assert {p.rsplit(", ", 1)[0] for p in places} == {n for n, _ in site.model.named_parameters()} - later
    assert {p.rsplit(", ", 1)[0] for p in places if p.endswith(", weights")} == trained_names(site.model) - later
    assert sams["loaded"].keys() | sams["ignored"].keys() == torch.load(site.sam, weights_only=True).keys()
    assert sams["loaded"].keys() | sams["created"].keys() == frozen_names(site.model)
    assert all("relative positions" in rule for rule in sams["created"].values())
    reasons = [*theirs["ignored"].values(), *sams["ignored"].values()]
    assert all(reasons)
    for reason in reasons:  # the terminal says each reason, with a count
        assert reason in caplog.text


def test_same_input_gives_the_same_bytes(site: Site) -> None:
    site.run("--sam", site.sam)
    before = file_sha256(site.weights), file_sha256(site.base)
    site.base.unlink()
    assert site.run("--sam", site.sam, "--replace") == 0
    assert (file_sha256(site.weights), file_sha256(site.base)) == before


def test_base_that_is_there_is_kept_and_sams_file_not_needed(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.run("--sam", site.sam)
    before = site.base.stat()
    site.preset(weights="model/second.safetensors")
    assert site.run("--offline") == 0
    assert site.base.stat().st_mtime_ns == before.st_mtime_ns and site.base.stat().st_ino == before.st_ino
    assert "base was there and fits" in caplog.text
    _, report = load_model(size="test", base=site.base, weights=site.app / "model/second.safetensors")
    assert report.provenance["base"]["sha256"] == site.sam_file.sha256


def test_preset_whose_base_is_sams_own_file(site: Site) -> None:
    site.preset(base="model/sam_test.pth")
    assert site.run("--sam", site.sam) == 0
    base = site.app / "model/sam_test.pth"
    assert base.read_bytes() == site.sam.read_bytes()
    model, _ = load_model(size="test", base=base, weights=site.weights)
    assert torch.equal(model.get_parameter("image_encoder.depth_embed"), site.model.image_encoder.depth_embed)
    site.preset(base="model/sam_test.pth", weights="model/second.safetensors")
    assert site.run("--offline") == 0


def test_base_alone(site: Site) -> None:
    assert site.run("--base-only", "--sam", site.sam, checkpoint=False) == 0
    assert site.base.is_file() and not site.weights.exists()
    assert site.run("--base-only", "--offline", checkpoint=False) == 0
    assert site.run("--offline") == 0


def test_other_folder(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    assert site.run("--sam", site.sam, "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "organ.conversion.json", "organ.safetensors", "sam_test.safetensors"
    ]  # fmt: skip
    assert not (site.app / "model").exists()


def test_weights_that_are_there_are_replaced_only_on_demand(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.weights.parent.mkdir()
    site.weights.write_bytes(b"precious")
    assert site.run("--sam", site.sam) == 1
    assert "--replace" in caplog.text and site.weights.read_bytes() == b"precious"
    assert site.run("--sam", site.sam, "--replace") == 0
    load_model(size="test", base=site.base, weights=site.weights)


def test_never_into_the_folder_that_is_published(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.preset(weights="weights/organ.safetensors")
    assert site.run("--sam", site.sam) == 1
    assert "published" in caplog.text and not (site.app / "weights").exists()
    site.preset()
    assert site.run("--sam", site.sam, "--out", site.app / "weights") == 1


def test_no_converted_checkpoint_is_in_the_repository() -> None:
    from safetensors import safe_open

    for path in (ROOT / "apps/sam3d_adapter/weights").glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            assert "without a licence" not in str(file.metadata())
    assert {"*.pth", "*.pth.tar"} <= set((ROOT / ".gitignore").read_text().split())


def test_unknown_preset_names_the_known(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert run(site.app, preset="spleen", checkpoint=site.checkpoint) == 1
    assert "spleen" in caplog.text and "organ" in caplog.text


def test_preset_of_a_size_that_sam_does_not_have(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert run(site.app, preset="organ", checkpoint=site.checkpoint) == 1
    assert "'test'" in caplog.text and "vit_b, vit_l, vit_h" in caplog.text


def test_wrong_checkpoint_is_found_before_sams_file_is_fetched(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.checkpoint.write_bytes(b"junk")
    with serving(site.sam.read_bytes()) as server:
        monkeypatch.setenv("SAM3D_SAM_URL", server.url)
        assert site.run() == 1
    assert server.asked == [] and not site.base.parent.exists()


def test_folder_that_cannot_be_made_is_found_before_sams_file_is_fetched(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.base.parent.write_text("a file where the folder should be")
    with serving(site.sam.read_bytes()) as server:
        monkeypatch.setenv("SAM3D_SAM_URL", server.url)
        assert site.run() == 1
    assert server.asked == [] and "--out" in caplog.text


def test_full_disk_leaves_the_old_weights(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    import resource

    site.run("--sam", site.sam)
    before = file_sha256(site.weights)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        assert site.run("--replace") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be written" in caplog.text and file_sha256(site.weights) == before
    assert not list(site.weights.parent.glob("*.partial"))


@pytest.mark.slow
def test_app_runs_it_from_the_root_of_the_repository() -> None:
    options = ("--preset", "kits", "--checkpoint", "absent.pth.tar")
    done = sam3d("convert", *options, cwd=ROOT, env={"SAM3D_CACHE": "/nowhere"})
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "absent.pth.tar: no such file. Expected a PyTorch file (.pth, .pth.tar)."
    )  # one line, no traceback


def test_replaced_weights_are_served_without_restart_and_wrong_ones_are_not(site: Site, tmp_path: Path) -> None:
    site.run("--sam", site.sam)
    spec, store = ModelSpec("sam3d_adapter", "test", (site.base, site.weights)), ModelStore()
    first = store.get(spec, "cpu")
    other = write_sam_file(tmp_path / "other.pth", seed=1)
    site.save(reference_state(trained_model(tmp_path / other.name)))
    assert site.run("--replace") == 1  # of another base
    assert store.get(spec, "cpu") is first
    state = reference_state(site.model)
    state["decoder_dict"]["cls.0.weight"] += 1
    site.save(state)
    assert site.run("--replace") == 0
    assert store.get(spec, "cpu").version == file_sha256(site.weights) != first.version


def test_checkpoint_error_is_one_class() -> None:
    from lib.models import checkpoint_error

    assert CheckpointError is checkpoint_error.CheckpointError
