"""The tables of `benchmarks.peers`."""

from collections.abc import Mapping
from typing import Any

from lib.evaluation.report import BLIND_NAMES
from lib.evaluation.statistics import Interval

_DIFFERENCES = {
    "dsc_auc_normalised": "mean Dice, clicks 1 to 5",
    "nsd_auc_normalised": "mean NSD 2 mm, clicks 1 to 5",
    "dice_1": "Dice at 1",
    "dice_last": "Dice at 10",
}
_COLUMNS = (
    "data, patients",
    "first click",
    "network",
    *(f"Dice at {clicks}" for clicks in (1, 3, 5, 10)),
    *(f"NSD 2 mm at {clicks}" for clicks in (1, 5)),
    "DSC_AUC of 4",
    "clicks to 0.85",
    "never there",
    "drops",
    "obeyed by the network",
    "first / next click s",
)


def peers_table(result: Mapping[str, Any]) -> str:
    """Markdown: what was trained, how good each is, and the differences of the first from the others.

    Args:
        result: What OUT/peers.json holds.
    """
    networks = result["networks"]
    lines = ["| network | parameters trained | minutes of one core | steps | peak learning rate | loss at the end |"]
    lines.append("|---" * 6 + "|")
    for own in networks.values():
        lines.append(
            f"| {own['title']} | {own['trained_parameters']:,} | {own['cpu_minutes']:.1f} | {own['steps']:,} "
            f"| {own['peak_lr']:g} | {own['loss']:.2f} |"
        )
    lines += ["", "| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    first = next(iter(networks.values()))
    for data, summary in first["data"].items():
        for mode in (summary["mode"], *summary["modes"]):
            for own in networks.values():
                lines.append(_row(data, mode, own["title"], _of_mode(own["data"][data], mode)))
            for name, blind in (_of_mode(summary, mode)["blind"] or {}).items():
                cells = [_interval(blind["dice_at"][clicks]) for clicks in ("1", "3", "5", "10")]
                cells += [""] * (len(_COLUMNS) - 3 - len(cells))
                lines.append(f"| {data}, {summary['n']} | {mode} | {BLIND_NAMES[name]} | {' | '.join(cells)} |")
    lines += ["", f"{first['title']} minus another, on the same patients:", ""]
    lines += ["| data | first click | minus | " + " | ".join(_DIFFERENCES.values()) + " | patients better |"]
    lines.append("|---" * (4 + len(_DIFFERENCES)) + "|")
    for name, data_of in result["differences"].items():
        for data, modes in data_of.items():
            for mode, found in modes.items():
                cells = [_signed(found["differences"][key]) for key in _DIFFERENCES]
                better = round(found["differences"]["dsc_auc_normalised"]["share_better"] * found["n"])
                title = networks[name]["title"]
                lines.append(f"| {data} | {mode} | {title} | {' | '.join(cells)} | {better} of {found['n']} |")
    return "\n".join(lines) + "\n"


def _row(data: str, mode: str, title: str, figures: Mapping[str, Any]) -> str:
    cells = [_interval(figures["dice_at"][clicks]) for clicks in ("1", "3", "5", "10")]
    cells += [_interval(figures["nsd2_at"][clicks]) for clicks in ("1", "5")]
    cells.append(_interval(figures["dsc_auc"]))
    cells.append(f"{figures['noc85']['mean']:.1f}")
    cells += [f"{figures[key]['mean']:.2f}" for key in ("failure85", "drop_rate", "obeyed_before")]
    seconds = (figures[key]["p50"] for key in ("first_click_s", "next_click_s"))
    cells.append(" / ".join("-" if s is None else f"{s:.2f}" for s in seconds))
    return f"| {data}, {figures['n']} | {mode} | {title} | {' | '.join(cells)} |"


def _of_mode(summary: Mapping[str, Any], mode: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = summary if summary["mode"] == mode else summary["modes"][mode]
    return found


def _interval(value: Interval) -> str:
    if value["low"] is None:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} ({value['low']:.2f}-{value['high']:.2f})"


def _signed(value: Interval) -> str:
    if value["low"] is None:
        return f"{value['mean']:+.3f}"
    return f"{value['mean']:+.3f} ({value['low']:+.3f} to {value['high']:+.3f})"
