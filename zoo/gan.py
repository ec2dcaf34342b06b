"""A generative adversarial network of digits: it draws pictures, and its discriminator says how real a picture looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

from explainer.errors import InvalidInput, Unsupported
from zoo import metrics

if TYPE_CHECKING:
    from explainer.model import Model
    from zoo.data import Data

DRAWN = 1000  # pictures that the figures are measured on
JUDGE = "digits-cnn"
MARGIN = 10.0  # what the last layer may stretch by: with 1, as elsewhere, scores hardly reach the hinge's margins of -1 and 1


class Spectral(nn.Module):
    """A weight over its largest singular value, times ``bound``: no direction is stretched by more (Miyato et al. 2018).

    The singular vector is kept from step to step and improved by power iteration: one round a step in training, a few in eval mode,
    where nothing is kept and the same weight gives the same result. (The one in torch trusts the vector it kept, which does not fit
    weights that were averaged.)
    """

    left: Tensor

    def __init__(self, weight: Tensor, bound: float = 1.0) -> None:
        super().__init__()
        self.bound = bound
        self.register_buffer("left", normalize(torch.randn(len(weight)), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        flat, left = weight.flatten(1), self.left.clone()
        with torch.no_grad():
            for _ in range(1 if self.training else 10):
                right = normalize(flat.T @ left, dim=0)
                left = normalize(flat @ right, dim=0)
            if self.training:
                self.left.copy_(left)
        return weight * self.bound / (left @ flat @ right)


class Adversarial(nn.Module):
    """DCGAN (Radford et al. 2016) with a hinge loss (Lim and Ye 2017) and a spectrally normalised discriminator.

    ``(n, 1, 28, 28)`` in [0, 1] -> the discriminator's score ``(n, 1)``: above 0 it takes the picture for real. In training, the loss
    of each row: max(0, 1 - D(x)) + max(0, 1 + D(G(z))) for the discriminator, -D(G(z)) for the generator, each with the other held.
    """

    def __init__(self, classes: int = 1, codes: int = 24, width: int = 32) -> None:
        super().__init__()
        self.codes = codes
        self.generator = nn.Sequential(
            nn.Linear(codes, 2 * width * 49, bias=False), nn.Unflatten(1, (2 * width, 7, 7)), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Sigmoid(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            normed(nn.Conv2d(1, width, 4, 2, 1)), nn.LeakyReLU(0.2), normed(nn.Conv2d(width, 2 * width, 4, 2, 1)), nn.LeakyReLU(0.2),
            normed(nn.Conv2d(2 * width, 4 * width, 3, 2, 1)), nn.LeakyReLU(0.2), nn.Flatten(), normed(nn.Linear(4 * width * 16, 1), MARGIN),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return self.discriminator(images)
        made = self.generator(torch.randn(len(images), self.codes, device=images.device))
        real, fake = self.discriminator(torch.cat([images, made.detach()])).chunk(2)
        self.discriminator.requires_grad_(False)
        fooled = self.discriminator(made)
        self.discriminator.requires_grad_(True)
        return (1 - real).relu() + (1 + fake).relu() - fooled


def normed(layer: Any, bound: float = 1.0) -> Any:
    """The layer with :class:`Spectral` on its weight."""
    parametrize.register_parametrization(layer, "weight", Spectral(layer.weight, bound))
    return layer


def sample(model: Model | Adversarial, n: int, seed: int = 0, keep: float = 0.5) -> np.ndarray:
    """Pictures ``(n, 28, 28)`` in [0, 1], the same for the same seed: of n / keep drawn, those that the discriminator takes most for
    real, in the order in which they were drawn (a plain form of discriminator rejection sampling; Azadi et al. 2019).

    Raises InvalidInput for fewer than 1 or a ``keep`` outside (0, 1], Unsupported for a model that draws nothing.
    """
    if n < 1 or not 0 < keep <= 1:
        raise InvalidInput(f"At least 1 picture must be asked for, and keep lie in (0, 1]; {n} and {keep} came.")
    module = _module(model)
    noise = torch.randn((round(n / keep), module.codes), generator=torch.Generator().manual_seed(seed))
    was_training = module.training
    module.eval()
    with torch.no_grad():
        found = torch.cat([module.generator(some.to(next(module.parameters()).device)) for some in noise.split(250)])
        scores = torch.cat([module(some)[:, 0] for some in found.split(250)])
    module.train(was_training)
    return found[scores.topk(n).indices.sort().values, 0].cpu().numpy()


def between(model: Model, *, rows: int = 4, steps: int = 9, seed: int = 0) -> np.ndarray:
    """Pictures ``(rows, steps, 28, 28)`` on the way from one drawn code to another, at even angles on the sphere they lie on."""
    module = _module(model)
    generator = torch.Generator().manual_seed(seed)
    start, end = torch.randn((2, rows, 1, module.codes), generator=generator)
    angle = torch.linspace(0, np.pi / 2, steps)[:, None]
    codes = (start * angle.cos() + end * angle.sin()).flatten(0, 1)
    with torch.no_grad():
        return module.generator(codes.to(next(module.parameters()).device))[:, 0].cpu().numpy().reshape(rows, steps, 28, 28)


def judged(images: np.ndarray) -> np.ndarray:
    """Probabilities ``(n, 10)`` that digits-cnn gives ``images``."""
    from zoo.registry import load

    return load(JUDGE).model.scores(images)


def measure(module: Adversarial, preprocess: Any, data: Data) -> dict[str, np.ndarray]:
    """How sure digits-cnn is of each of 1,000 pictures sampled with seed 0."""
    return {"confidence": judged(sample(module, DRAWN)).max(1)}


def baseline(data: Data) -> tuple[str, dict[str, np.ndarray]]:
    """The same of 1,000 pictures drawn from a mixture of Gaussians on 40 principal components, sized on validation."""
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    flat = [split.inputs.reshape(len(split), -1).astype(float) for split in (data.train, data.validation)]
    axes = PCA(40, random_state=0).fit(flat[0])
    train, held = map(axes.transform, flat)
    options = [GaussianMixture(k, reg_covar=1e-3, random_state=0).fit(train) for k in (1, 10, 20)]
    picked = max(options, key=lambda one: one.score(held))
    drawn = np.clip(axes.inverse_transform(picked.sample(DRAWN)[0]), 0, 1).reshape(-1, 28, 28)
    return f"mixture of {picked.n_components} Gaussians on 40 principal components", {"confidence": judged(drawn).max(1)}


def further(module: Adversarial, preprocess: Any, data: Data, seed: int) -> dict[str, dict[str, float]]:
    """How often each digit is drawn, whether train was copied, how well the discriminator tells, and what augmentation brings."""
    from zoo.selftraining import effect

    drawn, whole = sample(module, DRAWN), sample(module, DRAWN, keep=1)
    digits, sure = judged(drawn).argmax(1), judged(whole).max(1)
    with torch.no_grad():
        real, fake = (module(preprocess(images))[:, 0].numpy() for images in (data.test.inputs, whole))
    return {
        "confidence of digits-cnn in test digits": metrics.mean(judged(data.test.inputs).max(1)),
        "confidence of digits-cnn in all pictures, before the discriminator keeps half": metrics.mean(sure),
        "the same less the baseline's, of whose pictures none is left out either": metrics.mean(sure - baseline(data)[1]["confidence"]),
        **{f"share of pictures read as {k}": metrics.mean((digits == k).astype(float)) for k in range(10)},
        "distance of a picture to its nearest training digit": metrics.mean(nearest(drawn, data.train.inputs)),
        "distance of a test digit to its nearest training digit": metrics.mean(nearest(data.test.inputs, data.train.inputs)),
        "ROC AUC of the discriminator, test digits against all pictures": metrics.separation(real, fake),
        **effect(module, seed),
    }


def nearest(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Euclidean distance ``(n,)`` of each image to the closest of ``others``."""
    from sklearn.neighbors import NearestNeighbors

    flat = [one.reshape(len(one), -1) for one in (images, others)]
    return NearestNeighbors(n_neighbors=1, algorithm="brute").fit(flat[1]).kneighbors(flat[0])[0][:, 0]


def _module(model: Any) -> Adversarial:
    module = model if isinstance(model, Adversarial) else getattr(model, "module", None)
    if not isinstance(module, Adversarial):
        raise Unsupported(f"{getattr(model, 'name', model)} draws no pictures; zoo:digits-gan does.")
    return module
