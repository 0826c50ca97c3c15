"""A DICOMweb server in memory, for MONAI Label's real data store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from monailabel.datastore.dicom import DICOMWebDatastore
from pydicom.dataset import Dataset


class Pacs:
    """What MONAI Label asks of its DICOMweb client, answered from memory, for the real data store in front of it.

    Args:
        instances: of the one series it has.
    """

    base_url = "http://pacs.test/dicom-web"

    def __init__(self, instances: list) -> None:
        self.instances = instances
        self.asked: list[str] = []
        self.stored: list = []
        self.is_silent = False  # about its instances
        self.send: Callable[[list], list] = lambda instances: instances

    def search_for_series(self, search_filters: dict[str, Any] | None = None) -> list[dict]:
        wanted = (search_filters or {}).get("SeriesInstanceUID")
        self.asked.append(wanted or "list")
        first = self.instances[0]
        if wanted not in (None, str(first.SeriesInstanceUID)):
            return []
        found = Dataset()
        for tag in ("SeriesInstanceUID", "StudyInstanceUID", "Modality"):
            setattr(found, tag, first.get(tag))
        return [found.to_json_dict()]

    def search_for_instances(
        self, study: str, series: str | None = None, search_filters: dict[str, Any] | None = None
    ) -> list[dict]:
        self.asked.append("instances")
        if self.is_silent:
            raise requests.ConnectionError("refused")
        wanted = (search_filters or {}).get("SOPInstanceUID")
        instances = [one for one in self.instances if wanted in (None, str(one.SOPInstanceUID))]
        found = [Dataset() for _ in instances]
        for one, instance in zip(found, instances, strict=True):
            one.SOPInstanceUID, one.SeriesInstanceUID = instance.SOPInstanceUID, instance.SeriesInstanceUID
        return [one.to_json_dict() for one in found]

    def store_instances(self, datasets: list) -> Dataset:
        self.stored.extend(datasets)
        answer = Dataset()
        answer.RetrieveURL = f"{self.base_url}/studies/1/series/{datasets[0].SeriesInstanceUID}/instances/1"
        return answer

    def retrieve_series(self, study: str, series: str) -> list:
        self.asked.append("slices")
        return self.send(self.instances)


class PacsWithSegs(Pacs):
    """Which also gives back what was stored."""

    def __init__(self, instances: list) -> None:
        super().__init__(instances)
        self.is_out_of_reach = False

    def search_for_series(self, search_filters: dict[str, Any] | None = None) -> list[dict]:
        wanted = (search_filters or {}).get("SeriesInstanceUID")
        if segs := [seg for seg in self.stored if seg.SeriesInstanceUID == wanted]:
            return [without_frames(segs[0]).to_json_dict()]
        if (search_filters or {}).get("Modality") != "SEG":
            (found,) = super().search_for_series(search_filters)
            listed = Dataset.from_json(found)
            listed.PatientID = "MRN 7"
            return [listed.to_json_dict()]
        if self.is_out_of_reach:
            raise requests.ConnectionError("refused")
        return [without_frames(seg).to_json_dict() for seg in self.stored]

    def retrieve_series_metadata(self, study: str, series: str) -> list[dict]:
        return [without_frames(seg).to_json_dict() for seg in self.stored if seg.SeriesInstanceUID == series]

    def retrieve_series(self, study: str, series: str) -> list:
        found = [seg for seg in self.stored if seg.SeriesInstanceUID == series]
        return found or super().retrieve_series(study, series)


def without_frames(seg: Dataset) -> Dataset:
    """As a PACS describes it."""
    found = Dataset()
    for element in seg:
        if element.keyword != "PixelData":
            found.add(element)
    return found


def open_store(pacs: Pacs, folder: Path) -> DICOMWebDatastore:
    """The data store; its cache lies in ``folder``."""
    store = DICOMWebDatastore(pacs, search_filter={"Modality": "CT"}, cache_path=str(folder / "cache"))
    store._observer.stop()  # watches the folder, which the test takes away
    return store
