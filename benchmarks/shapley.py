"""Error against exact Shapley values at equal evaluations, ours beside shap's, captum's and shapiq's, and time to equal error.

Run ``python benchmarks/shapley.py`` (``--help`` for sizes). Every method gets the same games (``games.py``), through the same
function of coalitions, and the same count of evaluations; each row is a median over instances and seeds.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from games import GAMES, Game, Scores, enumerated, mlp_on_tumours, on_rows, probability
from results import Errors, Figure, Results
from rich.progress import track
from timing import Spread, in_turn, one_thread

import explainer
from explainer.methods.shapley import ALGORITHMS

SAMPLED = [a for a in ("gaussian", "kernel", "permutation", "stratified") if a in ALGORITHMS]  # the first is the default
BARS = {"MLP 14": 0.7, "CNN 16": 0.7, "boosting 30": 0.7, "boosting 64": 1.0}
BUDGETS = (512, 2048)
AHEAD = "the peer's form fits this game: a quadratic model where few parts interact, or orders where most do."
QUICK_MODEL = "the model takes a fraction of a microsecond a row, so learning a strength per part costs as much as the rows it saves."
QUICK = {"MLP 14": False}  # relevance= that explain() takes for a torch module on a table; the games come to it as functions
Method = Callable[[Scores, int, int, int], np.ndarray]


def ours(v: Scores, d: int, budget: int, seed: int, algorithm: str, relevance: bool | str = "auto") -> explainer.Explanation:
    """The game as a model of ``d`` columns that are 1 where the player is there and 0 where not."""
    columns = [f"player {j}" for j in range(d)]
    model = explainer.wrap(
        lambda table: v(np.asarray(table) > 0.5)[:, None], modality="tabular", task="regression", class_names=["value"],
        background=pd.DataFrame(np.zeros((1, d)), columns=columns),
    )  # fmt: skip
    row = pd.DataFrame(np.ones((1, d)), columns=columns)
    return explainer.explain(model, row, "shap", algorithm=algorithm, relevance=relevance, budget=budget, seed=seed, verify=False)


def shap_kernel(v: Scores, d: int, budget: int, seed: int, l1: str | bool = False) -> np.ndarray:
    import shap

    np.random.seed(seed)
    found = shap.KernelExplainer(lambda z: v(z > 0.5), np.zeros((1, d)))
    return np.ravel(found.shap_values(np.ones((1, d)), nsamples=budget - 2, l1_reg=l1, silent=True))


def shap_default(v: Scores, d: int, budget: int, seed: int) -> np.ndarray:
    return shap_kernel(v, d, budget, seed, "num_features(10)")


def shap_permutation(v: Scores, d: int, budget: int, seed: int) -> np.ndarray:
    import shap

    np.random.seed(seed)
    found = shap.PermutationExplainer(lambda z: v(z > 0.5), np.zeros((1, d)), seed=seed)
    return np.ravel(found(np.ones((1, d)), max_evals=max(budget, 2 * d + 1), silent=True).values)


def captum_kernel(v: Scores, d: int, budget: int, seed: int) -> np.ndarray:
    return _captum("KernelShap", v, d, seed, n_samples=budget, perturbations_per_eval=256)


def captum_sampling(v: Scores, d: int, budget: int, seed: int) -> np.ndarray:
    return _captum("ShapleyValueSampling", v, d, seed, n_samples=max(1, (budget - 1) // d), perturbations_per_eval=d)


def _captum(name: str, v: Scores, d: int, seed: int, **sizes: int) -> np.ndarray:
    import torch
    from captum import attr

    torch.manual_seed(seed)
    np.random.seed(seed)
    method = getattr(attr, name)(lambda z: torch.from_numpy(np.atleast_1d(v(z.numpy() > 0.5))))
    return method.attribute(torch.ones(1, d), torch.zeros(1, d), **sizes).numpy().reshape(-1)


def shapiq_kernel(v: Scores, d: int, budget: int, seed: int) -> np.ndarray:
    from shapiq.approximator import KernelSHAP

    return KernelSHAP(n=d, pairing_trick=True, random_state=seed).approximate(budget, v).get_n_order_values(1)


def shapiq_kadd(v: Scores, d: int, budget: int, seed: int) -> np.ndarray:
    from shapiq.approximator import kADDSHAP

    return kADDSHAP(n=d, max_order=2, random_state=seed).approximate(budget, v).get_n_order_values(1)


PEERS: dict[str, Method] = {
    "shap Kernel, l1 off": shap_kernel, "shap Kernel": shap_default, "shap Permutation": shap_permutation,
    "captum KernelShap": captum_kernel, "captum Sampling": captum_sampling, "shapiq Kernel, paired": shapiq_kernel,
    "shapiq kADD 2": shapiq_kadd,
}  # fmt: skip


def compare(name: str, games: list[Game], budget: int, seeds: int) -> Errors:
    """All methods on all instances of one game."""
    found: dict[str, list[float]] = {}
    covered = []
    for game in games:
        for seed in range(seeds):
            for algorithm in SAMPLED:
                ex = ours(game.v, game.d, budget, seed, algorithm, QUICK.get(name, "auto"))
                found.setdefault(f"explainer, {algorithm}", []).append(game.error(ex.values[0]))
                if algorithm == SAMPLED[0]:
                    covered.append(np.mean(np.abs(ex.values[0] - game.exact) <= 1.96 * ex.stderr[0]))
            for peer, method in PEERS.items():
                found.setdefault(peer, []).append(game.error(method(game.v, game.d, budget, seed)))
    medians = {method: float(np.median(errors)) for method, errors in found.items()}
    own = {method: medians.pop(method) for method in list(medians) if method not in PEERS}
    return Errors(name, budget, own, medians, BARS.get(name), float(np.mean(covered)), AHEAD)


def to_equal_error(instances: int, rounds: int) -> Figure:
    """Time of shap's KernelExplainer on an MLP over ours, at a count of evaluations at which our error is no larger than its."""
    import shap

    net, train, test = mlp_on_tumours(14)
    predict, background, rows = probability(net, 1), train[:100], test[:instances]
    games = [enumerated(on_rows(predict, x, background), 14) for x in rows]
    model = explainer.wrap(net, modality="tabular", feature_names=[f"x{j}" for j in range(14)], class_names=["0", "1"], returns="logit")
    kernel = shap.KernelExplainer(predict, background)

    def theirs() -> np.ndarray:
        np.random.seed(0)
        return np.asarray(kernel.shap_values(rows, l1_reg=False, silent=True))

    def own(budget: int) -> np.ndarray:
        ex = explainer.explain(
            model, rows, "shap", target=1, background=background, budget=budget, algorithm=SAMPLED[0], verify=False
        )  # fmt: skip
        return ex.values

    def error(values: np.ndarray) -> float:
        return float(np.median([game.error(phi) for game, phi in zip(games, values, strict=True)]))

    wanted = error(theirs())
    grid = [64, 128, 192, 256, 320, 384, 448, 512, 640, 768, 1024, 1536, 2048]
    budget = next((b for b in grid if error(own(b)) <= wanted), grid[-1])
    reached = error(own(budget))
    times = in_turn({"shap": theirs, "ours": lambda: own(budget)}, rounds)
    value = times.ratio("shap", "ours") if reached <= wanted else Spread(0.0, 0.0, 0.0)
    detail = (
        f"{instances} rows, {len(background)} background rows; error {wanted:.3g} at {2 * 14 + 2048} evaluations against {reached:.3g} at "
        f"{budget}; {times.of('shap'):.2f} s against {times.of('ours'):.2f} s"
    )
    return Figure("Shapley values of an MLP to equal error", "shap KernelExplainer, l1 off", value, bar=8, detail=detail, why=QUICK_MODEL)


def measure(quick: bool = False, games: list[str] | None = None, instances: int = 5, seeds: int = 3) -> Results:
    """Errors on every game at every budget, then the time to equal error."""
    warnings.filterwarnings("ignore")
    logging.getLogger("shap").setLevel(logging.ERROR)
    if quick:
        instances, seeds = 2, 1
    results = Results(notes=[f"Errors are medians over {instances * seeds} runs: {instances} instances, {seeds} seeds."])
    for name in games or GAMES:
        built = GAMES[name](instances)
        for budget in track(BUDGETS, name, transient=True):
            results.errors.append(compare(name, built, budget, seeds))
    results.figures.append(to_equal_error(2 if quick else 10, 2 if quick else 5))
    return results


def main(
    quick: Annotated[bool, typer.Option(help="Two runs per figure: to see that it works, not to quote.")] = False,
    game: Annotated[list[str] | None, typer.Option(help=f"Only these games, of {', '.join(GAMES)}.")] = None,
    instances: int = 5,
    seeds: int = 3,
) -> None:
    """Print the errors and the time to equal error."""
    one_thread()
    measure(quick, game, instances, seeds).show()


if __name__ == "__main__":
    typer.run(main)
