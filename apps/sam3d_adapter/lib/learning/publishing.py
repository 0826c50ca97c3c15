"""The versions in force that a candidate is compared with, and carrying out the gate's decision against them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.learning.gate import Decision
from lib.models.checkpoint_error import CheckpointError
from lib.registry.errors import ChangedMeanwhile, RegistryError
from lib.registry.state import PUBLISHED
from lib.registry.version import SHIPPED, Version
from lib.registry.versions import Versions

GATE = "gate"
"""Name of the gate in the history."""


class UnusableServed(RegistryError):
    """The served version cannot be loaded: no candidate can be compared with it, so none could ever be published."""


@dataclass(frozen=True)
class ReferenceVersions:
    """The versions in force; ``shipped`` stands for the weights of the preset.

    Attributes:
        served: id.
        best: id; may be the same.
        remarks: why the best version is left out, if it cannot be loaded; one sentence or none.
    """

    served: str
    best: str
    remarks: tuple[str, ...] = ()

    @property
    def to_measure(self) -> dict[str, str]:
        """The versions to measure, by role."""
        is_one = self.best == self.served or bool(self.remarks)
        return {"served": self.served} if is_one else {"served": self.served, "best": self.best}


@dataclass(frozen=True)
class Outcome:
    """Result of a round.

    Attributes:
        version: that it made.
        published: whether that is served now.
        reasons: sentences.
    """

    version: str
    published: bool
    reasons: tuple[str, ...]


def find_reference_versions(
    versions: Versions, load: Callable[[Path], object], weights_of: Callable[[str], Path]
) -> ReferenceVersions:
    """The served and the best version; both are loaded as the server would.

    Args:
        versions: of the preset.
        load: loads a network with these weights.
        weights_of: the file of a version.

    Raises:
        UnusableServed: the served version cannot be loaded; says what to do.
        RegistryError: the state of the registry cannot be read.
    """

    def problem(version: str) -> str | None:
        try:
            if version != SHIPPED:
                versions.verify(version)
            load(weights_of(version))
        except (RegistryError, CheckpointError, OSError) as error:
            # Without folders: everybody sees the reasons.
            return (
                str(error)
                .replace(f"{versions.folder}{os.sep}", "")
                .replace(f"{weights_of(SHIPPED).parent}{os.sep}", "")
            )
        return None

    state = versions.state()
    served, best = state.served, state.best or SHIPPED
    if why := problem(served):
        raise UnusableServed(
            f"The served version, {served}, cannot be loaded, so no candidate can be compared with it: {why} Roll back "
            "or publish a version that can be, then train again."
        )
    if best == served or not (why := problem(best)):
        return ReferenceVersions(served, best)
    remark = f"The best version so far, {best}, cannot be loaded and was left out of the comparison: {why}"
    return ReferenceVersions(served, best, (remark,))


def publish_or_refuse(
    versions: Versions, version: Version, decision: Decision | None, reasons: tuple[str, ...]
) -> Outcome:
    """Carries out the gate's decision, unless people have published or rolled back since the measurement.

    Args:
        versions: of the preset.
        version: that was measured; its metrics name the reference versions.
        decision: of the gate; None where it may not publish.
        reasons: sentences; the first one states the decision.

    Raises:
        RegistryError: the weights are damaged.
        OSError: the disk is full.
    """
    is_served = versions.state().served == version.id
    past = [state.event for state in versions.events_of(version.id) if state.event]
    if is_served or any(event.action == PUBLISHED for event in past):
        # By the gate before it was killed, or by a person. Whoever rolled it back had a reason.
        is_the_gates = any((event.action, event.by) == (PUBLISHED, GATE) for event in past)
        words = reasons if is_the_gates else ("A person published it in the meantime.",)
        return Outcome(version.id, is_served, words if is_served else (*words, "It was taken back since."))
    if decision is not None and decision.publish:
        try:
            _publish(versions, version, decision, reasons)
            return Outcome(version.id, True, reasons)
        except ChangedMeanwhile as error:
            reasons = (f"Not published; the served model stays. {error}", *reasons[1:])
    versions.refuse(version.id, reasons)
    return Outcome(version.id, False, reasons)


def _publish(versions: Versions, version: Version, decision: Decision, reasons: tuple[str, ...]) -> None:
    reference = version.metrics["compared_with"]
    served, best = reference["served"], None if reference["best"] == SHIPPED else reference["best"]
    # A best version that could not be measured must be replaced, or it would be left out for ever.
    is_left_out = best not in (None, served) and "best" not in version.metrics["validation"]
    versions.publish(
        version.id,
        GATE,
        " ".join(reasons),
        is_best=decision.is_new_best or is_left_out,
        expected=(served, best),
        base=version.base_sha256,
    )
