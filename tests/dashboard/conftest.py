"""Small specimens of the four kinds, quick to make and to explain, and the dashboard served on a free port."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsing import WAIT

import explainer


def _specimen(model: Any, train: tuple[Any, Any], test: tuple[Any, Any], **more: Any) -> SimpleNamespace:
    splits = {"train": SimpleNamespace(inputs=train[0], labels=train[1], groups=None)}
    splits["test"] = SimpleNamespace(inputs=test[0], labels=test[1], groups=more.pop("groups", None))
    return SimpleNamespace(name=model.name, model=model, data=SimpleNamespace(**splits), **more)


def table(n: int = 90, name: str = "small-table") -> SimpleNamespace:
    """A logistic regression on mixed columns, one with missing values; labels are noisy, so that some rows are wrong."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "income": draw.normal(50, 12, 3 * n).round(1),
            "debt": draw.exponential(10, 3 * n).round(2),
            "years": draw.integers(0, 30, 3 * n),
            "home": draw.choice(["own", "rent"], 3 * n),
        }
    )
    logit = 0.1 * (frame["income"] - 50) - 0.15 * (frame["debt"] - 10) + (frame["home"] == "own")
    labels = (logit + draw.logistic(0, 1, 3 * n) > 0).to_numpy().astype(np.int64)
    frame.loc[::17, "debt"] = np.nan
    numbers = make_pipeline(SimpleImputer())
    fitted = make_pipeline(
        make_column_transformer((numbers, ["income", "debt", "years"]), (OneHotEncoder(), ["home"])), LogisticRegression(max_iter=2000)
    ).fit(frame[n:], labels[n:])
    test = frame[:n].reset_index(drop=True)
    groups = pd.DataFrame({"sex": draw.choice(["f", "m"], n)})
    model = explainer.wrap(
        fitted, feature_names=list(frame.columns), class_names=["refused", "granted"], background=frame[n : n + 40], name=name
    )
    return _specimen(model, (frame[n:], labels[n:]), (test, labels[:n]), groups=groups, card="# A small table\n\nMade for a test.")


def images(name: str = "small-images") -> SimpleNamespace:
    """A tiny network, its weights set by hand: bright on the left, or bright on the right."""
    import torch

    draw = np.random.default_rng(1)
    labels = draw.integers(0, 2, 40).astype(np.int64)
    pictures = draw.uniform(0, 0.3, (40, 12, 12)).astype(np.float32)
    for picture, label in zip(pictures, labels, strict=True):
        picture[3:9, 6 * label + 1 : 6 * label + 5] += 0.6
    labels[:3] = 1 - labels[:3]
    layer = torch.nn.Linear(144, 2)
    with torch.no_grad():
        side = torch.zeros(2, 12, 12)
        side[0, :, :6], side[1, :, 6:] = 0.1, 0.1
        layer.weight.copy_(side.reshape(2, -1))
        layer.bias.zero_()
    module = torch.nn.Sequential(torch.nn.Flatten(), layer)
    model = explainer.wrap(
        module,
        modality="image",
        class_names=["left", "right"],
        preprocess=lambda x: torch.as_tensor(np.asarray(x))[:, None],
        background=pictures[:5],
        name=name,
    )
    return _specimen(model, (pictures[20:], labels[20:]), (pictures[:20], labels[:20]))


GOOD, BAD = {"free", "permission", "granted", "may"}, {"must", "not", "forbidden", "liable"}


def _tone(texts: list[str]) -> np.ndarray:
    counts = [[sum(w in GOOD for w in re.findall(r"\w+", t.lower())), sum(w in BAD for w in re.findall(r"\w+", t.lower()))] for t in texts]
    score = np.array([1.3 * (g - b) for g, b in counts])
    return np.stack([1 / (1 + np.exp(score)), 1 / (1 + np.exp(-score))], axis=1)


def texts(name: str = "small-texts") -> SimpleNamespace:
    """Words counted by a plain function: it has no gradients, so two methods are not available on it."""
    draw = np.random.default_rng(2)
    filler = ["the", "holder", "of", "this", "work", "use", "copy", "change", "and", "any", "person", "under", "terms", "below"]
    made = [" ".join(draw.permutation([*draw.choice(filler, 9), *draw.choice(sorted(GOOD if i % 2 else BAD), 2)])) + "." for i in range(30)]
    labels = np.array([i % 2 for i in range(30)], dtype=np.int64)
    labels[4] = 1 - labels[4]
    model = explainer.wrap(_tone, modality="text", class_names=["strict", "free"], name=name)
    return _specimen(model, (made[15:], labels[15:]), (made[:15], labels[:15]))


