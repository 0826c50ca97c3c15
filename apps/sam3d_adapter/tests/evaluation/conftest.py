"""One thread, as in the processes of an evaluation."""

from tests.support.one_thread import one_thread  # noqa: F401
