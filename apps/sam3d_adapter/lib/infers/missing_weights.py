"""What to tell the user of a task whose weights are not there."""

from pathlib import Path

from lib.conversion.sam_files import SAM_FILES, SAM_URL


def how_to_supply(task: str, size: str, missing: list[Path], app_dir: Path) -> str:
    """Which files are missing where, and the command that makes them.

    Args:
        task: name of the infer task, which is that of its preset.
        size: model size of the preset.
        missing: absolute paths of the absent files.
        app_dir: the app folder, which the text does not reveal.
    """
    names = [path.relative_to(app_dir) for path in missing]
    shipped = [name for name in names if name.parts[0] == "weights"]
    made = [name for name in names if name not in shipped]
    steps = []
    if shipped:
        steps.append(f"{_list(shipped)}: part of this app's repository, so get that again.")
    if made and size in SAM_FILES:
        sam = SAM_FILES[size]
        steps.append(
            f"{_list(made)}: on the server, in the folder of the repository (or anywhere, if sam3d is installed), run "
            f"'python -m sam3d convert --preset {task} --checkpoint last.pth.tar'. It makes them from the "
            f"3DSAM-adapter checkpoint of that task and SAM's {sam.name} (sha256 {sam.sha256}), fetched from "
            f"{SAM_URL}{sam.name} or given by --sam."
        )
    elif made:
        steps.append(f"{_list(made)}: put the trained files there.")
    return f"Task '{task}' has no weights and never runs on random ones. Missing in the app folder: {' '.join(steps)}"


def _list(names: list[Path]) -> str:
    return ", ".join(map(str, names))
