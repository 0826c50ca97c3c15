"""docs/notebook.ipynb runs from its first cell to its last, and keeps no outputs that could become stale."""

import ast
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.support.program import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(cell: str, names: dict[str, Any]) -> Any:
    """The value of the last expression, which a notebook shows."""
    *body, last = ast.parse(cell).body
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    exec(compile(ast.Module([last], []), "cell", "exec"), names)
    return None


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((REPOSITORY / "docs/notebook.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown = [value for cell in cells if (value := run("".join(cell["source"]), names)) is not None]
    assert shown == [names["mask"]] and shown[0]._repr_png_().startswith(b"\x89PNG")
    for found in ("mask", "corrected", "boxed", "continued", "same"):
        assert names["dice"](names[found].array > 0) > 0.8, found
    np.testing.assert_array_equal(names["same"].array, names["mask"].array)
    assert "undo gives the first mask: True" in capsys.readouterr().out
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj), names["corrected"].array)
