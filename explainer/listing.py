"""Results as plain facts (the CLI's JSON), and the same facts printed for a person."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from explainer import terminal
from explainer.checks.comparison import Comparison
from explainer.checks.context import chance
from explainer.checks.draft import Fixed
from explainer.checks.finding import Finding, Findings
from explainer.explanation import Explanation
from explainer.methods import METHODS

SHOWN = 12  # rows of a finding that are printed
REASON = 108  # letters of a reason that are printed: two lines of a terminal 100 wide
MOST_LAYERS = 12  # layers that are named


def explanation_facts(ex: Explanation, rows: Sequence[int], top: int) -> dict[str, Any]:
    """Per instance: target, score, base, verdict, and the ``top`` features by size of value."""
    return {
        "method": ex.method,
        "parameters": json.loads(json.dumps(dict(ex.provenance.parameters), default=str)),
        "output": ex.output,
        "seconds": ex.provenance.seconds,
        "evaluations": ex.provenance.evaluations,
        "absence": ex.provenance.parameters.get("absence"),
        "notes": list(ex.provenance.notes),
        "model_sha256": ex.provenance.model_sha256,
        "inputs_sha256": ex.provenance.inputs_sha256,
        "instances": [_instance(one, row, top) for one, row in zip(ex, rows, strict=True)],
    }


def _instance(one: Explanation, row: int, top: int) -> dict[str, Any]:
    frame = _of_pairs(one.to_frame(), one.axes) if one.values.size else pd.DataFrame(columns=["feature", "value", "stderr"])
    frame["feature"] = _places(one, frame)
    if "rule" in one.extras:  # only its parts have values at all
        frame = frame[(frame["value"] != 0) | (frame["stderr"] != 0)]
    largest = frame.assign(size=frame["value"].abs()).sort_values("size", ascending=False, kind="stable").head(top)
    features = largest[["feature", "target", "value", "stderr"]] if one.axes[-1] == "output" else largest[["feature", "value", "stderr"]]
    many = one.axes[-1] == "output"
    return {
        "row": row,
        "target": one.target[0],
        "score": dict(zip(one.class_names, one.scores[0], strict=True)) if many else float(np.ravel(one.scores)[0]),
        "base": dict(zip(one.class_names, one.base_values[0], strict=True)) if many else float(np.ravel(one.base_values)[0]),
        "verdict": {
            "status": one.verdict.status,
            "reason": one.verdict.reason,
            "checks": [dataclasses.asdict(c) for c in one.verdict.checks.values()],
        },
        "features": [{**f, "input": _own(one, f["feature"])} for f in features.to_dict("records")],
        "features_in_all": len(frame),
        **{key: one.extras[key][0] for key in ("rule", "precision", "precision interval", "coverage") if key in one.extras},
    }


def _of_pairs(frame: pd.DataFrame, axes: tuple[str, ...]) -> pd.DataFrame:
    """Each pair of parts once, with both its halves; other values as they are."""
    if len(axes) < 3 or axes[2] != f"other {axes[1]}":
        return frame
    first, second = frame[axes[1]], frame[axes[2]]
    twice = np.where(first == second, 1, 2)
    return frame.assign(value=frame["value"] * twice, stderr=frame["stderr"] * twice)[first <= second]


def _places(one: Explanation, frame: pd.DataFrame) -> Any:
    """Features by name; a pixel, a cell of a map and a unit at a position by their place, which the name alone does not say."""
    axes = [axis for axis in one.axes[1:] if axis != "output" and axis in frame]
    if "row" in axes and "column" in axes:
        return [", ".join(f"{axis} {k}" for axis, k in zip(axes, at, strict=True)) for at in frame[axes].itertuples(index=False)]
    if len(axes) == 2 and axes[1] == "unit":
        return [f"{name}, unit {k}" for name, k in zip(frame["feature"], frame["unit"], strict=True)]
    return frame["feature"]


def _own(one: Explanation, feature: str) -> Any:
    """On a table, the row's own value of the feature."""
    return one.inputs.iloc[0].get(feature) if hasattr(one.inputs, "iloc") else None


