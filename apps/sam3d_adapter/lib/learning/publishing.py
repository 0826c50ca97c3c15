"""What becomes of a version that was measured: published by the gate, or refused with the reasons."""

from dataclasses import dataclass

from lib.learning.gate import Decision
from lib.registry.errors import ChangedMeanwhile
from lib.registry.state import PUBLISHED
from lib.registry.version import SHIPPED, Version
from lib.registry.versions import Versions

GATE = "gate"
"""By whom, in the history."""


@dataclass(frozen=True)
class Outcome:
    """What came of a round.

    Attributes:
        version: that it made.
        published: whether that is served now.
        reasons: sentences.
    """

    version: str
    published: bool
    reasons: tuple[str, ...]


def publish_or_refuse(
    versions: Versions, version: Version, decision: Decision | None, reasons: tuple[str, ...]
) -> Outcome:
    """Carries the gate's decision out, unless people have decided something else since the versions were measured.

    Args:
        versions: of the preset.
        version: that was measured, with what it was compared with among its metrics.
        decision: of the gate; None where it may not publish.
        reasons: sentences, the verdict first.

    Raises:
        RegistryError: the weights are damaged.
        OSError: the disk could not take it.
    """
    is_served = versions.state().served == version.id
    past = [state.event for state in versions.events_of(version.id) if state.event]
    if is_served or any(event.action == PUBLISHED for event in past):
        # By the gate before it was killed, or by a person; who took it back since knew what for.
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
    compared = version.metrics["compared_with"]
    served, best = compared["served"], None if compared["best"] == SHIPPED else compared["best"]
    # A best version that could not be measured has to make room: it would be left out for ever.
    is_left_out = best not in (None, served) and "best" not in version.metrics["validation"]
    versions.publish(
        version.id,
        GATE,
        " ".join(reasons),
        is_best=decision.is_new_best or is_left_out,
        expected=(served, best),
        base=version.base_sha256,
    )
