"""Submitted cases to draw from, with no more of them in memory than fits."""

import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lib.annotations.real_clicks import RealDialogue
from lib.annotations.submitted import SubmittedCase, SubmittedError
from lib.presets import Preset, WindowIntensity
from lib.training.data_sets import DataSetError, window_of
from lib.training.sampling import Volume
from lib.training.stream import NO_CLICKS, Drawn
from lib.volumes.memory import MemoryShortage
from lib.volumes.volume import ImageError

logger = logging.getLogger(__name__)

POOL_BYTES = 2**29
STAY = 16
"""Samples of the stream, with those of other pools, for each case of a block: reading one takes as long as several
training steps."""
_VOXEL_BYTES = 5
"""An image's value takes 4 but for rare types, or 2, its label 1; which of them is known only once the file is read."""
_COORDINATE_BYTES = 24
"""`Volume` keeps three indices of 8 bytes for each voxel of an object."""


class SubmittedDataSet:
    """Draws like `lib.training.data_sets.DataSet`, from cases that are read when their turn comes.

    All cases are equally likely as long as they fit into ``max_bytes``. Where they do not, they are drawn in blocks
    that do, one block after the other, each for as many samples as it has cases times ``stay``. After the last one they
    are divided anew. Which block it is, is a function of cases, seed and sample number alone, and not of what is in
    memory: a training that is gone on with draws what it would have drawn.

    A case whose files turn out to be damaged is left out with a warning; another one is drawn in its place.

    Args:
        cases: one or more.
        preset: whose intensities and spacings.
        share: of the samples that come from here, relative to other pools.
        recorded: by image id, the dialogues of users that led to its labels.
        max_bytes: of the volumes kept, or one volume that is larger; each process that draws keeps its own.
        seed: of the division into blocks.
        stay: samples of the stream for which a block stays, for each case of it.

    Raises:
        DataSetError: there is nothing to train on.
    """

    def __init__(
        self,
        cases: Sequence[SubmittedCase],
        preset: Preset,
        share: float = 1.0,
        *,
        recorded: Mapping[str, Sequence[RealDialogue]] | None = None,
        max_bytes: int = POOL_BYTES,
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
        """At which serving looks, ascending."""
        return self.preset.roi.seen_spacings_mm

    @property
    def nbytes(self) -> int:
        """Bytes of the volumes kept now."""
        return self._nbytes

    def draw(self, rng: np.random.Generator, number: int = 0) -> Drawn:
        """A volume, one of its objects, its intensities' window, and what a user clicked there.

        Args:
            rng: source of the draws.
            number: of the sample.

        Raises:
            DataSetError: no case is left that can be read.
        """
        return self.draw_case(rng, number)[1]

    def draw_case(self, rng: np.random.Generator, number: int = 0) -> tuple[SubmittedCase, Drawn]:
        """As ``draw``, and whose volume it is.

        Raises:
            DataSetError: no case is left that can be read.
        """
        for case in self._in_turn(rng, number):
            if case.image_id in self._left_out:
                continue
            try:
                case, volume, window = self._read(case)
                label = int(rng.choice(volume.objects()))
                return case, Drawn(volume, label, window, self._clicked(case, label, rng))
            except (SubmittedError, ImageError, OSError, MemoryShortage, MemoryError) as error:
                logger.warning("%s is not trained on any more: %s", case.image_id, error)
                self._left_out.add(case.image_id)
        raise DataSetError("None of the submitted cases can be read any more. Look into the log for the reasons.")

    def _clicked(self, case: SubmittedCase, label: int, rng: np.random.Generator) -> np.ndarray:
        """(M, 4): the clicks of one of the dialogues that led to the object."""
        led = [one for one in self._recorded.get(case.image_id, ()) if one.label == label and one.is_accepted]
        if not led:
            return NO_CLICKS
        clicks = led[rng.integers(len(led))].clicks
        return np.array([[*click.ijk, click.is_foreground] for click in clicks], dtype=float)

    def _in_turn(self, rng: np.random.Generator, number: int) -> Iterator[SubmittedCase]:
        """The first is the one to draw from, each further one in place of those before it."""
        # Shuffled whole, so that what is drawn is the same whether it was known before that a case cannot be read.
        for some in (self._block(number), self.cases):
            yield from (some[place] for place in rng.permutation(len(some)))

    def _block(self, number: int) -> Sequence[SubmittedCase]:
        """The cases that a sample is drawn from; of every turn each case is in one block."""
        turn, place = divmod(number // self._stay, len(self.cases))
        if self._division[0] != turn:
            self._division = turn, self._divided(np.random.default_rng([self._seed, turn]))
        for block in self._division[1]:
            if place < len(block):
                return block
            place -= len(block)
        raise AssertionError("the blocks of a turn hold all cases")

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
        try:
            volume = case.read()
        except (MemoryShortage, MemoryError):
            self._make_room(self.max_bytes)
            volume = case.read()
        if not volume.objects():
            raise SubmittedError("no object is left on its image's grid")
        entry = case, volume, window_of(volume, self.preset)
        self._make_room(_nbytes(case, volume))
        self._held[case.image_id] = entry
        self._nbytes += _nbytes(case, volume)
        return entry

    def _make_room(self, nbytes: int) -> None:
        """Let go of what was drawn from longest ago."""
        while self._held and self._nbytes + nbytes > self.max_bytes:
            case, volume, _ = self._held.popitem(last=False)[1]
            self._nbytes -= _nbytes(case, volume)


def _at_most(case: SubmittedCase) -> int:
    """Bytes that a case will take, as far as is known before it is read."""
    return math.prod(case.shape) * _VOXEL_BYTES + _COORDINATE_BYTES * sum(case.voxels)


def _nbytes(case: SubmittedCase, volume: Volume) -> int:
    return int(volume.image.nbytes + volume.labels.nbytes + _COORDINATE_BYTES * sum(case.voxels))
