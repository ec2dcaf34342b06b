"""The page of the matrix: counts, what the peers get wrong without a word, what ours refuses and why, and every cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from judges import SYMBOLS, Cell
from results import circumstances

OUTCOMES = tuple(outcome for outcome in SYMBOLS if outcome != "none")
CALLED = {
    "saliency": "Saliency", "input_x_gradient": "InputXGradient", "integrated_gradients": "IntegratedGradients",
    "smoothgrad": "NoiseTunnel(Saliency)", "expected_gradients": "GradientShap; GradientExplainer", "deeplift": "DeepLift",
    "deeplift_shap": "DeepLiftShap; DeepExplainer", "guided_backprop": "GuidedBackprop", "lrp": "LRP",
    "layer_conductance": "LayerConductance", "grad_cam": "LayerGradCam", "shap": "KernelShap; KernelExplainer",
    "ablation": "FeatureAblation", "occlusion": "Occlusion",
}  # fmt: skip
JUDGED = {
    "saliency, smoothgrad": "central differences of the score along each part, to 0.1 % (1 % smoothed, with noise of a millionth)",
    "vargrad": "the variance of float64 gradients at the same noisy copies, one after the other, to 0.1 %",
    "input_x_gradient": "central differences along the part of the input, to 0.1 %",
    "integrated_gradients": "the sum against the difference of scores, and per part an integral of central differences, both to 5 %; "
    "the parts only where two quadratures of ours agree",
    "expected_gradients": "the same over three references, six seeds of 200 gradients each, to 5 % and four standard errors",
    "deeplift, deeplift_shap": "the sum against the difference of scores, to 2 %, and on plain networks of linear and elementwise layers "
    "the rescale rule by hand, to 0.1 %",
    "guided_backprop": "the formula at every ReLU, however it is called, to 0.1 %; without a ReLU central differences",
    "lrp": "input times the gradient in which an activation's slope is f(z)/z (Ancona et al. 2018), to 1 %",
    "layer_conductance": "the sum at the input of the last linear layer against the difference of scores, to 5 %, where all of the score "
    "goes through it",
    "internal_influence": "the score's gradient at the input of the last linear layer, averaged node by node along the way, to 0.1 %",
    "score_cam": "the score of the picture seen through each map of the layer, by the paper without its softmax, to 0.1 %",
    "grad_cam, grad_cam_plus_plus, layer_cam, eigen_cam": "the paper's formula at the layer that the tool names, to 0.1 %",
    "attention": "the weights that transformers gives in eager mode, or attention by hand, to 0.1 %; else rows that sum to one",
    "attention_rollout": "Abnar & Zuidema's product entry by entry from those weights, to 0.1 %",
    "attention_norms": "Kobayashi et al.'s norms entry by entry from transformers' layers, rolled out, to 0.1 %",
    "attention_flow": "the largest flow by linear programming over those weights, to 0.1 %",
    "attention_relevance": "Chefer et al.'s recursion on eager weights and their gradients, to 0.1 %",
    "shap": "Shapley values by enumeration of the same game (at most 9 parts), to 5 % and four standard errors of six seeds of 200 samples",
    "owen, shap_interactions": "the sums over all coalitions of the same game, to 0.1 %; Owen values in groups of two",
    "rise": "the mean score with a part less the mean score, over all coalitions, to 5 % and four standard errors of six seeds of 4000 "
    "samples; not on pictures, whose masks are soft",
    "ablation, occlusion": "the score with the part put to the same absence, to 0.1 %",
}
MEANING = {
    "right": "what the method's judge says it must be",
    "flagged": "not that, and the tool itself says so: a failed check of its verdict, a warning, an assertion on its own result",
    "refused": "no answer, but an error that the tool (or the model) raises itself, with the reason",
    "wrong": "not what it must be, and not a word",
    "error": "no answer, but a crash from somewhere inside",
    "not judged": "what is right cannot be said without the tools",
}
HEAD = """# Every method on every kind of model

Written by `python benchmarks/matrix.py`, which asks this toolkit, captum and shap the same questions about the models of the test
gallery (small, seeded, nothing downloaded) and holds every answer against one judge per method that uses none of the three.

A model is explained at its first input, on its own output, for its highest class. Judges look at a float64 copy in eval mode; errors
are shares of the largest right value. Where the model's own arithmetic is coarser they allow 10 % (bfloat16, 8-bit weights), and of
interactions, which are differences of differences, 20 %.

