"""Commands that step into a network: read it after each layer, put one input's state into another's pass, take units out."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from explainer.errors import InvalidInput
from explainer.insides import LAYER, OUT, ROWS, SEED, TOP, close, emit, saved_in, told
from explainer.options import DATA, JSON, MODEL, target_of

ONE = f"{DATA} For a text model also the text itself."
OUTPUT = typer.Option(help="Scale of the scores: probability, logit or raw.")


def lens(
    model: Annotated[str, MODEL],
    input_: Annotated[str, typer.Argument(metavar="INPUT", help=ONE, show_default=False)],
    layer: Annotated[list[str] | None, LAYER] = None,
    output: Annotated[str, OUTPUT] = "probability",
    out: Annotated[Path | None, OUT] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say what the model would answer after each of its layers, by its own head (the logit lens)."""
    import explainer
    from explainer import sources, terminal

    wrapped = sources.resolve_model(model)
    inputs, rows = sources.resolve_input(input_, wrapped)
    able = told(wrapped, "lens", as_json, named=bool(layer))
    with terminal.progress("logit lens") as progress:
        found = explainer.logit_lens(wrapped, inputs, layers=layer or None, output=output, progress=progress)
    saved = saved_in(found, out, "lens", len(rows))
    if as_json:
        instances = [
            {
                "row": row, "settled": found.layers[int(found.settled[i])],
                "layers": [
                    {"layer": name, "scores": dict(zip(found.labels, found.scores[i, k], strict=True)), **_tokens(found, i, k)}
                    for k, name in enumerate(found.layers)
                ],
            }
            for i, row in enumerate(rows)
        ]  # fmt: skip
        emit(found, saved, capability=able, output=found.output, instances=instances)
        return
    for i, row in enumerate(rows):
        best = found.scores[i].argmax(1)
        lines = [
            (terminal.escape(name), terminal.escape(found.labels[best[k]]), f"{found.scores[i, k, best[k]]:.3g}", *_words(found, i, k))
            for k, name in enumerate(found.layers)
        ]
        title = f"{terminal.escape(input_)}, row {row}: settles after {terminal.escape(found.layers[int(found.settled[i])])}"
        columns = ("layer", "would say", found.output, *(("at each position",) if found.tokens else ()))
        terminal.table(columns, lines, title=title, right=(found.output,))
    close(0, found.provenance.notes, saved, "lens")


