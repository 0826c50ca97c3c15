"""The page says which version answers, whatever is missing."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lib.learning.progress import TrainingProgress
from lib.learning.versions_page import PageEntry, Scores, render_page, write_page

NAN = float("nan")


def scores(dice: float, n: int = 12) -> Scores:
    def at(value: float) -> dict[str, dict[str, float | None]]:
        return {
            str(k): {"mean": value + 0.01 * k, "low": value - 0.04, "high": value + 0.01 * k + 0.04}
            for k in (1, 3, 5, 10)
        }

    return Scores(at(dice), at(dice - 0.1), n)


def full(number: int, state: str = "replaced", *, published: bool = True) -> PageEntry:
    return PageEntry(
        id=f"2026-11-{number:02}",
        parent="shipped",
        created=datetime(2026, 11, 1, 9, 30, tzinfo=UTC),
        state=state,
        scores={"candidate": scores(0.6 + number / 200), "served": scores(0.6), "best": scores(0.61)},
        published=published,
        reasons=("Not published; the served model stays.", "Its Dice is 0.010 lower.")
        if not published
        else ("Published.",),
        curve=[{"step": 10 * s, "minutes": s / 2, "loss": 1 / (s + 1), "dice": 0.5 + s / 40} for s in range(10)],
        real={"clicks": 4.5, "seconds": 38, "cases": 7},
        simulated={"clicks": 3.1, "seconds": 4},
        training_cases=20 + number,
    )


class Tags(HTMLParser):
    """Opened and closed tags, and where they lead."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br", "html", "p"):
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("html", "p"):
            assert self.open.pop() == tag


def read(text: str) -> tuple[str, list[str]]:
    """Its words, and the start of its pictures."""
    parser = Tags()
    parser.feed(text)
    assert parser.open == [] and all(source.startswith("data:image/png;base64,iVBOR") for source in parser.sources)
    bare = re.sub(r'src="[^"]*"', "", text)
    assert not re.search(r"https?://|\bnan\b|\binf\b|None", bare), bare
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", bare, flags=re.DOTALL)), parser.sources


def test_what_a_reader_wants_to_know() -> None:
    words, pictures = read(render_page("ct", [full(1), full(2, "served"), full(3, "refused", published=False)]))
    assert "2026-11-02 answers now . Made 2026-11-01 09:30 from shipped on 22 cases." in words
    assert "Dice 0.62 [0.57, 0.66] after one click, 0.66 [0.57, 0.70] after five (12 patients)" in words
    assert "The newest, 2026-11-03, was refused. Not published; the served model stays." in words
    assert "4.5, 38 s 7 cases" in words and "3.1, 4 s" in words and len(pictures) == 4


EMPTY = Scores({"1": {"mean": NAN, "low": None, "high": NAN}}, {}, None)
ODD = {
    "none": [],
    "bare": [PageEntry("shipped")],
    "served, no metrics": [PageEntry("a", state="served")],
    "one": [full(1, "served")],
    "no interval": [PageEntry("a", scores={"candidate": Scores({"1": {"mean": 0.5}}, {}, 1)}, state="served")],
    "not a number": [
        PageEntry(
            "a", scores={"candidate": EMPTY}, curve=[{"step": 1, "loss": NAN}, {"loss": 3.0}, {}], real={"clicks": NAN}
        )
    ],
    "one point": [PageEntry("a", curve=[{"epoch": 1, "loss": 0.0}])],
    "mixed": [
        PageEntry("a", created="yesterday", published=None, reasons=("x",)),
        full(2),
        PageEntry("c", published=False),
    ],
}


@pytest.mark.parametrize("versions", ODD.values(), ids=ODD)
def test_whatever_is_missing(versions: list[PageEntry]) -> None:
    words, _ = read(render_page("ct", versions))
    assert "answer" in words


def test_forty_versions() -> None:
    versions = [full(n, "served" if n == 39 else "replaced") for n in range(40)]
    text = render_page("ct", versions)
    words, pictures = read(text)
    assert all(version.id in words for version in versions) and len(pictures) == 13 and len(text) < 2_000_000


def test_texts_are_no_code() -> None:
    evil = "<script>alert(1)</script>$x^$'\""
    version = PageEntry(
        evil,
        parent=evil,
        created=evil,
        state=evil,
        reasons=(evil,),
        scores={"candidate": scores(0.5), evil: scores(0.5)},
    )
    text = render_page(evil, [version])
    assert "<script" not in text and "&lt;script&gt;" in text


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "versions.html"
    write_page(path, "ct", [full(1, "served")])
    before = path.read_text()
    assert before.startswith("<!doctype html>")
    with pytest.raises(AttributeError):
        write_page(path, "ct", [object()])  # type: ignore[list-item]
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


def test_what_the_newest_training_left_out_is_on_the_page() -> None:
    training = TrainingProgress(
        skipped=("The label of <b>x</b> is left out: it is empty.",),
        notes=("The label of y: 'cyst' is left out: ct does not learn it.",),
        cases={"train": 4, "validation": 2},
    )
    for versions in ([], [full(1)]):
        text = render_page("ct", versions, training)
        assert "The label of &lt;b&gt;x&lt;/b&gt; is left out: it is empty." in text
        assert "How others were read: 1" in text and "4 were trained on, 2 validated on" in text
    assert "newest training" not in render_page("ct", [], TrainingProgress())
