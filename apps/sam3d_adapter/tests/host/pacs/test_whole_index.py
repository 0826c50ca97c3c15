"""The index in the cache of a PACS: written whole, and no hindrance where it is damaged; changes of labels are told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore

from lib.audit.label_record import make_label_record
from lib.files.checksums import file_sha256
from lib.host.pacs.recorded_labels import with_recorded_labels
from lib.host.pacs.whole_index import use_whole_index
from lib.studies.label_changes import LabelChange
from tests.support.odd_series import make_series
from tests.support.pacs import Pacs, open_store


@pytest.fixture(autouse=True)
def _unpatched() -> Iterator[None]:
    """As MONAI Label ships it, whatever other tests made of it."""
    before = DICOMWebDatastore.__bases__
    DICOMWebDatastore.__bases__ = (LocalDatastore,)
    yield
    DICOMWebDatastore.__bases__ = before


@pytest.fixture
def _patched(_unpatched: None) -> None:
    use_whole_index()


def index_of(store: DICOMWebDatastore) -> Path:
    return Path(store._datastore_config_path)


def test_host_does_not_start_over_half_an_index(tmp_path: Path) -> None:
    """The day this fails, the patch can go."""
    pacs = Pacs(list(make_series().instances))
    index_of(open_store(pacs, tmp_path)).write_text('{"obj')
    with pytest.raises(ValueError):
        open_store(pacs, tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"obj', b"[]", b'{"objects": {"x": 3}}'])
@pytest.mark.usefixtures("_patched")
def test_a_damaged_index_is_kept_and_made_anew(tmp_path: Path, content: bytes) -> None:
    pacs = Pacs(list(make_series().instances))
    index = index_of(open_store(pacs, tmp_path))
    index.write_bytes(content)
    store = open_store(pacs, tmp_path)
    (kept,) = index.parent.glob("datastore_v2.damaged-*.json")
    assert kept.read_bytes() == content and store.list_images()


@pytest.mark.usefixtures("_patched")
def test_an_index_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(Pacs(list(make_series().instances)), tmp_path)
    store.set_name("before")
    before = index_of(store).read_bytes()

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lib.files.atomic_write.os.write", no_room)
        with pytest.raises(OSError, match="No space"):
            store.set_name("after")
    assert index_of(store).read_bytes() == before
    store.set_name("after")
    assert b'"after"' in index_of(store).read_bytes()


def test_changes_of_labels_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, told = make_series(), list[LabelChange]()
    store = open_store(Pacs(list(study.instances)), tmp_path)
    store.get_image_uri(study.series_uid)
    monkeypatch.setattr(store, "save_label", lambda *label: LocalDatastore.save_label(store, *label))
    recorded = with_recorded_labels(store, told.append)
    file = tmp_path / "label.nii.gz"
    for content in (b"one", b"two"):
        file.write_bytes(content)
        recorded.save_label(study.series_uid, str(file), "original", {"proposal": {"outcome": content.decode()}})
    recorded.remove_label(study.series_uid, "original")
    assert [change.action for change in told] == ["submit", "overwrite", "delete"]
    assert told[0].old is None and told[0].new == told[1].old
    assert told[1].new == told[2].old and told[2].new is None
    assert told[1].new is not None and told[1].new["sha256"] == file_sha256(file)
    # What the audit record says of it.
    assert make_label_record(told[1], "1", "hash")["sha256"] == file_sha256(file)
    assert told[1].new["info"]["proposal"] == {"outcome": "two"}


def test_host_loses_what_another_process_saved(tmp_path: Path) -> None:
    """The day this fails, that part of the patch can go."""
    assert saved_by_two(tmp_path)["second"] is None


@pytest.mark.usefixtures("_patched")
def test_what_another_process_saved_is_kept_and_seen_at_once(tmp_path: Path) -> None:
    assert saved_by_two(tmp_path) == {tag: tag for tag in ("first", "second", "third")}


def saved_by_two(folder: Path) -> dict[str, object]:
    """Two data stores on one cache save labels in turn; what is noted beside each of them in the end, by tag."""
    study = make_series()
    stores = [open_store(Pacs(list(study.instances)), folder) for _ in range(2)]
    for store in stores:
        store._observer.stop()
        store._observer.join()
    stores[0].get_image_uri(study.series_uid)
    stores[1].refresh()
    file = folder / "label.nii.gz"
    file.write_bytes(b"label")
    for tag, store in zip(("first", "second", "third"), (stores[0], stores[1], stores[0]), strict=True):
        store.save_label(study.series_uid, str(file), tag, {"made": tag})
    labels = open_store(Pacs(list(study.instances)), folder)._datastore.objects[study.series_uid].labels
    return {str(tag): label.info.get("made") for tag, label in labels.items()}
