"""Where the picture lies on a grid inside a module: against grids known from how each module was built."""

from __future__ import annotations

import numpy as np
import picture_gallery as gallery
import pytest
import torch
from test_torch_adapter import assert_unchanged, snapshot
from torch import Tensor, nn

from explainer.adapters import grids
from explainer.adapters.corners import Sight
from explainer.adapters.grids import choose, spatial, token_grid
from explainer.errors import UnknownName, Unsupported

# name -> the layer to take, its rows and columns, the tokens in front of its grid, how it lies
KNOWN = {
    "plain": ("act2", 8, 8, 0, "channels first"),
    "plain, wide pictures": ("act2", 6, 10, 0, "channels first"),
    "one in-place ReLU": ("relu", 8, 8, 0, "channels first"),
    "dense": ("norm", 8, 8, 0, "channels first"),
    "depthwise, gated, residual": ("act", 8, 8, 0, "channels first"),
    "channels last": ("act", 8, 8, 0, "channels last"),
    "tokens, first": ("blocks.1", 4, 4, 1, "tokens"),
    "tokens, mean": ("norm", 4, 4, 0, "tokens"),
    "tokens, wide pictures": ("blocks.1", 3, 8, 1, "tokens"),
    "tokens, registers": ("blocks.1", 4, 6, 2, "tokens"),
    "tokens, batch second": ("blocks.1", 4, 4, 1, "tokens"),
    "mixer": ("norm", 4, 4, 0, "tokens"),
    "ViT": ("vit.layers.1", 4, 4, 1, "tokens"),
    "DeiT": ("deit.layers.1", 4, 4, 2, "tokens"),
    "DINOv2": ("dinov2_with_registers.layernorm", 4, 4, 5, "tokens"),
    "Swin": ("swin.layernorm", 4, 4, 0, "tokens"),
    "ConvNeXt": ("convnext.encoder.stages.1.layers.1", 4, 4, 0, "channels first"),
    "ResNet": ("resnet.encoder.stages.1.layers.1.activation", 4, 4, 0, "channels first"),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", gallery.GALLERY)
def test_the_layer_taken_and_its_grid_are_those_of_the_build(name: str, seed: int) -> None:
    model, pictures = gallery.made(name, seed)
    before = snapshot(model.module)
    choice = choose(model, pictures)
    assert_unchanged(model.module, before)
    found = choice.grid
    layer, *rest = KNOWN[name]
    # Names inside a library's models move between its versions; their ends do not.
    assert found.layer.split(".")[-1] == layer.split(".")[-1]
    assert [found.rows, found.columns, found.before, found.kind] == rest


@pytest.mark.parametrize("name", ["channels last", "tokens, registers", "tokens, batch second", "ViT", "Swin"])
def test_a_changed_patch_moves_the_cell_that_lies_over_it(name: str) -> None:
    """The independent oracle of the layout: one patch anywhere in the picture, at the first layer on each grid."""
    model, pictures = gallery.made(name)
    first = spatial(model, pictures).grids[2]
    high, wide = pictures.shape[1] // first.rows, pictures.shape[2] // first.columns
    seen: list[Tensor] = []
    for row, column in [(1, 2), (first.rows - 2, 1), (first.rows - 1, first.columns - 2)]:
        changed = pictures[:2].copy()
        changed[1] = changed[0]
        changed[1, row * high : (row + 1) * high, column * wide : (column + 1) * wide] = 0
        with model.scoring(), grids.at_layer(model, first, lambda tensor: seen.append(first.maps(tensor))):
            model.forward(model.encode(changed), core=True)
        moved = (seen[-1][1] - seen[-1][0]).square().sum(0)
        assert divmod(int(moved.argmax()), first.columns) == (row, column)


def test_tokens_have_their_cells() -> None:
    model, pictures = gallery.made("tokens, registers")
    cells = token_grid(model, pictures, 29)
    assert cells[:2].tolist() == cells[-3:].tolist()[:2] == [[-1, -1]] * 2
    assert cells[2:-3].tolist() == [[r, c] for r in range(4) for c in range(6)]
    with pytest.raises(Unsupported, match="30 tokens"):
        token_grid(model, pictures, 30)


def test_a_token_more_than_the_picture_has_is_left_out_of_the_maps() -> None:
    model, pictures = gallery.made("tokens, registers")
    grid = choose(model, pictures, "embedded").grid
    tokens = torch.arange(29.0)[None, :, None].expand(1, 29, 12)
    assert torch.equal(grid.maps(tokens)[0, 0].flatten(), torch.arange(2.0, 26.0))


def test_a_layer_is_named_or_the_nearest_name_is_told() -> None:
    model, pictures = gallery.made("plain")
    assert choose(model, pictures, "first").grid.layer == "first"
    assert choose(model, pictures, model.module.second).grid.layer == "second"
    with pytest.raises(UnknownName, match="'second'"):
        choose(model, pictures, "secnd")
    with pytest.raises(Unsupported, match=r"'head' cannot be mapped.*act2"):
        choose(model, pictures, "head")


def test_a_layer_that_is_called_twice_is_taken_at_its_last_call() -> None:
    model, pictures = gallery.made("one in-place ReLU")
    grid = choose(model, pictures, "relu").grid
    assert (grid.call, grid.calls, grid.rows) == (1, 2, 8)
    assert "call 2 of 2" in str(grid)


class Pooled(gallery.Plain):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.act2(self.second(self.act1(self.first(x))))).mean((2, 3)))