For captum and shap everything was written that their documentation asks of a user: a module that takes the scores out of dicts,
tuples and dataclasses and feeds further arguments; on texts the embeddings as input (`inputs_embeds`, or as
`configure_interpretable_embedding_layer` does); feature masks; three references; 200 steps and 200 samples in place of the defaults.
The model itself is handed over to all three as it is, in the mode it is in: finding out is what is asked. Captum's convergence delta
comes only where a caller asks for it, so it does not count as a word; a test asks for DeepLIFT's on some models, and it is the gap found
here.
"""


def page(found: Sequence[Cell]) -> str:
    """The whole page in Markdown."""
    told = [c for c in found if c.outcome != "none"]
    tools = list(dict.fromkeys(c.tool for c in told))
    models = len({c.model for c in told})
    parts = [
        HEAD, circumstances(), "", f"## Counts\n\n{models} models, {len(told)} cells.\n",
        table(("tool", *OUTCOMES), [(tool, *counts(c for c in told if c.tool == tool)) for tool in tools]), "",
        *[f"- **{outcome}**: {text}." for outcome, text in MEANING.items()], "",
        "## By method\n\nRight / flagged / refused / wrong / error of those judged.\n", _by(told, tools, "method"), "",
        "## By kind of model\n", _by(told, tools, "kind"), "",
        "## How each method is judged\n", table(("method", "held against"), list(JUDGED.items())), "",
    ]  # fmt: skip
    for tool in tools:
        wrong = [c for c in told if c.tool == tool and c.outcome == "wrong"]
        parts += [f"## Silently wrong: {tool}\n", *(_silent(wrong) if wrong else ["None."]), ""]
        if wrong:
            most = Counter(c.model for c in wrong).most_common(5)
            parts += ["Most of them on: " + ", ".join(f"{name} ({count})" for name, count in most) + ".", ""]
    parts += ["## What ours refuses, and why\n", *_refusals([c for c in told if c.tool == "ours" and c.outcome == "refused"]), ""]
    flags = [c for c in told if c.tool == "ours" and c.outcome == "flagged"]
    parts += ["## What ours flags\n", *[f"- {c.method}, {c.model}: {c.detail.split(': ', 1)[-1]}" for c in flags], ""]
    parts += [*_whole(found, tools)]
    return "\n".join(parts).rstrip() + "\n"


def counts(cells: Iterable[Cell]) -> tuple[str, ...]:
    tally = Counter(c.outcome for c in cells)
    return tuple(str(tally[outcome]) for outcome in OUTCOMES)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows))


def _by(cells: list[Cell], tools: list[str], what: str) -> str:
    rows = []
    for name in dict.fromkeys(getattr(c, what) for c in cells):
        tallies = [counts(c for c in cells if c.tool == tool and getattr(c, what) == name) for tool in tools]
        shown = [" / ".join(tally[:5]) if any(int(n) for n in tally) else "" for tally in tallies]
        rows.append((name, *([CALLED.get(name, "")] if what == "method" else []), *shown))
    heads = (what, *(["captum; shap"] if what == "method" else []), *tools)
    return table(heads, rows)


def _silent(wrong: list[Cell]) -> list[str]:
    """One line a method: models, and how far off."""
    lines = []
    for method in dict.fromkeys(c.method for c in wrong):
        own = sorted((c for c in wrong if c.method == method), key=lambda c: -(c.far or 0))
        lines.append(f"- **{method}** ({len(own)}): " + ", ".join(f"{c.model} {_share(c.far)}" for c in own) + ".")
    return lines


def _share(far: float | None) -> str:
    return "" if far is None else f"{far:.0%}" if far < 10 else f"{far:.0f} times"


def _refusals(refused: list[Cell]) -> list[str]:
    """One row a reason: what stands for numbers and names in it is left open."""
    groups: dict[str, list[Cell]] = {}
    for c in refused:
        plain = re.sub(r"\d[\d.e-]*|'[^']*'|\([^)]*\)|\b[A-Z]\w*\b,?", "", _reason(c))
        groups.setdefault(" ".join(plain.split())[:60], []).append(c)
    rows = []
    for own in sorted(groups.values(), key=len, reverse=True):
        models, methods = (list(dict.fromkeys(getattr(c, what) for c in own)) for what in ("model", "method"))
        rows.append((str(len(own)), _reason(own[0]), _few(models), _few(methods)))
    return [table(("cells", "reason (the first of its kind)", "models", "methods"), rows)]


def _reason(c: Cell) -> str:
    text = c.detail.split(": ", 1)[1] if " is not valid on " in c.detail else c.detail
    return text.replace("|", "/")


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _whole(found: Sequence[Cell], tools: list[str]) -> list[str]:
    """Every cell, folded away."""
    legend = ", ".join(f"`{SYMBOLS[outcome]}` {outcome}" for outcome in OUTCOMES)
    lines = ["<details><summary>Every cell</summary>\n", legend + "; nothing: the method is not for such a model.\n"]
    for tool in tools:
        own = [c for c in found if c.tool == tool]
        methods = list(dict.fromkeys(c.method for c in own))
        symbols = {(c.model, c.method): SYMBOLS[c.outcome] for c in own}
        rows = [(name, *(symbols.get((name, m), " ") for m in methods)) for name in dict.fromkeys(c.model for c in own)]
        lines += [f"### {tool}\n", table(("model", *methods), rows), ""]
    return [*lines, "</details>"]
