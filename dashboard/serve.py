"""Serve the dashboard with waitress, on this machine only unless told otherwise."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from typing import Any

from dashboard.jobs import SERVER
from dashboard.security import USER, is_loopback
from explainer.errors import InvalidInput

PASSWORD = "EXPLAINER_PASSWORD"
THREADS = 8


def serve(
    models: Sequence[Any],
    host: str = "127.0.0.1",
    port: int = 8050,
    password: str | None = None,
    open_browser: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Make the dashboard for ``models`` and serve it until it is stopped.

    ``port`` 0 takes a free one. ``password`` (or the environment variable EXPLAINER_PASSWORD) is asked of every visitor; on
    any host but loopback it must be there. Raises InvalidInput for a host without one, or a port that is taken.
    """
    secret = password or os.environ.get(PASSWORD) or None
    listening = listen(host, port)  # before the slow imports: a taken port is told at once
    try:
        from dashboard.app import create_app

        app = create_app(models, host=host, password=secret)
        from waitress.server import create_server

        server = create_server(app.server, sockets=[listening], threads=THREADS, ident=None, channel_timeout=120)
    except BaseException:
        listening.close()
        raise
    address = url(host, listening.getsockname()[1])
    say(f"Dashboard: {address}   (stop it with Ctrl-C)")
    if secret:
        say(f"User name {USER!r}, and the password that was set.")
    if not is_loopback(host):
        say("The password travels unencrypted; put a proxy with TLS before this when others can listen.")
    # The first screen needs the first model's scores: they are under way while the person is still opening the browser.
    app.desk.jobs.ask(app.desk.scoring(app.desk.exhibit("")), SERVER)
    threading.Thread(target=_warm, daemon=True).start()
    if open_browser:
        opener = threading.Timer(0.6, lambda: webbrowser.open(address))
        opener.daemon = True
        opener.start()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run()
    finally:
        app.desk.close()
        server.close()


def _warm() -> None:
    """Load what the first answer needs while the person is still opening the browser."""
    for name in ("plotly.graph_objects", "torch", "explainer.pipeline", "explainer.plots", "captum.attr"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to ``host`` and ``port``. Raises InvalidInput, saying which port was taken or what host is unknown."""
    try:
        if not 0 <= port <= 65535:
            raise OverflowError("no such port")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, OverflowError) as error:
        raise InvalidInput(
            f"{host!r} port {port} is no address to listen on ({error}); use 127.0.0.1 and a port from 0 to 65535."
        ) from None
    found = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there it would let two servers share a port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        raise InvalidInput(
            f"Port {port} on {host} cannot be used ({error.strerror}); another dashboard may be running. "
            f"Choose another: --port {port + 1 if 0 < port < 65535 else 8051}, or --port 0 for any free one."
        ) from None
    return found


def url(host: str, port: int) -> str:
    """The address to open: a name for this machine where the server listens on all of its addresses."""
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
