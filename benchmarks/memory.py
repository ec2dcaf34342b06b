"""Peak memory of large explanations, each in a process of its own.

Run ``python benchmarks/memory.py``. A table of 10,000 rows x 200 columns, once against 100 background rows and once against a
baseline row, counts whole: interpreter, libraries, model, data and result. All rows have 32 evaluations each; the default of 2,048 is
run on 10 rows, for it would take all of them an hour, and shap's KernelExplainer on 3 rows with as many. A picture of 1024 x 1024
with 200 superpixels counts what explaining adds to the process, which a bare pass of one batch, and the picture once more, must
cover. So do integrated gradients of 300 steps on a picture of 224 x 224, which bare gradients of the same batches, and half as much
again, must cover.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from results import Figure, Results
from rich.progress import track
from timing import Spread, one_thread

ROWS, COLUMNS, BACKGROUND, EVALUATIONS = 10_000, 200, 100, 32
FEWER, PEERS = 10, 3  # rows at the default of 2,048 evaluations, which all rows would take an hour for; rows of shap's explainer
SIDE, SEGMENTS, BATCH = 1024, 200, 8
WAY, STEPS, PASS = 224, 300, 10
HELD = "what is held beside a batch (masks, scores, results of all rows) comes on top."
LIMIT = 600  # seconds for one case


def held(line: str = "VmHWM") -> float:
    """Memory this process holds (VmRSS), or the most it has held so far (VmHWM), GB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says of a child begins with the memory of its parent
        found = next(one for one in status.read_text().splitlines() if one.startswith(line))
        return int(found.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def table(method: str, background: int, budget: int | None, rows: int) -> dict[str, float]:
    import torch
    from torch import nn

    import explainer

    rng = np.random.default_rng(0)
    names = [f"x{j}" for j in range(COLUMNS)]
    net = nn.Sequential(nn.Linear(COLUMNS, 32), nn.ReLU(), nn.Linear(32, 2)).eval()
    x = rng.normal(size=(rows, COLUMNS)).astype(np.float32)
    model = explainer.wrap(net, modality="tabular", feature_names=names, class_names=["no", "yes"], returns="logit")
    start, libraries = time.perf_counter(), held()
    ex = explainer.explain(
        model, x, method, target=1, background=rng.normal(size=(background, COLUMNS)).astype(np.float32), budget=budget, verify=False
    )
    assert ex.values.shape == (rows, COLUMNS) and torch.get_num_threads() == 1
    return {"gigabytes": held(), "before": libraries, "seconds": time.perf_counter() - start}


def peer(rows: int) -> dict[str, float]:
    """KernelExplainer of shap on the same model, background and evaluations."""
    import shap
    import torch
    from torch import nn

    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(COLUMNS, 32), nn.ReLU(), nn.Linear(32, 2)).eval()
    x, background = (rng.normal(size=(many, COLUMNS)).astype(np.float32) for many in (rows, BACKGROUND))

    def score(given: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return net(torch.from_numpy(np.asarray(given, np.float32))).softmax(-1)[:, 1].numpy()

    start, libraries = time.perf_counter(), held()
    values = shap.KernelExplainer(score, background).shap_values(x, nsamples=2048, l1_reg=False, silent=True)
    assert values.shape == x.shape
    return {"gigabytes": held(), "before": libraries, "seconds": time.perf_counter() - start}


def picture(quick: bool) -> dict[str, float]:
    import torch
    from torch import nn

    import explainer

    rng, side = np.random.default_rng(0), 128 if quick else SIDE
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 10)).eval()
    model = explainer.wrap(net, modality="image", class_names=[str(j) for j in range(10)], returns="logit")

    def explained(side: int) -> explainer.Explanation:
        image = np.kron(rng.random((1, side // 64, side // 64, 3)), np.ones((1, 64, 64, 1))).astype(np.float32)
        labels = (np.arange(side)[:, None] * 20 // side) * 10 + np.arange(side)[None] * 10 // side  # 20 x 10 segments
        return explainer.explain(model, image, "ablation", target=1, features=labels, verify=False)

    explained(64)  # loads what is loaded when first needed
    start, before = time.perf_counter(), held("VmRSS")
    with torch.inference_mode():
        net(torch.zeros(BATCH, 3, side, side))
    bare = held("VmHWM") - before
    assert explained(side).values.shape == (1, SEGMENTS)
    return {"gigabytes": held("VmHWM") - before, "before": before, "bare": bare, "seconds": time.perf_counter() - start}


def way(quick: bool) -> dict[str, float]:
    """Integrated gradients of 300 steps: what bare gradients add to the process, a batch at a time, and what explaining does."""
    import torch
    from torch import nn

    import explainer

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 7, 2, 3), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 128, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    ).eval()  # fmt: skip
    model = explainer.wrap(net, modality="image", class_names=[str(j) for j in range(10)], returns="logit")
    rows: list[int] = []

    def explained(side: int) -> explainer.Explanation:
        image = np.random.default_rng(0).random((1, side, side, 3)).astype(np.float32)
        return explainer.explain(model, image, "integrated_gradients", target=1, steps=30 if quick else STEPS, verify=False)

    explained(32)  # loads what is loaded when first needed
    start, before = time.perf_counter(), held("VmRSS")
    for _ in range((30 if quick else STEPS) // PASS):  # as often as the way has it: what is given back is not all used again
        x = torch.zeros(PASS, 3, WAY, WAY, requires_grad=True)
        torch.autograd.grad(net(x)[:, 1].sum(), x)
    bare = held("VmHWM") - before
    net.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    explained(WAY)
    assert max(rows) <= PASS, rows
    return {"gigabytes": held("VmHWM") - before, "before": before, "bare": bare, "seconds": time.perf_counter() - start}


CASES: dict[str, Callable[[bool], dict[str, float]]] = {
    "shap": lambda quick: table("shap", BACKGROUND, EVALUATIONS, 200 if quick else ROWS),
    "default": lambda quick: table("shap", BACKGROUND, None, 2 if quick else FEWER),
    "peer": lambda quick: peer(1 if quick else PEERS),
    "ablation": lambda quick: table("ablation", 1, None, 200 if quick else ROWS),
    "picture": picture,
    "way": way,
}


def alone(case: str, quick: bool) -> dict[str, Any] | str:
    """What one case took in a fresh process, or why it gave nothing."""
    command = [sys.executable, __file__, "--case", case, *(["--quick"] if quick else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=os.environ, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {LIMIT} s"
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else done.stderr.strip().splitlines()[-1][:200]


def measure(quick: bool = False) -> Results:
    """Peak memory of each case."""
    what = f"{200 if quick else ROWS:,} rows x {COLUMNS} columns"
    side = 128 if quick else SIDE
    image = side**2 * 3 * 4 / 1e9
    cases = {
        "shap": (f"{what} x {BACKGROUND} background rows, shap, {EVALUATIONS} evaluations", "peak of the process", 2.0),
        "default": (
            f"{2 if quick else FEWER} rows x {COLUMNS} columns x {BACKGROUND} background rows, shap, 2,048 evaluations (the default)",
            "peak of the process",
            2.0,
        ),
        "peer": (
            f"{1 if quick else PEERS} rows x {COLUMNS} columns x {BACKGROUND} background rows, shap's KernelExplainer, 2,048 evaluations",
            "peak of the process",
            None,
        ),
        "ablation": (f"{what}, ablation against a baseline row", "peak of the process", 2.0),
        "picture": (f"{side} x {side} picture, {SEGMENTS} superpixels, ablation", f"a bare batch of {BATCH} and the picture", None),
        "way": (
            f"{WAY} x {WAY} picture, integrated gradients, {30 if quick else STEPS} steps",
            f"bare gradients of {PASS}, and a half",
            None,
        ),
    }
    results = Results()
    for case, (name, against, bar) in track(cases.items(), "memory", transient=True):
        found = alone(case, quick)
        if isinstance(found, str):
            results.notes.append(f"{name}: {found}")
            continue
        value = found["gigabytes"]
        detail = f"{found['seconds']:.0f} s; {found['before']:.2f} GB before"
        if "bare" in found:
            bar = round(found["bare"] * 1.5 if case == "way" else found["bare"] + image, 3)
        results.figures.append(Figure(name, against, Spread(value, value, value), bar, True, "GB", detail, HELD))
    return results


def main(
    quick: Annotated[bool, typer.Option(help="Small inputs: to see that it works, not to quote.")] = False,
    case: Annotated[str | None, typer.Option(help="Run one case here and print what it took; the command does so itself.")] = None,
) -> None:
    """Print peak memory."""
    one_thread()
    if case is None:
        measure(quick).show()
    else:
        print(json.dumps(CASES[case](quick)))


if __name__ == "__main__":
    typer.run(main)
