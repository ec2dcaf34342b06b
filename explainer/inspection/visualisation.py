"""Feature visualisation: an image made to excite one unit of an image model, kept smooth enough to be looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput, Unsupported
from explainer.explanation import Provenance
from explainer.inspection import saving
from explainer.inspection.network import network
from explainer.inspection.tables import stamp
from explainer.progress import reporter

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from explainer.adapters.encoding import Arguments
    from explainer.adapters.torch import TorchModel

STEPS = 256
_MOST = 10_000
_NEWS = 32  # images of the background that the made one is compared with
_SPREAD = 0.3  # standard deviation of the first image's logits: nearly grey, so that nothing is suggested


@dataclass(frozen=True, eq=False)
class Visualisation:
    """An image that excites a unit.

    Attributes
    ----------
    image : ``(H, W[, C])`` in the units of the model's inputs.
    curve : ``(steps + 1,)`` activation of the unplaced image (no jitter), before every step and at the end.
    activation : what the model gives for ``image``. ``best_input`` : the highest activation among background images, or NaN.
    """

    image: np.ndarray
    curve: np.ndarray
    activation: float
    best_input: float
    layer: str
    unit: str
    provenance: Provenance

    def __post_init__(self) -> None:
        self.image.setflags(write=False)
        self.curve.setflags(write=False)

    def to_frame(self) -> pd.DataFrame:
        """The activation at every step."""
        import pandas as pd

        return pd.DataFrame({"step": np.arange(len(self.curve)), "activation": self.curve})

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Visualisation:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        best = float("nan") if found["best_input"] is None else found["best_input"]
        arrays = {"image": np.array(found["image"], dtype=np.float32), "curve": np.array(found["curve"], dtype=float)}
        return cls(**{**found, **arrays, "best_input": best, "provenance": saving.provenance(found["provenance"])})


def visualise(
    model: Any,
    layer: str,
    unit: int | Sequence[float] | np.ndarray,
    *,
    at: Any = "mean",
    steps: int = STEPS,
    rate: float = 0.05,
    smoothness: float = 0.05,
    jitter: int | None = None,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
    progress: Any = False,
) -> Visualisation:
    r"""An image that excites one unit (Erhan et al. 2009), made in the Fourier domain so that it is an image (Olah et al. 2017).

    .. math:: \max_z\; a_u(x(z)) / \sigma - \lambda\, TV(x(z)), \quad x(z) = low + (high - low)\, sigmoid(C\, F^{-1}(z / f))

    with z the spectrum divided by frequency f, C the root of the colours' covariance in the background (none: colours are left
    as they are), TV the mean absolute difference of neighbouring pixels on the scale of 0 to 1, and :math:`\sigma` the standard
    deviation of the activation over the background (or random images). Every step moves the image by up to ``jitter`` pixels.
    It shows what excites the unit most, which need not look like anything it meets: compare with
    ``activations(...).top``.

    Parameters
    ----------
    layer, unit, at : as in :func:`explainer.neuron`.
    steps, rate : of Adam. ``smoothness`` : :math:`\lambda`; 0 leaves the image to the unit alone.
    jitter : pixels; by default one in 16 of the smaller side, at least 1. 0 is none.
    bounds : the lowest and highest value of a pixel; by default those of the background, else 0 and 1.

    Raises Unsupported for models of other inputs or a ``preprocess`` that is not linear in each pixel; InvalidInput, UnknownName.
    """
    import torch

    from explainer.inspection.neurons import neuron

    started = time.perf_counter()
    source = network(model, "visualise")
    _checked(source, steps, rate, smoothness)
    made = network(neuron(source, layer, unit, at=at), "visualise")
    like = source.sample()
    ends = _bounds(source, bounds)
    low, high = _span(made, like, ends)
    encoded = made.encode(like)
    canvas = _Canvas(like.shape[1:], source.background, seed, made)
    reach = max(1, min(like.shape[1:3]) // 16) if jitter is None else int(jitter)
    draw = np.random.default_rng([seed, 1])
    scale, best = _scale(made, like, ends, seed)
    curve = np.empty(steps + 1)
    with reporter(progress, "Feature visualisation") as report, made.differentiating():
        climb = torch.optim.Adam([canvas.spectrum], lr=rate)
        for step in range(steps):
            shares = canvas.shares()
            with torch.no_grad():
                curve[step] = _activation(made, encoded, low + (high - low) * shares)
            moved = torch.roll(shares, tuple(int(s) for s in draw.integers(-reach, reach + 1, 2)), dims=(-2, -1))
            loss = smoothness * _roughness(shares) - _activation(made, encoded, low + (high - low) * moved) / scale
            (canvas.spectrum.grad,) = torch.autograd.grad(loss, canvas.spectrum)
            climb.step()
            report(step + 1, steps)
        shares = canvas.shares().detach()
        curve[-1] = float(_activation(made, encoded, low + (high - low) * shares).detach())
    image = _picture(shares, like.shape[1:], ends)
    notes = (
        ["The activation never moved: the unit may be dead, or the first image too far from what excites it."] if np.ptp(curve) == 0 else []
    )
    parameters = {
        "layer": layer, "unit": made.class_names[0], "steps": steps, "rate": rate, "smoothness": smoothness, "jitter": reach,
        "bounds": list(ends), "colours": canvas.colours,
    }  # fmt: skip
    return Visualisation(
        image=image, curve=curve, activation=float(made.scores(image[None])[0, 0]), best_input=best, layer=layer, unit=made.class_names[0],
        provenance=stamp(source, "feature visualisation", image[None], seed, 2 * steps + 1, started, parameters, notes),
    )  # fmt: skip


class _Canvas:
    """An image as the spectrum it is made of: low frequencies weigh more, colours vary together as those of the background do."""

    def __init__(self, shape: tuple[int, ...], background: Any, seed: int, model: TorchModel) -> None:
        import torch

        self.size = shape[:2]
        channels = shape[2] if len(shape) == 3 else 1
        rows, columns = np.fft.fftfreq(self.size[0])[:, None], np.fft.rfftfreq(self.size[1])[None]
        frequency = np.maximum(np.hypot(rows, columns), 1 / max(self.size))
        draw = np.random.default_rng(seed).normal(size=(channels, *frequency.shape, 2))
        self.weight = torch.tensor(1 / frequency, dtype=torch.float32, device=model.device)[..., None]
        started = torch.tensor(draw, dtype=torch.float32, device=model.device)
        spread = torch.fft.irfft2(torch.view_as_complex(started * self.weight), s=self.size, norm="ortho").std()
        self.weight = self.weight / spread.clamp(min=1e-12)
        self.spectrum = (_SPREAD * started).requires_grad_()
        self.mix, self.colours = _colours(background, channels, self.spectrum)

    def shares(self) -> Tensor:
        """The image ``(1, C, H, W)`` on the scale of 0 to 1."""
        import torch

        plain = torch.fft.irfft2(torch.view_as_complex((self.spectrum * self.weight).contiguous()), s=self.size, norm="ortho")
        return torch.einsum("dc,chw->dhw", self.mix, plain).sigmoid()[None]


def _colours(background: Any, channels: int, like: Tensor) -> tuple[Tensor, str]:
    """The root of the channels' covariance, brought to variances of 1 on average; none without a background of colours."""
    import torch

    if channels == 1 or background is None or len(background) < 2:
        return torch.eye(channels, device=like.device), "as they are"
    covariance = np.cov(np.asarray(background, dtype=np.float64).reshape(-1, channels).T)
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    norm = np.sqrt(np.trace(covariance) / channels)
    if not norm:
        return torch.eye(channels, device=like.device), "as they are"
    return torch.tensor(root / norm, dtype=torch.float32, device=like.device), "as in the background"


