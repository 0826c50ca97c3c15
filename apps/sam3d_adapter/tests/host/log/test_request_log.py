"""What MONAI Label says of each request, and that a command can have it off."""

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lib.evaluation.evaluated_task import EvaluatedTask, TaskChoice
from lib.evaluation.simulated_user import SimulatedClick
from lib.host.log.request_log import HOST, RAISED_AT_EACH_REQUEST, request_log_off
from lib.presets import load_preset
from tests.support.one_thread import one_thread  # noqa: F401
from tests.support.small_app import copy_small_app

CLICK = SimulatedClick((12, 10, 8), (12, 10, 8), True)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "Mustermann_Erika.nii"
    voxels = np.random.default_rng(0).normal(40, 60, (24, 20, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return path


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> EvaluatedTask:
    app = copy_small_app(tmp_path_factory.mktemp("log") / "app", ("unet",))
    return TaskChoice(app, load_preset(app / "configs/unet.yaml"), "cpu", "fp32")()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Of the host alone; its loggers as a process begins with them."""
    for name in (HOST, *RAISED_AT_EACH_REQUEST):
        logging.getLogger(name).setLevel(logging.NOTSET)
    return caplog


def lines(said: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in said.records if record.name.startswith(HOST)]


# A command of ours has its root logger at WARNING, a training process of the host at INFO.
@pytest.mark.parametrize("level", [logging.WARNING, logging.INFO])
def test_requests_are_told_with_their_paths_unless_it_is_off(
    task: EvaluatedTask, image: Path, said: pytest.LogCaptureFixture, level: int
) -> None:
    said.set_level(level)
    said.handler.setLevel(logging.NOTSET)  # of the loggers alone
    with request_log_off():
        for _ in range(3):
            task(image, [CLICK])
    assert lines(said) == []
    task(image, [CLICK])
    assert len(lines(said)) > 10 and any("Mustermann" in line for line in lines(said))


def test_warnings_are_still_told(task: EvaluatedTask, image: Path, said: pytest.LogCaptureFixture) -> None:
    with request_log_off():
        task(image, [CLICK])
        for name in (HOST, *RAISED_AT_EACH_REQUEST):
            logging.getLogger(name).warning("of %s", name)
    assert lines(said) == [f"of {name}" for name in (HOST, *RAISED_AT_EACH_REQUEST)]


def test_one_within_another_does_not_end_it(task: EvaluatedTask, image: Path, said: pytest.LogCaptureFixture) -> None:
    host, filters = logging.getLogger(HOST), [logging.getLogger(name).filters[:] for name in RAISED_AT_EACH_REQUEST]
    host.setLevel(logging.INFO)
    with pytest.raises(KeyError), request_log_off():
        with request_log_off():
            pass
        task(image, [CLICK])
        raise KeyError
    assert lines(said) == [] and host.level == logging.INFO
    assert [logging.getLogger(name).filters for name in RAISED_AT_EACH_REQUEST] == filters
