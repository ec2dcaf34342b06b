"""Wall time of the coalition engine against bare passes of the model, and of ablation and KernelShap against captum.

Run ``python benchmarks/speed.py`` (``--help`` for sizes). Bare passes are eager float32 passes in inference mode over exactly
the rows that are needed, ready as tensors, at the batch size that was fastest of several. With a GPU the same is measured there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
import typer
from results import Figure, Results
from rich.progress import track
from timing import Spread, best_batch, in_turn, one_thread, rows_seen
from torch import nn

import explainer
from explainer import features
from explainer.coalitions import Coalitions
from explainer.target import resolve

COLUMNS = 30
BESIDE = "beside the passes the engine lays out the rows of every coalition and tells them apart, which is memory traffic."
AROUND = "the model takes under a microsecond a row, so what explain() does around it (validation, hashes, the frozen result) shows."
BATCHES = {"tabular": (256, 1024, 4096), "image": (4, 8, 16, 32, 64)}
GPU_BATCHES = {"tabular": (4096, 16384, 65536), "image": (64, 128, 256, 512)}


def mlp() -> nn.Module:
    torch.manual_seed(0)
    sizes = [COLUMNS, 128, 128, 128, 2]
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).eval().requires_grad_(False)


class _Block(nn.Module):
    def __init__(self, enter: int, leave: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(enter, leave, 3, stride, 1, bias=False), nn.BatchNorm2d(leave), nn.ReLU(),
            nn.Conv2d(leave, leave, 3, 1, 1, bias=False), nn.BatchNorm2d(leave),
        )  # fmt: skip
        self.way = nn.Identity() if enter == leave else nn.Sequential(nn.Conv2d(enter, leave, 1, stride, bias=False), nn.BatchNorm2d(leave))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.way(x))


def cnn() -> nn.Module:
    """A small residual network; on 64 x 64 colour pictures more than a millisecond a row on one thread."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), _Block(32, 32, 1), _Block(32, 64, 2), _Block(64, 128, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    ).eval().requires_grad_(False)  # fmt: skip


