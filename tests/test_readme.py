"""README, CONTRIBUTING and docs: every snippet runs, every command exists, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from explainer import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md", "CONTRIBUTING.md", "docs/dashboard.md", "docs/script.md", "docs/models.md", "docs/network.md", "docs/budget.md",
    "docs/report.md",
)  # fmt: skip
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Commands that start a server, train, or set a machine up; their own tests run them.
ELSEWHERE = ("python", "ruff", "mypy")


def blocks(page: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall((ROOT / page).read_text(encoding="utf-8")) if kind == language]


def commands(page: str) -> list[list[str]]:
    """The words of each shell command in a page."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines() if line.strip()]
    return [shlex.split(part) for line in lines for part in line.split("&&")]


def test_the_pages_have_snippets_to_run() -> None:
    assert all(blocks(page, "python") for page in PAGES) and sum(len(commands(page)) for page in PAGES) > 8


@pytest.mark.parametrize("page", PAGES)
def test_python_snippets_run_in_order(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "snippet"}
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block, f"{page}, snippet {number}", "exec"), namespace)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A folder to run commands in, and the commands that ran there: pages share some, and an audit takes a while."""
    return tmp_path_factory.mktemp("shell"), set()


@pytest.mark.parametrize("page", PAGES)
def test_shell_commands_run(page: str, shell: tuple[Path, set[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of `explainer` are run for real; for a server, that its options are understood."""
    folder, ran = shell
    monkeypatch.chdir(folder)
    for words in commands(page):
        if words[0] != "explainer":
            assert words[0] in (*ELSEWHERE, "."), f"{page} names a command that no test runs: {words}"
            continue
        if shlex.join(words) in ran:
            continue
        result = CliRunner().invoke(cli.app, [*words[1:], "--help"] if words[1] == "dashboard" else words[1:])
        assert result.exit_code in (0, 1), f"{words}: {result.output}"
        assert "Traceback" not in result.output
        ran.add(shlex.join(words))


def test_the_readme_commands_are_those_of_ci() -> None:
    """What the README promises is what `.ci/run` does in a fresh environment."""
    promised = [" ".join(words) for words in commands("README.md")]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "python -m pip install -c constraints.txt .[zoo]" in promised and "explainer dashboard" in promised
    assert "python -m pip install -c constraints.txt .[zoo,test]" in promised and "python -m pytest" in promised
    assert 'pip install -qq -c constraints.txt ".[zoo,test]"' in ci and "python -m pytest" in ci


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    assert not [t for t in targets if not t.startswith("http") and not (path.parent / t).exists()]


def test_every_requirement_of_the_extras_is_pinned() -> None:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(r) for r in [*project["dependencies"], *(r for e in project["optional-dependencies"].values() for r in e)]]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    missing = [r.name for r in wanted if canonicalize_name(r.name) not in pinned]
    outside = [str(r) for r in wanted if not r.specifier.contains(pinned.get(canonicalize_name(r.name), "0"))]
    assert not missing and not outside
