"""The train tasks of the app: one for each preset whose network can be fine-tuned."""

from collections.abc import Mapping
from pathlib import Path

from lib.audit.log import AuditLog
from lib.host.workflow import Workflow
from lib.learning.rehearsal import Rehearsal
from lib.presets import Preset
from lib.registry.registry import Registry
from lib.segmenters import families
from lib.trainers.train_task import FineTuneTask
from lib.workflow.reviews import SUBMITTED


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
