"""``sam3d versions``: what there is, what is served, and changing it by hand. None of it loads torch, but import."""

import json
import logging
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from lib.cli.app_dir import pass_app_dir
from lib.cli.table import table
from lib.files.checksums import file_sha256
from lib.registry.archive import export_version, import_version
from lib.registry.errors import RegistryError
from lib.registry.registry import DEFAULT_LEARNING_DIR, Registry
from lib.registry.version import SHIPPED, Version, shipped_base
from lib.registry.versions import Versions

logger = logging.getLogger("versions")

_PATH = click.Path(path_type=Path)
_id = click.argument("id")
_by = click.option("--by", required=True, metavar="NAME", help="Who does it; it is written down.")
_reason = click.option("--reason", default="", help="Why; it is written down.")


class _Weights(NamedTuple):
    """The versions of a preset, and the absolute paths of its own files, the weights last."""

    versions: Versions
    shipped: tuple[Path, ...]


@click.group(short_help="List, publish, roll back, export and import trained versions.")
def versions() -> None:
    """The versions of a preset's weights: what there is, what is served, and changing it by hand.

    A running server takes what is published at its next click. Exit status 0: done; 1: refused, with the reason.

    \b
    Examples:
      sam3d versions list --preset ct
      sam3d versions publish v0003-1a2b3c4d --preset ct --by "Dr. Jones" --reason "better on our scanner"
      sam3d versions roll-back --preset ct --by "Dr. Jones"
    """


def _of_a_preset(action: Callable[..., str]) -> Callable[..., None]:
    """A command of `versions` from a function of `_Weights` that returns what to print."""

    @click.option("--preset", required=True, help="Which preset, a file of configs/.")
    @click.option(
        "--learning-dir",
        type=_PATH,
        default=DEFAULT_LEARNING_DIR,
        show_default=True,
        help="Folder of the versions, as the server's --conf learning_dir.",
    )
    @pass_app_dir
    @wraps(action)
    def command(app_dir: Path, preset: str, learning_dir: Path, **options: Any) -> None:
        from lib.presets import PresetError, load_presets

        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        try:
            model = load_presets(app_dir / "configs", (preset,))[preset].model
            found = Registry(app_dir / learning_dir).of(preset, model.size, model.family)
            text = action(_Weights(found, tuple(app_dir / file for file in model.files)), **options)
        except (PresetError, RegistryError, OSError) as error:
            logger.error("%s", " ".join(str(error).split()))
            raise SystemExit(1) from error
        sys.stdout.write(f"{text}\n")

    return command


@versions.command("list")
@_of_a_preset
def _list(of: _Weights) -> str:
    """List the versions, and show which one is served."""
    from lib.learning.pool_quality import about_unlabelled

    state, stages = of.versions.known_state(), of.versions.stages()
    known = {version.id: version for version in of.versions.versions()} | of.versions.pruned()
    rows = [("id", "state", "created (UTC)", "by", "parent", "metrics")]
    served = "served" if state.served == SHIPPED else ""
    rows.append((SHIPPED, served, "", "", "", "the weights that the preset names"))
    for version_id in sorted(stages, key=lambda name: int(name[1:].split("-")[0])):
        stage = stages[version_id] + (", best" if version_id == state.best else "")
        version = known.get(version_id)
        if version is None:
            rows.append((version_id, f"{stage}, damaged", "", "", "", ""))
        else:
            facts = (version.created[:19], version.started_by, version.parent or "elsewhere", _metrics(version))
            rows.append((version_id, stage, *facts))
    problems = [f"Problem: {problem}" for problem in of.versions.problems()]
    title = f"Preset {of.versions.preset}, model size {of.versions.size}"
    return "\n".join([title, *table(rows), *about_unlabelled(of.versions), *problems])


@versions.command("show")
@_id
@_of_a_preset
def _show(of: _Weights, id: str) -> str:
    """Show all that is known of the version ID, its weights checked."""
    if id == SHIPPED:
        facts: dict[str, Any] = {"id": SHIPPED, "files": [path.name for path in of.shipped]}
        if of.shipped[-1].is_file():
            facts["sha256"] = file_sha256(of.shipped[-1])
    else:
        pruned = of.versions.pruned()
        facts = (pruned[id] if id in pruned else of.versions.verify(id)).to_dict()
        facts["state"] = of.versions.stages()[id]
    done = [_told(state.event) for state in of.versions.events_of(id) if state.event]
    return "\n".join([json.dumps(facts, indent=2, ensure_ascii=False), *done])


@versions.command("publish")
@_id
@_by
@_reason
@_of_a_preset
def _publish(of: _Weights, id: str, by: str, reason: str) -> str:
    """Serve the version ID; 'shipped' for the preset's own weights."""
    of.versions.publish(id, by, reason, base=shipped_base(of.shipped[-1]))
    return f"Preset {of.versions.preset} serves {id} from now on."


@versions.command("roll-back")
@_by
@_reason
@_of_a_preset
def _roll_back(of: _Weights, by: str, reason: str) -> str:
    """Serve what was served before."""
    return f"Preset {of.versions.preset} serves {of.versions.roll_back(by, reason)} again."


@versions.command("prune")
@click.option("--keep", type=int, required=True, metavar="N", help="Newest versions to keep besides the served ones.")
@click.option("--by", default="command", show_default=True, metavar="NAME", help="Who does it.")
@_of_a_preset
def _prune(of: _Weights, keep: int, by: str) -> str:
    """Remove the weights of old versions."""
    removed = of.versions.prune(keep, by)
    return f"Removed: {', '.join(removed) or 'nothing'}. Kept: {', '.join(of.versions.ids()) or 'nothing'}."


@versions.command("export")
@_id
@click.argument("file", type=_PATH)
@_of_a_preset
def _export(of: _Weights, id: str, file: Path) -> str:
    """Write the version ID into one FILE, for another hospital."""
    export_version(of.versions, id, file)
    return f"{file}: {id}, sha256 of the file {file_sha256(file)}"


@versions.command("import")
@click.argument("file", type=_PATH)
@_by
@_of_a_preset
def _import(of: _Weights, file: Path, by: str) -> str:
    """Add a version from such a FILE; it is not served."""
    version = import_version(of.versions, file, by, of.shipped)
    return (
        f"Added as {version.id}, not served. sha256 of the file {file_sha256(file)}: compare it with the "
        "sender's. What was measured there says nothing of your images: evaluate it before you publish it "
        f"(sam3d evaluate ... --version {version.id})."
    )


def _metrics(version: Version) -> str:
    own, where = version.metrics, ""
    if version.origin is not None and not own:
        own, where = version.origin.get("metrics") or {}, "measured elsewhere: "
    numbers = [f"{key} {value:.4g}" for key, value in own.items() if isinstance(value, int | float)]
    return where + ", ".join(numbers[:4]) if numbers else ""


def _told(event: Any) -> str:
    return f"{event.at[:19]} {event.action} by {event.by}{': ' if event.reason else ''}{event.reason}"
