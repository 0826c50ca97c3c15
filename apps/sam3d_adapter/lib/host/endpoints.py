"""All mends that stand around MONAI Label's endpoints."""

from lib.host.around import take_off
from lib.host.empty_dataset import mend_dataset_endpoint
from lib.host.image_upload import mend_image_upload
from lib.host.infer_endpoint import mend_infer_endpoint
from lib.host.label_upload import mend_label_upload
from lib.host.model_upload import mend_model_upload
from lib.host.ohif_files import mend_ohif_endpoint
from lib.host.pacs_proxy import mend_proxy
from lib.host.server_log import mend_log_endpoints
from lib.host.session_id import mend_session_ids
from lib.host.session_upload import mend_session_endpoint
from lib.host.stored_info import mend_info_endpoints
from lib.host.task_request import mend_task_endpoints
from lib.host.unknown_stored import mend_datastore_ids
from lib.host.version_endpoints import withdraw_versions
from lib.host.wsi_endpoint import mend_wsi_endpoint

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
