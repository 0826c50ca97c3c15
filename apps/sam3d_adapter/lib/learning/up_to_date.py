"""Whether a round would do over again what the last one did: the same weights, and the same verdict on them."""

from collections.abc import Mapping
from typing import Any

from lib.learning.run import newest_if_finished
from lib.learning.settings import TrainSettings
from lib.registry.version import SHIPPED
from lib.registry.versions import Versions
from lib.version import __version__


def wanted(settings: TrainSettings) -> dict[str, Any]:
    """What the outcome depends on besides the facts of a run, by which a stopped one is gone on with; plain JSON."""
    return {"publish": settings.publish, "max_minutes": settings.max_minutes, "app": __version__}


def nothing_new(versions: Versions, facts: Mapping[str, Any], settings: TrainSettings) -> str | None:
    """Why a round need not begin: the last one was of the same labels, parent and settings. None where it was not.

    Args:
        versions: of the preset.
        facts: of the round.
        settings: of the request.
    """
    if settings.fresh:
        return None
    run = newest_if_finished(versions.folder / "runs")
    if run is None or run.facts != dict(facts) or run.results.get("wanted") != wanted(settings):
        return None
    version, measured = run.results.get("version"), run.results.get("measured")
    if version not in versions.ids():
        return None
    state = versions.state()
    # Beside other versions the verdict might be another, unless this one is served already or nothing was compared.
    in_force = {"served": state.served, "best": state.best or SHIPPED}
    if measured and measured != in_force and state.served != version:
        return None
    return (
        f"Nothing has changed since the last training, which made {version}: the labels, the version to start from and "
        "the settings are the same, and so would be the weights. Submit or correct a label, or send fresh=true to "
        "train all the same."
    )
