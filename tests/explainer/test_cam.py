"""Class activation maps: against closed forms and the papers' formulas cell by cell, captum, and marks planted in a picture."""

from __future__ import annotations

import captum.attr
import numpy as np
import picture_gallery as gallery
import pytest
import torch
import torch.nn.functional as F
from test_torch_adapter import assert_unchanged, snapshot
from torch import Tensor, nn

import explainer
from explainer.errors import UnknownName, Unsupported

METHODS = ("grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam", "eigen_cam")
WITH_GRADIENT = METHODS[:3]


def explain(model: explainer.Model, pictures: np.ndarray, method: str, **options) -> explainer.Explanation:
    return explainer.explain(model, pictures, method, verify=False, **options)


def cells(ex: explainer.Explanation, i: int) -> np.ndarray:
    return np.asarray(ex.extras["map"][i])[..., 0]


# -- the formulas ---------------------------------------------------------------------------------------------------------


def by_hand(method: str, maps: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """One input's map from activations and gradients ``(channels, h, w)``, cell by cell as the papers have it."""
    channels, high, wide = maps.shape
    found = np.zeros((high, wide))
    for k in range(channels):
        weight = 0.0
        for i in range(high):
            for j in range(wide):
                g = gradient[k, i, j]
                if method == "grad_cam":
                    weight += g / (high * wide)
                elif method == "grad_cam_plus_plus":
                    below = 2 * g**2 + maps[k].sum() * g**3
                    weight += (g**2 / below if below else 0.0) * max(g, 0.0)
        for i in range(high):
            for j in range(wide):
                found[i, j] += (max(gradient[k, i, j], 0.0) if method == "layer_cam" else weight) * maps[k, i, j]
    return found


def plain_by_formula(module: gallery.Plain, x: Tensor, of: int, scale: str) -> tuple[np.ndarray, np.ndarray]:
    """Activations and gradients of the plain net's last map, without automatic differentiation: its head is linear in the mean."""
    with torch.no_grad():
        maps = F.relu(module.second(F.relu(module.first(x)))).double()
        weights = module.head.weight.double()
        p = module(x).double().softmax(1)
    slope = weights[of].expand(len(x), -1) if scale == "logit" else p[:, of, None] * (weights[of] - p @ weights)
    gradient = slope[:, :, None, None].expand_as(maps) / maps[0, 0].numel()
    return maps.numpy(), gradient.numpy()


@pytest.mark.parametrize("method", WITH_GRADIENT)
@pytest.mark.parametrize("scale", ["logit", "probability"])
@pytest.mark.parametrize("relu", [True, False])
def test_the_plain_net_against_its_closed_form(method: str, scale: str, relu: bool) -> None:
    model, pictures = gallery.made("plain, wide pictures")
    for of in range(3):
        ex = explain(model, pictures, method, target=of, output=scale, relu=relu)
        for i, (maps, gradient) in enumerate(
            zip(*plain_by_formula(model.module, model.encode(pictures).tensors[0], of, scale), strict=True)
        ):
            wanted = by_hand(method, maps, gradient)
            np.testing.assert_allclose(cells(ex, i), np.maximum(wanted, 0) if relu else wanted, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("method", WITH_GRADIENT)
def test_tokens_against_the_formula_on_a_grid_reshaped_by_hand(method: str) -> None:
    model, pictures = gallery.made("tokens, registers")
    module, kept = model.module, []
    handle = module.blocks[1].register_forward_hook(lambda m, args, out: kept.append(out))
    scores = module(model.encode(pictures).tensors[0])
    handle.remove()
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), kept[0])
    ex = explain(model, pictures, method, target=1, output="logit", relu=False)
    for i in range(3):
        maps, slopes = (t.detach()[i, 2:26].T.reshape(12, 4, 6).double().numpy() for t in (kept[0], gradient))
        wanted = by_hand(method, maps, slopes)
        np.testing.assert_allclose(cells(ex, i), wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("name", "layer"),
    [("plain", "first"), ("dense", "grow.1"), ("depthwise, gated, residual", "point"), ("ResNet", "resnet.encoder.stages.0")],
)
def test_grad_cam_equals_captum(name: str, layer: str) -> None:
    model, pictures = gallery.made(name)
    captums = captum.attr.LayerGradCam(lambda x: getattr(o := model.module(x), "logits", o), model.module.get_submodule(layer))
    wanted = captums.attribute(model.encode(pictures).tensors[0], target=2).detach().numpy()[:, 0]
    for relu in (True, False):
        ex = explain(model, pictures, "grad_cam", target=2, output="logit", layer=layer, relu=relu)
        for i in range(3):
            expected = np.maximum(wanted[i], 0) if relu else wanted[i]
            np.testing.assert_allclose(cells(ex, i), expected, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())


