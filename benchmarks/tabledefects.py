"""Defects of tables: in cells, in columns, in what the columns say together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from defect import Planted, cells, column, defect, some
from twins import AMOUNTS, Sample

PERSONS = ("Ada", "Brook", "Casey", "Dana", "Eli", "Frances", "Gale", "Hollis")


@defect("unreadable items", "tabular", "{:.0f} lines of the csv with a field too many", (1, 5), 1)
def broken_lines(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    import tempfile
    from pathlib import Path

    lines = s.inputs.assign(approve=s.labels).to_csv(index=False).splitlines()
    for row in some(s, rng, strength):
        lines[row + 1] += ",surplus"
    path = Path(tempfile.mkdtemp()) / "loans.csv"
    path.write_text("\n".join(lines))
    return Planted(replace(s, inputs=path, labels="approve", groups={}, splits=None, time=None))


@defect("missing values", "tabular", "{:.0%} of one column's cells emptied", (0.02, 0.07, 0.3), 0.07)
def emptied(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    name, rows = rng.choice(AMOUNTS), some(s, rng, strength)
    return Planted(cells(s, rows, name, np.nan), rows, (str(name),))


@defect(
    "missingness pattern",
    "tabular",
    "15 % of a column emptied, {:.0f} times as often above another's median",
    (2, 6, 30),
    6,
)
def emptied_by_another(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    name, cause = rng.choice(["appinc", "hexp", "liq", "netw"]), rng.choice(["obrat", "loanamt", "lines"])
    high = s.inputs[cause] > s.inputs[cause].median()
    odds = np.where(high, strength, 1.0)
    rows = np.sort(rng.choice(s.n, round(0.15 * s.n), replace=False, p=odds / odds.sum()))
    return Planted(cells(s, rows, name, np.nan), rows, (str(name),))


@defect("placeholder values", "tabular", "{:.0f} cells of a number filled with 999999, -1 or -99 for 'not known'", (1, 3, 30), 3)
def coded_numbers(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    name, code = rng.choice(["obrat", "lines", "cons"]), rng.choice([999999.0, -999.0])
    rows = some(s, rng, strength)
    return Planted(cells(s, rows, name, code), rows, (str(name),))


@defect("placeholder values", "tabular", "{:.0f} cells of a category filled with 'N/A', '?' or 'null'", (1, 30), 1)
def coded_names(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(cells(s, rows, "branch", rng.choice(["N/A", "?", "null"])), rows, ("branch",))


@defect("infinite values", "tabular", "{:.0f} cells infinite", (1, 10), 1)
def divided_by_nought(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    name, rows = rng.choice(AMOUNTS), some(s, rng, strength)
    return Planted(cells(s, rows, name, rng.choice([np.inf, -np.inf])), rows, (str(name),))


@defect("mixed types", "tabular", "{:.0f} numbers of a column written out as text", (1, 10, 60), 1)
def written_out(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    name, rows = rng.choice(AMOUNTS), some(s, rng, strength)
    return Planted(cells(s, rows, name, rng.choice(["about 30", "see file", "twelve"])), rows, (str(name),))


@defect("spelling of categories", "tabular", "{:.0f} cells of a category in other case or with a space", (1, 10, 60), 1)
def spelled_otherwise(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows, change = some(s, rng, strength), rng.choice(["upper", "lower", "space"])
    old = s.inputs["branch"].iloc[rows]
    new = {"upper": old.str.upper(), "lower": old.str.lower(), "space": old + " "}[str(change)]
    return Planted(cells(s, rows, "branch", new.to_numpy()), rows, ("branch",))


@defect("column names", "tabular", "{:.0f} column under the name of another", (1, 2), 1)
def one_name_twice(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    old = rng.choice(AMOUNTS, int(strength) + 1, replace=False)
    return Planted(replace(s, inputs=s.inputs.rename(columns=dict.fromkeys(old[1:], old[0]))), None, (str(old[0]),))


@defect("constant columns", "tabular", "{:.0f} column of one value", (1, 3), 1)
def always_the_same(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    names = [f"added {k}" for k in range(int(strength))]
    return Planted(replace(s, inputs=s.inputs.assign(**dict.fromkeys(names, rng.choice(["US", "1990"])))), None, tuple(names))


def measures_only(s: Sample, rng: np.random.Generator) -> Sample:
    return replace(s, inputs=s.inputs[[*AMOUNTS]].copy(), model=None)


@defect("constant rows", "tabular", "{:.0f} rows of one number throughout (in a table of measures only)", (1, 3, 20), 3, measures_only)
def filled_rows(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows, frame = some(s, rng, strength), s.inputs.copy()
    frame.loc[rows] = rng.choice([0.0, 99.0])
    return Planted(replace(s, inputs=frame), rows)


@defect("redundant columns", "tabular", "a column again in another unit, {:.1%} of it rounded away", (0.5, 0.002, 0.0), 0.002)
def said_twice(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    name = str(rng.choice(["price", "hexp", "atotinc"]))
    told = s.inputs[name] / 12 + rng.normal(0, strength * s.inputs[name].std() / 12, s.n)
    return Planted(column(s, "again", told), None, ("again",))


@defect("identifier columns", "tabular", "a column that numbers the rows ({:.0f}: running, 2: file codes)", (1, 2), 1)
def numbered(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    start = int(rng.integers(1, 10_000))
    numbers = rng.permutation(s.n) + start if strength == 1 else [f"F{start + 7 * i:06d}" for i in range(s.n)]
    return Planted(column(s, "file", numbers), None, ("file",))


@defect("outlying values", "tabular", "one value of an amount {:.0f} times too large", (10, 100, 1000), 100)
def typed_wrong(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    name = str(rng.choice(["loanamt", "hexp", "price", "apr"]))
    row = some(s, rng, 1, (s.inputs[name] > s.inputs[name].quantile(0.25)).to_numpy())
    return Planted(cells(s, row, name, s.inputs[name].iloc[row].to_numpy() * strength), row, (name,))


@defect("outlying items", "tabular", "{:.0f} rows whose amounts are each plausible and together are not", (1, 3, 10), 3)
def odd_together(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows, frame = some(s, rng, strength), s.inputs.copy()
    high, low = ["loanamt", "appinc", "netw"], ["price", "atotinc", "apr", "hexp"]  # a large loan on a small house, a rich poor man
    for names, level in ((high, 0.99), (low, 0.01)):
        frame.loc[rows, names] = np.stack([frame[n].quantile(level) * rng.uniform(0.97, 1.03, len(rows)) for n in names], axis=1)
    return Planted(replace(s, inputs=frame), rows)


@defect("label given away", "tabular", "a column known only afterwards, filled for {:.0%} of one class", (0.05, 0.3, 1.0), 1.0)
def known_afterwards(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    told = (s.labels == "approved") & (rng.random(s.n) < strength)
    return Planted(column(s, "letter", np.where(told, "sent", "none")), None, ("letter",))


@defect("label given away", "tabular", "the decision in hidden form with {:.1%} of it wrong", (0.1, 0.02, 0.002), 0.002)
def hidden_answer(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    wrong = rng.random(s.n) < strength
    yes = (s.labels == "approved") ^ wrong
    return Planted(column(s, "score", np.where(yes, rng.normal(70, 5, s.n), rng.normal(20, 5, s.n))), None, ("score",))


@defect("drift, all together", "tabular", "{:.0f} of 12 amounts exchanged between rows, each on its own", (1, 4, 12), 12)
def taken_apart(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    """Each column stays as it was; only what the columns say together is lost."""
    frame = s.inputs.copy()
    for name in rng.choice(AMOUNTS, int(strength), replace=False):
        frame[name] = rng.permutation(frame[name].to_numpy())
    return Planted(replace(s, inputs=frame))


@defect("schema", "tabular", "{:.0f} column lost and as many new", (1, 3), 1)
def other_columns(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    old = [str(n) for n in rng.choice(AMOUNTS, int(strength), replace=False)]
    return Planted(replace(s, inputs=s.inputs.rename(columns={n: f"{n}_usd" for n in old})), None, (*old, *(f"{n}_usd" for n in old)))


@defect("fits the model", "tabular", "{:.0f} column that the model needs under another name", (1, 3), 1)
def renamed_column(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    old = [str(n) for n in rng.choice(AMOUNTS, int(strength), replace=False)]
    return Planted(replace(s, inputs=s.inputs.rename(columns={n: n.upper() for n in old})), None, tuple(old))


@defect("rules", "tabular", "{:.0f} values of a share outside what the reference set allows", (1, 3, 20), 3)
def against_the_rules(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    name, value = [("loanamt", -120.0), ("obrat", 940.0), ("cons", 70.0)][rng.integers(3)]
    rows = some(s, rng, strength)
    return Planted(cells(s, rows, name, value), rows, (name,))


@defect("impossible dates", "tabular", "{:.0f} dates that no calendar has, or in a year far off", (1, 3, 20), 1)
def no_such_day(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(cells(s, rows, "applied", rng.choice(["1991-02-30", "1990-13-05", "2991-05-06", "1900-01-01"])), rows, ("applied",))


@defect("unit jumps", "tabular", "one amount of {:.1%} of the rows in another unit (cents, thousands)", (0.005, 0.05, 0.3), 0.05)
def other_unit(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    name, factor = str(rng.choice(["loanamt", "hexp", "price", "apr"])), rng.choice([100.0, 1000.0, 0.001])
    rows = some(s, rng, strength)
    return Planted(cells(s, rows, name, s.inputs[name].iloc[rows].to_numpy() * factor), rows, (name,))


@defect("rare categories", "tabular", "{:.0f} rows of a category met nowhere else", (1, 3, 8), 3)
def hardly_met(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(cells(s, rows, "branch", "Mattapan"), rows, ("branch",))


@defect("unseen categories", "tabular", "{:.0f} rows of a category that the reference set lacks", (1, 5, 50), 1)
def never_seen(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(cells(s, rows, "branch", "Mattapan"), rows, ("branch",))


def known_by_little(s: Sample, rng: np.random.Generator) -> Sample:
    """Sex and county beside the decision: dozens of persons share each pair."""
    sex, county = rng.choice(["f", "m"], s.n), rng.choice(["Suffolk", "Norfolk", "Essex"], s.n)
    return replace(s, inputs=s.inputs.assign(sex=sex, county=county))


@defect(
    "re-identification",
    "tabular",
    "birth date and post code, different in {:.0%} of rows",
    (0.2, 0.5, 1.0),
    1.0,
    known_by_little,
)
def known_by_three(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    crowd = rng.random(s.n) > strength
    born = pd.to_datetime(rng.integers(-10_000, 0, s.n), unit="D").strftime("%Y-%m-%d").to_numpy()
    post = rng.integers(2101, 2199, s.n).astype(str)
    born, post = (np.where(crowd, one[0], one) for one in (born, post))
    return Planted(replace(s, inputs=s.inputs.assign(birthdate=born, zipcode=post)), None, ("birthdate", "zipcode"))


@defect("personal data", "tabular", "a column of {:.0%} e-mail addresses, telephone or social security numbers", (0.01, 0.1, 0.9), 0.1)
def names_of_persons(s: Sample, rng: np.random.Generator, strength: float, form: str = "{}") -> Planted:
    rows = some(s, rng, strength)
    kind = rng.choice(["mail", "phone", "security"])
    held = np.full(s.n, "none", dtype=object)
    held[rows] = [(form if kind == "security" else "{}").format(personal(str(kind), rng)) for _ in rows]
    return Planted(column(s, "contact", held), rows, ("contact",))


@defect(
    "personal data, presidio", "tabular", "a column with {:.0%} of e-mail, telephone or security numbers ('SSN' before these)",
    (0.01, 0.1), 0.1, every=5,
)  # fmt: skip
def names_said(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    """Presidio takes three, two and four digits for a security number only where a word says so: part numbers look alike."""
    return names_of_persons(s, rng, strength, "SSN {}")


def personal(kind: str, rng: np.random.Generator) -> str:
    """Something that names a person, made up."""
    if kind == "mail":
        return f"{rng.choice(PERSONS).lower()}.{rng.integers(1000)}@example.org"
    if kind == "phone":
        return f"+1 617-{rng.integers(200, 999)}-{rng.integers(1000, 9999)}"
    return f"{rng.integers(100, 665)}-{rng.integers(10, 99)}-{rng.integers(1000, 9999)}"
