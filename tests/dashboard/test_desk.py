from __future__ import annotations

import copy
import subprocess
import sys
import threading
import zipfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import explainer
from dashboard.desk import Desk, zipped
from dashboard.exhibit import Exhibit, exhibit_of
from dashboard.importance import summarised
from dashboard.view import View
from explainer.errors import InvalidInput, UnknownName


def _nothing(done: int, total: int) -> None:
    """Progress nobody watches."""


def test_equal_questions_meet_and_different_ones_do_not(small: SimpleNamespace) -> None:
    desk = Desk([small])
    exhibit = desk.exhibit("")
    one, changed = exhibit.row(3), exhibit.row(3).assign(income=99.0)
    key = desk.explanation(exhibit, one, "shap", "predicted", "row 3").key
    assert key == desk.explanation(exhibit, exhibit.row(3), "shap", "predicted", "another title").key
    others = [
        desk.explanation(exhibit, one, "lime", "predicted", "").key,
        desk.explanation(exhibit, one, "shap", 0, "").key,
        desk.explanation(exhibit, changed, "shap", "predicted", "").key,
        desk.explanation(exhibit, exhibit.row(4), "shap", "predicted", "").key,
    ]
    assert len({key, *others}) == 5


def test_the_explanation_is_the_librarys_own(small: SimpleNamespace) -> None:
    desk = Desk([small])
    exhibit = desk.exhibit("")
    found = desk.explanation(exhibit, exhibit.row(2), "shap", "predicted", "").work(_nothing)
    direct = explainer.explain(small.model, small.data.test.inputs.iloc[[2]], method="shap", seed=0)
    assert np.array_equal(found.values, direct.values)


def test_two_of_one_name_are_told_apart(small: SimpleNamespace) -> None:
    assert Desk([small, small]).names == ["small-table", "small-table-2"]


def test_unknown_models_get_the_nearest_name(small: SimpleNamespace) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'small-table'"):
        Desk([small]).exhibit("smal-table")
    with pytest.raises(UnknownName, match="digits-cnn"):
        exhibit_of("zoo:digit-cnn")
    with pytest.raises(InvalidInput, match="no Python file"):
        exhibit_of("nowhere.py:make")
    with pytest.raises(InvalidInput, match="int came"):
        exhibit_of(5)
    with pytest.raises(InvalidInput, match="at least one"):
        Desk([])


def test_a_file_makes_a_model_with_or_without_data(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\nfrom types import SimpleNamespace as S\nimport explainer\n"
        "def scores(x): return np.tile([0.25, 0.75], (len(x), 1))\n"
        "def bare(): return explainer.wrap(scores, modality='tabular', class_names=['a', 'b'], background=np.eye(4), name='mine')\n"
        "def whole(): return S(name='own', model=bare(), data=S(test=S(inputs=np.ones((3, 4)), labels=np.array([0, 1, 1]))))\n"
        "def short(): return S(name='short', model=bare(), data=S(test=S(inputs=np.ones((3, 4)), labels=np.array([0]))))\n"
    )
    bare, whole = exhibit_of(f"{file}:bare"), exhibit_of(f"{file}:whole")
    assert (bare.name, len(bare.inputs), bare.labels) == ("mine", 4, None)
    assert (whole.name, len(whole.inputs), whole.labels.tolist()) == ("own", 3, [0, 1, 1])
    assert whole.predict(_nothing).accuracy[0] == pytest.approx(2 / 3)
    with pytest.raises(UnknownName, match="Did you mean 'whole'"):
        exhibit_of(f"{file}:hole")
    with pytest.raises(InvalidInput, match="3 test inputs but 1 labels"):
        exhibit_of(f"{file}:short").predict(_nothing)


def test_labels_may_be_names(small: SimpleNamespace) -> None:
    named = SimpleNamespace(**vars(small))
    names = np.array(small.model.class_names)[small.data.test.labels]
    named.data = SimpleNamespace(test=SimpleNamespace(inputs=small.data.test.inputs, labels=names))
    assert Exhibit("named", named).labels.tolist() == small.data.test.labels.tolist()
    names[3] = "perhaps"
    with pytest.raises(InvalidInput, match="1 labels of bad are no class .* 'perhaps'.*refused, granted"):
        Exhibit("bad", named).predict(_nothing)


def test_a_model_without_any_rows_says_what_to_do() -> None:
    model = explainer.wrap(lambda texts: np.full((len(texts), 2), 0.5), modality="text", class_names=["a", "b"], name="bare")
    with pytest.raises(InvalidInput, match="data.test"):
        Exhibit("bare", model).predict(_nothing)


def test_parallel_work_gets_models_of_its_own(specimens: list[SimpleNamespace]) -> None:
    exhibit = exhibit_of(specimens[1])
    with exhibit.model() as first, exhibit.model() as second:
        assert first is not second and first is not exhibit.face
        assert first.fingerprint() == second.fingerprint() == exhibit.sha
    with exhibit.model() as third:
        assert third in (first, second)


def test_a_model_that_cannot_be_copied_is_lent_to_one_at_a_time(small: SimpleNamespace) -> None:
    class Single(type(small.model)):  # type: ignore[misc]
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("only one of me")

    model = copy.copy(small.model)
    model.__class__ = Single
    exhibit = Exhibit("single", model)
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with exhibit.model():
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.01)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 5