def enlarged_by_hand(small: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear: the value at a pixel's middle, between the middles of the cells around it."""
    found = np.zeros(size)
    for i, j in np.ndindex(*size):
        down = np.clip((i + 0.5) * small.shape[0] / size[0] - 0.5, 0, small.shape[0] - 1)
        right = np.clip((j + 0.5) * small.shape[1] / size[1] - 0.5, 0, small.shape[1] - 1)
        for r in range(small.shape[0]):
            for c in range(small.shape[1]):
                found[i, j] += max(0, 1 - abs(down - r)) * max(0, 1 - abs(right - c)) * small[r, c]
    return found


@pytest.mark.parametrize("name", ["plain, wide pictures", "tokens, wide pictures"])
def test_values_are_the_cells_enlarged_to_the_picture(name: str) -> None:
    model, pictures = gallery.made(name)
    ex = explain(model, pictures, "layer_cam")
    assert ex.axes == ("instance", "row", "column") and ex.values.shape == pictures.shape[:3]
    for i in range(3):
        np.testing.assert_allclose(ex.values[i], enlarged_by_hand(cells(ex, i), pictures.shape[1:3]), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("scale", ["logit", "probability"])
def test_score_cam_against_its_definition(scale: str) -> None:
    model, pictures = gallery.made("plain")
    ex = explain(model, pictures, "score_cam", target=1, output=scale, relu=False, baseline="mean")
    assert ex.provenance.parameters["weights"] == {"logit": "softmax", "probability": "increase"}[scale]
    for i, picture in enumerate(pictures):
        maps, _ = plain_by_formula(model.module, model.encode(pictures[i : i + 1]).tensors[0], 1, scale)
        hidden = np.broadcast_to(picture.mean((0, 1)), picture.shape)
        base, increase = model.scores(hidden[None], scale)[0, 1], []
        for channel in maps[0]:
            mask = enlarged_by_hand(channel, picture.shape[:2])
            mask = (mask - mask.min()) / (mask.max() - mask.min() or 1)
            increase.append(
                model.scores((hidden + mask[..., None] * (picture - hidden))[None], scale)[0, 1] - base if channel.any() else np.nan
            )
        live = np.isfinite(increase)
        weights = np.array(increase)[live]
        weights = np.exp(weights) / np.exp(weights).sum() if scale == "logit" else weights
        np.testing.assert_allclose(cells(ex, i), np.einsum("k,khw->hw", weights, maps[0][live]), rtol=1e-3, atol=1e-5)


def test_eigen_cam_is_the_direction_that_power_iteration_finds() -> None:
    model, pictures = gallery.made("plain")
    maps, _ = plain_by_formula(model.module, model.encode(pictures).tensors[0], 0, "logit")
    ex = explain(model, pictures, "eigen_cam", target="all")
    assert any("does not depend on the target" in note for note in ex.provenance.notes)
    for i in range(3):
        rows = maps[i].reshape(8, -1).T
        direction = np.ones(8)
        for _ in range(200):
            direction = rows.T @ (rows @ direction)
            direction /= np.linalg.norm(direction)
        wanted = rows @ direction
        np.testing.assert_allclose(cells(ex, i).ravel(), wanted * np.sign(wanted.sum()), rtol=1e-4, atol=1e-6)
        assert (np.ptp(ex.values[i], axis=-1) == 0).all()


# -- planted truth ----------------------------------------------------------------------------------------------------------

MARK = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]], dtype=np.float32)


