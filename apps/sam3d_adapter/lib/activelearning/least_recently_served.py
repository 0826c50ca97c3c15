"""Next Sample: the case without a label that was shown longest ago, and never one that another annotator has open.

MONAI Label's own choice is by chance, and gives two annotators the same case.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.activelearning.turns import Turn, Turns, TurnsError, annotator_hash, opened_turns
from lib.host.request_user import current_user

logger = logging.getLogger(__name__)

LOCK_MINUTES = 30.0


class LeastRecentlyServed(Strategy):
    """Shows cases in turn, those never shown first, in random order.

    A case is kept for its annotator for ``lock_minutes``. Pressing Next means another case, so that the one just shown
    comes again only if there is no other; it stays his for the whole time from then on, for he may want to go back and
    submit it. Earlier ones run out by themselves: who leafs through all cases does not keep them from the others. A
    final label ends it at once.

    Annotators are told apart by ``client_id``, which Slicer's plug-in and MONAI Label's client send, or by the user's
    name where MONAI Label authenticates. OHIF sends nothing: those without a name are not told apart, and each gets a
    case that nobody has open as long as there is one.

    Args:
        path: of the file that remembers, shared by all processes of a server.
        lock_minutes: for how long a case is kept; 0 for not at all.
        seed: of the order of those never shown.
        clock: seconds since 1970.

    Raises:
        ValueError: a negative time.
    """

    def __init__(
        self,
        path: Path,
        lock_minutes: float = LOCK_MINUTES,
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not lock_minutes >= 0:
            raise ValueError(f"A case cannot be kept for {lock_minutes} minutes; 0 or more is expected.")
        super().__init__(
            f"Least recently shown case without a label; kept for its annotator for {lock_minutes:g} minutes"
        )
        self._path, self._lock_s, self._clock = path, 60 * lock_minutes, clock
        self._random = random.Random(seed)

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The ``id`` of the next case; None where all are labelled, or others have the rest open."""
        images = sorted(datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels")))
        annotator = annotator_hash(str(request.get("client_id") or current_user() or ""))
        try:
            with opened_turns(self._path) as turns:
                self._release_labelled(turns, images, datastore)
                chosen = self._choose(turns, images, annotator)
        except (OSError, TurnsError) as error:
            # A full disk must not stop the annotators; that two may meet is the lesser evil.
            logger.warning("It cannot be remembered who is shown which case (%s).", type(error).__name__)
            chosen = self._random.choice(images) if images else None
        if chosen is None and images:
            logger.info("Next sample: others have all %d cases without a label open.", len(images))
        return None if chosen is None else {"id": chosen}

    def _choose(self, turns: Turns, images: Sequence[str], annotator: str) -> str | None:
        now = self._clock()
        own = [image for image, turn in turns.last.items() if turn.annotator == annotator]
        shown = max(own, key=lambda image: turns.last[image].number, default=None)
        is_held = {image: self._is_held(turns.last.get(image), now) for image in images}
        # What others have open; of those who gave no name nobody knows whether it is another.
        free = [image for image in images if not is_held[image] or image in own]
        if not free:
            return None
        if shown is not None and is_held.get(shown):
            turns.renew(shown, now)
        others = [image for image in free if image != shown]

        def rank(image: str) -> tuple[bool, int]:
            turn = turns.last.get(image)
            return is_held[image], turn.number if turn else 0

        first = min(map(rank, others), default=None)
        chosen = self._random.choice([image for image in others if rank(image) == first] or free)
        turns.give(chosen, annotator, now)
        return chosen

    def _is_held(self, turn: Turn | None, now: float) -> bool:
        # A time that lies ahead is of a clock that was set back since, and would hold for who knows how long.
        return turn is not None and turn.held_since is not None and 0 <= now - turn.held_since < self._lock_s

    @staticmethod
    def _release_labelled(turns: Turns, images: Sequence[str], datastore: Datastore) -> None:
        held = {image for image, turn in turns.last.items() if turn.held_since is not None} - set(images)
        # One that is in no list at all may only be out of reach for the moment.
        for image in held & set(datastore.list_images()) if held else ():
            turns.release(image)
