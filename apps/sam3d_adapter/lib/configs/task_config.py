"""Puts the app's tasks together from the presets and the server's settings."""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.scoring import ScoringMethod

from lib.activelearning.background import PREDICTED_DICE, score_beside_server
from lib.activelearning.coverage import Coverage
from lib.activelearning.drawn import Drawn
from lib.activelearning.foreground import Foreground
from lib.activelearning.least_recently_served import LeastRecentlyServed
from lib.activelearning.predicted_error import PredictedError
from lib.activelearning.proposing import Proposing
from lib.activelearning.scoring import CaseScoring
from lib.audit.auditor import Auditor
from lib.audit.log import AuditLog
from lib.configs.settings import parse_conf
from lib.configs.trainers import make_trainers
from lib.host.workflow import Workflow
from lib.infers.click_segmentation import ClickSegmentation
from lib.infers.proposal import PROPOSAL, Proposal
from lib.presets import load_presets
from lib.registry.errors import RegistryError
from lib.registry.registry import Registry
from lib.registry.versions import Versions
from lib.segmenters.cache import SegmenterCache
from lib.serving.model_store import ModelStore
from lib.serving.predicted_dice import MIN_PATIENTS
from lib.serving.preset_segmenter import PresetSegmenter, SharedState
from lib.studies.label_changes import LabelChange
from lib.studies.presence import StudiesError
from lib.trainers.calibration import CalibrationScoring
from lib.trainers.train_task import FineTuneTask
from lib.volumes.read import VolumeCache
from lib.workflow.scores import BY_SCORE

logger = logging.getLogger(__name__)

CALIBRATED_EVERY = 5
"""Submitted labels after which the server learns anew what answers are worth, and where new structures lie."""


