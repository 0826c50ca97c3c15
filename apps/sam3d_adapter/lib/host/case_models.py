"""What the endpoints of the workflow take and answer; the server's schema (`/openapi.json`) is made of it."""

from typing import Literal

from pydantic import BaseModel, Field

from lib.workflow.cases import NEW, PROBLEM, REJECTED, SKIPPED
from lib.workflow.reviews import ACCEPTED, CORRECTED, DRAFT, SUBMITTED

_ID = r"^[0-9a-f]{32}$"
ORDER = (REJECTED, DRAFT, NEW, SUBMITTED, PROBLEM, SKIPPED, ACCEPTED)
"""States of a case, those first on which something is to be done."""


class Viewing(BaseModel, extra="forbid"):
    """Who has an image on screen."""

    by: str = Field("", max_length=100)
    client: str = Field(min_length=1, max_length=64)


class Opened(BaseModel):
    """Who else has it on screen."""

    open_by: list[str]


class InProgress(BaseModel):
    """Who works on a case, and until when unless it is renewed."""

    by: list[str] = Field(description="Names; 'somebody' where the server knows none.")
    until: float = Field(description="Seconds since 1970.")


class Predicted(BaseModel):
    """What a mask is predicted to be worth."""

    dice: float
    at_least: float = Field(description="Dice that a share of such masks reach.")
    share: float
    patients: float = Field(description="Labelled ones, of whom it was learned.")


class Proposed(BaseModel):
    """A mask that the server proposes; its voxels are the label with tag 'original'."""

    structure: str
    predicted_dice: Predicted | None = Field(description="None where too few patients are labelled.")


class Case(BaseModel):
    """An image and how far it is."""

    id: str = Field(description="Of the image.")
    study: str = Field(description="StudyInstanceUID; empty in a folder.")
    modality: str
    description: str
    state: str = Field(json_schema_extra={"enum": list(ORDER)})
    by: str = Field(description="Author of its label; of a mark, who set it.")
    comment: str = Field(description="Why it was rejected, skipped or marked as a problem.")
    label: str | None = Field(description="Id of the label that its state comes from.")
    proposal: Proposed | None = Field(description="Of a new case.")
    in_progress: InProgress | None
    open_by: list[str] = Field(description="Who else has it on screen.")


class Cases(BaseModel):
    """All cases."""

    cases: list[Case]


class NewMark(BaseModel, extra="forbid"):
    """What somebody says of a case; None takes back what was said."""

    mark: Literal["skipped", "problem"] | None
    by: str = Field("", max_length=100)
    comment: str = Field("", max_length=4000)


class NewDecision(BaseModel, extra="forbid"):
    """Whether a proposal is of no use; False takes that back."""

    rejected: bool
    by: str = Field("", max_length=100)


class AReview(BaseModel):
    """A review decision on a label."""

    label: str = Field(description="Id.")
    image: str
    tag: str
    decision: Literal["accept", "reject", "correct", "withdraw"]
    by: str
    comment: str
    at: float = Field(description="Seconds since 1970.")
    new_label: str = Field(description="Of decision correct: id of the label that took its place.")
    sha256: str = Field(description="Of the label's file; empty where it is not known.")


class Reviews(BaseModel):
    """Review decisions, oldest first."""

    reviews: list[AReview]


class ALabel(BaseModel):
    """A label."""

    id: str
    image: str
    tag: str
    state: str = Field(json_schema_extra={"enum": [DRAFT, SUBMITTED, ACCEPTED, REJECTED, CORRECTED]})
    author: str = Field(description="Empty where nobody knows.")
    saved_at: float = Field(description="Seconds since 1970.")
    sha256: str = Field(description="Of its file.")
    parent: str = Field(description="Id of the label that this one corrects; empty for none.")
    series: str = Field(description="SeriesInstanceUID of its DICOM SEG in the PACS; empty in a folder.")
    is_current: bool = Field(description="False for one that was replaced or deleted; it lies in the history.")
    review: AReview | None = Field(description="The newest review decision.")


class Labels(BaseModel):
    """Labels; those that are there first."""

    labels: list[ALabel]


class NewReview(BaseModel, extra="forbid"):
    """A review decision to be kept."""

    label: str = Field(pattern=_ID, description="Id, from GET /labels/.")
    decision: Literal["accept", "reject", "correct", "withdraw"]
    by: str = Field(min_length=1, max_length=100, description="Who reads; with a login, that name counts.")
    comment: str = Field("", max_length=4000, description="Why; needed to reject.")
    new_label: str = Field("", max_length=32, description="Of decision correct: id of the label that takes its place.")
