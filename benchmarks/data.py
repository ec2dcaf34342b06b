"""Data checks at size: seconds and peak memory, each case in a process of its own, beside the tools people would take instead.

Run ``python benchmarks/data.py``. A table of 1,000,000 rows x 50 columns (numbers, whole numbers, categories, dates, free strings,
some of each missing, a few rows copied) goes through every check a table has, with labels, groups, splits and times given; a table
of 100,000 x 30 is held against another for drift; 10,000 pictures of 28 x 28 go through every check a picture has. Two threads
may be used. The peers are pandas' own one-liners, cleanlab's Datalab and ydata-profiling, at the fastest settings that answer a
like question; one that does not install or does not run is named with its reason (ydata-profiling 4.18 wants pandas below 3, numpy
below 2.4 and scipy below 1.17).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer
from memory import held
from results import Figure, Results
from rich.progress import track
from timing import Spread

TABLE, DRIFT, PICTURES, SIDE = (1_000_000, 50), (100_000, 30), 10_000, 28
SMALLER = 50  # times, with --quick
DRIFT_CHECKS = ["drift", "drift, all together"]
LIMIT = 600  # seconds for one case
THREADS = "2"
WHY = "other work on the machine, or a check that looks at every row where a sample would do: the longest are named"


def table(rows: int, columns: int, seed: int = 0) -> Any:
    """Mixed columns in the proportions of a customer table; three in a hundred cells are missing, one row in a thousand is a copy."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    common = rng.normal(size=rows)
    frame: dict[str, Any] = {}
    for j in range(columns):
        kind = j % 10
        if kind < 4:
            values = (np.exp if kind == 3 else np.asarray)(0.4 * common + rng.normal(size=rows))
            frame[f"number{j}"] = np.where(rng.random(rows) < 0.03, np.nan, np.round(values, 6))
        elif kind < 6:
            frame[f"whole{j}"] = rng.poisson(20 + 10 * j, rows)
        elif kind == 6:
            frame[f"category{j}"] = pd.Series(rng.choice([*"abcdefgh", None], rows), dtype="str")
        elif kind == 7:
            names = np.array([f"place {k * 7919 % 1000:03d}" for k in range(1000)], dtype=object)
            frame[f"place{j}"] = pd.Series(names[np.minimum(rng.zipf(1.3, rows), 1000) - 1], dtype="str")
        elif kind == 8:
            date = pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 3e8, rows), unit="s")
            frame[f"date{j}"] = pd.Series(date).where(pd.Series(rng.random(rows) >= 0.03))
        else:
            frame[f"string{j}"] = pd.Series(rng.integers(0, rows * 4, rows)).astype("str") + " sold"
    copies = rng.choice(rows, rows // 1000 * 2, replace=False)
    order = np.arange(rows)
    order[copies[: len(copies) // 2]] = copies[len(copies) // 2 :]
    made = pd.DataFrame(frame).iloc[order].reset_index(drop=True)
    del frame
    _give_back()
    return made


def _give_back() -> None:
    """What making the data has used and freed, to the system, so that it is not counted as the checks'."""
    import ctypes
    import gc

    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def beside(frame: Any, seed: int = 0) -> dict[str, Any]:
    """Labels that hang on two columns, and what else may be given: groups, splits, times."""
    rng = np.random.default_rng(seed)
    rows = len(frame)
    odds = np.nan_to_num(frame["number0"].to_numpy(dtype=float)) + np.nan_to_num(frame["number1"].to_numpy(dtype=float))
    labels = np.where(odds + rng.normal(scale=2, size=rows) > 0, "yes", "no")
    return {
        "labels": labels,
        "groups": {"region": rng.choice(["north", "south", "east"], rows)},
        "splits": np.where(rng.random(rows) < 0.8, "train", "test"),
        "time": rng.permutation(rows).astype(float),
    }


def pictures(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures ``(n, 28, 28)`` uint8 of a few blurred blobs each, in ten classes by where the largest one lies."""
    rng = np.random.default_rng(seed)
    axis = np.arange(SIDE)
    images = np.zeros((n, SIDE, SIDE), dtype=np.float32)
    classes = rng.integers(0, 10, n)
    for k in range(4):
        x, y = rng.uniform(4, SIDE - 4, n), rng.uniform(4, SIDE - 4, n)
        if k == 0:
            x = 4 + 2 * classes + rng.uniform(-3, 3, n)
        width = rng.uniform(1.5, 4, n)[:, None]
        across, down = (np.exp(-((axis - centre[:, None]) ** 2) / (2 * width**2)) for centre in (x, y))
        images += down[:, :, None] * across[:, None, :]
    images += rng.normal(0, 0.03, images.shape)
    return (np.clip(images / 2, 0, 1) * 255).astype(np.uint8), classes


def _size(case: tuple[int, ...], quick: bool) -> tuple[int, ...]:
    return (case[0] // SMALLER, *case[1:]) if quick else case


def timed(call: Callable[[], Any]) -> dict[str, Any]:
    """Seconds of ``call``, and the most memory the process has held, of which ``before`` was held by data and libraries."""
    before, start = held("VmRSS"), time.perf_counter()
    found = call()
    seconds = time.perf_counter() - start
    answer = {"seconds": seconds, "gigabytes": held("VmHWM"), "before": before}
    return answer | (found if isinstance(found, dict) else {})


def _checked(findings: Any, slowest: dict[str, float]) -> dict[str, Any]:
    assert not findings.of("error"), findings.of("error")
    ranked = sorted(slowest, key=lambda name: -slowest[name])[:5]
    counts = {state: n for state, n in findings.counts.items() if n}
    return {"checks": len(findings), "counts": counts, "slowest": {name: round(slowest[name], 1) for name in ranked}}


def _check(data: Any, **given: Any) -> dict[str, Any]:
    """All checks, and the seconds of each, told by the progress it makes."""
    from explainer.checks.catalogue import checks
    from explainer.checks.run import check

    ended: list[float] = []

    def progress(done: int, _: int) -> None:
        if done == len(ended):  # once at the start, then after each check
            ended.append(time.perf_counter())

    findings = check(data, **given, progress=progress)
    names = given.get("only") or [c.name for c in checks(findings.modality) if not c.asked]
    return _checked(findings, dict(zip(names, np.diff(ended).tolist(), strict=True)))


def ours_table(quick: bool) -> dict[str, Any]:
    frame = table(*_size(TABLE, quick))  # type: ignore[arg-type]
    given = beside(frame)
    return timed(lambda: _check(frame, **given))


def ours_drift(quick: bool) -> dict[str, Any]:
    sides = [table(*_size(DRIFT, quick), seed=seed) for seed in (0, 1)]  # type: ignore[arg-type]
    from explainer.checks.run import check

    check(sides[0][:500], reference=sides[1][:500], only=DRIFT_CHECKS)  # loads what is loaded when first needed
    return timed(lambda: _check(sides[0], reference=sides[1], only=DRIFT_CHECKS))


def ours_pictures(quick: bool) -> dict[str, Any]:
    images, classes = pictures(*_size((PICTURES,), quick))
    return timed(lambda: _check(images, labels=classes))


def pandas_table(quick: bool) -> dict[str, Any]:
    frame = table(*_size(TABLE, quick))  # type: ignore[arg-type]

    def one_liners() -> None:
        frame.describe()
        frame.isna().sum()
        frame.duplicated().sum()
        frame.corr(numeric_only=True)

    return timed(one_liners)


def scipy_drift(quick: bool) -> dict[str, Any]:
    from scipy.stats import chi2_contingency, ks_2samp

    a, b = (table(*_size(DRIFT, quick), seed=seed) for seed in (0, 1))  # type: ignore[arg-type]

    def one_liners() -> None:
        import pandas as pd

        for name in a.columns:
            if a[name].dtype.kind in "fi":
                ks_2samp(a[name].dropna(), b[name].dropna(), method="asymp")
            elif a[name].nunique() <= 1000:
                counts = pd.concat([a[name].value_counts(), b[name].value_counts()], axis=1).fillna(0)
                chi2_contingency(counts.to_numpy().T)

    return timed(one_liners)


def datalab(data: dict[str, Any], issues: dict[str, Any], **given: Any) -> dict[str, Any]:
    """Cleanlab's Datalab, asked for what it can tell without a trained model."""
    from cleanlab import Datalab

    lab = Datalab(data=data, label_name="label", verbosity=0)
    return timed(lambda: lab.find_issues(issue_types=issues, **given))


def datalab_table(quick: bool) -> dict[str, Any]:
    frame = table(*_size(TABLE, quick))  # type: ignore[arg-type]
    numbers = frame.select_dtypes("number").fillna(0).to_numpy(dtype=np.float32)
    numbers = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    issues: dict[str, Any] = {"null": {}, "outlier": {}, "near_duplicate": {}, "class_imbalance": {}}
    return datalab({"label": beside(frame)["labels"]}, issues, features=numbers)


def datalab_pictures(quick: bool) -> dict[str, Any]:
    images, classes = pictures(*_size((PICTURES,), quick))
    issues: dict[str, Any] = {"null": {}, "outlier": {}, "near_duplicate": {}, "class_imbalance": {}}
    return datalab({"label": classes}, issues, features=images.reshape(len(images), -1).astype(np.float32) / 255)


def ydata_table(quick: bool) -> dict[str, Any]:
    frame = table(*_size(TABLE, quick))  # type: ignore[arg-type]
    from ydata_profiling import ProfileReport

    return timed(lambda: ProfileReport(frame, minimal=True, progress_bar=False).get_description())


CASES: dict[str, Callable[[bool], dict[str, Any]]] = {
    "ours_table": ours_table,
    "pandas_table": pandas_table,
    "datalab_table": datalab_table,
    "ydata_table": ydata_table,
    "ours_drift": ours_drift,
    "scipy_drift": scipy_drift,
    "ours_pictures": ours_pictures,
    "datalab_pictures": datalab_pictures,
}
PEERS = {
    "table": {
        "pandas_table": "pandas: describe, isna, duplicated, corr",
        "datalab_table": "cleanlab Datalab: null, outlier, near duplicate, imbalance",
        "ydata_table": "ydata-profiling, minimal",
    },
    "drift": {"scipy_drift": "scipy: ks_2samp, chi2_contingency by column"},
    "pictures": {"datalab_pictures": "cleanlab Datalab: null, outlier, near duplicate, imbalance"},
}


def alone(case: str, quick: bool, limit: float = LIMIT) -> dict[str, Any] | str:
    """What one case took in a fresh process, or why it gave nothing."""
    command = [sys.executable, __file__, "--case", case, *(["--quick"] if quick else [])]
    threads = {name: THREADS for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env={**os.environ, **threads}, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {limit:g} s"
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}, most likely out of memory"])[-1][:200]


def measure(quick: bool = False) -> Results:
    """Seconds and memory of all cases."""
    rows, columns = _size(TABLE, quick)
    drawn = _size(DRIFT, quick)
    (images,) = _size((PICTURES,), quick)
    what = {
        "table": (f"{rows:,} rows x {columns} columns, all table checks", 60.0, 2.0),
        "drift": (f"drift of {drawn[0]:,} x {drawn[1]} against as many", 2.0, None),
        "pictures": (f"{images:,} pictures of {SIDE} x {SIDE}, all picture checks", 20.0, None),
    }
    found = {case: alone(case, quick) for case in track(CASES, "data", transient=True)}
    results = Results()
    for name, (title, seconds, memory) in what.items():
        mine = found[f"ours_{name}"]
        if isinstance(mine, str):
            results.notes.append(f"{title}: {mine}")
            continue
        detail = f"{mine['checks']} checks ({', '.join(f'{n} {state}' for state, n in mine['counts'].items())}); longest: "
        detail += ", ".join(f"{check} {s:g} s" for check, s in mine["slowest"].items())
        results.figures.append(Figure(title, "two cores", _one(mine["seconds"]), seconds, True, "s", detail, WHY))
        if memory is not None:
            data = f"{mine['before']:.2f} GB of it held before, by libraries and data"
            results.figures.append(Figure(title, "peak of the process", _one(mine["gigabytes"]), memory, True, "GB", data, WHY))
        for case, peer in PEERS[name].items():
            theirs = found[case]
            if isinstance(theirs, str):
                results.notes.append(f"{title}: {peer}: {theirs}")
                continue
            told = f"{theirs['seconds']:.1f} s and {theirs['gigabytes']:.2f} GB, ours {mine['seconds']:.1f} s"
            results.figures.append(Figure(title, peer, _one(theirs["seconds"] / mine["seconds"]), detail=told))
    return results


def _one(value: float) -> Spread:
    return Spread(value, value, value)


def main(
    quick: Annotated[bool, typer.Option(help="A fiftieth of the rows: to see that it works, not to quote.")] = False,
    case: Annotated[str | None, typer.Option(help="Run one case here and print what it took; the command does so itself.")] = None,
) -> None:
    """Print seconds, memory and ratios of the data checks."""
    if case is None:
        measure(quick).show()
    else:
        print(json.dumps(CASES[case](quick)))


if __name__ == "__main__":
    typer.run(main)