def _checked(source: TorchModel, steps: Any, rate: float, smoothness: float) -> None:
    if source.modality != "image":
        raise Unsupported(
            f"Feature visualisation makes images; {source.name} takes {source.modality} inputs. Use explain(neuron(...)) or "
            "activations(...).top."
        )
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or not 1 <= steps <= _MOST:
        raise InvalidInput(f"steps={steps!r} is a whole number between 1 and {_MOST}.")
    if not rate > 0 or not smoothness >= 0:
        raise InvalidInput(f"rate={rate!r} must be above 0 and smoothness={smoothness!r} at least 0.")
    if source.sample() is None:
        raise InvalidInput(f"The size of the images that {source.name} takes is not known; pass background= to wrap().")


def _bounds(source: TorchModel, bounds: Any) -> tuple[float, float]:
    if bounds is not None:
        low, high = (float(b) for b in bounds)
    elif source.background is not None:
        low, high = float(np.min(source.background)), float(np.max(source.background))
    else:
        low, high = 0.0, 1.0
    if not low < high:
        raise InvalidInput(f"bounds=({low:.4g}, {high:.4g}) are the lowest and the highest value of a pixel; the second must be larger.")
    return low, high


def _span(made: TorchModel, like: np.ndarray, ends: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The tensors of the darkest and the lightest image. Raises Unsupported where what lies between is not on the line between."""
    import torch

    rng = np.random.default_rng(0)
    share = rng.random((1, *like.shape[1:])).astype(np.float32)
    probe = [np.full_like(share, ends[0]), np.full_like(share, ends[1]), ends[0] + (ends[1] - ends[0]) * share]
    low, high, between = (made.encode(one).tensors[0] for one in probe)
    channels_first = torch.tensor(np.moveaxis(share if share.ndim == 4 else share[..., None], -1, 1)).to(low)
    if low.shape != channels_first.shape or not torch.allclose(
        between, low + (high - low) * channels_first, atol=1e-3 * float((high - low).abs().max())
    ):
        raise Unsupported(
            f"preprocess turns images of {like.shape[1:]} into {tuple(low.shape[1:])} in a way that is not one pixel for one, each linear: "
            "what is made for the tensor could not be shown as an image. Put the resizing inside the module."
        )
    return low, high


def _activation(made: TorchModel, shape: Arguments, tensor: Tensor) -> Tensor:
    return made.forward(shape.replace(0, tensor.to(made.dtype)))[0, 0].float()


def _roughness(shares: Tensor) -> Tensor:
    return (shares[..., 1:, :] - shares[..., :-1, :]).abs().mean() + (shares[..., 1:] - shares[..., :-1]).abs().mean()


def _scale(made: TorchModel, like: np.ndarray, ends: tuple[float, float], seed: int) -> tuple[float, float]:
    """The activation's standard deviation over the background (else random images), and its highest value in the background."""
    if made.background is not None and len(made.background) > 1:
        scores = made.scores(made.background[:_NEWS])
        best = float(scores.max())
    else:
        drawn = np.random.default_rng([seed, 2]).uniform(*ends, size=(8, *like.shape[1:])).astype(np.float32)
        scores, best = made.scores(drawn), float("nan")
    return float(scores.std()) or 1.0, best


def _picture(shares: Tensor, shape: tuple[int, ...], ends: tuple[float, float]) -> np.ndarray:
    picture = np.moveaxis(shares[0].cpu().numpy().astype(np.float32), 0, -1).reshape(shape)
    return np.asarray(ends[0] + (ends[1] - ends[0]) * picture, dtype=np.float32)
