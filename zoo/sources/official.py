"""Data sets that come with no package: found in a folder of the user's, in the cache, or fetched from their source when asked."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explainer.errors import CorruptFile, ExplainerError, InvalidInput, MissingDependency, unknown
from explainer.progress import reporter

FOLDER = "EXPLAINER_DATA"  # the environment variable that names the user's folder
CHUNK = 2**18  # bytes


@dataclass(frozen=True)
class Source:
    """One file: its sha256, what and where the original is, and, where this very file is published, its address."""

    file: str
    sha256: str
    origin: str
    address: str = ""


SOURCES = {
    "pneumonia": Source(
        "pneumoniamnist.npz",
        "d0bfa3330f26554c4117328b1117f52bfb3746404b0594c58f37a09b4314d396",
        "PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023), https://doi.org/10.5281/zenodo.10519652",
        "https://zenodo.org/records/10519652/files/pneumoniamnist.npz",
    ),
    "mnist": Source(
        "mnist.npz",
        "d0d83dc1fbd8ab26219bc0e85220bd32d07833b3245a2effc0ea4a79df85fcbe",
        "MNIST (LeCun et al. 1998), http://yann.lecun.com/exdb/mnist, as arrays x_train, y_train, x_test, y_test",
    ),
    "beats": Source(
        "mitbih_beats_125hz.npz",
        "6f910c2f760fb3ffc5f30da7e62b7f34d2f1c75791a092966fb8f6556e1310d5",
        "the MIT-BIH Arrhythmia Database, https://doi.org/10.13026/C2F305, as beats of 128 samples at 125 Hz",
    ),
    "speech": Source(
        "fsdd_wav.zip",
        "03100f0b6656d55807b48a37bf2db9df63306063cde50345aa763c06622efb08",
        "the Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset, as one zip of its wav files",
    ),
    "clauses": Source(
        "tos100.csv",
        "8ce50252535cedc4a3db3aee4518a32137a0ad6fbc7e3b1cb79c7b2d9842fc6e",
        "ToS-100 (Ruggeri et al. 2021), https://doi.org/10.1007/s10506-021-09288-2, as one csv of clauses",
    ),
    "default": Source(
        "taiwan_credit_default.csv",
        "5c69a6b4e167dac42c4b22665330404fe49928a198de44d2d061b800cb65f9b1",
        "Default of Credit Card Clients (Yeh and Lien 2009), https://doi.org/10.24432/C55S3H, as csv",
    ),
}


def locate(name: str) -> Path:
    """The file of the data set ``name``, its sha256 checked. Raises MissingDependency where it is not at hand, CorruptFile."""
    source = SOURCES[name] if name in SOURCES else _unknown(name)
    path = _place(source)
    if path is None:
        raise MissingDependency(missing(name))
    return _checked(path, source)


def missing(name: str) -> str:
    """One sentence that says what to do where the data set ``name`` is not at hand, else nothing."""
    source = SOURCES[name] if name in SOURCES else _unknown(name)
    if _place(source) is not None:
        return ""
    return f"The data set {source.file} is not on this machine: {_how(name, source)}"


def _how(name: str, source: Source) -> str:
    """What to do for it, to the end of a sentence."""
    if source.address:
        return f"run explainer fetch {name}, or put it ({source.origin}) into a folder and name that in {FOLDER}."
    return (
        f"it was prepared from {source.origin}, is not published in this form, and must be put, as the file whose sha256 begins "
        f"with {source.sha256[:16]}, into a folder that {FOLDER} names."
    )


def _place(source: Source) -> Path | None:
    folders = [Path(os.environ[FOLDER])] if os.environ.get(FOLDER) else []
    return next((folder / source.file for folder in [*folders, cache()] if (folder / source.file).is_file()), None)


def fetch(name: str, progress: Any = True) -> Path:
    """Download the data set ``name`` from its official source into the user's cache; the only function here that uses the network.

    Raises InvalidInput where the source does not offer this very file, ExplainerError where the download fails, CorruptFile.
    """
    import urllib.request

    source = SOURCES[name] if name in SOURCES else _unknown(name)
    if not source.address:
        raise InvalidInput(f"{source.file} cannot be fetched: {_how(name, source)}")
    path = cache() / source.file
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with urllib.request.urlopen(source.address, timeout=30) as response, part.open("wb") as out, reporter(progress, name) as report:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while content := response.read(CHUNK):
                out.write(content)
                done += len(content)
                report(done, max(total, done))
        _checked(part, source)
        part.replace(path)
    except OSError as error:
        if isinstance(error, ExplainerError):
            raise
        raise ExplainerError(f"{source.address} could not be read: {error}. Try again, or set {FOLDER} to a folder that has it.") from None
    finally:
        part.unlink(missing_ok=True)
    return path


def cache() -> Path:
    """Where fetched data sets are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("explainer-toolkit") / "data"


def _checked(path: Path, source: Source) -> Path:
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != source.sha256:
        raise CorruptFile(
            f"{path} is not the file the zoo was trained on: its sha256 is {found[:16]}..., {source.sha256[:16]}... is expected. "
            "Fetch it again, or take the folder out of " + FOLDER + "."
        )
    return path


def _unknown(name: str) -> Source:
    raise unknown("data set", name, SOURCES)
