"""Which label of each image is learned from, by the review decisions of second readers."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lib.annotations.submitted import SavedLabel, saved_at
from lib.files.checksums import file_sha256
from lib.workflow.cases import PROBLEM, Mark, best_label
from lib.workflow.proposals import TAKEN, outcome_of
from lib.workflow.reviews import ACCEPTED, CORRECTED, REJECTED, SUBMITTED, Label, Newest, state_of

_REFUSED = {REJECTED: "it was rejected", CORRECTED: "it was corrected, and its correction is not there"}
UNREAD = "it is what the server proposed, and nobody changed it; a second reader can accept it"


def choose_labels(
    saved: Iterable[SavedLabel], reviews: Newest, marks: Mapping[str, Mark], train_on: str
) -> list[SavedLabel]:
    """One label of each image; where none can be learned from, it says why.

    Args:
        saved: all submitted labels.
        reviews: the last decisions.
        marks: of cases, by image id.
        train_on: ``submitted`` or ``accepted``.
    """
    by_image: dict[str, dict[str, tuple[Label, SavedLabel]]] = {}
    chosen = []
    for one in saved:
        # Of one that cannot be read, the trainer says so.
        if one.problem or not one.label.is_file():
            chosen.append(one)
            continue
        label = Label(one.image_id, one.tag, file_sha256(one.label), "", saved_at(one), one.info)
        by_image.setdefault(one.image_id, {})[label.id] = label, one
    for image, found in by_image.items():
        best = best_label((label for label, _ in found.values()), reviews)
        assert best is not None  # all tags are those of submitted labels
        state = state_of(best, reviews)
        problem = _REFUSED.get(state, "")
        if state == SUBMITTED and train_on != SUBMITTED:
            problem = f"nobody has accepted it, and this server learns from {ACCEPTED} labels alone"
        if state == SUBMITTED and outcome_of(best.info) == TAKEN:
            problem = problem or UNREAD
        if (mark := marks.get(image)) and mark.mark == PROBLEM:
            problem = "its case is marked as a problem"
        chosen.append(replace(found[best.id][1], problem=problem))
    return sorted(chosen, key=lambda one: one.image_id)
