"""What a model gives away of the rows it was trained on, training that promises a bound on it, and tables without identities."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput, MissingDependency, Unsupported
from zoo import metrics

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import nn


@dataclass(frozen=True)
class Spent:
    """The promise kept: (``epsilon``, ``delta``)-differential privacy of each training row, and what it took."""

    epsilon: float
    delta: float
    noise: float  # standard deviation of the noise on the sum of gradients, in units of ``clip``
    clip: float  # the largest L2 norm of one row's gradient
    steps: int
    share: float  # the chance of a row to be in a step


def train_privately(
    module: nn.Module,
    rows: torch.Tensor,
    labels: np.ndarray,
    *,
    epsilon: float,
    delta: float | None = None,
    epochs: int = 40,
    batch: int = 128,
    rate: float = 2e-3,
    clip: float = 1.0,
    average: float = 0.95,
    seed: int = 0,
) -> Spent:
    """Train ``module`` in place by DP-SGD: each row's gradient is clipped, and noise hides which rows were there.

    A step moves by (sum over a chance sample of rows of g_i min(1, clip / |g_i|) + N(0, noise^2 clip^2)) / batch (Abadi et al.
    2016); the accountant is that of Gopi et al. 2021. With or without any one row, the chance of any outcome differs by no more than
    a factor of exp(epsilon), but for ``delta``. The promise is about ``rows`` and ``labels`` only: a preprocess fitted on them,
    or settings chosen by how the outcome does on them, would break it. So would a person who knows the seed: the noise can be
    repeated, for science; draw the seed from ``secrets`` and forget it where the promise is to count.

    ``rows``: ``(n, columns)``, encoded; ``labels``: ``(n,)`` class indices; ``delta``: default 1 / n^1.1, below the chance that
    a row is given away whole; ``average``: share of the old weights in a running average, which costs no privacy.
    Raises MissingDependency without opacus, InvalidInput for an epsilon that is no number above 0 or less than one epoch, Unsupported for
    a module with batch norm, which mixes rows.
    """
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from zoo.descent import blend

    opacus = _opacus()
    if not 0 < epsilon < np.inf:
        raise InvalidInput(f"epsilon must be a number above 0; {epsilon} came. Of use are 0.5 (strict) to 10 (loose).")
    if epochs < 1:
        raise InvalidInput(f"epochs must be at least 1; {epochs} came.")
    mixing = [name for name, one in module.named_modules() if isinstance(one, torch.nn.modules.batchnorm._BatchNorm)]
    if mixing:
        raise Unsupported(
            f"Batch norm ({', '.join(mixing)}) makes each row's outcome depend on the others, so that no row's part can be bounded. "
            "Build the module without (in the zoo: norm=False), or with group or layer norm."
        )
    n = len(labels)
    delta = n**-1.1 if delta is None else delta
    dataset = TensorDataset(rows, torch.from_numpy(np.asarray(labels, dtype=np.int64)))
    loader = DataLoader(dataset, batch_size=min(batch, n), generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(module.parameters(), lr=rate)
    steps, share = epochs * len(loader), 1 / len(loader)
    criterion, step = torch.nn.CrossEntropyLoss(), 0
    with torch.random.fork_rng(), warnings.catch_warnings():
        # That noise is from a seeded generator is said above; that inputs need no gradient is so; a rough grid of the first,
        # quick accountant does not matter to the second.
        warnings.filterwarnings("ignore", "Secure RNG turned off|Full backward hook is firing|Optimal order is the largest", UserWarning)
        torch.manual_seed(seed)  # dropout
        noise = opacus.accountants.utils.get_noise_multiplier(
            target_epsilon=epsilon, target_delta=delta, sample_rate=share, steps=steps, accountant="prv"
        )
        engine = opacus.PrivacyEngine(accountant="prv")
        private, optimizer, loader = engine.make_private(
            module=module.train(), optimizer=optimizer, data_loader=loader, noise_multiplier=noise, max_grad_norm=clip,
            noise_generator=torch.Generator().manual_seed(seed + 1),
        )  # fmt: skip
        kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        for _ in range(epochs):
            for inputs, targets in loader:
                optimizer.zero_grad()
                criterion(private(inputs), targets).backward()
                optimizer.step()
                blend(kept, module, min(average, (1 + step) / (10 + step)))
                step += 1
        private.to_standard_module()
        spent = float(engine.get_epsilon(delta))
    module.load_state_dict(kept)
    module.eval()
    return Spent(spent, float(delta), float(noise), clip, step, share)


def losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log p(label) of each row, ``(n,)``."""
    return -np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, 1))


