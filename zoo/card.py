"""The model card, written from the training record alone: every figure in it is one that was measured."""

from __future__ import annotations

import json
import re
from typing import Any

from explainer.metrics import FEW
from zoo import bars
from zoo.recipes import Recipe

TITLES = {
    "accuracy": "accuracy",
    "top5_accuracy": "top-5 accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss (lower is better)",
    "brier": "Brier score (lower is better)",
    "ece": "calibration error (lower is better)",
    "r2": "R2",
    "mae": "mean absolute error (lower is better)",
    "rmse": "root mean squared error (lower is better)",
    "elbo": "ELBO of the test split, nats a picture",
    "confidence": "mean confidence of digits-cnn in 1,000 pictures (of this model: the half of 2,000 that its discriminator keeps)",
}
# As the Hugging Face hub names what a model is for.
TASKS = {
    ("tabular", "classification"): "tabular-classification",
    ("tabular", "regression"): "tabular-regression",
    ("image", "classification"): "image-classification",
    ("image", "density"): "unconditional-image-generation",
    ("text", "classification"): "text-classification",
    ("series", "classification"): "tabular-classification",  # the nearest it has: a table of steps and channels
}
BESIDE = {"baseline": "the baseline's", "scratch": "the network from scratch's"}


def files(recipe: Recipe, record: dict[str, Any]) -> dict[str, bytes]:
    """Record and card as files; how the bars stand is entered in the record."""
    record["bars"] = bars.judged(recipe.bars, record)
    return {
        "record.json": json.dumps(record, indent=1, ensure_ascii=False).encode(),
        "card.md": markdown(recipe, record).encode(),
    }


def markdown(recipe: Recipe, record: dict[str, Any]) -> str:
    """The card of a trained specimen."""
    return "\n".join(
        [
            *head(recipe, record),
            f"# {recipe.name}",
            "",
            recipe.summary,
            "",
            f"**For:** {recipe.use}",
            "",
            "## How good it is",
            "",
            *figures(record),
            "",
            *groups(record),
            *merged(record),
            *masked(record),
            *unheard(record),
            *further(record),
            *transfer(record),
            *distillation(record),
            "## What it was trained on",
            "",
            *training(record),
            "",
            "## What it cannot do",
            "",
            *[f"- {limit}" for limit in recipe.limits],
            "",
            "## Make it again",
            "",
            f"`explainer train {recipe.name}` writes the weights and this card anew into `runs/{recipe.name}`; "
            "every figure above is in its `record.json`.",
            "",
        ]
    )


def head(recipe: Recipe, record: dict[str, Any]) -> list[str]:
    """The YAML head of a model card as the Hugging Face hub reads it."""
    value = record["metrics"][record["metric"]]["value"]
    lines = ["---", "license: apache-2.0", "library_name: explainer-toolkit", "language: en"]
    if recipe.modality != "series":
        lines.append(f"pipeline_tag: {TASKS[recipe.modality, recipe.task]}")
    return [
        *lines,
        "tags:",
        "- explainability",
        f"- {recipe.modality}",
        "model-index:",
        f"- name: {recipe.name}",
        "  results:",
        "  - task:",
        f"      type: {TASKS[recipe.modality, recipe.task]}",
        "    dataset:",
        f"      name: {json.dumps(record['source'], ensure_ascii=False)}",
        f"      type: {recipe.source.rpartition('.')[2]}",
        "    metrics:",
        f"    - type: {record['metric']}",
        f"      value: {value}",
        "---",
        "",
    ]


def groups(record: dict[str, Any]) -> list[str]:
    """The main figure of every group of the test split, where there are groups."""
    metric, found = record["metric"], record.get("groups")
    if not found:
        return []
    rows = [
        f"| {name} = {value} | {one['rows']:,} | {interval(one['metrics'][metric]) if 'metrics' in one else one['without']} |"
        for name, values in found.items()
        for value, one in values.items()
    ]
    return [f"Per group of the test split, {TITLES[metric]}:", "", "| group | rows | figure |", "| --- | --- | --- |", *rows, ""]


def figures(record: dict[str, Any]) -> list[str]:
    """The figures on test beside the baseline's, and what they come to."""
    return [
        "With 95 % bootstrap intervals:" if record["task"] == "density" else tested(record),
        "",
        *table(record["metrics"], record["baseline"]["metrics"], record["baseline"]["name"]),
        "",
        against(record["against_baseline"]),
        *[f"Bar: {wanted(one)}: {reached(one)}." for one in record["bars"]],
    ]


def against(gap: dict[str, Any]) -> str:
    """How the model stands to its baseline, in words."""
    difference = interval(gap["difference"], signed=True)
    return f"By {TITLES[gap['metric']]} it {gap['standing']} the baseline: the difference is {difference}."


