"""Manifests: JSON, and tables as spreadsheets save them."""

import json
from pathlib import Path

import pytest

from lib.evaluation.cases import DataError, inspect
from lib.evaluation.manifest import from_manifest


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_manifest(folders: tuple[Path, Path], ending: str) -> None:
    manifest = folders[0].parent / f"manifest.{ending}"
    if ending == "json":
        common = {"image": "images/a.nii.gz", "label": "labels/a.nii", "patient": "P1"}
        above = {"image": f"{folders[0].parent.name}/images/b.nii.gz", "label": "labels/b.nii.gz", "split": "test"}
        entries = [{**common, "case": "a1", "split": "dev", "label_value": 7}, above]
        manifest.write_text(json.dumps({"cases": entries}))
    else:
        manifest.write_text(
            "case,image,label,patient,split,label_value\n"
            "a1,images/a.nii.gz,labels/a.nii,P1,dev,7\n"
            ",images/b.nii.gz,labels/b.nii.gz,,test,\n"
        )
    first, second = from_manifest(manifest)
    assert (first.name, first.patient, first.value, first.split) == ("a1", "P1", 7, "dev")
    assert (second.name, second.patient, second.value, second.split) == ("b", "b", None, "test")
    assert inspect(first)[0][0].object_voxels == 20
    assert from_manifest(manifest, split="dev") == [first]
    with pytest.raises(DataError, match=r"no case of split 'val'.*dev.*test"):
        from_manifest(manifest, split="val")


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_manifests_as_spreadsheets_save_them(folders: tuple[Path, Path], separator: str, encoding: str) -> None:
    manifest = folders[0].parent / "manifest.csv"
    rows = (("image", "label", "label_value"), ("images/a.nii.gz", "labels/a.nii", "7.0"),
            ("images/b.nii.gz", "labels/b.nii.gz", ""))  # fmt: skip
    manifest.write_text("".join(separator.join(row) + "\r\n" for row in rows), encoding=encoding)
    assert [(source.name, source.value) for source in from_manifest(manifest)] == [("a", 7), ("b", None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ('{"files": []}', "a list of cases"),
        ('[{"image": "x"}]', "names x, which is not there"),
        ('[{"label": "x"}]', "has no 'image'"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(text)
    with pytest.raises(DataError, match=words):
        from_manifest(manifest)
