"""One thread, as in the processes of an evaluation, and folders of images and labels."""

from tests.support.label_files import folders  # noqa: F401
from tests.support.one_thread import one_thread  # noqa: F401