def tested(record: dict[str, Any]) -> str:
    """What the figures were measured on, and what was drawn for the intervals."""
    same, drawn = record["repeated"]["test"], record["resampled"]
    known = f"{same:,} of them with" if same else "none with"
    by = "" if drawn["by"] == "row" else f" over {drawn['units']} {drawn['by']}s, drawn whole because rows of one are alike"
    few = f" (of fewer than {FEW}, such intervals tend to be too narrow)" if by and drawn["units"] < FEW else ""
    where = f"On the test split ({record['split']['test']:,} rows, {known} the inputs of a row in train or validation)"
    return f"{where}, with 95 % bootstrap intervals{by}{few}:"


def wanted(bar: dict[str, Any]) -> str:
    """What a figure should reach, in words."""
    title = TITLES[bar["metric"]] + (f" with {float(bar['share']):.0%} of the labels" if bar["share"] else "")
    if not bar["beside"]:
        return f"{title} at least {bar['least']:g}"
    how = f"less than {-bar['least']:g} below" if bar["least"] else "above"
    return f"{title} {how} {BESIDE.get(bar['beside'], bar['beside'] + chr(39) + 's')}"


def reached(bar: dict[str, Any]) -> str:
    """What the figure came to, in words."""
    if bar["met"] is None:
        return "not measured"
    other = f" against {bar['other']:.3f}" if bar["beside"] else ""
    return f"{bar['value']:.3f}{other}, {'met' if bar['met'] else 'NOT met'}"


def masked(record: dict[str, Any]) -> list[str]:
    """The figures with licence names masked, where they were measured."""
    if "names_masked" not in record:
        return []
    found = record["names_masked"]
    return [
        "With the names of licences (GPL, MIT, Apache, ...) masked in the test texts:",
        "",
        *table(found["metrics"], found["baseline"], record["baseline"]["name"]),
        "",
    ]


def merged(record: dict[str, Any]) -> list[str]:
    """The figures where several classes count as one, where that is asked too."""
    if "merged" not in record:
        return []
    found = record["merged"]
    return [
        f"Asked only whether {' or '.join(found['classes'])}, by the sums of the classes' probabilities:",
        "",
        *table(found["metrics"], found["baseline"], record["baseline"]["name"]),
        "",
        against(found["against_baseline"]),
        "",
    ]


def unheard(record: dict[str, Any]) -> list[str]:
    """The accuracy on each speaker when that one was left out of training, where it was measured."""
    if "unheard_speakers" not in record:
        return []
    rows = [f"| {name} | {one['rows']:,} | {interval(one['accuracy'])} |" for name, one in record["unheard_speakers"].items()]
    head = "Trained anew without one speaker and tested on all recordings of that one (`python -m zoo.practices speakers`):"
    return [head, "", "| speaker never heard | rows | accuracy |", "| --- | --- | --- |", *rows, ""]


def further(record: dict[str, Any]) -> list[str]:
    """Figures of this specimen alone, where it has some."""
    if "further" not in record:
        return []
    rows = [f"| {what} | {interval(found)} |" for what, found in record["further"].items()]
    return ["Further, with 95 % intervals:", "", "| | figure |", "| --- | --- |", *rows, ""]


def transfer(record: dict[str, Any]) -> list[str]:
    """Accuracy of each way of fine-tuning for each share of the labels, where it was measured."""
    if "transfer" not in record:
        return []
    titles, sizes, cells = (record["transfer"][key] for key in ("titles", "sizes", "cells"))
    heads = [f"{float(share):.0%} of the labels ({size['train']} + {size['validation']})" for share, size in sizes.items()]

    def row(title: str, contestant: str, key: str, signed: bool) -> str:
        found = [cells[share].get(contestant, {}).get(key) for share in sizes]
        return f"| {title} | {' | '.join(interval(one, signed) if one else 'not run' for one in found)} |"

    own = [name for name in titles if name not in ("words", "scratch")]
    return [
        "## What pretraining is worth",
        "",
        "Accuracy on the whole test split, trained on a share of the labels of train + validation (one draw, seed 0; "
        "`python -m zoo.transfer` makes the table):",
        "",
        f"| | {' | '.join(heads)} |",
        f"| --- |{' --- |' * len(heads)}",
        *[row(title, name, "accuracy", False) for name, title in titles.items()],
        "",
        "Difference in accuracy from the transformer from scratch on the same rows:",
        "",
        f"| | {' | '.join(heads)} |",
        f"| --- |{' --- |' * len(heads)}",
        *[row(titles[name], name, "against_scratch", True) for name in ("words", *own)],
        "",
    ]


