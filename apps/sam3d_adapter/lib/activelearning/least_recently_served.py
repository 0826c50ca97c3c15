"""Next Sample as a queue: the unlabelled case that was shown longest ago.

MONAI Label itself chooses at random and may give two annotators the same case.
"""

from typing import Any

from lib.activelearning.next_case import NextCase, Pool, seen_longest_ago
from lib.host.workflow import Workflow
from lib.workflow.served import STRATEGY


class LeastRecentlyServed(NextCase):
    """Shows cases in turn; those never shown come first, in random order.

    Args:
        workflow: as `NextCase`.
        more: as `NextCase`.
    """

    name = "queue"

    def __init__(self, workflow: Workflow, **more: Any) -> None:
        super().__init__(workflow, "Least recently shown case without a label", **more)

    def choose(self, pool: Pool) -> tuple[str, str]:
        """As `NextCase.choose`."""
        return seen_longest_ago(pool), STRATEGY
