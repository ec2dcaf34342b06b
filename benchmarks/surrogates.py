"""Wall time of LIME against the lime package: a table of many rows, and texts of 20 and 100 words; and its selection alone.

Run ``python benchmarks/surrogates.py`` (``--help`` for sizes). Ours is ``explain(..., method="lime", style="lime")`` with the
verdict off: lime's own sampling law, kernel and ridge, with standard errors and top-k stability on top. lime gets the model as
people write it: all rows in one call for the table, texts tokenised, padded and scored in batches of 32.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Annotated, Any

import numpy as np
import torch
import typer
from results import Figure, Results
from rich.progress import track
from timing import in_turn, one_thread
from torch import nn

import explainer

COLUMNS, VOCABULARY, BATCH = 30, 10_000, 32


class LSTM(nn.Module):
    """Two layers, read out at the last word, so that padding behind it changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY + 1, 128)
        self.rnn = nn.LSTM(128, 128, 2, batch_first=True)
        self.head = nn.Linear(128, 2)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        states = self.rnn(self.embed(ids))[0]
        return self.head(states[torch.arange(len(ids)), lengths - 1])


def tokenised(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    listed = [[int(word[1:]) for word in text.split()] or [VOCABULARY] for text in texts]
    lengths = torch.tensor([len(ids) for ids in listed])
    return nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in listed], batch_first=True, padding_value=VOCABULARY), lengths


def table(quick: bool) -> list[Figure]:
    """One set of samples serves all rows: lime's law knows no row."""
    from lime.lime_tabular import LimeTabularExplainer

    torch.manual_seed(0)
    rng, rounds = np.random.default_rng(0), 2 if quick else 5
    n, few, samples = (10, 2, 500) if quick else (50, 10, 5000)
    widths = [COLUMNS, 64, 64, 2]
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    net = nn.Sequential(*layers[:-1]).eval().requires_grad_(False)
    train, x = rng.normal(size=(500, COLUMNS)), rng.normal(size=(n, COLUMNS))
    names = [f"x{j}" for j in range(COLUMNS)]
    model = explainer.wrap(
        net, modality="tabular", feature_names=names, class_names=["no", "yes"], returns="logit", background=train
    )  # fmt: skip
    peer = LimeTabularExplainer(train, mode="classification", random_state=0)

    def score(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return net(torch.from_numpy(rows.astype(np.float32))).softmax(-1).numpy()

    def theirs(seed: int = 0) -> np.ndarray:
        peer.random_state = peer.base.random_state = np.random.RandomState(seed)
        values = np.zeros((few, COLUMNS))
        for i in range(few):
            for j, value in peer.explain_instance(x[i], score, num_features=COLUMNS, num_samples=samples).as_map()[1]:
                values[i, j] = value
        return values

    def ours() -> np.ndarray:
        return explainer.explain(model, x, "lime", target=1, style="lime", budget=samples, verify=False).values

    a, b, own = theirs(), theirs(1), ours()[:few]
    times = in_turn({"lime": theirs, "ours": ours}, rounds)
    return [
        Figure(
            f"LIME, table of {n} rows, {samples} samples, MLP", "lime LimeTabularExplainer", times.ratio("lime", "ours", scale=n / few), 15,
            detail=f"{1e3 * times.of('lime') / few:.0f} ms a row ({few} rows timed) against {1e3 * times.of('ours') / n:.1f} ms; "
            f"correlation with lime's {_alike(own, a):.3f}, of lime with itself at another seed {_alike(a, b):.3f}",
            why="the passes are the same; of the rest, drawing the neighbours as lime draws them is the most.",
        )
    ]  # fmt: skip


def text(words: int, bar: float, quick: bool) -> list[Figure]:
    """Equal texts are scored once, texts of like length together."""
    from lime.lime_text import LimeTextExplainer

    torch.manual_seed(0)
    rounds, samples = (2, 300) if quick else (5, 5000)
    net = LSTM().eval().requires_grad_(False)
    given = " ".join(f"w{j}" for j in np.random.default_rng(0).choice(VOCABULARY, words, replace=False))
    model = explainer.wrap(net, modality="text", preprocess=tokenised, class_names=["no", "yes"], returns="logit")

    def score(texts: list[str]) -> np.ndarray:
        with torch.inference_mode():
            parts = [net(*tokenised(texts[start : start + BATCH])).softmax(-1) for start in range(0, len(texts), BATCH)]
        return torch.cat(parts).numpy()

    def theirs() -> np.ndarray:
        peer = LimeTextExplainer(random_state=0)
        values = np.zeros(words)
        for j, value in peer.explain_instance(given, score, num_features=words, num_samples=samples).as_map()[1]:
            values[j] = value
        return values

    def ours() -> np.ndarray:
        return explainer.explain(model, [given], "lime", target=1, style="lime", budget=samples, verify=False).values[0]

    alike = float(np.corrcoef(ours(), theirs())[0, 1])
    times = in_turn({"lime": theirs, "ours": ours}, rounds)
    detail = f"{times.of('lime'):.2f} s against {times.of('ours'):.2f} s; correlation of the values {alike:.3f}"
    return [
        Figure(
            f"LIME, text of {words} words, {samples} samples, LSTM",
            "lime LimeTextExplainer",
            times.ratio("lime", "ours"),
            bar,
            detail=detail,
            why="equal texts are scored once and padding is nearly gone; what is left is the recurrent network itself.",
        )
    ]


def selection(quick: bool) -> list[Figure]:
    """Where lime refits a ridge for every candidate of every step, the Gram matrix holds all that the steps need."""
    from lime.lime_base import LimeBase

    from explainer.methods.surrogate import select

    rng = np.random.default_rng(0)
    kept = rng.random((500 if quick else 5000, COLUMNS)) < 0.5
    scores, weights = kept @ rng.normal(size=COLUMNS) + rng.normal(size=len(kept)), rng.random(len(kept))

    def ours() -> Any:
        x, y = kept - np.average(kept, axis=0, weights=weights), scores - np.average(scores, weights=weights)
        return select((x * weights[:, None]).T @ x, x.T @ (weights * y), 6, "forward_selection")

    def theirs() -> Any:
        return LimeBase(lambda d: d).forward_selection(kept.astype(float), scores, weights, 6)

    same = "the same selection" if ours().tolist() == theirs().tolist() else "ANOTHER SELECTION"
    times = in_turn({"lime": theirs, "ours": ours}, 2 if quick else 5)
    return [
        Figure(
            f"forward selection of 6 of {COLUMNS}, {len(kept)} samples", "lime forward_selection", times.ratio("lime", "ours"),
            detail=f"{same}; {1e3 * times.of('lime'):.0f} ms against {1e3 * times.of('ours'):.1f} ms, Gram matrix included",
        )
    ]  # fmt: skip


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.median([np.corrcoef(u, v)[0, 1] for u, v in zip(a, b, strict=True)]))


def measure(quick: bool = False) -> Results:
    """All ratios, on the CPU."""
    warnings.filterwarnings("ignore", module="lime")
    results = Results()
    steps = [lambda: table(quick), lambda: text(20, 2.2, quick), lambda: text(100, 1.8, quick), lambda: selection(quick)]
    for step in track(steps, "surrogates", transient=True):
        results.figures += step()
    return results


def main(quick: Annotated[bool, typer.Option(help="Small sizes, two rounds: to see that it works, not to quote.")] = False) -> None:
    """Print the ratios."""
    one_thread()
    measure(quick).show()


if __name__ == "__main__":
    typer.run(main)
