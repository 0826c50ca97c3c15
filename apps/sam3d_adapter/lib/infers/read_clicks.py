"""Keys of a request -> checked clicks."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from lib.prompts.click import read_clicks


class ReadClicksd(MapTransform):
    """Reads ``foreground`` and ``background`` into ``clicks``, a tuple: foreground clicks, then background clicks.

    A request with a ``box`` or a mask in ``start_from`` may do without foreground clicks.

    Args:
        keys: of the foreground and of the background clicks; each may be absent from the data.
        image_key: of the image, (i, j, k), in whose voxels the clicks are.
    """

    def __init__(
        self,
        keys: KeysCollection = ("foreground", "background"),
        *,
        image_key: Hashable = "image",
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self._image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raises ClickError for clicks that cannot be used."""
        d = dict(data)
        foreground, background = (d.get(key) for key in self.keys)
        # A box or a mask says as well where the structure is.
        is_placed = d.get("box") is not None or d.get("start_from", "none") != "none"
        shape = d[self._image_key].shape
        d["clicks"] = read_clicks(foreground, background, shape, needs_foreground=not is_placed)
        d["warnings"] = list(d.get("warnings", ()))
        return d
