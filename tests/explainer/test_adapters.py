import functools

import numpy as np
import pandas as pd
import pytest
from games import frame, wavy
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, NuSVC

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


class Own(TransformerMixin, BaseEstimator):
    """A person's own step."""

    def fit(self, rows, y=None):
        self.fitted_ = True
        return self

    def transform(self, rows):
        return rows


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
    rows = data.select_dtypes("number")
    fitted = LogisticRegression().fit(rows, labels(data))
    steps = [make_pipeline(FunctionTransformer(f), fitted) for f in (lambda v: v * 2, lambda v: v * 3, lambda v: v * 2)]
    prints = [explainer.wrap(one, background=rows).fingerprint() for one in steps]
    assert prints[0] == prints[2] != prints[1]
    scalers = [StandardScaler().fit(rows * k) for k in (1, 2)]
    others = [np.tanh, np.sin, functools.partial(np.clip, a_min=0, a_max=1), functools.partial(np.clip, a_min=0, a_max=2)]
    others += [one.transform for one in scalers]
    models = [explainer.wrap(make_pipeline(FunctionTransformer(f), fitted), background=rows) for f in others]
    assert len({model.fingerprint() for model in models}) == len(others)
    assert [bool(model.unhashed) for model in models] == [False] * 6
    assert "<lambda>" in explainer.wrap(steps[0], background=rows).unhashed
    assert explainer.wrap(fitted, background=rows).unhashed == ""
    assert "Own" in explainer.wrap(make_pipeline(Own().fit(rows), fitted), background=rows).unhashed


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
    narrow = explainer.wrap(lambda t: np.full((len(t), 3), 1 / 3), modality="tabular", class_names=["a", "b"])
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


@pytest.mark.parametrize("kind", [SVC, NuSVC])
@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("around", [lambda fitted: fitted, lambda fitted: make_pipeline(StandardScaler(), fitted)])
def test_votes_between_pairs_of_classes_become_scores_of_classes(kind, classes, around):
    rng = np.random.default_rng(0)
    rows, found = rng.normal(size=(200, 4)), rng.integers(0, classes, 200)
    rows[:, 0] += found
    told = {"nu": 0.1} if kind is NuSVC else {}
    pairs, rest = (around(kind(decision_function_shape=shape, **told)).fit(rows, found) for shape in ("ovo", "ovr"))
    model = explainer.wrap(pairs, background=rows)
    np.testing.assert_allclose(model.scores(rows, "logit"), rest.decision_function(rows), atol=1e-12)
    assert (model.scores(rows).argmax(1) == pairs.predict(rows)).mean() > 0.95


def test_scores_whose_largest_is_not_what_is_predicted_are_refused():
    class Distance(ClassifierMixin, BaseEstimator):
        def fit(self, x, y):
            self.classes_ = np.unique(y)
            self.centres_ = np.stack([x[y == c].mean(0) for c in self.classes_])
            return self

        def decision_function(self, x):
            return np.linalg.norm(x[:, None] - self.centres_, axis=2)  # small is near

        def predict(self, x):
            return self.classes_[self.decision_function(x).argmin(1)]

    x, y = load_iris(return_X_y=True)
    with pytest.raises(Unsupported, match="not the one that predict.. gives in 30 of 30 rows"):
        explainer.wrap(Distance().fit(x, y), background=x[::5])
    late = explainer.wrap(Distance().fit(x, y))
    with pytest.raises(Unsupported, match="one score per class"):
        explainer.explain(late, x[:4], background=x[::5])


class Pick(TransformerMixin, BaseEstimator):
    """Columns chosen by name, or by place; what it was fitted on is recorded nowhere."""

    def __init__(self, by_name=True):
        self.by_name = by_name

    def fit(self, x, y=None):
        self.fitted_ = True
        return self

    def transform(self, x):
        return x[["b", "c"]].to_numpy() if self.by_name else x[:, 1:3]


@pytest.mark.filterwarnings("error:X ")
@pytest.mark.parametrize(
    "around", [lambda p: p, lambda p: GridSearchCV(p, {"logisticregression__C": [1]}), CalibratedClassifierCV], ids=["alone", "grid", "cal"]
)
@pytest.mark.parametrize("by_name", [True, False])
def test_an_estimator_gets_what_it_was_fitted_on(around, by_name):
    data = frame(80)
    given = data if by_name else data.to_numpy()
    fitted = around(make_pipeline(Pick(by_name), LogisticRegression())).fit(given, labels(data))
    model = explainer.wrap(fitted, background=data[:10])
    np.testing.assert_array_equal(model.scores(data), fitted.predict_proba(given))


@pytest.mark.filterwarnings("error:X ")
def test_a_pipeline_fitted_on_numpy_gets_numpy():
    data = frame(80)
    fitted = make_pipeline(FunctionTransformer(lambda x: x[:, :2]), LogisticRegression()).fit(data.to_numpy(), labels(data))
    model = explainer.wrap(fitted, background=data[:10])
    np.testing.assert_array_equal(model.scores(data), fitted.predict_proba(data.to_numpy()))


@pytest.mark.parametrize("kind", [Ridge, lambda: MultiOutputRegressor(Ridge()), lambda: PLSRegression(2)])
@pytest.mark.parametrize("told", [True, False])
def test_the_outputs_of_a_regression_are_counted(kind, told):
    data = frame(50)
    fitted = kind().fit(data, np.stack([data["a"] * 2, data["b"] - 1], 1))
    model = explainer.wrap(fitted, background=data[:10] if told else None)
    assert model.class_names == ("output 0", "output 1")
    np.testing.assert_allclose(model.scores(data), fitted.predict(data))


