"""Micro-batching: if a batch does not fit into memory, it goes through the model in smaller parts."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from lib.training.network import Trainable
from lib.training.objective import Samples

logger = logging.getLogger(__name__)

Given = TypeVar("Given", bound=Samples)

NO_MEMORY = (
    "Training does not fit into memory, not even one region at a time with activations computed twice. Close what else "
    "uses the {device}, train a smaller preset, or train on another machine and import the version."
)


class MemoryShortageError(RuntimeError):
    """Training does not fit into memory, even in the smallest micro-batches."""


class MicroBatching:
    """Splits batches into micro-batches. Their size only shrinks; at size 1, activations are computed twice.

    Args:
        model: A module of it with ``gradient_checkpointing``, if it has one, can compute activations twice.
        batch: Samples of a batch.
    """

    def __init__(self, model: Trainable, batch: int) -> None:
        self._model, self._batch = model, batch
        self.size = batch

    def accumulate(self, batch: Given, learn: Callable[[Given, float], float]) -> float:
        """Accumulates the gradients of a batch over its micro-batches; the sum equals that of the whole batch.

        Args:
            batch: Samples.
            learn: For some samples and their share of the batch: adds their part of the gradients, returns their part
                of the loss.

        Returns:
            The loss of the batch.

        Raises:
            MemoryShortageError: One sample is too much.
        """
        while True:
            try:
                parts = [batch.rows(slice(n, n + self.size)) for n in range(0, self._batch, self.size)]
                return sum(learn(part, len(part.numbers) / self._batch) for part in parts)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                problem = next(iter(str(error).splitlines()), type(error).__name__)
            # Outside of the handler: the exception keeps the activations of the failed step alive.
            self._model.zero_grad()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._reduce(problem)

    def _reduce(self, problem: str) -> None:
        twice = [part for part in self._model.modules() if getattr(part, "gradient_checkpointing", None) is False]
        if self.size > 1:
            self.size = (self.size + 1) // 2
            logger.warning("Memory ran out (%s): going on with %d region(s) at a time.", problem, self.size)
        elif twice:
            for part in twice:
                vars(part)["gradient_checkpointing"] = True
            logger.warning("Memory ran out (%s): going on with activations computed twice, which is slower.", problem)
        else:
            device = "GPU" if next(self._model.parameters()).is_cuda else "memory"
            raise MemoryShortageError(NO_MEMORY.format(device=device))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out; on a CPU torch has no class of its own for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
