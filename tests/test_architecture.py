"""The house rules that a machine can check: who imports whom, how light an import is, how long code is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "src" / "wildbox"
SOURCES = sorted(PACKAGE.rglob("*.py"))
CODE = [
    *SOURCES,
    *sorted((REPOSITORY / "tests").rglob("*.py")),
    *sorted((REPOSITORY / "benchmarks").rglob("*.py")),
]

FLOORS = (
    ("errors",),
    ("loop_cache",),
    ("boxes", "columns", "threads", "vocabulary"),
    ("annotations",),
    ("detections",),
    ("formats",),
    ("splits",),
    ("labels", "evaluation", "glyphs"),
    ("interface",),
    ("ensembling",),
    ("sampling", "classification"),
    ("detectors",),
    ("adapters",),
    ("training",),
    ("study", "demo"),
    ("reports",),
    ("cli",),
)
"""From the ground up: a room imports rooms of lower floors, or of its own."""

ALLOWED = {
    "torch": {"sampling", "classification", "detectors", "adapters", "training", "study", "cli"},
    "torchvision": {"detectors", "adapters"},
    "timm": {"detectors"},
    "matplotlib": {"reports", "glyphs"},
    "jinja2": {"reports"},
    "polars": {"formats", "reports"},
    "rich": {"cli"},
    "typer": {"cli"},
    "hotcoco": {"evaluation"},
}
"""Libraries that only some rooms may import."""


def room(path: Path) -> str:
    """The module or package directly under wildbox that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, anywhere in it, type-checking blocks included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            folder = PACKAGE.parent.joinpath(*(node.module or "").split("."))
            for alias in node.names:
                is_module = (folder / f"{alias.name}.py").exists()
                yield f"{node.module}.{alias.name}" if is_module else node.module or ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return
    floor = {name: height for height, names in enumerate(FLOORS) for name in names}
    own = room(path)
    assert own in floor, f"{own} has no floor: add it to FLOORS"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "wildbox" and len(parts) > 1:
            assert floor[parts[1]] < floor[own] or parts[1] == own or own == "demo", f"{path}: {name}"
        elif parts[0] in ALLOWED:
            assert own in ALLOWED[parts[0]], f"{path} imports {name}"


def graph_of_imports() -> dict[str, set[str]]:
    """Modules of ours that each module names."""
    graph = {}
    for path in SOURCES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        graph[".".join(parts).removesuffix(".__init__")] = {
            name for name in imports(path) if name.startswith("wildbox.")
        }
    return graph


def test_modules_have_no_cycle() -> None:
    graph = graph_of_imports()
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"cycle: {' -> '.join([*above, module])}"
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_loops_are_made_after_their_cache_is_chosen() -> None:
    graph = graph_of_imports()
    loops = [path for path in SOURCES if "cache=True" in path.read_text(encoding="utf-8")]
    loops.remove(PACKAGE / "loop_cache.py")
    assert len(loops) > 20
    for path in loops:
        known: set[str] = set()
        ahead = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)]
        while ahead:
            known.add(module := ahead.pop())
            ahead += graph.get(module, set()) - known
        assert "wildbox.loop_cache" in known, path


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import wildbox", ("torchvision", "matplotlib", "rich", "jinja2", "hotcoco")),
        (
            "import wildbox.evaluation, wildbox.labels.audit, wildbox.formats.open_images",
            ("torch", "matplotlib"),
        ),
        (
            "import wildbox.classification, wildbox.sampling",
            ("torchvision", "matplotlib", "polars", "msgspec"),
        ),
        ("import wildbox.cli", ("torch", "torchvision", "matplotlib")),
    ],
)
def test_imports_are_light(statement: str, absent: tuple[str, ...]) -> None:
    code = f"{statement}; import sys; print(sorted(set(sys.modules) & set({absent})))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


AFTER_IMPORTS = """
import importlib, os, signal, sys
for module in sys.argv[2:]:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:  # of an extra
        assert not error.name.startswith("wildbox"), error
from wildbox.formats.open_images import read_open_images
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(len(read_open_images(sys.argv[1]).label))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_forked_after_all_imports_can_read(tmp_path: Path) -> None:
    # threads are not forked: where an import starts a library's pool of threads, the child waits for it forever
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("ImageID,LabelName,XMin,XMax,YMin,YMax\na,/m/cat,0,1,0,1\na,/m/dog,0,1,0,0.5\n")
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in SOURCES]
    modules = [module.removesuffix(".__init__") for module in modules if not module.endswith("__main__")]
    command = [sys.executable, "-W", "ignore", "-c", AFTER_IMPORTS, str(boxes), *modules]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_code_is_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            assert (node.end_lineno or first) - first + 1 <= 60, f"{path}: {node.name}"


def test_no_rooms_without_a_noun() -> None:
    forbidden = {"utils", "util", "helpers", "misc", "common", "core"}
    assert not forbidden & {part.stem for path in SOURCES for part in (path, *path.parents)}


def test_type_checkers_of_users_read_the_annotations() -> None:
    """Without this marker they take everything that is imported from here for `Any`."""
    assert (PACKAGE / "py.typed").is_file()
