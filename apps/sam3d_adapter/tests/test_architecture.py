"""The direction of imports: packages and files form one order, without circles."""

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[1]
LIB = APP / "lib"

# Each package may import those before it. A dotted entry is a sub-package that stands apart from its parent.
ORDER = (
    "version", "answer_warnings", "files", "workers", "studies", "workflow", "prompts", "geometry", "volumes", "models",
    "conversion", "segmenters", "segmenters.roi", "presets", "values", "phantoms", "synthesis", "regions", "registry",
    "serving",
    "requests", "audit", "evaluation", "training", "pretraining", "annotations", "label_sets", "learning", "families",
    "infers",
    "host", "trainers", "activelearning", "configs", "cli",
)  # fmt: skip
MAIN_MAY_IMPORT = {"configs", "host", "version"}

# Third-party packages that a package may import; the others are bound by the rule below only.
ALLOWED = {
    "version": set(),
    "answer_warnings": set(),
    "files": {"filelock"},
    "workers": {"ray"},
    "studies": set(),
    "workflow": set(),
    "prompts": {"numpy"},
    "geometry": {"torch", "numpy", "scipy"},
    "models": {"torch", "numpy", "safetensors", "segment_anything"},
    "phantoms": {"numpy", "scipy", "nibabel"},
    "regions": {"numpy", "scipy", "skimage"},
    "synthesis": {"numpy", "scipy", "skimage", "nibabel"},
    "registry": {"safetensors", "yaml"},
}
FIRST_WITH = {"monai": "volumes", "monailabel": "infers", "fastapi": "infers"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def package_of(dotted: str) -> str:
    """The entry of `ORDER` that a name below lib belongs to."""
    parts = dotted.split(".")
    two = ".".join(parts[:2])
    return two if two in ORDER else parts[0]


def problems(package: str, names: list[tuple[int, str]]) -> list[str]:
    """What is wrong with the imports of a file of a package."""
    found = []
    for line, name in names:
        top, _, rest = name.partition(".")
        if name.startswith("."):
            found.append(f"{line}: relative import {name}")
        elif top == "lib":
            other = package_of(rest)
            if other not in ORDER:
                found.append(f"{line}: {other} is missing from ORDER")
            elif ORDER.index(other) > ORDER.index(package):
                found.append(f"{line}: {package} imports {name}, which comes later")
        elif top in ("tests", "demo", "benchmarks", "main", "sam3d"):
            found.append(f"{line}: lib imports {name}")
        elif top in sys.stdlib_module_names:
            continue
        elif top in FIRST_WITH and ORDER.index(package) < ORDER.index(FIRST_WITH[top]):
            found.append(f"{line}: {package} imports {top}, which only {FIRST_WITH[top]} and later packages may")
        elif top not in ALLOWED.get(package, {top}):
            found.append(f"{line}: {package} may import {sorted(ALLOWED[package])}, not {top}")
    return found


FILES = sorted(path for path in LIB.rglob("*.py") if path != LIB / "__init__.py")


def module_of(path: Path) -> str:
    """Dotted name below lib."""
    parts = path.relative_to(LIB).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_packages_import_only_those_before_them() -> None:
    found = {}
    for path in FILES:
        package = package_of(module_of(path))
        found[module_of(path)] = problems(package, list(imports(path)))
    assert {name: what for name, what in found.items() if what} == {}


def test_files_form_no_circles() -> None:
    modules = {module_of(path): path for path in FILES}
    graph = {}
    for name, path in modules.items():
        named = {imported.removeprefix("lib.") for _, imported in imports(path) if imported.startswith("lib.")}
        graph[name] = {one if one in modules else one.rpartition(".")[0] for one in named} - {name}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_main_is_wiring_only() -> None:
    own = {name.split(".")[1] for _, name in imports(APP / "main.py") if name.startswith("lib.")}
    assert own <= MAIN_MAY_IMPORT


def test_main_holds_exactly_one_class_and_its_direct_base_is_the_hosts() -> None:
    classes = [n for n in ast.parse((APP / "main.py").read_text()).body if isinstance(n, ast.ClassDef)]
    assert len(classes) == 1
    assert "MONAILabelApp" in [base.id for base in classes[0].bases if isinstance(base, ast.Name)]


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("models", "monai.networks"),
        ("models", "lib.segmenters.cache"),
        ("geometry", "lib.volumes.volume"),
        ("serving", "monailabel.interfaces.app"),
        ("volumes", "fastapi.HTTPException"),
        ("infers", "lib.configs.settings"),
        ("host", ".sibling"),
        ("presets", "lib.unheard_of.thing"),
        ("infers", "tests.support"),
    ],
)
def test_the_rules_catch(package: str, name: str) -> None:
    assert problems(package, [(1, name)])