class Marked(nn.Module):
    """Says "mark" by how well its best fitting patch matches the mark; the other channel sees brightness and counts for nothing."""

    def __init__(self, tokens: bool) -> None:
        super().__init__()
        self.match = nn.Conv2d(3, 2, 4, stride=4 if tokens else 2)
        with torch.no_grad():
            self.match.weight[0] = torch.from_numpy(MARK - 0.5) / 3
            self.match.weight[1] = 1 / 48
            self.match.bias.copy_(torch.tensor([-0.8, 0.0]))
        self.act, self.tokens, self.embedded, self.tokens_out = nn.ReLU(), tokens, nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.match(x))
        if not self.tokens:
            mark = x[:, 0].sum((1, 2))
        else:
            cls = torch.zeros(len(x), 1, 2)
            x = self.embedded(torch.cat([cls, x.flatten(2).transpose(1, 2)], 1))
            seen = F.scaled_dot_product_attention(torch.full((len(x), 1, 1), 8.0), 8 * x[..., :1], x)
            x = self.tokens_out(torch.cat([x[:, :1] + seen, x[:, 1:]], 1))
            mark = x[:, 0, 0]
        return torch.stack([0.2 * torch.ones_like(mark), 4 * mark], 1)


def marked(row: int, column: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    picture = np.random.default_rng(3).uniform(0.3, 0.6, (1, *size, 3)).astype(np.float32)
    picture[0, row : row + 4, column : column + 4] = MARK[..., None]
    return picture


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tokens", [False, True])
def test_the_map_peaks_on_the_mark_wherever_it_is_moved(method: str, tokens: bool) -> None:
    model = explainer.wrap(Marked(tokens), modality="image", class_names=["none", "mark"])
    places = [(0, 0), (0, 28), (20, 0), (20, 28), (8, 20)]
    options = {} if method == "eigen_cam" and not tokens else {"layer": "embedded" if tokens else "act"}
    ex = explain(model, np.concatenate([marked(*place) for place in places]), method, target="mark", **options)
    for i, (row, column) in enumerate(places):
        if method == "eigen_cam":  # the brightness is what both layers hold most of
            continue
        at = np.unravel_index(ex.values[i].argmax(), ex.values[i].shape)
        assert row <= at[0] < row + 4 and column <= at[1] < column + 4
        assert ex.values[i].max() > 2 * np.delete(ex.values[i].ravel(), _under(row, column)).mean()


def _under(row: int, column: int) -> np.ndarray:
    under = np.zeros((24, 32), dtype=bool)
    under[max(0, row - 2) : row + 6, max(0, column - 2) : column + 6] = True
    return np.flatnonzero(under)


def test_the_token_read_last_is_passed_over_for_the_patches_it_reads() -> None:
    model = explainer.wrap(Marked(True), modality="image", class_names=["none", "mark"])
    ex = explain(model, marked(8, 20), "grad_cam", target="mark")
    assert ex.provenance.parameters["layer"] == "embedded"
    assert any("'tokens_out'" in note and "at most one cell" in note for note in ex.provenance.notes)
    at_last = explain(model, marked(8, 20), "grad_cam", target="mark", layer="tokens_out")
    assert not at_last.values.any() and any("nothing speaks" in note for note in at_last.provenance.notes)


# -- promises ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", gallery.GALLERY)
def test_every_method_on_every_module(name: str, method: str) -> None:
    """Right shape, finite, the same alone as in a batch and in train mode as in eval mode, and the module as it was."""
    model, pictures = gallery.made(name)
    assert model.capabilities()[method].level == "approximate"
    options = {} if method == "eigen_cam" else {"relu": False}
    whole = explain(model, pictures, method, target=1, **options)
    model.module.train()
    before = snapshot(model.module)
    alone = explain(model, pictures[1:2], method, target=1, **options)
    assert_unchanged(model.module, before)
    assert whole.values.shape == pictures.shape[:3] and np.isfinite(whole.values).all()
    largest = np.abs(whole.values).max()
    np.testing.assert_allclose(alone.values[0], whole.values[1], rtol=1e-4, atol=1e-5 * largest)
    assert largest > 0
    if method == "eigen_cam":
        return
    other = explain(model, pictures, method, target=2, **options)
    assert not np.allclose(other.values, whole.values, atol=1e-3 * largest)


@pytest.mark.parametrize("method", WITH_GRADIENT)
def test_a_margin_and_a_function_follow_the_scores(method: str) -> None:
    model, pictures = gallery.made("ViT")
    options = {"output": "logit", "relu": False}
    margin = explain(model, pictures, method, target=("margin", 0, 2), **options)
    function = explain(model, pictures, method, target=lambda scores: scores[:, 0] - scores[:, 2], **options)
    np.testing.assert_allclose(margin.values, function.values, atol=1e-6 * np.abs(margin.values).max())
    if method == "grad_cam":  # linear in the target
        every = explain(model, pictures, method, target="all", **options)
        np.testing.assert_allclose(margin.values, every.values[..., 0] - every.values[..., 2], atol=1e-5 * np.abs(margin.values).max())


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_whose_output_is_overwritten_is_mapped_as_it_gave_it(method: str) -> None:
    model, pictures = gallery.made("one in-place ReLU")
    twin, _ = gallery.made("one in-place ReLU")
    twin.module.relu.inplace = False
    here, there = (explain(m, pictures, method, target=1, layer="norms.1") for m in (model, twin))
    np.testing.assert_allclose(here.values, there.values, rtol=1e-5, atol=1e-9)


def test_the_module_is_as_it_was_after_an_error() -> None:
    model, pictures = gallery.made("ViT")
    explain(model, pictures, "grad_cam")
    calls = []

    def fails(scores):
        calls.append(1)
        if isinstance(scores, Tensor):
            raise ZeroDivisionError("mine")
        return scores[:, 0]

    before = snapshot(model.module)
    with pytest.raises(ZeroDivisionError):
        explain(model, pictures, "grad_cam", target=fails)
    assert_unchanged(model.module, before)


def test_a_map_of_nothing_is_said() -> None:
    model, pictures = gallery.made("plain")
    with torch.no_grad():
        model.module.head.weight[2] = -model.module.head.weight[2].abs()
    ex = explain(model, pictures, "grad_cam", target=2, output="logit")
    assert not ex.values.any()
    assert any("nothing speaks" in note for note in ex.provenance.notes)
    signed = explain(model, pictures, "grad_cam", target=2, output="logit", relu=False)
    assert (signed.values < 0).any() and (signed.values <= 0).all()


@pytest.mark.parametrize("inside", [False, True])
def test_a_saturated_probability_still_has_its_map(inside: bool) -> None:
    """Where p is 1 in any float, its gradient is that of the margin to the only other class that counts."""
    model, pictures = gallery.made("plain")
    logit = explain(model, pictures, "grad_cam", target=("margin", 0, 1), output="logit", relu=False)
    with torch.no_grad():
        model.module.head.bias.copy_(torch.tensor([90.0, 0.0, -300.0]))
    if inside:
        model = explainer.wrap(nn.Sequential(model.module, nn.Softmax(1)), modality="image", class_names=list("abc"))
    ex = explain(model, pictures, "grad_cam", target=0, relu=False)
    shape = ex.values / np.abs(ex.values).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(shape, logit.values / np.abs(logit.values).max(axis=(1, 2), keepdims=True), atol=1e-3)


def test_the_budget_bounds_the_channels_of_score_cam() -> None:
    model, pictures = gallery.made("plain")
    every = explain(model, pictures, "score_cam")
    few = explain(model, pictures, "score_cam", budget=4)
    assert few.provenance.parameters["channels"] == 3 < every.provenance.parameters["channels"]
    assert few.provenance.evaluations <= 3 * 4
    assert any("covers all" in note for note in few.provenance.notes) and not any("covers all" in n for n in every.provenance.notes)
    # The channels that vary most are the ones taken: the map lies in their span.
    maps, _ = plain_by_formula(model.module, model.encode(pictures[:1]).tensors[0], 0, "logit")
    taken = maps[0][np.argsort(-maps[0].std((1, 2)))[:3]].reshape(3, -1)
    drawn = cells(explain(model, pictures[:1], "score_cam", budget=4, relu=False), 0).ravel()
    assert np.linalg.matrix_rank(np.vstack([taken, drawn]), tol=1e-4) == 3


def test_pictures_of_another_size_than_the_modules_are_mapped_where_preprocess_only_resizes() -> None:
    def preprocess(pictures: np.ndarray) -> Tensor:
        return F.interpolate(torch.tensor(np.moveaxis(pictures, -1, 1).copy()), (16, 16), mode="bilinear")

    model = gallery.wrapped(gallery.Plain, preprocess=preprocess)
    large = gallery.pictures((32, 32))
    small = np.moveaxis(preprocess(large).numpy(), 1, -1)
    there = explain(gallery.wrapped(gallery.Plain), small, "grad_cam", target=0)
    here = explain(model, large, "grad_cam", target=0)
    assert here.values.shape == (3, 32, 32)
    for i in range(3):
        np.testing.assert_allclose(cells(here, i), cells(there, i), rtol=1e-4, atol=1e-8)


def test_half_precision_is_near_full_precision() -> None:
    model, pictures = gallery.made("plain")
    full = explain(model, pictures, "grad_cam", target=1, relu=False)
    half = gallery.wrapped(lambda: gallery.Plain().bfloat16())
    half.module.load_state_dict({key: value.bfloat16() for key, value in model.module.state_dict().items()})
    ex = explain(half, pictures, "grad_cam", target=1, relu=False)
    np.testing.assert_allclose(ex.values, full.values, atol=0.05 * np.abs(full.values).max())


@pytest.mark.parametrize("method", METHODS)
def test_what_has_no_map_is_refused_before_it_runs(method: str) -> None:
    flat = explainer.wrap(gallery.flat(), modality="image", class_names=list("abc"), background=gallery.pictures())
    able = flat.capabilities()[method]
    assert able.level == "unsupported" and "map over the picture" in able.reason
    with pytest.raises(Unsupported, match="CAM"):
        explain(flat, gallery.pictures(), method)
    outside = explainer.wrap(lambda x: np.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1), modality="image", class_names=["a", "b"])
    assert "no layers" in outside.capabilities()[method].reason


def test_names_that_do_not_exist_are_answered_with_those_that_do() -> None:
    model, pictures = gallery.made("plain")
    with pytest.raises(UnknownName, match="'act2'"):
        explain(model, pictures, "grad_cam", layer="act22")
    with pytest.raises(UnknownName, match="'softmax'"):
        explain(model, pictures, "score_cam", weights="softmx")


def test_the_plot_lays_the_map_over_the_picture() -> None:
    model, pictures = gallery.made("plain, wide pictures")
    ex = explain(model, pictures, "grad_cam")
    heat = explainer.plot(ex, instance=1).data[-1]
    np.testing.assert_array_equal(np.asarray(heat.z, dtype=float), ex.values[1])
