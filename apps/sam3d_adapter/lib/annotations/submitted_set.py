"""A data set of submitted cases, with a limit on the memory of the volumes."""

import contextlib
import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lib.annotations.real_clicks import RealInteraction
from lib.annotations.submitted import SubmittedCase, SubmittedError
from lib.presets import Preset
from lib.segmenters.intensity_settings import WindowIntensity
from lib.training.data_sets import DataSetError, window_of
from lib.training.sampling import Volume
from lib.training.stream import NO_CLICKS, Drawn
from lib.volumes.memory import MemoryShortage
from lib.volumes.volume import ImageError

logger = logging.getLogger(__name__)

MAX_BYTES = 2**29
STAY = 16
"""Samples of the stream for each case of a block: reading a case takes as long as several training steps."""
_VOXEL_BYTES = 5
"""An image voxel takes 4 bytes (2 or 8 for some types, which is known only after reading), its label 1."""


class SubmittedDataSet:
    """Draws like `lib.training.data_sets.DataSet`, but reads cases when they are needed.

    If all cases fit into ``max_bytes``, they are equally likely. If not, they are divided into blocks that fit. Samples
    come from one block after the other, ``stay`` samples for each case of a block; then the cases are divided again.
    The block is a function of cases, seed and sample number alone: a resumed training draws the same samples.

    A damaged case is left out with a warning; another one is drawn in its place.

    Args:
        cases: one or more.
        preset: gives intensities and spacings.
        share: of the samples, relative to other data sets.
        recorded: by image id, recorded interactions of users.
        max_bytes: limit of the volumes kept, unless one volume is larger; for each process that draws.
        seed: of the division into blocks.
        stay: samples of the stream for each case of a block.

    Raises:
        DataSetError: there is nothing to train on.
    """

    def __init__(
        self,
        cases: Sequence[SubmittedCase],
        preset: Preset,
        share: float = 1.0,
        *,
        recorded: Mapping[str, Sequence[RealInteraction]] | None = None,
        max_bytes: int = MAX_BYTES,
        seed: int = 0,
        stay: int = STAY,
    ) -> None:
        if not cases:
            raise DataSetError("No submitted label can be learned from. Save a final label for an image first.")
        self.preset, self.share, self.max_bytes = preset, share, max_bytes
        self.remap_share: float | None = None
        self.cases = tuple(cases)
        self._seed, self._stay = seed, stay
        self._recorded = recorded or {}
        self._left_out: set[str] = set()
        self._division: tuple[int, list[list[SubmittedCase]]] = (-1, [])
        self._held: OrderedDict[str, tuple[SubmittedCase, Volume, WindowIntensity]] = OrderedDict()
        self._nbytes = 0

    @property
    def spacings_mm(self) -> tuple[float, ...]:
        """Voxel sides of the ROIs in serving, ascending."""
        return self.preset.roi.seen_spacings_mm

    @property
    def nbytes(self) -> int:
        """Bytes of the volumes kept now."""
        return self._nbytes

    def draw(self, rng: np.random.Generator, number: int = 0) -> Drawn:
        """A volume, one of its objects, its intensity window, and recorded clicks of a user.

        Args:
            rng: source of the draws.
            number: of the sample.

        Raises:
            DataSetError: no case is left that can be read.
        """
        return self.draw_case(rng, number)[1]

    def draw_case(self, rng: np.random.Generator, number: int = 0) -> tuple[SubmittedCase, Drawn]:
        """As ``draw``, with the case.

        Raises:
            DataSetError: no case is left that can be read.
        """
        for case in self._candidates(rng, number):
            if case.image_id in self._left_out:
                continue
            try:
                case, volume, window = self._read(case)
                label = volume.draw_object(rng)
                return case, Drawn(volume, label, window, self._clicked(case, label, rng))
            except (SubmittedError, ImageError, OSError, MemoryShortage, MemoryError) as error:
                logger.warning("%s is not trained on any more: %s", case.image_id, error)
                self._left_out.add(case.image_id)
        raise DataSetError("None of the submitted cases can be read any more. Look into the log for the reasons.")

    def _clicked(self, case: SubmittedCase, label: int, rng: np.random.Generator) -> np.ndarray:
        """(M, 4): clicks of one accepted interaction on the object; empty without one."""
        led = [one for one in self._recorded.get(case.image_id, ()) if one.label == label and one.is_accepted]
        if not led:
            return NO_CLICKS
        clicks = led[rng.integers(len(led))].clicks
        return np.array([[*click.ijk, click.is_foreground] for click in clicks], dtype=float)

    def _candidates(self, rng: np.random.Generator, number: int) -> Iterator[SubmittedCase]:
        """Cases to try in order: the first one is drawn, the others replace damaged ones."""
        # Shuffle all cases, so that the draw does not depend on which damaged ones are known already.
        for some in (self._block(number), self.cases):
            yield from (some[place] for place in rng.permutation(len(some)))

    def _block(self, number: int) -> Sequence[SubmittedCase]:
        """The block of a sample; in every round each case is in one block."""
        round_, place = divmod(number // self._stay, len(self.cases))
        if self._division[0] != round_:
            self._division = round_, self._divided(np.random.default_rng([self._seed, round_]))
        for block in self._division[1]:
            if place < len(block):
                return block
            place -= len(block)
        raise AssertionError("the blocks of a round hold all cases")

    def _divided(self, rng: np.random.Generator) -> list[list[SubmittedCase]]:
        blocks: list[list[SubmittedCase]] = []
        left = 0
        for place in rng.permutation(len(self.cases)):
            case = self.cases[place]
            if not blocks or _at_most(case) > left:
                blocks.append([])
                left = self.max_bytes
            blocks[-1].append(case)
            left -= _at_most(case)
        return blocks

    def _read(self, case: SubmittedCase) -> tuple[SubmittedCase, Volume, WindowIntensity]:
        if case.image_id in self._held:
            self._held.move_to_end(case.image_id)
            return self._held[case.image_id]
        self._make_room(_at_most(case))
        volume = None
        with contextlib.suppress(MemoryShortage, MemoryError):
            volume = case.read()
        if volume is None:
            # Outside of the handler: the exception keeps alive what was read.
            self._make_room(self.max_bytes)
            volume = case.read()
        if not volume.objects():
            raise SubmittedError("no object is left on its image's grid")
        entry = case, volume, window_of(volume, self.preset)
        self._make_room(_nbytes(volume))
        self._held[case.image_id] = entry
        self._nbytes += _nbytes(volume)
        return entry

    def _make_room(self, nbytes: int) -> None:
        """Drops the volumes that were used longest ago."""
        while self._held and self._nbytes + nbytes > self.max_bytes:
            _, volume, _ = self._held.popitem(last=False)[1]
            self._nbytes -= _nbytes(volume)


def _at_most(case: SubmittedCase) -> int:
    """Estimate of a case's bytes before it is read."""
    return math.prod(case.shape) * _VOXEL_BYTES


def _nbytes(volume: Volume) -> int:
    return int(volume.image.nbytes + volume.labels.nbytes)
