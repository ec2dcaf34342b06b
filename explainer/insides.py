"""Commands about what goes on inside a network: its layers, its attention heads, what can be read off it, and concepts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explainer.errors import InvalidInput, Unsupported
from explainer.options import DATA, JSON, MODEL, target_of

if TYPE_CHECKING:
    from explainer.inspection.activations import Activations, LayerActivations
    from explainer.model import Model

ROWS = typer.Argument(metavar="DATA", help=DATA, show_default=False)
LAYER = typer.Option("--layer", metavar="NAME", help="A layer; may be given again.", show_default=False)
OUT = typer.Option(help="Save the result and its figure in this folder.", show_default=False)
SEED = typer.Option(help="The same seed gives the same result.")
TOP = typer.Option(min=1, help="How many lines are printed.")
_UNITS = 12  # units of a layer that are printed


def activations(
    model: Annotated[str, MODEL],
    data: Annotated[str, ROWS],
    layer: Annotated[list[str] | None, LAYER] = None,
    unit: Annotated[list[int] | None, typer.Option(help="A unit of the layer named; may be given again.", show_default=False)] = None,
    top: Annotated[int, typer.Option(min=1, help="How many inputs are kept per unit: those that excite it most.")] = 8,
    seed: Annotated[int, SEED] = 0,
    out: Annotated[Path | None, OUT] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say what each layer does over a data set: dead and saturated units, sparsity, effective rank.

    With --layer also each unit of it, and the rows that excite it most; with --unit those units only. Layers are named as in
    the table that this prints without --layer.
    """
    import explainer
    from explainer import sources, terminal

    wrapped = sources.resolve_model(model)
    inputs, _, rows = sources.resolve_labelled(data, None, wrapped)
    if unit and len(layer or []) != 1:
        raise InvalidInput("--unit is a number within one layer; name that layer, as in --layer NAME --unit 3.")
    able = told(wrapped, "activations", as_json)
    with terminal.progress("activations") as progress:
        found = explainer.activations(wrapped, inputs, layer or None, top=top, seed=seed, progress=progress)
    named = [found[one.name] for one in found.layers] if layer else []
    units = {one.name: _units(one, unit, rows) for one in named}
    saved = saved_in(found, out, "activations")
    if as_json:
        emit(found, saved, capability=able, layers=found.to_frame().to_dict("records"), units=units)
    else:
        _print_activations(found, units, model, saved)


