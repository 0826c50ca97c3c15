"""The workflow over HTTP: cases, labels and reviews, for the panel in OHIF and whoever else reads labels a second time.

MONAI Label 0.8.5 lists those images alone that it has fetched, and knows no review decisions. docs/workflow.md says
what the states mean. Patients' names are in none of the answers.
"""

import time

from fastapi import APIRouter, Depends, HTTPException
from monailabel.config import RBAC_ANNOTATOR, RBAC_REVIEWER, RBAC_USER, settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance

from lib.host.case_models import (
    ORDER,
    ALabel,
    AReview,
    Case,
    Cases,
    InProgress,
    Labels,
    NewDecision,
    NewMark,
    NewReview,
    Opened,
    Predicted,
    Proposed,
    Reviews,
    Viewing,
)
from lib.host.own_endpoints import add_endpoints
from lib.host.patches.datastore_endpoints import require_image
from lib.host.requester import current_user
from lib.host.saved_labels import mask_info
from lib.host.workflow import Known, Workflow
from lib.prompts.reading import short
from lib.workflow.cases import (
    MARKS,
    NEW,
    REJECTED,
    Mark,
    case_state,
    in_progress,
    names_of,
    note_open,
    set_mark,
)
from lib.workflow.database import WorkflowError
from lib.workflow.proposals import KEY, TAG, is_proposal, predicted_dice_of, with_decision
from lib.workflow.reviews import Label, Review, read_reviews, state_of


def add_case_endpoints(workflow: Workflow) -> None:
    """Adds the endpoints; does nothing in a process that serves no HTTP. May be called again.

    Args:
        workflow: of the app.
    """
    user, annotator, reviewer = (
        [Depends(RBAC(role))]
        for role in (
            settings.MONAI_LABEL_AUTH_ROLE_USER,
            settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR,
            settings.MONAI_LABEL_AUTH_ROLE_REVIEWER,
        )
    )
    router = APIRouter(tags=["Workflow"])

    # Without async: a PACS may take its time, and clicks must be answered meanwhile.
    @router.get("/cases/", summary=f"{RBAC_USER}All images with their state", dependencies=user)
    def api_cases(client: str = "") -> Cases:
        return Cases(cases=list_cases(app_instance().datastore(), workflow, client))

    @router.put("/cases/{image}/open", summary=f"{RBAC_USER}An image is on a screen", dependencies=user)
    def api_open(image: str, viewing: Viewing) -> Opened:
        datastore = _datastore_with(image)
        try:
            with workflow.database(datastore).changing() as connection:
                note_open(connection, image, viewing.by, viewing.client, time.time())
        except WorkflowError:
            # Of a folder that cannot be written to; nobody is told, and the viewer goes on.
            return Opened(open_by=[])
        viewers = workflow.read(datastore, image, client=viewing.client).viewers
        return Opened(open_by=names_of(viewers.get(image, ())))

    @router.put("/cases/{image}/mark", summary=f"{RBAC_ANNOTATOR}Skip an image, or report it", dependencies=annotator)
    def api_mark(image: str, new: NewMark) -> Case:
        datastore = _datastore_with(image)
        mark = Mark(new.mark, current_user() or new.by.strip(), new.comment, time.time()) if new.mark else None
        with workflow.database(datastore).changing() as connection:
            set_mark(connection, image, mark)
        return next(case for case in list_cases(datastore, workflow, "", image))

    @router.put("/cases/{image}/proposal", summary=f"{RBAC_ANNOTATOR}Reject what is proposed", dependencies=annotator)
    def api_proposal(image: str, new: NewDecision) -> Case:
        datastore = _datastore_with(image)
        facts = (mask_info(image, TAG, datastore) or {}).get(KEY)
        if not isinstance(facts, dict):
            raise HTTPException(404, f"Nothing is proposed for image '{short(image)}'; there is nothing to reject.")
        decided = with_decision(facts, new.rejected, current_user() or new.by.strip())
        datastore.update_label_info(image, TAG, {KEY: decided})
        return next(case for case in list_cases(datastore, workflow, "", image))

    @router.get("/labels/", summary=f"{RBAC_USER}Labels with state, author and parent", dependencies=user)
    def api_labels(image: str | None = None) -> Labels:
        datastore = app_instance().datastore() if image is None else _datastore_with(image)
        known = workflow.read(datastore, image)
        there = {label.id for label in known.labels}
        former = workflow.former_labels(datastore, image) if image is not None else []
        labels = [*known.labels, *(label for label in former if label.id not in there)]
        return Labels(labels=[_label(label, known) for label in labels])

    @router.get("/reviews/", summary=f"{RBAC_USER}Review decisions on labels, oldest first", dependencies=user)
    def api_reviews(image: str | None = None, label: str | None = None) -> Reviews:
        datastore = app_instance().datastore() if image is None else _datastore_with(image)
        workflow.read(datastore, image)
        with workflow.database(datastore).reading() as connection:
            return Reviews(reviews=[_review(one) for one in read_reviews(connection, image=image, label=label)])

    @router.post("/reviews/", summary=f"{RBAC_REVIEWER}Accept, reject or correct a label", dependencies=reviewer)
    def api_review(new: NewReview) -> AReview:
        by, comment = (current_user() or new.by).strip(), new.comment.strip()
        if not by or not by.isprintable():
            raise HTTPException(422, f"by is {new.by[:40]!r}; the name of who reads the label is needed.")
        if new.decision == "reject" and not comment:
            raise HTTPException(422, "comment is empty; say what is wrong with the label, so that it can be done anew.")
        review = workflow.review(app_instance().datastore(), new.label, new.decision, by, comment, new.new_label)
        return _review(review)

    add_endpoints("cases", router)


