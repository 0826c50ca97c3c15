"""All mends that stand around MONAI Label's endpoints."""

from lib.host.around import take_off
from lib.host.infer_endpoint import mend_infer_endpoint
from lib.host.session_upload import mend_session_endpoint

_MENDS = (
    mend_infer_endpoint,
    mend_session_endpoint,
)


def mend_endpoints() -> None:
    """Puts them on; does nothing in a process that serves no HTTP. May be called again."""
    for mend in _MENDS:
        mend()


def restore_endpoints() -> None:
    """Takes them off again, as if the app had not been loaded."""
    take_off()
