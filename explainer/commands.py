"""The `explainer` command as a group that other packages join by entry point, and whose errors are sentences."""

from __future__ import annotations

import ast
import errno
import importlib.util
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from explainer.errors import Cancelled, ExplainerError, MissingDependency, unknown

GROUP = "explainer.commands"
FINDING, MISUSE, DEFECT, STOPPED = 1, 2, 3, 130


class Commands(TyperGroup):
    """Own commands first, then the joined ones; a joined command's module is imported when it is run, not to list it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *(name for name in sorted(joined()) if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in joined():
            return own
        return TyperCommand(cmd_name, callback=lambda: None, help=sentence(joined()[cmd_name]))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            raise unknown("command", args[0], self.list_commands(ctx))
        name, command, rest = super().resolve_command(ctx, args)
        if name in joined() and name not in self.commands:
            command = load(joined()[name])
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run, and turn what goes wrong into one clean message and the right exit code."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, Cancelled):
            complain("Stopped.")
            raise typer.Exit(STOPPED) from None
        except ExplainerError as error:
            if ctx.params.get("debug"):
                raise
            complain(str(error))
            raise typer.Exit(MISUSE) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            if ctx.params.get("debug"):
                raise
            complain(trouble(error))
            raise typer.Exit(MISUSE) from None


@cache
def joined() -> dict[str, EntryPoint]:
    """The commands of other packages, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load(point: EntryPoint) -> Any:
    """The joined command itself: a function as Typer takes it, or a Typer application of its own."""
    try:
        found = point.load()
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"The command {point.name!r} needs the package {error.name!r}, which is not installed. "
            'Install what it needs, as in: python -m pip install "explainer-toolkit[zoo]".'
        ) from error
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    single = typer.Typer(add_completion=False)
    single.command(name=point.name)(found)
    return typer.main.get_command(single)


def sentence(point: EntryPoint) -> str:
    """First line of the command's docstring, read from its source: importing it could take seconds."""
    module, _, name = point.value.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        tree = ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8")) if spec else ast.Module([], [])
    except (ImportError, OSError, SyntaxError):
        return "(not available here)"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def complain(message: str) -> None:
    """One message on stderr, without a traceback."""
    from explainer.terminal import err, escape

    err().print(f"[red]explainer:[/] {escape(message)}", soft_wrap=True)


def trouble(error: OSError) -> str:
    """A failing disk or file in words."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"The disk is full{where}; nothing half-written was left. Free some space, or choose another folder with --out."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"No permission to use a file{where}; choose another one, or another folder with --out."
    return f"{error.strerror or error}{where}."


def run(app: typer.Typer) -> None:
    """Run the application; a defect of ours shows its traceback and exits with a code of its own."""
    try:
        app()
    except SystemExit:
        raise
    except Exception:
        import traceback

        traceback.print_exc()
        complain("This is a defect of the toolkit, not of your input; please report it with the lines above.")
        sys.exit(DEFECT)