class Sam3dAdapterConfig:
    """The tasks of one app; cheap to build, since every background task of MONAI Label builds the app again.

    Args:
        app_dir: the app folder, with ``configs/`` and the weights.
        conf: ``--conf`` pairs.

    Attributes:
        presets: by name.
        max_upload_bytes: most bytes of a request's body.
        registry: the versions of their weights.
        workflow: review decisions on labels, marks and leases of cases.
        viewer: folder of a built OHIF that is served in place of MONAI Label's; None for that one.

    Raises:
        ConfError: an unknown or impossible setting.
        PresetError: an unknown preset, or one that cannot be used.
    """

    def __init__(self, app_dir: Path, conf: Mapping[str, str]) -> None:
        settings = parse_conf(conf)
        self._app_dir = app_dir
        self.max_upload_bytes = settings.max_upload_bytes
        self.viewer = settings.ohif
        self.presets = load_presets(app_dir / "configs", settings.models)
        self._shared = SharedState(
            models=ModelStore(),
            cache=SegmenterCache(settings.embedding_cache_bytes),
            volumes=VolumeCache(settings.volume_cache_bytes),
            precision=settings.precision,
        )
        self.audit_log = AuditLog(app_dir / settings.audit_dir, settings.audit_bytes)
        self.registry = Registry(app_dir / settings.learning_dir)
        self._settings = settings
        self.workflow = Workflow(
            self.registry.learning_dir,
            may_review_own=settings.own_review,
            lock_s=60.0 * settings.next_sample_lock_min,
        )
        self.auditor = Auditor(self.audit_log, self.presets)
        self._labelled = 0

    def infers(self) -> dict[str, ClickSegmentation]:
        """One infer task per preset, under the preset's name; none where labels are only reviewed."""
        if self._settings.review_only:
            return {}
        labels = self._labels()
        return {
            name: ClickSegmentation(segmenter, self._app_dir, labels) for name, segmenter in self._segmenters().items()
        }

    def proposals(self) -> dict[str, Proposal]:
        """The infer task that shows what is saved, for viewers that ask without prompts; none as for `infers`."""
        if self._settings.review_only or PROPOSAL in self.presets:
            return {}
        return {PROPOSAL: Proposal(self._labels(), self._app_dir)}

    def _labels(self) -> list[str]:
        """Of all presets, each once."""
        return list(dict.fromkeys(label for preset in self.presets.values() for label in preset.labels))

    def trainers(self) -> dict[str, FineTuneTask]:
        """One train task per preset that can be fine-tuned, under the preset's name; none as for `infers`."""
        settings = self._settings
        if settings.review_only:
            return {}
        return make_trainers(
            self.presets,
            self._app_dir,
            self.registry,
            self.audit_log,
            precision=settings.precision,
            patient_pattern=settings.patient_pattern,
            workflow=self.workflow,
            train_on=settings.train_on,
        )

    def versions(self, name: str) -> Versions:
        """The versions of a preset's weights."""
        preset = self.presets[name]
        return self.registry.of(name, preset.model.size, preset.model.family)

    def prepare_versions(self) -> None:
        """Sweeps away what killed processes left and takes over what an earlier release kept; at the server's start.

        Whatever is wrong with the versions of a preset, the server starts, and its tasks say what.
        """
        for name in self.presets:
            try:
                self.versions(name).prepare()
            except (RegistryError, OSError) as error:
                logger.error("The versions of preset %s: %s", name, error)

    def strategies(self) -> dict[str, Any]:
        """What Next Sample may ask for; OHIF asks for ``random``, whatever is chosen there."""
        segmenter = next(iter(self._segmenters().values()), None)
        share = self._settings.random_share
        queue, drawn = LeastRecentlyServed(self.workflow), Drawn(self.workflow)
        by_score = {
            strategy.name: strategy(self.workflow, segmenter, self.start_scoring, random_share=share)
            for strategy in (Coverage, Foreground, PredictedError)
        }
        chosen = {"queue": queue, "random": drawn, **by_score}[self._settings.strategy]
        return {"random": chosen, "least_recently_served": queue, "shuffled": drawn, **by_score}

    def scoring_methods(self) -> dict[str, ScoringMethod]:
        """What works out scores of images, where cases are chosen by scores, and what answers are worth; none as for
        `infers`.
        """
        if self._settings.review_only or not self.presets:
            return {}
        methods: dict[str, ScoringMethod] = {PREDICTED_DICE: CalibrationScoring(self.trainers())}
        strategy = self._settings.strategy
        if strategy in BY_SCORE:
            features, clicks = strategy != Foreground.name, strategy != Coverage.name
            methods[strategy] = CaseScoring(self._segmenters(), self.workflow, features=features, clicks=clicks)
        return methods

    def proposing(self, preset: str) -> Proposing:
        """What proposes masks of a preset."""
        return Proposing(self._segmenters()[preset], self.workflow)

    def start_scoring(self) -> bool:
        """Begins to score images beside the server, if cases are chosen by scores; whether it did."""
        strategy = self._settings.strategy
        return strategy in self.scoring_methods() and score_beside_server(strategy)

    def count_labelled(self, datastore: Datastore) -> None:
        """Begins to learn beside the server what answers are worth, if enough cases are labelled; at its start."""
        # Of a PACS, those that were labelled through this server: the PACS is not asked.
        if isinstance(datastore, LocalDatastore):
            with contextlib.suppress(StudiesError):
                self._labelled = len(LocalDatastore.get_labeled_images(datastore))
        self._start_calibrating()

    def count_label(self, change: LabelChange) -> None:
        """The same after every so many submitted labels."""
        if (change.action, change.tag) == ("submit", DefaultLabelTag.FINAL.value):
            self._labelled += 1
            if self._labelled % CALIBRATED_EVERY == 0:
                self._start_calibrating()
                self.start_scoring()

    def _start_calibrating(self) -> None:
        if self._labelled >= MIN_PATIENTS and PREDICTED_DICE in self.scoring_methods():
            score_beside_server(PREDICTED_DICE)

    def _segmenters(self) -> dict[str, PresetSegmenter]:
        """By the name of their preset."""
        return {
            name: PresetSegmenter(preset, self._app_dir, self._shared, self.versions(name))
            for name, preset in self.presets.items()
        }