def print_explanation(facts: Mapping[str, Any]) -> None:
    """A table of features and the verdict, per instance."""
    known = METHODS.get(facts["method"])
    if facts["absence"]:
        terminal.say(f"[dim]An absent part: {terminal.escape(facts['absence'])}.[/]")
    for note in facts["notes"]:
        terminal.say(f"[dim]{terminal.escape(note)}[/]")
    for instance in facts["instances"]:
        score, base = instance["score"], instance["base"]
        number = "" if isinstance(score, dict) else f" · {facts['output']} {three(score)}"
        start = "" if isinstance(base, dict) or not np.isfinite(base) else f" (base {three(base)})"
        at = facts["parameters"].get("layer")
        start += f" · at layer {terminal.escape(at)}" if at else ""
        title = (
            f"row {instance['row']} · {known.title if known else facts['method']} for {terminal.escape(instance['target'])}{number}{start}"
        )
        many = "target" in instance["features"][0] if instance["features"] else False
        rows = [_feature(f, many) for f in instance["features"]]
        terminal.table(("feature", *(("for",) if many else ()), "value", "± 95 %"), rows, title=title, right=("value", "± 95 %"))
        rest = instance["features_in_all"] - len(rows)
        if rest:
            terminal.say(f"[dim]and {rest:,} smaller ones[/]")
        for rule in np.atleast_1d(instance.get("rule", [])):
            terminal.say(terminal.escape(str(rule)))
        verdict = instance["verdict"]
        terminal.say(f"verdict: {terminal.state(verdict['status'])} · {terminal.escape(verdict['reason'])}\n")


def _feature(feature: Mapping[str, Any], many: bool) -> tuple[str, ...]:
    name = terminal.escape(feature["feature"])
    if feature["input"] is not None:
        own = feature["input"]
        name += f" = {terminal.escape(three(float(own)) if isinstance(own, (float, np.floating)) else own)}"
    spread = "" if not np.isfinite(feature["stderr"]) else f"{1.96 * feature['stderr']:.2g}"
    colour = "red" if feature["value"] > 0 else "blue"
    value = f"[{colour}]{feature['value']:+.3g}[/]" if np.isfinite(feature["value"]) else "not computed"
    return (name, *((terminal.escape(feature["target"]),) if many else ()), value, spread)


def three(value: float) -> str:
    """Three significant digits; what is missing is said."""
    return "missing" if np.isnan(value) else f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def finding_facts(findings: Findings) -> dict[str, Any]:
    """Counts per state, and every finding whole; ``Findings.from_json`` reads it back."""
    return {**json.loads(findings.to_json()), "ok": findings.ok}


def print_findings(findings: Findings, name: str) -> None:
    """Every finding, worst first: what, how bad, where, why it matters and what to do; what passed by name."""
    terminal.say(f"[bold]{terminal.escape(name)}[/]: {findings.rows:,} items, {findings.modality}")
    rows = [(terminal.state(f.state), terminal.escape(f.check), _told(f)) for f in (*findings.of("fail"), *findings.of("error"))]
    reasons: dict[str, list[str]] = {}
    for f in findings.of("not run"):  # many could not run for one reason
        reasons.setdefault(f.message.removeprefix("Not run: "), []).append(f.check)
    rows += [(terminal.state("not run"), terminal.escape(",\n".join(names)), terminal.escape(why)) for why, names in reasons.items()]
    if rows:
        terminal.table(("", "check", "finding"), rows, widths=(9, 20))
    passed = findings.of("pass")
    if passed:
        terminal.say(f"{terminal.state('pass')} {terminal.escape(', '.join(f.check for f in passed))}")
    terminal.say(" · ".join(f"{terminal.state(state)} {count}" for state, count in findings.counts.items() if count))


def _told(finding: Finding) -> str:
    lines = [terminal.escape(finding.message)]
    if finding.state == "fail":
        lines += [f"[dim]{terminal.escape(line)}[/]" for line in (_measured(finding), _where(finding), finding.advice) if line]
    return "\n".join(lines)


