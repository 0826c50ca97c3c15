"""The weighted mean of two pairs of weights, of which one was trained further from the other.

Trained on new kinds of structures, weights lose some of what they knew; their mean with the former ones keeps most of
both (weight-space ensembles, arXiv 2109.01903), at no cost when they answer.
"""

import argparse
from pathlib import Path

import torch

from lib.models.checkpoint import load_model, save_base, save_trained
from lib.models.config import MODEL_SIZES

Pair = tuple[Path, Path]
"""Base and trained part."""


def blend(former: Pair, further: Pair, share: float, made: Pair, *, size: str = "tiny") -> None:
    """Writes the mean of all parameters, in half precision.

    Args:
        former: base and weights that the training began with.
        further: base and weights that it ended with.
        share: of the latter, 0 to 1.
        made: base and weights to write.
        size: of both.

    Raises:
        CheckpointError: a file is absent or wrong.
        ValueError: the share is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share is {share:g}; 0 to 1 is expected.")
    old, old_report = load_model(size=size, base=former[0], weights=former[1])
    new, report = load_model(size=size, base=further[0], weights=further[1])
    with torch.no_grad():
        for parameter, before in zip(new.parameters(), old.parameters(), strict=True):
            # In double precision, so that equal values stay what they are.
            parameter.copy_(torch.lerp(before.double(), parameter.double(), share))
    save_base(new, made[0], dtype=torch.float16)
    blended = {"share": share, "former": {"version": old_report.version, **old_report.provenance}}
    save_trained(new, made[1], provenance={**report.provenance, "blended": blended}, dtype=torch.float16)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(MODEL_SIZES), default="tiny")
    for name, what in (
        ("former", "that a training began with"),
        ("further", "that it ended with"),
        ("out", "to write"),
    ):
        parser.add_argument(f"--{name}", type=Path, nargs=2, required=True, metavar=("BASE", "WEIGHTS"), help=what)
    parser.add_argument("--share", type=float, required=True, help="of the further trained ones, 0 to 1")
    options = parser.parse_args()
    blend(tuple(options.former), tuple(options.further), options.share, tuple(options.out), size=options.size)


if __name__ == "__main__":
    main()
