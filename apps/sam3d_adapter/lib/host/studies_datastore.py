"""Patches: labels, images and their index are overwritten in place, by each server for itself.

MONAI Label 0.8.5 copies over the label of before (``monailabel/datastore/local.py:502``) and over the image (``:445``),
and writes its index into the very file (``:687``): a process that is killed leaves halves of them, and none starts over
half an index (``:671``). What a segment is called stands in the index alone, and each server writes the index as it
knew it once, so that of two on one folder each undoes the other's names. An empty folder where a disk was mounted
gets an index of its own (``:107``). It serves whatever has one of its endings, ``._a.nii.gz`` of macOS and half a copy
among them, and does not notice a file that is renamed (``:164``). We know of no upstream issue.

Here ``lib.studies`` does the work, and this class shows it as the data store that MONAI Label asks.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException

from lib.host.patches.version_guard import check_host_version
from lib.host.requester import current_address, current_user
from lib.prompts.reading import short
from lib.studies.folder import StudiesFolder, Taken, Unknown
from lib.studies.index import Index
from lib.studies.label_changes import By, LabelChange

logger = logging.getLogger(__name__)

_NOT_READ = ("*.jpg", "*.png", "*.tif", "*.svs", "*.xml")
"""Patterns of MONAI Label's for pathology."""


class StudiesDatastore(LocalDatastore):
    """MONAI Label's data store of a folder, for reading; whatever changes is done by `StudiesFolder`.

    Its methods raise ``StudiesError``, which is answered with status 503, while the folder is away.

    Args:
        datastore_path: the folder.
        extensions: patterns of images and labels, such as ``*.nii.gz``.
        auto_reload: whether what others change is noticed.
        read_only: whether an index that does not fit the folder stays as it is.
        told: called with each change of a label.
    """

    def __init__(
        self,
        datastore_path: str,
        extensions: Sequence[str] = ("*.nii.gz", "*.nii", "*.nrrd"),
        auto_reload: bool = False,
        read_only: bool = False,
        told: Callable[[LabelChange], None] | None = None,
    ) -> None:
        check_host_version(__name__)
        self._datastore_path = datastore_path
        self._extensions = list(extensions)
        self._auto_reload = auto_reload
        self.folder = StudiesFolder(
            Path(datastore_path),
            [pattern.replace("*", "") for pattern in extensions],
            told=told,
            is_watched=auto_reload,
            may_write=not read_only,
        )
        self._model: tuple[Index, LocalDatastoreModel] | None = None
        self.folder.open()

    @property
    def _datastore(self) -> LocalDatastoreModel:
        index = self.folder.index()
        if self._model is None or self._model[0] is not index:
            self._model = index, LocalDatastoreModel.model_validate(index | {"base_path": self._datastore_path})
        return self._model[1]

    def list_images(self) -> list[str]:
        self.folder.require()
        return super().list_images()

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        self.folder.require()
        return super().get_labeled_images(label_tag, labels)

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        self.folder.require()
        return super().get_unlabeled_images(label_tag, labels)

    def get_image_uri(self, image_id: str) -> str:
        self.folder.require()
        return super().get_image_uri(image_id)

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        self.folder.require()
        return super().get_label_uri(label_id, label_tag)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        self.folder.require()
        return super().datalist(full_path)

    def json(self) -> dict[str, Any]:
        self.folder.require()
        return super().json()

    def status(self) -> dict[str, Any]:
        """As MONAI Label has it, and what is wrong with the folder, if anything is."""
        objects = self._datastore.objects
        tags: dict[str, int] = {}
        for case in objects.values():
            for tag in case.labels:
                tags[tag] = tags.get(tag, 0) + 1
        known = {"total": len(objects), "completed": tags.get("final", 0), "label_tags": tags}
        problem = self.folder.problem()
        return known | ({"problem": problem} if problem else {})

    def refresh(self) -> None:
        self.folder.refresh()

    def set_name(self, name: str) -> None:
        self.folder.describe(name=name)

    def set_description(self, description: str) -> None:
        self.folder.describe(description=description)

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, Any] | None) -> str:
        stem, ending = self._to_id(os.path.basename(image_filename))
        image = image_id or stem
        with _in_the_hosts_words():
            self.folder.add_image(image, ending, Path(image_filename), image_info or {})
        return image

    def remove_image(self, image_id: str) -> None:
        with _in_the_hosts_words():
            self.folder.delete_image(image_id, _requester())

    def update_image_info(self, image_id: str, info: Mapping[str, Any]) -> None:
        with _in_the_hosts_words():
            self.folder.describe_image(image_id, info)

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any] | None
    ) -> str:
        _, ending = self._to_id(os.path.basename(label_filename))
        with _in_the_hosts_words():
            self.folder.save_label(
                image_id, tag_text(label_tag), ending, Path(label_filename), label_info or {}, _requester()
            )
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        with _in_the_hosts_words(LabelNotFoundException):
            self.folder.delete_label(label_id, tag_text(label_tag), _requester())

    def update_label_info(self, label_id: str, label_tag: str, info: Mapping[str, Any]) -> None:
        with _in_the_hosts_words(LabelNotFoundException):
            self.folder.describe_label(label_id, tag_text(label_tag), info, _requester())

    def describe_this_label(self, label_id: str, label_tag: str, sha256: str, info: Mapping[str, Any]) -> None:
        """Adds to what is kept of a label, if it is still the one with that sha256.

        Raises:
            Unknown: it is not.
        """
        self.folder.describe_label(label_id, label_tag, info, _requester(), sha256=sha256)


def open_studies(studies: str, told: Callable[[LabelChange], None]) -> StudiesDatastore | None:
    """The data store of a folder; None where ``studies`` is an address.

    Args:
        studies: as MONAI Label got it.
        told: called with each change of a label.
    """
    if studies.startswith(("http://", "https://")):
        return None
    return StudiesDatastore(
        studies,
        extensions=[pattern for pattern in settings.MONAI_LABEL_DATASTORE_FILE_EXT if pattern not in _NOT_READ],
        auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
        read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        told=told,
    )


def tag_text(tag: str) -> str:
    """The tag itself: of MONAI Label's ``DefaultLabelTag``, ``str`` and paths take the name."""
    return str(tag.value) if isinstance(tag, DefaultLabelTag) else tag


def _requester() -> By:
    return By(current_user(), current_address())


@contextmanager
def _in_the_hosts_words(unknown: type[Exception] = ImageNotFoundException) -> Iterator[None]:
    try:
        yield
    except Unknown as error:
        raise unknown(str(error)) from error
    except Taken as error:
        raise HTTPException(
            409, f"{short(str(error))} Labels may belong to it. Choose another id, or remove that image first (DELETE "
            "/datastore/image)."
        ) from error  # fmt: skip
