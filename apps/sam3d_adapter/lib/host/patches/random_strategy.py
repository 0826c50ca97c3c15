"""Patches: the next sample is status 500 where all images were served within the second, as one image alone soon was.

MONAI Label 0.8.5 draws by the seconds since each was served, and Python draws nothing where all are 0
(``monailabel/tasks/activelearning/random.py:45``). We know of no upstream issue.
"""

import random
from typing import Any

from monailabel.tasks.activelearning.random import Random

from lib.host.patches.version_guard import check_host_version


class RandomStrategy(Random):
    """MONAI Label's, that also draws where no image has waited longer than the others."""

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any] | None:
        """See ``monailabel.interfaces.tasks.strategy.Strategy``."""
        check_host_version(__name__)
        try:
            return super().__call__(request, datastore)
        except ValueError:
            # None has waited longer than the others, so any will do.
            return {"id": random.choice(datastore.get_unlabeled_images()), "weight": 0}
