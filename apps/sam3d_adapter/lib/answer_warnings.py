"""What an answer warns of: a code for programs and a sentence for people, in one text, ``code: Sentence.``.

One text, because viewers and scripts show the entries of ``warnings`` as they are.
"""

from collections.abc import Mapping

CODES: Mapping[str, str] = {
    # The values of the image.
    "not-hu": "a preset for CT was given an image whose values cannot be Hounsfield units",
    "looks-like-ct": "a preset for MR or PET was given an image that looks like a CT",
    "other-modality": "the source of the image names another modality than the preset's",
    "clipped-window": "the image looks clipped to a display window",
    "flat-region": "around the prompt all voxels have one value, or none is finite",
    "outside-window": "around the prompt all voxels lie on one side of the preset's intensity window",
    # The mask.
    "nothing-found": "the mask is empty but for the clicked voxels",
    "fills-body": "the mask takes nearly all of the body in the image",
    "fills-region": "the mask takes nearly all of the region that the network saw",
    "gap": "slices within the mask are empty",
    "unsure": "by its own probabilities the network expects the mask of the first prompt to be poor",
    # The request.
    "unknown-keys": "keys of the request had no effect",
    "empty-threshold": "the default took the place of an empty threshold",
    "unused-file": "a label map that was sent along had no effect",
    "mask-not-read": "the weights read no mask prompt",
    "box-not-read": "the weights read no box",
    "slices-reversed": "the image's axes are left-handed, and 3D Slicer counts its slices from the other end",
    "pseudo-click": "the network was shown a foreground click that the user did not set",
    # What is proposed for an image without prompts.
    "proposal": "which saved label is shown, and what of it is not",
    "no-proposal": "the mask is empty, for there is nothing to propose",
    # The label that was submitted, or the mask that was to be saved.
    "label-read": "how what a label holds is read",
    "not-saved": "the mask was answered, but not saved as a label",
    # The server.
    "other-version": "another version answered than the published one",
    "not-recorded": "the answer is not in the audit log",
}
"""Every code and when it is said; a code keeps its meaning."""

MISLEADING = frozenset(
    ("not-hu", "looks-like-ct", "other-modality", "flat-region", "outside-window", "nothing-found", "fills-body")
)
"""Codes of those with which a mask is of no use, or worse."""


def answer_warning(code: str, sentence: str) -> str:
    """An entry of an answer's ``warnings``.

    Args:
        code: one of `CODES`.
        sentence: what was found, what is expected, what to do.

    Raises:
        KeyError: no such code.
    """
    if code not in CODES:
        raise KeyError(code)
    return f"{code}: {sentence}"


def code_of(warning: str) -> str:
    """The code of an entry of an answer's ``warnings``; empty where it has none."""
    code = warning.partition(":")[0]
    return code if code in CODES else ""
