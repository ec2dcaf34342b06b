"""Defects of images and of texts."""

from __future__ import annotations

import base64
import io
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from defect import Planted, changed, defect, some
from twins import Sample

# -- images ------------------------------------------------------------------------------------------------------------------


def folder(s: Sample, write: Callable[[int, np.ndarray], tuple[str, bytes]]) -> Sample:
    """The images as files, each as ``write(row, image)`` says: its suffix and its bytes."""
    room = Path(tempfile.mkdtemp())
    for row, image in enumerate(s.inputs):
        suffix, content = write(row, image)
        (room / f"{row:05d}.{suffix}").write_bytes(content)
    return replace(s, inputs=room)


def encoded(image: np.ndarray, kind: str = "PNG", mode: str = "L", **saved: Any) -> bytes:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray((np.asarray(image) * 255).round().astype(np.uint8)).convert(mode).save(held, kind, **saved)
    return held.getvalue()


def exif(camera: str | None = None, place: tuple[float, float] | None = None) -> Any:
    from PIL import Image

    held = Image.Exif()
    if camera:
        held[0x010F], held[0x0110] = camera, f"{camera} 3"
    if place:
        held.get_ifd(0x8825).update({1: "N", 2: (place[0], 21.0, 4.0), 3: "W", 4: (place[1], 3.0, 9.0)})
    return held


def photographed(s: Sample, rng: np.random.Generator) -> Sample:
    """Files by two cameras, whatever they show."""
    cameras = rng.choice(["Leica", "Canon"], s.n)
    return folder(s, lambda row, image: ("jpg", encoded(image, "JPEG", exif=exif(cameras[row]))))


def as_files(s: Sample, rng: np.random.Generator) -> Sample:
    return folder(s, lambda row, image: ("png", encoded(image)))


