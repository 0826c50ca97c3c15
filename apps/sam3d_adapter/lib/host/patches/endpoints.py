"""All patches of MONAI Label's endpoints."""

from pathlib import Path

from lib.host.own_endpoints import remove_endpoints
from lib.host.pacs.proxy import patch_proxy
from lib.host.patches.datastore_endpoints import patch_datastore_endpoints
from lib.host.patches.infer_endpoint import patch_infer_endpoint
from lib.host.patches.log_endpoints import patch_log_endpoints
from lib.host.patches.ohif_files import patch_ohif_endpoint
from lib.host.patches.refused_endpoints import refuse_endpoints
from lib.host.patches.sessions import patch_session_endpoints
from lib.host.patches.stored_info import patch_info_endpoints
from lib.host.patches.task_request import patch_task_endpoints
from lib.host.patches.train_stats import patch_train_status
from lib.host.patches.wrapping import unwrap
from lib.host.uploads.image_upload import patch_image_upload
from lib.host.uploads.label_upload import patch_label_upload

_PATCHES = (
    patch_infer_endpoint,
    patch_session_endpoints,
    patch_image_upload,
    patch_label_upload,
    patch_datastore_endpoints,
    patch_info_endpoints,
    patch_task_endpoints,
    patch_train_status,
    refuse_endpoints,
    patch_log_endpoints,
    patch_proxy,
)


def patch_endpoints(viewer: Path | None = None) -> None:
    """Applies them; does nothing in a process that serves no HTTP. May be called again.

    Args:
        viewer: folder of a built OHIF to serve; None for the one that MONAI Label brings.
    """
    for patch in _PATCHES:
        patch()
    patch_ohif_endpoint(viewer)


def restore_endpoints() -> None:
    """Removes them, as if the app had not been loaded."""
    unwrap()
    remove_endpoints()
