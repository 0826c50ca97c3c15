"""How good a version is on the server's own validation cases: the same interactions as those of ``make evaluate``."""

import dataclasses
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from lib.evaluation.cases import Source
from lib.evaluation.evaluate import Evaluation, evaluate
from lib.evaluation.evaluated_segmenter import SegmenterChoice
from lib.evaluation.ledger import LedgerError, read_records
from lib.evaluation.record import Record
from lib.presets import Preset

MODES, SEEDS = ("centre",), (42,)

logger = logging.getLogger(__name__)


class MeasureVersion:
    """Holds the interactions of one seed with a version; what is finished of a stopped run is kept.

    Args:
        preset: whose task.
        app_dir: the app folder.
        device: ``cpu`` or ``cuda:N``.
        precision: one of `lib.models.precision.PRECISIONS`.
        threads: of PyTorch.
        modes: of the simulated user.
    """

    def __init__(
        self,
        preset: Preset,
        app_dir: Path,
        device: str,
        precision: str = "auto",
        threads: int = 1,
        modes: tuple[str, ...] = MODES,
    ) -> None:
        # Baselines say nothing about which of two versions is better.
        self._preset = dataclasses.replace(preset, image_free=None)
        self._app_dir, self._device, self._precision, self._threads = app_dir, device, precision, threads
        self._modes = modes

    def __call__(self, weights: Path, sources: Sequence[Source], out: Path) -> list[Record]:
        """Records, and a folder as ``make evaluate`` writes it.

        Args:
            weights: of the version.
            sources: images and truths of validation patients.
            out: the folder; what is there of the same run is gone on with, what was measured by another release of
                the app, or on other cases, is measured anew.
        """
        choice = SegmenterChoice(
            self._app_dir, self._preset.with_weights(weights), self._device, self._precision, self._threads
        )
        evaluation = Evaluation(choice, sources, out, self._modes, SEEDS, timeout_s=90.0, split="validation")
        try:
            evaluate(evaluation)
        except LedgerError as error:
            logger.info("Measuring anew: %s", error)
            shutil.rmtree(out)
            evaluate(evaluation)
        return read_records(out)
