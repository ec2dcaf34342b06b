"""Wall time of DeepLIFT SHAP against captum's, with the largest difference between the two.

Run ``python benchmarks/deeplift.py`` (``--help`` for sizes). Both sides explain the same inputs against the same background on
the logit of one class; ours goes through ``explain()``, the verdict off. Captum forms every pair of input and background row
and sends both of each pair forward; here each goes forward once. The networks are such that captum is right on them: every
activation a module of its own, no maximum pooling.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import numpy as np
import torch
import typer
from results import Figure, Results
from rich.progress import track
from speed import COLUMNS, mlp
from timing import in_turn, one_thread
from torch import nn

import explainer

PARITY = 1e-5
FEW_PAIRS = (
    "of so few pairs the passes take some milliseconds, to which explain() adds its own (the scores of the inputs, validation, hashes, the "
    "frozen result); an input and its references go forward once each where captum's pairs go twice, and the fewer, the less is saved."
)


def cnn() -> nn.Module:
    """Convolutions at three sizes on 32 x 32 colour pictures."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    ).eval().requires_grad_(False)  # fmt: skip


def against_captum(kind: str, inputs: int, background: int, device: str, rounds: int) -> Figure:
    """One case: our time against captum's."""
    from captum.attr import DeepLiftShap

    warnings.filterwarnings("ignore")
    rng = np.random.default_rng(0)
    if kind == "CNN":
        net, bar = cnn().to(device), 2.5
        rows = rng.random((inputs + background, 32, 32, 3)).astype(np.float32)
        options: dict[str, Any] = {"modality": "image", "class_names": [str(j) for j in range(10)]}
    else:
        net, bar = mlp().to(device), None
        rows = rng.normal(size=(inputs + background, COLUMNS)).astype(np.float32)
        options = {"modality": "tabular", "class_names": ["no", "yes"], "feature_names": [f"x{j}" for j in range(COLUMNS)]}
    model = explainer.wrap(net, returns="logit", background=rows[inputs:], **options)
    x, b = (model.encode(model.canonical(part)).tensors[0] for part in (rows[:inputs], rows[inputs:]))  # type: ignore[attr-defined]
    peer = DeepLiftShap(net)

    def ours() -> np.ndarray:
        return explainer.explain(model, rows[:inputs], "deeplift_shap", target=1, output="logit", verify=False).values

    def captum() -> np.ndarray:
        return peer.attribute(x, b, target=1).detach().cpu().numpy()

    theirs = captum().sum(1) if kind == "CNN" else captum()
    far = float(np.abs(ours() - theirs).max() / np.abs(theirs).max())
    times = in_turn({"ours": ours, "captum": captum}, rounds)
    detail = f"{1e3 * times.of('captum'):.1f} ms against {1e3 * times.of('ours'):.1f} ms; differ by {far:.1g} of the largest value"
    if far > PARITY:
        detail += ": not the same values"
    case = f"DeepLIFT SHAP, {kind}, {inputs} x {background}{'' if device == 'cpu' else ', GPU'}"
    return Figure(case, "captum DeepLiftShap", times.ratio("captum", "ours"), bar, detail=detail, why=FEW_PAIRS)


def measure(quick: bool = False) -> Results:
    """All cases on the CPU, and on a GPU where there is one."""
    cases = [("CNN", 4, 16), ("CNN", 16, 16), ("MLP", 32, 16), ("MLP", 256, 50)]
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    steps = [(*case, device) for device in devices for case in (cases[:1] if quick else cases)]
    return Results([against_captum(*step, 2 if quick else 5) for step in track(steps, "deeplift", transient=True)])


def main(quick: Annotated[bool, typer.Option(help="One case, two rounds: to see that it works, not to quote.")] = False) -> None:
    """Print the ratios."""
    one_thread()
    measure(quick).show()


if __name__ == "__main__":
    typer.run(main)