def test_open_choices_are_made_and_made_ones_kept(small: SimpleNamespace) -> None:
    desk = Desk([small])
    exhibit = desk.exhibit("")
    filled = desk.filled(View(), exhibit)
    predictions = desk.predictions(exhibit)
    assert predictions.wrong[filled.row] and (filled.a, filled.b) == ("shap", "lime")
    assert desk.filled(View(row=7, a="lime"), exhibit) == View("small-table", 7, "lime", "shap")
    assert desk.filled(View(a="nonsense"), exhibit).a == "shap"


def test_findings_name_rows_that_the_table_can_show(small: SimpleNamespace) -> None:
    desk = Desk([small])
    exhibit = desk.exhibit("")
    assert desk.found_rows(exhibit, "missing values") is None  # not computed yet: nothing is hidden
    task = desk.checking(exhibit)
    desk.store.put(task.key, task.work(_nothing))
    missing = set(np.flatnonzero(small.data.test.inputs["debt"].isna()))
    assert desk.found_rows(exhibit, "missing values") == missing


def test_importance_is_the_mean_size_with_an_interval_around_it(small: SimpleNamespace) -> None:
    ex = explainer.explain(small.model, small.data.test.inputs[:12], method="shap", verify=False)
    found = summarised(ex)
    assert found.names == small.model.feature_names
    assert found.values == pytest.approx(np.abs(ex.values).mean(0))
    assert (found.low < found.values).all() and (found.values < found.high).all()


def test_importance_of_words_pictures_and_channels(specimens: list[SimpleNamespace]) -> None:
    _, images, texts, series = specimens
    pictures = summarised(explainer.explain(images.model, images.data.test.inputs[:6], method="integrated_gradients", verify=False))
    assert pictures.values.shape == (12, 12)
    assert pictures.values[3:9, 1:5].mean() > 2 * pictures.values[:3].mean()  # where the bright block stands
    words = summarised(explainer.explain(texts.model, texts.data.test.inputs, method="lime", verify=False))
    assert {words.names[i] for i in words.order[:3]} <= {"free", "permission", "granted", "may", "must", "not", "forbidden", "liable"}
    channels = summarised(explainer.explain(series.model, series.data.test.inputs[:4], method="shap", verify=False))
    assert channels.names == ("x", "y", "z") and (channels.values > 0).all()


def test_agreement_over_a_sample_names_its_rows(small: SimpleNamespace) -> None:
    desk = Desk([small])
    exhibit = desk.exhibit("")
    seen: list[tuple[int, int]] = []
    frame = desk.agreement(exhibit, ("shap", ""), ("lime", "")).work(lambda done, total: seen.append((done, total)))
    assert frame["row"].tolist() == desk.sample(exhibit).tolist()
    assert desk.agreement(exhibit, ("lime", ""), ("shap", "")).key == desk.agreement(exhibit, ("shap", ""), ("lime", "")).key
    assert all(0 <= done <= total for done, total in seen)


def test_an_archive_of_the_same_files_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name)
    first = zipped(tmp_path)
    (tmp_path / "a.txt").touch()
    assert zipped(tmp_path) == first
    with zipfile.ZipFile(BytesIO(first)) as archive:
        assert archive.namelist() == ["a.txt", "b.txt"]


def test_importing_the_dashboard_starts_nothing_and_its_command_is_light() -> None:
    code = (
        "import sys, threading\n"
        "import dashboard.cli\n"
        "assert not {'dash', 'torch', 'plotly', 'zoo.registry'} & set(sys.modules), 'the command is heavy'\n"
        "import dashboard.app, dashboard.serve\n"
        "assert threading.active_count() == 1, 'a thread was started'\n"
        "import dash._callback as c\n"
        "assert not c.GLOBAL_CALLBACK_LIST, 'a callback was registered at import'\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr


def test_a_report_is_told_the_favourable_outcome_and_names_what_failed(small: SimpleNamespace) -> None:
    import json

    desk = Desk([small])
    exhibit = desk.exhibit("")
    named, bare = (desk.report(exhibit, "finance", good) for good in ("refused", ""))
    assert named.key != bare.key
    written = named.work(_nothing)
    evidence = json.loads(written.files["json"])
    assert "refused" in evidence["sections"]["groups"]["selection"]
    assert [topic for topic, _ in written.failed] == [one["topic"] for one in evidence["outcomes"] if one["status"] == "fail"]
    assert [topic for topic, _ in written.not_assessed] == [one["topic"] for one in evidence["not_assessed"]]


def test_a_report_counts_units_where_the_data_have_them(small: SimpleNamespace) -> None:
    import json

    test = small.data.test
    units = pd.Series(np.arange(len(test.inputs)) // 3, name="person")
    patients = SimpleNamespace(**{**vars(small), "data": SimpleNamespace(test=SimpleNamespace(**{**vars(test), "units": units}))})
    desk = Desk([patients])
    written = desk.report(desk.exhibit(""), "general").work(_nothing)
    found = json.loads(written.files["json"])["sections"]["performance"]
    assert found["units"]["name"] == "person" and found["units"]["count"] == units.nunique()


def test_a_column_is_followed_over_the_test_set(small: SimpleNamespace) -> None:
    desk = Desk([small])
    exhibit = desk.exhibit("")
    found = desk.dependence(exhibit, "income", "ice").work(_nothing)
    rows = small.data.test.inputs.copy()
    rows["income"] = found.grid[0][3]
    mean = small.model.scores(rows)[:, 1].mean()
    assert found.rows == len(rows) and np.ravel(found.values)[3] == pytest.approx(mean)
    assert desk.dependence(exhibit, "income", "ale").key != desk.dependence(exhibit, "income", "ice").key
