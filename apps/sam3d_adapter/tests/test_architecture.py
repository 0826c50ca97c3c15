"""The direction of imports: a file may import from its own layer and the ones below, never upward."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[1]
LIB = APP / "lib"

# Layer of each part of lib; main.py stands above them all.
LAYERS = {
    "version": 0,
    "models": 0,
    "interaction": 0,
    "phantoms": 0,
    "families": 1,
    "presets": 1,
    "registry": 1,
    "transforms": 1,
    "inference": 1,
    "conversion": 1,
    "audit": 1,
    "evaluation": 1,
    "learning": 1,
    "infers": 2,
    "trainers": 2,
    "activelearning": 2,
    "host": 2,
    "configs": 3,
}
MAIN_MAY_IMPORT = {"configs", "host", "version"}

# Third-party packages a part may import at all; parts that are not named are bound by the two rules below only.
ALLOWED = {
    "version": set(),
    "models": {"torch", "numpy", "safetensors", "segment_anything"},
    "interaction": {"torch", "numpy"},
    "phantoms": {"numpy", "scipy", "nibabel"},
    "presets": {"yaml"},
    "registry": {"safetensors", "yaml"},
    "families": {"torch", "safetensors", "monai"},
    "inference": {"torch", "numpy"},
    "conversion": {"torch", "safetensors"},
    "audit": {"torch", "numpy"},
    "evaluation": {"torch", "numpy", "scipy", "monai", "nibabel", "matplotlib", "tqdm"},
}
LOWEST_LAYER_WITH = {"monai": 1, "monailabel": 2, "fastapi": 2}

STANDARD = set(__import__("sys").stdlib_module_names)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def part_of(path: Path) -> str:
    """First path component below lib, without suffix."""
    return path.relative_to(LIB).parts[0].removesuffix(".py")


def violations(part: str, names: list[tuple[int, str]]) -> list[str]:
    """What is wrong with the imports of a file that belongs to ``part`` of lib."""
    found = []
    for line, name in names:
        top, _, rest = name.partition(".")
        if name.startswith("."):
            found.append(f"{line}: relative import {name}")
        elif top == "lib":
            other = rest.split(".")[0]
            if other not in LAYERS:
                found.append(f"{line}: {name} belongs to no known part")
            elif LAYERS[other] > LAYERS[part]:
                found.append(f"{line}: {part} (layer {LAYERS[part]}) imports {name} (layer {LAYERS[other]})")
            elif LAYERS[part] == 0 and other != part:
                found.append(f"{line}: {part} and {other} are independent parts of layer 0")
        elif top in STANDARD:
            continue
        elif top in ("tests", "demo", "main"):
            found.append(f"{line}: lib imports {name}")
        elif LAYERS[part] < LOWEST_LAYER_WITH.get(top, 0):
            found.append(f"{line}: {top} below layer {LOWEST_LAYER_WITH[top]}")
        elif top not in ALLOWED.get(part, {top}):
            found.append(f"{line}: {part} may import {sorted(ALLOWED[part])}, not {top}")
    return found


FILES = sorted(path for path in LIB.rglob("*.py") if path != LIB / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIB)))
def test_imports_point_downward(path: Path) -> None:
    assert part_of(path) in LAYERS, f"add {part_of(path)} to LAYERS"
    assert violations(part_of(path), list(imports(path))) == []


def test_main_is_wiring_only() -> None:
    own = {name.split(".")[1] for _, name in imports(APP / "main.py") if name.startswith("lib.")}
    assert own <= MAIN_MAY_IMPORT


def test_main_holds_exactly_one_class_and_its_direct_base_is_the_hosts() -> None:
    classes = [n for n in ast.parse((APP / "main.py").read_text()).body if isinstance(n, ast.ClassDef)]
    assert len(classes) == 1
    assert "MONAILabelApp" in [base.id for base in classes[0].bases if isinstance(base, ast.Name)]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("models", "monai.networks"),
        ("models", "lib.interaction.click"),
        ("interaction", "lib.transforms.resample"),
        ("transforms", "lib.infers.options"),
        ("inference", "monailabel.interfaces.app"),
        ("transforms", "fastapi"),
        ("infers", "lib.configs.conf"),
        ("audit", "lib.infers.options"),
        ("host", ".sibling"),
        ("presets", "torch"),
        ("evaluation", "lib.infers.click_segmentation"),
        ("infers", "tests.support"),
    ],
)
def test_the_rules_catch(part: str, name: str) -> None:
    assert violations(part, [(1, name)])


def test_files_stay_readable() -> None:
    long = {str(path.relative_to(LIB)): n for path in FILES if (n := len(path.read_text().splitlines())) > 300}
    assert long == {}
