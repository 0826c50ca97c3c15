"""The modality that the source of an image names."""

from collections.abc import Mapping
from pathlib import Path

import pydicom

_SPELLED: Mapping[str, str] = {"PT": "PET", "MRI": "MR", "CBCT": "CT", "PET-CT": "PET", "PET/CT": "PET"}
_UNKNOWN = ("", "OT", "UNK", "UNKNOWN", "SEG", "SC")
"""What says nothing of how an image was taken."""
_SLICES_OF = ".nii.gz"


def known_modality(name: str) -> str | None:
    """A modality as presets have it, from DICOM (0008,0060) or a table; None for a text that says nothing."""
    name = name.strip().upper()
    return None if name in _UNKNOWN else _SPELLED.get(name, name)


def source_modality(path: Path) -> str | None:
    """The modality of a DICOM file, of a folder of slices, or of a NIfTI file beside the folder of its slices.

    Args:
        path: of an image. The copy of a series of a PACS is ``UID.nii.gz`` beside the folder ``UID``.

    Returns:
        ``CT``, ``MR``, ``PET``, or another one as DICOM writes it; None where nothing says.
    """
    folder = path.with_name(path.name.removesuffix(_SLICES_OF)) if path.name.endswith(_SLICES_OF) else path
    try:
        file = min((file for file in folder.iterdir() if file.is_file()), default=None) if folder.is_dir() else folder
        if file is None or file.name.endswith(_SLICES_OF):
            return None
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Modality"])
        return known_modality(str(header.get("Modality") or ""))
    # Broad: pydicom passes on whatever a damaged file led to; whoever reads the image says that.
    except Exception:
        return None
