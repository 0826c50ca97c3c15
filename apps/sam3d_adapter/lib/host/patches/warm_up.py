"""Patches: the first mask that a server writes takes seconds, because ITK loads its image writers when first used.

Seen with monailabel 0.8.5 and itk 5.4 (``monailabel/transform/writer.py`` calls ``itk.imwrite``); we know of no
upstream issue. The radiologist who clicks first should not wait for it.
"""

import logging
import tempfile
from pathlib import Path

import numpy as np
from monailabel.transform.writer import write_itk

from lib.host.patches.version_guard import check_host_version

logger = logging.getLogger(__name__)


def warm_up_writer() -> None:
    """Write a mask of a few voxels the way the host writes answers, and forget it."""
    check_host_version(__name__)
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "warm_up.nrrd"
            write_itk(np.zeros((2, 2, 2), np.uint8), str(file), np.eye(4), np.uint8, False)
    except Exception:
        # Only speed was at stake: the server must start all the same, and the first click will show the error.
        logger.warning("Could not warm up the image writer.", exc_info=True)