def series(name: str = "small-series") -> SimpleNamespace:
    """A recurrent network with weights from a seed, over series of unequal length."""
    import torch

    torch.manual_seed(0)
    draw = np.random.default_rng(3)
    made = [draw.normal(0, 1, (draw.integers(8, 14), 3)).astype(np.float32) for _ in range(24)]

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 3)

        def forward(self, x: Any, lengths: Any) -> Any:
            mask = (torch.arange(x.shape[1])[None] < lengths[:, None]).float()[..., None]
            return 3 * (torch.tanh(self.layer(x)) * mask).sum(1) / lengths[:, None]

    def pad(batch: list[np.ndarray]) -> Any:
        padded = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(np.asarray(s)) for s in batch], batch_first=True)
        return padded, torch.tensor([len(s) for s in batch])

    model = explainer.wrap(
        Net().eval(),
        modality="series",
        class_names=["a", "b", "c"],
        feature_names=["x", "y", "z"],
        preprocess=pad,
        background=made[:6],
        name=name,
    )
    labels = model.scores(made).argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    return _specimen(model, (made[12:], labels[12:]), (made[:12], labels[:12]))


def slow(name: str = "slow-table", pause: float = 0.004) -> SimpleNamespace:
    """A table whose model takes its time, to see progress and to stop it."""
    import time

    def scores(frame: Any) -> np.ndarray:
        time.sleep(pause * len(frame))
        p = 1 / (1 + np.exp(-np.asarray(frame, dtype=float).sum(1)))
        return np.stack([1 - p, p], axis=1)

    draw = np.random.default_rng(4)
    frame = pd.DataFrame(draw.normal(0, 1, (30, 16)), columns=[f"c{i}" for i in range(16)])
    model = explainer.wrap(scores, modality="tabular", class_names=["no", "yes"], background=frame[10:], name=name)
    return _specimen(model, (frame[10:], np.zeros(20, dtype=np.int64)), (frame[:10], np.arange(10) % 2))


# dash-ag-grid asks a grid for its selection a moment after the page has replaced that grid by a filtered one: a warning of the
# library about its own timing, seen now and then on a busy machine; nothing is lost.
GRID_GONE = "AG Grid: warning #26"


@pytest.fixture(scope="session")
def specimens() -> list[SimpleNamespace]:
    return [table(), images(), texts(), series()]


@pytest.fixture(scope="session")
def slow_table() -> SimpleNamespace:
    return slow()


@pytest.fixture
def small() -> SimpleNamespace:
    return table(40)


@pytest.fixture(scope="session")
def served() -> Iterator[Any]:
    """A function that serves models on a free loopback port and gives the address; all are stopped at the end."""
    import contextlib
    import threading

    from waitress.server import create_server

    from dashboard.app import create_app
    from dashboard.serve import listen, url

    stops = []

    def start(models: list[Any], **options: Any) -> str:
        app = create_app(models, **options)
        socket = listen("127.0.0.1", 0)
        server = create_server(app.server, sockets=[socket], threads=8)

        def run() -> None:
            with contextlib.suppress(OSError):  # closing the socket is how the loop is told to end
                server.run()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        stops.append((app, server, thread))
        return url("127.0.0.1", socket.getsockname()[1])

    yield start
    for app, server, thread in stops:
        app.desk.close()
        server.close()
        thread.join(timeout=5)


@pytest.fixture(scope="session")
def address(served: Any, specimens: list[SimpleNamespace], slow_table: SimpleNamespace) -> str:
    return served([*specimens, slow_table])


@pytest.fixture(scope="session")
def gallery(served: Any) -> str:
    import zoo

    return served(zoo.names())


@pytest.fixture
def visit(chrome: Any) -> Iterator[Callable[..., Any]]:
    """Open a page in a browser context of its own; at the end no page may have had an error in its console or from the server."""
    contexts, wrong = [], []

    def start(url: str, **options: Any) -> Any:
        context = chrome.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on(
            "console",
            lambda said: (
                wrong.append(f"{said.type}: {said.text}") if said.type in ("error", "warning") and GRID_GONE not in said.text else None
            ),
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("response", lambda answer: wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
        page.goto(url)
        return page

    yield start
    seen = list(wrong)  # before closing: a request cut off by the closing itself is no fault of the page
    for context in contexts:
        context.close()
    assert seen == []
