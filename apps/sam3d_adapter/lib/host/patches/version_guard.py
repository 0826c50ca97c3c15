"""Warns if a patch meets a MONAI Label that it was never tested with."""

import functools
import importlib.metadata
import logging
import re

logger = logging.getLogger(__name__)

PATCHED_VERSION = "0.8.5"  # the newest release that the patches were tested with


@functools.cache
def check_host_version(module: str) -> None:
    """Logs a warning, once per module, if a newer MONAI Label is installed: its patch may have become unnecessary.

    Args:
        module: Full name of the patch's module.
    """
    installed = importlib.metadata.version("monailabel")
    if _numbers(installed) > _numbers(PATCHED_VERSION):
        logger.warning(
            "%s was written for MONAI Label %s; %s is installed. Run its test to see if it is still needed.",
            module,
            PATCHED_VERSION,
            installed,
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
