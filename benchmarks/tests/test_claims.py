"""BENCHMARKS.md and docs/experiments are what the result files say, and every claim can be measured again."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import claims
from benchmarks.claims import CLAIMS, EXPERIMENTS, INDEX, MARKED, PAGE, Number, numbers, pages, written
from benchmarks.results import FOLDER, ROOT, Result, load, markdown, save

RESULTS = sorted(path.stem for path in FOLDER.glob("*.json"))


def test_the_pages_are_what_the_command_writes() -> None:
    stale = [str(path.relative_to(ROOT)) for path, text in written().items() if path.read_text("utf-8") != text]
    assert not stale, "run: python -m benchmarks.claims"


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_says_what_it_was_measured_with(name: str) -> None:
    result = load(name)
    assert re.fullmatch(r"[0-9a-f]{7,40}\+?", result.commit), result.commit
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", result.date)
    assert result.command and result.hardware and result.n and result.rows
    assert not re.search(r"(^|[\s=])/", result.command), "a path of somebody's machine"
    for part in result.command.split(" && "):
        missing = list(_missing(shlex.split(part)))
        assert not missing, f"{name}.json: {part}"


def _missing(words: list[str]) -> Iterator[str]:
    """What a command names and the repository does not have."""
    while words and re.fullmatch(r"[A-Z_0-9]+=\S+", words[0]):  # of the environment
        words = words[1:]
    if words[0] == "cd":
        yield from [] if (ROOT / words[1]).is_dir() else [words[1]]
        return
    if words[0] == "make":
        targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        yield from [] if words[1] in targets else [words[1]]
        return
    assert words[0] == "python", words
    if words[1] == "-m":
        yield from [] if importlib.util.find_spec(words[2]) else [words[2]]
    for word in words[1:]:
        # Folders and weights of the reader are written in capitals or lie beside the command.
        if word.endswith((".py", ".txt")) and not (ROOT / word).is_file():
            yield word


def test_every_claim_is_about_one_number_that_stands_on_a_page() -> None:
    shown = claims.pages_of_results()
    for number in numbers():
        assert number.cells()[0], number
        assert number.result in shown
    assert set(shown) == set(RESULTS), "every result file is on a page, and no page names another"


def test_each_page_begins_with_its_question_and_finding() -> None:
    for path in pages():
        title, finding, *_ = path.read_text("utf-8").split("\n\n")
        assert title.startswith("# ") and title.endswith("?"), path.name
        assert finding.endswith(".") and not finding.startswith(("|", "<", "#", "```")), path.name


def test_links_lead_somewhere() -> None:
    for path in (PAGE, INDEX, *pages()):
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_no_other_page_names_a_section_of_benchmarks() -> None:
    sources = (path for kind in ("py", "yaml", "md") for path in (ROOT / "apps" / "sam3d_adapter").rglob(f"*.{kind}"))
    for path in (ROOT / "README.md", ROOT / "MODEL_CARD.md", *(ROOT / "docs").rglob("*.md"), *sources):
        assert not re.search(r"BENCHMARKS\.md\)?, sections? \d", path.read_text("utf-8")), path.name


def test_a_claim_about_no_row_or_several_is_refused() -> None:
    some = CLAIMS["Time and memory"][0].number
    for where in ({"data": "nowhere"}, {"data": "CT"}):
        with pytest.raises(ValueError, match="rows with"):
            Number(some.result, some.column, where).cells()


def test_a_table_has_one_number_a_cell_and_the_decimals_of_its_column() -> None:
    rows = [
        {"method": "a", "Dice": [0.8, 0.75, 0.9], "ms": 1200, "difference": [-0.05, -0.1, 0.02]},
        {"method": "b", "Dice": 0.775, "difference": 0.01},
    ]
    assert markdown(rows).splitlines() == [
        "| method | Dice | 95 % interval | ms | difference | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a | 0.800 | 0.75-0.90 | 1,200 | -0.05 | -0.10 to +0.02 |",
        "| b | 0.775 |  |  | +0.01 |  |",
    ]
    assert markdown(rows, ["method", "ms"]).splitlines()[2:] == ["| a | 1,200 |"]


def test_a_new_measurement_changes_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RESULTS:
        (tmp_path / f"{name}.json").write_bytes((FOLDER / f"{name}.json").read_bytes())
    old = load("parity")
    monkeypatch.setattr("benchmarks.results.FOLDER", tmp_path)
    fresh: Result = old._replace(commit="0123456", rows=[{**old.rows[0], "relative difference, at most": 0.25}])
    save(tmp_path / "parity.json", fresh)
    assert load("parity") == fresh
    after = written()
    assert "| 0.25 |" in after[PAGE] and "0123456" in after[PAGE]
    assert "0123456" in after[EXPERIMENTS / "parity.md"]
    unchanged = EXPERIMENTS / "peers.md"
    assert after[unchanged] == unchanged.read_text("utf-8") and MARKED.search(after[unchanged])
