"""The report as a sequence of plain blocks, written once from the evidence and drawn by both the HTML and the PDF page.

Blocks: heading, text, note, facts, table, figures, words, list, outcomes, code. Nothing here computes; it only says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from explainer.reports.markdown import blocks_of
from explainer.reports.wording import badge, count, interval, number, percent

Block = dict[str, Any]
_ORDER = ("fail", "error", "warn")
_HASH_NAMES = {"model": "Model", "data": "Data", "labels": "Labels", "groups": "Protected attributes", "reference": "Reference data",
               "reference labels": "Reference labels", "card": "Model card", "record": "Training record"}  # fmt: skip


def status_of(evidence: Mapping[str, Any]) -> str:
    """The worst outcome: "fail" (also for a check that broke), "warn" or "pass"; what was not assessed is counted beside it."""
    found = {outcome["status"] for outcome in evidence["outcomes"]}
    return "fail" if found & {"fail", "error"} else "warn" if "warn" in found else "pass"


def compose(evidence: Mapping[str, Any], pictures: Mapping[str, str], evidence_sha256: str) -> dict[str, Any]:
    """All blocks in reading order, with the title and what the page frame needs."""
    sections = evidence["sections"]
    parts = (("data", _data), ("checks", _checks), ("performance", _performance), ("groups", _groups), ("importance", _importance), ("cases", _cases))
    body: list[Block] = []
    for name, write in parts:
        section = sections[name]
        body.append(_heading(section["title"], name))
        body += write(section, pictures, evidence) if section["assessed"] else [_unassessed(section["reason"])]
    body += _requirements(evidence) + _not_assessed(evidence) + _identity(sections["identity"], evidence) + _verification(evidence_sha256)
    body += _card(sections["card"], evidence)
    return {
        "title": f"Audit report: {evidence['name']}",
        "subtitle": f"{evidence['profile']['title']} profile, {evidence['date']}",
        "date": evidence["date"],
        "name": evidence["name"],
        "evidence_sha256": evidence_sha256,
        "blocks": _first_page(evidence) + body,
    }


def _first_page(evidence: Mapping[str, Any]) -> list[Block]:
    outcomes = evidence["outcomes"]
    wrong = sorted((o for o in outcomes if o["status"] in _ORDER), key=lambda o: _ORDER.index(o["status"]))
    right = [o["topic"] for o in outcomes if o["status"] == "pass"]
    lacking = [o["topic"] for o in evidence["not_assessed"]]
    doubtful = sum(o["status"] == "warn" for o in wrong)
    failed = len(wrong) - doubtful
    verdict = f"{count(failed, 'check')} failed, {doubtful} doubtful, {len(right)} passed; {count(len(lacking), 'topic')} not assessed."
    worst: list[Block] = [{"kind": "outcomes", "items": wrong[:9]}] if wrong else [_text("Nothing that was assessed failed or is in doubt.")]
    if len(wrong) > 9:
        worst.append(_text(f"{len(wrong) - 9} more of these stand in the sections below."))
    return [
        {"kind": "banner", "status": status_of(evidence), "text": verdict},
        _facts(_key_facts(evidence)),
        _heading("Failed or in doubt", "failed", numbered=False),
        *worst,
        {"kind": "columns", "items": [
            {"title": f"Not assessed ({len(lacking)})", "status": "not assessed", "items": _capped(lacking, 16, "What was not assessed")},
            {"title": f"Passed ({len(right)})", "status": "pass", "items": _capped(right, 16, "the sections below")}]},
        _note("info", "What this report is", "Evidence for a person to judge by. It is not legal advice, and a pass says only that the "
              "stated test found nothing. Beyond the inputs of the explained cases it holds only aggregates of the data."),
        {"kind": "contents"},
    ]  # fmt: skip


def _capped(items: Sequence[str], most: int, where: str) -> list[str]:
    unique = list(dict.fromkeys(items))
    return unique if len(unique) <= most else [*unique[: most - 1], f"and {len(unique) - most + 1} more, see {where}"]


def _key_facts(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    sections = evidence["sections"]
    facts = [("Profile", f"{evidence['profile']['title']} (rule pack {evidence['profile']['version']})")]
    if sections["identity"]["assessed"]:
        model = sections["identity"]["model"]
        facts.append(("Model", f"{model['name']}: {model['kind']} {model['task']}, {count(len(model['outputs']), 'output')}, {model['framework']}"))
        facts.append(("Model sha256", f"{sections['identity']['hashes']['model'][:32]}…"))
    if sections["data"]["assessed"]:
        facts.append(("Data", count(sections["data"]["rows"], "row") + (f", {sections['data']['reference_rows']:,} reference rows"
                              if sections["data"].get("reference_rows") else "")))  # fmt: skip
    if sections["performance"]["assessed"]:
        for row in sections["performance"]["metrics"][:1] + [r for r in sections["performance"]["metrics"][1:] if r["name"] == "roc_auc"]:
            share = row["name"] == "accuracy"
            value = percent(row["value"]) if share else number(row["value"])
            facts.append((row["title"], f"{value} (95 % interval {interval(row['low'], row['high'], share)})"))
    return facts


def _data(section: Mapping[str, Any], _pictures: Mapping[str, str], _evidence: Mapping[str, Any]) -> list[Block]:
    reference = f" The reference set has {section['reference_rows']:,}." if section.get("reference_rows") else ""
    blocks = [_text(f"{count(section['rows'], 'row')} of {section['modality']} data.{reference}")]
    if "facts" in section:
        blocks.append(_facts([(k[:1].upper() + k[1:], v if isinstance(v, str) else number(v, 4)) for k, v in section["facts"].items()]))
    if "columns" in section:
        categories = any(c["kind"] == "category" for c in section["columns"])
        rows = [_column_row(c)[: 8 if categories else 7] for c in section["columns"]]
        note = "" if section["column_count"] <= len(rows) else f" The first {len(rows)} of {section['column_count']} columns are listed."
        blocks.append(_table("Columns. Percentiles stand in place of extremes, which would be single persons' values; values seen in "
                             f"fewer than ten rows are not named.{note}",
                             [("Column", "left", 2.2), ("Missing", "right", 0.9), ("Distinct", "right", 0.9), ("Mean", "right", 1), ("5 %", "right", 0.9),
                              ("Median", "right", 0.9), ("95 %", "right", 0.9), ("Commonest", "left", 2.2)][: 8 if categories else 7], rows))  # fmt: skip
    if section.get("classes"):
        rows = [[c["class"], f"{c['n']:,}", percent(c["share"])] for c in section["classes"][:40]]
        blocks.append(_table("Labels", [("Class", "left", 3), ("Rows", "right", 1), ("Share", "right", 1)], rows))
    if section.get("labels"):
        blocks.append(_facts([(f"Label, {k}", number(v, 4)) for k, v in section["labels"].items()]))
    return blocks


def _column_row(c: Mapping[str, Any]) -> list[str]:
    common = ", ".join(f"{v['value']} ({v['n']:,})" for v in c.get("common", []))
    figures = [number(c.get(k)) for k in ("mean", "p5", "p50", "p95")]
    return [c["name"], f"{c['missing']:,}", f"{c['distinct']:,}", *figures, common or "–"]


def _checks(section: Mapping[str, Any], _pictures: Mapping[str, str], _evidence: Mapping[str, Any]) -> list[Block]:
    counts = section["counts"]
    blocks = [_text(", ".join(f"{counts.get(s, 0)} {s}" for s in ("fail", "error", "not run", "pass")) + ". A check that could not run is not a pass.")]
    rows = []
    for f in section["findings"]:
        more = f["message"]
        if f["rows"] and f["state"] == "fail":
            shown = ", ".join(str(r) for r in f["rows"])
            more += f" Rows {shown}{' and others' if f['count'] > len(f['rows']) else ''}."
        if f["advice"] and f["state"] in ("fail", "error", "not run"):
            more += f" To do: {f['advice']}"
        rows.append([_cell(f["state"]), f["check"].replace("_", " ").replace("-", " "), more])
    return [*blocks, _table("Data checks, worst first", [("Outcome", "left", 0.9), ("Check", "left", 1.5), ("What was found", "left", 5)], rows)]


def _performance(section: Mapping[str, Any], pictures: Mapping[str, str], evidence: Mapping[str, Any]) -> list[Block]:
    rows = [[m["title"], number(m["value"]), interval(m["low"], m["high"]), m["better"]] for m in section["metrics"]]
    blocks: list[Block] = [
        {"kind": "outcomes", "items": [o for o in evidence["outcomes"] if o["section"] == "performance"]},
        _table(f"Metrics on {section['rows']:,} rows, with 95 % percentile bootstrap intervals ({section['draws']:,} samples of rows)",
               [("Metric", "left", 3), ("Value", "right", 1), ("95 % interval", "right", 1.6), ("Better is", "left", 1)], rows),
    ]  # fmt: skip
    drawn = []
    if "reliability" in pictures:
        bins = section["calibration"]["bins"]
        said = "; ".join(f"stated {percent(b['stated'])}, observed {percent(b['observed'])} of {b['n']}" for b in bins)
        drawn.append(_figure("reliability", pictures, f"Calibration: {said}.", "Calibration. Points on the dashed line are perfectly "
                             "calibrated; lines are 95 % Wilson intervals; larger points stand for more rows."))  # fmt: skip
    if "confusion" in pictures:
        drawn.append(_figure("confusion", pictures, f"Confusion matrix of {section['rows']} rows, {section['errors']} of them wrong: "
                             + _confusion_words(section), "Confusion: rows are the true class, columns the predicted one; right ones are framed."))  # fmt: skip
    if "residuals" in pictures:
        said = "; ".join(f"at {number(b['predicted'])}: {number(b['mean'])}" for b in section["bins"])
        drawn.append(_figure("residuals", pictures, f"Mean residual by prediction: {said}.", "Mean residual over the prediction, with 95 % intervals."))
    if drawn:
        blocks.append({"kind": "figures", "items": drawn})
    if "confusion" in section and "confusion" not in pictures:
        blocks.append(_table("The most frequent confusions", [("True", "left", 2), ("Predicted", "left", 2), ("Rows", "right", 1)], _confused(section)))
    return blocks


def _confused(section: Mapping[str, Any]) -> list[list[str]]:
    names = section["class_names"]
    pairs = [(n, i, j) for i, row in enumerate(section["confusion"]) for j, n in enumerate(row) if i != j and n]
    return [[names[i], names[j], f"{n:,}"] for n, i, j in sorted(pairs, key=lambda p: (-p[0], p[1], p[2]))[:12]] or [["–", "–", "0"]]


def _confusion_words(section: Mapping[str, Any]) -> str:
    said = [f"{i} taken for {j}: {n}" for i, j, n in _confused(section)[:8] if n != "0"]
    return ("most frequent confusions: " + "; ".join(said) if said else "none") + "."


def _groups(section: Mapping[str, Any], _pictures: Mapping[str, str], _evidence: Mapping[str, Any]) -> list[Block]:
    rules = section["rules"]
    blocks: list[Block] = []
    if section["selection"]:
        blocks.append(_text(
            f"Selected means: {section['selection']}. The ratio compares a group's selection rate with that of the most selected group judged. Under "
            f"{rules['four_fifths']:g} it is flagged, and fails where the difference is also significant (Fisher's exact test, p below "
            f"{rules['significance']:g}). Groups under {rules['small_below']} rows or {percent(rules['small_share'])} of all are marked small and not "
            f"judged; under {rules['suppressed_below']} rows no figure is shown. p is not corrected for the number of comparisons."))  # fmt: skip
    if section["assumed"]:
        blocks.append(_note("warn", "Assumed", f"The favourable outcome was not named; {section['selection']} was taken. Name it with favourable=."))
    for table in section["tables"]:
        note = f" ({table['note']})" if table["note"] else ""
        blocks.append(_heading(f"By {table['attribute']}{note}", "", level=3))
        blocks.append({"kind": "outcomes", "items": [{"status": table["status"], "topic": "Four-fifths ratio", "text": table["reason"]}]})
        if section["selection"]:
            rows = [[_group_name(g), f"{g['n']:,}", _rate(g, "selection"), _ratio(g), _p(g)] for g in table["groups"]]
            blocks.append(_table(f"Selection by {table['attribute']}, 95 % intervals in brackets", [("Group", "left", 2.2), ("Rows", "right", 0.8),
                          ("Selection rate", "right", 2.2), ("Ratio", "right", 2.2), ("p", "right", 0.9)], rows))  # fmt: skip
        if " × " not in table["attribute"] or not section["selection"]:
            blocks += _error_tables(table)
    if any(" × " in t["attribute"] for t in section["tables"]) and section["selection"]:
        blocks.append(_text("Errors by pairs of attributes are in report.json."))
    return blocks


def _error_tables(table: Mapping[str, Any]) -> list[Block]:
    columns = [("accuracy", "Accuracy"), ("true_positive", "True positive rate"), ("false_positive", "False positive rate"), ("mae", "Mean absolute error")]
    used = [(key, title) for key, title in columns if any(g.get(key) is not None for g in table["groups"])]
    if not used:
        return []
    rows = [[_group_name(g), *(number(g.get(k)) if k == "mae" else _rate(g, k) for k, _ in used)] for g in table["groups"]]
    return [_table(f"Errors by {table['attribute']}, 95 % intervals in brackets", [("Group", "left", 1.6), *((title, "right", 2.0) for _, title in used)], rows)]


def _group_name(g: Mapping[str, Any]) -> str:
    return g["group"] + (" (suppressed)" if g["suppressed"] else " (small)" if g["small"] else "")


def _rate(g: Mapping[str, Any], key: str) -> str:
    if g.get(key) is None:
        return "–"
    return f"{percent(g[key])} [{100 * g[key + '_low']:.0f}, {100 * g[key + '_high']:.0f}]"


def _ratio(g: Mapping[str, Any]) -> str:
    if g.get("ratio") is None:
        return "–"
    if g.get("ratio_high") is None:
        return "1 (most selected)" if g["ratio"] == 1 else f"{g['ratio']:.2f}"
    mark = " ✗" if g["ratio"] < 0.8 else ""
    return f"{g['ratio']:.2f} [{g['ratio_low']:.2f}, {g['ratio_high']:.2f}]{mark}"


def _p(g: Mapping[str, Any]) -> str:
    p = g.get("p")
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _importance(section: Mapping[str, Any], pictures: Mapping[str, str], _evidence: Mapping[str, Any]) -> list[Block]:
    said = (f"Mean size of the attribution to the predicted output over {section['rows']:,} of {section['of_rows']:,} rows (drawn with the seed), "
            f"by the method {section['method']} on the {section['output']} scale, summarised by {section['of']}.")  # fmt: skip
    blocks = [_text(said)]
    if section["of"] == "pixels":
        said = f"The tenth of the pixels with the largest attribution holds {percent(section['top_tenth_share'])} of it, on average."
        blocks.append(_text(said))
        if "importance" in pictures:
            blocks.append({"kind": "figures", "items": [_figure("importance", pictures, f"Map of mean attribution. {said}", "Mean size of the "
                           "attribution per pixel; white is none, red most.")]})  # fmt: skip
    elif section["top"]:
        said = ", ".join(f"{r['feature']} {number(r['value'])}" for r in section["top"][:15])
        caption = f"The {min(15, len(section['top']))} largest of {section['parts']:,} {section['of'].split(',')[0]}; lines are 95 % bootstrap intervals over rows."
        blocks.append({"kind": "figures", "items": [_figure("importance", pictures, f"Bars: {said}.", caption)]})
    else:
        blocks.append(_text("No word occurs in enough of the texts to be named without showing a single person's text."))
    return [*blocks, *(_text(note) for note in section["notes"])]


def _cases(section: Mapping[str, Any], pictures: Mapping[str, str], _evidence: Mapping[str, Any]) -> list[Block]:
    blocks = [_text("Chosen by rule, not by hand. Row numbers count from 0 in the data given. Red and + speak for the explained output, blue and − against it.")]
    for c in section["cases"]:
        blocks.append(_heading(f"Row {c['row']}: {c['rule']}", "", level=3))
        probability = f" at {percent(c['probability'])}" if "probability" in c else ""
        predicted = c["predicted"] if isinstance(c["predicted"], str) else number(c["predicted"])
        label = "not given" if c["label"] is None else c["label"] if isinstance(c["label"], str) else number(c["label"])
        facts = [("Predicted", f"{predicted}{probability}"), ("Label", label), ("Explained", f"{c['target']}, {c['output']} scale"),
                 ("Method", f"{c['method']}, seed {c['seed']}, {count(c['evaluations'], 'evaluation')}"), ("Sum", _sum_words(c))]  # fmt: skip
        blocks.append(_facts(facts))
        blocks.append({"kind": "outcomes", "items": [{"status": c["verdict"]["status"], "topic": "Trust in this explanation", "text": c["verdict"]["reason"]}]})
        if "words" in c:
            blocks += _word_blocks(c)
        said = ", ".join(f"{r['feature']} {number(r['value'], sign=True)}" for r in c["top"]) or "see the picture"
        if f"case {c['row']}" in pictures:
            blocks.append({"kind": "figures", "items": [_figure(f"case {c['row']}", pictures, f"Attributions of row {c['row']}: {said}.",
                           f"Row {c['row']}, predicted {predicted}." + (" Largest attributions first." if "input" in str(c["top"][:1]) else ""))]})  # fmt: skip
        if c["top"] and "input" not in c["top"][0]:
            rows = [[r["feature"], number(r["value"], sign=True), "–" if r["stderr"] is None else f"± {number(r['stderr'])}"] for r in c["top"]]
            blocks.append(_table(f"The {len(rows)} largest of {c['parts']:,} attributions" if "words" in c else "Largest attributions, summed over time",
                          [("Part", "left", 3), ("Attribution", "right", 1), ("Standard error", "right", 1)], rows))  # fmt: skip
        if len(c["verdict"]["checks"]) > 1:
            rows = [[_cell(k["status"]), k["name"].replace("_", " "), k["reason"]] for k in c["verdict"]["checks"]]
            blocks.append(_table("Checks of this explanation", [("Outcome", "left", 0.9), ("Check", "left", 1.4), ("Reason", "left", 5)], rows))
    return blocks


def _sum_words(c: Mapping[str, Any]) -> str:
    if not c["additive"]:
        return f"score {number(c['score'], 4)}; this method has no base value, its values do not add up to the score"
    return f"base value {number(c['base'], 4)} + attributions {number(c['sum'], 4)} = {number(c['base'] + c['sum'], 4)}; score {number(c['score'], 4)}"


def _word_blocks(c: Mapping[str, Any]) -> list[Block]:
    w = c["words"]
    cut = w["shown"] < w["total"]
    note = f"Words {w['first'] + 1} to {w['first'] + w['shown']} of {w['total']}, where most is said." if cut else f"All {w['total']} words."
    return [{"kind": "words", "pieces": w["pieces"], "before": cut and w["first"] > 0, "after": w["first"] + w["shown"] < w["total"],
             "caption": f"{note} Red with a solid line speaks for the prediction, blue with a dashed line against it."}]  # fmt: skip


def _requirements(evidence: Mapping[str, Any]) -> list[Block]:
    profile = evidence["profile"]
    state = "checked against the primary texts" if profile["verified"] else "not yet checked against the primary texts"
    blocks = [
        _heading(f"Requirements ({profile['title']} profile)", "requirements"),
        _text(f"Which evidence this report holds on what each instrument asks, in our words (rule pack {profile['version']}, {state}). "
              "“evidence given” does not mean that the requirement is met: that is for a person to judge."),
    ]  # fmt: skip
    for name, pack in evidence["packs"].items():
        rows = []
        for r in (r for r in evidence["requirements"] if r["pack"] == name):
            lacking = f"Lacking: {', '.join(r['lacking'])}. " if r["lacking"] else ""
            given = f"Given: {', '.join(r['evidence'])}. " if r["evidence"] else ""
            rows.append([r["paragraph"], r["text"], _cell(r["status"]), f"{given}{lacking}{r['gap']}".strip()])
        dated = f" In force since {pack['effective']}." if pack.get("effective") else ""
        blocks.append(_table(f"{pack['instrument']}. {pack.get('note', '')}{dated}".strip(),
                      [("Where", "left", 1.6), ("What is asked", "left", 3), ("Evidence", "left", 1.5), ("What there is, what is missing", "left", 2.8)], rows))  # fmt: skip
    return blocks


def _not_assessed(evidence: Mapping[str, Any]) -> list[Block]:
    rows = [[o["topic"], o["reason"]] for o in evidence["not_assessed"]]
    return [
        _heading("What was not assessed", "not-assessed"),
        _text("No conclusion, good or bad, can be drawn from this report on the following."),
        _table(badge("not assessed"), [("Topic", "left", 2), ("Why", "left", 4)], rows),
    ]


def _identity(section: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Block]:
    blocks = [_heading(section["title"], "identity")]
    if not section["assessed"]:
        return [*blocks, _unassessed(section["reason"])]
    model = section["model"]
    named = ", ".join(model["outputs"][:12]) + (" ..." if len(model["outputs"]) > 12 else "")
    blocks.append(_facts([("Model", model["name"]), ("Framework", model["framework"]), ("Outputs", named), ("Device", model["device"]),
                          ("Method asked for", evidence["settings"]["method"]), ("Seed", str(section["seed"])), ("Report date", evidence["date"]),
                          ("Versions", ", ".join(f"{k} {v}" for k, v in section["versions"].items()))]))  # fmt: skip
    rows = [[_HASH_NAMES.get(k, k), {"code": v}] for k, v in section["hashes"].items()]
    return [*blocks, _table("sha256 of everything this report rests on", [("What", "left", 1.3), ("sha256", "left", 5)], rows)]


def _verification(sha256: str) -> list[Block]:
    return [
        _heading("How to verify this report", "verify"),
        _text("manifest.json lists the sha256 of every file of this report. With the toolkit installed, in the folder that holds the report:"),
        {"kind": "code", "text": "explainer verify REPORT_FOLDER"},
        _text("It recomputes every hash and names what was changed, is missing or was added. Without the toolkit, sha256sum gives the same figures. "
              "The evidence in this document is that of report.json, whose sha256 is:"),
        {"kind": "code", "text": sha256},
        _text("The report is not signed. A manifest that was rewritten together with the files can only be noticed against a copy of this hash kept "
              "elsewhere. The same model, data, date and settings on the same versions give the same bytes."),
    ]  # fmt: skip


def _card(section: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Block]:
    blocks = [_heading("Annex: model card and training record", "card")]
    if not section["assessed"]:
        return [*blocks, _unassessed(section["reason"])]
    blocks.append(_text("As supplied by the model's owner; not checked by this report unless said."))
    if section["record"]:
        blocks += _record(section["record"], evidence)
    if section["card"]:
        blocks += [_heading("Model card", "", level=3), *blocks_of(section["card"], level=4)]
    return blocks


def _record(record: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Block]:
    facts = []
    for key, value in record.items():
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            facts.append((key.replace("_", " "), value if isinstance(value, str) else number(value, 4) if isinstance(value, float) else str(value)))
        elif isinstance(value, Mapping) and key not in ("metrics", "baseline", "confusion") and all(isinstance(v, (str, int, float)) for v in value.values()):
            facts.append((key.replace("_", " "), ", ".join(f"{k} {v}" for k, v in value.items())))
    blocks = [_heading("Training record", "", level=3), _facts(facts)]
    metrics = record.get("metrics")
    if not isinstance(metrics, Mapping) or not metrics:
        return blocks
    baseline = record.get("baseline") if isinstance(record.get("baseline"), Mapping) else {}
    theirs = baseline.get("metrics", {}) if baseline else {}
    measured = {m["name"]: m for m in evidence["sections"]["performance"].get("metrics", [])}
    rows = [[name.replace("_", " "), _recorded(value), _recorded(theirs.get(name)), _recorded(measured.get(name))] for name, value in metrics.items()]
    title = f"Baseline: {baseline.get('name', 'none')}" if baseline else "Baseline"
    return [*blocks, _table(f"Recorded at training, and measured by this report on the data given. {title}.",
                            [("Metric", "left", 1.5), ("Recorded", "right", 2), ("Baseline recorded", "right", 2), ("Measured here", "right", 2)], rows)]  # fmt: skip


def _recorded(value: Any) -> str:
    if isinstance(value, Mapping):
        bounds = interval(value.get("low"), value.get("high"))
        return number(value.get("value")) + (f" ({bounds})" if bounds != "–" else "")
    return number(value) if isinstance(value, (int, float)) else "–"


def _heading(text: str, anchor: str, level: int = 2, numbered: bool = True) -> Block:
    return {"kind": "heading", "level": level, "text": text, "anchor": anchor, "numbered": numbered and level == 2}


def _text(text: str) -> Block:
    return {"kind": "text", "text": text}


def _note(status: str, title: str, text: str) -> Block:
    return {"kind": "note", "status": status, "title": title, "text": text}


def _unassessed(reason: str) -> Block:
    return _note("not assessed", badge("not assessed"), reason)


def _facts(items: Sequence[tuple[str, str]]) -> Block:
    return {"kind": "facts", "items": [list(item) for item in items]}


def _table(caption: str, columns: Sequence[tuple[str, str, float]], rows: Sequence[Sequence[Any]]) -> Block:
    return {"kind": "table", "caption": caption, "columns": [{"title": t, "align": a, "width": w} for t, a, w in columns], "rows": [list(r) for r in rows]}


def _figure(name: str, pictures: Mapping[str, str], alt: str, caption: str) -> Block:
    return {"svg": pictures[name], "alt": alt, "caption": caption}


def _cell(status: str) -> dict[str, str]:
    return {"status": status}
