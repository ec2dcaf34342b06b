"""Licence notices: short legal texts, each of one category, that come with licensedcode-data (nexB, CC BY 4.0)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from explainer.errors import CorruptFile
from explainer.explanation import write_atomic
from zoo.data import Data, Split, need, package, stratified
from zoo.preprocess import Tokens

SOURCE = "licensedcode-data {version} (nexB): licence notices and texts of 8 to 200 words, one category each"
RULE = "stratified by category with seed 0: 70 % train, 10 % validation, 20 % test; no two texts are nearly the same"
CLASSES = ("Permissive", "Copyleft", "Copyleft Limited", "Commercial", "Public Domain")
WORDS = (8, 200)
SCHEMA = 5

# The names that give the answer away; masked to measure what is left without them.
NAMES = re.compile(
    r"\b(?:[al]?gpl(?:v?\d(?:\.\d)*)?\+?|gnu|fsf|free software foundation|(?:lesser|library|affero) general public|general public|"
    r"mit|x11|isc|bsd|apache(?: software foundation)?|asf|mozilla|mpl|npl|netscape|eclipse|epl|cddl|cpl|artistic|zlib|boost|"
    r"creative commons|cc[ -]?(?:by|0|zero)(?:-\w+)*|unlicense|wtfpl|public domain|copyleft|copylefted|proprietary|commercial|"
    r"(?:open|free) (?:source|software)|lgpl|agpl|eupl|qpl|psf|python software foundation|w3c|openssl|php|sleepycat|ruby)\b",
    re.IGNORECASE,
)


def load() -> Data:
    """Texts, a list of str, and their category."""
    table = prepared()
    labels = np.array([CLASSES.index(category) for _, category in table], dtype=np.int64)
    train, validation, test = (Split([table[i][0] for i in rows], labels[rows]) for rows in stratified(labels, (0.7, 0.1, 0.2)))
    return Data(train, validation, test, CLASSES, SOURCE.format(version=metadata.version("licensedcode-data")), RULE)


def background(data: Data) -> None:
    """Texts need no background: a word is switched off by a mask token."""


def augment(batch: dict[str, Any], generator: Any) -> dict[str, Any]:
    """Put [MASK] on a share of each text's tokens, drawn between none and 30 %: no single word is to be relied on.

    It also teaches the model what an explanation does when it switches words off.
    """
    import torch

    ids = batch["ids"]
    share = 0.3 * torch.rand((len(ids), 1), generator=generator)
    hidden = (torch.rand(ids.shape, generator=generator) < share).to(ids.device) & batch["mask"]
    hidden[:, 0] = False  # [CLS]
    return {**batch, "ids": torch.where(hidden, Tokens.MASK_ID, ids)}


def masked(texts: Iterable[str]) -> list[str]:
    """The texts with the names of licences and of their kinds replaced by "this"."""
    return [NAMES.sub("this", text) for text in texts]


def prepared() -> list[tuple[str, str]]:
    """The table of (text, category), read once from 37,000 small files and then kept in the user's cache with its sha256."""
    folder = package("licensedcode", "licensedcode-data") / "data"
    version = metadata.version("licensedcode-data")
    caches = Path(need("platformdirs", "The cache of licence notices").user_cache_path("explainer-toolkit"))
    cache = caches / f"licences-{version}-{SCHEMA}.json"
    kept = cached(cache)
    if kept is not None:
        return kept
    table = extract(folder)
    keep(cache, table)
    return table


