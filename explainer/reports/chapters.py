"""The chapters of a report: each section's evidence in words, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explainer.checks.context import chance
from explainer.metrics import ECE_BINS, FEW
from explainer.reports import blocks
from explainer.reports.attributions import FEWEST_TEXTS, TOLD
from explainer.reports.blocks import Block
from explainer.reports.fairness import FOUR_FIFTHS
from explainer.reports.wording import badge, beside, count, interval, number, percent, shown

Section = Mapping[str, Any]
Pictures = Mapping[str, str]
BARS = 15
CLASSES = 4
# In the order a reader needs them: what could not be judged stands before what passed.
CHECKED = {
    "fail": "Checks that failed",
    "error": "Checks that broke: they say nothing about the data",
    "not run": "Checks that could not run: what they look for may be there",
    "pass": "Checks that passed",
}


def data(section: Section, _pictures: Pictures, _evidence: Section) -> list[Block]:
    reference = f" The reference set has {section['reference_rows']:,}." if section.get("reference_rows") else ""
    source = f" Read from {section['source']['name']}." if section.get("source") else ""
    told = [blocks.text(f"{count(section['rows'], 'row')} of {section['modality']} data.{reference}{source}")]
    if section.get("unused"):
        told.append(blocks.text(f"Not read by the model, but looked at by the data checks: {', '.join(section['unused'])}."))
    if "facts" in section:
        told.append(blocks.facts([(k[:1].upper() + k[1:], shown(v, 4)) for k, v in section["facts"].items()]))
    if "columns" in section:
        told.append(_columns(section))
    if section.get("classes"):
        rows = [[c["class"], f"{c['n']:,}", percent(c["share"])] for c in section["classes"][:40]]
        told.append(blocks.table("Labels", "Class < 3 | Rows > 1 | Share > 1", rows))
    if section.get("labels"):
        told.append(blocks.facts([(f"Label, {k}", number(v, 4)) for k, v in section["labels"].items()]))
    return told


def _columns(section: Section) -> Block:
    caption = "Columns. Percentiles stand in place of extremes, which would be single persons' values; "
    caption += "values seen in fewer than ten rows are not named."
    if section["column_count"] > len(section["columns"]):
        caption += f" The first {len(section['columns'])} of {section['column_count']} columns are listed."
    columns = "Column < 2.2 | Missing > 0.9 | Distinct > 0.9 | Mean > 1 | 5 % > 0.9 | Median > 0.9 | 95 % > 0.9"
    if not any(c["kind"] == "category" for c in section["columns"]):
        return blocks.table(caption, columns, [_column(c) for c in section["columns"]])
    rows = [[*_column(c), ", ".join(f"{v['value']} ({v['n']:,})" for v in c.get("common", [])) or "–"] for c in section["columns"]]
    return blocks.table(caption, f"{columns} | Commonest < 2.4", rows)


def _column(c: Section) -> list[str]:
    return [c["name"], f"{c['missing']:,}", f"{c['distinct']:,}", *(number(c.get(k)) for k in ("mean", "p5", "p50", "p95"))]


def checks(section: Section, _pictures: Pictures, _evidence: Section) -> list[Block]:
    totals = ", ".join(f"{section['counts'].get(s, 0)} {s}" for s in CHECKED)
    told = [blocks.text(f"{totals}. A check that could not run is not a pass.")]
    for state, caption in CHECKED.items():
        rows = [[blocks.cell(f["state"]), f["check"], _found(f), _measured(f)] for f in section["findings"] if f["state"] == state]
        if rows:
            told.append(blocks.table(caption, "Outcome < 0.9 | Check < 1.4 | What was found < 4.2 | Measured < 1.3", rows))
    return told


def _found(f: Section) -> str:
    """What was found, where, and what to do about it."""
    said = str(f["message"]).removeprefix("Not run: ")
    if f["state"] == "fail" and (f["files"] or f["rows"]):
        named = f["files"] or [str(r) for r in f["rows"]]
        said += f" {'Files' if f['files'] else 'Rows'} {', '.join(named)}{' and others' if f['count'] > len(named) else ''}."
    if f["state"] == "not run" and f["why"]:
        said += f" Why it matters: {f['why']}"
    if f["advice"] and f["state"] in ("fail", "error", "not run"):
        said += f" To do: {f['advice']}"
    return said


def _measured(f: Section) -> str:
    """The value with its 95 % interval, what it is held against, and the p-value."""
    parts = [number(f["value"])] if f["value"] is not None else []
    parts += [f"({interval(*f['interval'])})"] if f["interval"] else []
    parts += [f"limit {number(f['threshold'])}"] if f["threshold"] is not None else []
    parts += [chance(f["p"])] if f["p"] is not None else []
    return ", ".join(parts).replace(", (", " (") or "–"


def performance(section: Section, pictures: Pictures, evidence: Section) -> list[Block]:
    rows = [[m["title"], number(m["value"]), interval(m["low"], m["high"]), m["better"]] for m in section["metrics"]]
    units = section.get("units")
    samples = "rows" if units is None else f"{units['count']:,} whole units, {units['name']}"
    caption = f"Metrics on {section['rows']:,} rows, with 95 % percentile bootstrap intervals ({section['draws']:,} samples of {samples})"
    told = [
        *_alike(section),
        blocks.outcomes([o for o in evidence["outcomes"] if o["section"] == "performance"]),
        blocks.table(caption, "Metric < 3 | Value > 1 | 95 % interval > 1.6 | Better is < 1", rows),
    ]
    if "by_class" in section:
        told += _by_class(section)
    drawn = []
    if "reliability" in pictures:
        drawn.append(_reliability(section, pictures["reliability"]))
    if "confusion" in pictures:
        alt = f"Confusion matrix of {section['rows']} rows, {section['errors']} of them wrong: {_confusion_words(section)}"
        caption = "Confusion: rows are the true class, columns the predicted one; right ones are framed."
        drawn.append(blocks.figure(pictures["confusion"], alt, caption))
    if "residuals" in pictures:
        said = "; ".join(f"at {number(b['predicted'])}: {number(b['mean'])}" for b in section["bins"])
        caption = "Mean residual (prediction minus truth) over the prediction, with 95 % intervals."
        drawn.append(blocks.figure(pictures["residuals"], f"Mean residual by prediction: {said}.", caption))
    if drawn:
        told.append(blocks.figures(*drawn))
    if "confusion" in section and "confusion" not in pictures:
        told.append(blocks.table("The most frequent confusions", "True < 2 | Predicted < 2 | Rows > 1", _confused(section)))
    return told


def _alike(section: Section) -> list[Block]:
    """What it means that rows are of units, where they are."""
    if "units" not in section:
        return []
    units = section["units"]
    few = f" Of fewer than {FEW} units, intervals tend to be too narrow all the same." if units["few"] else ""
    said = (
        f"The rows are of {units['count']:,} units ({units['name']}), and rows of one are alike. Bootstrap samples draw whole units; "
        f"Wilson intervals and tests count the rows of a share as the number of independent rows they are worth (Rao and Scott 1992)."
    )
    return [blocks.text(said + few)]


def _by_class(section: Section) -> list[Block]:
    kinds = ("sensitivity", "specificity", "ppv", "npv")
    rows = [[c["class"], *(_rate(c, kind) for kind in kinds)] for c in section["by_class"][:40]]
    caption = "Each class as the positive one, against the rest, with 95 % Wilson intervals in brackets"
    columns = "Positive < 1.4 | Sensitivity (recall) > 2 | Specificity > 2 | PPV (precision) > 2 | NPV > 2"
    return [blocks.text(section["decision"]), blocks.table(caption, columns, rows)]


def _reliability(section: Section, svg: str) -> dict[str, str]:
    bins = section["calibration"]["bins"]
    said = "; ".join(f"stated {percent(b['stated'])}, observed {percent(b['observed'])} of {b['n']}" for b in bins)
    caption = "Calibration. Points on the dashed line are perfectly calibrated; lines are 95 % Wilson intervals; "
    caption += f"larger points stand for more rows. The expected calibration error is over {ECE_BINS} bins of the same probability."
    return blocks.figure(svg, f"Calibration: {said}.", caption)


def _confused(section: Section) -> list[list[str]]:
    names = section["class_names"]
    pairs = [(n, i, j) for i, row in enumerate(section["confusion"]) for j, n in enumerate(row) if i != j and n]
    worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:12]
    return [[names[i], names[j], f"{n:,}"] for n, i, j in worst] or [["–", "–", "0"]]


def _confusion_words(section: Section) -> str:
    said = [f"{i} taken for {j}: {n}" for i, j, n in _confused(section)[:8] if n != "0"]
    return ("most frequent confusions: " + "; ".join(said) if said else "none") + "."


def groups(section: Section, _pictures: Pictures, evidence: Section) -> list[Block]:
    told: list[Block] = [blocks.text(_group_rules(section)), *_alike(section)]
    if section["unnamed"]:
        told.append(blocks.note("not assessed", badge("not assessed"), f"Fairness of selection. {section['unnamed']}"))
    for one in section["tables"]:
        told.append(blocks.heading(f"By {one['attribute']}" + (f" ({one['note']})" if one["note"] else ""), level=3))
        outcomes = [o for o in evidence["outcomes"] if o["section"] == "groups" and o["topic"].endswith(f" by {one['attribute']}")]
        told += [blocks.outcomes(outcomes)] if outcomes else []
        if one.get("status") == "not run":
            told.append(blocks.note("not run", badge("not run"), f"Four-fifths ratio. {one['reason']}"))
        told.append(_selected(one) if section["selection"] else _predicted(one))
        if " × " not in one["attribute"]:
            told += _group_errors(one)
    if any(" × " in one["attribute"] for one in section["tables"]):
        told.append(blocks.text("Errors by pairs of attributes are in report.json."))
    return told


def _selected(one: Section) -> Block:
    rows = [[_group(g), _size(g), _rate(g, "selection"), _ratio(g), _p(g)] for g in one["groups"]]
    columns = "Group < 2.2 | Rows > 0.8 | Selection rate > 2.2 | Ratio > 2.2 | p > 0.9"
    return blocks.table(f"Selection by {one['attribute']}, 95 % intervals in brackets", columns, rows)


def _predicted(one: Section) -> Block:
    """What is predicted per group, in the order of the classes: information, not held against anything."""
    caption = f"What is predicted by {one['attribute']}, 95 % intervals in brackets; not judged"
    shown_ = [g for g in one["groups"] if not g["suppressed"]]
    classes = list(shown_[0]["predicted"])[:CLASSES] if shown_ and "predicted" in shown_[0] else []
    if not classes:
        rows = [[_group(g), _size(g), number(g.get("estimate"))] for g in one["groups"]]
        return blocks.table(caption, "Group < 2.2 | Rows > 0.8 | Mean prediction > 2.2", rows)
    if len(shown_[0]["predicted"]) > CLASSES:
        caption += f" (the first {CLASSES} classes; the others are in report.json)"
    rows = [[_group(g), _size(g), *(_rate(g.get("predicted", {}).get(c, {}), "rate") for c in classes)] for g in one["groups"]]
    return blocks.table(caption, " | ".join(["Group < 1.6", "Rows > 0.8", *(f"{c.replace(' | ', ' ')} > 2" for c in classes)]), rows)


def _group_rules(section: Section) -> str:
    rules = section["rules"]
    counted = "units" if "units" in section else "rows"
    small = (
        f"Groups under {rules['small_below']} {counted} or {percent(rules['small_share'])} of all rows are marked small and not "
        f"judged; no figure is shown that is of fewer than {rules['suppressed_below']} {counted}."
    )
    gaps = (
        f"Error rates of a group are held against those of the others by Fisher's exact test, corrected for all comparisons (Holm); "
        f"under {rules['significance']:g} they warn."
    )
    if not section["selection"]:
        return f"{gaps} {small}"
    return (
        f"Selected means: {section['selection']}. The ratio compares a group's selection rate with that of the most selected group "
        f"judged. Under {rules['four_fifths']:g} it is flagged, and fails where the difference is also significant (Fisher's exact test, "
        f"p below {rules['significance']:g}, not corrected for the number of comparisons). True positive rate: of those whose label is the "
        f"favourable outcome, the share selected; false positive rate: of the others. {gaps} {small}"
    )


def _group_errors(one: Section) -> list[Block]:
    titles = {
        "accuracy": "Accuracy",
        "true_positive": "True positive rate",
        "false_positive": "False positive rate",
        "mae": "Mean absolute error",
    }
    used = [key for key in titles if any(g.get(key) is not None for g in one["groups"])]
    if not used:
        return []
    rows = [[_group(g), *(number(g.get(k)) if k == "mae" else _rate(g, k) for k in used)] for g in one["groups"]]
    columns = " | ".join(["Group < 1.6", *(f"{titles[key]} > 2" for key in used)])
    return [blocks.table(f"Errors by {one['attribute']}, 95 % intervals in brackets", columns, rows)]


def _group(g: Section) -> str:
    return g["group"] + (" (suppressed)" if g["suppressed"] else " (small)" if g["small"] else "")


def _size(g: Section) -> str:
    return f"{g['n']:,}" + (f" of {count(g['units'], 'unit')}" if "units" in g else "")


def _rate(g: Section, key: str) -> str:
    of = f" of {g[key + '_n']:,}" if key not in ("selection", "rate", "accuracy") and key in g else ""  # those are of all rows
    if g.get(key) is None:
        return f"–{of}"
    return f"{percent(g[key])} [{100 * g[key + '_low']:.0f}, {100 * g[key + '_high']:.0f}]{of}"


def _ratio(g: Section) -> str:
    if g.get("ratio") is None:
        return "–"
    if g.get("ratio_high") is None:
        return "1 (most selected)" if g["ratio"] == 1 else f"{g['ratio']:.2f}"
    return f"{g['ratio']:.3f} [{g['ratio_low']:.2f}, {g['ratio_high']:.2f}]{' ✗' if g['ratio'] < FOUR_FIFTHS - 1e-12 else ''}"


def _p(g: Section) -> str:
    return "–" if g.get("p") is None else chance(g["p"]).removeprefix("p ").removeprefix("= ")


def importance(section: Section, pictures: Pictures, _evidence: Section) -> list[Block]:
    told = [
        blocks.text(
            f"Mean size of the attribution to the predicted output over {section['rows']:,} of {section['of_rows']:,} rows (drawn with the "
            f"seed), by the method {section['method']} on the {section['output']} scale, summarised by {section['of']}. It says what the "
            "model uses, not what causes the outcome."
            + (f" Only words found in at least {FEWEST_TEXTS} of these texts are named." if section["of"].startswith("words") else "")
        )
    ]
    if section["of"] == "pixels":
        said = f"The tenth of the pixels with the largest attribution holds {percent(section['top_tenth_share'])} of it, on average."
        if "importance" in pictures:
            caption = "Mean size of the attribution per pixel; white is none, red most."
            told.append(blocks.figures(blocks.figure(pictures["importance"], f"Map of mean attribution. {said}", caption)))
        told.append(blocks.text(said))
    elif section["top"]:
        top = section["top"][:BARS]
        said = ", ".join(f"{row['feature']} {number(row['value'])}" for row in top)
        caption = (
            f"The {len(top)} largest of {section['parts']:,} {section['of'].split(',')[0]}; lines are 95 % bootstrap intervals over rows."
        )
        told.append(blocks.figures(blocks.figure(pictures["importance"], f"Bars: {said}.", caption)))
    else:
        told.append(blocks.text("No word occurs in enough of the texts to be named without showing a single person's text."))
    return [*told, *(blocks.text(note) for note in section["notes"])]


def cases(section: Section, pictures: Pictures, _evidence: Section) -> list[Block]:
    words = "Chosen by rule, not by hand. Row numbers count from 0 in the data given. "
    told = [blocks.text(words + "Red and + speak for the explained output, blue and − against it.")]
    for c in section["cases"]:
        told += _case(c, pictures.get(f"case {c['row']}"))
    return told


def _case(c: Section, picture: str | None) -> list[Block]:
    predicted = shown(c["predicted"])
    certain = f" at {percent(c['probability'])}" if "probability" in c else ""
    told = [
        blocks.heading(f"Row {c['row']}: {c['rule']}", level=3),
        blocks.facts([
            ("Predicted", f"{predicted}{certain}"),
            ("Label", "not given" if c["label"] is None else shown(c["label"])),
            ("Explained", f"{c['target']}, {c['output']} scale"),
            ("Method", f"{c['method']}, seed {c['seed']}, {count(c['evaluations'], 'evaluation')}"),
            ("Sum", _sum(c)),
        ]),
        blocks.outcomes([{"status": c["verdict"]["status"], "topic": "Trust in this explanation", "text": c["verdict"]["reason"]}]),
    ]  # fmt: skip
    if "words" in c:
        told.append(_words(c["words"]))
    if picture:
        said = ", ".join(f"{row['feature']} {number(row['value'], sign=True)}" for row in c["top"]) or "see the evidence"
        told.append(
            blocks.figures(blocks.figure(picture, f"Attributions of row {c['row']}: {said}.", f"Row {c['row']}, predicted {predicted}."))
        )
    if c["top"] and "input" not in c["top"][0]:
        largest = abs(c["top"][0]["value"])
        errors = ["–" if r["stderr"] is None else f"± {beside(r['stderr'], largest)}" for r in c["top"]]
        rows = [[r["feature"], beside(r["value"], largest, sign=True), error] for r, error in zip(c["top"], errors, strict=True)]
        caption = f"The {len(rows)} largest of {c['parts']:,} attributions" if "words" in c else "Largest attributions, summed over time"
        if all(r["stderr"] is None for r in c["top"]):
            told.append(blocks.table(caption, "Part < 3 | Attribution > 1", [row[:2] for row in rows]))
        else:
            told.append(blocks.table(caption, "Part < 3 | Attribution > 1 | Standard error > 1", rows))
    if "reasons" in c:
        told += _reasons(c["reasons"])
    if len(c["verdict"]["checks"]) > 1:
        rows = [[blocks.cell(k["status"]), k["name"].replace("_", " "), k["reason"]] for k in c["verdict"]["checks"]]
        told.append(blocks.table("Checks of this explanation", "Outcome < 0.9 | Check < 1.4 | Reason < 5", rows))
    return told


def _reasons(found: Section) -> list[Block]:
    caption = f"Principal reasons against {found['against']}, whose mean score is {number(found['base'])}; cutoff {number(found['cutoff'])}"
    verdict = {"status": found["verdict"]["status"], "topic": "Trust in these reasons", "text": found["verdict"]["reason"]}
    if found["why_none"]:
        return [blocks.outcomes([verdict]), blocks.text(f"No specific reason can be told. {found['why_none']}")]
    rows = [
        [r["text"] + ("" if r["distinguishable"] else " (within its error)"), number(-r["value"]), interval(-r["high"], -r["low"]),
         "; ".join(r["facts"]) or "–"]
        for r in found["reasons"]
    ]  # fmt: skip
    columns = "Reason < 2 | Lowered the score by > 1.2 | 95 % interval > 1.5 | Because < 3"
    return [blocks.outcomes([verdict]), blocks.table(caption, columns, rows)]


def _sum(c: Section) -> str:
    if not c["additive"]:
        return f"score {number(c['score'], 4)}; this method has no base value, its values do not add up to the score"
    total = f"base value {number(c['base'], 4)} + attributions {number(c['sum'], 4)} = {number(c['base'] + c['sum'], 4)}"
    return f"{total}; score {number(c['score'], 4)}"


def _words(words: Section) -> Block:
    last = words["first"] + words["shown"]
    cut = words["shown"] < words["total"]
    which = f"Words {words['first'] + 1} to {last} of {words['total']}, where most is said." if cut else f"All {words['total']} words."
    caption = f"{which} Red with a solid line speaks for the prediction, blue with a dashed line against it; words under "
    caption += "a tenth of the largest attribution are left plain."
    return {
        "kind": "words",
        "pieces": words["pieces"],
        "told": TOLD,
        "before": words["first"] > 0,
        "after": last < words["total"],
        "caption": caption,
    }
