"""The command line of the versions: what there is, what is served, and changing it by hand."""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lib.files.checksums import file_sha256
from lib.registry.archive import export_version, import_version
from lib.registry.errors import RegistryError
from lib.registry.registry import Registry
from lib.registry.version import SHIPPED, Version, shipped_base
from lib.registry.versions import Versions

logger = logging.getLogger("versions")

# lib.presets reads presets in full, and needs torch for it; here three values of them are enough.
_DEFAULT_FAMILY = "sam3d_adapter"
_FILES = {"sam3d_adapter": ("base", "weights"), "click_unet": ("weights",)}


def run(command: Sequence[str] | None, app_dir: Path, description: str, learning_dir: Path) -> int:
    """Carries out one command; the exit status: 0 done, 1 refused with the reason.

    Args:
        command: the arguments; None for those of the process.
        app_dir: the app folder.
        description: for the help.
        learning_dir: the server's default.
    """
    arguments = _arguments(command, description, learning_dir)
    try:
        model = _model_of(app_dir / "configs", arguments.preset)
        registry = Registry(app_dir / arguments.learning_dir)
        versions = registry.of(arguments.preset, model["size"], model["family"])
        text = arguments.action(versions, arguments, tuple(app_dir / file for file in model["files"]))
    except (RegistryError, OSError) as error:
        logger.error("%s", " ".join(str(error).split()))
        return 1
    sys.stdout.write(f"{text}\n")
    return 0


def _list(versions: Versions, arguments: argparse.Namespace, shipped: tuple[Path, ...]) -> str:
    state, stages = versions.known_state(), versions.stages()
    known = {version.id: version for version in versions.versions()} | versions.pruned()
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
    problems = [f"Problem: {problem}" for problem in versions.problems()]
    return "\n".join([f"Preset {versions.preset}, model size {versions.size}", *_table(rows), *problems])


def _show(versions: Versions, arguments: argparse.Namespace, shipped: tuple[Path, ...]) -> str:
    version_id = arguments.id
    if version_id == SHIPPED:
        facts: dict[str, Any] = {"id": SHIPPED, "files": [path.name for path in shipped]}
        if shipped[-1].is_file():
            facts["sha256"] = file_sha256(shipped[-1])
    else:
        pruned = versions.pruned()
        facts = (pruned[version_id] if version_id in pruned else versions.verify(version_id)).to_dict()
        facts["state"] = versions.stages()[version_id]
    done = [_told(state.event) for state in versions.events_of(version_id) if state.event]
    return "\n".join([json.dumps(facts, indent=2, ensure_ascii=False), *done])


def _publish(versions: Versions, arguments: argparse.Namespace, shipped: tuple[Path, ...]) -> str:
    versions.publish(arguments.id, arguments.by, arguments.reason, base=shipped_base(shipped[-1]))
    return f"Preset {versions.preset} serves {arguments.id} from now on."


def _roll_back(versions: Versions, arguments: argparse.Namespace, shipped: tuple[Path, ...]) -> str:
    return f"Preset {versions.preset} serves {versions.roll_back(arguments.by, arguments.reason)} again."


def _prune(versions: Versions, arguments: argparse.Namespace, shipped: tuple[Path, ...]) -> str:
    removed = versions.prune(arguments.keep, arguments.by)
    return f"Removed: {', '.join(removed) or 'nothing'}. Kept: {', '.join(versions.ids()) or 'nothing'}."


def _export(versions: Versions, arguments: argparse.Namespace, shipped: tuple[Path, ...]) -> str:
    export_version(versions, arguments.id, arguments.file)
    return f"{arguments.file}: {arguments.id}, sha256 of the file {file_sha256(arguments.file)}"


def _import(versions: Versions, arguments: argparse.Namespace, shipped: tuple[Path, ...]) -> str:
    version = import_version(versions, arguments.file, arguments.by, shipped)
    return (
        f"Added as {version.id}, not served. sha256 of the file {file_sha256(arguments.file)}: compare it with the "
        "sender's. What was measured there says nothing of your images: evaluate it before you publish it "
        f"(make evaluate ... VERSION={version.id})."
    )


def _metrics(version: Version) -> str:
    own, where = version.metrics, ""
    if version.origin is not None and not own:
        own, where = version.origin.get("metrics") or {}, "measured elsewhere: "
    numbers = [f"{key} {value:.4g}" for key, value in own.items() if isinstance(value, int | float)]
    return where + ", ".join(numbers[:4]) if numbers else ""


def _told(event: Any) -> str:
    return f"{event.at[:19]} {event.action} by {event.by}{': ' if event.reason else ''}{event.reason}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _model_of(configs: Path, preset: str) -> Mapping[str, Any]:
    """Family, size and files of a preset's network."""
    names = sorted(path.stem for path in configs.glob("*.yaml"))
    if preset not in names:
        raise RegistryError(f"There is no preset {preset!r}; choose from: {', '.join(names)}.")
    try:
        model = yaml.safe_load((configs / f"{preset}.yaml").read_text(encoding="utf-8"))["model"]
        family = model.get("family", _DEFAULT_FAMILY)
        return {"family": family, "size": model["size"], "files": [model[key] for key in _FILES[family]]}
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"configs/{preset}.yaml names no network that can be served ({error}).") from error


def _arguments(command: Sequence[str] | None, description: str, learning_dir: Path) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--preset", required=True, help="task preset, a file of configs/")
    common.add_argument(
        "--learning-dir", type=Path, default=learning_dir, help="as --conf learning_dir (default: %(default)s)"
    )
    by = argparse.ArgumentParser(add_help=False)
    by.add_argument("--by", required=True, metavar="NAME", help="who does it; it is written down")
    why = argparse.ArgumentParser(add_help=False)
    why.add_argument("--reason", default="", help="why; it is written down")

    parser = argparse.ArgumentParser(
        prog="versions.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, action, parents, text in (
        ("list", _list, [common], "what there is and what is served"),
        ("show", _show, [common], "all that is known of one, its weights checked"),
        ("publish", _publish, [common, by, why], f"serve a version; '{SHIPPED}' for the preset's own weights"),
        ("roll-back", _roll_back, [common, by, why], "serve what was served before"),
        ("prune", _prune, [common], "remove the weights of old versions"),
        ("export", _export, [common], "write a version into one file"),
        ("import", _import, [common, by], "add a version from such a file; it is not served"),
    ):
        sub = actions.add_parser(name, parents=parents, help=text, description=text)
        sub.set_defaults(action=action)
        if name in ("show", "publish", "export"):
            sub.add_argument("id", metavar="ID", help="of the version")
        if name in ("export", "import"):
            sub.add_argument("file", type=Path, metavar="FILE")
        if name == "prune":
            sub.add_argument("--keep", type=int, required=True, metavar="N", help="newest versions to keep besides")
            sub.add_argument("--by", default="command", metavar="NAME", help="who does it")
    return parser.parse_args(command)
