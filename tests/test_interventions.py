"""The commands lens, patch, ablate and visualise, and explain --neuron: what the library says, and one message for each misuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import explainer
from explainer import cli, sources
from explainer.errors import InvalidInput
from explainer.inspection.views import VIEWS, views

WORDS = "zoo:licence-transformer"
DIGITS = "zoo:digits-cnn"
Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *words: CliRunner().invoke(cli.app, list(words))


def facts_of(result: Any) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def rows_of(word: str) -> tuple[explainer.Model, Any]:
    model = sources.resolve_model(word.partition("#")[0])
    return model, sources.resolve_input(word, model)[0]


def test_the_lens_is_that_of_the_library(run: Run, tmp_path: Path) -> None:
    facts = facts_of(run("lens", WORDS, f"{WORDS}#3,7", "--json", "--out", str(tmp_path)))
    expected = explainer.logit_lens(*rows_of(f"{WORDS}#3,7"))
    assert [one["row"] for one in facts["instances"]] == [3, 7] and facts["capability"]["level"] == "exact"
    for i, one in enumerate(facts["instances"]):
        assert [layer["layer"] for layer in one["layers"]] == list(expected.layers)
        np.testing.assert_allclose([list(layer["scores"].values()) for layer in one["layers"]], expected.scores[i], atol=1e-6)
    assert (tmp_path / "lens.json").is_file() and (tmp_path / "plot.html").read_text().count("Logit lens") >= 2
    told = run("lens", WORDS, f"{WORDS}#3").stdout
    assert "never trained to be read" in told and told.index("exact") < told.index("would say")


def test_patching_is_that_of_the_library(run: Run) -> None:
    model, given = rows_of(f"{WORDS}#0-40")
    lengths = [len(model.encode([text]).tensors[0][0]) for text in given]  # type: ignore[attr-defined]
    first, second = next((i, j) for i in range(41) for j in range(i + 1, 41) if lengths[i] == lengths[j])
    words = ("patch", WORDS, f"{WORDS}#{first}", f"{WORDS}#{second}")
    facts = facts_of(run(*words, "--json"))
    expected = explainer.patch(model, [given[first]], [given[second]])
    assert facts["clean"] == pytest.approx(expected.clean) and facts["target"] == expected.target
    assert [one["restored"] for one in facts["restored"]] == pytest.approx(expected.to_frame()["restored"].tolist(), abs=1e-5)
    assert "share there" in run(*words).stdout


def test_ablation_is_that_of_the_library(run: Run, tmp_path: Path) -> None:
    words = ("ablate", DIGITS, f"{DIGITS}#0-9", "--layer", "features.3")
    facts = facts_of(run(*words, "--unit", "2", "--unit", "5", "--kind", "mean", "--json", "--out", str(tmp_path)))
    expected = explainer.ablate(*rows_of(f"{DIGITS}#0-9"), "features.3", [2, 5], kind="mean")
    assert [one["part"] for one in facts["parts"]] == expected.to_frame()["part"].tolist() and facts["rows"] == 10
    np.testing.assert_allclose(list(facts["parts"][0]["changes"].values()), expected.values[expected.order[0]], atol=1e-6)
    assert (tmp_path / "ablate.json").is_file()
    assert "and 30 smaller ones" in run(*words, "--top", "2").stdout


def test_an_image_for_a_unit_and_what_makes_it_fire(run: Run, tmp_path: Path) -> None:
    facts = facts_of(run("visualise", DIGITS, "--layer", "features.3", "--unit", "4", "--steps", "3", "--out", str(tmp_path), "--json"))
    assert facts["unit"].startswith("features.3[4]") and (tmp_path / "visualise.json").is_file()
    words = ("explain", DIGITS, f"{DIGITS}#3", "--method", "saliency", "--verify", "off", "--json")
    found, plain = facts_of(run(*words, "--neuron", "features.3[4]")), facts_of(run(*words))
    model, given = rows_of(f"{DIGITS}#3")
    score = float(explainer.neuron(model, "features.3", 4).scores(given)[0, 0])
    assert found["instances"][0]["score"] == pytest.approx(score, rel=1e-5) != plain["instances"][0]["score"]


class _Beside(nn.Module):
    """Each score shifted by the mean of its batch: no function of the row alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x).relu()
        return self.last(hidden - 3 * hidden.mean(0))


