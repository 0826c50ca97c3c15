"""The tables of `benchmarks.peers`."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.dialogues import MODES, baseline_rows, figures_row, of_mode
from benchmarks.results import Row, interval

TABLES = ("peers_trainings", "peers", "peers_differences")
_TIMES = ("first click s", "further click s")
_DIFFERENCES = {
    "mean Dice, clicks 1 to 5": "dsc_auc_normalised",
    "mean NSD 2 mm, clicks 1 to 5": "nsd_auc_normalised",
    "Dice at 1": "dice_1",
    "Dice at 10": "dice_last",
}


def peers_tables(result: Mapping[str, Any]) -> dict[str, list[Row]]:
    """What was trained, how good each network is, and the differences of the first from the others.

    Args:
        result: What OUT/peers.json holds.

    Returns:
        Rows by the names of `TABLES`.
    """
    return dict(zip(TABLES, map(list, (_trainings(result), _scores(result), _differences(result))), strict=True))


def _trainings(result: Mapping[str, Any]) -> Iterator[Row]:
    for own in result["networks"].values():
        yield {
            "network": own["title"],
            "trained parameters": own["trained_parameters"],
            "CPU minutes of one core": round(own["cpu_minutes"], 1),
            "steps": own["steps"],
            "peak learning rate": f"{own['peak_lr']:g}",
            "loss at the end": round(own["loss"], 2),
        }


def _scores(result: Mapping[str, Any]) -> Iterator[Row]:
    networks = result["networks"].values()
    first = next(iter(networks))
    for data, summary in first["data"].items():
        for mode in MODES:
            place = {"data": data, "first click": mode}
            for own in networks:
                row = figures_row(of_mode(own["data"][data], mode))
                yield {**place, "network": own["title"], **{key: v for key, v in row.items() if key not in _TIMES}}
            for row in baseline_rows(place, of_mode(summary, mode)):
                yield {("network" if key == "method" else key): value for key, value in row.items()}


def _differences(result: Mapping[str, Any]) -> Iterator[Row]:
    for name, data_of in result["differences"].items():
        for data, modes in data_of.items():
            for mode, found in modes.items():
                yield {
                    "data": data,
                    "first click": mode,
                    "minus": result["networks"][name]["title"],
                    **{title: interval(found["differences"][key]) for title, key in _DIFFERENCES.items()},
                    "patients better": round(found["differences"]["dsc_auc_normalised"]["share_better"] * found["n"]),
                }