def batches(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def bare(net: nn.Module, rows: torch.Tensor, size: int) -> torch.Tensor:
    """The passes that any method needs at least."""
    with torch.inference_mode():
        return torch.cat([net(rows[part]) for part in batches(len(rows), size)])


def engine(
    case: str, net: nn.Module, model: explainer.Model, inputs: Any, masks: np.ndarray, bar: float, rounds: int, **cut: Any
) -> list[Figure]:
    """One stream over all instances against bare passes over the same rows."""
    given = model.canonical(inputs)
    goal = resolve(1, model.scores(given, "logit"), model.class_names)
    parts = features.build(model, given, **cut)
    asks = [(i, masks) for i in range(len(given))]

    def ours() -> list[np.ndarray]:
        return Coalitions(model, given, parts, goal, "logit").gather(asks)

    device = next(net.parameters()).device
    rows = model.encode(parts.rows_of(asks)).call(lambda x: x).to(device)  # type: ignore[attr-defined]
    sizes = (BATCHES if device.type == "cpu" else GPU_BATCHES)[model.modality]
    size = best_batch(lambda size: synchronised(lambda: bare(net, rows, size), device), sizes)
    far = float(np.abs(np.concatenate(ours())[:, 0] - bare(net, rows, size)[:, 1].double().cpu().numpy()).max())
    times = in_turn({"ours": ours, "bare": lambda: synchronised(lambda: bare(net, rows, size), device)}, rounds)
    detail = (
        f"{len(rows)} rows, {rows_seen(net, ours)} scored; {1e3 * times.of('bare') / len(rows):.3g} ms a row bare at batch {size}; "
        f"largest difference {far:.1g}"
    )
    found = [Figure(f"engine, {case}", "bare passes", times.ratio("ours", "bare"), bar, at_most=True, detail=detail, why=BESIDE)]
    if device.type != "cpu":
        for name in ("ours", "bare"):
            rate = Spread.of(len(rows) / times.seconds[name])
            found.append(Figure(f"{'engine' if name == 'ours' else 'bare passes'}, {case}", "", rate, unit="rows/s"))
    return found


def synchronised(call: Callable[[], torch.Tensor], device: torch.device) -> torch.Tensor:
    found = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return found


def wrapped(net: nn.Module, background: np.ndarray | None = None) -> explainer.Model:
    if background is None:
        return explainer.wrap(net, modality="image", class_names=[str(j) for j in range(10)], returns="logit")
    names = [f"x{j}" for j in range(background.shape[1])]
    return explainer.wrap(net, modality="tabular", feature_names=names, class_names=["no", "yes"], returns="logit", background=background)


class Binned:
    """A table of numbers as one-hot bins, ten a column, and the numbers themselves: an encoder as tables have them."""

    def __init__(self, rows: np.ndarray) -> None:
        self.edges = np.quantile(rows, np.linspace(0.1, 0.9, 9), axis=0)
        self.groups = [*np.repeat(np.arange(rows.shape[1]), 10).tolist(), *range(rows.shape[1])]

    def __call__(self, frame: Any) -> torch.Tensor:
        values = frame.to_numpy(np.float32)
        bins = (values[..., None] >= self.edges.T).sum(-1)[..., None] == np.arange(10)
        return torch.from_numpy(np.concatenate([bins.reshape(len(values), -1), values], axis=1).astype(np.float32))


def encoded(device: str, rows: int, size: int, rounds: int) -> Figure:
    """A table behind an encoder, against making, encoding and passing every row in the batches that were fastest."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12 * 11, 64), nn.ReLU(), nn.Linear(64, 2)).eval().requires_grad_(False).to(device)
    x = rng.normal(size=(rows + 20, 12)).astype(np.float32)
    names = {"feature_names": [f"x{j}" for j in range(12)], "class_names": ["no", "yes"], "returns": "logit"}
    model = explainer.wrap(net, modality="tabular", preprocess=Binned(x), background=x[rows:], **names)  # type: ignore[arg-type]
    given = model.canonical(x[:rows])
    goal = resolve(1, model.scores(given, "logit"), model.class_names)
    parts = features.build(model, given)
    asks = [(i, rng.random((size, 12)) < 0.5) for i in range(rows)]

    def ours() -> list[np.ndarray]:
        return Coalitions(model, given, parts, goal, "logit").gather(asks)

    def usual(at_once: int) -> torch.Tensor:
        found = []
        for i, masks in asks:
            for part in batches(size, max(1, at_once // parts.repeats)):
                found.append(bare(net, model.encode(parts.rows(i, masks[part])).tensors[0], at_once))  # type: ignore[attr-defined]
        return torch.cat(found)[:, 1].reshape(-1, parts.repeats).mean(1).cpu()

    best = best_batch(usual, BATCHES["tabular"])
    far = float(np.abs(np.concatenate(ours())[:, 0] - usual(best).double().numpy()).max())
    times = in_turn({"ours": ours, "usual": lambda: usual(best)}, rounds)
    detail = (
        f"{rows * size * parts.repeats} rows; {1e3 * times.of('usual'):.0f} ms against {1e3 * times.of('ours'):.0f} ms; largest difference "
        f"{far:.1g}"
    )
    where = "" if device == "cpu" else ", GPU"
    return Figure(f"engine, 12 columns behind an encoder{where}", "encoding every row", times.ratio("usual", "ours"), detail=detail)


def on_device(device: str, quick: bool) -> list[Figure]:
    """Overhead of the engine on a small and on a slower model."""
    rng, rounds = np.random.default_rng(0), 2 if quick else 5
    where = "" if device == "cpu" else ", GPU"
    rows, size = (8, 200) if quick else (64, 1000)
    net = mlp().to(device)
    x = rng.normal(size=(rows + 1, COLUMNS)).astype(np.float32)
    masks = rng.random((size, COLUMNS)) < 0.5
    found = engine(f"MLP of {COLUMNS} features{where}", net, wrapped(net, x[-1:]), x[:rows], masks, 1.5, rounds)
    net = cnn().to(device)
    pictures = rng.random((1 if quick else 4, 64, 64, 3)).astype(np.float32)
    masks = rng.random((16 if quick else 128, 64)) < 0.5
    found += engine(f"residual CNN, 64 x 64{where}", net, wrapped(net), pictures, masks, 1.1, rounds, features="patches")
    return [*found, encoded(device, rows // 4, size, rounds)]


def against_captum(device: str, quick: bool) -> list[Figure]:
    """A batch of rows through ``explain()``, the verdict off, against captum one row at a time (its default for KernelShap)."""
    from captum import attr

    warnings.filterwarnings("ignore", module="captum")
    rng, rounds = np.random.default_rng(0), 2 if quick else 5
    where = "" if device == "cpu" else ", GPU"
    n, few, samples = (8, 1, 100) if quick else (64, 2, 1000)
    net = mlp().to(device)
    x = rng.normal(size=(n, COLUMNS)).astype(np.float32)
    background = np.zeros((1, COLUMNS), np.float32)
    model, tensors = wrapped(net, background), torch.from_numpy(x).to(device)
    zeros = torch.zeros(1, COLUMNS, device=device)
    ablation, kernel = attr.FeatureAblation(net), attr.KernelShap(net)

    def ours(method: str, **parameters: Any) -> np.ndarray:
        return explainer.explain(model, x, method, target=1, output="logit", verify=False, **parameters).values

    def one_by_one() -> torch.Tensor:
        return torch.cat([ablation.attribute(row[None], zeros, target=1) for row in tensors])

    def shapley(rows: int) -> torch.Tensor:
        torch.manual_seed(0)
        return torch.cat([kernel.attribute(row[None], zeros, target=1, n_samples=samples) for row in tensors[:rows]])

    calls = {
        "ours": lambda: ours("ablation"), "rows": one_by_one, "batch": lambda: ablation.attribute(tensors, zeros, target=1),
    }  # fmt: skip
    far = float(np.abs(ours("ablation") - one_by_one().cpu().numpy()).max())
    times = in_turn(calls, rounds)
    case = f"ablation of {COLUMNS}, MLP, {n} rows{where}"
    found = [
        Figure(case, "captum FeatureAblation, a row a call", times.ratio("rows", "ours"), 30,
               detail=f"{1e3 * times.of('rows'):.0f} ms against {1e3 * times.of('ours'):.1f} ms; largest difference {far:.1g}", why=AROUND),
        Figure(case, "captum FeatureAblation, all rows in one call", times.ratio("batch", "ours"),
               detail=f"{1e3 * times.of('batch'):.1f} ms against {1e3 * times.of('ours'):.1f} ms; captum's default on a batch"),
    ]  # fmt: skip
    truth = explainer.explain(model, x[:few], "shap", target=1, output="logit", budget=8 * samples, seed=1, verify=False).values
    own, theirs = ours("shap", budget=samples)[:few], shapley(few).cpu().numpy()
    times = in_turn({"ours": lambda: ours("shap", budget=samples), "captum": lambda: shapley(few)}, rounds)
    detail = (
        f"{1e3 * times.of('captum') / few:.0f} ms a row ({few} rows timed) against {1e3 * times.of('ours') / n:.2f} ms; error "
        f"{_far(theirs, truth):.2g} against {_far(own, truth):.2g}"
    )
    ratio = times.ratio("captum", "ours", scale=n / few)
    case = f"Shapley values, {samples} evaluations, MLP, {n} rows{where}"
    found.append(Figure(case, "captum KernelShap", ratio, 100, detail=detail, why=AROUND))
    return found


def _far(values: np.ndarray, truth: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(values - truth, axis=1) / np.linalg.norm(truth, axis=1)))


def measure(quick: bool = False) -> Results:
    """All ratios on the CPU, and on a GPU where there is one."""
    results = Results()
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    steps = [(part, device) for device in devices for part in (on_device, against_captum)]
    for part, device in track(steps, "speed", transient=True):
        results.figures += part(device, quick)
    if len(devices) == 1:
        results.notes.append("No GPU on this machine: the table of times on a GPU, and rows per second on it, were not measured.")
    return results


def main(quick: Annotated[bool, typer.Option(help="Small sizes, two rounds: to see that it works, not to quote.")] = False) -> None:
    """Print the ratios."""
    one_thread()
    measure(quick).show()


if __name__ == "__main__":
    typer.run(main)