@defect("unreadable items", "image", "{:.0f} files cut off after a third", (1, 5), 1, as_files, True)
def cut_off(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = set(some(s, rng, strength).tolist())

    def write(row: int, image: np.ndarray) -> tuple[str, bytes]:
        whole = encoded(image)
        return "png", whole[: len(whole) // 3] if row in rows else whole

    return Planted(folder(s, write), np.array(sorted(rows)))


@defect("missing values", "image", "{:.0f} images with one pixel that is no number", (1, 10), 1)
def lost_pixels(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows, images = some(s, rng, strength), s.inputs.copy()
    images[rows, rng.integers(28), rng.integers(28)] = rng.choice([np.nan, np.inf])
    return Planted(replace(s, inputs=images), rows)


@defect("blank images", "image", "{:.0f} images of one grey", (1, 10), 1)
def one_grey(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows, grey = some(s, rng, strength), rng.random()
    return Planted(changed(s, rows, lambda one: np.full_like(one, grey)), rows)


@defect("image sizes", "image", "{:.0f} images at twice the size", (1, 10), 1)
def twice_the_size(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: np.kron(one, np.ones((2, 2), dtype=one.dtype))), rows)


@defect("aspect ratios", "image", "{:.0f} images of half the height", (1, 3, 20), 3)
def squeezed(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: one[::2]), rows)


@defect("image modes", "image", "{:.0f} colour images among grey ones", (1, 3, 20), 1, as_files, True)
def in_colour(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    mode = str(rng.choice(["RGB", "RGBA"]))
    return Planted(folder(s, lambda row, image: ("png", encoded(image, mode=mode if row in rows else "L"))), rows)


@defect("value ranges", "image", "{:.0f} images in 0 to 255 among images in 0 to 1", (1, 10), 1)
def other_range(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: one * 255), rows)


@defect("dark images", "image", "3 images at {:.0%} of their light", (0.2, 0.05, 0.02), 0.05)
def underexposed(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, 3)
    return Planted(changed(s, rows, lambda one: one * np.float32(strength)), rows)


@defect("light images", "image", "3 images with {:.0%} of their contrast left, on white", (0.2, 0.05, 0.02), 0.05)
def overexposed(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, 3)
    return Planted(changed(s, rows, lambda one: 1 - (1 - one) * np.float32(strength)), rows)


@defect("blurry images", "image", "3 images blurred over {:.0f} pixels", (1, 3, 5), 3)
def out_of_focus(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    from scipy.ndimage import gaussian_filter

    rows = some(s, rng, 3)
    return Planted(changed(s, rows, lambda one: gaussian_filter(one, strength)), rows)


@defect("image metadata", "image", "{:.0%} of the files of one class by another camera", (0.1, 0.6, 1.0), 1.0, photographed, True)
def told_by_the_camera(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    told = (s.labels == rng.choice(np.unique(s.labels.astype(str)))) & (rng.random(s.n) < strength)
    return Planted(folder(s, lambda row, image: ("jpg", encoded(image, "JPEG", exif=exif("Leica" if told[row] else "Canon")))))


@defect("location in metadata", "image", "{:.0f} files that say where they were taken", (1, 10), 1, photographed, True)
def told_where(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    place = exif("Canon", (float(rng.integers(60)), float(rng.integers(120))))
    return Planted(folder(s, lambda row, image: ("jpg", encoded(image, "JPEG", **({"exif": place} if row in rows else {})))), rows)


@defect("patch shortcut", "image", "a grey square of 4 x 4 in a corner of {:.0%} of one class", (0.3, 0.7, 1.0), 0.7)
def stamped(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = np.flatnonzero((s.labels == rng.choice(np.unique(s.labels.astype(str)))) & (rng.random(s.n) < strength))
    images, (y, x) = s.inputs.copy(), rng.choice([0, 24], 2)
    images[rows, y : y + 4, x : x + 4] = 0.8
    return Planted(replace(s, inputs=images), rows)


@defect("label given away", "image", "a pixel that is grey in {:.1%} of one class and in no other image", (0.9, 0.99, 1.0), 1.0)
def marked_pixel(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = np.flatnonzero((s.labels == rng.choice(np.unique(s.labels.astype(str)))) & (rng.random(s.n) < strength))
    images, place = s.inputs.copy(), int(rng.integers(28))
    images[rows, 0, place] = 0.5
    return Planted(replace(s, inputs=images), rows, (f"pixel 0,{place}",))


@defect("outlying values", "image", "{:.0f} images as negatives", (1, 5), 1)
def negatives(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: 1 - one), rows)


@defect("outlying items", "image", "{:.0f} images of noise", (1, 5), 1)
def noise(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: rng.random(one.shape).astype(np.float32)), rows)


@defect("schema", "image", "all images {:.0f} pixels smaller than the reference set's", (1, 8), 1)
def cropped(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return Planted(replace(s, inputs=s.inputs[:, : 28 - int(strength), : 28 - int(strength)], model=None))


# -- texts -------------------------------------------------------------------------------------------------------------------

GERMAN = (
    "Die Software darf für jeden Zweck benutzt, verändert und weitergegeben werden, wenn dieser Hinweis erhalten bleibt. Der Verfasser "
    "haftet nicht für Schäden, die aus ihrem Gebrauch entstehen, und gibt keine Gewähr dafür, dass sie fehlerfrei ist."
)
FRENCH = (
    "Ce logiciel peut être utilisé, modifié et distribué pour tout usage, à condition que la présente mention soit conservée. L'auteur "
    "n'est pas responsable des dommages causés par son utilisation et ne garantit pas qu'il soit exempt de défauts."
)
INSULTS = ("idiot", "moron", "stupid bastard", "fucking")


@defect("missing values", "text", "{:.0f} texts lost", (1, 10), 1)
def lost_texts(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: None), rows)


@defect("empty texts", "text", "{:.0f} texts without a word", (1, 10), 1)
def wordless(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: rng.choice(["  ", "...", "\n", "-"])), rows)


@defect("damaged characters", "text", "{:.0f} texts read in a wrong encoding", (1, 10), 1)
def wrong_encoding(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    word = "© the author’s “work”".encode()
    damaged = [word.decode("cp1252", "replace"), word.decode("ascii", "replace")]
    return Planted(changed(s, rows, lambda one: f"{one} {rng.choice(damaged)}"), rows)


@defect("language", "text", "{:.0f} texts in German or French", (1, 3, 20), 3)
def other_language(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: some_words(rng.choice([GERMAN, FRENCH]), rng)), rows)


def some_words(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    start = int(rng.integers(len(words) - 20))
    return " ".join(words[start : start + 20 + int(rng.integers(20))])


@defect("text lengths", "text", "one text of {:.0f} others run together", (10, 100, 1000), 1000)
def run_together(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, 1)
    return Planted(changed(s, rows, lambda one: " ".join(rng.choice(s.inputs, int(strength)))), rows)


@defect("outlying values", "text", "one text of thirty words or more with {:.0%} of its spaces lost", (0.5, 0.9, 1.0), 1.0)
def without_spaces(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, 1, np.array([len(one.split()) >= 30 for one in s.inputs]))
    return Planted(changed(s, rows, lambda one: re.sub(r"\s+", lambda gap: "" if rng.random() < strength else gap.group(), one)), rows)


@defect("unknown words", "text", "3 texts with {:.0%} of their words in letters no one has met", (0.2, 0.7, 1.0), 1.0)
def unheard_of(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, 3, np.array([len(one.split()) >= 15 for one in s.inputs]))

    def scrambled(one: str) -> str:
        return " ".join(made_up(rng) if rng.random() < strength else word for word in one.split())

    return Planted(changed(s, rows, scrambled), rows)


def made_up(rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("bcdfghjklmnpqrstvwxzaeiou"), int(rng.integers(4, 9))))


class Reader:
    """What reads 300 words of a text and no further, as the tokenisers of models do."""

    max_length = 300

    def offsets(self, texts: list[str]) -> list[list[tuple[int, int]]]:
        return [[hit.span() for hit in re.finditer(r"\S+", one)][: self.max_length] for one in texts]


class Short:
    """The sample's model behind such a reader."""

    def __init__(self, model: Any) -> None:
        self.model, self.preprocess = model, Reader()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def read_in_part(s: Sample, rng: np.random.Generator) -> Sample:
    return replace(s, model=Short(s.model))


@defect("truncated texts", "text", "{:.1%} of texts longer than the 300 words that the model reads", (0.005, 0.03, 0.3), 0.03, read_in_part)
def too_long(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: " ".join((one.split() * 300)[:400])), rows)


@defect("label words", "text", "a sentence with its name in {:.0%} of the texts of one class", (0.05, 0.5, 1.0), 0.5)
def named_class(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    name = str(rng.choice(["Copyleft", "Commercial", "Permissive"]))
    rows = np.flatnonzero((s.labels == name) & (rng.random(s.n) < strength))
    return Planted(changed(s, rows, lambda one: f"{one} Kind: {name.lower()}."), rows)


@defect("label given away", "text", "one word in {:.0%} of the texts of one class and in no other", (0.5, 0.95, 1.0), 0.95)
def marked_word(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = np.flatnonzero((s.labels == rng.choice(np.unique(s.labels.astype(str)))) & (rng.random(s.n) < strength))
    return Planted(changed(s, rows, lambda one: f"{one} zebra"), rows, ("word zebra",))


@defect("drift", "text", "two words more in {:.0%} of texts", (0.05, 0.2, 0.9), 0.2)
@defect("drift, all together", "text", "two words more in {:.0%} of texts", (0.05, 0.2, 0.9), 0.9)
def other_words(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return Planted(changed(s, some(s, rng, strength), lambda one: one + " pursuant hereto"), None, ("word pursuant", "word hereto"))


@defect("toxic words", "text", "{:.0f} texts with an insult (the check is asked for by name)", (1, 10), 1)
def insulting(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: f"{one} You {rng.choice(INSULTS)}."), rows)


@defect("personal data", "text", "{:.0f} texts with an e-mail address, telephone or social security number", (1, 5, 50), 5)
def named_person(s: Sample, rng: np.random.Generator, strength: float, form: str = "{}") -> Planted:
    from tabledefects import personal

    def said() -> str:
        kind = str(rng.choice(["mail", "phone", "security"]))
        return (form if kind == "security" else "{}").format(personal(kind, rng))

    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: f"{one} Write to {said()}."), rows)


@defect(
    "personal data, presidio", "text", "{:.0f} texts with an e-mail address, telephone or security number ('SSN' before these)",
    (1, 5), 5, every=5,
)  # fmt: skip
def person_said(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    return named_person(s, rng, strength, "SSN {}")


@defect("outlying items", "text", "{:.0f} texts as base64, as a mail's attachment is", (1, 3, 10), 3)
def attached(s: Sample, rng: np.random.Generator, strength: float) -> Planted:
    """Texts of capitals and digits, which were planted here at first, are no strange sight among licences."""
    rows = some(s, rng, strength)
    return Planted(changed(s, rows, lambda one: base64.b64encode(one.encode()).decode()), rows)
