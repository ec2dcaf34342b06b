"""The commands activations, heads, probe and concepts: what they print and save, and one clean message for each misuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import explainer
from explainer import cli, sources
from explainer.inspection.activations import Activations
from explainer.inspection.heads import HeadImportance, head_importance
from explainer.listing import brief

MODELS = """
import numpy as np
import torch
import explainer

def net():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2)).eval()
    with torch.no_grad():
        module[0].weight[2] = 0.0
        module[0].bias[2] = -1.0
    background = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    return explainer.wrap(module, modality="tabular", feature_names=["a", "b", "c"], class_names=["no", "yes"], background=background)

def outside():
    return explainer.wrap(lambda x: np.tile([0.5, 0.5], (len(x), 1)), modality="tabular", feature_names=["a", "b", "c"],
                          class_names=["no", "yes"], background=np.zeros((3, 3)))
"""
Run = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small network, rows with labels, rows high in one column, and us in it."""
    (tmp_path / "models.py").write_text(MODELS)
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 3)).round(5)
    labels = np.where(rows[:, 0] > 0, "high", "low")
    lines = ["a,b,c,side", *(",".join([*map(str, row), label]) for row, label in zip(rows, labels, strict=True))]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    for name, shift in (("plain", 0.0), ("large", 3.0)):
        made = rng.normal(size=(12, 3)) + [shift, 0, 0]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,c", *(",".join(map(str, row)) for row in made)]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


@pytest.fixture
def run() -> Run:
    return lambda *words: CliRunner().invoke(cli.app, list(words))


def facts_of(result: Any) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_activations_are_those_of_the_library_and_rows_keep_their_numbers(place: Path, run: Run) -> None:
    words = ("activations", "models.py:net", "rows.csv#10-39", "--layer", "1", "--top", "3")
    facts = facts_of(run(*words, "--json", "--out", "saved"))
    model = sources.resolve_model("models.py:net")
    expected = explainer.activations(model, sources.resolve_labelled("rows.csv#10-39", None, model)[0], ["1"], top=3)
    assert facts["layers"][0]["dead"] == 1 == len(expected["1"].dead)
    units = facts["units"]["1"]
    assert [one["unit"] for one in units] == list(range(6)) and units[2]["dead"]
    assert [at["row"] for at in units[0]["top"]] == [10 + k for k in expected["1"].top[0]]
    assert Activations.load("saved/activations.json")["1"].mean == pytest.approx(expected["1"].mean)
    assert "Activations by layer" in Path("saved/plot.html").read_text()
    told = run(*words, "--unit", "2").stdout
    assert "Units of 1" in told and "dead" in told and told.count("\n   0 ") == 0


def test_labels_are_read_off_layers(place: Path, run: Run) -> None:
    facts = facts_of(run("probe", "models.py:net", "rows.csv", "--labels", "side", "--json"))
    assert facts["metric"] == "accuracy" and [one["layer"] for one in facts["layers"]] == ["0", "1", "2"]
    assert facts["layers"][0]["found"]
    assert "always the commonest" in run("probe", "models.py:net", "rows.csv", "--labels", "side").stdout


def test_a_concept_shown_by_examples(place: Path, run: Run) -> None:
    words = ("concepts", "models.py:net", "plain.csv", "--concept", "large=large.csv", "--random", "plain.csv", "--target", "yes")
    found = facts_of(run(*words, "--runs", "4", "--json"))
    assert found["target"] == "yes" and [(one["layer"], one["concept"]) for one in found["concepts"]] == [("1", "large")]
    assert "large" in run(*words, "--runs", "4").stdout


def test_heads_of_a_transformer(run: Run, tmp_path: Path) -> None:
    words = ("heads", "zoo:licence-transformer", "zoo:licence-transformer#3-6", "--kind", "gradient")
    facts = facts_of(run(*words, "--json", "--out", str(tmp_path / "heads")))
    model = sources.resolve_model("zoo:licence-transformer")
    inputs, _, rows = sources.resolve_labelled("zoo:licence-transformer#3-6", None, model)
    expected = head_importance(model, inputs, kind="gradient").to_frame()
    assert rows == [3, 4, 5, 6] and facts["rows"] == 4
    assert [(h["layer"], h["head"]) for h in facts["heads"]] == list(zip(expected["layer"], expected["head"], strict=True))
    assert [h["importance"] for h in facts["heads"]] == pytest.approx(expected["importance"].tolist())
    assert HeadImportance.load(tmp_path / "heads" / "heads.json").kind == "gradient"
    assert "and 5 smaller ones" in run(*words, "--top", "3").stdout


def test_every_method_says_at_which_layers_it_can_be_taken(place: Path, run: Run) -> None:
    found = {m["name"]: m for m in facts_of(run("methods", "models.py:net", "--json"))}
    assert found["layer_conductance"]["layers"] == ["0", "1", "2"] == found["saliency"]["layers"]
    assert found["shap"]["layers"] is None and found["grad_cam"]["layers"] is None
    told = run("methods", "models.py:net").stdout
    assert "--set layer=NAME, one of auto, 0, 1, 2" in told and "Class activation maps" in told
    taken = facts_of(run("explain", "models.py:net", "rows.csv#3", "--method", "layer_conductance", "--set", "layer=0", "--json"))
    with pytest.raises(explainer.errors.UnknownName, match="Did you mean '0'"):
        explainer.explain(sources.resolve_model("models.py:net"), np.zeros((1, 3)), "saliency", layer=0)
    assert taken["parameters"]["layer"] == "0" and taken["instances"][0]["features_in_all"] == 6


def test_a_reason_is_cut_between_words_and_keeps_what_to_do() -> None:
    assert brief("Short. Use shap.") == "Short. Use shap."
    long = brief(f"No way: {'reason ' * 40}. Use shap or lime.")
    assert len(long) <= 108 and long.endswith("reason … Use shap or lime.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("activations", "models.py:outside", "rows.csv"), "A look inside needs the gradients or layers of a torch module"),
        (("activations", "models.py:net", "rows.csv", "--layer", "7"), "Unknown layer '7'"),
        (("activations", "models.py:net", "rows.csv", "--unit", "1"), "name that layer"),
        (("activations", "models.py:net", "rows.csv", "--layer", "1", "--unit", "6"), "units 0 to 5"),
        (("explain", "models.py:net", "rows.csv#0", "--method", "saliency", "--set", "layer=8"), "Unknown layer '8'"),
        (("heads", "models.py:net", "rows.csv"), "No attention"),
        (("heads", "zoo:licence-transformer", "zoo:licence-transformer#0", "--kind", "ablate"), "Did you mean 'ablation'"),
        (("probe", "models.py:net", "rows.csv"), "brings no labels"),
        (("concepts", "models.py:net", "rows.csv", "--concept", "large", "--random", "plain.csv"), "NAME=DATA"),
        (("importance", "zoo:loan-mlp", "zoo:loan-mlp#0-3", "--labels", "x", "--kind", "sage"), "brings labels of its own"),
    ],
)
def test_misuse_is_answered_in_one_message(place: Path, run: Run, words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.output
    said_before = result.stdout.startswith(("✓ exact", "~ approximate")) and result.stdout.count("\n") <= 2  # what the view is
    assert (result.stdout == "" or said_before) and message in " ".join(result.stderr.split())
