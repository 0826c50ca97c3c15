"""Keys of a request -> checked clicks."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from lib.interaction.click import in_order, read_clicks

BACKGROUND_DROPPED = (
    "{count} background click(s) had no effect: the model knows foreground clicks only. "
    "Set further foreground clicks where the mask misses the structure."
)


class ReadClicksd(MapTransform):
    """Reads ``foreground`` and ``background`` into ``clicks``, a tuple in the order in which they count.

    Background clicks are dropped, and ``warnings`` says so, where the model cannot tell them from foreground ones.

    Args:
        keys: of the foreground and of the background clicks; each may be absent from the data.
        image_key: of the image, (i, j, k), in whose voxels the clicks are.
        uses_background: whether the model knows background clicks.
    """

    def __init__(
        self,
        keys: KeysCollection = ("foreground", "background"),
        *,
        image_key: Hashable = "image",
        uses_background: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self._image_key, self._uses_background = image_key, uses_background

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raises ClickError for clicks that cannot be used."""
        d = dict(data)
        foreground, background = (d.get(key) for key in self.keys)
        clicks = read_clicks(foreground, background, d[self._image_key].shape)
        d["clicks"] = in_order([click for click in clicks if click.is_foreground or self._uses_background])
        d["warnings"] = list(d.get("warnings", ()))
        if dropped := len(clicks) - len(d["clicks"]):
            d["warnings"].append(BACKGROUND_DROPPED.format(count=dropped))
        return d
