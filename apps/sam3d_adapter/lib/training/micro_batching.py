"""Memory that does not suffice: smaller bites of a batch, then activations worked out twice, before giving up."""

import logging
from collections.abc import Callable

import torch

from lib.training.network import Network
from lib.training.stream import Batch

logger = logging.getLogger(__name__)

NO_MEMORY = (
    "Training does not fit into memory, not even one region at a time with activations computed twice. Close what else "
    "uses the {device}, train a smaller preset, or train on another machine and import the version."
)


class MemoryShortageError(RuntimeError):
    """Training does not fit, whatever was tried."""


class Appetite:
    """How much of a batch goes through the model at once; it only ever sinks.

    Args:
        model: If it has an ``image_encoder``, that can forget activations.
        batch: Samples of a batch.
    """

    def __init__(self, model: Network, batch: int) -> None:
        self._model, self._batch = model, batch
        self.bite = batch

    def digest(self, batch: Batch, learn: Callable[[Batch, float], float]) -> float:
        """Take gradients of a batch, in as many bites as memory demands; they are those of the whole.

        Args:
            batch: Samples.
            learn: Of some of the samples and their share of the batch: adds their part of the gradients, gives their
                part of the loss.

        Returns:
            The loss of the batch.

        Raises:
            MemoryShortageError: One sample is too much.
        """
        while True:
            try:
                bites = [batch.rows(slice(n, n + self.bite)) for n in range(0, self._batch, self.bite)]
                return sum(learn(bite, len(bite.numbers) / self._batch) for bite in bites)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                problem = next(iter(str(error).splitlines()), type(error).__name__)
            # Outside of the handler: the exception keeps the activations of the failed step alive.
            self._model.zero_grad()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._less(problem)

    def _less(self, problem: str) -> None:
        encoder = getattr(self._model, "image_encoder", None)
        if self.bite > 1:
            self.bite = (self.bite + 1) // 2
            logger.warning("Memory ran out (%s): going on with %d region(s) at a time.", problem, self.bite)
        elif encoder is not None and not encoder.gradient_checkpointing:
            encoder.gradient_checkpointing = True
            logger.warning("Memory ran out (%s): going on with activations computed twice, which is slower.", problem)
        else:
            device = "GPU" if next(self._model.parameters()).is_cuda else "memory"
            raise MemoryShortageError(NO_MEMORY.format(device=device))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out; on a CPU torch has no class of its own for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
