"""The labels that go into a set, with their images, readers and structures."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lib.annotations.label_names import label_of
from lib.annotations.made_with import modality_of_source, stated_task
from lib.annotations.patients import PatientBook
from lib.annotations.submitted import Learner, SavedLabel, Skipped, SubmittedCase, SubmittedError, read_submitted
from lib.workflow.reviews import ACCEPT, Label, Newest, author_of, state_of


@dataclass(frozen=True)
class ChosenCase:
    """An image and its label.

    Attributes:
        case: image, label and structures.
        label: as the workflow knows it.
        modality: of the image; None where nothing tells it.
        state: of the label, submitted or accepted.
        drawn_by: who drew it; "" where nobody knows.
        accepted_by: who accepted it; "" for nobody.
        made_with: the task that it says it was made with; "" where it says none.
    """

    case: SubmittedCase
    label: Label
    modality: str | None
    state: str
    drawn_by: str
    accepted_by: str
    made_with: str

    @property
    def structures(self) -> tuple[str, ...]:
        """Of its objects, without the numbers of instances; in the order of the objects."""
        return tuple(label_of(name) for name in self.case.names)

    def read_labels(self, values: Mapping[str, int], *, by_structure: bool) -> np.ndarray:
        """(i, j, k) on the image's voxels, uint8: 0, or the value of an object.

        Args:
            values: by name of an object, or of a structure.
            by_structure: whether they are values of structures.

        Raises:
            SubmittedError: objects of two values overlap, or the label was replaced in the meantime.
            ImageError: a damaged file; so do OSError and MemoryShortage.
        """
        numbered = self.case.read_labels()
        names = self.structures if by_structure else self.case.names
        found = np.zeros(numbered.shape, np.uint8)
        for number, name in enumerate(names, start=1):
            mask, value = self.case.mask(numbered, number), values[name]
            if np.isin(found[mask], (0, value), invert=True).any():
                raise SubmittedError(
                    "its segments overlap, and a label map has one number for each voxel; save it so that each voxel "
                    "belongs to one segment"
                )
            found[mask] = value
        return found


def choose_cases(
    labels: Iterable[SavedLabel],
    reviews: Newest,
    book: PatientBook,
    modalities: Mapping[str, str],
    learner: Learner | None = None,
) -> tuple[list[ChosenCase], list[Skipped]]:
    """The cases, and why others are left out; both sorted by image id.

    Args:
        labels: one of each image, from `lib.annotations.reviewed.choose_labels`.
        reviews: the last decisions.
        book: names the patient of each image.
        modalities: by image id, as far as a table or manifest tells them.
        learner: a preset whose structures and modality are wanted alone; None for all that is drawn.
    """
    saved = {one.image_id: one for one in labels}
    found = read_submitted(saved.values(), learner, book.patient_of)
    cases = []
    for case in found.cases:
        source = saved[case.image_id]
        author = author_of(source.info)
        label = Label(case.image_id, source.tag, case.label_sha256, author, case.saved_at, source.info)
        review = reviews.get((label.image, label.id))
        cases.append(
            ChosenCase(
                case=case,
                label=label,
                modality=modality_of_source(source.image, source.image_info, modalities),
                state=state_of(label, reviews),
                drawn_by=author,
                accepted_by=review.by if review is not None and review.decision == ACCEPT else "",
                made_with=stated_task(source.info) or "",
            )
        )
    return cases, list(found.skipped)