def test_a_mere_pooling_is_passed_over_for_the_finer_map() -> None:
    model, pictures = gallery.wrapped(Pooled), gallery.pictures()
    assert choose(model, pictures).grid.layer == "act2"
    assert choose(model, pictures, "pool").grid.rows == 4


class Beside(gallery.Plain):
    """The picture's mean colour enters the score past the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.colour(x.mean((2, 3)))


def test_a_score_that_goes_past_every_map_is_said() -> None:
    choice = choose(gallery.wrapped(Beside), gallery.pictures())
    assert choice.grid.layer == "act2" and "past it" in choice.why


NO_MAP = {"flattened pixels": gallery.flat, "row by row": gallery.Rows, "one axis": lambda: nn.Sequential(
    nn.Flatten(2), nn.Conv1d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 127, 3))}  # fmt: skip


@pytest.mark.parametrize("name", NO_MAP)
@pytest.mark.parametrize("gradient", [True, False])
def test_modules_without_a_map_are_refused(name: str, gradient: bool) -> None:
    with pytest.raises(Unsupported, match="gives a map over the picture"):
        choose(gallery.wrapped(NO_MAP[name]), gallery.pictures(), gradient=gradient)


ASKEW = {
    "turned": lambda x: x.transpose(0, 2, 1, 3),
    "upside down": lambda x: x[:, ::-1],
    "mirrored": lambda x: x[:, :, ::-1],
    "cut": lambda x: x[:, 2:-2, 2:-2],
}


@pytest.mark.parametrize("how", ASKEW)
@pytest.mark.parametrize("make", [gallery.Plain, lambda: gallery.Tokens((16, 16))])
def test_a_preprocess_that_moves_the_picture_is_refused(how: str, make) -> None:
    def preprocess(pictures: np.ndarray) -> Tensor:
        moved = np.ascontiguousarray(np.moveaxis(ASKEW[how](pictures), -1, 1))
        return nn.functional.interpolate(torch.from_numpy(moved), (16, 16))

    with pytest.raises(Unsupported, match="map over the picture"):
        choose(gallery.wrapped(make, preprocess=preprocess), gallery.pictures())


def test_a_backbone_without_gradients_has_maps_for_methods_that_need_none() -> None:
    model = gallery.wrapped(gallery.Frozen)
    with pytest.raises(Unsupported, match="score_cam"):
        choose(model, gallery.pictures())
    assert choose(model, gallery.pictures(), gradient=False).grid.layer == "backbone"


def test_frozen_weights_do_not_hide_the_way() -> None:
    model = gallery.wrapped(gallery.Plain)
    model.module.requires_grad_(False)
    assert choose(model, gallery.pictures()).grid.layer == "act2"


class Alike(nn.Module):
    """As many channels as tokens: what is pooled, and what lies across, would pass for tokens by its shape."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.tokens, self.across = nn.Conv2d(3, 16, 4, stride=4), nn.Identity(), nn.Identity()
        self.pool, self.head = nn.AdaptiveAvgPool1d(1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(self.patches(x).flatten(2).transpose(1, 2).clone()).relu()
        return self.head(self.pool(self.across(x.transpose(1, 2).clone())).flatten(1))


@pytest.mark.parametrize("seed", range(12))
def test_channels_are_not_taken_for_tokens_that_are_as_many(seed: int) -> None:
    model, pictures = gallery.wrapped(Alike, seed), gallery.pictures()
    assert choose(model, pictures).grid.layer == "tokens"
    for layer in ("across", "pool"):
        with pytest.raises(Unsupported, match="do not follow"):
            choose(model, pictures, layer)


def test_a_sequence_that_was_no_grid_is_none_where_it_is_mixed() -> None:
    """Four tokens that move most may lie like a grid's corners by chance; the layer before them has shown that they are not."""

    def sight(corners: list[int]) -> Sight:
        moved = np.full((4, 16), 0.01)
        moved[range(4), corners] = 1
        return Sight((16, 8), 0, {}, moved)

    rows, chance = sight([0, 0, 15, 15]), sight([0, 3, 12, 15])
    assert grids._tokens(chance, {}, (16, 16)) == ("tokens", 0, 4, 4)
    known: dict = {}
    assert "do not follow" in grids._tokens(rows, known, (16, 16))
    assert "do not follow" in grids._tokens(chance, known, (16, 16))


def test_a_picture_standardised_by_its_own_mean_keeps_its_place() -> None:
    def preprocess(pictures: np.ndarray) -> Tensor:
        x = torch.from_numpy(np.moveaxis(pictures, -1, 1).copy())
        return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)

    for make, layer in ((gallery.Plain, "act2"), (lambda: gallery.Tokens((16, 16)), "blocks.1")):
        assert choose(gallery.wrapped(make, preprocess=preprocess), gallery.pictures()).grid.layer == layer


def test_a_picture_that_preprocess_stretches_has_the_modules_own_grid() -> None:
    def preprocess(pictures: np.ndarray) -> Tensor:
        return nn.functional.interpolate(torch.from_numpy(np.moveaxis(pictures, -1, 1).copy()), (16, 16), mode="bilinear")

    grid = choose(gallery.wrapped(lambda: gallery.Tokens((16, 16)), preprocess=preprocess), gallery.pictures((16, 64))).grid
    assert (grid.rows, grid.columns) == (4, 4)
