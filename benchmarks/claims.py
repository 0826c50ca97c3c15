"""Write BENCHMARKS.md, and the tables of docs/experiments/, from the result files.

python -m benchmarks.claims [--check]

A claim names a number of a result file. A page of docs/experiments/ shows a result file where it says
``<!-- result: NAME -->``, or some columns of it: ``<!-- result: NAME: COLUMN; COLUMN -->``.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.results import FOLDER, ROOT, Result, Row, bounds, load, markdown, text

PAGE = ROOT / "BENCHMARKS.md"
EXPERIMENTS = ROOT / "docs" / "experiments"
INDEX = EXPERIMENTS / "README.md"
CLICKS = ("Dice at 1", "Dice at 5", "Dice at 10")
MARKED = re.compile(r"(<!-- result: (\w+)(?:: ([^>]+?))? -->\n).*?(<!-- end -->)", re.DOTALL)


class Number(NamedTuple):
    """One number of a result file.

    Attributes:
        result: Name of the file.
        column: Which of the row's values.
        where: What the row says in other columns; one row alone says so.
    """

    result: str
    column: str
    where: Mapping[str, str | float]

    @property
    def row(self) -> Row:
        """The row; a claim about none, or about several, is an error."""
        rows = [row for row in load(self.result).rows if all(row.get(key) == v for key, v in self.where.items())]
        if len(rows) != 1:
            raise ValueError(f"{self.result}.json has {len(rows)} rows with {dict(self.where)}; expected 1.")
        return rows[0]

    def cells(self) -> tuple[str, str]:
        """The number, and its interval if it has one."""
        values = [row.get(self.column) for row in load(self.result).rows]
        value = self.row[self.column]
        return text(value, values), bounds(value, values)


class Quality(NamedTuple):
    """A row of the table of Dice after 1, 5 and 10 clicks.

    Attributes:
        what: What was clicked on, and the preset.
        first: Where the first click lies.
        result: Name of the file.
        where: The row of the model.
        peer: The row of what stands beside it.
        beside: Name of what stands beside it.
    """

    what: str
    first: str
    result: str
    where: Mapping[str, str | float]
    peer: Mapping[str, str | float]
    beside: str = "balls at the clicks"


class Claim(NamedTuple):
    """A row of the other tables.

    Attributes:
        text: What the number says, with its unit.
        number: Where it stands.
        beside: What stands beside it; empty for nothing.
        peer: The number of that.
        n: Of how many, where it is not what the result file says.
    """

    text: str
    number: Number
    beside: str = ""
    peer: Number | None = None
    n: str = ""


def _sarcomas(preset: str, data: str, first: str) -> Quality:
    own = {"data": data, "first click": first}
    place = {"centre": "in the middle", "random": "anywhere"}[first]
    return Quality(
        f"sarcomas, `{preset}`",
        place,
        "held_out_sarcomas",
        {**own, "method": "sam3d_adapter"},
        {**own, "method": "ball"},
    )


QUALITY = (
    *(_sarcomas(data.lower(), data, first) for data in ("CT", "MR", "PET") for first in ("centre", "random")),
    Quality(
        "hippocampus, `mr`: an organ never trained on",
        "in the middle",
        "held_out_hippocampus",
        {"first click": "centre", "method": "sam3d_adapter"},
        {"first click": "centre", "method": "ball"},
    ),
    Quality(
        "phantom lesions of 8 to 80 mm, `ct_lesion`",
        "in the middle",
        "phantoms_ten_clicks",
        {"method": "ct_lesion"},
        {"method": "ball"},
    ),
)
_VIT = {"size": "ViT-B", "type": "bf16"}
_CHEAP, _PLAIN = {**_VIT, "form": "cheap"}, {**_VIT, "form": "plain"}
_AFTER, _SHIPPED = {"version": "after the round"}, {"version": "shipped"}
_ANATOMY = {"data": "organs in CT", "first click": "centre", "structures": "all"}
_CLICK = {"data": "CT", "first click": "centre", "method": "sam3d_adapter"}
CLAIMS = {
    "Beside simpler methods": (
        Claim(
            "Dice after one click in the middle of a phantom lesion, `ct_lesion`",
            Number("phantoms_ct_lesion", "Dice", {"first click": "centre", "method": "sam3d_adapter"}),
            "region growing, tuned",
            Number("phantoms_ct_lesion", "Dice", {"first click": "centre", "method": "region growing"}),
        ),
        Claim(
            "Dice after one click anywhere in a phantom lesion, `ct_lesion`",
            Number("phantoms_ct_lesion", "Dice", {"first click": "random", "method": "sam3d_adapter"}),
            "region growing, tuned",
            Number("phantoms_ct_lesion", "Dice", {"first click": "random", "method": "region growing"}),
        ),
        Claim(
            "**Not better**: Dice of our network minus that of a ViT without adapters, both trained for 20 minutes",
            Number(
                "peers_differences",
                "mean Dice, clicks 1 to 5",
                {"data": "all", "first click": "centre", "minus": "ViT without adapters"},
            ),
        ),
        Claim(
            "**Not better**: Dice after one click in the middle of a sarcoma in CT",
            Number("held_out_sarcomas", "Dice at 1", _CLICK),
            "ellipsoid in the image's middle",
            Number("held_out_sarcomas", "Dice at 1", {"data": "CT", "method": "ellipsoid in the image's middle"}),
        ),
        Claim(
            "**What it does not know**: Dice after one click in the middle of an organ, bone, muscle or vessel in CT",
            Number("unseen_structures", "Dice at 1", _ANATOMY),
            "after ten clicks",
            Number("unseen_structures", "Dice at 10", _ANATOMY),
            n="2 CTs, 91 structures",
        ),
    ),
    "Time and memory": (
        Claim(
            "Seconds of a first click, preset `ct`, sarcomas, one thread, median",
            Number("held_out_sarcomas", "first click s", _CLICK),
        ),
        Claim(
            "Seconds of a further click",
            Number("held_out_sarcomas", "further click s", _CLICK),
        ),
        Claim(
            "Milliseconds to a first mask of a ball of 300 mm in 512 x 512 x 300 voxels, from the file on",
            Number("object_sizes", "total ms", {"diameter mm": 300}),
            n="1 request",
        ),
        Claim(
            "Seconds of a first request, ViT-B, bf16",
            Number("formulations", "first request s", _CHEAP),
            "plain implementation",
            Number("formulations", "first request s", _PLAIN),
            n="1 run",
        ),
        Claim(
            "Seconds of a further request, ViT-B, bf16",
            Number("formulations", "further request s", _CHEAP),
            "plain implementation",
            Number("formulations", "further request s", _PLAIN),
            n="1 run",
        ),
        Claim(
            "MiB at the peak, ViT-B, fp32",
            Number("formulations", "peak MiB", {**_CHEAP, "type": "fp32"}),
            "plain implementation",
            Number("formulations", "peak MiB", {**_PLAIN, "type": "fp32"}),
            n="1 run",
        ),
    ),
    "Learning from submitted labels": (
        Claim(
            "Dice after one click on hippocampi, after 20 labels were submitted",
            Number("learning_loop", "Dice at 1", {"data": "hippocampus", "first click": "centre", **_AFTER}),
            "before",
            Number("learning_loop", "Dice at 1", {"data": "hippocampus", "first click": "centre", **_SHIPPED}),
            n="12 patients",
        ),
        Claim(
            "The same after five clicks; the aim is 0.85",
            Number("learning_loop", "Dice at 5", {"data": "hippocampus", "first click": "centre", **_AFTER}),
            "before",
            Number("learning_loop", "Dice at 5", {"data": "hippocampus", "first click": "centre", **_SHIPPED}),
            n="12 patients",
        ),
        Claim(
            "**What it forgets**: Dice after one click on sarcomas in MR, after that round",
            Number("learning_loop", "Dice at 1", {"data": "sarcomas", "first click": "centre", **_AFTER}),
            "before",
            Number("learning_loop", "Dice at 1", {"data": "sarcomas", "first click": "centre", **_SHIPPED}),
            n="9 patients",
        ),
        Claim(
            "Per cent of candidates published that are truly worse by 0.01, with 8 validation patients",
            Number("gate_rates", "-0.01", {"patients": 8, "spread": 1, "rule": "the gate"}),
        ),
        Claim(
            "**The price**: per cent of candidates published that are truly better by 0.02",
            Number("gate_rates", "+0.02", {"patients": 8, "spread": 1, "rule": "the gate"}),
            "with 32 patients",
            Number("gate_rates", "+0.02", {"patients": 32, "spread": 1, "rule": "the gate"}),
        ),
    ),
    "Correctness": (
        Claim(
            "Relative difference from the outputs of the authors' code, at most; ViT-B, fp32",
            Number("parity", "relative difference, at most", {}),
            n="all outputs",
        ),
        Claim(
            "Share of the voxels farther than 30 mm from a further click that it changes, first click in the middle",
            Number("held_out_sarcomas", "far change", _CLICK),
        ),
    ),
}
HEAD = """# Benchmarks

