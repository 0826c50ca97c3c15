"""A version on its way to another hospital."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lib.models.build import build_model
from lib.models.checkpoint import load_base, save_trained
from lib.registry.archive import export_version, import_version
from lib.registry.errors import RegistryError, UnknownVersion
from lib.registry.registry import Registry
from lib.registry.version import Facts
from lib.registry.versions import Versions
from tests.support.weights import write_test_weights


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_test_weights(tmp_path_factory.mktemp("shipped"))


@pytest.fixture
def there(tmp_path: Path, shipped: tuple[Path, Path]) -> Versions:
    """The hospital that exports: one version, trained on the shipped base."""
    versions = Registry(tmp_path / "there").of("test", "test")
    model = build_model("test")
    load_base(model, shipped[0])
    with torch.no_grad():
        for parameter in model.mask_decoder.parameters():
            parameter.add_(0.01)
    save_trained(model, tmp_path / "trained.safetensors", provenance={})
    curve = tmp_path / "curve.json"
    curve.write_text('{"dice": [0.1, 0.2]}')
    facts = Facts("Dr. There", data=("a", "b"), metrics={"dice": 0.9}, files={"curve.json": curve})
    versions.add(tmp_path / "trained.safetensors", facts)
    return versions


@pytest.fixture
def here(tmp_path: Path) -> Versions:
    return Registry(tmp_path / "here").of("test", "test")


@pytest.fixture
def file(there: Versions, tmp_path: Path) -> Path:
    export_version(there, there.ids()[0], tmp_path / "version.zip")
    return tmp_path / "version.zip"


def test_a_version_arrives_whole_and_is_not_served(
    there: Versions, here: Versions, file: Path, shipped: tuple[Path, Path]
) -> None:
    sent = there.versions()[0]
    got = import_version(here, file, "Dr. Here", shipped)
    assert here.served() is None and here.history() == [] and here.stages() == {got.id: "trained"}
    assert here.verify(got.id).sha256 == sent.sha256 and got.base_sha256 == sent.base_sha256
    assert (here.path(got.id) / "curve.json").read_bytes() == (there.path(sent.id) / "curve.json").read_bytes()
    # What was measured there is not what was measured here.
    assert got.metrics == {} and got.origin is not None and got.origin["metrics"] == {"dice": 0.9}
    assert got.started_by == "Dr. Here" and got.origin["started_by"] == "Dr. There" and got.parent is None
    assert got.data == ("a", "b")
    here.publish(got.id, "Dr. Here")
    assert here.served() == got
    with pytest.raises(RegistryError, match=f"here already: version {got.id}"):
        import_version(here, file, "Dr. Here", shipped)
    assert here.ids() == [got.id]


def test_an_imported_version_can_be_handed_on(
    here: Versions, file: Path, shipped: tuple[Path, Path], tmp_path: Path
) -> None:
    got = import_version(here, file, "Dr. Here", shipped)
    export_version(here, got.id, tmp_path / "on.zip")
    third = import_version(Registry(tmp_path / "third").of("test", "test"), tmp_path / "on.zip", "me", shipped)
    assert third.sha256 == got.sha256 and third.metrics == {}
    assert third.origin["origin"]["started_by"] == "Dr. There"  # type: ignore[index]


def test_only_what_is_whole_is_exported(there: Versions, tmp_path: Path) -> None:
    with pytest.raises(UnknownVersion):
        export_version(there, "v0009-00000000", tmp_path / "x.zip")
    there.weights(there.ids()[0]).write_bytes(b"torn")
    with pytest.raises(RegistryError, match="damaged"):
        export_version(there, there.ids()[0], tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def refused(here: Versions, file: Path, shipped: tuple[Path, Path], match: str) -> None:
    """Refused, and nothing of it is left."""
    with pytest.raises(RegistryError, match=match):
        import_version(here, file, "me", shipped)
    assert here.ids() == [] and list((here.folder / "versions").glob("*")) == []


def test_a_single_wrong_byte_anywhere_adds_nothing_wrong(
    there: Versions, here: Versions, file: Path, shipped: tuple[Path, Path]
) -> None:
    content, sha256 = file.read_bytes(), there.versions()[0].sha256
    for position in range(0, len(content), max(1, len(content) // 150)):
        spoilt = bytearray(content)
        spoilt[position] ^= 0xFF
        file.write_bytes(spoilt)
        try:
            got = import_version(here, file, "me", shipped)
        except RegistryError:
            assert here.ids() == []
        else:
            # A byte that means nothing, such as one of a date of the zip.
            assert here.verify(got.id).sha256 == sha256
            shutil.rmtree(here.folder)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(here: Versions, file: Path, shipped: tuple[Path, Path], part: float) -> None:
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    refused(here, file, shipped, "no whole file")


def rewritten(
    file: Path, change: Callable[[dict[str, bytes], dict], None], compression: int = zipfile.ZIP_STORED
) -> None:
    """The file with other members, as somebody who means harm would write it."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(members, manifest)
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, content in members.items():
            archive.writestr(name, content)