def test_no_change_of_a_score_is_followed_where_the_score_depends_on_the_batch() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    found = views(explainer.wrap(_Beside(), modality="tabular", feature_names=["a", "b", "c"], background=rows))
    assert {name for name, one in found.items() if one.level == "unsupported"} == {
        "concepts",
        "heads",
        "lens",
        "patch",
        "ablate",
        "visualise",
    }
    assert "batch" in found["patch"].reason and found["activations"].level == found["neuron"].level == "exact"


def test_every_view_is_told_before_it_runs(run: Run) -> None:
    for words in (
        ("activations", DIGITS, f"{DIGITS}#0-20"),
        ("heads", WORDS, f"{WORDS}#0-3"),
        ("probe", DIGITS, DIGITS, "--layer", "head.4"),
    ):
        level = views(sources.resolve_model(words[1]), [words[0]])[words[0]].level
        assert run(*words).stdout.split()[1] == level == facts_of(run(*words, "--json"))["capability"]["level"]
    told = run("explain", DIGITS, f"{DIGITS}#0", "--method", "saliency", "--neuron", "features.3[4]", "--verify", "off").stdout
    assert "The activation is read as it is" in told


def test_what_can_be_looked_at_is_said_before(run: Run) -> None:
    words, digits, loans = (views(sources.resolve_model(word)) for word in (WORDS, DIGITS, "zoo:loan-mlp"))
    assert set(words) == set(digits) == set(VIEWS)
    assert words["heads"].level == "exact" and digits["heads"].level == "unsupported" and "attention" in digits["heads"].reason
    assert words["lens"].level == "exact" and loans["lens"].level == "unsupported" and "stack" in loans["lens"].reason
    assert digits["visualise"].level == "approximate" and words["visualise"].level == "unsupported"
    outside = explainer.wrap(
        lambda x: np.tile([0.5, 0.5], (len(x), 1)), modality="tabular", feature_names=["a"], background=np.zeros((3, 1))
    )
    assert {one.level for one in views(outside).values()} == {"unsupported"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lens", "zoo:loan-mlp", "zoo:loan-mlp#0"), "Logit lens is not valid on"),
        (("patch", "zoo:loan-mlp", "zoo:loan-mlp#0", "zoo:loan-mlp#0"), "score the same"),
        (("patch", "zoo:loan-mlp", "zoo:loan-mlp#0-1", "zoo:loan-mlp#0"), "one clean and one corrupt"),
        (("ablate", DIGITS, f"{DIGITS}#0", "--layer", "features.3", "--unit", "99"), "units 0 to 31"),
        (("ablate", DIGITS, f"{DIGITS}#0", "--layer", "feature.3"), "Did you mean 'features.3'"),
        (("ablate", DIGITS, f"{DIGITS}#0", "--layer", "features.3", "--kind", "zeros"), "Did you mean 'zero'"),
        (("visualise", WORDS, "--layer", "blocks.0", "--unit", "1", "--out", "x"), "models of pictures"),
        (("explain", DIGITS, f"{DIGITS}#0", "--neuron", "features.3"), "LAYER[UNIT]"),
    ],
)
def test_misuse_is_one_sentence(words: tuple[str, ...], message: str, run: Run) -> None:
    result = run(*words)
    assert result.exit_code == 2 and message in " ".join(result.stderr.split()), result.stderr


def test_the_words_of_a_unit() -> None:
    from explainer.interventions import unit_of

    assert unit_of("a.0.b#1[12]") == ("a.0.b#1", 12)
    for wrong in ("a", "[3]", "a[x]", "a[3"):
        with pytest.raises(InvalidInput, match="LAYER"):
            unit_of(wrong)
