"""Commands about a model's decisions as a whole: what drives them, and the principal reasons of those that went against someone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explainer.commands import FINDING, STOPPED
from explainer.options import DATA, JSON, MODEL, number, target_of

if TYPE_CHECKING:
    from explainer.inspection.importance import Importance
    from explainer.inspection.notices import Reasons


def importance(
    model: Annotated[str, MODEL],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help=f"{DATA} A file of a table is read in parts, however large.", show_default=False)
    ],
    labels: Annotated[
        str | None, typer.Option(metavar="COL", help="The column (npz: the array) that holds the labels; for sage.", show_default=False)
    ] = None,
    kind: Annotated[str, typer.Option(help="mean_abs: mean size of contributions; sage: the loss each column saves.")] = "mean_abs",
    method: Annotated[str, typer.Option(help='A method of "explainer methods", for mean_abs.')] = "shap",
    target: Annotated[str, typer.Option(help='A class name or index, "predicted", or auto: the second of two classes.')] = "auto",
    budget: Annotated[
        str | None, typer.Option(help='Work per row: 500; or for all: "60s", "5% error" (stops there).', show_default=False)
    ] = None,
    output: Annotated[str, typer.Option(help="Scale explained: probability, logit, raw or auto.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Rows scored together; changes no result.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    top: Annotated[int, typer.Option(min=1, help="How many features are printed.")] = 15,
    out: Annotated[Path | None, typer.Option(help="Save the result and its figure in this folder.", show_default=False)] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Say what drives a model over many rows, with intervals; Ctrl-C keeps what is known by then."""
    import explainer
    from explainer import sources, terminal
    from explainer.inspection.importance import BY_PERSON
    from explainer.listing import save_page

    wrapped = sources.resolve_model(model)
    given = sources.resolve_rows(data, labels if kind == "sage" else None, wrapped)
    goal = "auto" if target == "auto" else target_of(target, wrapped.class_names)
    with terminal.progress("importance") as bar, terminal.stoppable(bar) as progress:
        found = explainer.importance(
            wrapped, given["data"], labels=given["labels"] if kind == "sage" else None, kind=kind, method=method, target=goal,
            budget=number(budget), output=output, batch=batch, seed=seed, progress=progress,
        )  # fmt: skip
    saved = None if out is None else save_page(found, out, "importance")
    if as_json:
        shown = found.to_frame().head(top).to_dict("records")
        facts = {k: getattr(found, k) for k in ("kind", "rows", "complete", "target", "output", "losses")}
        stamp = dataclasses.asdict(found.provenance)
        terminal.emit({**facts, **stamp, "features": shown, "features_in_all": len(found), "saved": saved})
    else:
        _print_importance(found, top, saved)
    if any(note.startswith(BY_PERSON) for note in found.provenance.notes):
        raise typer.Exit(STOPPED)


