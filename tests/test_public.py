"""The public surface: what `import explainer` offers, and what it must not cost."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import explainer

NAMES = (
    "Explanation",
    "Model",
    "Verdict",
    "ablate",
    "accelerate",
    "activations",
    "audit",
    "check",
    "compare",
    "concepts",
    "contributions",
    "counterfactuals",
    "effect",
    "evaluate",
    "explain",
    "fix",
    "head_importance",
    "importance",
    "load",
    "logit_lens",
    "neuron",
    "partial_dependence",
    "patch",
    "permutation_importance",
    "plot",
    "probe",
    "reason_codes",
    "verify",
    "visualise",
    "wrap",
)
USED = re.compile(r"(?<!from )(?<!import )\bexplainer\.([a-z_]+)\.")
HEAVY = ("torch", "plotly", "pandas", "sklearn", "scipy", "captum", "shap", "lime", "dash", "matplotlib")


def fresh(code: str) -> str:
    """What ``code`` prints in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_these() -> None:
    assert tuple(explainer.__all__) == NAMES == tuple(dir(explainer))


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_told(name: str) -> None:
    value = getattr(explainer, name)
    assert inspect.getdoc(value), f"explainer.{name} has no docstring"
    assert value.__name__ == name


def test_an_unknown_name_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(AttributeError, match="it offers .*explain"):
        explainer.explian  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_see_the_same_names_from_the_same_places() -> None:
    """The table that loads names and the imports a type checker reads must not part."""
    import ast

    tree = ast.parse(Path(explainer.__file__).read_text(encoding="utf-8"))
    seen = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                seen.update({alias.name: line.module for alias in line.names})
    assert seen == explainer._HOMES


@pytest.mark.parametrize("room", explainer._ROOMS)
def test_modules_that_the_pages_call_by_name_are_there_at_once(room: str) -> None:
    assert fresh(f"import explainer; print(explainer.{room}.__name__)").strip() == f"explainer.{room}"


def test_every_module_that_a_page_calls_by_name_is_one_of_those() -> None:
    root = Path(__file__).resolve().parents[1]
    pages = [path.read_text(encoding="utf-8") for path in (root / "README.md", *(root / "docs").glob("*.md"))]
    called = {name for page in pages for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) for name in USED.findall(block)}
    called -= {name.rpartition(".")[2] for page in pages for name in re.findall(r"import (explainer\.\w+)", page)}
    assert called and called - set(NAMES) <= set(explainer._ROOMS)


@pytest.mark.parametrize("package", ["explainer", "zoo", "dashboard"])
def test_importing_a_package_loads_no_framework(package: str) -> None:
    loaded = json.loads(fresh(f"import sys, json, {package}; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"))
    assert loaded == []


def test_wrapping_a_function_loads_no_torch_and_no_plotly() -> None:
    code = """
        import sys, numpy as np, explainer
        model = explainer.wrap(lambda x: np.c_[x.sum(1), 1 - x.sum(1)], modality="tabular", feature_names=["a"], class_names=["n", "y"])
        model.scores(np.array([[0.25]]))
        print([m for m in ("torch", "plotly", "shap", "captum") if m in sys.modules])
    """
    assert fresh(inspect.cleandoc(code)).strip() == "[]"


@pytest.mark.parametrize("package", ["explainer", "zoo", "dashboard"])
def test_types_are_shipped(package: str) -> None:
    folder = Path(importlib.import_module(package).__file__ or "").parent
    assert (folder / "py.typed").is_file()


def test_help_answers_at_once() -> None:
    """Processor time, the best of three: what else the machine does is not our slowness."""
    resource = pytest.importorskip("resource", reason="Windows does not tell the processor time of child processes.")
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        fresh("import sys; sys.argv = ['explainer', '--help']\nfrom explainer.cli import main\ntry:\n    main()\nexcept SystemExit: pass")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.7


def test_help_loads_no_framework() -> None:
    code = (
        "import sys; sys.argv = ['explainer', '--help']\nfrom explainer.cli import main\n"
        f"try:\n    main()\nexcept SystemExit: pass\nprint('LOADED', [m for m in {(*HEAVY, 'numpy')!r} if m in sys.modules])"
    )
    assert fresh(code).splitlines()[-1] == "LOADED []"
