"""The box of a request -> a checked box, and the click that it implies where there is none."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from lib.prompts.box import Box, BoxError, read_box
from lib.prompts.click import Click, on_structure

NOT_READ = (
    "The weights of this preset do not read boxes: the box chose the region and bounds the mask, but the network did "
    "not see it."
)
CENTRE_TAKEN = (
    "No foreground click: the box's centre {ijk} was shown to the network as one, and is in the mask only if the "
    "network put it there."
)


class ReadBoxd(MapTransform):
    """Replaces ``box`` by a `Box` or None; without a foreground click adds ``implied_click``, at its centre.

    Args:
        keys: of the box.
        is_read: whether the network reads boxes.
    """

    def __init__(self, keys: KeysCollection = "box", *, is_read: bool) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self._is_read = is_read

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raises BoxError for a box that cannot be used, or that its clicks contradict."""
        d = dict(data)
        for key in self.key_iterator(d):
            box = d[key] = read_box(d[key], d["volume"].voxels.shape)
            if box is None:
                continue
            if not self._is_read:
                d["warnings"] = [*d["warnings"], NOT_READ]
            _require_inside(box, on_structure(d["clicks"]))
            if not on_structure(d["clicks"]) and d.get("implied_click") is None:
                d["implied_click"] = _at_the_centre(box, d["clicks"])
                d["warnings"] = [*d["warnings"], CENTRE_TAKEN.format(ijk=list(box.centre))]
        return d


def _require_inside(box: Box, foreground: tuple[Click, ...]) -> None:
    for click in foreground:
        if not box.holds(click):
            raise BoxError(
                f"Foreground click {list(click.ijk)} lies outside the box from {list(box.first)} to {list(box.last)}; "
                "all of them are expected inside. Remove the click, or draw the box around the whole structure."
            )


def _at_the_centre(box: Box, background: tuple[Click, ...]) -> Click:
    if box.centre in {click.ijk for click in background}:
        raise BoxError(
            f"There is no foreground click, and the box's centre {list(box.centre)} is a background click. Click on "
            "the structure."
        )
    return Click(box.centre)