def list_cases(datastore: LocalDatastore, workflow: Workflow, client: str = "", image: str | None = None) -> list[Case]:
    """Every image with its state, those first on which something is to be done.

    Args:
        datastore: of the app; a folder or a DICOMweb server.
        workflow: of the app.
        client: a viewer that is not told of itself.
        image: this one alone.
    """
    # Labels that were stored in the PACS beside this server count as well.
    labelled = set(datastore.get_labeled_images()) if isinstance(datastore, DICOMWebDatastore) else set()
    known = workflow.read(datastore, image, client=client)
    images = datastore.list_images() if image is None else [image]
    cases = [_case(one, datastore, known, one in labelled, workflow.lock_s) for one in images]
    return sorted(cases, key=lambda case: (ORDER.index(case.state), case.description, case.id))


def _case(image: str, datastore: LocalDatastore, known: Known, is_labelled: bool, lock_s: float) -> Case:
    facts = datastore.study_of(image) if isinstance(datastore, DICOMWebDatastore) else {}
    mark, labels = known.marks.get(image), known.by_image.get(image, ())
    state, label = case_state(labels, known.newest, mark, is_labelled_elsewhere=is_labelled)
    review = known.newest.get((image, label.id)) if label else None
    is_marked = state in MARKS and mark is not None
    viewers = known.viewers.get(image, ())
    held = in_progress(viewers, known.leases.get(image), time.time(), lock_s)
    return Case(
        id=image,
        study=facts.get("study", ""),
        modality=facts.get("modality", ""),
        description=facts.get("description", ""),
        state=state,
        by=mark.by if mark and is_marked else label.author if label else "",
        comment=mark.comment if mark and is_marked else review.comment if review and state == REJECTED else "",
        label=label.id if label else None,
        proposal=_proposal(image, datastore) if state == NEW else None,
        in_progress=InProgress(by=held[0], until=held[1]) if held else None,
        open_by=names_of(viewers),
    )


def _proposal(image: str, datastore: LocalDatastore) -> Proposed | None:
    info = mask_info(image, TAG, datastore) or {}
    if not is_proposal(info):
        return None
    predicted = predicted_dice_of(info)
    return Proposed(
        structure=str(info[KEY].get("structure", "")), predicted_dice=Predicted(**predicted) if predicted else None
    )


def _label(label: Label, known: Known) -> ALabel:
    review = known.newest.get((label.image, label.id))
    return ALabel(
        id=label.id,
        image=label.image,
        tag=label.tag,
        state=state_of(label, known.newest),
        author=label.author,
        saved_at=label.saved_at,
        sha256=label.sha256,
        parent=label.parent,
        series=label.series,
        is_current=label.is_current,
        review=_review(review) if review else None,
    )


def _review(review: Review) -> AReview:
    return AReview(**vars(review))


def _datastore_with(image: str) -> LocalDatastore:
    datastore = app_instance().datastore()
    if image not in datastore.list_images():
        require_image(image, datastore)
    return datastore
