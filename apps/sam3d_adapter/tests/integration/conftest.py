"""The application in the process of the tests, once for each file that asks for it."""

from collections.abc import Iterator

import pytest
import yaml

from tests.support.live_app import LiveApp, live_app
from tests.support.noise_site import copy_app, write_studies


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveApp]:
    folder = tmp_path_factory.mktemp("live")
    app_dir = copy_app(folder)
    # A task whose intensities depend on the image.
    values = {part: yaml.safe_load((app_dir / f"configs/{part}.yaml").read_text()) for part in ("test", "mr")}
    percentiles = values["test"] | {key: values["mr"][key] for key in ("intensity", "modality")}
    (app_dir / "configs/percentiles.yaml").write_text(yaml.safe_dump(percentiles))
    with live_app(app_dir, write_studies(folder / "studies"), folder) as app:
        yield app


@pytest.fixture(scope="module")
def good_mask(live: LiveApp) -> str:
    """sha256 of the mask for a good click, before anything bad was sent."""
    return live.good_click()
