"""Files with bytes changed, cut, put in or exchanged, files that lie about their size, and frames of odd columns.

Nothing may raise but InvalidInput that says what to do, nothing unreadable may pass in silence, and time and memory stay bounded: the
files are read in a child process under limits.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from explainer.checks.finding import STATES
from explainer.checks.run import check

MUTATIONS = 14  # of each of five kinds
SECONDS, BYTES = 20, 1_500_000_000  # a file may take, and the child may hold
CHILD = """
import json, resource, signal, sys, time
from pathlib import Path

resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))
from explainer.checks.run import check
from explainer.errors import InvalidInput

def late(*_):
    raise TimeoutError("too slow")

signal.signal(signal.SIGALRM, late)
for path in sorted(Path(sys.argv[1]).iterdir()):
    told = {"name": path.name}
    begun = time.perf_counter()
    signal.alarm(int(sys.argv[2]))
    try:
        findings = check(path, memory=1_000 if sys.argv[3] == "in parts" and path.suffix in (".csv", ".parquet", ".jsonl") else None)
        told |= {"rows": findings.rows, "errors": [f.message for f in findings.of("error")]}
        unread = next(f for f in findings if f.check == "unreadable items")
        told |= {"unread": unread.state, "lost": unread.count, "why": unread.message}
    except InvalidInput as error:
        told["refused"] = str(error)
    except BaseException as error:
        told["uncaught"] = f"{type(error).__name__}: {error}"[:300]
    signal.alarm(0)
    told["seconds"] = time.perf_counter() - begun
    told["bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(told), flush=True)
"""


def read_apart(folder: Path, how: str = "whole") -> dict[str, dict]:
    """What a child process under limits says of each file of a folder; "in parts" with so little memory that tables are kept on disk."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(SECONDS), how], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {one["name"]: one for one in map(json.loads, done.stdout.splitlines())}


def sound(told: dict) -> bool:
    """Neither an uncaught error nor a broken check; a refusal says what to do."""
    assert "uncaught" not in told, told
    assert not told.get("errors"), told
    assert told["seconds"] < SECONDS, told
    assert told["bytes"] < BYTES, told
    if "refused" in told:
        assert any(word in told["refused"] for word in ("Pass", "pass", "Valid", "Name", "Load", "Install")), told
        return False
    return True


# -- bytes -----------------------------------------------------------------------------------------------------------------


def whole(suffix: str) -> bytes:
    """A small sound file of a kind."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.integers(18, 90, 60), "income": rng.normal(3000, 500, 60).round(2)})
    frame["city"], frame["note"] = rng.choice(["Łódź", "Roma", "Paris"], 60), [f"note {i} of the clerk" for i in range(60)]
    held = io.BytesIO()
    if suffix == "csv":
        return frame.to_csv(index=False).encode()
    if suffix == "parquet":
        frame.to_parquet(held)
    elif suffix == "jsonl":
        return "".join(json.dumps({"text": f"a text about {i} and {i * 7919 % 101}"}) + "\n" for i in range(60)).encode()
    elif suffix == "npz":
        np.savez_compressed(held, x=rng.normal(size=(60, 8, 8)), y=np.arange(60) % 3)
    else:
        picture = Image.fromarray((rng.random((28, 28, 3)) * 255).astype(np.uint8))
        picture.save(held, {"png": "PNG", "jpg": "JPEG"}[suffix])
    return held.getvalue()


def mutated(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    held = bytearray(content)
    at, size = int(rng.integers(len(held))), int(rng.integers(1, 9))
    if kind == "flip":
        for place in rng.integers(0, len(held), size):
            held[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del held[max(1, at) :]
    elif kind == "insert":
        held[at:at] = rng.bytes(size)
    elif kind == "lose":
        del held[at : at + size]
    else:
        other = int(rng.integers(len(held)))
        held[at : at + size], held[other : other + size] = held[other : other + size], held[at : at + size]
    return bytes(held)


KINDS = ("flip", "cut", "insert", "lose", "swap")


WAYS = [(s, "whole") for s in ("csv", "parquet", "png", "jpg", "npz", "jsonl")] + [(s, "in parts") for s in ("csv", "parquet", "jsonl")]


@pytest.mark.parametrize(("suffix", "how"), WAYS)
def test_files_with_mutated_bytes_are_read_in_bounds_or_told(tmp_path: Path, suffix: str, how: str) -> None:
    content, rng = whole(suffix), np.random.default_rng(len(suffix))
    for kind in KINDS:
        for k in range(MUTATIONS):
            (tmp_path / f"{kind}-{k:02d}.{suffix}").write_bytes(mutated(content, kind, rng))
    (tmp_path / f"whole.{suffix}").write_bytes(content)
    told = read_apart(tmp_path, how)
    assert len(told) == len(KINDS) * MUTATIONS + 1
    assert told[f"whole.{suffix}"]["unread"] == "pass", told[f"whole.{suffix}"]
    for name, one in told.items():
        if not sound(one):
            continue
        mutant = (tmp_path / name).read_bytes()
        if suffix in ("csv", "jsonl"):
            if b'"' not in mutant or suffix == "jsonl":
                lines = [line for line in mutant.split(b"\n") if line.strip()]
                assert one["rows"] + one["lost"] >= len(lines) - (suffix == "csv"), (one, len(lines))
            try:
                mutant.decode("utf-8")
            except UnicodeDecodeError:
                assert one["unread"] == "fail", one
        elif name.startswith("cut"):
            assert one["unread"] == "fail", one


@pytest.mark.parametrize("how", ["whole", "in parts"])
def test_a_line_of_a_csv_cut_short_is_told(tmp_path: Path, how: str) -> None:
    lines = whole("csv").decode().splitlines()
    (tmp_path / "end.csv").write_text("\n".join(lines)[:-30])
    (tmp_path / "middle.csv").write_text("\n".join([*lines[:20], lines[20][:2], *lines[21:]]))
    (tmp_path / "sound.csv").write_text("\n".join([*lines, "40,,Roma,", '41,1.5,"Ro,ma",x']))
    told = read_apart(tmp_path, how)
    assert {name: one["unread"] for name, one in told.items()} == {"end.csv": "fail", "middle.csv": "fail", "sound.csv": "pass"}


def test_a_line_separator_inside_a_json_string_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"one\u2028two\x85three {i}"}, ensure_ascii=False) + "\r\n" for i in range(40)), "utf-8")
    findings = check(path)
    assert findings.rows == 40
    assert next(f for f in findings if f.check == "unreadable items").state == "pass"


# -- files that lie ----------------------------------------------------------------------------------------------------------


def npz_of(shape: str, dtype: str, body: bytes) -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + body)
    return held.getvalue()


def zeros_npz(gigabytes: int) -> bytes:
    """A true bomb: an array of zeros that takes a thousandth of its size on the disk."""
    held = io.BytesIO()
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({gigabytes}, 1024, 1048576)}}".ljust(117) + "\n"
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w", force_zip64=True) as member:
        member.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
        for _ in range(gigabytes * 64):
            member.write(bytes(2**24))
    return held.getvalue()


def png_of(width: int, height: int, body: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(body or bytes(100))) + chunk(b"IEND", b"")


def repeated_parquet(rows: int) -> bytes:
    """One value so many times: run lengths make it a file of a few hundred bytes a million rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = io.BytesIO()
    part = pa.table({f"c{i}": pa.array(np.zeros(10**6)) for i in range(20)})
    with pq.ParquetWriter(held, part.schema, compression="zstd") as writer:
        for _ in range(rows // 10**6):
            writer.write_table(part, row_group_size=10**6)
    return held.getvalue()


@pytest.mark.parametrize("how", ["whole", "in parts"])
def test_files_that_claim_more_than_they_hold_are_told_in_bounds(tmp_path: Path, how: str) -> None:
    (tmp_path / "header.npz").write_bytes(npz_of("(1000000000, 8)", "<f8", bytes(64)))
    (tmp_path / "overflow.npz").write_bytes(npz_of("(9999999999999999999,)", "<f8", bytes(64)))
    (tmp_path / "negative.npz").write_bytes(npz_of("(-5, 3)", "<f8", bytes(64)))
    (tmp_path / "bomb.npz").write_bytes(zeros_npz(4))
    (tmp_path / "huge.png").write_bytes(png_of(100_000, 100_000))
    (tmp_path / "large.png").write_bytes(png_of(12_000, 12_000, bytes(12_001 * 12_000)))
    (tmp_path / "rows.parquet").write_bytes(repeated_parquet(20 * 10**6))
    (tmp_path / "deep.jsonl").write_text("[" * 200_000 + "\n" + '{"text": "sound"}\n')
    (tmp_path / "long.jsonl").write_text('{"a": ' + "9" * 10_000 + "}\n")
    (tmp_path / "wide.csv").write_text(",".join(f"c{i}" for i in range(3000)) + "\n" + ",".join("1" for _ in range(3000)) + "\n")
    (tmp_path / "quote.csv").write_text('a,b\n1,"2\n' + "3,4\n" * 50_000)
    (tmp_path / "nul.csv").write_bytes(b"a,b\n1,2\n" + b"\x00" * 1000 + b"\n3,4\n")
    (tmp_path / "utf16.csv").write_bytes("a,b\n1,2\n3,4\n".encode("utf-16"))
    told = read_apart(tmp_path, how)
    for one in told.values():
        sound(one)
    passed = {name for name, one in told.items() if one.get("unread") != "fail"}
    assert passed <= {"wide.csv"}, {name: told[name] for name in passed}


# -- frames of odd columns ---------------------------------------------------------------------------------------------------

INTS, FLOATS = st.integers(-(2**63), 2**63 - 1), st.floats(allow_subnormal=True)
LETTERS = st.text(st.characters(exclude_categories=()), max_size=6)  # lone surrogates included
MOMENTS = st.integers(-(2**62), 2**62)
OBJECTS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**400), 10**400), st.floats(), LETTERS, st.binary(max_size=4), st.decimals(),
    st.complex_numbers(), st.datetimes(), st.dates(), st.times(), st.timedeltas(), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2), st.frozensets(st.integers(), max_size=2),
    st.sampled_from([pd.NA, pd.NaT, np.nan, object(), Ellipsis, np.array([1, 2]), pd.Interval(0, 1), pd.Period("2020-01", "M")]),
)  # fmt: skip


