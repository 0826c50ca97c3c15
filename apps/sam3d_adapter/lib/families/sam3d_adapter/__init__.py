"""3DSAM-adapter (arXiv 2306.13465): a frozen SAM base that all tasks of one size share, and a trained set for each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from lib.conversion.sam_files import SAM_FILES, SAM_URL
from lib.models.checkpoint import load_model
from lib.models.config import MODEL_SIZES
from lib.models.loading import LoadReport
from lib.models.prompts import RoiPrompts
from lib.models.sam3d import RoiEmbedding, Sam3dAdapter
from lib.models.trainable import frozen_names
from lib.segmenters.contract import TrainingRecipe
from lib.segmenters.frozen_store import FrozenStore
from lib.segmenters.roi.family import RoiFamily


class Sam3dClickModel(nn.Module):
    """A `Sam3dAdapter` behind the contract.

    What it can do follows from its weights: the published ones know foreground clicks alone, and would take a
    background click for one of them, until they are trained with signs, previous answers and boxes.
    """

    def __init__(self, model: Sam3dAdapter) -> None:
        super().__init__()
        self.model = model
        corrections = model.mask_decoder.corrections
        self.takes_previous = corrections.knows_previous
        self.takes_background = corrections.knows_background
        self.takes_box = corrections.knows_box

    def encode(self, roi: Tensor) -> RoiEmbedding:
        """As `Sam3dAdapter.encode`."""
        return self.model.encode(roi)

    def decode(self, embedding: RoiEmbedding, prompts: RoiPrompts) -> Tensor:
        """As `Sam3dAdapter.decode`."""
        return self.model.decode(embedding, prompts)


class Sam3dFamily(RoiFamily):
    """3DSAM-adapter (arXiv 2306.13465) in every size of `lib.models.config`."""

    name = "sam3d_adapter"
    sizes: tuple[str, ...] = tuple(MODEL_SIZES)
    files: tuple[str, ...] = ("base", "weights")

    def check_roi(self, size: str, roi_size: int) -> None:
        """Raise ConfigError where the position tables or windows of the size do not fit the ROI."""
        MODEL_SIZES[size].tokens(roi_size)

    def load(
        self, size: str, files: Mapping[str, Path], device: str, frozen: FrozenStore
    ) -> tuple[Sam3dClickModel, LoadReport]:
        """Load base and weights; the frozen tensors are those of other models on the same base, where there are any.

        Raises:
            CheckpointError: A file is absent or does not verify.
        """
        model, report = load_model(size=size, base=files["base"], weights=files["weights"])
        model = model.to(device).eval().requires_grad_(False)
        # By what they hold, not by the file: a base that was copied or replaced by an equal one is shared as well.
        key = (self.name, size, report.base_sha256, device)
        shared = frozen.get(key)
        if shared is None:
            frozen.share(key, {name: model.get_parameter(name) for name in frozen_names(model)}, model)
        else:
            frozen.join(shared, model)
        return Sam3dClickModel(model).eval(), report

    def training_recipe(self) -> TrainingRecipe:
        """As `Family.training_recipe`."""
        from lib.families.sam3d_adapter.recipe import Sam3dTrainingRecipe  # a server that only answers needs none of it

        return Sam3dTrainingRecipe()

    def how_to_supply(self, preset: str, size: str, missing: Sequence[str]) -> str:
        """As `Family.how_to_supply`: the command that makes the files from the published checkpoint."""
        if size not in SAM_FILES:
            return super().how_to_supply(preset, size, missing)
        sam = SAM_FILES[size]
        return (
            f"{', '.join(missing)}: on the server, in the folder of the repository (or anywhere, if sam3d is "
            f"installed), run 'python -m sam3d convert --preset {preset} --checkpoint last.pth.tar'. "
            f"It makes them from the 3DSAM-adapter checkpoint of that task and SAM's {sam.name} "
            f"(sha256 {sam.sha256}), fetched from {SAM_URL}{sam.name} or given by --sam."
        )


FAMILY = Sam3dFamily()