def patch(
    model: Annotated[str, MODEL],
    clean: Annotated[str, typer.Argument(metavar="CLEAN", help=f"The input whose states are put in. {ONE}", show_default=False)],
    corrupt: Annotated[str, typer.Argument(metavar="CORRUPT", help="The input they are put into, of equal length.", show_default=False)],
    layer: Annotated[list[str] | None, LAYER] = None,
    target: Annotated[str, typer.Option(help='A class name or index, "predicted" (of CLEAN), or "A over B" for a margin.')] = "predicted",
    output: Annotated[str, OUTPUT] = "logit",
    out: Annotated[Path | None, OUT] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say at which layers and positions the difference between two inputs is decided (activation patching)."""
    import explainer
    from explainer import sources, terminal

    wrapped = sources.resolve_model(model)
    pair = [sources.resolve_input(word, wrapped)[0] for word in (clean, corrupt)]
    able, goal = told(wrapped, "patch", as_json), target_of(target, wrapped.class_names)
    with terminal.progress("activation patching") as progress:
        found = explainer.patch(wrapped, *pair, layers=layer or None, target=goal, output=output, progress=progress)
    saved, frame = saved_in(found, out, "patch"), found.to_frame()
    if as_json:
        facts = {"target": found.target, "output": found.output, "clean": found.clean, "corrupt": found.corrupt}
        emit(found, saved, capability=able, **facts, restored=frame.to_dict("records"))
        return
    lines = []
    for name in found.layers:
        part = frame[(frame["layer"] == name) & (frame["position"] != "all")]
        most = part.iloc[int(part["restored"].abs().argmax())] if len(part) else None
        whole = float(frame[(frame["layer"] == name) & (frame["position"] == "all")]["restored"].iloc[0])
        where = ("–", "") if most is None else (terminal.escape(most["position"]), f"{most['restored']:.3g}")
        lines.append((terminal.escape(name), f"{whole:.3g}", *where))
    scores = f"{found.clean:.3g} on CLEAN, {found.corrupt:.3g} on CORRUPT"
    title = f"Share of the {found.output} of {terminal.escape(found.target)} restored ({scores})"
    terminal.table(("layer", "whole layer", "most at", "share there"), lines, title=title, right=("whole layer", "share there"))
    close(0, found.provenance.notes, saved, "patch")


def ablate(
    model: Annotated[str, MODEL],
    data: Annotated[str, ROWS],
    layer: Annotated[str, typer.Option(metavar="NAME", help="The layer whose units are taken out.", show_default=False)],
    unit: Annotated[list[int] | None, typer.Option(help="A unit; may be given again; by default each.", show_default=False)] = None,
    heads: Annotated[
        int | None, typer.Option(help="Cut what the layer is given into so many heads, and take out each.", show_default=False)
    ] = None,
    kind: Annotated[str, typer.Option(help="What a unit is held at: zero, or its mean over the model's background.")] = "zero",
    output: Annotated[str, OUTPUT] = "probability",
    top: Annotated[int, TOP] = 15,
    out: Annotated[Path | None, OUT] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say how every score changes over a data set when a unit, or an attention head, is taken out."""
    import explainer
    from explainer import sources, terminal

    wrapped = sources.resolve_model(model)
    inputs, _, _ = sources.resolve_labelled(data, None, wrapped)
    able = told(wrapped, "ablate", as_json)
    with terminal.progress("ablation") as progress:
        found = explainer.ablate(wrapped, inputs, layer, unit or None, heads=heads, kind=kind, output=output, progress=progress)
    saved = saved_in(found, out, "ablate")
    parts = [
        {
            "part": found.names[k], "size": found.size[k], "flipped": found.flipped[k],
            "changes": dict(zip(found.labels, found.values[k], strict=True)),
            "stderr": dict(zip(found.labels, found.stderr[k], strict=True)),
        }
        for k in found.order
    ]  # fmt: skip
    if as_json:
        facts = {"layer": found.layer, "kind": found.kind, "output": found.output, "rows": found.changes.shape[1]}
        emit(found, saved, capability=able, **facts, parts=parts)
        return
    lines = []
    for one in parts[:top]:
        most = sorted(one["changes"].items(), key=lambda change: -abs(change[1]))[:3]
        changes = ", ".join(f"{label} {change:+.3g}" for label, change in most)
        flipped = f"{one['flipped']:.0%}" if one["flipped"] == one["flipped"] else "–"
        lines.append((one["part"], f"{one['size']:.3g}", flipped, terminal.escape(changes)))
    title = f"Mean change of the {found.output} over {found.changes.shape[1]:,} rows"
    terminal.table(("without", "mean size", "flipped", "changes most"), lines, title=title, right=("mean size", "flipped"))
    close(len(parts) - len(lines), found.provenance.notes, saved, "ablate")


def visualise(
    model: Annotated[str, MODEL],
    layer: Annotated[str, typer.Option(metavar="NAME", help="A layer, as `explainer activations` names it.", show_default=False)],
    unit: Annotated[int, typer.Option(min=0, help="A unit or channel of it.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Save the image's result and its figure in this folder.", show_default=False)],
    steps: Annotated[int, typer.Option(min=1, help="Steps of the search.")] = 256,
    seed: Annotated[int, SEED] = 0,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Make an image that excites one unit of an image model most (feature visualisation)."""
    import explainer
    from explainer import sources, terminal

    wrapped = sources.resolve_model(model)
    able = told(wrapped, "visualise", as_json)
    with terminal.progress("feature visualisation") as progress:
        found = explainer.visualise(wrapped, layer, unit, steps=steps, seed=seed, progress=progress)
    saved = saved_in(found, out, "visualise")
    if as_json:
        emit(found, saved, capability=able, unit=found.unit, activation=found.activation, best_input=found.best_input)
        return
    best = f"; the highest of the background: {found.best_input:.3g}" if isfinite(found.best_input) else ""
    terminal.say(f"{terminal.escape(found.unit)}: activation {found.activation:.3g}{best}")
    close(0, found.provenance.notes, saved, "visualise")


def unit_of(word: str) -> tuple[str, int]:
    """Layer and number of ``LAYER[UNIT]``. Raises InvalidInput."""
    layer, bracket, rest = word.rpartition("[")
    if not bracket or not layer or not rest.endswith("]") or not rest[:-1].isdigit():
        raise InvalidInput(f"--neuron {word!r} is not understood; write LAYER[UNIT], as in --neuron 'features.3[7]'.")
    return layer, int(rest[:-1])


def _tokens(found: Any, i: int, k: int) -> dict[str, Any]:
    if not found.tokens:
        return {}
    return {"says": [str(word) for word in found.tokens[i][k]], "chances": found.chances[i][k].tolist()}


def _words(found: Any, i: int, k: int) -> tuple[str, ...]:
    from explainer import terminal

    return (terminal.escape(" ".join(str(word) for word in found.tokens[i][k])),) if found.tokens else ()
