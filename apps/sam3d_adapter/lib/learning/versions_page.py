"""The versions page of a preset: which model answers, how good it is beside the one before, and what the gate decided.

It is one HTML file with its pictures inside; it loads nothing from the network.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lib.files.atomic_write import replacing
from lib.learning.page_figures import finite, learning_picture, training_picture
from lib.learning.pool_quality import about_unlabelled
from lib.learning.progress import PROGRESS, ProgressFile, TrainingProgress
from lib.registry.reader import CURVE
from lib.registry.state import REFUSED
from lib.registry.version import SHIPPED, Version
from lib.registry.versions import Versions

PAGE = "versions.html"
CLICKS_SHOWN = (1, 3, 5, 10)
CURVES_SHOWN = 12
"""Training curves of the newest versions; older ones appear in the table only."""


@dataclass(frozen=True)
class Scores:
    """Scores of one version on the validation patients.

    Attributes:
        dice: ``{"1": {"mean", "low", "high"}, ...}`` by number of clicks, as ``dice_at`` of an evaluation's summary.
        nsd2: the same of NSD at 2 mm.
        n: patients.
    """

    dice: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    nsd2: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    n: int | None = None


@dataclass(frozen=True)
class PageEntry:
    """What the page shows of a version; None is left out.

    Attributes:
        id: name.
        parent: version it was trained from.
        created: when.
        state: ``served``, ``candidate``, ``refused``, ``replaced``, ``shipped`` or other words.
        scores: its own (``candidate``) and those of ``served`` and ``best`` at that time, on the same cases.
        published: what the gate decided; None where it was not asked.
        reasons: the gate's sentences.
        curve: of its training: ``step``, ``minutes``, ``epoch``, ``loss``, ``dice``, ``dice_5``, as far as there are.
        real: ``clicks`` and ``seconds`` (medians until a person accepted the mask) and ``cases``.
        simulated: ``clicks`` to Dice 0.85 and ``seconds`` of the simulated user, beside ``real``.
        training_cases: number of cases it was trained on.
    """

    id: str
    parent: str | None = None
    created: str | datetime | None = None
    state: str = ""
    scores: Mapping[str, Scores] = field(default_factory=dict)
    published: bool | None = None
    reasons: Sequence[str] = ()
    curve: Sequence[Mapping[str, float | None]] = ()
    real: Mapping[str, float | None] = field(default_factory=dict)
    simulated: Mapping[str, float | None] = field(default_factory=dict)
    training_cases: int | None = None

    @property
    def own(self) -> Scores:
        """Its own scores; empty ones if it was not measured."""
        return self.scores.get("candidate", Scores())


def write_versions_page(versions: Versions) -> Path:
    """Writes ``versions.html`` in the preset's folder; only for the holder of the training's lock.

    Args:
        versions: of the preset.

    Returns:
        The file.

    Raises:
        RegistryError: the registry cannot be read.
        OSError: the registry cannot be read, or the page cannot be written.
    """
    entries = _entries(versions)
    path = versions.folder / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, versions.preset, entries, _newest_training(versions), about_unlabelled(versions))
    return path


def versions_page(versions: Versions) -> str:
    """The versions page as it is now; writes no file.

    Args:
        versions: of the preset.

    Raises:
        RegistryError: the registry cannot be read.
        OSError: the registry cannot be read.
    """
    return render_page(versions.preset, _entries(versions), _newest_training(versions), about_unlabelled(versions))


def write_page(
    path: Path,
    title: str,
    versions: Sequence[PageEntry],
    training: TrainingProgress | None = None,
    sentences: Sequence[str] = (),
) -> None:
    """Writes the whole file or none.

    Args:
        path: HTML file; its folder exists.
        title: such as the preset's name.
        versions: oldest first; at least none.
        training: the newest, which says what it left out; None without one.
        sentences: on the images without a label.
    """
    text = render_page(title, versions, training, sentences)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def render_page(
    title: str,
    versions: Sequence[PageEntry],
    training: TrainingProgress | None = None,
    sentences: Sequence[str] = (),
) -> str:
    """The page as text; see ``write_page``."""
    served = next((one for one in reversed(versions) if one.state == "served"), None)
    curves = {one.id: training_picture(one.curve) for one in versions[-CURVES_SHOWN:]}
    shown = [(one, curves.get(one.id)) for one in reversed(versions)]
    return _TEMPLATE.render(
        title=title,
        versions=versions,
        served=served,
        newest=versions[-1] if versions else None,
        training=training,
        about_unlabelled=sentences,
        picture=learning_picture(versions),
        trainings=[(one, curve) for one, curve in shown if curve or one.reasons or len(one.scores) > 1],
    )


def _newest_training(versions: Versions) -> TrainingProgress | None:
    return ProgressFile(versions.folder / PROGRESS).read()


def _since(version: PageEntry) -> str:
    words = [f"made {_date(version.created)}" if version.created else ""]
    words.append(f"from {version.parent}" if version.parent else "")
    words.append(f"on {version.training_cases} cases" if version.training_cases is not None else "")
    return " ".join(word for word in words if word).capitalize()


def _score_words(version: PageEntry) -> str:
    scores = (" ".join(_interval(version.own.dice, clicks)).strip() for clicks in (1, 5))
    said = [f"{score} after {words}" for score, words in zip(scores, ("one click", "five"), strict=True) if score]
    return f"Dice {', '.join(said)} ({_patients(version.own)})" if said else ""


def _patients(scores: Scores) -> str:
    return "number of patients unknown" if scores.n is None else f"{scores.n} patient{'s' * (scores.n != 1)}"


def _effort(figures: Mapping[str, float | None]) -> tuple[str, str]:
    """Clicks with seconds, and the number of cases; "" where unknown."""
    clicks, seconds, cases = (finite(figures.get(key)) for key in ("clicks", "seconds", "cases"))
    said = [f"{clicks:.1f}" if clicks is not None else "", f"{seconds:.0f} s" if seconds is not None else ""]
    return ", ".join(word for word in said if word), f"{cases:.0f}" if cases is not None else ""


def _interval(values: Mapping[str, Mapping[str, float | None]], clicks: int) -> tuple[str, str]:
    """The mean, and the ends of its interval; "" where unknown."""
    mean, low, high = (finite(values.get(str(clicks), {}).get(key)) for key in ("mean", "low", "high"))
    if mean is None:
        return "", ""
    return f"{mean:.2f}", "" if low is None or high is None else f"[{low:.2f}, {high:.2f}]"


def _date(created: str | datetime | None) -> str:
    if isinstance(created, str):
        try:
            created = datetime.fromisoformat(created.replace("Z", "+00:00"))
        except ValueError:
            return str(created)
    return f"{created:%Y-%m-%d %H:%M}" if created else "-"


def _entries(versions: Versions) -> list[PageEntry]:
    stages = versions.stages()
    known = versions.versions()
    is_shipped = versions.state().served == SHIPPED
    entries = [PageEntry(SHIPPED, state="served" if is_shipped else "shipped", scores=_shipped_scores(known))]
    return [*entries, *(_entry(version, stages.get(version.id, ""), versions) for version in known)]


def _shipped_scores(known: Sequence[Version]) -> dict[str, Scores]:
    """Scores of the shipped weights from the last time that they were measured beside a candidate."""
    for version in reversed(known):
        for name, compared in version.metrics.get("compared_with", {}).items():
            found = version.metrics.get("validation", {}).get(name)
            if compared == SHIPPED and found:
                return {"candidate": _scores(found)}
    return {}


def _scores(found: Mapping[str, Any]) -> Scores:
    return Scores(found["dice_at"], found["nsd2_at"], found["n"])


def _entry(version: Version, stage: str, versions: Versions) -> PageEntry:
    metrics = version.metrics
    decision: dict[str, Any] = metrics.get("decision") or {}
    validation = metrics.get("validation", {})
    real = metrics.get("real_users", {}).get(version.sha256) or {}
    candidate = validation.get("candidate", {})
    published, reasons = decision.get("publish"), metrics.get("reasons", ())
    if published and stage == REFUSED:
        # Its reference versions were no longer in force.
        published = False
        reasons = [state.event.reason for state in versions.events_of(version.id) if state.event][-1:]
    return PageEntry(
        version.id,
        parent=version.parent,
        created=version.created,
        state="replaced" if stage == "published" else stage,
        scores={name: _scores(found) for name, found in validation.items()},
        published=published,
        reasons=reasons,
        curve=_curve(versions.path(version.id) / CURVE),
        real={
            "clicks": real.get("median_clicks"),
            "seconds": real.get("median_seconds"),
            "cases": real.get("count"),
        },
        simulated={"clicks": (candidate.get("noc85") or {}).get("mean")},
        training_cases=metrics.get("cases", {}).get("train"),
    )


def _curve(path: Path) -> list[dict[str, float]]:
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return []


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals.update(
    clicks=CLICKS_SHOWN,
    date=_date,
    effort_of=_effort,
    interval=_interval,
    score_words=_score_words,
    since=_since,
)
_TEMPLATE = _environment.get_template("versions_page.html")