How good the shipped weights are, how fast they answer, and what they cannot do. `python -m benchmarks.claims` writes
this page from [benchmarks/results](benchmarks/results). Every number has a command, a commit and a page.

- A simulated user who knows the truth clicks ten times and corrects the largest error
  ([docs/evaluation.md](docs/evaluation.md)).
- The weights never saw these patients. Some inference settings were tuned on the nine sarcoma patients, so their Dice
  after one click is optimistic by 0.01 to 0.05. Phantoms are synthetic CTs.
- "Balls at the clicks" sees no image: it paints a ball at each click of the same simulated user.
- Intervals are 95 % bootstrap intervals over patients. Where none stands, none was recorded.
- Machines: 2 shared CPU cores, no GPU. Compare times within one table only.

## Dice after 1, 5 and 10 clicks

"""
PICTURE = """![First clicks on volumes that the weights never saw](docs/images/first_clicks.png)

Masks after one click on organs in CT and sarcomas in MR that the weights never saw: of all structures of at least 1 ml,
those at 10, 50 and 90 % by Dice (`python -m benchmarks.first_clicks`)."""


def numbers() -> list[Number]:
    """All that the page claims."""
    found = [Number(q.result, column, where) for q in QUALITY for where in (q.where, q.peer) for column in CLICKS]
    for claims in CLAIMS.values():
        found += [number for claim in claims for number in (claim.number, claim.peer) if number is not None]
    return found


def claims_page() -> str:
    """BENCHMARKS.md."""
    order = list(dict.fromkeys(number.result for number in numbers()))
    pages = pages_of_results()
    head = [
        name for column in CLICKS for name in (column.removeprefix("Dice at ").join(("after ", "")), "95 % interval")
    ]
    lines = [_line("clicked on", "first click", "method", *head, "n", "command", "commit"), "|---" * 12 + "|"]
    for quality in QUALITY:
        source = load(quality.result)
        told = (source.n, _link(order, quality.result), source.commit)
        for where, names in (
            (quality.where, (quality.what, quality.first, "sam3d_adapter")),
            (quality.peer, ("", "", quality.beside)),
        ):
            cells = [cell for column in CLICKS for cell in Number(quality.result, column, where).cells()]
            lines.append(_line(*names, *cells, *(told if names[0] else ("", "", ""))))
    lines += ["", PICTURE]
    for title, claims in CLAIMS.items():
        lines += ["", f"## {title}", ""]
        lines += [_line("claim", "number", "95 % interval", "beside it", "its number", "n", "command", "commit")]
        lines += ["|---" * 8 + "|"]
        for claim in claims:
            source = load(claim.number.result)
            beside = (claim.beside, claim.peer.cells()[0]) if claim.peer else ("", "")
            told = (claim.n or source.n, _link(order, claim.number.result), source.commit)
            lines.append(_line(claim.text, *claim.number.cells(), *beside, *told))
    lines += [
        "",
        "## Commands",
        "",
        "Capitals stand for folders of yours. The commit is the one that was measured; of older figures, the one that "
        "recorded them.",
        "",
    ]
    for number, name in enumerate(order, start=1):
        source = load(name)
        title = _title(pages[name])
        lines.append(
            f"{number}. `{source.command}`: [{title}]({pages[name].relative_to(ROOT)}) "
            f"{source.date}, {source.hardware}."
        )
    lines += ["", "All other tables, and what was tried and not taken: [docs/experiments](docs/experiments/README.md)."]
    return HEAD + "\n".join(lines) + "\n"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _link(order: list[str], result: str) -> str:
    return f"[{order.index(result) + 1}](#commands)"


def experiment(page: str) -> str:
    """A page of docs/experiments/ with its tables as the result files give them, and where each file comes from."""
    last = {match.group(2): match.start() for match in MARKED.finditer(page)}

    def filled(match: re.Match[str]) -> str:
        begin, name, columns, end = match.groups()
        source = load(name)
        table = markdown(source.rows, [column.strip() for column in columns.split(";")] if columns else ())
        origin = f"{told(source)}\n\n" if match.start() == last[name] else ""
        return f"{begin}\n{table}\n\n{origin}{end}"

    return MARKED.sub(filled, page)


def told(source: Result) -> str:
    """Where a table comes from."""
    facts = f"{source.n}; commit {source.commit}, {source.date}; {source.hardware}."
    return f"`{source.command}`\n({facts}{' ' + source.note if source.note else ''})"


def pages() -> list[Path]:
    """Of docs/experiments/, without the index."""
    return [path for path in sorted(EXPERIMENTS.glob("*.md")) if path != INDEX]


def pages_of_results() -> dict[str, Path]:
    """The page that shows each result file."""
    return {name: path for path in pages() for _, name, _, _ in MARKED.findall(path.read_text(encoding="utf-8"))}


def index() -> str:
    """docs/experiments/README.md: a line for each page, its question and its finding."""
    lines = [
        "# Experiments",
        "",
        "One page a question: the finding, the table, the command, and what follows. `python -m benchmarks.claims`",
        "writes the tables and this list from [benchmarks/results](../../benchmarks/results). Trials without a command",
        "are told in words; their figures stand in BENCHMARKS.md of commit d0f3234.",
        "",
        "| question | finding |",
        "|---|---|",
    ]
    return "\n".join([*lines, *(_line(f"[{_title(path)}]({path.name})", _finding(path)) for path in pages())]) + "\n"


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


def _finding(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split("\n\n")[1].split())


def written() -> dict[Path, str]:
    """All that this command writes."""
    texts = {path: experiment(path.read_text(encoding="utf-8")) for path in pages()}
    return {**texts, INDEX: index(), PAGE: claims_page()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is not up to date")
    arguments = parser.parse_args()
    stale = [path for path, content in written().items() if not path.exists() or path.read_text("utf-8") != content]
    if arguments.check:
        sys.exit("".join(f"{path.relative_to(ROOT)} is not what the result files say.\n" for path in stale) or None)
    for path in stale:
        path.write_text(written()[path], encoding="utf-8")
        print(path.relative_to(ROOT))
    unused = {path.stem for path in FOLDER.glob("*.json")} - set(pages_of_results())
    if unused:
        print(f"On no page: {', '.join(sorted(unused))}", file=sys.stderr)


if __name__ == "__main__":
    main()
