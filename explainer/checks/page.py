"""The findings as HTML that asks nothing of the network and runs no script: one page, or a piece for a notebook."""

from __future__ import annotations

from html import escape

from explainer.checks.charts import Bars, Chart, chart
from explainer.checks.context import chance
from explainer.checks.finding import STATES, Finding, Findings, State
from explainer.numerals import rounded

SIGNS: dict[State, str] = {"fail": "✗", "error": "✗", "not run": "○", "pass": "✓"}
ROWS_NAMED = 30
_NO_NETWORK = "default-src 'none'; style-src 'unsafe-inline'"
# Ink follows the page around it and grounds are see-through, so that a light and a dark notebook both read well.
STYLE = """
.findings { font: 14px/1.45 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; overflow-wrap: anywhere; text-align: left }
.findings h2 { font-size: 15px; margin: 18px 0 6px } .findings p { margin: 4px 0 }
.findings nav { display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0 } .findings nav a { text-decoration: none; color: inherit }
.findings .badge { display: inline-block; border: 1px solid; border-radius: 10px; padding: 0 9px; font-size: 12px; font-weight: 650;
  white-space: nowrap; color: inherit }
.findings .fail, .findings .error { border-color: #d6604d; background: rgba(214,96,77,.20) }
.findings .pass { border-color: #2f9e76; background: rgba(47,158,118,.18) }
.findings .not-run { border-color: #8c8c8c; background: rgba(140,140,140,.20) }
.findings details { border: 1px solid rgba(128,128,128,.4); border-radius: 8px; padding: 6px 12px; margin: 6px 0; break-inside: avoid }
.findings summary { cursor: pointer } .findings summary strong { margin: 0 6px } .findings .dim { opacity: .72; font-size: 12.5px }
.findings pre { overflow-x: auto; padding: 6px 10px; border-radius: 6px; background: rgba(128,128,128,.14); font-size: 12.5px }
.findings table { border-collapse: collapse; font-size: 12.5px; width: 100%; margin: 6px 0; background: none }
.findings td, .findings th { padding: 2px 6px; border: 0; text-align: left; background: none; color: inherit; font-weight: 400 }
.findings th { width: 34% } .findings td.number { width: 1%; white-space: nowrap; text-align: right; font-variant-numeric: tabular-nums }
.findings caption { text-align: left } .findings .held { position: relative }
.findings .limit { position: absolute; top: 0; bottom: 0; border-left: 2px dashed currentColor }
.findings .bar { height: 11px; border-radius: 2px; background: #8073ac; min-width: 1px }
.findings .grid { width: auto } .findings .grid th { width: auto } .findings .grid td { text-align: right }
"""
_PAGE = """
:root { color-scheme: light dark } body { max-width: 900px; margin: 24px auto; padding: 0 16px; background: #fff; color: #212529 }
h1 { font: 650 22px system-ui, sans-serif; margin: 0 0 4px; overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { body { background: #1f2124; color: #e6e6e6 } }
@media print { body { background: #fff; color: #000; margin: 0; max-width: none } .findings nav { display: none }
  .findings * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
  .findings details::details-content { content-visibility: visible }
  .findings pre { white-space: pre-wrap } }
"""


def page(findings: Findings, title: str) -> str:
    """One whole page, UTF-8 as it is."""
    named = escape(_clean(title))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_NO_NETWORK}">
