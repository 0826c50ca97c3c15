"""Train every parameter of a small model from scratch on a folder of labelled volumes.

    python -m lib.learning.pretrain --pool DIR --preset configs/ct.yaml --minutes 60 --out weights/

The pool is what `python -m lib.phantoms.pool` writes. Progress goes to the log and to OUT/<size>_curve.json; a run that
was stopped goes on from OUT/<size>_state.pt. Several processes, which on a CPU get more out of the cores than several
threads, train one model under `torchrun --nproc-per-node N -m lib.learning.pretrain ...`.
"""

import argparse
import copy
import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from monai.losses import DiceCELoss
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lib.learning.initialise import initialise_from_scratch
from lib.learning.sampling import SamplingConfig, Volume, collate, draw_sample, remap_tissue
from lib.models.build import build_model
from lib.models.checkpoint import save_base, save_trained
from lib.models.prompts import Prompts
from lib.models.sam3d import Sam3dAdapter
from lib.presets import Preset, WindowIntensity, load_preset
from lib.transforms.normalise import apply_window

logger = logging.getLogger(__name__)

PEAK_LR = 2e-3
BATCH = 2
SPACINGS_MM = (1.0, 2.0)
WARM_UP_STEPS = 100
EMA_DECAY = 0.995
GRADIENT_NORM = 1.0  # as the published recipe


