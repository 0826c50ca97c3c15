"""Segments that are not the task's: their voxels stay out of the answer."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from lib.prompts.click import on_structure
from lib.volumes.label_map import LabelMapError, Mask, label_map_file, load_label_map, on_image_grid, value_of_name
from lib.volumes.mask_hash import mask_hash
from lib.volumes.read import VolumeCache


@dataclass(frozen=True, eq=False)
class Protected:
    """What belongs to other segments, on the image's grid.

    Attributes:
        mask: (i, j, k).
        source: ``"label"``, saved on the server, or ``"upload"``.
        exception: value of the label map that is the task's own; 0 for none.
        hash: as the ``mask_hash`` of an answer.
    """

    mask: Mask
    source: str
    exception: int
    hash: str


class ReadProtectedd(MapTransform):
    """Replaces ``protected``, the name of a source, by a `Protected` or None.

    Args:
        label: name of the task's structure.
        keys: of the source.
        cache: of volumes; None to read the file every time.
    """

    def __init__(self, label: str, keys: KeysCollection = "protected", *, cache: VolumeCache | None = None) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self._label, self._cache = label, cache

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raises LabelMapError where there is no such label map, or a foreground click lies on a protected voxel."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = None if d[key] == "none" else self._read(d, d[key])
        return d

    def _read(self, data: Mapping[Hashable, Any], source: str) -> Protected:
        path, names = label_map_file(data, source)
        labels = load_label_map(path, self._cache)
        exception = data.get("protected_except")
        start = data.get("start_mask")
        if exception is None and start is not None and start.source == source:
            exception = start.value
        if exception is None:
            exception = value_of_name(labels, names, self._label) or 0
        values = labels.voxels.numpy()
        mask = (values != 0) & (values != exception)
        # Other organs may well reach beyond the image.
        mask = on_image_grid(mask, labels.affine, data["volume"], least_inside=0.0)
        for click in on_structure(data["clicks"]):
            if mask[click.ijk]:
                raise LabelMapError(
                    f"Foreground click {list(click.ijk)} lies on a protected voxel, which belongs to another segment. "
                    "Click elsewhere, do not protect the label map, or say with 'protected_except' which of its values "
                    "is the structure's own."
                )
        return Protected(mask, source, exception, mask_hash(mask))
