"""What all strategies of Next Sample share: leases, states and marks of cases, the random arm, what was served."""

import logging
import random
import sqlite3
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lib.host.requester import current_user
from lib.host.workflow import Workflow
from lib.workflow.cases import MARKS, REJECTED, Lease, Leases, annotator_hash, case_state
from lib.workflow.served import RANDOM, note_served

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pool:
    """What a strategy chooses from.

    Attributes:
        images: at least one; none was just shown to the annotator, as long as there is another.
        leases: the last one of each case, by image id.
        covered: cases that are labelled, or that somebody holds now.
        labels: how many cases are labelled.
        draw: for what is left to chance.
        connection: of the database.
    """

    images: Sequence[str]
    leases: Mapping[str, Lease]
    covered: frozenset[str]
    labels: int
    draw: random.Random
    connection: sqlite3.Connection


class NextCase(Strategy):
    """Gives each annotator a case that no other one holds; a subclass chooses which.

    An annotator holds a case for a while. Next gives another case; the one just shown comes again only if
    there is no other. Its lease starts anew at that moment, because the annotator may go back and submit it. Earlier
    leases run out, so that leafing through all cases does not block them. A final label ends a lease at once. A case
    whose labels were all rejected comes again; one that was skipped or has a problem does not come. Cases that were
    never shown come before those that were.

    Annotators are distinguished by ``client_id``, which Slicer's plug-in and MONAI Label's client send, or by the
    user's name where MONAI Label authenticates. OHIF sends neither: annotators without a name share one identity, and
    each gets a case that nobody holds as long as there is one.

    Args:
        workflow: has the leases, shared by all servers of a data store, and their length; 0 for none.
        description: what the subclass does, for viewers.
        random_share: share of the cases that is drawn at random instead, 0 to 1.
        seed: of what is left to chance.
        clock: seconds since 1970.
    """

    name = ""
    """Under which it is kept what was served."""

    def __init__(
        self,
        workflow: Workflow,
        description: str,
        *,
        random_share: float = 0.0,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(f"{description}; kept for its annotator for {workflow.lock_s / 60:g} minutes")
        self._workflow, self._clock = workflow, clock
        self._random_share, self._seed = random_share, seed

    @abstractmethod
    def choose(self, pool: Pool) -> tuple[str, str]:
        """One of the pool's images, and the arm that chose it; within a change of the database."""

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The ``id`` of the next case; None where all are labelled, or others hold the rest."""
        images = sorted(datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels")))
        labelled = set(datastore.list_images()) - set(images)
        try:
            images = self._to_annotate(images, datastore)
        except OSError as error:
            logger.warning("Next sample: what was reviewed is not known (%s).", type(error).__name__)
        annotator = annotator_hash(str(request.get("client_id") or current_user() or ""))
        try:
            with self._workflow.database(datastore).changing() as connection:
                leases = Leases(connection)
                self._release_labelled(leases, images, datastore)
                chosen = self._give(connection, leases, images, labelled.difference(images), annotator)
        except OSError as error:
            # A full disk must not stop annotators; two of them may then get the same case.
            logger.warning("It cannot be remembered who is shown which case (%s).", type(error).__name__)
            chosen = random.choice(images) if images else None
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

    def _give(
        self, connection: sqlite3.Connection, leases: Leases, images: Sequence[str], labelled: set[str], annotator: str
    ) -> str | None:
        now = self._clock()
        own = [image for image, lease in leases.last.items() if lease.annotator == annotator]
        shown = max(own, key=lambda image: leases.last[image].number, default=None)
        held = {image for image in images if self._is_held(leases.last.get(image), now)}
        # Cases that others do not hold. Annotators without a name may be the same person.
        free = [image for image in images if image not in held or image in own]
        if not free:
            return None
        if shown in held:
            leases.renew(shown, now)
        others = [image for image in free if image != shown] or free
        unheld = [image for image in others if image not in held]
        never_shown = [image for image in unheld if image not in leases.last]
        # By number, so that neither a new start of the server nor a second one begins the same draws again.
        draw = random.Random(f"{self._seed}-{max((lease.number for lease in leases.last.values()), default=0)}")
        choices = never_shown or unheld or others
        pool = Pool(choices, leases.last, frozenset(labelled | held), len(labelled), draw, connection)
        is_drawn = self._random_share > 0 and draw.random() < self._random_share
        chosen, arm = (draw.choice(pool.images), RANDOM) if is_drawn else self.choose(pool)
        leases.give(chosen, annotator, now)
        note_served(connection, chosen, self.name, arm, now)
        return chosen

    def _is_held(self, lease: Lease | None, now: float) -> bool:
        return lease is not None and lease.is_held(now, self._workflow.lock_s)

    @staticmethod
    def _release_labelled(leases: Leases, images: Sequence[str], datastore: Datastore) -> None:
        held = {image for image, lease in leases.last.items() if lease.held_since is not None} - set(images)
        # A case in no list at all may only be unreachable for the moment.
        for image in held & set(datastore.list_images()) if held else ():
            leases.release(image)


def seen_longest_ago(pool: Pool) -> str:
    """The case that was shown longest ago; chance decides between those that were never shown."""

    def number(image: str) -> int:
        lease = pool.leases.get(image)
        return lease.number if lease else 0

    first = min(map(number, pool.images))
    return pool.draw.choice([image for image in pool.images if number(image) == first])
