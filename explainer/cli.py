"""The `explainer` command: explain, check, audit, verify, methods, importance, reasons, activations, heads, probe,
concepts; others join by entry point.

Exit codes: 0 nothing to report, 1 a finding (a failed check, a verdict "fail", a changed report), 2 misuse (the message
says what to do), 3 a defect of the toolkit, 130 stopped. Heavy imports stand inside the commands: help must be instant.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explainer import checking, insides, interventions, judging
from explainer.commands import FINDING, Commands, run
from explainer.errors import InvalidInput, unknown
from explainer.options import DATA, JSON, MODEL, number, target_of

if TYPE_CHECKING:
    from explainer.explanation import Explanation
    from explainer.model import Model

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Explain a trained model, say how far each explanation can be trusted, check the data, and write a report.",
)


def main() -> None:
    """Entry point of the `explainer` command."""
    run(app)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"explainer-toolkit {version('explainer-toolkit')}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Hold the options of every command; Commands.invoke reads ``debug``."""


@app.command()
def explain(
    model: Annotated[str, MODEL],
    input_: Annotated[str, typer.Argument(metavar="INPUT", help=f"{DATA} For a text model also the text itself.", show_default=False)],
    method: Annotated[str, typer.Option(help='A method of "explainer methods", or auto.')] = "auto",
    target: Annotated[str, typer.Option(help='A class name or index, "predicted", "all", or "A over B" for a margin.')] = "predicted",
    out: Annotated[Path | None, typer.Option(help="Save the explanation and its figures in this folder.", show_default=False)] = None,
    budget: Annotated[
        str | None, typer.Option(help='Work allowed per input: 500, "500 evals", "10s" or "1% error".', show_default=False)
    ] = None,
    output: Annotated[str, typer.Option(help="Scale explained: probability, logit, raw or auto.")] = "auto",
    baseline: Annotated[
        str,
        typer.Option(
            help="What stands in for an absent part. Tables: auto (background rows), median, mean, copula, neighbours:K. Images: zeros, "
            "mean, blur, inpaint. Text: remove, mask, or a word. Series: zeros, mean, interpolate, background."
        ),
    ] = "auto",
    features: Annotated[
        str,
        typer.Option(
            help="How inputs are cut into parts. Tables: auto (columns), correlated:0.7, one-hot. Images: superpixels:200, patches:64. "
            "Text: words, sentences. Series: segments:20."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    verify: Annotated[str, typer.Option(help="Measure the verdict: on, full (also stability and randomisation) or off.")] = "on",
    top: Annotated[int, typer.Option(min=1, help="How many features are printed.")] = 10,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Parameter of the method: algorithm=kernel, layer=auto; may be given again."),
    ] = None,
    neuron: Annotated[
        str | None,
        typer.Option(metavar="LAYER[UNIT]", help="Explain what makes this unit fire, in place of a score.", show_default=False),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Keep what is scored in this folder, and go on from it after a stop.", show_default=False)
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds one batch may take before the model counts as hanging.", show_default=False)
    ] = None,
    accelerate: Annotated[
        bool, typer.Option("--accelerate", help="Run a torch model in faster ways that, measured on the input, help and say the same.")
    ] = False,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say why a model predicts what it predicts, and how far that can be trusted."""
    import explainer
    from explainer import sources, terminal
    from explainer.listing import explanation_facts, print_explanation

    wrapped = sources.resolve_model(model)
    inputs, rows = sources.resolve_input(input_, wrapped)
    if neuron is not None:
        insides.told(wrapped, "neuron", as_json)
        wrapped = explainer.neuron(wrapped, *interventions.unit_of(neuron))
    goal = target_of(target, wrapped.class_names)
    with terminal.progress("explaining") as bar, terminal.stoppable(bar) as progress:
        ex = explainer.explain(
            wrapped, inputs, method, goal, budget=number(budget), output=output, seed=seed, verify=_verify(verify), progress=progress,
            baseline=_choice(baseline), features=_choice(features), resume=resume, time_limit=time_limit, accelerate=accelerate,
            **_parameters(parameter or []),
        )  # fmt: skip
    saved = None if out is None else _save(ex, out)
    facts = explanation_facts(ex, rows, top)
    if as_json:
        terminal.emit({**facts, "saved": saved})
    else:
        print_explanation(facts)
        if saved:
            terminal.say(f"Saved in {terminal.escape(saved)}: manifest.json, arrays.npz, plot.html")
    _exit(any(verdict.status == "fail" for verdict in ex.verdicts))


app.command()(checking.check)


@app.command()
def audit(
    model: Annotated[str, MODEL],
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="A file with labels; zoo models bring their test rows.", show_default=False)
    ] = None,
    profile: Annotated[str, typer.Option(help="Which requirements to answer: general, finance, medical, legal or eu-ai-act.")] = "general",
    out: Annotated[Path | None, typer.Option(help="Folder of the report; audit-NAME when left out.", show_default=False)] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="COL", help="The column (npz: the array) that holds the labels.", show_default=False)
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="A protected attribute; may be given again.", show_default=False)
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(metavar="COL", help="Whom each row is of (a patient), where rows of one are alike.", show_default=False),
    ] = None,
    favourable: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="The class that is good for the person (regression: high or low); without it fairness is not judged.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="The training data: overlap, drift, and a background where the model has none.", show_default=False
        ),
    ] = None,
    method: Annotated[str, typer.Option(help='A method of "explainer methods", or auto.')] = "auto",
    seed: Annotated[int, typer.Option(help="The same seed gives the same report.")] = 0,
    date: Annotated[
        str | None, typer.Option(help="The date on the report, as 2026-05-31; today when left out.", show_default=False)
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write a report an auditor can check: performance, groups, explained cases, what was not assessed."""
    import explainer
    from explainer import sources, terminal
    from explainer.listing import print_report, report_facts

    wrapped, given = sources.resolve_audit(model, data, labels, group or [], reference, unit)
    with terminal.progress("auditing") as progress:
        given |= {"profile": profile, "favourable": favourable, "method": method, "seed": seed, "out": out, "date": date}
        report = explainer.audit(wrapped, given.pop("data"), **given, progress=progress)
    facts = report_facts(report)
    terminal.emit(facts) if as_json else print_report(facts)
    _exit(not report.ok)


@app.command()
def verify(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="The folder that explainer audit wrote.", show_default=False)],
    expect: Annotated[
        str | None,
        typer.Option(
            metavar="SHA256",
            help="The sha256 you kept elsewhere: the manifest's covers every file; the evidence's only report.json and what it draws.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Also hold this model against the report.", show_default=False)] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Also hold these data against it; with --model, which says how to read them.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="COL", help="The column (npz: the array) of DATA that holds the labels.", show_default=False)
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Recompute a report's hashes, draw it again from its evidence, and name what was changed, is missing or was added."""
    import dataclasses

    import explainer
    from explainer import sources, terminal

    verification = explainer.verify(report, expect=expect, **sources.resolve_verified(model, data, labels))
    if as_json:
        terminal.emit({"ok": verification.ok, **dataclasses.asdict(verification)})
    else:
        terminal.say(f"{terminal.state('pass' if verification.ok else 'fail')} · {terminal.escape(verification)}")
    _exit(not verification.ok)


