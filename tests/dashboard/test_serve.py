from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from dashboard.serve import listen, serve, url
from explainer.errors import InvalidInput


def test_a_taken_port_is_told_before_anything_is_loaded(small: SimpleNamespace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"Port {port} .* --port {port + 1}"):
            serve([small], port=port)


def test_addresses_that_are_none_are_told() -> None:
    for host, port in (("not a host", 8050), ("127.0.0.1", 70_000), ("127.0.0.1", -1)):
        with pytest.raises(InvalidInput):
            listen(host, port).close()


def test_an_open_host_without_a_password_frees_its_port(small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPLAINER_PASSWORD", raising=False)
    with pytest.raises(InvalidInput, match="password"):
        serve([small], host="0.0.0.0", port=0)


def test_the_address_is_printed_and_answers(small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPLAINER_PASSWORD", "from the environment")
    said: list[str] = []
    threading.Thread(target=serve, args=([small],), kwargs={"port": 0, "say": said.append}, daemon=True).start()
    end = time.monotonic() + 30
    while not said and time.monotonic() < end:
        time.sleep(0.05)
    address = said[0].split()[1]
    assert address.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address, timeout=10)
    assert refused.value.code == 401


def test_the_address_shown_can_be_opened() -> None:
    assert url("127.0.0.1", 8050) == "http://127.0.0.1:8050"
    assert url("::1", 8050) == "http://[::1]:8050"
    assert "0.0.0.0" not in url("0.0.0.0", 8050)
