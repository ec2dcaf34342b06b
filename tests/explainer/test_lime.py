import numpy as np
import pandas as pd
import pytest
from games import COLUMNS, frame, regression, wavy
from lime.lime_base import LimeBase
from lime.lime_tabular import LimeTabularExplainer
from lime.lime_text import LimeTextExplainer

import explainer
from explainer.methods.lime import _kernel, _surrogate


def text_scores(texts):
    good = np.array([t.split().count("good") - 2 * t.split().count("bad") + 0.3 * len(t.split()) for t in texts], dtype=float)
    p = 1 / (1 + np.exp(-good))
    return np.stack([1 - p, p], axis=1)


@pytest.mark.parametrize("num_features", [None, 3])
def test_same_neighbourhood_same_coefficients_as_lime(num_features):
    """lime's own tabular neighbourhood, scored once, fitted by both."""
    data = frame(500).to_numpy()
    peer = LimeTabularExplainer(data, mode="regression", feature_names=COLUMNS, random_state=0)
    kept, inverse = peer._LimeTabularExplainer__data_inverse(data[3], 1500)
    scores = wavy(inverse)
    distances = np.sqrt(((kept - kept[0]) ** 2).sum(1))
    base = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / (0.75 * 5**0.5) ** 2)))
    _, listed, fit, _ = base.explain_instance_with_data(
        kept, scores[:, None], distances, 0, num_features or 5, feature_selection="highest_weights"
    )
    theirs = np.zeros(5)
    for j, value in listed:
        theirs[j] = value
    ours, _, r2 = _surrogate(kept, scores[:, None], _kernel(kept, "tabular", True, None), num_features)
    np.testing.assert_allclose(ours[:, 0], theirs, atol=1e-8)
    np.testing.assert_allclose(r2[0], fit, atol=1e-8)


def test_text_kernel_is_limes():
    kept = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 1]], dtype=float)
    peer = LimeTextExplainer()
    import sklearn.metrics

    distance = sklearn.metrics.pairwise.pairwise_distances(kept, kept[:1], metric="cosine").ravel() * 100
    np.testing.assert_allclose(_kernel(kept, "text", False, None), peer.base.kernel_fn(distance), atol=1e-12)


def test_top_features_agree_with_the_lime_package():
    data = frame(600)
    model = regression(lambda x: 3 * (x[:, 2] > 0) - 2 * (x[:, 0] > 0.5) + 0.1 * x[:, 1], background=data[:300])
    ours = explainer.explain(model, data[400:401], "lime", budget=4000, verify=False)
    peer = LimeTabularExplainer(data[:300].to_numpy(), mode="regression", feature_names=COLUMNS, random_state=0)
    listed = peer.explain_instance(
        data.to_numpy()[400], lambda x: 3 * (x[:, 2] > 0) - 2 * (x[:, 0] > 0.5) + 0.1 * x[:, 1], num_samples=4000
    )
    theirs = dict(listed.as_map()[1])
    order = np.argsort(-np.abs(ours.values[0]))[:2]
    assert set(order) == set(sorted(theirs, key=lambda j: -abs(theirs[j]))[:2]) == {0, 2}
    np.testing.assert_allclose(ours.values[0][order], [theirs[j] for j in order], atol=0.15)


def test_planted_words_come_first():
    model = explainer.wrap(text_scores, modality="text", class_names=["no", "yes"])
    ex = explainer.explain(model, ["a good film with a bad end and more"], "lime", target="yes")
    words = ex.feature_names[0]
    assert words[int(np.argmin(ex.values[0]))] == "bad"
    assert words[int(np.argmax(ex.values[0]))] == "good"
    assert ex.extras["spans"][0].tolist()[1] == [2, 6]


def test_a_linear_game_fits_and_a_parity_game_fails():
    linear = explainer.wrap(
        lambda t: np.array([[len(x.split()) / 10, 1 - len(x.split()) / 10] for x in t]), modality="text", class_names=["p", "q"]
    )
    parity = explainer.wrap(
        lambda t: np.array([[len(x.split()) % 2, 1 - len(x.split()) % 2] for x in t], dtype=float), modality="text", class_names=["p", "q"]
    )
    text = ["one two three four five six seven eight"]
    assert explainer.explain(linear, text, "lime", target=0).verdict.checks["fit"].status == "pass"
    check = explainer.explain(parity, text, "lime", target=0).verdict.checks["fit"]
    assert check.status == "fail"
    assert "does not follow" in check.reason


def test_missing_values_and_categories_are_sampled_as_they_are():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.normal(40, 10, 200), "town": rng.choice(["x", "y", None], 200), "old": rng.random(200) < 0.3})
    table.loc[::7, "age"] = np.nan
    seen = []

    def score(rows):
        seen.append(rows)
        return (rows["town"] == "y").to_numpy() * 1.0 + rows["old"].to_numpy().astype(float)

    model = explainer.wrap(score, modality="tabular", task="regression", class_names=["v"], background=table)
    town_y = table[table["town"] == "y"][:1]
    ex = explainer.explain(model, town_y, "lime", verify=False)
    drawn = max(seen, key=len)
    assert set(drawn["town"].dropna()) <= {"x", "y"}
    assert set(map(bool, drawn["old"])) == {True, False}
    assert ex.values[0][1] == pytest.approx(1, abs=0.1)
    assert ex.extras["rules"][0][1] == "town = y"


def test_standard_errors_shrink_with_the_budget():
    model, x = regression(wavy, background=frame(200)), frame(1)
    few, many = (explainer.explain(model, x, "lime", budget=b, verify=False).stderr.mean() for b in (300, 4800))
    assert few / many == pytest.approx(4, rel=0.35)