def reasons(
    model: Annotated[str, MODEL],
    input_: Annotated[str, typer.Argument(metavar="INPUT", help=DATA, show_default=False)],
    target: Annotated[
        str | None, typer.Option(metavar="CLASS", help='The favourable class, or "A over B" for a margin.', show_default=False)
    ] = None,
    population: Annotated[
        str, typer.Option(help='Whom the rows are compared with: all, approved, "near the cutoff", or a file of rows.')
    ] = "all",
    applicants: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="The rows those are taken from; zoo models bring their training rows.", show_default=False),
    ] = None,
    cutoff: Annotated[
        float | None, typer.Option(help="The score approved from; 0.5 for a probability, 0 for a logit.", show_default=False)
    ] = None,
    reasons: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="csv (column, reason[, high, low, missing]) or toml of your sentences.", show_default=False),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many reasons at most.")] = 4,
    inquiries: Annotated[
        str | None,
        typer.Option(metavar="COL", help="The column that counts inquiries: a fifth reason where it counts.", show_default=False),
    ] = None,
    method: Annotated[str, typer.Option(help='A method of "explainer methods" whose values sum to the score.')] = "shap",
    budget: Annotated[
        str | None, typer.Option(help='Work allowed per row: 500, "500 evals", "10s" or "1% error".', show_default=False)
    ] = None,
    output: Annotated[str, typer.Option(help="Scale explained: probability, logit, raw or auto.")] = "auto",
    seeds: Annotated[int, typer.Option(min=0, help="Reruns per source of change: seeds, backgrounds.")] = 5,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Save the result, its figures and the notices in this folder.", show_default=False)
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Name the principal reasons of decisions against someone, against a named population, and how stable they are."""
    import explainer
    from explainer import sources, terminal
    from explainer.inspection import saving

    wrapped = sources.resolve_model(model)
    inputs, rows = sources.resolve_input(input_, wrapped)
    goal = None if target is None else target_of(target, wrapped.class_names)
    with terminal.progress("reason codes") as progress:
        found = explainer.reason_codes(
            wrapped, inputs, target=goal, population=sources.resolve_population(population, wrapped), cutoff=cutoff, reasons=reasons,
            applicants=sources.resolve_applicants(applicants, model, wrapped), top=top, inquiries=inquiries, method=method,
            budget=number(budget), output=output, seeds=seeds, seed=seed, progress=progress,
        )  # fmt: skip
    found = dataclasses.replace(found, cases=tuple(dataclasses.replace(c, row=row) for c, row in zip(found, rows, strict=True)))
    saved = None if out is None else _save_reasons(found, out)
    if as_json:
        notices = [found.text(i) for i in range(len(found))]
        terminal.emit({**saving.plain(found), "changes": saving.plain(found.changes), "notices": notices, "saved": saved})
    else:
        _print_reasons(found, saved)
    if any(case.verdict.status == "fail" for case in found.denied):
        raise typer.Exit(FINDING)


def _print_importance(found: Importance, top: int, saved: str | None) -> None:
    from explainer import terminal
    from explainer.listing import three

    rows = []
    for i in found.order[:top]:
        low, high = found.low[i], found.high[i]
        spread = f"{low:.3g} to {high:.3g}" + ("" if low > 0 or high < 0 else " (holds 0)")
        signed = () if found.kind == "sage" else (f"{found.mean[i]:+.3g}",)
        rows.append((terminal.escape(found.names[i]), f"{found.values[i]:.3g}", spread, *signed))
    title = f"{'SAGE' if found.kind == 'sage' else found.provenance.method} over {found.rows:,} rows, {terminal.escape(found.target)}"
    columns = ("feature", "importance", "95 % interval", *(() if found.kind == "sage" else ("mean",)))
    terminal.table(columns, rows, title=title, right=("importance", "mean"))
    if len(found) > top:
        terminal.say(f"[dim]and {len(found) - top:,} smaller ones[/]")
    if found.losses is not None:
        terminal.say(f"{found.target} {three(found.losses[0])} with no column known, {three(found.losses[1])} with all")
    for note in found.provenance.notes:
        terminal.say(f"[dim]{terminal.escape(note)}[/]")
    if saved:
        terminal.say(f"Saved in {terminal.escape(saved)}: importance.json, plot.html")


def _print_reasons(found: Reasons, saved: str | None) -> None:
    from explainer import terminal
    from explainer.listing import three

    terminal.say(
        f"Against {terminal.escape(found.described)}, whose mean score for {terminal.escape(found.target)} is {three(found.base)}."
    )
    for i, case in enumerate(found):
        decided = "approved" if case.approved else "not approved"
        title = f"row {case.row} · {found.output} {three(case.score)}, cutoff {three(found.cutoff)}: {decided}"
        rows = []
        for n, reason in enumerate(case.reasons, 1):
            told = terminal.escape(reason.text) + ("" if reason.distinguishable else " [dim](within its error)[/]")
            half, facts = (reason.high - reason.low) / 2, terminal.escape("; ".join(reason.facts))
            rows.append((str(n), told, f"{-reason.value:.3g}", f"{half:.2g}", f"[dim]{facts}[/]"))
        if rows:
            terminal.table(("", "reason", "lowered it by", "± 95 %", "because"), rows, title=title, right=("lowered it by", "± 95 %"))
        else:
            terminal.say(f"[bold]{title}[/]")
        if case.approved or case.why_none:
            terminal.say(terminal.escape(found.text(i)))
        for check in case.verdict.checks.values():
            if check.status != "pass" or check.name in ("seeds", "backgrounds", "baselines"):
                terminal.say(f"  {terminal.state(check.status)} {check.name}: [dim]{terminal.escape(check.reason)}[/]")
        terminal.say("")
    for note in found.provenance.notes:
        terminal.say(f"[dim]{terminal.escape(note)}[/]")
    if saved:
        terminal.say(f"Saved in {terminal.escape(saved)}: reasons.json, plot.html, notices.txt")


def _save_reasons(found: Reasons, folder: Path) -> str:
    """The result with its figures, and the texts of the notices."""
    from explainer.explanation import write_atomic
    from explainer.listing import save_page

    saved = save_page(found, folder, "reasons", len(found))
    text = "\n\n".join(f"row {case.row}\n{found.text(i)}" for i, case in enumerate(found))
    write_atomic(folder / "notices.txt", lambda handle: handle.write(f"{text}\n".encode()))
    return saved