def distillation(record: dict[str, Any]) -> list[str]:
    """A small student's figures with and without this teacher, where they were measured."""
    if "distillation" not in record:
        return []
    found = record["distillation"]
    return [
        "## Its student",
        "",
        f"The network of {found['student']} ({found['size']:.0%} of this model's size), given {found['labels']} labels, and for the "
        f"other {found['softened']} training texts this model's probabilities in the place of labels (`python -m zoo.distillation`):",
        "",
        "| | accuracy | explanations' rank agreement with this model's | same first word |",
        "| --- | --- | --- | --- |",
        *[
            f"| {title} | {interval(found[key]['accuracy'])} | {interval(found[key]['agreement'])} | {found[key]['first']:.0%} |"
            for key, title in (("taught", "with the teacher"), ("alone", "without"))
        ],
        "",
        f"The teacher gains the student {interval(found['gain'], signed=True)} accuracy. Explanations: {found['method']} of "
        f"{found['rows']} test texts. The teacher has seen the labels of all training texts.",
        "",
    ]


def training(record: dict[str, Any]) -> list[str]:
    """Data, split, seed, device and time."""
    split = record["split"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version != "not installed")
    lines = [
        f"- Data: {record['source']}; licence: {record['licence']}; sha256 `{record['data_sha256'][:16]}`.",
        f"- Split: {split['rule']} ({split['train']} / {split['validation']} / {split['test']} rows).",
    ]
    names = record["class_names"]
    if record.get("task", "classification") == "classification":
        shown = ", ".join(names) if len(names) <= 20 else f"{len(names):,}, from {names[0]} to {names[-1]}"
        lines.append(f"- Classes: {shown}.")
    base = record.get("base")
    if base:
        pins = ", ".join(f"{file} `{sha[:16]}`" for file, sha in base["sha256"].items())
        lines.append(f"- Starts from the weights of the package {base['package']} {base['version']} ({base['licence']}); sha256 of {pins}.")
    if "parameters" not in record:
        settings = ", ".join(f"{k} {v}" for k, v in record["settings"].items() if v is not None)
        lines.append(f"- Fitted by scikit-learn with seed {record['seed']}: {settings}.")
    elif record["epochs"] == 0:
        lines.append(f"- {record['parameters']:,} parameters, none trained here." if base else "- Built by its rule, not trained.")
    else:
        why = f"number {record['best_epoch']} was best on validation and" if record["settings"]["select"] else "the last"
        best = f"of {record['epochs']} epochs, {why} is kept"
        part = f", {record['trained']:,} of them trained" if base else ""
        lines.append(f"- {record['parameters']:,} parameters{part}; seed {record['seed']}; {best}.")
    return [
        *lines,
        f"- {record['seconds']:.0f} s on {record['device']}{hours(record)}; energy was not measured; {versions}.",
        *again(record),
        f"- Weights: sha256 `{record['weights_sha256'][:16]}`.",
    ]


def hours(record: dict[str, Any]) -> str:
    """Time times devices: hours of a GPU, or of a CPU's core."""
    gpu, threads = record["device"].startswith("cuda"), re.search(r"(\d+) threads", record["device"])
    if not gpu and threads is None:
        return ""
    count = record.get("processes", 1) * (1 if gpu or threads is None else int(threads[1]))
    return f", {record['seconds'] * count / 3600:.2g} {'GPU' if gpu else 'core'} hours"


def again(record: dict[str, Any]) -> list[str]:
    """When and with which other versions the figures were measured, where that was not in training."""
    if "measured" not in record:
        return []
    then, now = record["versions"], record["measured"]["versions"]
    other = ", ".join(f"{name} {version}" for name, version in now.items() if name in then and then[name] != version)
    how = f"with {other}" if other else "with the same versions"
    return [f"- The figures were measured anew on {record['measured']['date']}, the weights as they were, {how}."]


def table(own: dict[str, Any], other: dict[str, Any], name: str) -> list[str]:
    """Both models' figures, one metric a row."""
    rows = [f"| {TITLES[key]} | {interval(own[key])} | {interval(other[key])} |" for key in own]
    return [f"| | this model | {name} |", "| --- | --- | --- |", *rows]


def interval(found: dict[str, float], signed: bool = False) -> str:
    """A value and its interval, as in 0.983 (0.970 to 0.995)."""
    sign = "+" if signed else ""
    return f"{found['value']:{sign}.3f} ({found['low']:{sign}.3f} to {found['high']:{sign}.3f})"


def rewrite() -> None:
    """Write the cards of all packaged specimens anew from their records: ``python -m zoo.card`` after a change of words or bars."""
    from zoo.registry import WEIGHTS
    from zoo.specimens import RECIPES
    from zoo.train import write_together

    for name, recipe in RECIPES.items():
        record = json.loads((WEIGHTS / name / "record.json").read_bytes())
        write_together({WEIGHTS / name / file: content for file, content in files(recipe, record).items()})


if __name__ == "__main__":
    rewrite()
