"""Says which files of the studies folder are not served: when the server starts, and in ``/info``."""

import logging
from collections import Counter
from typing import Any

from lib.annotations.patients import MANIFESTS, TABLE
from lib.host.studies_datastore import StudiesDatastore
from lib.studies.not_served import NotServed, not_served

logger = logging.getLogger(__name__)

MOST_LISTED = 200


def report_not_served(datastore: Any) -> Counter[str]:
    """Warns of what is not served; by reason, for a file's name may be that of a patient.

    Args:
        datastore: of the app; a PACS has no file names.

    Returns:
        Number of files by reason.
    """
    count = Counter(one.reason for one in _found(datastore))
    for reason, number in count.items():
        logger.warning("Files of the studies folder that are not served: %d, each %s.", number, reason)
    if count:
        logger.warning("GET /info/ names them under not_served.")
    return count


def listed_not_served(datastore: Any) -> dict[str, Any]:
    """What ``/info`` says of it.

    Args:
        datastore: of the app.
    """
    if not isinstance(datastore, StudiesDatastore):
        return {}
    found = _found(datastore)
    entries = [{"file": one.name, "reason": one.reason} for one in found[:MOST_LISTED]]
    return {"not_served": entries, "not_served_count": len(found)}


def _found(datastore: Any) -> list[NotServed]:
    if not isinstance(datastore, StudiesDatastore):
        return []
    try:
        return not_served(datastore.folder, (TABLE, *MANIFESTS))
    except OSError:
        logger.warning("The studies folder cannot be read.", exc_info=True)
        return []
