"""The tasks as put together from presets and settings."""

import json
from pathlib import Path

import pytest
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel

from lib.activelearning.background import PREDICTED_DICE
from lib.configs import task_config
from lib.configs.settings import ConfError
from lib.configs.task_config import Sam3dAdapterConfig
from lib.families.sam3d_adapter import network as sam3d
from lib.presets import PresetError
from lib.studies.label_changes import LabelChange

APP = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def loading_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every background task builds the app again, so that building it and asking for /info must read no weights."""

    def load_model(**_: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(sam3d, "load_model", load_model)


def test_one_task_per_preset_and_all_by_default() -> None:
    config = Sam3dAdapterConfig(APP, {})
    infers = config.infers()
    assert set(infers) == {path.stem for path in (APP / "configs").glob("*.yaml")}
    for name, task in infers.items():
        assert task.labels == {config.presets[name].label: 1}
        assert task.is_valid()  # else MONAI Label would hide it, and with it the reason
        assert task.get_path(validate=False) is None  # else /model would let anyone replace the weights


def test_info_can_be_sent() -> None:
    for task in Sam3dAdapterConfig(APP, {}).infers().values():
        info = json.loads(json.dumps(task.info(), allow_nan=False))
        assert all(isinstance(item, str) for item in info["config"]["device"])  # Slicer's combobox
        assert info["config"]["refine"] is False  # its checkbox


def test_models_selects() -> None:
    assert list(Sam3dAdapterConfig(APP, {"models": "mr, ct"}).infers()) == ["mr", "ct"]


def test_unknown_model_lists_the_choices() -> None:
    with pytest.raises(PresetError, match="Unknown preset nonsense; choose from: colon, ct"):
        Sam3dAdapterConfig(APP, {"models": "ct,nonsense"})


def test_unknown_setting() -> None:
    with pytest.raises(ConfError, match="--conf weights"):
        Sam3dAdapterConfig(APP, {"weights": "x"})


def test_task_without_weights_says_so_in_its_description(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/kits.yaml").write_text((APP / "configs/kits.yaml").read_text())
    task = Sam3dAdapterConfig(tmp_path, {}).infers()["kits"]
    assert task.info()["description"].endswith("[not available, missing: sam_vit_b.safetensors, kits.safetensors]")
    (tmp_path / "model").mkdir()
    for name in ("sam_vit_b.safetensors", "kits.safetensors"):
        (tmp_path / "model" / name).touch()
    assert "not available" not in task.info()["description"]


def test_what_answers_are_worth_is_learned_at_the_start_and_after_each_fifth_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(task_config, "score_beside_server", begun.append)

    class Labelled(LocalDatastore):
        def __init__(self, labelled: int) -> None:
            self.labelled = labelled

        @property
        def _datastore(self) -> LocalDatastoreModel:
            objects = {
                str(n): ImageLabelModel(image=DataModel(), labels={"final": DataModel()}) for n in range(self.labelled)
            }
            return LocalDatastoreModel(name="", description="", objects=objects)

    def submit(config: Sam3dAdapterConfig, action: str = "submit", tag: str = "final", times: int = 1) -> None:
        for _ in range(times):
            config.count_label(LabelChange("1", action, "image", tag, "", None, "", None, None))

    config = Sam3dAdapterConfig(APP, {"models": "ct"})
    config.count_labelled(Labelled(14))
    submit(config, times=5)
    submit(config, "overwrite")
    submit(config, tag="draft")
    assert begun == []
    submit(config)
    assert begun == [PREDICTED_DICE]
    submit(config, times=5)
    assert begun == [PREDICTED_DICE] * 2
    Sam3dAdapterConfig(APP, {"models": "ct"}).count_labelled(Labelled(20))
    assert begun == [PREDICTED_DICE] * 3
    Sam3dAdapterConfig(APP, {"models": "ct", "review_only": "yes"}).count_labelled(Labelled(20))
    assert begun == [PREDICTED_DICE] * 3
