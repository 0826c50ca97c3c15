"""Next Sample: the unlabelled case that was shown longest ago and that no other annotator holds.

MONAI Label itself chooses at random and may give two annotators the same case.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.host.requester import current_user
from lib.host.workflow import Workflow
from lib.workflow.cases import MARKS, REJECTED, Lease, Leases, annotator_hash, case_state

logger = logging.getLogger(__name__)


class LeastRecentlyServed(Strategy):
    """Shows cases in turn; those never shown come first, in random order.

    An annotator holds a case for a while. Next gives another case; the one just shown comes again only if
    there is no other. Its lease starts anew at that moment, because the annotator may go back and submit it. Earlier
    leases run out, so that leafing through all cases does not block them. A final label ends a lease at once. A case
    whose labels were all rejected comes again; one that was skipped or has a problem does not come.

    Annotators are distinguished by ``client_id``, which Slicer's plug-in and MONAI Label's client send, or by the
    user's name where MONAI Label authenticates. OHIF sends neither: annotators without a name share one identity, and
    each gets a case that nobody holds as long as there is one.

    Args:
        workflow: has the leases, shared by all servers of a data store, and their length; 0 for none.
        seed: of the order of cases never shown.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        workflow: Workflow,
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        minutes = workflow.lock_s / 60
        super().__init__(f"Least recently shown case without a label; kept for its annotator for {minutes:g} minutes")
        self._workflow, self._clock = workflow, clock
        self._random = random.Random(seed)

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The ``id`` of the next case; None where all are labelled, or others hold the rest."""
        images = sorted(datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels")))
        try:
            images = self._to_annotate(images, datastore)
        except OSError as error:
            logger.warning("Next sample: what was reviewed is not known (%s).", type(error).__name__)
        annotator = annotator_hash(str(request.get("client_id") or current_user() or ""))
        try:
            with self._workflow.database(datastore).changing() as connection:
                leases = Leases(connection)
                self._release_labelled(leases, images, datastore)
                chosen = self._choose(leases, images, annotator)
        except OSError as error:
            # A full disk must not stop annotators; two of them may then get the same case.
            logger.warning("It cannot be remembered who is shown which case (%s).", type(error).__name__)
            chosen = self._random.choice(images) if images else None
        if chosen is None and images:
            logger.info("Next sample: others have all %d cases without a label open.", len(images))
        return None if chosen is None else {"id": chosen}

    def _to_annotate(self, unlabelled: Sequence[str], datastore: Datastore) -> list[str]:
        """Cases without a label or with rejected ones alone, less those that were skipped or have a problem."""
        known = self._workflow.read(datastore)
        states = {
            image: case_state(known.by_image.get(image, ()), known.newest, known.marks.get(image))[0]
            for image in {*known.marks, *(review.image for review in known.reviews)}
        }
        rejected = {image for image, state in states.items() if state == REJECTED}
        again = rejected & set(datastore.list_images()) if rejected else set()
        return sorted(image for image in {*unlabelled} | again if states.get(image) not in MARKS)

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
        return lease is not None and lease.is_held(now, self._workflow.lock_s)

    @staticmethod
    def _release_labelled(leases: Leases, images: Sequence[str], datastore: Datastore) -> None:
        held = {image for image, lease in leases.last.items() if lease.held_since is not None} - set(images)
        # A case in no list at all may only be unreachable for the moment.
        for image in held & set(datastore.list_images()) if held else ():
            leases.release(image)
