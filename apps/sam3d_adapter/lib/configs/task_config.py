"""Puts the app's tasks together from the presets and the server's settings."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.activelearning.least_recently_served import LeastRecentlyServed
from lib.audit.log import AuditLog
from lib.configs.conf import parse_conf
from lib.host.random_strategy import RandomStrategy
from lib.inference.embedding_cache import EmbeddingCache
from lib.inference.model_store import ModelStore
from lib.infers.audited import Auditor
from lib.infers.click_segmentation import ClickSegmentation, SharedState
from lib.presets import load_presets
from lib.transforms.load_volume import VolumeCache

logger = logging.getLogger(__name__)


class Sam3dAdapterConfig:
    """The tasks of one app; cheap to build, since every background task of MONAI Label builds the app again.

    Args:
        app_dir: the app folder, with ``configs/`` and the weights.
        conf: ``--conf`` pairs.

    Attributes:
        presets: by name.
        max_upload_bytes: most bytes of a request's body.

    Raises:
        ConfError: an unknown or impossible setting.
        PresetError: an unknown preset, or one that cannot be used.
    """

    def __init__(self, app_dir: Path, conf: Mapping[str, str]) -> None:
        settings = parse_conf(conf)
        self._app_dir = app_dir
        self.max_upload_bytes = settings.max_upload_bytes
        self.presets = load_presets(app_dir / "configs", settings.models)
        self._shared = SharedState(
            models=ModelStore(),
            embeddings=EmbeddingCache(settings.embedding_cache_bytes),
            volumes=VolumeCache(settings.volume_cache_bytes),
            precision=settings.precision,
        )
        self.audit_log = AuditLog(app_dir / settings.audit_dir, settings.audit_bytes)
        self.auditor = Auditor(self.audit_log, self.presets)

    def infers(self) -> dict[str, ClickSegmentation]:
        """One infer task per preset, under the preset's name."""
        return {name: ClickSegmentation(preset, self._app_dir, self._shared) for name, preset in self.presets.items()}

    def strategies(self) -> dict[str, Any]:
        """What Next Sample may ask for; OHIF asks for ``random``, whatever is chosen there."""
        in_turn = LeastRecentlyServed(self._app_dir / "model" / "next_sample.json")
        return {"random": in_turn, "least_recently_served": in_turn, "shuffled": RandomStrategy()}
