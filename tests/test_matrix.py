"""The matrix of methods, models and tools: ours has no wrong cell, known errors of the peers show, and its judges can say no."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
MINE = ("attentions", "enumerated", "noise", "cases", "truths", "contenders", "judges", "matrixpage", "matrix", "results", "timing")
pytestmark = [pytest.mark.usefixtures("beside"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def beside() -> Iterator[None]:
    """The scripts look for their own modules beside themselves."""
    sys.path.insert(0, str(FOLDER))
    before = {name: sys.modules.pop(name) for name in MINE if name in sys.modules}
    yield
    sys.path.remove(str(FOLDER))
    for name in MINE:
        sys.modules.pop(name, None)
    sys.modules.update(before)


@cache
def judged(name: str) -> tuple[Any, Any]:
    from cases import Case
    from judges import Judge

    case = Case(name)
    return case, Judge(case)


def outcome(tool: str, method: str, model: str, call: Any) -> Any:
    from judges import cell

    return cell(tool, method, *judged(model), call)


@cache
def quick() -> dict[tuple[str, str, str], str]:
    import matrix

    called = matrix.tools()
    return {(c.tool, c.method, c.model): c.outcome for c in matrix.run(list(matrix.QUICK), list(called["ours"]), called, progress=False)}


def test_ours_has_no_wrong_cell_and_answers() -> None:
    ours = [found for (tool, _, _), found in quick().items() if tool == "ours"]
    assert not {"wrong", "error", "flagged", "not judged"} & set(ours)
    assert ours.count("right") >= 50 and ours.count("refused") <= 16


@pytest.mark.parametrize(
    ("tool", "method", "model", "expected"),
    [
        ("captum", "deeplift", "functional relu", "wrong"),
        ("captum", "deeplift_shap", "functional relu", "wrong"),
        ("captum", "guided_backprop", "functional relu", "wrong"),
        ("captum", "deeplift", "layer norm and gelu", "wrong"),
        ("captum", "lrp", "layer norm and gelu", "refused"),
        ("captum", "deeplift", "lstm", "wrong"),
        ("captum", "saliency", "gradient reversal", "wrong"),
        ("shap", "deeplift_shap", "functional relu", "flagged"),
        ("shap", "deeplift_shap", "lstm", "flagged"),
        ("captum", "saliency", "lstm", "right"),
        ("captum", "integrated_gradients", "layer norm and gelu", "right"),
        ("captum", "shap", "functional relu", "right"),
        ("shap", "shap", "lstm", "right"),
    ],
)
def test_what_is_known_of_the_peers_shows(tool: str, method: str, model: str, expected: str) -> None:
    assert quick()[tool, method, model] == expected


# -- the judges ------------------------------------------------------------------------------------------------------------

# Every method on a model for which its judge looks at more than a sum.
ON = dict.fromkeys(
    ("saliency", "input_x_gradient", "integrated_gradients", "smoothgrad", "vargrad", "expected_gradients", "deeplift", "deeplift_shap",
     "guided_backprop", "lrp", "layer_conductance", "internal_influence", "shap", "owen",
     "shap_interactions", "rise", "ablation"), "functional relu",
) | dict.fromkeys(
    ("grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam", "eigen_cam", "occlusion"), "residual, dense and depthwise"
) | dict.fromkeys(
    ("attention", "attention_rollout", "attention_flow"), "fused attention, padding mask"
) | dict.fromkeys(("attention_relevance", "attention_norms"), "BERT")  # fmt: skip


def scaled(answer: Any, factor: float) -> Any:
    """The same answer, every number of it ``factor`` times as large."""
    ex = answer.more["explanation"]
    maps = {"map": tuple(factor * one for one in ex.extras["map"])} if "map" in ex.extras else {}
    more = {"explanation": dataclasses.replace(ex, values=factor * ex.values, extras={**ex.extras, **maps})}
    draws = [(factor * values, factor * total) for values, total in answer.draws]
    return dataclasses.replace(answer, values=factor * answer.values, total=factor * answer.total, draws=draws, more=more)


def test_every_method_is_judged_here() -> None:
    import matrix

    assert set(ON) == set(matrix.tools()["ours"])


@pytest.mark.parametrize("method", ON)
def test_a_tenth_too_much_is_wrong(method: str) -> None:
    import matrix

    call, model = matrix.tools()["ours"][method], ON[method]
    assert outcome("ours", method, model, call).outcome == "right"
    wrong = outcome("ours", method, model, lambda case: scaled(call(case), 1.1))
    assert wrong.outcome == "wrong" and 0.05 < wrong.far < 0.2, wrong


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "deeplift", "lrp", "shap", "ablation"])
def test_values_of_two_parts_exchanged_are_wrong(method: str) -> None:
    """The sum is right, and each value belongs to another part."""
    import matrix

    def exchanged(case: Any) -> Any:
        answer = matrix.tools()["ours"][method](case)
        order = [1, 0, *range(2, len(answer.values))]
        return dataclasses.replace(answer, values=answer.values[order], draws=[(v[order], t) for v, t in answer.draws], more={})

    assert outcome("ours", method, "functional relu", exchanged).outcome == "wrong"


def test_a_word_of_the_tools_own_makes_a_wrong_answer_flagged_and_an_error_is_told_from_a_refusal() -> None:
    from contenders import OURS

    def warned(case: Any) -> Any:
        return dataclasses.replace(scaled(OURS["saliency"](case), 1.1), said="these values do not add up")

    def crashes(case: Any) -> Any:
        raise AttributeError("'dict' object has no attribute 'shape'")

    assert outcome("ours", "saliency", "functional relu", warned).outcome == "flagged"
    for tool in ("ours", "captum", "shap"):
        assert outcome(tool, "saliency", "functional relu", crashes).outcome == "error"
    assert outcome("ours", "saliency", "gradient reversal", OURS["saliency"]).outcome == "refused"


def test_all_truths_of_a_linear_model_are_weight_times_input() -> None:
    import enumerated
    import numpy as np
    import truths

    case, _ = judged("linear")
    game = case.game(), case.count
    weight = case.exact.module.weight.detach().numpy()[case.column]
    wanted = weight * case.inputs[0].numpy()[0]
    assert np.allclose(truths.slopes(case), weight, atol=1e-6)
    for found in (
        truths.slopes(case, times_input=True), truths.paths(case, case.baseline), truths.rescale(case, case.baseline),
        truths.relevance(case), enumerated.shapley(*game), enumerated.left_out(*game), enumerated.owen(*game, [[0, 1]]),
        2 * enumerated.shown(*game), np.diag(enumerated.interactions(*game)),
    ):  # fmt: skip
        assert np.allclose(found, wanted, atol=1e-6)
    assert np.isclose(truths.difference(case, case.baseline), wanted.sum())


@pytest.mark.parametrize("model", ["functional relu", "layer norm and gelu", "lstm", "two inputs"])
def test_captums_own_delta_is_the_gap_that_is_found(model: str) -> None:
    import truths
    from captum.attr import DeepLiftShap

    case, _ = judged(model)
    given, starts = (one if len(one) > 1 else one[0] for one in (case.inputs, case.references))
    values, delta = DeepLiftShap(case.face()).attribute(given, starts, target=case.column, return_convergence_delta=True)
    total = sum(float(v.sum()) for v in (values if isinstance(values, tuple) else (values,)))
    gap = total - truths.difference(case, case.references)
    assert gap == pytest.approx(float(delta.mean()), rel=0.01) and abs(gap) > 1e-3


# -- the command -----------------------------------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    import matrix

    app = typer.Typer()
    app.command()(matrix.main)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_prints_writes_and_exits_with_1_where_ours_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import contenders
    import matrix

    only = ["--model", "functional relu", "--method", "saliency", "--method", "guided_backprop", "--out", str(tmp_path / "page.md")]
    result = run(*only)
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert result.exit_code == 0 and "ours: 2 right" in result.output
    assert "| captum | 1 | 0 | 0 | 1 | 0 | 0 |" in page and "**guided_backprop** (1): functional relu 92%" in page
    assert "Silently wrong: ours\n\nNone." in page and "| functional relu | + | X |" in page
    right = contenders.OURS["saliency"]
    monkeypatch.setitem(contenders.OURS, "saliency", lambda case: scaled(right(case), 1.1))
    result = run(*only, "--json")
    assert result.exit_code == 1
    cells = json.loads(result.stdout)
    assert {(c["tool"], c["method"]): c["outcome"] for c in cells}["ours", "saliency"] == "wrong"
    assert run("--method", "salience").exit_code == 2 and "functional relu" in matrix.QUICK
