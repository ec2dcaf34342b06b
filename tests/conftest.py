"""What every test shares: the checkout is what is tested, nothing goes out to the network, and a browser is found or missed loudly."""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before numpy and torch are imported: on small inputs their threads cost more than they bring, and bits would depend on them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Child processes (the command line, fresh interpreters, notebooks) import the same checkout as this one.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


# A shell starts what it sends to the background with Ctrl-C ignored, and children inherit that; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    import explainer

    return f"explainer from {Path(explainer.__file__).parent}"


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium; without one the test is skipped with the reason, and fails where CI=true."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    reason = "No Chromium on this machine; install Debian's package chromium to run the browser tests."
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def chrome(chromium: str) -> Iterator[Any]:
    """A headless Chromium; gone after its module, for while it is there no other event loop may run."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


class OutboundCall(AssertionError):
    """Something tried to reach another machine."""


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Refuse connections to any other machine: nothing here may need one, or make one unasked."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any, *rest: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _here(str(address[0])):
            raise OutboundCall(f"A test tried to connect to {address[0]}:{address[1]}; the toolkit makes no call unless asked to download.")
        return connect(self, address, *rest)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded)
    yield
    patch.undo()


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host == "localhost"