@app.command()
def methods(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Say what each method is on this model.", show_default=False)
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """List the methods, or say which are exact, approximate or unsupported on a model, and why."""
    from explainer import sources, terminal
    from explainer.listing import method_facts, print_methods

    wrapped = None if model is None else sources.resolve_model(model)
    facts = method_facts(wrapped)
    terminal.emit(facts) if as_json else print_methods(facts, model, getattr(wrapped, "anatomy", None))


app.command()(judging.importance)
app.command()(judging.reasons)
_INSIDE: tuple[Callable[..., None], ...] = (
    insides.activations, insides.heads, insides.probe, insides.concepts,
    interventions.lens, interventions.patch, interventions.ablate, interventions.visualise,
)  # fmt: skip
for command in _INSIDE:
    app.command()(command)


def resolve_model(word: str) -> Model:
    """The model that ``word`` stands for: ``zoo:NAME`` or ``path/to/file.py:factory``; see :mod:`explainer.sources`."""
    from explainer import sources

    return sources.resolve_model(word)


def _parameters(words: list[str]) -> dict[str, Any]:
    """What ``--set`` says: numbers, true, false and none as such, anything else as text."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise InvalidInput(f"--set {word!r} is not understood; write NAME=VALUE, as in --set algorithm=kernel.")
        try:
            found[name] = json.loads(value.lower() if value.lower() in ("true", "false") else "null" if value.lower() == "none" else value)
        except ValueError:
            found[name] = value
        if name == "layer" and isinstance(found[name], int):  # layers of a Sequential are called "0", "1", ...
            found[name] = value
    return found


def _choice(word: str) -> str | tuple[str, float]:
    """``superpixels:200`` as ("superpixels", 200.0); a word without a number as it is."""
    name, _, number = word.rpartition(":")
    try:
        return (name, float(number)) if name else word
    except ValueError:
        return word


def _verify(word: str) -> bool | str:
    known: dict[str, bool | str] = {"on": True, "full": "full", "off": False}
    if word not in known:
        raise unknown("choice of --verify", word, known)
    return known[word]


def _save(ex: Explanation, folder: Path) -> str:
    """The explanation, and one page with the figure of every instance; plotly.js is in it once."""
    from explainer import plots
    from explainer.explanation import write_atomic

    ex.save(folder)
    figures = [plots.plot(ex, instance=i).to_html(full_html=False, include_plotlyjs=i == 0) for i in range(len(ex))]
    head = f"<!doctype html><meta charset='utf-8'><title>{ex.method} explanation</title>"
    page = f"{head}<body style='max-width:1000px;margin:24px auto;background:#fff'>{''.join(figures)}</body>"
    write_atomic(folder / "plot.html", lambda handle: handle.write(page.encode()))
    return str(folder)


def _exit(found: bool) -> None:
    if found:
        raise typer.Exit(FINDING)
