"""Membership attacks, training with a promise, and tables without identities."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import explainer
from explainer.errors import InvalidInput, Unsupported
from zoo import privacy
from zoo.mlp import Classifier

KEY = "a secret of sixteen letters"


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_the_advantage_of_a_known_attack_is_found(shift):
    """Losses N(0, 1) and N(shift, 1): the best threshold has the advantage 2 Phi(shift / 2) - 1."""
    from scipy.stats import norm

    draw = np.random.default_rng(0)
    found = privacy.membership_advantage(draw.normal(size=4000), draw.normal(shift, size=4000))
    assert found["value"] == pytest.approx(2 * norm.cdf(shift / 2) - 1, abs=0.03)
    assert found["low"] <= found["value"] <= found["high"]


def test_nothing_is_found_where_nothing_is_and_the_interval_holds_as_often_as_it_says():
    """The largest gap of two alike samples of 60 is above 0 each time; picked on one half and tried on the other it is not."""
    draw = np.random.default_rng(1)
    found = [privacy.membership_advantage(*draw.normal(size=(2, 60)), seed=k) for k in range(200)]
    assert abs(np.mean([one["value"] for one in found])) < 0.02
    assert np.mean([one["low"] <= 0 <= one["high"] for one in found]) > 0.85


def test_too_few_rows_for_an_attack_are_said():
    with pytest.raises(InvalidInput, match="3 members and 9 others"):
        privacy.membership_advantage(np.zeros(3), np.zeros(9))


def drawn(n=400):
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(n, 6))
    return torch.from_numpy(rows).float(), (rows[:, 0] + 0.3 * draw.normal(size=n) > 0).astype(int)


def trained(rows, labels, **options):
    torch.manual_seed(0)
    module = Classifier(columns=6, classes=2, width=8, dropout=0.0)
    options = {"epochs": 8, "batch": 100, "rate": 2e-2, "epsilon": 4, **options}
    return module, privacy.train_privately(module, rows, labels, **options)


def test_private_training_keeps_its_promise_and_learns():
    pytest.importorskip("opacus", reason="private training needs the extra: explainer-toolkit[private]")
    rows, labels = drawn()
    module, spent = trained(rows, labels)
    assert spent.epsilon <= 4
    assert spent.epsilon > 3.5, "more noise than the promise asks for"
    assert spent.steps == 8 * 4
    assert spent.delta < 1 / len(rows)
    assert (module(rows).argmax(1).numpy() == labels).mean() > 0.75
    assert type(module) is Classifier
    assert not module.training
    again, _ = trained(rows, labels)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))


def test_a_stricter_promise_takes_more_noise_and_the_accountants_agree():
    pytest.importorskip("opacus", reason="private training needs the extra: explainer-toolkit[private]")
    from opacus.accountants import RDPAccountant

    rows, labels = drawn()
    strict, loose = (trained(rows, labels, epsilon=e, epochs=2)[1] for e in (1, 8))
    assert strict.noise > loose.noise
    for spent in (strict, loose):  # another, looser accountant of the same steps bounds it from above
        other = RDPAccountant()
        other.history = [(spent.noise, spent.share, spent.steps)]
        assert spent.epsilon <= other.get_epsilon(spent.delta) <= 1.6 * spent.epsilon


@pytest.mark.parametrize("epsilon", [0, -1, float("inf"), float("nan")])
def test_a_promise_of_nothing_is_refused(epsilon):
    pytest.importorskip("opacus", reason="private training needs the extra: explainer-toolkit[private]")
    with pytest.raises(InvalidInput, match=f"epsilon must be a number above 0; {epsilon} came"):
        trained(*drawn(), epsilon=epsilon)


def test_no_epoch_and_layers_that_mix_rows_are_refused_before_training():
    pytest.importorskip("opacus", reason="private training needs the extra: explainer-toolkit[private]")
    with pytest.raises(InvalidInput, match="epochs must be at least 1; 0 came"):
        trained(*drawn(), epochs=0)
    module = Classifier(columns=6, classes=2, norm=True)
    with pytest.raises(Unsupported, match=r"Batch norm \(layers\.1, layers\.5\) makes.*norm=False"):
        privacy.train_privately(module, *drawn(), epsilon=4)
    assert module.training


def persons(n=60):
    return pd.DataFrame(
        {
            "name": [f"Ann Smith {i % 30}" for i in range(n)],
            "email": [f"ann{i % 30}@example.org" for i in range(n)],
            "income": np.linspace(20, 80, n),
            "note": ["ask ann7@example.org" if i == 3 else f"all is fine with number {i}" for i in range(n)],
        },
        index=range(100, 100 + n),
    )


def test_identities_are_hidden_and_the_rest_stays():
    frame = persons()
    before = frame.copy()
    made = privacy.without_identities(frame, columns=["name"])
    pd.testing.assert_frame_equal(frame, before)
    assert set(made["name"]) == {"[masked]"}
    assert made["income"].tolist() == frame["income"].tolist()
    assert list(made.index) == list(frame.index) and list(made.columns) == list(frame.columns)
    assert "@" not in made.to_csv()
    assert made["note"].iloc[4] == frame["note"].iloc[4]
    assert explainer.check(made, only=["personal data"])[0].state == "pass"


def test_pseudonyms_join_tables_under_one_key_only():
    a = privacy.without_identities(persons(), key=KEY, columns=["name"])
    b = privacy.without_identities(persons(90), key=KEY, columns=["name"])
    other = privacy.without_identities(persons(), key=KEY + "!", columns=["name"])
    assert a["name"].nunique() == 30 and a["email"].nunique() == 30
    assert set(a["name"]) == set(b["name"]) and set(a["email"]) == set(b["email"])
    assert not set(a["email"]) & set(other["email"])
    assert a["name"].iloc[0] == a["name"].iloc[30]


def test_what_could_not_be_hidden_or_looked_for_is_said(monkeypatch):
    with pytest.raises(InvalidInput, match="no column 'nam'; it has name, email"):
        privacy.without_identities(persons(), columns=["nam"])
    monkeypatch.setattr(explainer, "fix", lambda data, *_, **__: type("Fixed", (), {"data": data}))
    with pytest.raises(InvalidInput, match="could not be hidden: .*email"):
        privacy.without_identities(persons())
