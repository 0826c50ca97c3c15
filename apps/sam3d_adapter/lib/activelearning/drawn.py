"""Next Sample by chance: what any other strategy has to beat."""

from typing import Any

from lib.activelearning.next_case import NextCase, Pool
from lib.host.workflow import Workflow
from lib.workflow.served import RANDOM


class Drawn(NextCase):
    """Draws a case, each with the same chance.

    Args:
        workflow: as `NextCase`.
        more: as `NextCase`.
    """

    name = "random"

    def __init__(self, workflow: Workflow, **more: Any) -> None:
        super().__init__(workflow, "Case without a label, drawn at random", **more)

    def choose(self, pool: Pool) -> tuple[str, str]:
        """As `NextCase.choose`."""
        return pool.draw.choice(pool.images), RANDOM