def maybe(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(st.none(), values)


def column_kinds(n: int) -> st.SearchStrategy:
    def many(values: st.SearchStrategy) -> st.SearchStrategy:
        return st.lists(values, min_size=n, max_size=n)

    def typed(values: st.SearchStrategy, kind: object) -> st.SearchStrategy:
        return many(maybe(values)).map(lambda held: pd.array(held, dtype=kind))

    small = st.integers(-5, 5)
    return st.one_of(
        many(OBJECTS).map(_as_objects),
        many(FLOATS).map(np.array),
        many(INTS).map(lambda held: np.array(held, dtype=np.int64)),
        many(st.integers(0, 2**64 - 1)).map(lambda held: np.array(held, dtype=np.uint64)),
        many(st.booleans()).map(lambda held: np.array(held, dtype=bool)),
        many(st.complex_numbers()).map(lambda held: np.array(held, dtype=complex)),
        many(small).map(lambda held: np.array(held, dtype=np.float16)),
        many(MOMENTS).map(lambda held: np.array(held, dtype="datetime64[ns]")),
        many(st.integers(-(2**40), 2**40)).map(lambda held: pd.Series(np.array(held, dtype="datetime64[s]")).dt.tz_localize("UTC").array),
        many(MOMENTS).map(lambda held: np.array(held, dtype="timedelta64[ns]")),
        typed(INTS, "Int64"), typed(st.floats(), "Float64"), typed(st.booleans(), "boolean"),
        typed(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), "string"),
        many(maybe(st.text(max_size=2))).map(pd.Categorical),
        many(maybe(small)).map(lambda held: pd.Categorical(held, ordered=True)),
        many(st.sampled_from([0.0, 0.0, 1.0, np.nan])).map(pd.arrays.SparseArray),
        many(st.integers(0, 300)).map(lambda held: pd.PeriodIndex.from_ordinals(np.array(held, dtype=np.int64), freq="M").array),
        many(small).map(lambda held: pd.arrays.IntervalArray.from_arrays(np.array(held, dtype=float), np.array(held, dtype=float) + 1)),
        many(maybe(st.lists(small, max_size=2))).map(_arrow_lists),
    )  # fmt: skip


