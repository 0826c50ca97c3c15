"""The way out that a task without weights tells."""

from pathlib import Path

from lib.infers.missing_weights import how_to_supply

APP = Path("/srv/secret/app")


def test_names_place_address_and_checksum_and_hides_the_servers_folders() -> None:
    text = how_to_supply("kits", [APP / "model/sam_vit_b_01ec64.pth", APP / "model/kits.safetensors"], APP)
    for part in (
        "'kits'",
        "model/sam_vit_b_01ec64.pth",
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "model/kits.safetensors",
        "3DSAM-adapter checkpoint",
    ):
        assert part in text
    assert "secret" not in text


def test_shipped_files_come_from_the_repository() -> None:
    assert "repository" in how_to_supply("ct", [APP / "weights/tiny_base.safetensors"], APP)
