"""The ``dashboard`` command; light to import, for the help of ``explainer`` must be instant."""

from __future__ import annotations

from typing import Annotated

import typer


def dashboard(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", help="zoo:NAME, NAME, or path/to/file.py:factory; without any, all that come with the toolkit."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen. Any host but this machine's own needs a password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8050,
    password: Annotated[
        str | None,
        typer.Option(
            envvar="EXPLAINER_PASSWORD", help="Asked of every visitor (user name: explainer).", show_default=False, show_envvar=True
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in the browser.")] = True,
) -> None:
    """Open the dashboard: predictions, explanations with their verdicts, data checks and reports."""
    from dashboard.serve import serve

    if not models:
        import zoo

        models = list(zoo.names())
    serve(models, host=host, port=port, password=password, open_browser=browser, say=typer.echo)
