from __future__ import annotations

import base64
import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest

from dashboard.app import create_app
from dashboard.security import MAX_BODY, is_loopback
from explainer.errors import InvalidInput

CALLBACK = "/_dash-update-component"


def _login(user: str = "explainer", secret: str = "open sesame") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}


@pytest.fixture(scope="module")
def app(specimens: list[SimpleNamespace]) -> Any:
    return create_app(specimens)


@pytest.fixture(scope="module")
def guarded(specimens: list[SimpleNamespace]) -> Any:
    return create_app(specimens, host="0.0.0.0", password="open sesame").server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.9.9.9", "LOCALHOST"])
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.4", "example.org", "", "localhost.example.org", "127.0.0.1.example.org"])
def test_no_other_name_counts_as_this_machine(host: str) -> None:
    assert not is_loopback(host)


def test_an_open_host_demands_a_password(specimens: list[SimpleNamespace]) -> None:
    for password in (None, ""):
        with pytest.raises(InvalidInput, match="password is needed"):
            create_app(specimens, host="0.0.0.0", password=password)


def test_every_address_is_closed_without_the_password(guarded: Any) -> None:
    client = guarded.test_client()
    paths = [rule.rule.replace("<path:path>", "x").replace("<string:package_name>", "dash") for rule in guarded.url_map.iter_rules()]
    for path in {*paths, "/", "/assets/app.js", "/nowhere", CALLBACK}:
        for method in ("get", "post", "put", "delete", "head", "options"):
            answer = getattr(client, method)(path.replace("<path:fingerprinted_path>", "x").replace("<path:filename>", "app.js"))
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "header",
    [
        {},
        _login(secret="wrong"),
        _login(user="root"),
        _login(secret=""),
        _login(secret="open sesame "),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!!"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:\x00").decode()},
        {"Authorization": "Bearer open sesame"},
        {"Authorization": "Basic " + base64.b64encode(b"no colon").decode()},
    ],
)
def test_wrong_passwords_and_broken_headers_are_refused(guarded: Any, header: dict[str, str]) -> None:
    assert guarded.test_client().get("/", headers=header).status_code == 401
    assert guarded.test_client().post(CALLBACK, headers=header, data="{").status_code == 401


def test_the_right_password_opens(guarded: Any) -> None:
    assert guarded.test_client().get("/", headers=_login()).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8050", "127.0.0.1.evil.example", "192.168.1.5:8050", ""])
def test_a_foreign_name_for_this_machine_is_refused(app: Any, host: str) -> None:
    assert app.server.test_client().get("/", headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost:8050", "127.0.0.1:9000", "[::1]:8050", "localhost"])
def test_this_machines_own_names_are_answered(app: Any, host: str) -> None:
    assert app.server.test_client().get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9999", "http://localhost:8050.evil.example"])
def test_another_site_cannot_post(app: Any, origin: str) -> None:
    headers = {"Host": "localhost:8050", "Origin": origin}
    assert app.server.test_client().post(CALLBACK, headers=headers, json={"output": "x"}).status_code == 403


def test_headers_stand_on_every_answer(app: Any) -> None:
    client = app.server.test_client()
    for answer in (client.get("/"), client.get("/assets/app.js"), client.post(CALLBACK, data="{"), client.get("/_dash-layout")):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy.split("style-src")[0] and "unsafe-eval" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_large_body_is_refused_unread(app: Any) -> None:
    answer = app.server.test_client().post(CALLBACK, data=b"x" * (MAX_BODY + 1), content_type="application/json")
    assert answer.status_code == 413


def _named(part: str) -> Any:
    """The id in a callback's own notation as a browser sends it: patterns filled in."""
    return json.loads(part.replace('["MATCH"]', '"a"').replace('["ALL"]', '"x"')) if part.startswith("{") else part


def _request(app: Any, output: str, **values: Any) -> dict[str, Any]:
    """The request that a browser makes for the callback ``output``, its inputs empty but for ``values``."""
    entry = app.callback_map[output]
    outputs = [part.rpartition(".") for part in output.removeprefix("..").removesuffix("..").split("...")]
    given = [{"id": _named(o[0]), "property": o[2]} for o in outputs]

    def filled(part: dict[str, Any]) -> dict[str, Any]:
        return {"id": _named(part["id"]), "property": part["property"], "value": values.get(part["id"])}

    body = {
        "output": output,
        "outputs": given if output.startswith("..") else given[0],
        "inputs": [filled(p) for p in entry["inputs"]],
        "changedPropIds": [],
    }
    return body | ({"state": [filled(p) for p in entry["state"]]} if entry.get("state") else {})


def _outputs(app: Any) -> list[str]:
    app.server.test_client().get("/")
    return [o for o, entry in app.callback_map.items() if entry.get("callback") is not None]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"5", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b"{}", b'{"output": 5}',
        b'{"output": "nowhere.children"}', b'{"output": ["page"]}',
    ],
)  # fmt: skip
def test_bodies_that_are_no_callback_are_the_senders_mistake(app: Any, body: bytes) -> None:
    answer = app.server.test_client().post(CALLBACK, data=body, content_type="application/json")
    assert answer.status_code == 400


def test_other_content_types_are_refused(app: Any) -> None:
    output = _outputs(app)[0]
    answer = app.server.test_client().post(CALLBACK, data=json.dumps(_request(app, output)), content_type="text/plain")
    assert answer.status_code == 400


def test_no_malformed_callback_gives_a_server_error(app: Any) -> None:
    client = app.server.test_client()
    wrong: list[Any] = [None, 5, -1.5, "", "text", [], [[]], {}, {"a": [1]}, True, "?model=nowhere", "?row=5&target=99", "x" * 5000]
    seen = set()
    for output in _outputs(app):
        whole = _request(app, output)
        variants: list[Any] = []
        for key in ("inputs", "state", "outputs", "changedPropIds"):
            variants += [{**whole, key: w} for w in wrong] + [{k: v for k, v in whole.items() if k != key}]
        for group in ("inputs", "state"):
            for k in range(len(whole.get(group, []))):
                for w in wrong:
                    one = copy.deepcopy(whole)
                    one[group][k]["value"] = w
                    variants.append(one)
        for body in variants:
            answer = client.post(CALLBACK, json=body)
            seen.add(answer.status_code)
            assert answer.status_code in (200, 204, 400), f"{answer.status_code} for {json.dumps(body)[:400]}"
    assert 400 in seen and (200 in seen or 204 in seen)


def test_a_mistake_of_our_own_is_a_server_error(specimens: list[SimpleNamespace], caplog: pytest.LogCaptureFixture) -> None:
    from dash import Input, Output

    broken = create_app(specimens)

    @broken.callback(Output("never", "children"), Input("never", "title"))
    def fails(title: Any) -> Any:
        return 1 / 0

    broken.server.test_client().get("/")
    answer = broken.server.test_client().post(CALLBACK, json=_request(broken, "never.children"))
    assert answer.status_code == 500
    assert b"ZeroDivision" not in answer.data and "ZeroDivisionError" in caplog.text


def test_only_callbacks_take_a_post(app: Any) -> None:
    for path in ("/", "/inspect", "/assets/app.js", "/_dash-layout"):
        assert app.server.test_client().post(path, json={}).status_code in (404, 405)
