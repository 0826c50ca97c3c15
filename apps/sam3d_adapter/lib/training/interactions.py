"""The objective of networks that see a cube: interactions with a simulated user."""

from collections.abc import Mapping, Sequence

import numpy as np
from monai.losses import DiceCELoss
from torch import Tensor

from lib.training.interaction import InteractionConfig, interaction_loss, play
from lib.training.network import Network
from lib.training.state import Point
from lib.training.stream import Batch
from lib.training.train import TrainingConfig
from lib.training.validation import autocast, validate_all


class Interactions:
    """Loss and scores of interactions with a simulated user.

    Args:
        model: Is trained.
        config: Has the interactions, their seed and the precision.
    """

    def __init__(self, model: Network, config: TrainingConfig) -> None:
        self._model, self._config = model, config
        self._mask_loss = DiceCELoss(sigmoid=True)

    def loss(self, samples: Batch, step: int) -> Tensor:
        """As `Objective.loss`."""
        config = self._config
        rounds, with_box = draw_length(config.interaction, config.seed, step)
        with autocast(samples.rois.device, config.precision):
            answers = play(self._model, samples, rounds, config.interaction, with_box=with_box, seed=config.seed)
        return interaction_loss(answers, samples.truths, self._mask_loss, config.interaction)

    def scores(self, data_sets: Mapping[str, Sequence[Batch]]) -> Point:
        """As `Objective.scores`: ``dice`` after one click, ``dice_N`` after N clicks, and ``obeyed``."""
        return validate_all(self._model, data_sets, self._config.interaction, self._config.precision)


def draw_length(interaction: InteractionConfig, seed: int, step: int) -> tuple[int, bool]:
    """Number of answers in the interactions of a step, and whether they start with a box.

    The same in all processes, so that none waits for another's longer interaction.
    """
    rng = np.random.default_rng([seed, step])
    rounds = 1 + int(rng.choice(len(interaction.rounds), p=interaction.rounds))
    return rounds, bool(rng.random() < interaction.box_share)
