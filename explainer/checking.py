"""The command that looks a data set over, compares with an earlier run, and writes a cleaned copy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explainer.commands import FINDING, STOPPED, complain
from explainer.errors import InvalidInput, unknown
from explainer.options import JSON

if TYPE_CHECKING:
    from explainer.checks.comparison import Comparison
    from explainer.checks.draft import Fixed
    from explainer.checks.finding import Findings

CHECKED = "A file (csv, tsv, parquet, jsonl, npz, npy), a folder of images or of the parts of one table, or zoo:NAME."


def check(
    data: Annotated[str | None, typer.Argument(metavar="DATA", help=CHECKED, show_default=False)] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="COL", help="The column (npz: the array) that holds the labels.", show_default=False)
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="DATA", help="Data to compare with: overlap and drift.", show_default=False)
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="COL", help="The column that says train or test: what two splits share.", show_default=False)
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COL", help="The column that says when each row was recorded.", show_default=False)
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="A column whose groups must be large enough; may be given again.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rules that a table must keep to (JSON or YAML); written from good data by --write-rules."),
    ] = None,
    write_rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the rules that DATA, taken to be good, keep to; edit them, then use --rules."),
    ] = None,
    words: Annotated[
        Path | None, typer.Option(metavar="FILE", help='The words that --only "toxic words" looks for, one a line.', show_default=False)
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="tabular, image, text or series, where it cannot be told.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="The model the data are meant for.", show_default=False)] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Run this check only; may be given again. Names: --list.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List every check, why it matters, and what --fix does about it.")] = False,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Write a cleaned copy to OUT, in the format of DATA, and each change to OUT.changes.csv; never the original.",
            show_default=False,
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --fix: personal data become pseudonyms under the key in FILE, not masked.", show_default=False
        ),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="EARLIER",
            help="Findings of an earlier run, as --json printed them; exit code 1 then only for what is new, worse or no longer judged.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the findings as one page.", show_default=False)] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Look a data set over: missing, duplicate, conflicting, leaking, drifting, unreadable; and clean a copy of it.

    Ctrl-C ends it early: what was found by then is told, checks not reached are "not run", and no cleaned copy is written.

    Exit code: 0 nothing found, 1 a check failed or broke, 2 misuse, 130 stopped.
    """
    from explainer import terminal
    from explainer.checks.finding import Findings
    from explainer.listing import finding_facts, print_catalogue, print_comparison, print_findings, print_fixed

    if list_:
        entries = catalogue(modality)
        terminal.emit(entries) if as_json else print_catalogue(entries)
        return
    if data is None:
        raise InvalidInput("Name the data to check, as in: explainer check data.csv --labels outcome. All checks: explainer check --list.")
    earlier = None if compare is None else Findings.from_json(compare.read_bytes())
    if write_rules is not None:
        _rules(data, labels, write_rules)
        terminal.say(f"Rules: {terminal.escape(write_rules)}")
        return
    given = _given(data, labels, modality, model, reference, fix)
    groups = given.pop("groups", None)
    beside = {"splits": split, "time": time, "groups": group or groups, "only": only or None,
              "rules": rules, "words": () if words is None else tuple(words.read_text("utf-8").split("\n"))}  # fmt: skip
    findings = _run(given, beside)
    turned = None if earlier is None else findings.compare(earlier)
    fixed, log = (None, None) if fix is None or findings.stopped else _fixed(findings, given, Path(data), fix, key_file)
    if html is not None:
        _write(html, findings.to_html(f"Data checks of {Path(data).name}"))
    if as_json:
        terminal.emit({"data": data, **finding_facts(findings), **_more(turned, fixed, fix, log)})
    else:
        print_findings(findings, data)
        if turned is not None:
            print_comparison(turned, str(compare))
        if fixed is not None:
            print_fixed(fixed, str(fix), str(log))
        if html is not None:
            terminal.say(f"\nPage: {terminal.escape(html)}")
    if findings.stopped:
        complain("Stopped before every check had run" + ("." if fix is None else "; no cleaned copy was written."))
        raise typer.Exit(STOPPED)
    if not (findings.ok if turned is None else turned.ok):
        raise typer.Exit(FINDING)


def catalogue(modality: str | None) -> list[dict[str, Any]]:
    """Every check of a modality (of all where none is named). Raises UnknownName."""
    from explainer.checks.catalogue import checks
    from explainer.checks.fixes import FIXES
    from explainer.inputs import MODALITIES

    if modality is not None and modality not in MODALITIES:
        raise unknown("modality", modality, MODALITIES)
    fixes = {(f.check, m): f.does for f in FIXES for m in f.modalities}
    return [
        {"modality": m, "check": c.name, "why": c.why, "advice": c.advice, "asked": c.asked, "fix": fixes.get((c.name, m), "")}
        for m in MODALITIES
        if modality in (None, m)
        for c in checks(m)
    ]


def _rules(data: str, labels: str | None, out: Path) -> None:
    """The rules of a table that is taken to be good, labels left out, in a file that is free."""
    from explainer import sources
    from explainer.checks.read import read
    from explainer.checks.rules import infer_rules

    if out.exists():
        raise InvalidInput(f"{out} is there already; nothing is overwritten. Name a place that is free.")
    given = sources.resolve_data(data, labels, "tabular", None)
    whole = read(given["data"] if not isinstance(given["data"], str) else Path(given["data"]), given["labels"], modality="tabular")
    infer_rules(whole.inputs).save(out)


def _given(
    data: str, labels: str | None, modality: str | None, model: str | None, reference: str | None, fix: Path | None
) -> dict[str, Any]:
    """The arguments of ``check``; a file is read once, also where a copy of it will be written."""
    from explainer import sources

    given = sources.resolve_data(data, labels, modality, model)
    if fix is not None:
        from explainer.checks.copies import check_out
        from explainer.checks.read import read

        check_out(Path(data), fix)
        given["data"] = read(Path(data), given.pop("labels"), modality=given["modality"])
    if reference is not None:
        named = sources.resolve_specimen(reference) is not None
        given |= sources.resolve_reference(reference, labels, given["modality"]) if named else {"reference": Path(reference)}
    return given


def _run(given: dict[str, Any], beside: dict[str, Any]) -> Findings:
    import explainer
    from explainer import terminal

    with terminal.progress("checking") as bar, terminal.stoppable(bar) as progress:
        return explainer.check(**given, **beside, progress=progress)


def _fixed(findings: Findings, given: dict[str, Any], source: Path, out: Path, key_file: Path | None) -> tuple[Fixed, Path]:
    import explainer
    from explainer import terminal
    from explainer.checks.copies import write_copy

    key = None if key_file is None else key_file.read_bytes().strip()
    if key == b"":
        raise InvalidInput(f"The key file {key_file} is empty; put a long random text in it, and keep it apart from the data.")
    against = {name: given.get(name) for name in ("reference", "reference_labels")}
    with terminal.progress("fixing") as bar:
        fixed = explainer.fix(given["data"], findings, key=key, **against, progress=bar)
        return fixed, write_copy(fixed, given["data"], source, out)


def _more(turned: Comparison | None, fixed: Fixed | None, out: Path | None, log: Path | None) -> dict[str, Any]:
    """What --compare and --fix add to the JSON."""
    more: dict[str, Any] = {}
    if turned is not None:
        more["since"] = {"ok": turned.ok, "same": turned.same, "turned": turned.to_frame().to_dict("records")}
    if fixed is not None:
        changes = [dataclasses.asdict(c) for c in fixed.log]
        more["fixed"] = {"copy": str(out), "log": str(log), "changes": changes, "left": dict(fixed.left)}
    return more


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