class RoiStream(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Endless batches of normalised ROIs, truths and clicks, drawn from the volumes of a folder.

    Args:
        pool: Folder of ``*.npz`` with image, labels, affine; files that appear later are found.
        preset: Whose intensities.
        config: How ROIs are drawn.
        seed: Of all draws; each worker process gets its own stream.
    """

    def __init__(self, pool: Path, preset: Preset, config: SamplingConfig, seed: int) -> None:
        if not isinstance(preset.intensity, WindowIntensity):
            raise ValueError(f"Preset '{preset.name}' has no fixed intensity window to train with.")
        self.pool, self.window, self.config, self.seed = pool, preset.intensity, config, seed
        # Kept in memory, 7 MB each: reading them again costs more than the training step.
        self._volumes: dict[Path, Volume] = {}

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, rank(), worker.id if worker else 0])
        torch.set_num_threads(1)
        while True:
            samples = [draw_sample(*self._draw_object(rng), self.config, rng) for _ in range(BATCH)]
            rois, inside, truths, clicks = collate(samples)
            rois = apply_window(rois, inside, self.window)
            for index in range(len(rois)):
                if rng.random() < self.config.remap_share:
                    rois[index] = remap_tissue(rois[index], rng)
            yield torch.where(inside, rois, 0.0), truths, clicks

    def _draw_object(self, rng: np.random.Generator) -> tuple[Volume, int]:
        files = sorted(self.pool.glob("*.npz"))
        path = files[rng.integers(len(files))]
        if path not in self._volumes:
            with np.load(path) as file:
                self._volumes[path] = Volume(file["image"], file["labels"], file["affine"])
        volume = self._volumes[path]
        return volume, int(rng.choice(volume.objects()))


def rank() -> int:
    """Of this process among those that train together; 0 where it trains alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def agreed(value: float) -> float:
    """The first process's value, so that all stop at the same step."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(tensor, 0)
    return float(tensor)


def dice(prediction: Tensor, truth: Tensor) -> float:
    """Dice of two boolean masks, 0 if the prediction is empty."""
    return float(2 * (prediction & truth).sum() / (prediction.sum() + truth.sum()).clamp(min=1))


@torch.no_grad()
def validate(model: Sam3dAdapter, batches: list[tuple[Tensor, Tensor, Tensor]]) -> float:
    """Mean Dice after the first click alone, over fixed ROIs."""
    scores = []
    for rois, truths, clicks in batches:
        logits = model(rois, Prompts(clicks[:, :1]))
        scores += [dice(p, t) for p, t in zip(logits[:, 1:] > logits[:, :1], truths, strict=True)]
    return float(np.mean(scores))


def learning_rate(step: int, progress: float) -> float:
    """Warm up over the first steps, then a cosine over the time that was granted."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1)))
    return PEAK_LR * min(1.0, (step + 1) / WARM_UP_STEPS) * (0.01 + 0.99 * cosine)


def train(
    model: Sam3dAdapter,
    stream: RoiStream,
    validation: list[tuple[Tensor, Tensor, Tensor]],
    *,
    minutes: float,
    out: Path,
    workers: int = 1,
) -> Sam3dAdapter:
    """Train until the time is up; return the moving average of the weights.

    Of several processes each draws its own samples; the first keeps average, curve and state.
    """
    size = model.config.size
    state_path, curve_path = out / f"{size}_state.pt", out / f"{size}_curve.json"
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.01, fused=True)
    loss_function = DiceCELoss(include_background=False, softmax=True, to_onehot_y=True)
    step, spent, curve = 0, 0.0, []
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, curve = state["step"], state["spent_s"], state["curve"]
        logger.info("Going on at step %d after %.1f min.", step, spent / 60)
    stream.seed += step
    batches = iter(DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None))
    losses: list[float] = []
    model.train()
    network = DistributedDataParallel(model, find_unused_parameters=True) if dist.is_initialized() else model
    last, reported = time.monotonic(), spent
    while spent < minutes * 60:
        rois, truths, clicks = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, spent / (minutes * 60))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(rois, Prompts(clicks))
        loss = loss_function(logits.float(), truths.float())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
        optimizer.step()
        step += 1
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        losses.append(loss.item())
        now = time.monotonic()
        spent, last = agreed(spent + now - last), now
        if rank():
            continue
        if spent - reported >= 120 or spent >= minutes * 60:
            reported = spent
            score = validate(average, validation)
            curve.append({"step": step, "minutes": spent / 60, "loss": float(np.mean(losses)), "dice": score})
            logger.info(
                "step %d, %.1f of %.0f min, loss %.4f, Dice %.4f", step, spent / 60, minutes, np.mean(losses), score
            )
            losses.clear()
            curve_path.write_text(json.dumps(curve, indent=1))
            state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | {"step": step, "spent_s": spent, "curve": curve}, state_path)
            last = time.monotonic()
    return average


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="folder of training volumes (*.npz)")
    parser.add_argument("--validation", type=Path, required=True, help="folder of other volumes for the curve")
    parser.add_argument("--preset", type=Path, required=True, help="YAML with intensities, ROI spacing and size")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw samples, for each that trains")
    parser.add_argument("--name", default="phantom", help="of the weights: OUT/<size>_<name>.safetensors")
    parser.add_argument("--licence", default="Apache-2.0", help="of the weights, for their provenance")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if "WORLD_SIZE" in os.environ:  # torchrun
        dist.init_process_group("gloo")
    logging.basicConfig(level=logging.WARNING if rank() else logging.INFO, format="%(asctime)s %(message)s")
    preset = load_preset(arguments.preset)
    model = build_model(preset.model.size)
    initialise_from_scratch(model, torch.Generator().manual_seed(arguments.seed))
    config = SamplingConfig(roi_size=preset.roi.size, spacings_mm=SPACINGS_MM)
    fixed = dataclasses.replace(config, zoom=(1.0, 1.0), rotation_deg=0.0, remap_share=0.0, too_fine_share=0.0)
    held_out = iter(RoiStream(arguments.validation, preset, fixed, seed=0))
    validation = [next(held_out) for _ in range(24)] if rank() == 0 else []
    torch.set_num_threads(arguments.threads)
    stream = RoiStream(arguments.pool, preset, config, arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    average = train(model, stream, validation, minutes=arguments.minutes, out=arguments.out, workers=arguments.workers)
    if rank():
        return
    provenance = {
        "data": f"{len(list(arguments.pool.glob('*.npz')))} volumes of {arguments.pool.name}",
        "licence": arguments.licence,
        "preset": preset.name,
        "seed": arguments.seed,
        "minutes": arguments.minutes,
    }
    export(average, arguments.out, arguments.name, provenance)


def export(model: Sam3dAdapter, out: Path, name: str, provenance: dict[str, object]) -> None:
    """Write base and weights in half precision, with the last point of the curve in the provenance."""
    size = model.config.size
    curve = json.loads((out / f"{size}_curve.json").read_text())
    save_base(model, out / f"{size}_base.safetensors", dtype=torch.float16)
    weights = out / f"{size}_{name}.safetensors"
    save_trained(model, weights, provenance=provenance | {"curve": curve[-1]}, dtype=torch.float16)


if __name__ == "__main__":
    main()