def membership_advantage(members: np.ndarray, others: np.ndarray, seed: int = 0) -> dict[str, float]:
    """How much better than chance it can be told from its loss whether the model was trained on a row, with its 95 % interval.

    The attack calls a row a member where its loss is below a threshold (Yeom et al. 2018); the advantage is
    P(called | member) - P(called | other): 0 for a guess, 1 for certainty. The threshold is picked on one half of the rows and
    tried on the other, both ways, so that picking adds nothing by chance; the interval is a bootstrap over the calls.

    ``members``, ``others``: the losses ``(n,)`` and ``(m,)`` of rows trained on and not, from the same population.
    """
    sets = [np.asarray(one, dtype=float) for one in (members, others)]
    if min(map(len, sets)) < 4:
        raise InvalidInput(f"At least 4 rows of each kind are needed; {len(sets[0])} members and {len(sets[1])} others came.")
    draw = np.random.default_rng(seed)
    halves = [draw.permutation(len(one)) % 2 for one in sets]
    called = [np.empty(len(one)) for one in sets]
    for half in (0, 1):
        limit = _threshold(*(one[side != half] for one, side in zip(sets, halves, strict=True)))
        for one, side, calls in zip(sets, halves, called, strict=True):
            calls[side == half] = one[side == half] <= limit
    inside, outside = called
    return metrics.interval(
        float(inside.mean() - outside.mean()), metrics.resampled(inside, seed) - metrics.resampled(outside, seed + 1)
    )  # fmt: skip


def _threshold(members: np.ndarray, others: np.ndarray) -> float:
    """The loss at which the shares of members and others below it lie furthest apart."""
    limits = np.sort(np.concatenate([members, others]))
    below = [np.searchsorted(np.sort(one), limits, side="right") / len(one) for one in (members, others)]
    return float(limits[np.argmax(below[0] - below[1])])


def without_identities(frame: pd.DataFrame, *, key: str | bytes | None = None, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A copy of the table in which personal data are masked, or with a ``key`` replaced by keyed pseudonyms; checked afterwards.

    What :func:`explainer.check` finds is hidden by :func:`explainer.fix`, and the copy is checked again; ``columns`` are hidden
    whole, for what no pattern tells (a name, a number in a register). Under one key equal values stay equal in any table, so that
    rows can still be joined. Raises InvalidInput where personal data are still found, or the check could not run.
    """
    import explainer
    from explainer.checks.privacy import mask, pseudonymise

    strange = [name for name in columns if name not in frame.columns]
    if strange:
        raise InvalidInput(f"The table has no column {strange[0]!r}; it has {', '.join(map(str, frame.columns))}.")
    copy = frame.copy()
    for name in columns:
        copy[name] = mask(copy[name]) if key is None else pseudonymise(copy[name], key=key)
    hidden = list(columns)
    findings = explainer.check(copy.drop(columns=hidden), only=["personal data"])
    fixed = explainer.fix(copy.drop(columns=hidden), findings, only=["personal data"], key=key)
    left = explainer.check(fixed.data, only=["personal data"])[0]
    if left.state != "pass":
        raise InvalidInput(f"Personal data could not be hidden: {left.message} Name their columns, or leave them out.")
    for name in fixed.data.columns:
        copy[name] = fixed.data[name].to_numpy()
    return copy


def _opacus() -> Any:
    try:
        import opacus
    except ImportError as error:
        message = f'Private training needs opacus, which cannot be imported ({error}). Run: pip install "explainer-toolkit[zoo,private]"'
        raise MissingDependency(message) from None
    return opacus
