"""What a run leaves beside its records: ``summary.json``, ``summary.md`` and the curve of Dice over clicks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files are wanted, on machines without display too

import matplotlib.pyplot as plt

from lib.evaluation.ledger import write_json
from lib.evaluation.record import Record
from lib.evaluation.statistics import Interval
from lib.evaluation.summary import CLICKS_SHOWN, mean_curve, over_patients, pick

IMAGE_FREE_NAMES = {
    "ball": "image-free: ball around each click",
    "centred_ellipsoid": "image-free: ellipsoid in the image's middle",
    "ellipsoid_in_box": "image-free: ellipsoid in the truth's box",
    "filled_box": "image-free: the truth's box, filled",
}
_FIGURES = (
    ("DSC_AUC (0 to 4)", "dsc_auc"),
    ("NSD_AUC (0 to 4)", "nsd_auc"),
    ("DSC_AUC / 4", "dsc_auc_normalised"),
    ("NSD_AUC / 4", "nsd_auc_normalised"),
    ("area under Dice, all clicks (0 to 1)", "dsc_auc_all_clicks"),
    ("area under NSD, all clicks (0 to 1)", "nsd_auc_all_clicks"),
    ("clicks to Dice 0.80 (10 if never)", "noc80"),
    ("never reached 0.80", "failure80"),
    ("clicks to Dice 0.85 (10 if never)", "noc85"),
    ("never reached 0.85", "failure85"),
    ("clicks to Dice 0.90 (10 if never)", "noc90"),
    ("never reached 0.90", "failure90"),
    ("further clicks after which Dice fell", "drop_rate"),
    ("... by more than 0.01", "large_drop_rate"),
    ("changed by a further click farther than 30 mm from it", "far_change"),
    ("further clicks that changed more than 1 % there", "far_change_rate"),
    ("clicks obeyed, last answer", "obeyed"),
    ("... by the network alone", "obeyed_before"),
    ("clicks that slipped onto the other label", "on_other_label"),
)
_COLOURS = {"centre": "#0b6e99", "random": "#c8553d", "jitter": "#5b8c5a"}


def write_report(folder: Path, summary: Mapping[str, Any], records: Sequence[Record]) -> None:
    """Writes the three files.

    Args:
        folder: of the run.
        summary: of ``lib.evaluation.summary``, with ``notes`` and ``protocol``.
        records: that it was made of.
    """
    write_json(folder / "summary.json", summary)
    (folder / "summary.md").write_text(markdown(summary), encoding="utf-8")
    draw_curves(folder / "dice_per_click.png", records)


def markdown(summary: Mapping[str, Any]) -> str:
    """The figures as tables."""
    modes = {summary["mode"]: summary, **summary["modes"]}
    model = summary["protocol"]["model"]
    version = f", version {model['version']}" if model.get("version") else ""
    lines = [f"# Evaluation of {model['id']}{version}", ""]
    lines += [f"{summary['n']} patients, {summary['cases']} cases. Mean over patients [95 % interval].", ""]
    lines += _score_table(modes)
    lines += ["", "| metric | " + " | ".join(modes) + " |", "|---" * (len(modes) + 1) + "|"]
    for title, key in _FIGURES:
        cells = [_cell(figures[key]) if key in figures else "" for figures in modes.values()]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", *_times(summary, modes), ""]
    for name, figures in summary.get("datasets", {}).items():
        at = ", ".join(f"{clicks}: {_cell(value)}" for clicks, value in figures["dice_at"].items())
        lines.append(f"- {name} ({figures['n']} patients), Dice at clicks {at}")
    lines += [f"- {note}" for note in summary["notes"]]
    lines += ["", "## Protocol", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {_plain(value)} |" for key, value in summary["protocol"].items()]
    return "\n".join(lines) + "\n"


def draw_curves(path: Path, records: Sequence[Record]) -> None:
    """Mean Dice after each click, by mode, with the image-free baselines."""
    figure, axes = plt.subplots(figsize=(8, 5.2))
    for mode in dict.fromkeys(record["mode"] for record in records):
        own = [record for record in records if record["mode"] == mode]
        if len(own[0]["dice"]) == 1:
            continue
        colour = _COLOURS.get(mode, "#333333")
        curve = mean_curve(own, pick("dice"))
        steps = range(1, len(curve) + 1)
        means = [point["mean"] for point in curve]
        axes.plot(steps, means, marker="o", color=colour, label=f"model, {mode}")
        if curve[0]["low"] is not None:
            low, high = ([point[end] for point in curve] for end in ("low", "high"))
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        if all("blind" in record for record in own):
            ball = mean_curve(own, pick("blind", "ball"))
            axes.plot(steps, [p["mean"] for p in ball], linestyle="--", color=colour, label=f"image-free ball, {mode}")
    _draw_flat(axes, records)
    axes.set(xlabel="clicks", ylabel="Dice, mean over patients", ylim=(0, 1), xticks=range(1, 11))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_flat(axes: Any, records: Sequence[Record]) -> None:
    if not all("blind" in record for record in records):
        return
    for name, style in (("centred_ellipsoid", ":"), ("ellipsoid_in_box", "-.")):
        level = over_patients(records, pick("blind", name))["mean"]
        axes.axhline(level, linestyle=style, color="#777777", linewidth=1.2, label=IMAGE_FREE_NAMES[name])


def _score_table(modes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["| mode | method | score | 1 click | 3 clicks | 5 clicks | 10 clicks |", "|---" * 7 + "|"]
    for mode, figures in modes.items():
        rows = [("model", title, figures[key]) for title, key in
                (("Dice", "dice_at"), ("NSD 2 mm", "nsd2_at"), ("NSD 5 mm", "nsd5_at"))]  # fmt: skip
        rows += [(IMAGE_FREE_NAMES[name], "Dice", own["dice_at"]) for name, own in (figures["blind"] or {}).items()]
        for method, title, scores in rows:
            cells = [_cell(scores[str(clicks)]) if str(clicks) in scores else "" for clicks in CLICKS_SHOWN]
            lines.append(f"| {mode} | {method} | {title} | " + " | ".join(cells) + " |")
    return lines


def _times(summary: Mapping[str, Any], modes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["| mode | time | median | 95th percentile | n |", "|---|---|---|---|---|"]
    for mode, figures in modes.items():
        for stage, times in figures["latency_ms"].items():
            cells = " | ".join("" if times[key] is None else f"{times[key]:.0f} ms" for key in ("p50", "p95"))
            lines.append(f"| {mode} | {stage.replace('_', ' ')} | {cells} | {times['n']} |")
    peaks = ", ".join(f"{name.replace('_', ' ')} {peak:.0f} MiB" for name, peak in summary["peak_memory_mib"].items())
    passes = [
        f"{mode}, {kind} click {count['mean']:.1f} (at most {count['most']})"
        for mode, figures in modes.items()
        for kind, count in (figures.get("encodes") or {}).items()
    ]
    lines += ["", f"Image encoder passes: {'; '.join(passes) or 'unknown'}."]
    return [*lines, "", f"Peak memory of a process: {peaks or 'unknown'}."]


def _cell(value: Interval) -> str:
    if value["mean"] is None:
        return ""
    if value["low"] is None:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)
