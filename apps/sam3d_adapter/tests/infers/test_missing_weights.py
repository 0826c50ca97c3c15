"""The way out that a task without weights tells."""

import shlex
from pathlib import Path

from lib.cli.convert import convert
from lib.serving.preset_segmenter import how_to_supply

APP = Path("/srv/secret/app")
FILES = [APP / "model/sam_vit_b.safetensors", APP / "model/kits.safetensors"]


def test_names_place_command_address_and_checksum_and_hides_the_servers_folders() -> None:
    text = how_to_supply("kits", "vit_b", FILES, APP)
    for part in (
        "'kits'",
        "model/sam_vit_b.safetensors, model/kits.safetensors",
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "3DSAM-adapter checkpoint",
    ):
        assert part in text
    assert "secret" not in text


def test_the_command_it_names_exists() -> None:
    text = how_to_supply("kits", "vit_b", FILES, APP)
    python, module, name, command, *arguments = shlex.split(text.split("'")[3])
    assert (python, module, name, command) == ("python", "-m", "sam3d", convert.name)
    options = convert.make_context(command, arguments).params
    assert (options["preset"], options["checkpoint"]) == ("kits", Path("last.pth.tar"))


def test_larger_sizes_start_from_their_own_sam_file() -> None:
    assert "sam_vit_h_4b8939.pth" in how_to_supply("organ", "vit_h", [APP / "model/organ.safetensors"], APP)


def test_shipped_files_come_from_the_repository() -> None:
    text = how_to_supply("ct", "tiny", [APP / "weights/tiny_base.safetensors"], APP)
    assert "repository" in text and "sam3d convert" not in text


def test_size_without_sam_file_names_no_command() -> None:
    text = how_to_supply("own", "tiny", [APP / "model/own.safetensors"], APP)
    assert "model/own.safetensors" in text and "sam3d convert" not in text
