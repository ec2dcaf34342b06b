import numpy as np
import pandas as pd
import pytest
from games import frame, wavy
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import SVC

import explainer
from explainer.errors import InvalidInput, Unsupported


def labels(data):
    return np.where(wavy(data.to_numpy()) > 0, "yes", "no")


def test_names_come_from_the_estimator():
    data = frame(80)
    model = explainer.wrap(LogisticRegression().fit(data, labels(data)))
    assert model.class_names == ("no", "yes")
    assert model.feature_names == tuple(data.columns)
    np.testing.assert_allclose(model.scores(data).sum(1), 1)


def test_scales_agree_with_the_estimator():
    data = frame(80)
    fitted = LogisticRegression().fit(data, labels(data))
    model = explainer.wrap(fitted)
    np.testing.assert_allclose(model.scores(data, "logit")[:, 1], fitted.decision_function(data), atol=1e-6)
    np.testing.assert_allclose(model.scores(data, "raw"), fitted.predict_proba(data))


def test_an_svm_without_probabilities_gives_logits():
    data = frame(80)
    fitted = SVC().fit(data, labels(data))
    model = explainer.wrap(fitted, background=data[:10])
    np.testing.assert_allclose(model.scores(data, "logit")[:, 1], fitted.decision_function(data))
    assert ((model.scores(data)[:, 1] > 0.5) == (fitted.predict(data) == "yes")).all()


def test_regression_with_several_outputs():
    data = frame(50)
    model = explainer.wrap(
        LinearRegression().fit(data, np.stack([data["a"] * 2, data["b"] - 1], 1)), class_names=["p", "q"], background=data[:10]
    )
    ex = explainer.explain(model, data[:2], "shap", target="all")
    expected = (data[["a", "b"]][:2] - data[["a", "b"]][:10].mean()).to_numpy() * [2, 1]
    np.testing.assert_allclose(ex.values[:, [0, 1], [0, 1]], expected, atol=1e-9)


def test_fingerprints_follow_what_was_learned():
    data = frame(80)
    prints = [explainer.wrap(RandomForestClassifier(5, random_state=s).fit(data, labels(data))).fingerprint() for s in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]

    def one(t):
        return t.to_numpy()[:, 0] * 2

    def two(t):
        return t.to_numpy()[:, 0] * 3

    a, b = (explainer.wrap(f, modality="tabular", class_names=["v"], task="regression").fingerprint() for f in (one, two))
    assert a != b


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: explainer.wrap(LogisticRegression()), InvalidInput, r"call fit\(\)"),
        (lambda: explainer.wrap("model.pkl"), Unsupported, "str came"),
        (lambda: explainer.wrap(lambda t: t), InvalidInput, "modality="),
        (lambda: explainer.wrap(lambda t: t, modality="text"), InvalidInput, "class_names"),
    ],
)
def test_what_cannot_be_wrapped(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_functions_that_return_the_wrong_thing():
    bad = explainer.wrap(lambda t: np.zeros((3, 2)), modality="tabular", class_names=["a", "b"])
    with pytest.raises(InvalidInput, match=r"\(3, 2\) for 2 inputs"):
        bad.scores(frame(2))
    narrow = explainer.wrap(lambda t: np.zeros((len(t), 3)), modality="tabular", class_names=["a", "b"])
    with pytest.raises(InvalidInput, match="2 named outputs"):
        narrow.scores(frame(2))
    broken = explainer.wrap(lambda t: t["missing"], modality="tabular", class_names=["a", "b"], name="mine")
    with pytest.raises(InvalidInput, match="mine could not score"):
        broken.scores(frame(2))


def test_one_probability_becomes_two_classes():
    model = explainer.wrap(lambda t: np.full(len(t), 0.2), modality="tabular", class_names=["no", "yes"], background=frame(5))
    np.testing.assert_allclose(model.scores(frame(2)), [[0.8, 0.2]] * 2)
    counted = explainer.wrap(lambda t: np.full(len(t), 0.2), modality="tabular", background=frame(5))
    assert counted.class_names == ("class 0", "class 1")


def test_numpy_tables_reach_an_estimator_fitted_on_numpy():
    data = frame(60)
    fitted = LogisticRegression().fit(data.to_numpy(), labels(data))
    model = explainer.wrap(fitted, feature_names=list(data.columns), background=data[:10])
    with np.errstate(all="raise"):
        ex = explainer.explain(model, data.to_numpy()[:1], "shap")
    assert ex.feature_names[0] == tuple(data.columns)
    assert isinstance(ex.inputs, pd.DataFrame)


def test_an_estimator_that_is_neither_classifier_nor_regressor_is_refused_with_a_way_out():
    from sklearn.ensemble import IsolationForest

    with pytest.raises(Unsupported, match="decision_function"):
        explainer.wrap(IsolationForest(random_state=0).fit(np.zeros((8, 2))))
