"""The files of a preset from the authors' checkpoint and SAM's own file."""

from pathlib import Path

from lib.conversion.convert import Conversion, Target, convert_base, convert_checkpoint
from lib.conversion.job import ConversionJob
from lib.conversion.sam_files import obtain_sam_file
from lib.models.checkpoint_error import CheckpointError


def convert(job: ConversionJob) -> Conversion:
    """As `Family.convert`."""
    known = job.known_sam_files
    if job.size not in known:
        raise CheckpointError(
            f"Preset '{job.preset}' uses model size '{job.size}', for which there is no SAM file. Expected a preset of "
            f"size {', '.join(known)}; choose another, or write one (configs/)."
        )

    def sam_file() -> Path:
        return obtain_sam_file(
            known[job.size], given=job.sam, offline=job.offline, patience=job.patience, progress=job.progress
        )

    target = Target(job.preset, job.size, job.files["base"], job.files["weights"])
    if job.checkpoint is None:
        return convert_base(target, sam_file)
    return convert_checkpoint(job.checkpoint, target, sam_file, replace=job.replace)
