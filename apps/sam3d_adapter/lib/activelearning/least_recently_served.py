"""Next Sample: the unlabelled case that was shown longest ago and that no other annotator holds.

MONAI Label itself chooses at random and may give two annotators the same case.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.activelearning.leases import Lease, Leases, LeasesError, annotator_hash, opened_leases
from lib.host.requester import current_user

logger = logging.getLogger(__name__)

LOCK_MINUTES = 30.0


class LeastRecentlyServed(Strategy):
    """Shows cases in turn; those never shown come first, in random order.

    An annotator holds a case for ``lock_minutes``. Next gives another case; the one just shown comes again only if
    there is no other. Its lease starts anew at that moment, because the annotator may go back and submit it. Earlier
    leases run out, so that leafing through all cases does not block them. A final label ends a lease at once.

    Annotators are distinguished by ``client_id``, which Slicer's plug-in and MONAI Label's client send, or by the
    user's name where MONAI Label authenticates. OHIF sends neither: annotators without a name share one identity, and
    each gets a case that nobody holds as long as there is one.

    Args:
        path: of the file of leases, shared by all processes of a server.
        lock_minutes: length of a lease; 0 for none.
        seed: of the order of cases never shown.
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
        """The ``id`` of the next case; None where all are labelled, or others hold the rest."""
        images = sorted(datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels")))
        annotator = annotator_hash(str(request.get("client_id") or current_user() or ""))
        try:
            with opened_leases(self._path) as leases:
                self._release_labelled(leases, images, datastore)
                chosen = self._choose(leases, images, annotator)
        except (OSError, LeasesError) as error:
            # A full disk must not stop annotators; two of them may then get the same case.
            logger.warning("It cannot be remembered who is shown which case (%s).", type(error).__name__)
            chosen = self._random.choice(images) if images else None
        if chosen is None and images:
            logger.info("Next sample: others have all %d cases without a label open.", len(images))
        return None if chosen is None else {"id": chosen}

    def _choose(self, leases: Leases, images: Sequence[str], annotator: str) -> str | None:
        now = self._clock()
        own = [image for image, lease in leases.last.items() if lease.annotator == annotator]
        shown = max(own, key=lambda image: leases.last[image].number, default=None)
        is_held = {image: self._is_held(leases.last.get(image), now) for image in images}
        # Cases that others do not hold. Annotators without a name may be the same person.
        free = [image for image in images if not is_held[image] or image in own]
        if not free:
            return None
        if shown is not None and is_held.get(shown):
            leases.renew(shown, now)
        others = [image for image in free if image != shown]

        def rank(image: str) -> tuple[bool, int]:
            lease = leases.last.get(image)
            return is_held[image], lease.number if lease else 0

        first = min(map(rank, others), default=None)
        chosen = self._random.choice([image for image in others if rank(image) == first] or free)
        leases.give(chosen, annotator, now)
        return chosen

    def _is_held(self, lease: Lease | None, now: float) -> bool:
        # A start in the future means that the clock was set back; such a lease could last for ever.
        return lease is not None and lease.held_since is not None and 0 <= now - lease.held_since < self._lock_s

    @staticmethod
    def _release_labelled(leases: Leases, images: Sequence[str], datastore: Datastore) -> None:
        held = {image for image, lease in leases.last.items() if lease.held_since is not None} - set(images)
        # A case in no list at all may only be unreachable for the moment.
        for image in held & set(datastore.list_images()) if held else ():
            leases.release(image)