def heads(
    model: Annotated[str, MODEL],
    data: Annotated[str, ROWS],
    kind: Annotated[
        str, typer.Option(help="ablation: the fall of the score without the head; gradient: its slope by the head's share.")
    ] = "ablation",
    target: Annotated[str, typer.Option(help='A class name or index, "predicted", or "A over B" for a margin.')] = "predicted",
    output: Annotated[str, typer.Option(help="Scale explained: probability, logit, raw or auto.")] = "auto",
    top: Annotated[int, TOP] = 15,
    out: Annotated[Path | None, OUT] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say what each attention head is worth to a score over a data set, with intervals.

    Ablation takes one pass over the data per head, gradient one in all.
    """
    from explainer import sources, terminal
    from explainer.inspection.heads import head_importance

    wrapped = sources.resolve_model(model)
    inputs, _, _ = sources.resolve_labelled(data, None, wrapped)
    goal = target_of(target, wrapped.class_names)
    able = told(wrapped, "heads", as_json)
    with terminal.progress("head importance") as progress:
        found = head_importance(wrapped, inputs, goal, kind=kind, output=output, progress=progress)  # type: ignore[arg-type]
    saved, frame = saved_in(found, out, "heads"), found.to_frame()
    if as_json:
        facts = {"kind": found.kind, "target": found.target, "output": found.output, "rows": found.rows}
        emit(found, saved, capability=able, **facts, heads=frame.to_dict("records"))
        return
    what = "fall of the score without it" if found.kind == "ablation" else "size of the score's slope by its share"
    lines = [
        (str(one["layer"]), str(one["head"]), one["kind"], f"{one['importance']:.3g}", _between(one["low"], one["high"]))
        for one in frame.head(top).to_dict("records")
    ]
    title = f"Heads by {found.kind} over {found.rows:,} rows, {found.output} of {terminal.escape(found.target)}"
    terminal.table(("layer", "head", "kind", what, "95 % interval"), lines, title=title, right=("layer", "head", what))
    close(len(frame) - len(lines), found.provenance.notes, saved, "heads")


def probe(
    model: Annotated[str, MODEL],
    data: Annotated[str, ROWS],
    labels: Annotated[
        str | None,
        typer.Option(metavar="COL", help="The column (npz: the array) to be read off; zoo models bring their own.", show_default=False),
    ] = None,
    layer: Annotated[list[str] | None, LAYER] = None,
    pool: Annotated[str, typer.Option(help="Which position of a sequence or map is read: mean, max, first or last.")] = "mean",
    seed: Annotated[int, SEED] = 0,
    out: Annotated[Path | None, OUT] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say how well labels can be read off each layer by a linear model, beside labels dealt out at random."""
    import explainer
    from explainer import sources, terminal

    wrapped = sources.resolve_model(model)
    inputs, known, _ = sources.resolve_labelled(data, labels, wrapped)
    if known is None:
        raise InvalidInput(f"{data} brings no labels to read off; name the column that holds them, as in --labels COL.")
    able = told(wrapped, "probe", as_json)
    with terminal.progress("probing") as progress:
        found = explainer.probe(wrapped, inputs, known, layer or None, pool=pool, seed=seed, progress=progress)
    saved, frame = saved_in(found, out, "probe"), found.to_frame()
    if as_json:
        facts = {"metric": found.metric, "rows": found.rows, "chance": found.chance}
        emit(found, saved, capability=able, **facts, layers=frame.to_dict("records"))
        return
    lines = [
        (
            terminal.escape(one["layer"]),
            f"{one[found.metric]:.3g}",
            _between(one["low"], one["high"]),
            f"{one['control']:.3g}",
            "yes" if one["found"] else "no",
        )
        for one in frame.to_dict("records")
    ]
    title = f"Read off each layer over {found.rows:,} rows; always the commonest: {found.chance:.3g}"
    terminal.table(
        ("layer", found.metric, "95 % interval", "dealt at random", "there"), lines, title=title, right=(found.metric, "dealt at random")
    )
    close(0, found.provenance.notes, saved, "probe")


def concepts(
    model: Annotated[str, MODEL],
    data: Annotated[str, ROWS],
    concept: Annotated[
        list[str], typer.Option("--concept", metavar="NAME=DATA", help="Inputs that show it; may be given again.", show_default=False)
    ],
    random: Annotated[str, typer.Option(metavar="DATA", help="Inputs that show nothing in particular.", show_default=False)],
    target: Annotated[str | None, typer.Option(help='A class name or index, or "A over B" for a margin.', show_default=False)] = None,
    layer: Annotated[list[str] | None, LAYER] = None,
    runs: Annotated[int, typer.Option(min=2, help="Random draws that the test is made of.")] = 20,
    seed: Annotated[int, SEED] = 0,
    out: Annotated[Path | None, OUT] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say whether a class's score rises along a concept shown by examples (TCAV), and whether that is more than chance."""
    import explainer
    from explainer import sources, terminal

    wrapped = sources.resolve_model(model)
    inputs, pool = (sources.resolve_labelled(word, None, wrapped)[0] for word in (data, random))
    examples = {}
    for word in concept:
        name, equals, source = word.partition("=")
        if not equals or not name or not source:
            raise InvalidInput(f"--concept {word!r} is not understood; write NAME=DATA, as in --concept striped=pictures/striped.")
        examples[name] = sources.resolve_labelled(source, None, wrapped)[0]
    goal = None if target is None else target_of(target, wrapped.class_names)
    able = told(wrapped, "concepts", as_json)
    with terminal.progress("concepts") as progress:
        found = explainer.concepts(
            wrapped, inputs, examples, pool, layers=layer or None, target=goal, runs=runs, seed=seed, progress=progress
        )  # fmt: skip
    saved, frame = saved_in(found, out, "concepts"), found.to_frame()
    if as_json:
        emit(found, saved, capability=able, target=found.target, rows=found.rows, concepts=frame.to_dict("records"))
        return
    lines = [
        (one["layer"], one["concept"], f"{one['tcav']:.2f}", f"{one['random']:.2f}", f"{one['p']:.2g}", one["outcome"])
        for one in frame.to_dict("records")
    ]
    escaped = [tuple(map(terminal.escape, line)) for line in lines]
    title = f"Concepts for {terminal.escape(found.target)} over {found.rows:,} rows"
    terminal.table(("layer", "concept", "TCAV", "random", "p", "outcome"), escaped, title=title, right=("TCAV", "random", "p"))
    close(0, found.provenance.notes, saved, "concepts")


def _units(layer: LayerActivations, wanted: list[int] | None, rows: list[int]) -> list[dict[str, Any]]:
    """The units of a layer in their order, or those wanted, with the rows (as the data number them) that excite each most."""
    outside = [k for k in wanted or [] if not 0 <= k < layer.units]
    if outside:
        raise InvalidInput(f"The layer {layer.name!r} has the units 0 to {layer.units - 1}; --unit {outside[0]} came.")
    dead, stuck = set(layer.dead.tolist()), set(layer.stuck.tolist())
    return [
        {
            "unit": k, "mean": layer.mean[k], "std": layer.std[k], "zeros": layer.zeros[k], "dead": k in dead, "saturated": k in stuck,
            "top": [{"row": rows[i], "activation": v} for i, v in zip(layer.top[k], layer.top_values[k], strict=True) if i >= 0],
        }
        for k in (wanted or range(layer.units))
    ]  # fmt: skip


def _print_activations(found: Activations, units: dict[str, list[dict[str, Any]]], model: str, saved: str | None) -> None:
    from explainer import terminal

    lines = []
    for one in found.layers:
        bounded = "–" if one.saturated is None else str(len(one.stuck))
        rank = f"{one.effective_rank:.3g}" + (" *" if one.projected else "")
        lines.append((terminal.escape(one.name), one.kind, f"{one.units:,}", f"{one.zeros.mean():.0%}", str(len(one.dead)), bounded, rank))
    columns = ("layer", "kind", "units", "zeros", "dead", "saturated", "effective rank")
    terminal.table(columns, lines, title=f"{terminal.escape(model)} over {found.rows:,} rows", right=columns[2:])
    if any(one.projected for one in found.layers):
        terminal.say("[dim]* of the units' projection on 512 random directions[/]")
    for name, lined in units.items():
        shown = sorted(lined, key=lambda one: -one["std"])[:_UNITS] if len(lined) > _UNITS else lined
        rows = [
            (
                str(one["unit"]), f"{one['mean']:.3g}", f"{one['zeros']:.0%}",
                "dead" if one["dead"] else "saturated" if one["saturated"] else "",
                "" if one["dead"] else ", ".join(f"{at['row']} ({at['activation']:.3g})" for at in one["top"]),
            )
            for one in shown
        ]  # fmt: skip
        more = f", the {len(shown)} of {len(lined):,} that vary most" if len(shown) < len(lined) else ""
        title = f"Units of {terminal.escape(name)}{more}"
        terminal.table(("unit", "mean", "zeros", "", "highest on rows"), rows, title=title, right=("unit", "mean", "zeros"))
    close(0, found.provenance.notes, saved, "activations")


def _between(low: float, high: float) -> str:
    """An interval in words; none where one input tells no spread."""
    return f"{low:.3g} to {high:.3g}" if low == low else "not known"


def told(model: Model, view: str, as_json: bool, named: bool = False) -> dict[str, str]:
    """What the view is on the model, said before it runs. Raises Unsupported where it is nothing."""
    from explainer import terminal
    from explainer.inspection.views import VIEWS, views

    able = views(model, [view])[view]
    if able.level == "unsupported" and not named:
        raise Unsupported(f"{VIEWS[view].title} is not valid on {model.name}: {able.reason}")
    if able.level != "unsupported" and not as_json:
        terminal.say(f"{terminal.state(able.level)} [dim]{terminal.escape(able.reason)}[/]")
    return {"level": able.level, "reason": able.reason}


def saved_in(found: Any, out: Path | None, name: str, figures: int = 1) -> str | None:
    """The folder that the result and its figures are saved in, where one was named."""
    from explainer.listing import save_page

    return None if out is None else save_page(found, out, name, figures)


def emit(found: Any, saved: str | None, **facts: Any) -> None:
    """Facts of a result, and where it came from, as JSON."""
    from explainer import terminal

    terminal.emit({**facts, **dataclasses.asdict(found.provenance), "saved": saved})


def close(rest: int, notes: tuple[str, ...], saved: str | None, name: str) -> None:
    """What stands under every table: what was left out, what is to be known, where it was saved."""
    from explainer import terminal

    if rest > 0:
        terminal.say(f"[dim]and {rest:,} smaller ones[/]")
    for note in notes:
        terminal.say(f"[dim]{terminal.escape(note)}[/]")
    if saved:
        terminal.say(f"Saved in {terminal.escape(saved)}: {name}.json, plot.html")