def add_listed(members: dict[str, bytes], manifest: dict, name: str) -> None:
    import hashlib

    members[name] = b"x"
    manifest["members"][name] = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", ".hidden", "..", "a\\b"])
def test_names_that_lead_elsewhere_are_refused(
    here: Versions, file: Path, shipped: tuple[Path, Path], name: str, tmp_path: Path
) -> None:
    rewritten(file, lambda members, manifest: add_listed(members, manifest, name))
    refused(here, file, shipped, "name that no exported version has")
    assert not list(tmp_path.rglob("evil"))


def test_other_members_than_listed_are_refused(here: Versions, file: Path, shipped: tuple[Path, Path]) -> None:
    rewritten(file, lambda members, manifest: members.update(extra=b"x"))
    refused(here, file, shipped, "differ: extra")
    rewritten(file, lambda members, manifest: members.pop("extra") and members.pop("curve.json"))
    refused(here, file, shipped, "differ: curve.json")


@pytest.mark.parametrize("name", ["weights.safetensors", "version.json", "curve.json"])
def test_members_that_are_not_what_the_manifest_says_are_refused(
    here: Versions, file: Path, shipped: tuple[Path, Path], name: str
) -> None:
    # As a zip it is whole: its own checksums are right.
    rewritten(file, lambda members, manifest: members.update({name: members[name] + b" "}))
    refused(here, file, shipped, f"{name} is damaged")


def test_compressed_and_too_many_members_are_refused(here: Versions, file: Path, shipped: tuple[Path, Path]) -> None:
    rewritten(file, lambda members, manifest: None, zipfile.ZIP_DEFLATED)
    refused(here, file, shipped, "compressed")
    rewritten(file, lambda members, manifest: [add_listed(members, manifest, f"m{n}") for n in range(70)] and None)
    refused(here, file, shipped, "64 at most")


def test_weights_that_do_not_fit_are_refused(
    here: Versions, file: Path, shipped: tuple[Path, Path], tmp_path: Path
) -> None:
    other = write_test_weights(tmp_path / "other", seed=5)
    refused(here, file, other, "another base|but the loaded base")
    refused(here, file, (tmp_path / "absent", shipped[1]), "no such file")


def test_another_preset_a_newer_format_and_no_archive_are_told(
    here: Versions, file: Path, shipped: tuple[Path, Path], tmp_path: Path
) -> None:
    other = Registry(tmp_path / "here").of("mr", "test")
    with pytest.raises(RegistryError, match="for preset 'test'.*not for 'mr'"):
        import_version(other, file, "me", shipped)
    rewritten(file, lambda members, manifest: manifest.update(format=9))
    refused(here, file, shipped, "later release")
    file.write_bytes(shipped[1].read_bytes())
    refused(here, file, shipped, "no whole file of an exported version")


def test_no_record_of_a_patient_leaves_the_hospital(there: Versions, tmp_path: Path) -> None:
    """Neither what a release kept with a version, nor what somebody put beside it."""
    records = tmp_path / "cases.jsonl"
    records.write_text('{"case": "1.2.840.113619.2.5", "patient": "MRN-4711", "dice": [0.5]}\n')
    files = {f"{name}.jsonl": records for name in ("candidate", "served", "best")}
    curve = there.path(there.ids()[0]) / "curve.json"
    version = there.add(
        there.weights(there.ids()[0]), Facts("Dr. There", metrics={"dice": 0.8}, files={"curve.json": curve, **files})
    )
    (there.path(version.id) / "notes.txt").write_text("MRN-4711")
    export_version(there, version.id, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        names = set(archive.namelist())
        manifest = json.loads(archive.read("manifest.json"))
    assert names == {"manifest.json", "weights.safetensors", "version.json", "curve.json"}
    assert manifest["members"].keys() == names - {"manifest.json"}
    content = (tmp_path / "out.zip").read_bytes()
    assert b"MRN-4711" not in content and b"1.2.840" not in content
    assert (there.path(version.id) / "candidate.jsonl").exists(), "here they stay"


def test_a_version_without_a_curve_is_exported(there: Versions, here: Versions, tmp_path: Path, shipped) -> None:
    (there.path(there.ids()[0]) / "curve.json").unlink()
    export_version(there, there.ids()[0], tmp_path / "out.zip")
    got = import_version(here, tmp_path / "out.zip", "me", shipped)
    assert here.verify(got.id) and not (here.path(got.id) / "curve.json").exists()


def test_records_in_a_file_of_an_earlier_release_are_not_kept(
    here: Versions, file: Path, shipped: tuple[Path, Path]
) -> None:
    rewritten(file, lambda members, manifest: add_listed(members, manifest, "candidate.jsonl"))
    got = import_version(here, file, "me", shipped)
    kept = {path.name for path in here.path(got.id).iterdir()}
    assert kept == {"weights.safetensors", "version.json", "curve.json"}
    # It is checked all the same.
    rewritten(file, lambda members, manifest: members.update({"candidate.jsonl": b"y"}))
    with pytest.raises(RegistryError, match=r"candidate.jsonl is damaged"):
        import_version(here, file, "me", shipped)