def _as_objects(held: list) -> pd.Series:
    array = np.empty(len(held), dtype=object)
    for i, one in enumerate(held):  # numpy would take lists apart
        array[i] = one
    return pd.Series(array, dtype=object)  # told so, pandas leaves them as they are


def _arrow_lists(held: list) -> object:
    import pyarrow as pa

    return pd.array(held, dtype=pd.ArrowDtype(pa.list_(pa.int64())))


NAMES = st.one_of(
    st.sampled_from(["a", "a ", "b", "", "label"]), st.none(), st.integers(), LETTERS, st.tuples(st.text(max_size=1), st.integers())
)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    n, width = draw(st.sampled_from([0, 1, 2, 5, 33])), draw(st.integers(0, 4))
    columns = [draw(column_kinds(n)) for _ in range(width)]
    frame = pd.DataFrame({i: one for i, one in enumerate(columns)}, index=range(n))
    if draw(st.booleans()):
        frame.columns = pd.Index([draw(NAMES) for _ in range(width)], dtype=object, tupleize_cols=False)
    elif width and draw(st.booleans()):
        frame.columns = pd.MultiIndex.from_tuples([("top", draw(st.integers(0, 1))) for _ in range(width)])
    if n and draw(st.booleans()):
        frame.index = pd.Index([0] * n)
    return frame


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames(), st.data())
def test_frames_of_odd_columns_yield_findings(frame: pd.DataFrame, data: st.DataObject) -> None:
    labels = list(data.draw(column_kinds(len(frame)))) if data.draw(st.booleans()) else None
    findings = check(frame, labels, modality="tabular", reference=frame, reference_labels=labels)
    assert findings.rows == len(frame)
    assert not findings.of("error"), [f"{f.check}: {f.message}" for f in findings.of("error")]
    assert all(f.state in STATES and f.message.strip() for f in findings)
    assert all(0 <= row < len(frame) for f in findings for row in f.rows)
    json.loads(findings.to_json())
    findings.to_json().encode("utf-8", "surrogatepass")
