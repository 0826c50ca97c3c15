"""A PACS as the server's data store, for commands that run beside the server."""

from types import SimpleNamespace

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.app import MONAILabelApp

from lib.host.pacs.time_limits import with_time_limits
from lib.host.pacs.whole_index import use_whole_index
from lib.host.patches.version_guard import check_host_version


class PacsAway(RuntimeError):
    """The PACS does not answer; a sentence for users."""


def open_pacs(url: str) -> DICOMWebDatastore:
    """The data store, with the server's cache and MONAI Label's environment variables.

    Raises:
        PacsAway: nobody answers there.
    """
    check_host_version(__name__)
    use_whole_index()
    # What MONAI Label's method asks of the app that it belongs to.
    app = SimpleNamespace(studies=url.rstrip("/"), _download_dcmqi_tools=lambda: None)
    datastore = with_time_limits(MONAILabelApp._init_dicomweb_datastore(app))
    datastore._observer.stop()
    try:
        datastore._client.search_for_series(search_filters={"Modality": "SEG"}, limit=1)
    # Broad: the client raises whatever HTTP or DICOM error it met.
    except Exception as error:
        raise PacsAway(f"The DICOMweb server {url} does not answer: {type(error).__name__}.") from error
    return datastore
