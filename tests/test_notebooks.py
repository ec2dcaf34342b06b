"""The notebooks run from top to bottom, and are committed without what they printed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebooks need the extra: explainer-toolkit[test]")
nbclient = pytest.importorskip("nbclient", reason="the notebooks need the extra: explainer-toolkit[test]")

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def test_there_is_one_for_each_use() -> None:
    stories = [name.removesuffix(".ipynb") for name in NAMES]
    assert stories == ["cleaning", "comparison", "dashboard", "practices", "report", "script", "silent"]


@pytest.mark.parametrize("name", NAMES)
def test_committed_without_output(name: str) -> None:
    book = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(book)
    told = [cell.id for cell in book.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None)]
    assert not told, f"Clear the output of these cells: {told}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_runs_from_top_to_bottom(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # a person's own profile must not decide
    book = nbformat.read(FOLDER / name, as_version=4)
    work = tmp_path / "work"
    work.mkdir()
    started = time.perf_counter()
    nbclient.NotebookClient(book, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(work)}}).execute()
    assert time.perf_counter() - started < 240
    shown = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert shown and not [output for output in shown if output.output_type == "error"]