@pytest.mark.parametrize("kind", [lambda: MultiOutputClassifier(LogisticRegression()), lambda: RandomForestClassifier(3)])
def test_several_labels_at_once_are_refused(kind):
    data = frame(50)
    fitted = kind().fit(data, np.stack([data["a"] > 0, data["b"] > 0], 1))
    with pytest.raises(Unsupported, match=r"2 labels at once.*predict_proba\(rows\)\[0\]"):
        explainer.wrap(fitted)


def test_the_way_out_names_a_method_that_is_there():
    with pytest.raises(Unsupported, match=r"estimator\.transform\(rows\)"):
        explainer.wrap(KMeans(2).fit(frame(10)))


def test_a_pipeline_that_begins_with_a_vectoriser_reads_texts():
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good film", "bad film"] * 5, [1, 0] * 5)
    for one in (fitted, GridSearchCV(fitted, {"logisticregression__C": [1]}).fit(["good film", "bad film"] * 5, [1, 0] * 5)):
        assert explainer.wrap(one).modality == "text"


def test_columns_reach_a_function_under_their_own_labels():
    given = pd.DataFrame(frame(20).to_numpy())
    model = explainer.wrap(lambda rows: rows[0] + 2 * rows[3], modality="tabular", task="regression", background=given)
    assert model.feature_names == ("0", "1", "2", "3", "4")
    np.testing.assert_allclose(model.scores(given)[:, 0], given[0] + 2 * given[3])
    fitted = LogisticRegression().fit(given, labels(frame(20)))
    np.testing.assert_array_equal(explainer.wrap(fitted, background=given).scores(given), fitted.predict_proba(given.to_numpy()))


@pytest.mark.parametrize("names", [["x", "x", "y"], None])
def test_two_columns_of_one_name_are_refused(names):
    given = pd.DataFrame(np.zeros((4, 3)), columns=["x", "x", "y"])
    with pytest.raises(InvalidInput, match="several columns of one name: x"):
        explainer.wrap(lambda rows: rows, modality="tabular", task="regression", feature_names=names, background=given)
    with pytest.raises(InvalidInput, match="several columns of one name: x"):
        explainer.wrap(lambda rows: rows, modality="tabular", class_names=["a", "b"], feature_names=["x", "x", "y"])


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda rows: rows["a"] * 1e5, {}),
        (lambda rows: rows["a"] * 1e5, {"class_names": ["no", "yes"]}),
        (lambda rows: rows[["a", "b"]], {}),
        (lambda rows: rows[["a", "b"]], {"class_names": ["no", "yes"]}),
        (lambda rows: np.full((len(rows), 2), 0.2), {}),
        (lambda rows: rows[["a", "b"]] * 9, {"returns": "probability"}),
    ],
)
def test_numbers_that_are_no_probabilities_are_not_taken_for_them(function, told):
    with pytest.raises(InvalidInput, match="probabilit.*task='regression'"):
        explainer.wrap(function, modality="tabular", background=frame(20), **told).scores(frame(20))


def test_an_estimator_whose_probabilities_are_none_is_refused():
    class Odd(ClassifierMixin, BaseEstimator):
        def fit(self, x, y):
            self.classes_ = np.unique(y)
            return self

        def predict_proba(self, x):
            return np.column_stack([1 - x["a"], x["a"]])

    model = explainer.wrap(Odd().fit(frame(20), labels(frame(20))), background=frame(20))
    with pytest.raises(InvalidInput, match="predict_proba of Odd .* probabilities"):
        model.scores(frame(20))


def in_place(rows):
    """``a * 2 + b``, which leaves another ``a`` behind."""
    if isinstance(rows, pd.DataFrame):
        rows["a"] *= 2
        return (rows["a"] + rows["b"]).to_numpy()
    rows[:, 0] *= 2
    return rows[:, 0] + rows[:, 1]


class InPlace(BaseEstimator):
    _estimator_type = "regressor"

    def fit(self, x, y=None):
        self.fitted_ = True
        return self

    def predict(self, x):
        return in_place(x)


@pytest.mark.parametrize("method", ["shap", "lime", "ablation"])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda rows: explainer.wrap(in_place, modality="tabular", task="regression", background=rows),
        lambda rows: explainer.wrap(lambda x: x, preprocess=in_place, modality="tabular", task="regression", background=rows),
        lambda rows: explainer.wrap(
            InPlace().fit(rows), class_names=["v"], feature_names=list("abcde"), task="regression", background=rows
        ),
    ],
    ids=["function", "preprocess", "estimator"],
)
def test_what_a_model_writes_into_its_rows_changes_no_result(method, wrapped):
    rows, given = frame(20, seed=1), frame(3)
    pure = explainer.wrap(lambda x: x["a"] * 2 + x["b"], modality="tabular", task="regression", background=rows)
    found, true = (explainer.explain(model, given, method) for model in (wrapped(rows), pure))
    np.testing.assert_allclose(found.values, true.values, atol=1e-9)
    np.testing.assert_array_equal(found.scores, true.scores)
    pd.testing.assert_frame_equal(found.inputs, frame(3))
    pd.testing.assert_frame_equal(given, frame(3))
    pd.testing.assert_frame_equal(rows, frame(20, seed=1))
