"""The model card, written from the training record alone: every figure in it is one that training measured."""

from __future__ import annotations

from typing import Any

from zoo.recipes import Recipe

TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss (lower is better)",
    "ece": "calibration error (lower is better)",
}


def markdown(recipe: Recipe, record: dict[str, Any]) -> str:
    """The card of a trained specimen."""
    return "\n".join(
        [
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
            *masked(record),
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


def figures(record: dict[str, Any]) -> list[str]:
    """The figures on test beside the baseline's, and what they come to."""
    gap = record["against_baseline"]
    title = TITLES[gap["metric"]]
    lines = [
        f"On the test split ({record['split']['test']} rows, never seen in training), with 95 % bootstrap intervals:",
        "",
        *table(record["metrics"], record["baseline"]["metrics"], record["baseline"]["name"]),
        "",
        f"By {title} it {gap['standing']} the baseline: the difference is {interval(gap['difference'], signed=True)}.",
    ]
    if record["bar"] is not None:
        value = record["metrics"][record["metric"]]["value"]
        met = "met" if value >= record["bar"] else "NOT met"
        lines.append(f"The bar set for it, {title} of at least {record['bar']}, is {met}.")
    return lines


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


def training(record: dict[str, Any]) -> list[str]:
    """Data, split, seed, device and time."""
    split = record["split"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items() if version != "not installed")
    return [
        f"- Data: {record['source']}; sha256 `{record['data_sha256'][:16]}`.",
        f"- Split: {split['rule']} ({split['train']} / {split['validation']} / {split['test']} rows).",
        f"- Classes: {', '.join(record['class_names'])}.",
        f"- {record['parameters']:,} parameters; seed {record['seed']}; of {record['epochs']} epochs, number {record['best_epoch']} "
        "was best on validation and is kept.",
        f"- {record['seconds']:.0f} s of training on {record['device']}; {versions}.",
        f"- Weights: sha256 `{record['weights_sha256'][:16]}`.",
    ]


def table(own: dict[str, Any], other: dict[str, Any], name: str) -> list[str]:
    """Both models' figures, one metric a row."""
    rows = [f"| {TITLES[key]} | {interval(own[key])} | {interval(other[key])} |" for key in TITLES]
    return [f"| | this model | {name} |", "| --- | --- | --- |", *rows]


def interval(found: dict[str, float], signed: bool = False) -> str:
    """A value and its interval, as in 0.983 (0.970 to 0.995)."""
    sign = "+" if signed else ""
    return f"{found['value']:{sign}.3f} ({found['low']:{sign}.3f} to {found['high']:{sign}.3f})"
