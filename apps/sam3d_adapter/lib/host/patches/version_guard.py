"""Says aloud when a mend meets a MONAI Label that it was never tried with."""

import functools
import importlib.metadata
import logging
import re

logger = logging.getLogger(__name__)

MENDED_VERSION = "0.8.5"  # the newest release the mends of this package were tried with


@functools.cache
def check_host_version(mend: str) -> None:
    """Logs a warning, once per mend, where a newer MONAI Label is installed: the mend may have become unnecessary.

    Args:
        mend: module name of the mend in ``lib.host``.
    """
    installed = importlib.metadata.version("monailabel")
    if _numbers(installed) > _numbers(MENDED_VERSION):
        logger.warning(
            "lib.host.%s was written for MONAI Label %s; %s is installed. Run its test to see if it is still needed.",
            mend,
            MENDED_VERSION,
            installed,
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
