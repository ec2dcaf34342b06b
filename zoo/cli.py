"""``explainer train`` and ``explainer models``; light to import, so that ``explainer --help`` answers at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def train(
    name: Annotated[str, typer.Argument(help="The specimen to train; `explainer models` lists them.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to. [default: runs/NAME]")] = None,
    seed: Annotated[int, typer.Option(help="Decides initial weights, batches and augmentation; the splits are fixed.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    epochs: Annotated[int | None, typer.Option(help="The most epochs. [default: the specimen's own]")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew and not from where an earlier run was cut off.")] = False,
    log: Annotated[Path | None, typer.Option(help="Folder for TensorBoard. [default: the user's cache folder]")] = None,
    precision: Annotated[str, typer.Option(help="auto (bf16 on a GPU that has it), no, bf16 or fp16.")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Let torch.compile fuse the network's operations.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Afterwards hold the figure against the packaged specimen's interval; exit code 1 outside it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the training record as JSON.")] = False,
) -> None:
    """Train a specimen of the zoo: weights, training record and card, in one folder."""
    from explainer.errors import Cancelled, ExplainerError

    folder = out if out is not None else Path("runs") / name
    try:
        from zoo.train import train as run

        packaged = expected(name) if check else None
        record = run(
            name, out=folder, seed=seed, device=device, epochs=epochs, resume=not fresh, progress=not as_json, log=log or True,  # type: ignore[arg-type]
            precision=precision, compiled=compiled,  # type: ignore[arg-type]
        )  # fmt: skip
    except Cancelled as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        typer.echo("Stopped before training began; nothing was written.", err=True)
        raise typer.Exit(130) from None
    except ExplainerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    if not record:
        return  # a process beside the first one of a parallel run
    if as_json:
        typer.echo(json.dumps(record))
    else:
        for line in summary(record):
            typer.echo(line)
        typer.echo(f"Written to {folder}. Use it: zoo.load({name!r}, folder={str(folder)!r})")
    if packaged is not None:
        inside, line = held(record, packaged)
        typer.echo(line, err=as_json)
        raise typer.Exit(0 if inside else 1)


def expected(name: str) -> dict[str, Any]:
    """The record of the specimen that comes with the toolkit."""
    from zoo.registry import WEIGHTS, read_record

    return read_record(WEIGHTS / name, name)


def held(record: dict[str, Any], packaged: dict[str, Any]) -> tuple[bool, str]:
    """Whether a run's main figure lies in the packaged specimen's 95 % interval, and a line that says so."""
    from zoo.card import TITLES, interval

    metric = packaged["metric"]
    value, known = record["metrics"][metric]["value"], packaged["metrics"][metric]
    inside = known["low"] <= value <= known["high"]
    words = "within" if inside else "OUTSIDE"
    return inside, f"Check: {TITLES[metric]} {value:.3f} is {words} the packaged specimen's {interval(known)}."


def fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The data set; without one all are listed.", show_default=False)
    ] = None,
) -> None:
    """Download a data set of the zoo from its official source, its sha256 checked; lists them when none is named."""
    from explainer.errors import ExplainerError
    from zoo.sources.official import SOURCES, locate
    from zoo.sources.official import fetch as download

    try:
        if name is not None:
            typer.echo(f"Kept as {download(name)}")
            return
        for key, source in SOURCES.items():
            try:
                where = str(locate(key))
            except ExplainerError:
                where = f"explainer fetch {key}" if source.address else "put it into the folder that EXPLAINER_DATA names"
            typer.echo(f"{key:<12} {source.file:<28} {where}\n{'':<12} {source.origin}")
    except ExplainerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


def models(as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """List the trained models that come with the toolkit."""
    from explainer.errors import ExplainerError
    from zoo.registry import WEIGHTS, missing, read_record
    from zoo.specimens import RECIPES

    rows = []
    for name, recipe in RECIPES.items():
        row: dict[str, Any] = {"model": f"zoo:{name}", "modality": recipe.modality, "summary": recipe.summary, "metric": recipe.metric}
        try:
            record = read_record(WEIGHTS / name, name)
            row |= {"value": record["metrics"][recipe.metric], "baseline": record["baseline"]["metrics"][recipe.metric]}
        except ExplainerError as error:
            row["error"] = str(error)
        row["needs"] = missing(name)
        rows.append(row)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['model']:<24} {row['modality']:<8} {figure(row)}\n{'':<24} {row['summary']}")
        if row["needs"]:
            typer.echo(f"{'':<24} {row['needs']}")


def figure(row: dict[str, Any]) -> str:
    """The specimen's main figure beside its baseline's, or why there is none."""
    from zoo.card import TITLES, interval

    if "error" in row:
        return row["error"]
    return f"{TITLES[row['metric']]} {interval(row['value'])}, baseline {interval(row['baseline'])}"


def summary(record: dict[str, Any]) -> list[str]:
    """What training came to, in a few lines."""
    from zoo.card import TITLES, interval

    lines = [f"{TITLES[key]:<36} {interval(value)}" for key, value in record["metrics"].items()]
    gap = record["against_baseline"]
    by, baseline = TITLES[gap["metric"]], record["baseline"]["name"]
    epochs = f"{record['epochs']} epochs, the best was {record['best_epoch']}; " if record.get("epochs") else ""
    return [
        f"{record['name']}: {epochs}on test (95 % intervals):",
        *lines,
        f"By {by} it {gap['standing']} the baseline ({baseline}): {interval(gap['difference'], signed=True)}.",
    ]
