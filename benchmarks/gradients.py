"""Wall time of gradient methods against captum's: as captum comes, and tuned by hand.

Run ``python benchmarks/gradients.py`` (``--help`` for sizes). Both sides explain the same inputs on the logit of one class; ours
goes through ``explain()``, the verdict off. Captum tuned by hand takes the fastest of several internal batch sizes, and on text
the embeddings as its input; as it comes it has every step of every input in one pass, and on text a hook on the embedding layer.
Integrated gradients take captum's 50 steps on both sides. Ours by default takes as many as its error asks for; that is held against
captum at the fewest steps, each a quarter more than those before, with which its values are no farther off than ours: the error is
the largest of an input's values, as a share of the largest, in the median over inputs, against captum at 3200 steps. Captum does
not say it: who does not know how many steps are enough has to run twice as many to see. The completeness error stands beside it.
Our result holds the scores too, so where one gradient is all there is, captum's side scores the inputs as well.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import typer
from deeplift import cnn
from results import Figure, Results
from rich.progress import track
from speed import COLUMNS, mlp
from timing import best_batch, in_turn, one_thread
from torch import Tensor, nn

import explainer

EQUAL = 1 / 1.15  # ratios that count as equal
STEPS, DRAWS = 50, 64
FEWEST = 8  # steps of captum tried first at equal error
MOST, TRUTH, FINER = 1600, 3200, 1.25  # steps of captum at equal error, at most, and of what is right; from one try to the next
SIZES = (16, 64, 256, 1024, 4096)
PARITY = 1e-4
_WHY = "equal within 15 %: the passes are the same, and explain() scores and stamps the inputs too."


class Encoder(nn.Module):
    """Two transformer layers over 64 tokens, with a way in past the embedding for captum tuned by hand."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.token = nn.Embedding(200, width, padding_idx=0)
        layer = nn.TransformerEncoderLayer(width, 4, 128, batch_first=True, activation="gelu")
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(width, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.embedded(self.token(ids))

    def embedded(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class Words:
    """One token per word, 64 of them."""

    pad_id, special_ids, max_length = 0, {0}, 64

    def __call__(self, texts: list[str]) -> Tensor:
        return torch.tensor([[1 + sum(map(ord, word)) % 199 for word in text.split()] for text in texts])

    def offsets(self, texts: list[str]) -> list[list[tuple[int, int]]]:
        return [[m.span() for m in re.finditer(r"\S+", text)] for text in texts]


@dataclass
class Case:
    """One comparison: ``tuned(size)`` is captum with that internal batch size.

    Of integrated gradients also ``adaptive``, ours with the steps it chooses, ``stepped(steps, size)``, captum with those steps, and
    ``difference``, what the values of each input are to add up to.
    """

    name: str
    peer: str
    ours: Callable[[], np.ndarray]
    default: Callable[[], np.ndarray] | None  # nothing where there is nothing to tune
    tuned: Callable[[int], np.ndarray]
    exact: bool = True
    adaptive: Callable[[], np.ndarray] | None = None
    stepped: Callable[[int, int], np.ndarray] | None = None
    difference: np.ndarray | None = None

    def error(self, values: np.ndarray, truth: np.ndarray) -> float:
        """The largest error of each input's values, as a share of the largest right one: the median over inputs."""
        far, size = (np.abs(one).reshape(len(truth), -1).max(1) for one in (values - truth, truth))
        return float(np.median(far / size))

    def gap(self, values: np.ndarray) -> float:
        """The root mean square of the completeness errors, as a share of that of the differences."""
        assert self.difference is not None
        gaps = values.reshape(len(values), -1).sum(1) - self.difference
        return float(np.sqrt((gaps**2).mean() / (self.difference**2).mean()))


def table(rows: int) -> tuple[Any, Any, np.ndarray, Tensor]:
    x = np.random.default_rng(0).normal(size=(rows, COLUMNS)).astype(np.float32)
    net = mlp()
    names = [f"x{j}" for j in range(COLUMNS)]
    model = explainer.wrap(net, returns="logit", modality="tabular", class_names=["no", "yes"], feature_names=names)
    return model, net, x, torch.tensor(x)


def pictures(count: int) -> tuple[Any, Any, np.ndarray, Tensor]:
    x = np.random.default_rng(0).random((count, 32, 32, 3)).astype(np.float32)
    net = cnn()
    model = explainer.wrap(net, returns="logit", modality="image", class_names=[str(j) for j in range(10)])
    return model, net, x, model.encode(model.canonical(x)).tensors[0]  # type: ignore[attr-defined]


def _explain(model: Any, inputs: Any, method: str, **options: Any) -> np.ndarray:
    return explainer.explain(model, inputs, method, target=1, output="logit", verify=False, **options).values


def _plain(found: Tensor, image: bool) -> np.ndarray:
    values = found.detach().numpy()
    return values.sum(1) if image else values


def _difference(net: nn.Module, x: Tensor, start: Tensor) -> np.ndarray:
    with torch.no_grad():
        return (net(x) - net(start))[:, 1].numpy()


def integrated(kind: str, rows: int) -> Case:
    from captum.attr import IntegratedGradients

    model, net, inputs, x = (table if kind == "MLP" else pictures)(rows)
    peer, zero, image = IntegratedGradients(net), torch.zeros_like(x), kind == "CNN"

    def captum(size: int | None, steps: int = STEPS) -> np.ndarray:
        return _plain(peer.attribute(x, zero, target=1, n_steps=steps, internal_batch_size=size), image)

    return Case(
        f"integrated gradients, {STEPS} steps, {kind}, {rows} inputs", "IntegratedGradients",
        lambda: _explain(model, inputs, "integrated_gradients", steps=STEPS, baseline="zeros"), lambda: captum(None), captum,
        adaptive=lambda: _explain(model, inputs, "integrated_gradients", baseline="zeros"),
        stepped=lambda steps, size: captum(size, steps), difference=_difference(net, x, zero),
    )  # fmt: skip


def integrated_text(rows: int) -> Case:
    from captum.attr import IntegratedGradients, LayerIntegratedGradients

    net = Encoder().eval().requires_grad_(False)
    rng = np.random.default_rng(0)
    texts = [" ".join(f"word{k}" for k in rng.integers(0, 999, 64)) for _ in range(rows)]
    model = explainer.wrap(net, returns="logit", modality="text", preprocess=Words(), class_names=list("abcd"))
    ids = Words()(texts)
    x, plain = net.token(ids), IntegratedGradients(net.embedded)
    hooked = LayerIntegratedGradients(net, net.token)

    def default() -> np.ndarray:
        return hooked.attribute(ids, torch.zeros_like(ids), target=1, n_steps=STEPS).detach().numpy().sum(-1)

    def tuned(size: int, steps: int = STEPS) -> np.ndarray:
        found = plain.attribute(x, torch.zeros_like(x), target=1, n_steps=steps, internal_batch_size=size)
        return found.detach().numpy().sum(-1)

    return Case(
        f"integrated gradients, {STEPS} steps, encoder, {rows} texts", "IntegratedGradients",
        lambda: _explain(model, texts, "integrated_gradients", steps=STEPS), default, tuned,
        adaptive=lambda: _explain(model, texts, "integrated_gradients"),
        stepped=lambda steps, size: tuned(size, steps), difference=_difference(net, ids, torch.zeros_like(ids)),
    )  # fmt: skip


def smoothed(rows: int) -> Case:
    from captum.attr import NoiseTunnel, Saliency

    model, net, inputs, x = table(rows)
    tunnel, stdev = NoiseTunnel(Saliency(net)), 0.15 * float(np.ptp(inputs, axis=1).mean())

    def captum(size: int | None) -> np.ndarray:
        rows_each = None if size is None else max(1, size // rows)
        found = tunnel.attribute(
            x, nt_type="smoothgrad", nt_samples=DRAWS, nt_samples_batch_size=rows_each, stdevs=stdev, target=1, abs=False
        )
        return np.abs(found.detach().numpy())

    return Case(
        f"SmoothGrad, {DRAWS} draws, MLP, {rows} rows", "NoiseTunnel(Saliency)",
        lambda: _explain(model, inputs, "smoothgrad", samples=DRAWS), lambda: captum(None), captum, exact=False,
    )  # fmt: skip


def saliency(kind: str, rows: int) -> Case:
    from captum.attr import Saliency

    model, net, inputs, x = (table if kind == "MLP" else pictures)(rows)
    peer, image = Saliency(net), kind == "CNN"

    def captum(size: int | None = None) -> np.ndarray:
        parts = []
        for some in x.split(size or len(x)):
            with torch.no_grad():
                net(some)
            parts.append(peer.attribute(some, target=1))
        return _plain(torch.cat(parts), image)

    return Case(f"saliency, {kind}, {rows} inputs", "Saliency", lambda: _explain(model, inputs, "saliency"), None, captum)


CASES: tuple[Callable[[], Case], ...] = (
    lambda: integrated("MLP", 256),
    lambda: integrated("CNN", 8),
    lambda: integrated_text(8),
    lambda: smoothed(256),
    lambda: saliency("MLP", 4096),
    lambda: saliency("CNN", 256),
)


def against_captum(case: Case, rounds: int) -> list[Figure]:
    """Our time against captum's, tuned by hand and as it comes, and at equal error where there is one."""
    warnings.filterwarnings("ignore")
    size = best_batch(case.tuned, SIZES, 2)
    calls = {"ours": case.ours, "tuned": lambda: case.tuned(size)}
    if case.default is not None:
        calls["default"] = case.default
    times = in_turn(calls, rounds)
    ours, theirs = case.ours(), case.tuned(size)
    far = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    figures = []
    for name, against, bar in (("tuned", f"captum {case.peer}, batches of {size}", EQUAL), ("default", f"captum {case.peer}", 1.0)):
        if name not in calls:
            continue
        detail = f"{1e3 * times.of(name):.1f} ms against {1e3 * times.of('ours'):.1f} ms"
        detail += f"; differ by {far:.1g} of the largest value" if case.exact else "; other draws"
        if case.exact and far > PARITY:
            detail += ": not the same values"
        figures.append(Figure(case.name, against, times.ratio(name, "ours"), round(bar, 2), detail=detail, why=_WHY))
    return figures if case.adaptive is None or case.stepped is None else [*figures, at_equal_error(case, size, rounds)]


def at_equal_error(case: Case, size: int, rounds: int) -> Figure:
    """Ours with the steps it chooses against captum with as many as its error then needs."""
    assert case.adaptive is not None and case.stepped is not None
    ours, stepped = case.adaptive, case.stepped
    truth, found = stepped(TRUTH, size), ours()
    error, steps, theirs = case.error(found, truth), FEWEST, stepped(FEWEST, size)
    while case.error(theirs, truth) > error and steps < MOST:
        steps = round(FINER * steps)
        theirs = stepped(steps, size)
    times = in_turn({"ours": ours, "captum": lambda: stepped(steps, size)}, rounds)
    detail = (
        f"{1e3 * times.of('captum'):.0f} ms against {1e3 * times.of('ours'):.0f} ms; values off by {case.error(theirs, truth):.2g} against "
        f"{error:.2g}, completeness error {case.gap(theirs):.1g} against {case.gap(found):.1g}"
    )
    name = case.name.replace(f", {STEPS} steps", "")
    return Figure(
        f"{name}, at equal error", f"captum {case.peer}, {steps} steps, batches of {size}", times.ratio("captum", "ours"), detail=detail
    )


def measure(quick: bool = False) -> Results:
    """All cases on the CPU."""
    cases = [lambda: integrated("MLP", 8)] if quick else CASES
    results = Results()
    for make in track(cases, "gradients", transient=True):
        results.figures += against_captum(make(), 2 if quick else 5)
    return results


def main(quick: Annotated[bool, typer.Option(help="One case, two rounds: to see that it works, not to quote.")] = False) -> None:
    """Print the ratios."""
    one_thread()
    measure(quick).show()


if __name__ == "__main__":
    typer.run(main)
