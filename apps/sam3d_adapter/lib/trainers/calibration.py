"""Learning beside the server to predict Dice, in the process in which MONAI Label scores images."""

import logging
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod

from lib.host.batch_inference import batch_device
from lib.learning.calibrate import NoCalibration
from lib.trainers.train_task import FineTuneTask, lower_priority

logger = logging.getLogger(__name__)


class CalibrationScoring(ScoringMethod):
    """Learns to predict the Dice of each preset's answers from the labels of a data store.

    Args:
        trainers: the train tasks by preset, which know its labels and versions.
    """

    def __init__(self, trainers: Mapping[str, FineTuneTask]) -> None:
        super().__init__("Learns from submitted labels to predict the Dice of answers")
        self._trainers = trainers

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, int]:
        """One preset after the other; one that fails does not keep the others from it.

        Args:
            request: may name a ``device``.
            datastore: of the app.

        Returns:
            By preset from how many patients it was learned; 0 where there is no prediction.
        """
        lower_priority()
        device, found = batch_device(request.get("device")), dict.fromkeys(self._trainers, 0)
        for name, trainer in self._trainers.items():
            try:
                found[name] = trainer.calibrate(datastore, device).patients
            except NoCalibration as error:
                logger.info("Preset %s: %s", name, error)
            # Broad: whatever is wrong with one preset, the others go on.
            except Exception:
                logger.exception("Preset %s: what answers are worth was not measured.", name)
        return found
