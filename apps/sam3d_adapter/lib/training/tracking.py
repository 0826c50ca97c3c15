"""Sends the training curve to TensorBoard or MLflow."""

from pathlib import Path
from typing import Any, Protocol

from lib.training.state import Point


class Tracker(Protocol):
    """Receives the points of a training curve."""

    def point(self, values: Point) -> None:
        """One point, at its `step`."""

    def close(self) -> None:
        """Ends the curve."""


class NoTracker:
    """Ignores everything."""

    def point(self, values: Point) -> None:
        """See `Tracker`."""

    def close(self) -> None:
        """See `Tracker`."""


class TensorBoardTracker:
    """Writes event files.

    Args:
        folder: for ``tensorboard --logdir``.
    """

    def __init__(self, folder: Path) -> None:
        # Imported here: it takes seconds, and most trainings are not tracked.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def point(self, values: Point) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(values["step"]))
        self._writer.flush()

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class MlflowTracker:
    """Writes runs into an SQLite file; MLflow 3 refuses plain folders.

    Args:
        file: of the data base, for ``mlflow ui --backend-store-uri sqlite:///FILE``.
        experiment: name under which runs are listed.
        run: name of this one.
    """

    def __init__(self, file: Path, experiment: str, run: str) -> None:
        import mlflow

        client: Any = mlflow.MlflowClient(tracking_uri=f"sqlite:///{file.resolve()}")
        found = client.get_experiment_by_name(experiment)
        artifacts = (file.parent / "mlflow").resolve().as_uri()
        number = found.experiment_id if found else client.create_experiment(experiment, artifact_location=artifacts)
        self._client, self._run = client, client.create_run(number, run_name=run).info.run_id

    def point(self, values: Point) -> None:
        """See `Tracker`."""
        for name, value in values.items():
            if name != "step":
                self._client.log_metric(self._run, name, value, step=int(values["step"]))

    def close(self) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._run)


def open_tracker(kind: str, folder: Path, experiment: str, run: str) -> Tracker:
    """The tracker of a kind: ``none``, ``tensorboard`` or ``mlflow``.

    Args:
        kind: of tracker.
        folder: of its files.
        experiment: of MLflow.
        run: name of this training.
    """
    if kind == "tensorboard":
        return TensorBoardTracker(folder / "tensorboard" / run)
    if kind == "mlflow":
        folder.mkdir(parents=True, exist_ok=True)
        return MlflowTracker(folder / "mlflow.db", experiment, run)
    return NoTracker()
