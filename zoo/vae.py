"""A variational autoencoder of digits: how likely a picture is, what its code means, and which pictures are strange to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainer.errors import InvalidInput, Unsupported
from zoo import metrics

if TYPE_CHECKING:
    from explainer.model import Model
    from zoo.data import Data

SAMPLES = 64  # codes drawn per picture where the ELBO is checked by sampling
ROWS = 100  # pictures at a time in that check


class VAE(nn.Module):
    """Convolutional VAE with Bernoulli pixels (Kingma and Welling 2014): ``(n, 1, 28, 28)`` in [0, 1] -> -ELBO ``(n, 1)``, nats.

    -ELBO(x) = E_q(z|x)[-log p(x|z)] + KL(q(z|x) || N(0, I)), with -log p(x|z) = -sum x log p + (1 - x) log(1 - p): a bound on the
    mean over black-and-white pictures whose pixels are white with probability x. In training the expectation is one draw; in eval
    mode it is the cubature of degree 3 on 2 d fixed points, mean +- sqrt(d) times the spread of one code, so that nothing is drawn.
    """

    points: Tensor

    def __init__(self, classes: int = 1, codes: int = 8, width: int = 16, hidden: int = 96) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(2 * width * 49, hidden), nn.ReLU(), nn.Linear(hidden, 2 * codes),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(codes, hidden), nn.ReLU(), nn.Linear(hidden, 2 * width * 49), nn.ReLU(), nn.Unflatten(1, (2 * width, 7, 7)),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(width, 1, 4, 2, 1),
        )  # fmt: skip
        axes = codes**0.5 * torch.eye(codes)
        self.register_buffer("points", torch.cat([axes, -axes])[:, None], persistent=False)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread of q(z|x), each ``(n, codes)``."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return mean, (log_variance / 2).exp()

    def misfit(self, images: Tensor, codes: Tensor) -> Tensor:
        """-log p(x|z) ``(k, n)`` for codes ``(k, n, codes)``."""
        logits = self.decoder(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        return functional.binary_cross_entropy_with_logits(logits, images.expand_as(logits), reduction="none").sum((2, 3, 4))

    def forward(self, images: Tensor) -> Tensor:
        mean, spread = self.encode(images)
        noise = torch.randn_like(mean)[None] if self.training else self.points
        return (self.misfit(images, mean + spread * noise).mean(0) + divergence(mean, spread))[:, None]


def divergence(mean: Tensor, spread: Tensor) -> Tensor:
    """KL(N(mean, spread^2) || N(0, I)) ``(n,)`` in nats."""
    return (mean.square() + spread.square() - 1 - 2 * spread.log()).sum(1) / 2


def codes(model: Model, images: Any) -> np.ndarray:
    """Means of the codes ``(n, codes)`` of ``images``. Raises Unsupported for a model that is no VAE."""
    with torch.no_grad():
        return _module(model).encode(_encoded(model, images))[0].cpu().numpy()


def decoded(model: Model, latent: np.ndarray) -> np.ndarray:
    """The pictures ``(n, 28, 28)`` in [0, 1] that codes ``(n, codes)`` stand for. Raises InvalidInput for codes of another size."""
    module = _module(model)
    if latent.ndim != 2 or latent.shape[1] != module.points.shape[2]:
        raise InvalidInput(f"Codes of shape (n, {module.points.shape[2]}) are needed; {latent.shape} came.")
    with torch.no_grad():
        given = torch.from_numpy(latent.astype(np.float32)).to(module.points.device)
        return module.decoder(given).sigmoid()[:, 0].cpu().numpy()


def reconstruction_error(model: Model, images: Any) -> np.ndarray:
    """How far each picture is from what its code's mean decodes to, ``(n,)`` nats: sum x log(x / p) + (1 - x) log((1 - x) / (1 - p)).

    This is KL(Bernoulli(x) || Bernoulli(p)), 0 where p = x; unlike the likelihood it does not grow with the grey in a picture.
    """
    return _deviance(_module(model), _encoded(model, images))


def traversal(model: Model, image: Any = None, *, steps: int = 9, reach: float = 2.5) -> np.ndarray:
    """Pictures ``(codes, steps, 28, 28)``: each code in turn from -reach to reach, the others held at the code of ``image`` (at 0
    where none is given). Raises InvalidInput for fewer than 2 steps.
    """
    if steps < 2:
        raise InvalidInput(f"steps must be at least 2; {steps} came.")
    size = _module(model).points.shape[2]
    start = np.zeros(size, dtype=np.float32) if image is None else codes(model, np.asarray(image)[None])[0]
    moved = np.tile(start, (size, steps, 1))
    for k in range(size):
        moved[k, :, k] = np.linspace(-reach, reach, steps)
    return decoded(model, moved.reshape(-1, size)).reshape(size, steps, 28, 28)


@dataclass(frozen=True, eq=False)
class Plane:
    """Codes on the two directions in which they vary most: ``points`` ``(n, 2)`` and the ``share`` of their variance that is seen."""

    points: np.ndarray
    share: float


def plane(model: Model, images: Any) -> Plane:
    """A map of ``images``: the first two principal components of the means of their codes."""
    found = codes(model, images).astype(float)
    centred = found - found.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes *= np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(1)] < 0, -1, 1)[:, None]  # a sign that does not depend on LAPACK
    return Plane(centred @ axes[:2].T, float((sizes[:2] ** 2).sum() / (sizes**2).sum()))


def strange(images: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Digits damaged in six ways, and crops of a photograph: what an outlier score should tell from ``images`` ``(n, 28, 28)``."""
    from sklearn.datasets import load_sample_image

    generator = np.random.default_rng(seed)
    photo = load_sample_image("china.jpg").mean(2)[::2, ::2] / 255
    corners = zip(*(generator.integers(0, side - 28, len(images)) for side in photo.shape), strict=True)
    covered, scratched = images.copy(), images.copy()
    for i, (row, column) in enumerate(generator.integers(6, 15, (len(images), 2))):
        covered[i, row : row + 8, column : column + 8] = 0
        scratched[i, row + 3 : row + 6, 2:26] = 1
    noise = generator.normal(0, 0.3, images.shape)
    found = {
        "a hole of 8 x 8": covered,
        "a bar across": scratched,
        "noise": np.clip(images + noise, 0, 1),
        "upside down": images[:, ::-1],
        "shifted by 5 pixels": np.roll(images, (5, 5), (1, 2)),
        "ink and paper exchanged": 1 - images,
        "crops of a photograph": np.stack([photo[r : r + 28, c : c + 28] for r, c in corners]),
    }
    return {name: np.ascontiguousarray(one, dtype=np.float32) for name, one in found.items()}


