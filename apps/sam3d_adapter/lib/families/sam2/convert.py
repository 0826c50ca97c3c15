"""The file of a preset from a published checkpoint of SAM 2.1 or MedSAM2."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lib.conversion.convert import Conversion, KeyReport, require_free, require_writable, writing
from lib.conversion.job import ConversionJob
from lib.families.sam2.network import build_network, save_network
from lib.families.sam2.sizes import SIZES
from lib.files.checksums import file_sha256
from lib.models.checkpoint_error import CheckpointError
from lib.models.safetensors_file import check_tensors
from lib.models.torch_file import read_torch_file
from lib.version import __version__


def convert(job: ConversionJob) -> Conversion:
    """As `Family.convert`. The file is never unpickled blindly, and every tensor must be there with its shape."""
    published = SIZES[job.size].published
    if not published:
        raise CheckpointError(
            f"Nobody publishes weights of size '{job.size}'. Train preset '{job.preset}', or choose another."
        )
    names = ", ".join(one.file for one in published)
    if job.checkpoint is None:
        raise CheckpointError(f"Preset '{job.preset}' has no base of its own. Give --checkpoint: {names}.")
    weights = job.files["weights"]
    require_free(weights, job.replace)
    content = read_torch_file(job.checkpoint)
    tensors = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(
            f"{job.checkpoint}: expected the tensors under 'model', as {names} has them. Use that file."
        )
    model = build_network(job.size)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    check_tensors(tensors, shapes, job.checkpoint, size=job.size)
    require_writable(weights)
    with torch.no_grad():
        model.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=True)
    provenance = {
        "source": next((one.url for one in published if one.file == job.checkpoint.name), "unknown"),
        "file": job.checkpoint.name,
        "sha256": file_sha256(job.checkpoint),
        "licence": published[0].licence,
        "preset": job.preset,
        "converted_by": f"sam3d_adapter {__version__}",
    }
    with writing(weights):
        save_network(model, weights, job.size, provenance)
    keys = KeyReport(job.checkpoint.name, {name: f"{name}, weights" for name in sorted(tensors)})
    conversion = Conversion(job.preset, {"weights": weights}, {}, (keys,), provenance)
    report = weights.with_suffix(".conversion.json")
    with writing(report):
        conversion.write(report)
    return conversion
