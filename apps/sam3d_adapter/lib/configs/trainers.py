"""The train tasks of the app: one for each preset whose network can be fine-tuned."""

import gc
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.datastore import Datastore

from lib.audit.log import AuditLog
from lib.host.workflow import Workflow
from lib.learning.rehearsal import Rehearsal
from lib.presets import Preset
from lib.registry.registry import Registry
from lib.segmenters import families
from lib.trainers.train_task import FineTuneTask, TrainingRunningError
from lib.workflow.reviews import SUBMITTED

logger = logging.getLogger(__name__)


def make_trainers(
    presets: Mapping[str, Preset],
    app_dir: Path,
    registry: Registry,
    audit_log: AuditLog,
    *,
    precision: str = "auto",
    patient_pattern: str | None = None,
    workflow: Workflow | None = None,
    train_on: str = SUBMITTED,
) -> dict[str, FineTuneTask]:
    """By the names of their presets; building them reads no file.

    Args:
        presets: that are served.
        app_dir: the app folder.
        registry: of versions.
        audit_log: of the server's answers.
        precision: one of `lib.models.precision.PRECISIONS`.
        patient_pattern: see `lib.annotations.patients.PatientBook`.
        workflow: has the review decisions on labels.
        train_on: see `FineTuneTask`.
    """

    def rehearsal(preset: Preset) -> Rehearsal:
        return Rehearsal(registry.learning_dir / "replay", preset)

    trained = {name: preset for name, preset in presets.items() if families()[preset.model.family].training_recipe()}
    return {
        name: FineTuneTask(
            preset,
            app_dir,
            registry,
            audit_log,
            rehearsal,
            trainers=tuple(trained),
            presets=presets,
            precision=precision,
            patient_pattern=patient_pattern,
            workflow=workflow,
            train_on=train_on,
        )
        for name, preset in trained.items()
    }


def train_all(trainers: Mapping[str, FineTuneTask], request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
    """Trains, one after the other, the presets whose labels have changed since their last training.

    One that fails does not keep the others from it.

    Args:
        trainers: by preset.
        request: settings for all, and by preset an object of its own.
        datastore: of the app.

    Returns:
        By preset what its training returned; those without weights, or that another process trains, are not in it.

    Raises:
        RuntimeError: a training failed, and which.
    """
    shared = {key: value for key, value in request.items() if key not in trainers}
    done, failed = {}, []
    for name, trainer in trainers.items():
        if trainer.missing_weights():
            logger.info("Preset %s has no weights to begin with, and is passed over.", name)
            continue
        try:
            done[name] = trainer({**shared, **request.get(name, {})}, datastore, needs_new_labels=True)
        except TrainingRunningError as error:
            logger.info("%s", error)
        # Broad: whatever is wrong with one preset, the others can be trained.
        except Exception:
            logger.exception("The training of preset %s failed.", name)
            failed.append(name)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if failed:
        raise RuntimeError(f"The training of {', '.join(failed)} failed; the lines above say why.")
    return done
