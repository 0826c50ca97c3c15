"""A folder of images with labels that say which content they belong with, and a look at it that finds every tear."""

import json
from pathlib import Path
from typing import Any

from lib.files.checksums import file_sha256
from lib.studies.folder import StudiesFolder
from lib.studies.index import NAME, parse_index
from lib.studies.label_changes import By

BY = By("Erika", "10.0.0.7")


def content(text: str) -> bytes:
    """Bytes of a file that is long enough to be torn."""
    return (text + "\n").encode() * 2000


def write(path: Path, text: str) -> Path:
    """A file with `content`."""
    path.write_bytes(content(text))
    return path


def write_studies(folder: Path, images: int = 3) -> Path:
    """Images ``image_0``, ``image_1``, ..."""
    folder.mkdir(exist_ok=True)
    for number in range(images):
        write(folder / f"image_{number}.nii.gz", f"image {number}")
    return folder


def save(folder: StudiesFolder, work: Path, image: str, text: str, ending: str = ".nii.gz") -> None:
    """A label whose one segment is called like its content."""
    folder.save_label(image, "final", ending, write(work / f"label{ending}", text), {"label_info": [text]}, BY)


def seen(studies: Path) -> dict[str, Any]:
    """What a server finds that starts now; fails where a label, its names, an image or the index is torn.

    Returns:
        By image: text of its final label, or None; by change: text of the label before it.
    """
    folder = StudiesFolder(studies)
    folder.open()
    index = folder.index()
    assert parse_index((studies / NAME).read_bytes()) == index
    labels: dict[str, str | None] = {}
    for image, case in index["objects"].items():
        whole = (studies / f"{image}{case['image']['ext']}").read_bytes()
        assert whole == content(whole.decode().split("\n")[0])
        entry = case["labels"].get("final")
        if entry is None:
            labels[image] = None
            assert not list((studies / "labels/final").glob(f"{image}.*"))
            continue
        labels[image] = text = text_of(studies / f"labels/final/{image}{entry['ext']}")
        # Of this very label: in the index, and beside it.
        assert entry["info"]["label_info"] == [text], "names of another label"
        note = json.loads((studies / f"labels/final/{image}.json").read_text())
        assert note["info"]["label_info"] == [text] and note["sha256"] == file_sha256(
            studies / f"labels/final/{note['file']}"
        )
        files = {path.name for path in (studies / "labels/final").glob(f"{image}.*")}
        assert files == {f"{image}.json", f"{image}{entry['ext']}"}, "two labels of one image"
    former = {}
    for change in folder.history():
        if path := folder.former(change):
            assert change.old is not None
            former[change.id] = text = text_of(path)
            assert change.old["info"]["label_info"] == [text] and change.old["sha256"] == file_sha256(path)
    return {"labels": labels, "former": sorted(former.values())}


def text_of(path: Path) -> str:
    """Text of a file with `content`; fails where the file is torn."""
    whole = path.read_bytes()
    text = whole.decode().split("\n")[0]
    assert whole == content(text), f"{path.name} is torn: {len(whole)} bytes"
    return text


def left_behind(studies: Path) -> list[str]:
    """Temporary files and changes that were never finished."""
    return [
        str(path.relative_to(studies))
        for path in studies.rglob("*")
        if path.name.endswith(".partial") or path.name.startswith(".new-") or path.parent.name == ".pending"
    ]
