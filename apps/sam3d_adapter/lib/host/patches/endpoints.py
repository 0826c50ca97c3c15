"""All mends that stand around MONAI Label's endpoints."""

from lib.host.log.server_log import mend_log_endpoints
from lib.host.pacs.proxy import mend_proxy
from lib.host.patches.around import take_off
from lib.host.patches.empty_dataset import mend_dataset_endpoint
from lib.host.patches.infer_endpoint import mend_infer_endpoint
from lib.host.patches.ohif_files import mend_ohif_endpoint
from lib.host.patches.session_id import mend_session_ids
from lib.host.patches.stored_info import mend_info_endpoints
from lib.host.patches.task_request import mend_task_endpoints
from lib.host.patches.unknown_stored import mend_datastore_ids
from lib.host.patches.wsi_endpoint import mend_wsi_endpoint
from lib.host.uploads.image_upload import mend_image_upload
from lib.host.uploads.label_upload import mend_label_upload
from lib.host.uploads.model_upload import mend_model_upload
from lib.host.uploads.session_upload import mend_session_endpoint
from lib.host.version_endpoints import withdraw_versions

_MENDS = (
    mend_infer_endpoint,
    mend_session_endpoint,
    mend_session_ids,
    mend_image_upload,
    mend_label_upload,
    mend_datastore_ids,
    mend_info_endpoints,
    mend_dataset_endpoint,
    mend_task_endpoints,
    mend_wsi_endpoint,
    mend_model_upload,
    mend_log_endpoints,
    mend_ohif_endpoint,
    mend_proxy,
)


def mend_endpoints() -> None:
    """Puts them on; does nothing in a process that serves no HTTP. May be called again."""
    for mend in _MENDS:
        mend()


def restore_endpoints() -> None:
    """Takes them off again, as if the app had not been loaded."""
    take_off()
    withdraw_versions()
