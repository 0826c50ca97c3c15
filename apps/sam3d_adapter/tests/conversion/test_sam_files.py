"""Where SAM's files come from, and what is said where they cannot be had."""

from pathlib import Path

import pytest

from lib.conversion import sam_files
from lib.conversion.sam_files import SAM_FILES, SamFile, cache_folder, obtain_sam_file, sam_url
from lib.models.checkpoint_error import CheckpointError
from lib.models.config import MODEL_SIZES
from tests.support.conversion_site import QUICK, Site
from tests.support.file_server import Fault, serving


def test_every_vit_has_its_official_file() -> None:
    assert set(SAM_FILES) == {size for size in MODEL_SIZES if size.startswith("vit_")}
    assert all(len(bytes.fromhex(file.sha256)) == 32 for file in SAM_FILES.values())
    assert all(file.name.startswith(f"sam_{size}_") for size, file in SAM_FILES.items())


def test_cache_and_address_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAM3D_CACHE", "XDG_CACHE_HOME", "SAM3D_SAM_URL"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path.home() / ".cache/sam3d_adapter"
    assert sam_url() == "https://dl.fbaipublicfiles.com/segment_anything/"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache_folder() == Path("/var/cache/sam3d_adapter")
    monkeypatch.setenv("SAM3D_CACHE", "/data/files")
    assert cache_folder() == Path("/data/files")
    monkeypatch.setenv("SAM3D_SAM_URL", "https://mirror.example/sam")
    assert sam_url() == "https://mirror.example/sam/"


def test_given_file_or_its_folder_is_used_where_it_lies(site: Site) -> None:
    assert obtain_sam_file(site.sam_file, given=site.sam) == site.sam
    assert obtain_sam_file(site.sam_file, given=site.sam.parent) == site.sam
    assert not site.cache.exists()


def test_fetched_once_into_the_cache(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(site.sam.read_bytes(), Fault(cut=50_000)) as server:
        monkeypatch.setenv("SAM3D_SAM_URL", server.url)
        path = obtain_sam_file(site.sam_file, patience=QUICK)
        assert path == site.cache / "sam_test.pth" and path.read_bytes() == site.sam.read_bytes()
        assert server.asked == [("/sam/sam_test.pth", None), ("/sam/sam_test.pth", "bytes=50000-")]
    # The server is gone; the cache serves.
    assert obtain_sam_file(site.sam_file) == path
    assert obtain_sam_file(site.sam_file, offline=True) == path


def by_hand(text: str, site: Site) -> None:
    """The message says which file, from where, to where."""
    for part in (str(site.sam_file), f"{sam_files.SAM_URL}sam_test.pth", str(site.cache), "SAM3D_CACHE", "--sam"):
        assert part in text


def test_without_connection_it_says_where_to_put_the_file(site: Site) -> None:
    with pytest.raises(CheckpointError, match="could not be fetched.*no connection") as caught:
        obtain_sam_file(site.sam_file, patience=QUICK)
    by_hand(str(caught.value), site)


def test_offline_never_connects(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(site.sam.read_bytes()) as server:
        monkeypatch.setenv("SAM3D_SAM_URL", server.url)
        with pytest.raises(CheckpointError, match="--offline") as caught:
            obtain_sam_file(site.sam_file, offline=True)
    assert server.asked == []
    by_hand(str(caught.value), site)


def test_address_that_gives_another_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(site.sam.read_bytes())
    content[-1] ^= 1
    with serving(bytes(content)) as server:
        monkeypatch.setenv("SAM3D_SAM_URL", server.url)
        with pytest.raises(CheckpointError, match="another file than expected") as caught:
            obtain_sam_file(site.sam_file, patience=QUICK)
    by_hand(str(caught.value), site)
    assert list(site.cache.iterdir()) == []


def test_cache_that_cannot_be_written(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.cache.write_text("a file where the folder should be")
    with serving(site.sam.read_bytes()) as server:
        monkeypatch.setenv("SAM3D_SAM_URL", server.url)
        with pytest.raises(CheckpointError, match="cannot be written") as caught:
            obtain_sam_file(site.sam_file, patience=QUICK)
    by_hand(str(caught.value), site)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "bytes; expected SAM's own sam_test.pth"),
        (alter, "sha256 .*; expected SAM's own sam_test.pth"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.unlink(), "no such file"),
    ],
)
def test_wrong_file_is_refused_wherever_it_lies(site: Site, damage, words: str) -> None:
    damage(site.sam)
    with pytest.raises(CheckpointError, match=words):
        obtain_sam_file(site.sam_file, given=site.sam)
    if site.sam.exists():
        site.cache.mkdir()
        site.sam.rename(site.cache / "sam_test.pth")
        with pytest.raises(CheckpointError, match=words):
            obtain_sam_file(site.sam_file)


def test_size_that_nobody_states_is_not_asked_for(site: Site) -> None:
    file = SamFile(site.sam_file.name, site.sam_file.sha256)
    assert obtain_sam_file(file, given=site.sam) == site.sam
    assert "bytes" not in str(file)