def cached(path: Path) -> list[tuple[str, str]] | None:
    """The cached table, or None when there is none or it is not what was written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["sha256"] == digest(content["rows"]):
            return [(text, category) for text, category in content["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def keep(path: Path, table: list[tuple[str, str]]) -> None:
    """Write the table to the cache; a cache that cannot be written only costs time."""
    text = json.dumps({"sha256": digest(table), "rows": table}, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda handle: handle.write(text.encode()))
    except OSError:
        return


def digest(rows: Any) -> str:
    """sha256 of the rows as JSON."""
    return hashlib.sha256(json.dumps([list(row) for row in rows]).encode()).hexdigest()


def extract(folder: Path) -> list[tuple[str, str]]:
    """Read every licence and rule file: English texts and notices of one category, of 8 to 200 words, no text twice."""
    from rich.progress import track

    if not (folder / "rules").is_dir():
        raise CorruptFile(f"{folder} holds no licence rules. Install them again: pip install --force-reinstall licensedcode-data")
    licences = [(head, text) for head, text in map(parse, sorted((folder / "licenses").glob("*.LICENSE")))]
    category = {head["key"]: head.get("category", "") for head, _ in licences if "key" in head}
    candidates = [(text, category.get(head.get("key", ""), "")) for head, text in licences if usable(head)]
    for path in track(sorted((folder / "rules").glob("*.RULE")), description="Reading licence notices (once)"):
        head, text = parse(path)
        if usable(head) and ("is_license_notice" in head or "is_license_text" in head):
            categories = {category.get(key, "") for key in keys(head.get("license_expression", ""))}
            if len(categories) == 1:
                candidates.append((text, categories.pop()))
    return unlike(distinct(candidates))


def parse(path: Path) -> tuple[dict[str, str], str]:
    """The head's top-level fields and the text after it, on one line, without the marks of required phrases."""
    content = path.read_text(encoding="utf-8", errors="replace")
    head, text = "", content
    if content.startswith("---") and (end := content.find("\n---", 3)) > 0:
        head, text = content[3:end], content[end + 4 :]
    fields = {m[1]: m[2].strip() for m in re.finditer(r"^(\w+):[ ]*(.*)$", head, re.MULTILINE)}
    return fields, " ".join(text.replace("{{", "").replace("}}", "").split())


def usable(head: dict[str, str]) -> bool:
    """English, and neither withdrawn nor listed as a false alarm."""
    return head.get("language", "en") == "en" and "is_deprecated" not in head and "is_false_positive" not in head


def keys(expression: str) -> list[str]:
    """The licence keys of an expression such as ``gpl-2.0 OR (mit AND bsd-new)``."""
    return [word for word in re.findall(r"[\w.+-]+", expression) if word.upper() not in ("AND", "OR", "WITH")]


def distinct(candidates: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Keep texts of the five categories and of fitting length; of texts with the same words in the same order, the first.

    Digits and punctuation do not count: a notice that differs from another in its year or version is the same notice.
    Texts that are the same and differ in category are all left out: they have no one answer.
    """
    found: dict[str, tuple[str, str]] = {}
    conflicting: set[str] = set()
    for text, category in candidates:
        words = " ".join(re.findall(r"[^\W\d_]+", text.lower()))
        if category not in CLASSES or not WORDS[0] <= len(text.split()) <= WORDS[1] or not words:
            continue
        if found.setdefault(words, (text, category))[1] != category:
            conflicting.add(words)
    return [row for words, row in found.items() if words not in conflicting]


def unlike(table: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Leave out each text that is nearly the same as one kept before it, by the measure of the data checks.

    Half the notices are variations of another one. Left in, a random split would put them on both sides, and the figures
    would say how well a model remembers.
    """
    from explainer.checks.columns import normalised
    from explainer.checks.neighbours import close_texts, shingles

    pieces = [shingles(normalised(text)) for text, _ in table]
    kept = list(range(len(table)))
    # In a crowd of texts alike, each is held against some of the others only: search again until no pair is left.
    while pairs := close_texts([pieces[k] for k in kept]):
        earlier: dict[int, list[int]] = {}
        for i, j, _ in pairs:
            earlier.setdefault(max(i, j), []).append(min(i, j))
        chosen: set[int] = set()
        for i in range(len(kept)):
            if not chosen.intersection(earlier.get(i, ())):
                chosen.add(i)
        kept = [kept[i] for i in sorted(chosen)]
    return [table[k] for k in kept]