def measure(module: VAE, preprocess: Any, data: Data) -> dict[str, np.ndarray]:
    """The ELBO of every test picture, in nats."""
    with torch.no_grad():
        return {"elbo": -module(preprocess(data.test.inputs))[:, 0].double().cpu().numpy()}


def further(module: VAE, preprocess: Any, data: Data, seed: int) -> dict[str, dict[str, float]]:
    """The bound's parts, the bound by sampling, the tighter importance-weighted one (Burda et al. 2016), and how well the
    reconstruction error and the ELBO tell strange pictures from test digits, beside the baseline's likelihood.
    """
    from zoo.baselines import bernoulli

    images = data.test.inputs
    x = preprocess(images)
    elbo, weighted = _sampled(module, x, seed)
    with torch.no_grad():
        kl = divergence(*module.encode(x)).double().numpy()
    rows = {
        f"ELBO by {SAMPLES} drawn codes, nats": elbo,
        f"log likelihood, importance-weighted over {SAMPLES} codes, nats": weighted,
        "KL of the code from its prior, nats": kl,
        "reconstruction error of test digits, nats": _deviance(module, x),
    }
    found = {name: metrics.mean(values) for name, values in rows.items()}
    likelihood = bernoulli(data)[1]

    def lost(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(preprocess(images))[:, 0].numpy()

    for kind, damaged in strange(images, seed).items():
        ways = {
            "reconstruction error": lambda images: _deviance(module, preprocess(images)),
            "-ELBO": lost,
            "the baseline": lambda images: -likelihood(images),
        }
        for name, score in ways.items():
            found[f"ROC AUC of {name} for {kind}"] = metrics.separation(score(damaged), score(images))
    return found


def _deviance(module: VAE, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        least = functional.binary_cross_entropy(x, x, reduction="none").sum((1, 2, 3))
        return (module.misfit(x, module.encode(x)[0][None])[0] - least).double().cpu().numpy()


def _sampled(module: VAE, x: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Per picture the ELBO and the importance-weighted bound, from the same drawn codes."""
    generator = torch.Generator().manual_seed(seed)
    bounds: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for some in x.split(ROWS):
            mean, spread = module.encode(some)
            noise = torch.randn((SAMPLES, *mean.shape), generator=generator)
            z = mean + spread * noise
            weights = ((noise.square() - z.square()).sum(2) / 2 + spread.log().sum(1) - module.misfit(some, z)).double()
            bounds.append((weights.mean(0), weights.logsumexp(0) - float(np.log(SAMPLES))))
    return torch.cat([one for one, _ in bounds]).numpy(), torch.cat([one for _, one in bounds]).numpy()


def _module(model: Any) -> VAE:
    module = getattr(model, "module", None)
    if not isinstance(module, VAE):
        raise Unsupported(f"{getattr(model, 'name', model)} is no VAE; zoo:digits-vae is one.")
    return module


def _encoded(model: Any, images: Any) -> Tensor:
    return model.preprocess(model.canonical(images)).to(_module(model).points.device)