<meta name="color-scheme" content="light dark">
<title>{named}</title>
<style>{_PAGE}</style>
</head>
<body>
<h1>{named}</h1>
{fragment(findings, open_=True)}
</body>
</html>
"""


def fragment(findings: Findings, open_: bool = False) -> str:
    """The findings as one element, worst first; what failed stands open where ``open_``."""
    counts = {state: n for state, n in findings.counts.items() if n}
    links = "".join(f'<a href="#{_slug(state)}">{_badge(state, f"{n} {state}")}</a>' for state, n in counts.items())
    told = f'<p class="dim">{findings.rows:,} items of {escape(findings.modality)} data. A check that could not run is not a pass.</p>'
    parts = []
    for state in STATES:
        cards = "".join(_card(f, open_ and state in ("fail", "error")) for f in findings.of(state))
        if cards:
            parts.append(f'<section id="{_slug(state)}"><h2>{state.capitalize()}</h2>{cards}</section>')
    body = "".join(parts) or "<p>No check was made.</p>"
    return f'<div class="findings"><style>{STYLE}</style>{told}<nav>{links}</nav>{body}</div>'


def _card(finding: Finding, open_: bool) -> str:
    lines = [f"<p>{_line('Why it matters. ', finding.why)}</p>" if finding.why else ""]
    lines.append(f"<p>{_line('What to do. ', finding.advice)}</p>" if finding.advice else "")
    lines.append(f"<pre>{escape(_clean(finding.code))}</pre>" if finding.code else "")
    drawn = chart(finding)
    lines.append(_drawn(drawn) if drawn is not None else "")
    lines.append(f'<p class="dim">{escape(_clean(" · ".join(_facts(finding))))}</p>')
    head = f"{_badge(finding.state)}<strong>{escape(_clean(finding.check))}</strong>{escape(_clean(finding.message))}"
    return f"<details{' open' if open_ else ''}><summary>{head}</summary>{''.join(lines)}</details>"


def _facts(finding: Finding) -> list[str]:
    facts = [f"value {rounded(finding.value, 4)}"] if finding.value is not None else []
    facts += [f"95 % {rounded(finding.interval[0], 4)} to {rounded(finding.interval[1], 4)}"] if finding.interval else []
    facts += [f"threshold {rounded(finding.threshold, 4)}"] if finding.threshold is not None else []
    facts += [chance(finding.p)] if finding.p is not None else []
    named: tuple = finding.files or finding.rows
    if named:
        more = max(finding.count, len(named)) - len(named[:ROWS_NAMED])
        tail = f" and {more:,} more" if more > 0 else ""
        facts.append(f"{'files' if finding.files else 'rows'} {', '.join(map(str, named[:ROWS_NAMED]))}{tail}")
    return facts


def _drawn(drawn: Chart) -> str:
    if isinstance(drawn, Bars):
        if len(drawn.values) == 1 and not drawn.threshold:  # one bar with nothing to hold it against says no more than its number
            return ""
        top = max(*map(abs, drawn.values), drawn.threshold or 0.0) or 1.0
        limit = f"<div class='limit' style='left:{100 * drawn.threshold / top:.1f}%'></div>" if drawn.threshold else ""
        lines = "".join(
            f"<tr><th>{escape(_clean(name))}</th><td class='number'>{value:.3g}</td>"
            f"<td><div class='held'><div class='bar' style='width:{100 * abs(value) / top:.1f}%'></div>{limit}</div></td></tr>"
            for name, value in zip(drawn.names, drawn.values, strict=True)
        )
        held = f", limit {drawn.threshold:.3g}" if drawn.threshold else ""
        return f'<table><caption class="dim">{escape(_clean(drawn.what))}{held}</caption>{lines}</table>'
    top = max((abs(v) for row in drawn.values for v in row if v is not None), default=0.0) or 1.0
    head = "".join(f"<th>{escape(_clean(c))}</th>" for c in drawn.columns)
    rows = "".join(
        f"<tr><th>{escape(_clean(name))}</th>"
        + "".join("<td></td>" if v is None else f'<td style="background:rgba(128,115,172,{abs(v) / top:.2f})">{v:.3g}</td>' for v in row)
        + "</tr>"
        for name, row in zip(drawn.rows, drawn.values, strict=True)
    )
    table = f'<table class="grid"><caption class="dim">{escape(_clean(drawn.what))}</caption><tr><th></th>{head}</tr>{rows}</table>'
    return f'<div style="overflow-x:auto">{table}</div>'


def _line(lead: str, text: str) -> str:
    return f"<strong>{lead}</strong>{escape(_clean(text))}"


def _badge(state: State, text: str = "") -> str:
    return f'<span class="badge {_slug(state)}">{SIGNS[state]} {escape(text or state)}</span>'


def _slug(state: str) -> str:
    return state.replace(" ", "-")


def _clean(text: str) -> str:
    """Without half surrogates and control characters, which no page can hold."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
