"""What a candidate has to be compared with, and whether that can be loaded at all."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.models.checkpoint import load_model
from lib.models.checkpoint_error import CheckpointError
from lib.registry.errors import RegistryError
from lib.registry.version import SHIPPED
from lib.registry.versions import Versions


class UnusableServed(RegistryError):
    """No candidate can be compared with the served version, so that none could ever be published."""


@dataclass(frozen=True)
class Compared:
    """The versions that are in force, ``shipped`` for the weights of the preset.

    Attributes:
        served: id.
        best: id; may be the same.
        remarks: why the best is left out, where it cannot be loaded; a sentence or none.
    """

    served: str
    best: str
    remarks: tuple[str, ...] = ()

    @property
    def measured(self) -> dict[str, str]:
        """Those to measure, by role."""
        is_one = self.best == self.served or bool(self.remarks)
        return {"served": self.served} if is_one else {"served": self.served, "best": self.best}


def find_compared(versions: Versions, base: Path, size: str, weights_of: Callable[[str], Path]) -> Compared:
    """Reads both versions as the server would.

    Args:
        versions: of the preset.
        base: the preset's frozen weights.
        size: of the network.
        weights_of: the file of a version.

    Raises:
        UnusableServed: the served version cannot be loaded; says what to do.
        RegistryError: what is served cannot be told.
    """

    def problem(version: str) -> str | None:
        try:
            if version != SHIPPED:
                versions.verify(version)
            load_model(size=size, base=base, weights=weights_of(version))
        except (RegistryError, CheckpointError, OSError) as error:
            # Without folders: reasons are shown to everybody.
            return str(error).replace(f"{versions.folder}{os.sep}", "").replace(f"{base.parent}{os.sep}", "")
        return None

    state = versions.state()
    served, best = state.served, state.best or SHIPPED
    if why := problem(served):
        raise UnusableServed(
            f"The served version, {served}, cannot be loaded, so no candidate can be compared with it: {why} Roll back "
            "or publish a version that can be, then train again."
        )
    if best == served or not (why := problem(best)):
        return Compared(served, best)
    remark = f"The best version so far, {best}, cannot be loaded and was left out of the comparison: {why}"
    return Compared(served, best, (remark,))
