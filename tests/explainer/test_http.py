"""Models behind HTTP endpoints, asked over a local server that answers well, badly, late and not at all."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
import torch_gallery as gallery

import explainer
from explainer.adapters import sender
from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.faults import Unreachable

NAMES = [f"f{i}" for i in range(5)]
SECRET = "s3cret-t0ken-value"


def probabilities(rows) -> np.ndarray:
    margin = np.array(rows, dtype=float) @ [1.0, -2.0, 0.5, 0.0, 1.0]
    return np.stack([1 - 1 / (1 + np.exp(-margin)), 1 / (1 + np.exp(-margin))], 1)


class Endpoint:
    """A server on this machine; ``script`` holds answers to be given before the usual one."""

    def __init__(self) -> None:
        self.seen: list[dict] = []
        self.bodies: list = []
        self.times: list[float] = []
        self.script: list = []
        self.usual = lambda body: {"predictions": probabilities(body["instances"]).tolist()}
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.seen.append(dict(self.headers))
                endpoint.bodies.append(body)
                endpoint.times.append(time.monotonic())
                step = endpoint.script.pop(0) if endpoint.script else None
                if callable(step):
                    step = step(body)
                status, headers, content = step or (200, {}, endpoint.usual(body))
                if isinstance(content, tuple):  # a full answer
                    status, headers, content = content
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for key, value in {"Content-Length": str(len(raw)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/models/m:predict"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def endpoint():
    made = Endpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def waits(monkeypatch):
    """Seconds that would have been waited for."""
    slept: list[float] = []
    monkeypatch.setattr(sender.time, "sleep", slept.append)
    return slept


def wrapped(endpoint, **options) -> explainer.Model:
    given = {"modality": "tabular", "feature_names": NAMES, "class_names": ["no", "yes"], "background": gallery.table(10), **options}
    return explainer.wrap(endpoint.url, **given)


def test_nothing_is_sent_before_it_is_needed(endpoint):
    model = wrapped(endpoint)
    with pytest.raises(InvalidInput, match="class_names"):
        wrapped(endpoint, class_names=None)
    assert not endpoint.seen and model.framework == "http"
    assert wrapped(endpoint, class_names=None, probe=True).class_names == ("class 0", "class 1")
    assert [len(body["instances"]) for body in endpoint.bodies] == [1]


def test_scores_and_an_explanation_in_batches(endpoint):
    data = gallery.table(70)
    model = wrapped(endpoint, batch=32)
    np.testing.assert_allclose(model.scores(data), probabilities(data), atol=1e-9)
    assert [len(body["instances"]) for body in endpoint.bodies] == [32, 32, 6]
    seen: list[int] = []
    ex = explainer.explain(model, data[:2], "shap", target="yes", progress=lambda done, total: seen.append(done))
    local = explainer.wrap(
        lambda t: probabilities(t.to_numpy()),
        modality="tabular",
        feature_names=NAMES,
        class_names=["no", "yes"],
        background=gallery.table(10),
    )
    np.testing.assert_allclose(ex.values, explainer.explain(local, data[:2], "shap", target="yes").values, atol=1e-9)
    assert max(len(body["instances"]) for body in endpoint.bodies) <= 32 and len(set(seen)) > 3


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("instances", {"instances": [[1.5, "north"], [None, "south"]]}),
        ("inputs", {"inputs": [[1.5, "north"], [None, "south"]]}),
        ("records", {"instances": [{"age": 1.5, "town": "north"}, {"age": None, "town": "south"}]}),
        ("dataframe_split", {"dataframe_split": {"columns": ["age", "town"], "data": [[1.5, "north"], [None, "south"]]}}),
        (lambda frame: {"mine": frame["town"].tolist()}, {"mine": ["north", "south"]}),
    ],
)
def test_what_is_sent(endpoint, form, body):
    endpoint.usual = lambda body: [[0.25, 0.75]] * 2
    model = wrapped(endpoint, feature_names=["age", "town"], background=None, request=form)
    scores = model.scores(pd.DataFrame({"age": [1.5, np.nan], "town": ["north", "south"]}))
    np.testing.assert_allclose(scores, [[0.25, 0.75]] * 2)
    assert endpoint.bodies == [body]


@pytest.mark.parametrize(
    "answer",
    [
        {"predictions": [[0.25, 0.75]]},
        {"outputs": [[[0.25, 0.75]]]},
        [[0.25, 0.75]],
        [[{"label": "yes", "score": 0.75}, {"label": "no", "score": 0.25}]],
        {"probabilities": [{"no": 0.25, "yes": 0.75}]},
    ],
)
def test_answers_that_are_understood(endpoint, answer):
    endpoint.usual = lambda body: answer
    np.testing.assert_allclose(wrapped(endpoint).scores(gallery.table(1)), [[0.25, 0.75]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"predictions": [[0.25, 0.75]] * 3}, r"\(3, 2\) for 1 inputs"),
        ({"answers": [[0.25, 0.75]]}, "answered an object with 'answers'"),
        ({"predictions": ["yes"]}, "'yes' where a number"),
        ({"predictions": [[2.0, -1.5]]}, "returns='logit'"),
        ({"predictions": [[None, 0.5]]}, "null or NaN"),
        ([{"label": "maybe"}], "'no' of class_names"),
        ({"predictions": [[0.1, 0.2, 0.7]]}, "2 named outputs"),
    ],
)
def test_answers_that_are_not_scores(endpoint, content, words):
    endpoint.usual = lambda body: content
    with pytest.raises(InvalidInput, match=words):
        wrapped(endpoint).scores(gallery.table(1))


def test_not_json_and_too_much(endpoint):
    endpoint.script = [(200, {}, b"<html> Sign in </html>"), (200, {}, b"[" + b"0," * 5000 + b"0]")]
    with pytest.raises(Unreachable, match="Sign in"):
        wrapped(endpoint).scores(gallery.table(1))
    with pytest.raises(Unreachable, match="more than 1,000 bytes"):
        wrapped(endpoint, largest=1000).scores(gallery.table(1))


def test_retries_wait_longer_each_time_and_as_told(endpoint, waits):
    endpoint.script = [(503, {}, {}), (500, {}, {}), (429, {"Retry-After": "7"}, {}), (502, {}, {})]
    data = gallery.table(3)
    np.testing.assert_allclose(wrapped(endpoint).scores(data), probabilities(data), atol=1e-9)
    assert waits == [0.5, 1.0, 7.0, 4.0]
    endpoint.script = [(503, {"Retry-After": "86400"}, {})]
    with pytest.raises(Unreachable, match="86400 s"):
        wrapped(endpoint).scores(data)


def test_an_endpoint_that_stays_away_is_not_asked_row_by_row(endpoint, waits):
    endpoint.usual = lambda body: (0, {}, (503, {}, {"error": "overloaded"}))
    endpoint.script = [lambda body: (503, {}, {"error": "overloaded"})] * 100
    with pytest.raises(Unreachable, match="503.*overloaded.*after 3 tries"):
        explainer.explain(wrapped(endpoint, retries=2), gallery.table(40), "shap")
    assert len(endpoint.seen) == 3
    with pytest.raises(Unreachable, match="did not answer"):
        explainer.wrap(
            "http://127.0.0.1:9/", modality="tabular", feature_names=NAMES, class_names=["a", "b"], retries=1
        ).scores(gallery.table(1))  # fmt: skip


def test_one_bad_row_is_found_and_the_others_explained(endpoint):
    def picky(body):
        bad = any(row[0] > 900 for row in body["instances"])
        return (400, {}, {"error": "f0 out of range"}) if bad else (200, {}, {"predictions": probabilities(body["instances"]).tolist()})

    endpoint.script = [picky] * 500
    data = gallery.table(3)
    data.iloc[1, 0] = 1000
    ex = explainer.explain(wrapped(endpoint, retries=0), data, "shap")
    assert np.isfinite(ex.values[[0, 2]]).all() and np.isnan(ex.values[1]).all()
    assert "f0 out of range" in ex.verdicts[1].reason


def test_a_request_that_is_too_large_is_halved(endpoint):
    def small(body):
        n = len(body["instances"])
        return (413, {}, {}) if n > 5 else (200, {}, {"predictions": probabilities(body["instances"]).tolist()})

    endpoint.script = [small] * 50
    data = gallery.table(20)
    np.testing.assert_allclose(wrapped(endpoint, batch=20).scores(data), probabilities(data), atol=1e-9)
    assert [len(body["instances"]) for body in endpoint.bodies][:3] == [20, 10, 5]


def test_a_time_out(endpoint):
    endpoint.script = [lambda body: time.sleep(0.6)]
    with pytest.raises(Unreachable, match="within 0.2 s"):
        wrapped(endpoint, timeout=0.2, retries=0).scores(gallery.table(1))


def test_the_rate_is_kept(endpoint):
    wrapped(endpoint, batch=1, rate=25).scores(gallery.table(4))
    assert endpoint.times[-1] - endpoint.times[0] > 0.09  # three waits of 0.04 s


def test_a_secret_is_sent_and_never_shown(endpoint, monkeypatch, capsys, caplog):
    monkeypatch.setenv("MY_TOKEN", SECRET)
    model = explainer.wrap(
        f"{endpoint.url}?api_key={SECRET}&v=1", modality="tabular", feature_names=NAMES, class_names=["no", "yes"],
        background=gallery.table(10), headers={"Authorization": "Bearer env:MY_TOKEN", "X-Key": "env:MY_TOKEN"}, retries=0,
    )  # fmt: skip
    ex = explainer.explain(model, gallery.table(2), "ablation")
    assert endpoint.seen[0]["Authorization"] == f"Bearer {SECRET}" and endpoint.seen[0]["X-Key"] == SECRET
    shown = [repr(model), repr(vars(model)), repr(vars(model._sender)["_headers"]), repr(model._sender), repr(ex.provenance), model.name]
    endpoint.script = [(400, {}, {"error": f"bad header Bearer {SECRET}"}), (200, {}, f"no JSON {SECRET}".encode())]
    for _ in range(2):
        with pytest.raises((InvalidInput, Unreachable)) as caught:
            model.scores(gallery.table(1))
        assert "***" in str(caught.value)
        shown.append(repr(caught.value) + str(caught.value.__cause__))
    assert not any(SECRET in text for text in (*shown, *capsys.readouterr(), caplog.text))
    for value, words in (("", "not set"), (f"{SECRET}\nX: y", "cannot carry")):
        monkeypatch.setenv("MY_TOKEN", value)
        with pytest.raises(Unreachable, match=words) as caught:
            model.scores(gallery.table(1))
        assert SECRET not in str(caught.value)


def test_redirects_stay_on_the_machine(endpoint):
    endpoint.script = [(307, {"Location": "/v2/other"}, b"")]
    data = gallery.table(1)
    np.testing.assert_allclose(wrapped(endpoint).scores(data), probabilities(data), atol=1e-9)
    endpoint.script = [(307, {"Location": "https://elsewhere.example/steal"}, b"")]
    with pytest.raises(Unreachable, match="elsewhere.example.*nothing was sent"):
        wrapped(endpoint).scores(data)


@pytest.mark.parametrize(
    ("address", "options", "error", "words"),
    [
        ("http://example.org/predict", {}, InvalidInput, "unencrypted"),
        ("https://user:pw@example.org/", {}, InvalidInput, "user name or password"),
        ("https://", {}, InvalidInput, "cannot be read"),
        ("https://example.org/ a", {}, InvalidInput, "cannot be read"),
        ("https://example.org/", {"modality": None}, InvalidInput, "modality="),
        ("https://example.org/", {"request": "instance"}, UnknownName, "Did you mean 'instances'"),
        ("https://example.org/", {"retrie": 3}, UnknownName, "Did you mean 'retries'"),
        ("https://example.org/", {"rate": 0}, InvalidInput, "rate=0"),
        ("https://example.org/", {"batch": 0}, InvalidInput, "batch=0"),
        ("https://example.org/", {"headers": {"A": "x\ny"}}, InvalidInput, "plain text"),
        ("ftp://example.org/", {}, Unsupported, "str came"),
    ],
)
def test_addresses_and_options_that_cannot_be(address, options, error, words):
    with pytest.raises(error, match=words) as caught:
        explainer.wrap(address, **{"modality": "tabular", "class_names": ["a", "b"], **options})
    assert "pw" not in str(caught.value)


def test_texts_and_logits(endpoint):
    endpoint.usual = lambda body: {"logits": [[len(t), 0.0] for t in body["inputs"]]}
    options = {"modality": "text", "class_names": ["a", "b"], "request": "inputs"}
    with pytest.raises(InvalidInput, match="returns='logit'"):
        explainer.wrap(endpoint.url, **options).scores(["two words"])
    model = explainer.wrap(endpoint.url, returns="logit", **options)
    np.testing.assert_allclose(model.scores(["two words"], "logit"), [[9.0, 0.0]])
    assert "not the model that answers" in model.unhashed
    assert model.fingerprint() != explainer.wrap(endpoint.url + "2", returns="logit", **options).fingerprint()
