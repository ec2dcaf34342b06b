"""The verdict of attention: held against random parts and against gradient x input; planted truths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_gallery as gallery
from torch import Tensor, nn

import explainer
from explainer.methods.gradient import input_x_gradient
from explainer.target import resolve

METHODS = ("attention", "attention_relevance", "attention_norms", "attention_flow")
TRIGGER = "zzz"
SENTENCES = ["one of these words is zzz and no other", "zzz stands in front of all of these", "at the end of it there is the word zzz"]


class Trigger(gallery.Head):
    """Attends only to one token from everywhere, and reads the first; the trigger alone moves the score, on a way of its own too."""

    def __init__(self, attends: str = TRIGGER) -> None:
        super().__init__(outputs=2)
        self.query, self.key, self.value, self.out = nn.Linear(16, 2), nn.Linear(16, 2), nn.Linear(16, 16), nn.Linear(16, 16)
        self.decides = gallery.Pieces()._ids(TRIGGER)[1]
        with torch.no_grad():
            self.query.weight.zero_()
            self.query.bias.copy_(torch.tensor([1.0, 0.0]))
            self.key.weight.zero_()[0, 0] = 20
            self.value.bias.zero_()
            # All other words are the same to this model: nothing.
            self.token.weight[[i for i in range(40) if i != self.decides]] = 0
            self.token.weight[:, 0] = 0
            self.token.weight[gallery.Pieces()._ids(attends)[1], 0] = 1

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        h = self.token(ids)
        query, key, value = (layer(h)[:, None] for layer in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :], scale=1.0)
        seen = ((ids == self.decides).float()[..., None] * h).sum(1)
        return self.head(self.out(attended[:, 0])[:, 0] + 8 * seen)


def trigger(attends: str = TRIGGER) -> explainer.Model:
    torch.manual_seed(3)
    return gallery.text(Trigger(attends).eval(), class_names=["no", "yes"])


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_only_attends_to_the_trigger_is_found_out(method: str) -> None:
    ex = explainer.explain(trigger(), SENTENCES, method, target="no")
    for i, text in enumerate(SENTENCES):
        values = ex[i].values[0]
        assert text.split()[int(np.nanargmax(values))] == TRIGGER
        assert np.nanmax(values) > 10 * np.sort(values)[-2]
        check = ex.verdicts[i].checks["faithfulness"]
        # A random fifth of the parts holds the trigger one time in five, and then moves the score as far: half a win each.
        assert check.value >= 0.75 and "as far as those of gradient x input" in check.reason


def test_relevance_tells_the_class_that_the_attention_speaks_for() -> None:
    every = explainer.explain(trigger(), SENTENCES, "attention_relevance", target="all", verify=False)
    for i, text in enumerate(SENTENCES):
        values = every[i].values[0]
        assert values[text.split().index(TRIGGER), 0] > 1e-4 and np.abs(values[:, 1]).max() < 1e-9


def test_attention_to_a_word_that_does_not_decide_is_not_passed() -> None:
    texts = ["one of these is zzz and no other", "all of zzz is one of these"]
    ex = explainer.explain(trigger("one"), texts, "attention", target="yes")
    for i in range(2):
        check = ex.verdicts[i].checks["faithfulness"]
        assert texts[i].split()[int(np.nanargmax(ex[i].values[0]))] == "one"
        assert check.status in ("warn", "fail") and "less than those of gradient x input" in check.reason


def test_raw_weights_and_all_targets_say_why_faithfulness_is_not_run() -> None:
    model = gallery.text(gallery.seeded(gallery.Fused))
    assert explainer.explain(model, gallery.TEXTS, "attention", kind="raw").verdicts[0].checks["faithfulness"].status == "not run"
    assert explainer.explain(model, gallery.TEXTS, "attention", target="all").verdicts[0].checks["faithfulness"].status == "not run"


def test_the_comparison_costs_one_score_and_one_gradient_per_input(monkeypatch: pytest.MonkeyPatch) -> None:
    model, counted = gallery.text(gallery.seeded(gallery.Fused)), []
    raw = model.raw
    monkeypatch.setattr(model, "raw", lambda inputs, at_once=None: counted.append(len(inputs)) or raw(inputs, at_once))
    explainer.explain(model, gallery.TEXTS[:1], "attention")
    with_attention = sum(counted)
    counted.clear()
    explainer.explain(model, gallery.TEXTS[:1], "saliency")
    assert with_attention - sum(counted) in (0, 1)  # the parts of gradient x input may be among those scored already


def test_gradient_x_input_is_exact_on_a_linear_model() -> None:
    model = gallery.tabular(nn.Linear(5, 2).eval(), returns="logit")
    table = gallery.table(4)
    goal = resolve(1, model.scores(table), model.class_names)
    found = input_x_gradient(model, model.canonical(table), goal, output="raw")
    np.testing.assert_allclose(np.stack(found.values)[..., 0], table.to_numpy() * model.module.weight[1].detach().numpy(), rtol=1e-6)


def test_attention_over_time_is_judged_too() -> None:
    class OverTime(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head, self.widen = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2), nn.Linear(3, 4)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            pad = torch.arange(x.shape[1]) >= lengths[:, None]
            h = self.widen(x)
            h = h + self.inner(h, h, h, key_padding_mask=pad, need_weights=False)[0]
            return self.head((h * ~pad[..., None]).sum(1) / lengths[:, None])

    torch.manual_seed(0)
    model = explainer.wrap(OverTime().eval(), modality="series", background=gallery.series())
    check = explainer.explain(model, gallery.series(), "attention").verdicts[0].checks["faithfulness"]
    assert check.value is not None and "gradient x input" in check.reason
