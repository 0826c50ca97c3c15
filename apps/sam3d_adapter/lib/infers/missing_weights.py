"""What to tell the user of a task whose weights are not there."""

from pathlib import Path

# Official files of Segment Anything (github.com/facebookresearch/segment-anything, README, Model Checkpoints): sha256.
SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
SAM_FILES = {
    "sam_vit_b_01ec64.pth": "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    "sam_vit_l_0b3195.pth": "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    "sam_vit_h_4b8939.pth": "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
}


def how_to_supply(task: str, missing: list[Path], app_dir: Path) -> str:
    """Which files to put where, and where to get them.

    Args:
        task: name of the infer task.
        missing: absolute paths of the absent files.
        app_dir: the app folder, which the text does not reveal.
    """
    steps = [_step(path, app_dir) for path in missing]
    return f"Task '{task}' has no weights and never runs on random ones. Put into the app folder: {'; '.join(steps)}."


def _step(path: Path, app_dir: Path) -> str:
    relative = path.relative_to(app_dir)
    if path.name in SAM_FILES:
        return f"{relative} from {SAM_URL}{path.name} (sha256 {SAM_FILES[path.name]})"
    if relative.parts[0] == "weights":
        return f"{relative}, which is part of this app's repository"
    return f"{relative}, converted from the 3DSAM-adapter checkpoint of that task (see the README)"
