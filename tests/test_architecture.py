"""Who may import whom: read from the sources, so that a wrong import fails here before it makes a circle."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# One floor per line, the ground floor first. A module imports from its own floor and from those below it.
FLOORS = (
    ("errors",),
    ("explanation", "frames", "inputs", "progress", "metrics", "numerals"),
    ("faults", "scored"),
    ("target", "state", "features", "model", "adapters"),
    ("coalitions",),
    ("methods", "trust"),
    ("preflight", "arguments", "pipeline"),
    ("inspection",),
    ("plots",),
    ("reports",),
    ("commands", "options", "terminal", "sources", "listing", "judging", "insides", "interventions", "checking", "cli"),
)
# `checks` stands beside the house: it knows inputs, errors, what a share is worth and how a number is written, and nothing else of it.
CHECKS_MAY_IMPORT = ("errors", "inputs", "progress", "metrics", "numerals", "checks")
# Above checks: who may use findings.
MAY_IMPORT_CHECKS = ("checks", "plots", "reports", "terminal", "sources", "listing", "checking", "cli")

# Imports that go up, each inside a function, each with its reason.
UPWARD = {
    (
        "explainer.model",
        "explainer.preflight",
    ): "model.capabilities() asks preflight; the model works without",
    (
        "explainer.explanation",
        "explainer.adapters.peers",
    ): "ex.to_shap() asks the file that knows shap",
    (
        "explainer.explanation",
        "explainer.inspection.saving",
    ): "load() reads results of every kind, and those of inspection know their own files",
    (
        "explainer.checks.finding",
        "explainer.plots",
    ): "findings.plot() asks the room that draws; the checks work without",
}
PACKAGES = {"explainer": {"explainer"}, "zoo": {"zoo", "explainer"}, "dashboard": {"dashboard", "zoo", "explainer"}}
# Who may know a framework (by module prefix).
KNOWN_BY = {
    "plotly": ("explainer.plots", "explainer.reports", "dashboard"),
    "dash": ("dashboard",),
    "dash_mantine_components": ("dashboard",),
    "dash_ag_grid": ("dashboard",),
    "lime": ("explainer.methods.lime", "explainer.adapters.peers"),
    "typst": ("explainer.reports",),
    "typer": (
        "explainer.cli",
        "explainer.commands",
        "explainer.options",
        "explainer.judging",
        "explainer.insides",
        "explainer.interventions",
        "explainer.checking",
        "zoo.cli",
        "dashboard.cli",
    ),
    "playwright": (),
}
FORBIDDEN = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")


@dataclass(frozen=True)
class Import:
    importer: str
    imported: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def read(name: str, path: Path) -> Iterator[Import]:
    """Every import in a module; those inside functions are lazy, those for type checkers alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (Import(name, alias.name, child.lineno, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield from (Import(name, target, child.lineno, lazy) for target in targets(child))
            else:
                yield from walk(child, lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    def targets(node: ast.ImportFrom) -> list[str]:
        base = node.module or ""
        if node.level:
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parts, *([node.module] if node.module else [])])
        return [f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names]

    yield from walk(tree, False)


IMPORTS = [found for name, path in MODULES.items() for found in read(name, path)]


def room(module: str) -> str:
    """``explainer.plots.bars`` -> ``plots``; the package itself -> ``''``."""
    return module.split(".")[1] if "." in module else ""


def floor(module: str) -> int:
    if room(module) == "":
        return len(FLOORS) - 2  # the public names reach up to reports
    return next(i for i, rooms in enumerate(FLOORS) if room(module) in rooms)


def test_there_is_something_to_read() -> None:
    assert len(MODULES) > 40 and len(IMPORTS) > 200


def test_every_module_has_its_floor() -> None:
    known = {r for rooms in FLOORS for r in rooms} | {"checks", ""}
    homeless = sorted(m for m in MODULES if m.startswith("explainer") and room(m) not in known)
    assert not homeless, f"Give {homeless} a floor in FLOORS."


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_know_only_those_below(package: str) -> None:
    wrong = [
        str(i) for i in IMPORTS if i.importer.split(".")[0] == package and i.imported.split(".")[0] in set(PACKAGES) - PACKAGES[package]
    ]
    assert not wrong


def test_inside_explainer_imports_go_down() -> None:
    wrong = []
    for i in IMPORTS:
        inside = i.importer.startswith("explainer.") and i.imported.split(".")[0] == "explainer"
        if not inside or "checks" in (room(i.importer), room(i.imported)) or (i.importer, i.imported) in UPWARD:
            continue
        if floor(i.imported) > floor(i.importer):
            wrong.append(str(i))
    assert not wrong


def test_checks_need_little_and_little_needs_checks() -> None:
    wrong = []
    for i in IMPORTS:
        if (i.importer, i.imported) in UPWARD:
            continue
        if room(i.importer) == "checks" and i.imported.split(".")[0] == "explainer" and room(i.imported) not in CHECKS_MAY_IMPORT:
            wrong.append(str(i))
        if i.imported.startswith("explainer.checks") and i.importer.startswith("explainer.") and room(i.importer) not in MAY_IMPORT_CHECKS:
            wrong.append(str(i))
    assert not wrong


def test_each_upward_exception_is_lazy_and_still_there() -> None:
    for importer, imported in UPWARD:
        met = [i for i in IMPORTS if (i.importer, i.imported) == (importer, imported)]
        assert met, f"{importer} no longer imports {imported}: take the exception out of UPWARD."
        assert all(i.lazy for i in met), f"{importer} must import {imported} inside a function."


def test_trust_knows_no_pipeline() -> None:
    assert not [str(i) for i in IMPORTS if room(i.importer) == "trust" and room(i.imported) in ("pipeline", "preflight")]


def test_no_circle_among_imports_at_load_time() -> None:
    edges: dict[str, set[str]] = {m: set() for m in MODULES}
    for i in IMPORTS:
        if not i.lazy and i.imported in MODULES and i.imported != i.importer:
            edges[i.importer].add(i.imported)
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> None:
        assert module not in way, "A circle: " + " -> ".join([*way[way.index(module) :], module])
        if module in done:
            return
        for following in sorted(edges[module]):
            visit(following, [*way, module])
        done.add(module)

    for module in sorted(edges):
        visit(module, [])


@pytest.mark.parametrize("framework", KNOWN_BY)
def test_a_framework_is_known_only_where_it_belongs(framework: str) -> None:
    allowed = KNOWN_BY[framework]
    wrong = [str(i) for i in IMPORTS if i.imported.split(".")[0] == framework and not any(i.importer.startswith(a) for a in allowed)]
    assert not wrong


def test_nothing_is_pickled() -> None:
    assert not [str(i) for i in IMPORTS if i.imported.split(".")[0] in FORBIDDEN]


def test_nothing_reads_a_pickle_through_a_friend() -> None:
    """``torch.load`` only with weights_only, ``np.load`` only without pickle, ``read_pickle`` never."""
    wrong = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            call = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if (
                (call == "torch.load" and keywords.get("weights_only") != "True")
                or (call in ("np.load", "numpy.load") and keywords.get("allow_pickle", "False") != "False")
                or node.func.attr in ("read_pickle", "to_pickle")
            ):
                wrong.append(f"{name}:{node.lineno} {call}")
    assert not wrong


def test_folders_are_one_level_deep() -> None:
    deep = [m for m in MODULES if m.count(".") > 2]
    assert not deep


def committed() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("Not a git checkout, so which files are committed is not known.")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_path_of_one_machine_is_committed() -> None:
    """A home folder or a workplace's folder in a file would be dead on every other machine."""
    # Put together here, or this file would find itself.
    words = ["/" + w for w in ("work/", "opt/", "home/", "Users/", "root/", "tmp/")]
    wrong = []
    for path in committed():
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".ipynb", ".txt", ".json", ".css", ".js", ".html", "") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            wrong += [
                f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(text.splitlines(), 1) if any(_stands_alone(line, w) for w in words)
            ]
    assert not wrong


def _stands_alone(line: str, word: str) -> bool:
    at = line.find(word)
    return at >= 0 and (at == 0 or line[at - 1] in " \"'`(=:[,")
