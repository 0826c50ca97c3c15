"""Patches: ITK prints images' paths to the server's output, and is slow at the first mask that a server writes.

Its C++ code prints warnings beside Python's logging (seen with itk 5.4 and SimpleITK 2.5, on NIfTI files whose two
positions in space differ and on series with missing slices); a viewer's user never sees them. It loads its image
writers when they are first used, which takes seconds (``monailabel/transform/writer.py`` of monailabel 0.8.5 calls
``itk.imwrite``); the radiologist who clicks first should not wait for it. We know of no upstream issue.
"""

import logging
import tempfile
from pathlib import Path

import itk
import numpy as np
import SimpleITK
from monailabel.transform.writer import write_itk

from lib.host.patches.version_guard import check_host_version

logger = logging.getLogger(__name__)


def silence_readers() -> None:
    """Switches ITK's warnings off for the process."""
    itk.Object.SetGlobalWarningDisplay(False)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)


def warm_up_writer() -> None:
    """Writes a mask of a few voxels as the host writes answers, and forgets it."""
    check_host_version(__name__)
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "warm_up.nrrd"
            write_itk(np.zeros((2, 2, 2), np.uint8), str(file), np.eye(4), np.uint8, False)
    except Exception:
        # Only speed was at stake: the server must start all the same, and the first click will show the error.
        logger.warning("Could not warm up the image writer.", exc_info=True)
