"""Find a specimen by name, check its files against their sha256, and load it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainer.errors import CorruptFile, InvalidInput, Unsupported
from zoo import pinned
from zoo.recipes import Recipe, recipe
from zoo.specimens import RECIPES

if TYPE_CHECKING:
    from explainer.model import Model
    from zoo.data import Data

WEIGHTS = Path(__file__).parent / "weights"
NETWORK = {"model.safetensors", "preprocess.json"}
ESTIMATOR = {"model.skops"}
TRUSTED = ("sklearn", "numpy", "scipy")  # packages whose types a scikit-learn specimen may hold
LARGEST = 64 * 2**20  # bytes; a file above this is no specimen of ours and is not read into memory


@dataclass(frozen=True, eq=False)
class Specimen:
    """A trained model with its data, card and training record; what costs time is loaded when first used."""

    name: str
    folder: Path
    record: dict[str, Any]

    @cached_property
    def model(self) -> Model:
        """The network behind the :class:`explainer.Model` face, in eval mode on the CPU.

        Raises CorruptFile, MissingDependency where the pretrained weights it starts from are not installed.
        """
        return build(recipe(self.name), self.folder, self.record)

    @cached_property
    def data(self) -> Data:
        """The fixed splits. Raises MissingDependency when the package they come with is not installed."""
        data = recipe(self.name).data()
        if data.sha256 != self.record["data_sha256"]:
            warnings.warn(
                f"The data of {self.name} are not those it was trained on (another version of the package they come with?): the "
                "figures in its record will not be met, and test rows may have been trained on.",
                stacklevel=2,
            )
        return data

    def truth(self, inputs: Any) -> Any:
        """The attribution that is right by construction, in the form the explanations have; only planted specimens have one."""
        from zoo.recipes import resolve

        chosen = recipe(self.name)
        if not chosen.truth:
            planted = [name for name, one in RECIPES.items() if one.truth]
            raise Unsupported(f"The true attribution of {self.name} is not known; it is for {', '.join(planted)}.")
        return resolve(chosen.truth)(self, inputs)

    @cached_property
    def card(self) -> str:
        """The model card, in Markdown."""
        return (self.folder / "card.md").read_text(encoding="utf-8")

    def __repr__(self) -> str:
        metric = self.record["metric"]
        return f"<Specimen {self.name}: {self.record['modality']}, {metric} {self.record['metrics'][metric]['value']:.3f}>"


def names() -> tuple[str, ...]:
    """Every specimen that comes with the toolkit."""
    return tuple(RECIPES)


def load(name: str, folder: str | Path | None = None) -> Specimen:
    """Load the specimen ``name``, from ``folder`` where ``train`` wrote it, else the one that comes with the toolkit.

    Every file is checked against the sha256 in the record before it is parsed.
    Raises UnknownName with the nearest valid name, InvalidInput for a folder without a specimen, CorruptFile.
    """
    recipe(name)
    place = WEIGHTS / name if folder is None else Path(folder)
    record = read_record(place, name)
    for file, expected in record["files"].items():
        checked(place / file, expected)
    return Specimen(name, place, record)


def missing(name: str) -> str:
    """What to do where the data of the specimen ``name``, or the weights it starts from, are not at hand; else nothing."""
    return recipe(name).missing()


def model_for(name: str) -> Model:
    """The model of the specimen ``name``: what ``zoo:NAME`` means on the command line."""
    return load(name).model


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """The training record in ``folder``."""
    path = folder / "record.json"
    try:
        record = json.loads(path.read_bytes())
        found = record["name"]
        if not any(needed <= set(record["files"]) for needed in (NETWORK, ESTIMATOR)):
            raise KeyError("files")
    except FileNotFoundError:
        raise InvalidInput(f"{folder} holds no trained {name}. Train one: explainer train {name} --out {folder}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{path} is not a training record ({type(error).__name__}: {error}). {repair(name)}") from error
    if found != name:
        raise InvalidInput(f"{folder} holds {found!r}, not {name!r}; load it by that name.")
    return record


def checked(path: Path, expected: str) -> bytes:
    """The content of one of a specimen's files, if it is as its record says. Raises CorruptFile."""
    return pinned.content(path, expected, repair(path.parent.name), LARGEST)


def repair(name: str) -> str:
    """What to do about a damaged specimen."""
    return f"Install the toolkit again (pip install --force-reinstall explainer-toolkit), or train it: explainer train {name}"


def build(chosen: Recipe, folder: Path, record: dict[str, Any]) -> Model:
    """Check, parse and put together weights, preprocessing and background."""
    import explainer
    from zoo import background

    files = {name: checked(folder / name, expected) for name, expected in record["files"].items()}
    reference = background.parse(files["background.json"]) if "background.json" in files else None
    names: dict[str, Any] = {
        "modality": chosen.modality,
        "feature_names": record["feature_names"] or None,
        "background": reference,
        "task": "classification" if chosen.task == "classification" else "regression",
        "name": chosen.name,
    }
    if chosen.task != "regression":
        names["class_names"] = record["class_names"]
    if chosen.estimator:
        return explainer.wrap(_estimator(files["model.skops"], folder / "model.skops"), **names)
    module, encode = _network(chosen, files, folder, record)
    if hasattr(encode, "tokenizer"):  # a model of transformers, whose adapter reads the rest off its configuration
        return explainer.wrap((module, encode.tokenizer), **names)
    return explainer.wrap(module, preprocess=encode, returns="logit" if chosen.task == "classification" else None, **names)


def _network(chosen: Recipe, files: dict[str, bytes], folder: Path, record: dict[str, Any]) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    from zoo import checkpoint, preprocess
    from zoo.train import network

    encode = preprocess.parse(files["preprocess.json"])
    module = network(chosen, encode, len(record["class_names"]))
    try:
        checkpoint.put(module, from_bytes(files["model.safetensors"]))
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CorruptFile(f"{folder / 'model.safetensors'} does not fit {chosen.network} ({error}). {repair(chosen.name)}") from error
    return module.eval().requires_grad_(False), encode


def _estimator(content: bytes, path: Path) -> Any:
    """A scikit-learn model from skops: only types of scikit-learn, scipy and numpy are let in, and nothing is unpickled."""
    from zoo.data import need

    skops = need("skops.io", "Loading a scikit-learn model")
    strange = [name for name in skops.get_untrusted_types(data=content) if name.split(".")[0] not in TRUSTED]
    if strange:
        raise CorruptFile(f"{path} holds objects of {', '.join(strange[:5])}, which no specimen has; it was not loaded.")
    return skops.loads(content, trusted=skops.get_untrusted_types(data=content))
