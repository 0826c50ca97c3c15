"""The versions page of a preset: which model answers, how good it is beside the one before, and what the gate decided.

It is one HTML file with its pictures inside; it loads nothing from the network.
"""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lib.files.atomic_write import replacing
from lib.learning.page_figures import finite, learning_picture, training_picture
from lib.registry.reader import CURVE
from lib.registry.state import REFUSED
from lib.registry.version import SHIPPED, Version
from lib.registry.versions import Versions

PAGE = "versions.html"
CLICKS_SHOWN = (1, 3, 5, 10)
CURVES_SHOWN = 12
"""Training curves of the newest versions; older ones appear in the table only."""
_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1d2730 }
h1 { font-size: 1.5rem; margin: 0 0 .3rem } h2 { font-size: 1.1rem; margin: 1.6rem 0 .4rem }
.now { border-left: .4rem solid #2a7f62; background: #eef6f2; padding: .7rem 1rem; margin: 1rem 0 }
.now.refused { border-color: #b7791f; background: #fbf4e6 }
table { border-collapse: collapse; width: 100% } td, th { padding: .3rem .5rem; text-align: left; vertical-align: top }
td:first-child, td:nth-child(2) { white-space: nowrap }
th { border-bottom: 2px solid #9aa7b2; font-weight: 600 } td { border-bottom: 1px solid #dde3e8 }
.served td { background: #eef6f2 } small, .faint { color: #5d6b78 } img { max-width: 100% }
summary { cursor: pointer; padding: .25rem 0 } ul { margin: .3rem 0 }
"""


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
    write_page(path, versions.preset, entries)
    return path


def versions_page(versions: Versions) -> str:
    """The versions page as it is now; writes no file.

    Args:
        versions: of the preset.

    Raises:
        RegistryError: the registry cannot be read.
        OSError: the registry cannot be read.
    """
    return render_page(versions.preset, _entries(versions))


def write_page(path: Path, title: str, versions: Sequence[PageEntry]) -> None:
    """Writes the whole file or none.

    Args:
        path: HTML file; its folder exists.
        title: such as the preset's name.
        versions: oldest first; at least none.
    """
    text = render_page(title, versions)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def render_page(title: str, versions: Sequence[PageEntry]) -> str:
    """The page as text; see ``write_page``."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>Versions of {_text(title)}</title><style>{_STYLE}</style>",
        f"<h1>Versions of {_text(title)}</h1>",
        "<p class=faint>Research use only; not a medical device. Scores run from 0 to 1, higher is better; they are of "
        "a simulated user on patients who were not trained on. In brackets: 95 % interval.</p>",
        *_now(versions),
    ]
    if versions:
        parts += _overview(versions) + _table(versions) + _trainings(versions)
    return "\n".join(parts) + "\n"


def _now(versions: Sequence[PageEntry]) -> list[str]:
    """The summary: which version answers, and what was decided about the newest."""
    served = next((one for one in reversed(versions) if one.state == "served"), None)
    boxes = []
    if served is not None:
        words = [f"<b>{_text(served.id)} answers now</b>", _since(served), _score_words(served)]
        boxes.append(f"<div class=now>{'. '.join(word for word in words if word)}.</div>")
    else:
        boxes.append("<div class=now><b>The weights that ship with the app answer now.</b></div>")
    newest = versions[-1] if versions else None
    if newest is not None and newest.reasons:
        kind = "now" if newest.published else "now refused"
        decision = "accepted" if newest.published else "refused"
        sentences = "".join(f"<li>{_text(reason)}</li>" for reason in newest.reasons)
        boxes.append(
            f"<div class='{kind}'><b>The newest, {_text(newest.id)}, was {decision}.</b><ul>{sentences}</ul></div>"
        )
    return boxes


def _since(version: PageEntry) -> str:
    words = [f"made {_date(version.created)}" if version.created else ""]
    words.append(f"from {_text(version.parent)}" if version.parent else "")
    words.append(f"on {version.training_cases} cases" if version.training_cases is not None else "")
    return " ".join(word for word in words if word).capitalize() if any(words) else ""


def _score_words(version: PageEntry) -> str:
    own = version.scores.get("candidate")
    first, fifth = (_interval(own.dice.get(clicks)) if own else "" for clicks in ("1", "5"))
    said = [f"{score} after {words}" for score, words in ((first, "one click"), (fifth, "five")) if score]
    return f"Dice {', '.join(said)} ({_patients(own)})" if said and own else ""


def _patients(scores: Scores) -> str:
    return "number of patients unknown" if scores.n is None else f"{scores.n} patient{'s' * (scores.n != 1)}"


def _overview(versions: Sequence[PageEntry]) -> list[str]:
    picture = learning_picture(versions)
    if not picture:
        return ["<p>No version has been measured yet.</p>"]
    return ["<h2>Scores over versions</h2>", _image(picture, "Dice and outline agreement over versions")]


def _table(versions: Sequence[PageEntry]) -> list[str]:
    clicks = [str(number) for number in CLICKS_SHOWN]
    heads = ["version", "made", "state", *(f"Dice, {number} click{'s' * (number != '1')}" for number in clicks[:3])]
    heads += ["outline, 5 clicks", "simulated: clicks, s", "people: clicks, s"]
    rows = [f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"]
    for one in reversed(versions):
        own = one.scores.get("candidate", Scores())
        parent = f"<br><small>from {_text(one.parent)}</small>" if one.parent else ""
        cells = [f"{_text(one.id)}{parent}", _date(one.created), _text(one.state) or "-"]
        cells += [_interval(own.dice.get(number), small=True) or "-" for number in clicks[:3]]
        cells += [_interval(own.nsd2.get("5"), small=True) or "-", _effort(one.simulated), _effort(one.real)]
        kind = " class=served" if one.state == "served" else ""
        rows.append(f"<tr{kind}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    note = (
        "<p class=faint>Outline: share of the surface within 2 mm (NSD). Clicks and seconds: simulated, to Dice 0.85; "
        "of people, medians until the mask was accepted, with the number of cases. Each version was measured on the "
        "patients there were at the time, so compare two by the decisions below, which are on the same cases.</p>"
    )
    return ["<h2>All versions, newest first</h2>", f"<table>{''.join(rows)}</table>", note]


def _trainings(versions: Sequence[PageEntry]) -> list[str]:
    parts = ["<h2>Decisions and trainings</h2>"]
    for number, one in enumerate(reversed(versions)):
        picture = training_picture(one.curve) if number < CURVES_SHOWN else None
        body = "".join(f"<li>{_text(reason)}</li>" for reason in one.reasons)
        body = f"<ul>{body}</ul>" if body else ""
        beside = _beside(one)
        image = _image(picture, f"training of {one.id}") if picture else ""
        if body or beside or image:
            decision = {True: "accepted", False: "refused", None: "not judged"}[one.published]
            opened = " open" if number == 0 else ""
            name = f"{_text(one.id)}: {decision}"
            parts.append(f"<details{opened}><summary>{name}</summary>{body}{beside}{image}</details>")
    return parts if len(parts) > 1 else []


def _beside(version: PageEntry) -> str:
    """Candidate, served and best on the same cases."""
    if len(version.scores) < 2:
        return ""
    heads = "".join(f"<th>Dice, {number} click{'s' * (number != 1)}</th>" for number in CLICKS_SHOWN)
    rows = [f"<tr><th>on the same cases</th>{heads}</tr>"]
    for name, scores in version.scores.items():
        cells = "".join(
            f"<td>{_interval(scores.dice.get(str(number)), small=True) or '-'}</td>" for number in CLICKS_SHOWN
        )
        rows.append(f"<tr><td>{_text(name)}</td>{cells}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _effort(figures: Mapping[str, float | None]) -> str:
    clicks, seconds, cases = (finite(figures.get(key)) for key in ("clicks", "seconds", "cases"))
    said = [f"{clicks:.1f}" if clicks is not None else "", f"{seconds:.0f} s" if seconds is not None else ""]
    text = ", ".join(word for word in said if word) or "-"
    return text + (f"<br><small>{cases:.0f} cases</small>" if cases is not None and text != "-" else "")


def _interval(value: Mapping[str, float | None] | None, *, small: bool = False) -> str:
    mean, low, high = (finite((value or {}).get(key)) for key in ("mean", "low", "high"))
    if mean is None:
        return ""
    if low is None or high is None:
        return f"{mean:.2f}"
    ends = f"[{low:.2f}, {high:.2f}]"
    return f"{mean:.2f}<br><small>{ends}</small>" if small else f"{mean:.2f} {ends}"


def _date(created: str | datetime | None) -> str:
    if isinstance(created, str):
        try:
            created = datetime.fromisoformat(created.replace("Z", "+00:00"))
        except ValueError:
            return _text(created)
    return f"{created:%Y-%m-%d %H:%M}" if created else "-"


def _image(data: str, words: str) -> str:
    return f'<img alt="{_text(words)}" src="data:image/png;base64,{data}">'


def _text(value: object) -> str:
    return html.escape("" if value is None else str(value))


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