def _measured(finding: Finding) -> str:
    """The value with its interval, threshold and p-value."""
    if finding.value is None:
        return ""
    said = three(finding.value)
    said += f" ({three(finding.interval[0])} to {three(finding.interval[1])})" if finding.interval else ""
    said += f", threshold {three(finding.threshold)}" if finding.threshold is not None else ""
    return said + (f", {chance(finding.p)}" if finding.p is not None else "")


def _where(finding: Finding) -> str:
    named: Sequence[Any] = finding.files or finding.rows
    if not named:
        return ""
    more = max(finding.count, len(named)) - len(named[:SHOWN])
    shown = ", ".join(map(str, named[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")
    return f"{'files' if finding.files else 'rows'} {shown}"


def print_comparison(turned: Comparison, name: str) -> None:
    """What changed since an earlier run."""
    terminal.say(f"\n[bold]since {terminal.escape(name)}[/]")
    for one in turned.items:
        colour = {"new": "red", "worse": "red", "not judged": "yellow", "better": "green", "gone": "green"}[one.turn]
        words, _, rest = str(one).partition(": ")
        terminal.say(f"  [{colour}]{terminal.escape(words)}[/] {terminal.escape(rest)}")
    terminal.say(f"  [dim]{turned.same:,} as before[/]")


def print_catalogue(entries: Sequence[Mapping[str, Any]]) -> None:
    """Every check there is, why it matters, and whether its findings can be fixed without a person."""
    for modality, same in groupby(entries, key=lambda entry: entry["modality"]):
        rows = [(terminal.escape(e["check"]), terminal.escape(e["why"]) + _fix_note(e)) for e in same]
        terminal.table(("check", "why it matters"), rows, title=f"{modality}: {len(rows)} checks", widths=(24,))


def _fix_note(entry: Mapping[str, Any]) -> str:
    asked = "\n[dim]runs only when named with --only[/]" if entry["asked"] else ""
    return asked + (f"\n[green]--fix: {terminal.escape(entry['fix'])}[/]" if entry["fix"] else "")


def print_fixed(fixed: Fixed, out: str, log: str) -> None:
    """What was changed, what could not be, and where the copy and its log stand."""
    terminal.say(f"\n[bold]cleaned copy[/]: {terminal.escape(out)}\n[bold]each change[/]: {terminal.escape(log)}")
    for line in str(fixed).splitlines():
        terminal.say(f"  {terminal.escape(line)}")


def report_facts(report: Any) -> dict[str, Any]:
    """Where the report is, what it found, and what it did not look at."""
    return {
        "path": str(report.path),
        "files": list(report.files),
        "evidence_sha256": report.evidence_sha256,
        "manifest_sha256": report.manifest_sha256,
        "status": report.status,
        "ok": report.ok,
        "outcomes": report.evidence["outcomes"],
        "not_assessed": report.evidence["not_assessed"],
    }


def print_report(facts: Mapping[str, Any]) -> None:
    """The outcomes, worst first as the report has them, and what was not assessed just as prominently."""
    rows = [(terminal.state(o["status"]), terminal.escape(o["topic"]), terminal.escape(o["text"])) for o in facts["outcomes"]]
    terminal.table(("", "about", "outcome"), rows)
    terminal.say("[bold]not assessed[/]")
    for entry in facts["not_assessed"]:
        terminal.say(f"  ○ {terminal.escape(entry['topic'])}: [dim]{terminal.escape(entry['reason'])}[/]")
    terminal.say(f"\n{terminal.state(facts['status'])} · {terminal.escape(facts['path'])}: {', '.join(facts['files'])}")
    terminal.say(f"[dim]manifest sha256 (keep it elsewhere: it covers every file) {facts['manifest_sha256']}[/]")
    terminal.say(f"[dim]check it with: explainer verify {terminal.escape(facts['path'])} --expect {facts['manifest_sha256']}[/]")


def method_facts(model: Any) -> list[dict[str, Any]]:
    """One entry per method and per view of a network's inside, with what it can be on a model where one is given.

    ``layers``: where a method's ``layer=`` can be there.
    """
    from explainer.inspection.views import GROUP, VIEWS, views

    facts = [{"name": m.name, "title": m.title, "family": m.family, "group": m.group, "summary": m.summary} for m in METHODS.values()]
    facts += [{"name": name, "title": v.title, "family": "view", "group": GROUP, "summary": v.summary} for name, v in VIEWS.items()]
    if model is None:
        return facts
    able = {**model.capabilities(), **views(model)}
    return [
        {**fact, "level": able[fact["name"]].level, "reason": able[fact["name"]].reason, "layers": _layers(model, fact["name"], able)}
        for fact in facts
    ]


def _layers(model: Any, name: str, able: Mapping[str, Any]) -> list[str] | None:
    from explainer.inspection.network import layers_for

    found = None if name not in METHODS or able[name].level == "unsupported" else layers_for(model, name)
    return None if found is None else list(found)


def print_methods(facts: Sequence[Mapping[str, Any]], model: str | None, anatomy: Any = None) -> None:
    """The methods there are, or what each can be on one model, and what was found in its module where it has one."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for fact in facts:
        groups.setdefault(fact["group"], []).append(fact)
    rows: list[tuple[str, str, str]] = []
    for group, chosen in groups.items():
        rows.append((f"[bold]{group}[/]", "", ""))
        rows += _abilities(chosen) if model else [(f["name"], f["title"], terminal.escape(f["summary"])) for f in chosen]
    columns, second = (("method", "called", "what its values mean"), 24) if model is None else (("method", "on this model", "why"), 13)
    terminal.table(columns, rows, title=terminal.escape(model or ""), widths=(22, second))
    for said, names in _layered(facts).items():
        terminal.say(f"[dim]{', '.join(names)}: --set layer=NAME, one of auto, {terminal.escape(said)}[/]")
    found = () if anatomy is None else anatomy().facts
    if found:
        terminal.table(("found in the module", "where", "what it means"), [tuple(map(terminal.escape, fact)) for fact in found])
    if model is not None:
        terminal.say(f"[dim]Every reason whole: explainer methods {terminal.escape(model)} --json[/]")


def _abilities(facts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """A line per method; neighbours that are the same for the same reason share one."""
    for (level, reason), same in groupby(facts, key=lambda fact: (fact["level"], _common(fact))):
        names = "\n".join(fact["name"] for fact in same)
        yield names, terminal.state(level), terminal.escape(brief(reason))


def _common(fact: Mapping[str, Any]) -> str:
    """A method's reason without its own name, so that those of a family can be told to be the same."""
    return str(fact["reason"]).replace(f"{fact['title']} is for", "Made for")


def brief(reason: str) -> str:
    """A reason of two lines at most: the beginning, and what to use instead where it says so."""
    if len(reason) <= REASON:
        return reason
    first, use, instead = reason.partition(" Use ")
    ending = f" Use {instead}" if use and len(instead) < REASON // 2 else ""
    return f"{first[: REASON - len(ending) - 2].rpartition(' ')[0].rstrip(' ,;:.(')} …{ending}"


def _layered(facts: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Which methods can be taken at the same layers."""
    found: dict[str, list[str]] = {}
    for fact in facts:
        if fact.get("layers"):
            names = fact["layers"]
            shown = [*names[:MOST_LAYERS], f"… ({len(names)} in all)"] if len(names) > MOST_LAYERS else names
            found.setdefault(", ".join(shown), []).append(fact["name"])
    return found


def save_page(found: Any, folder: Path, name: str, figures: int = 1) -> str:
    """A result as JSON, and one page with its figures; plotly.js is in it once."""
    from explainer import plots
    from explainer.explanation import write_atomic

    found.save(folder / f"{name}.json")
    drawn = [plots.plot(found, instance=i).to_html(full_html=False, include_plotlyjs=i == 0) for i in range(figures)]
    head = f"<!doctype html><meta charset='utf-8'><title>{name}</title>"
    page = f"{head}<body style='max-width:1000px;margin:24px auto;background:#fff'>{''.join(drawn)}</body>"
    write_atomic(folder / "plot.html", lambda handle: handle.write(page.encode()))
    return str(folder)
