"""Submitted cases to draw from, with no more of them in memory than fits."""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np

from lib.learning.pools import PoolError, window_of
from lib.learning.real_clicks import RealDialogue
from lib.learning.sampling import Volume
from lib.learning.stream import NO_CLICKS, Drawn
from lib.learning.submitted import SubmittedCase, SubmittedError
from lib.presets import Preset, WindowIntensity
from lib.transforms.memory import MemoryShortage
from lib.transforms.volume import ImageError

logger = logging.getLogger(__name__)

DEFAULT_BYTES = 4 * 2**30
READ_SHARE = 1 / 8
"""Of the draws that may read a file, once not all cases fit: reading one takes as long as several training steps."""
_COORDINATE_BYTES = 24
"""`Volume` keeps three indices of 8 bytes for each voxel of an object."""


class SubmittedPool:
    """Draws like `lib.learning.pools.Pool`, from cases that are read when their turn comes.

    All cases are equally likely as long as they fit into ``max_bytes``. Where they do not, most draws are from those in
    memory, and every eighth is from all, which over the run is the same for all.

    A case whose files turn out to be damaged is left out with a warning.

    Args:
        cases: one or more.
        preset: whose intensities and spacings.
        share: of the samples that come from here, relative to other pools.
        recorded: by image id, the dialogues of users that led to its labels.
        max_bytes: of the volumes kept; each process that draws keeps its own.

    Raises:
        PoolError: there is nothing to train on.
    """

    def __init__(
        self,
        cases: Sequence[SubmittedCase],
        preset: Preset,
        share: float = 1.0,
        *,
        recorded: Mapping[str, Sequence[RealDialogue]] | None = None,
        max_bytes: int = DEFAULT_BYTES,
    ) -> None:
        if not cases:
            raise PoolError("No submitted label can be learned from. Save a final label for an image first.")
        self.preset, self.share, self.max_bytes = preset, share, max_bytes
        self.remap_share: float | None = None
        self.cases = list(cases)
        self._recorded = recorded or {}
        self._held: OrderedDict[str, tuple[SubmittedCase, Volume, WindowIntensity]] = OrderedDict()
        self._nbytes = 0
        self._is_full = False

    @property
    def spacings_mm(self) -> tuple[float, ...]:
        """At which serving looks, ascending."""
        return (self.preset.roi.spacing_mm, *self.preset.roi.wider_spacings_mm)

    @property
    def nbytes(self) -> int:
        """Bytes of the volumes kept now."""
        return self._nbytes

    def draw(self, rng: np.random.Generator) -> Drawn:
        """A volume, one of its objects, its intensities' window, and what a user clicked there.

        Raises:
            PoolError: no case is left that can be read.
        """
        return self.draw_case(rng)[1]

    def draw_case(self, rng: np.random.Generator) -> tuple[SubmittedCase, Drawn]:
        """As ``draw``, and whose volume it is.

        Raises:
            PoolError: no case is left that can be read.
        """
        while self.cases:
            case = self._choose(rng)
            try:
                case, volume, window = self._read(case)
                label = int(rng.choice(volume.objects()))
                return case, Drawn(volume, label, window, self._clicked(case, label, rng))
            except (SubmittedError, ImageError, OSError, MemoryShortage, MemoryError) as error:
                logger.warning("%s is not trained on any more: %s", case.image_id, error)
                self.cases = [other for other in self.cases if other.image_id != case.image_id]
        raise PoolError("None of the submitted cases can be read any more. Look into the log for the reasons.")

    def _clicked(self, case: SubmittedCase, label: int, rng: np.random.Generator) -> np.ndarray:
        """(M, 4): the clicks of one of the dialogues that led to the object."""
        led = [one for one in self._recorded.get(case.image_id, ()) if one.label == label and one.is_accepted]
        if not led:
            return NO_CLICKS
        clicks = led[rng.integers(len(led))].clicks
        return np.array([[*click.ijk, click.is_foreground] for click in clicks], dtype=float)

    def _choose(self, rng: np.random.Generator) -> SubmittedCase:
        if self._is_full and self._held and rng.random() >= READ_SHARE:
            return list(self._held.values())[rng.integers(len(self._held))][0]
        return self.cases[rng.integers(len(self.cases))]

    def _read(self, case: SubmittedCase) -> tuple[SubmittedCase, Volume, WindowIntensity]:
        if case.image_id in self._held:
            self._held.move_to_end(case.image_id)
            return self._held[case.image_id]
        try:
            volume = case.read()
        except (MemoryShortage, MemoryError):
            self._held.clear()
            self._nbytes, self._is_full = 0, True
            volume = case.read()
        if not volume.objects():
            raise SubmittedError("no object is left on its image's grid")
        entry = case, volume, window_of(volume, self.preset)
        self._keep(entry)
        return entry

    def _keep(self, entry: tuple[SubmittedCase, Volume, WindowIntensity]) -> None:
        case, volume, _ = entry
        # Too large to be kept at all, it is read each time.
        if _nbytes(case, volume) > self.max_bytes:
            self._is_full = True
            return
        self._held[case.image_id] = entry
        self._nbytes += _nbytes(case, volume)
        while self._nbytes > self.max_bytes:
            self._is_full = True
            dropped, gone, _ = self._held.popitem(last=False)[1]
            self._nbytes -= _nbytes(dropped, gone)


def _nbytes(case: SubmittedCase, volume: Volume) -> int:
    return int(volume.image.nbytes + volume.labels.nbytes + _COORDINATE_BYTES * sum(case.voxels))
