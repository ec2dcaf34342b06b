"""Rows put together after encoding are, to the bit, those the encoder makes; an encoder that mixes cells is found out."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
import torch_gallery as gallery

import explainer
from explainer import features
from explainer.adapters.torch import TorchModel
from explainer.inputs import take


class OneHot:
    """Age and income standardised, the town one-hot; ``mix`` lets columns act on one another in one of three ways."""

    groups = (0, 1, 1, 1, 2)

    def __init__(self, mix: str = "") -> None:
        self.mix = mix

    def __call__(self, frame: pd.DataFrame) -> torch.Tensor:
        town = np.stack([frame["town"] == name for name in ("north", "south", "west")], axis=1)
        age, income = frame["age"].to_numpy(float), frame["income"].to_numpy(float)
        encoded = np.column_stack([np.nan_to_num((age - 40) / 9), town, np.log(np.abs(income) + 1)])
        if self.mix == "rows":
            encoded /= np.linalg.norm(encoded, axis=1, keepdims=True)
        if self.mix == "batch":
            encoded -= encoded.mean(axis=0)
        if self.mix == "noise":
            encoded += np.random.default_rng().normal(size=encoded.shape)
        return torch.tensor(encoded, dtype=torch.float32)


def people(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.normal(40, 9, n), "town": rng.choice(["north", "south", "west"], n), "income": rng.lognormal(3, 1, n)})
    frame.loc[1, "age"] = np.nan
    return frame


def table_model(mix: str = "") -> explainer.Model:
    return explainer.wrap(
        gallery.mlp(columns=5), modality="tabular", preprocess=OneHot(mix), background=people(7, seed=1), class_names=list("abc")
    )


def picture_model(preprocess=None, net=gallery.convnet) -> explainer.Model:
    return explainer.wrap(net(), modality="image", preprocess=preprocess, class_names=list("abcd"))


def darkest_to_zero(pictures: np.ndarray) -> torch.Tensor:
    return torch.tensor((pictures - pictures.min(axis=(1, 2), keepdims=True))[:, None])


def halved(pictures: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(torch.tensor(pictures[:, None]), 2)


def shifted(pictures: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.roll(pictures, 1, axis=1)[:, None])


CASES = {
    "numbers": (
        lambda: explainer.wrap(gallery.mlp(), modality="tabular", background=gallery.table(9, seed=1), class_names=list("abc")),
        gallery.table(4),
        {},
    ),
    "one-hot": (table_model, people(4), {}),
    "groups of columns": (table_model, people(4), {"features": {"who": ["age", "town"]}}),
    "one stand-in": (table_model, people(4), {"baseline": "median"}),
    "pictures": (picture_model, gallery.images(3), {"features": "patches"}),
    "standardised": (lambda: picture_model(gallery.standardised), gallery.images(3), {"baseline": "blur"}),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_are_to_the_bit_those_of_the_encoder(case):
    make, given, cut = CASES[case]
    model = make()
    given = model.canonical(given)
    parts = features.build(model, given, **cut)
    made = model.composer(parts)
    assert made is not None
    rng = np.random.default_rng(3)
    asks = [(i, rng.random((m, parts.players(i))) < 0.5) for i, m in ((2, 5), (0, 1), (1, 8))]
    whole, composed = parts.rows_of(asks), made.rows(asks)
    assert len(composed) == len(whole) and composed.shape == whole.shape
    for part in (slice(None), slice(3, 4), slice(5, len(whole) - 2), np.arange(1, len(whole) - 1)):
        usual, ours = (model.encode(take(rows, part), channels_last=last) for rows, last in ((whole, True), (composed, True)))
        np.testing.assert_array_equal(usual.tensors[0], ours.tensors[0])
        assert usual.tensors[0].stride() == ours.tensors[0].stride()
    np.testing.assert_array_equal(model.raw(whole, at_once=4), model.raw(composed, at_once=4))


@pytest.mark.parametrize("method", ["shap", "owen", "lime", "ablation"])
@pytest.mark.parametrize("case", CASES)
def test_an_explanation_is_the_same_with_and_without(case, method, monkeypatch):
    make, given, cut = CASES[case]
    monkeypatch.setattr("explainer.coalitions._COMPOSED_FROM", 1)
    options = {"budget": 300} if method != "ablation" else {}
    if method == "owen":
        cut = {k: v for k, v in cut.items() if k != "features"}
    found = [explainer.explain(make(), given, method, target=0, verify=False, seed=0, **options, **cut)]
    monkeypatch.setattr(TorchModel, "composer", lambda self, features: None)
    found.append(explainer.explain(make(), given, method, target=0, verify=False, seed=0, **options, **cut))
    np.testing.assert_array_equal(found[0].values, found[1].values)


@pytest.mark.parametrize(
    ("make", "given", "cut"),
    [
        (lambda: table_model("rows"), people(4), {}),
        (lambda: table_model("batch"), people(4), {}),
        (lambda: table_model("noise"), people(4), {}),
        (lambda: picture_model(darkest_to_zero), gallery.images(3) + 0.1, {"features": "patches"}),
        (lambda: picture_model(halved, lambda: gallery.ConvNet(4).eval()), gallery.images(3), {}),
        (lambda: picture_model(shifted), gallery.images(3), {}),
        (picture_model, gallery.images(3), {"baseline": "inpaint"}),
        (table_model, people(4), {"baseline": "neighbours"}),
    ],
    ids=["rows", "batch", "noise", "darkest", "halved", "shifted", "inpaint", "neighbours"],
)
def test_an_encoder_that_mixes_cells_is_left_to_make_its_rows(make, given, cut):
    model = make()
    given = model.canonical(given)
    assert model.composer(features.build(model, given, **cut)) is None


def test_the_encoder_is_asked_once_and_for_few_rows():
    encoded = []

    def spied(frame: pd.DataFrame) -> torch.Tensor:
        encoded.append(len(frame))
        return torch.tensor(frame.to_numpy(np.float32))

    names = {"background": gallery.table(9, columns=12, seed=1), "class_names": list("abc")}
    model = explainer.wrap(gallery.mlp(columns=12), modality="tabular", preprocess=spied, **names)
    explainer.explain(model, gallery.table(8, columns=12), "shap", budget=2000, verify=False, algorithm="gaussian")
    assert sum(encoded) < 8 * 2000 * 9 / 2  # of the rows that were scored; the rest is the trial of batch sizes


def test_a_composer_that_hangs_is_waited_for_no_longer_than_allowed(monkeypatch):
    awake, waited = threading.Event(), []

    def hanging(self, features):
        waited.append(threading.current_thread())
        awake.wait(20)

    monkeypatch.setattr("explainer.coalitions._COMPOSED_FROM", 1)
    monkeypatch.setattr(TorchModel, "composer", hanging)
    ex = explainer.explain(table_model(), people(4), "shap", budget=300, time_limit=0.3, verify=False)
    awake.set()
    assert np.isfinite(ex.values).all()  # by rows made in the usual way
    assert waited and threading.main_thread() not in waited  # the caller's own thread was never lent to it
