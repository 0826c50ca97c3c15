"""MONAI Label app that serves 3DSAM-adapter: click on a structure in OHIF, 3D Slicer or MITK, get its 3-D mask.

Wiring only: what is built lies in ``lib.configs``, what MONAI Label needs patched in ``lib.host``.
"""

from functools import partial
from pathlib import Path
from typing import Any

from monailabel.interfaces.app import MONAILabelApp

from lib.configs.task_config import Sam3dAdapterConfig
from lib.configs.trainers import train_all
from lib.host.batch_inference import BatchInference
from lib.host.case_endpoints import add_case_endpoints
from lib.host.itk_setup import silence_readers, warm_up_writer
from lib.host.label_maps import admit_label_maps
from lib.host.log.form import log_and_reraise, use_logfmt
from lib.host.log.privacy import remove_values_from_log
from lib.host.not_served import listed_not_served, report_not_served
from lib.host.pacs.lists import modalities_for, with_fresh_lists
from lib.host.pacs.recorded_labels import with_recorded_labels
from lib.host.pacs.same_slices import SERIES_HASH_KEY
from lib.host.pacs.time_limits import with_time_limits
from lib.host.pacs.whole_index import use_whole_index
from lib.host.patches.bundle_path import own_bundle_path
from lib.host.patches.endpoints import patch_endpoints
from lib.host.patches.image_access import admit_image
from lib.host.patches.infer_endpoint import without_timeout
from lib.host.patches.save_label import read_save_label, require_safe_tag, save_mask
from lib.host.patches.train_stats import with_safe_stats
from lib.host.patches.unknown_names import require_model
from lib.host.patches.web_app import patch_web_app
from lib.host.process.ending import end_in_time, end_with_server
from lib.host.proposal import admit_saved_label
from lib.host.requester import current_user, remember_users
from lib.host.segmentation_endpoints import add_segmentation_endpoints
from lib.host.studies_datastore import open_studies
from lib.host.uploads.temporary_files import use_private_temp_folder
from lib.host.version_endpoints import add_version_endpoints
from lib.host.viewer_info import for_viewers
from lib.version import __version__

DESCRIPTION = (
    "Click-to-segment in 3-D with 3DSAM-adapter (SAM adapted to volumes). Research use only; not a medical device."
)


class Sam3dAdapterApp(MONAILabelApp):
    """The app that ``monailabel start_server`` finds: the one class here with MONAILabelApp as its direct base."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str] | None) -> None:
        end_with_server()
        remove_values_from_log()
        use_logfmt()
        # Before the base class, whose constructor calls the init_* methods. Its ValueErrors speak of settings.
        with log_and_reraise(ValueError):
            self._config = Sam3dAdapterConfig(Path(app_dir), conf or {})
        self.auditor, self.workflow = self._config.auditor, self._config.workflow
        with log_and_reraise():
            super().__init__(
                app_dir=app_dir,
                studies=studies,
                conf=conf or {},
                name="3DSAM-adapter",
                description=DESCRIPTION,
                version=__version__,
            )
        # The strategy asks for scores when there is something to score, and not at every sample.
        self._auto_update_scoring = False
        patch_endpoints(self._config.viewer)
        add_case_endpoints(self.workflow)
        add_segmentation_endpoints()
        add_version_endpoints(self._infers, Path(app_dir))

    def init_datastore(self) -> Any:
        if (folder := open_studies(self.studies, self._label_changed)) is not None:
            return folder
        use_whole_index()
        datastore = with_time_limits(super().init_datastore())
        presets = self._config.presets.values()
        structures = [label for preset in presets for label in preset.labels]
        listed = with_fresh_lists(datastore, modalities_for(presets), structures)
        return with_recorded_labels(listed, self._label_changed, partial(self.workflow.note_sent, listed))

    def init_infers(self) -> dict[str, Any]:
        return {**self._config.infers(), **self._config.proposals()}

    def init_strategies(self) -> dict[str, Any]:
        return self._config.strategies()

    def init_scoring_methods(self) -> dict[str, Any]:
        return dict(self._config.scoring_methods())

    def init_trainers(self) -> dict[str, Any]:
        return with_safe_stats(self._config.trainers())

    def init_batch_infer(self) -> BatchInference:
        return BatchInference(self._config.registry.learning_dir / "batch.json")

    def info(self) -> dict[str, Any]:
        return for_viewers(super().info()) | listed_not_served(self.datastore())

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        require_model(request.get("model"), self._infers)
        require_safe_tag(request.get("label_tag"))
        is_to_be_saved = read_save_label(request.get("save_label"))
        store = datastore or self.datastore()
        admitted = admit_image(without_timeout(request) | {"save_label": False}, store, self.sessions())
        admitted |= admit_label_maps(request, store)
        admitted |= admit_saved_label(request, store, self.workflow)
        answer = super().infer(admitted, datastore)
        answer["params"][SERIES_HASH_KEY] = admitted.get(SERIES_HASH_KEY)
        # Before the mask is saved, so that the saved label names the record of how it came about.
        answer = self.auditor.record(request["image"], answer, current_user())
        return save_mask(answer, admitted, store) if is_to_be_saved else answer

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("model"):
            return dict(super().train(request))
        return train_all(self._trainers, request, self.datastore())

    def on_init_complete(self) -> None:
        super().on_init_complete()
        end_in_time()
        self._config.prepare_versions()
        use_private_temp_folder()
        remember_users()
        silence_readers()
        report_not_served(self.datastore())
        patch_web_app(self._config.max_upload_bytes)
        warm_up_writer()
        self._config.start_scoring()
        self._config.count_labelled(self.datastore())

    def _label_changed(self, change: Any) -> None:
        self.auditor.record_label(change)
        self._config.count_label(change)

    def bundle_path(self, model: str) -> str:
        return own_bundle_path(self.app_dir)
