"""How inputs are cut into named parts, per modality, and what stands in for an absent one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.features.base import GIVEN_ROWS, Features, drawn, thinned, word_and_number

BACKGROUND_ROWS = 100  # of the model's own background: each costs a model row per coalition
_AFFORDED = 2**14  # model rows that all coalitions of few columns may take, where that is more background rows
_COPULA_DRAWS = 50
FITTED_ROWS = 10_000  # of the background, that a conditional absence is fitted to

# The words that ``baseline=`` and ``features=`` take, per modality.
BASELINES = {
    "tabular": ("auto", "median", "mean", "copula", "neighbours"),
    "image": ("auto", "zeros", "mean", "blur", "inpaint"),
    "text": ("auto", "remove", "mask"),
    "series": ("auto", "zeros", "mean", "interpolate", "background"),
}
FEATURES = {
    "tabular": ("auto", "correlated", "one-hot"),
    "image": ("auto", "superpixels", "patches"),
    "text": ("auto", "words", "sentences"),
    "series": ("auto", "segments"),
}
# What stands in depends on the parts present, or is a different thing at each draw: not one reference input.
CONDITIONAL = ("copula", "neighbours", "inpaint", "interpolate", "background")
_KINDS = {"tabular": "tables", "image": "images", "text": "text", "series": "series"}


def build(model: Any, inputs: Any, *, features: Any = "auto", baseline: Any = "auto", background: Any = None, seed: int = 0) -> Features:
    """The :class:`Features` of canonical ``inputs`` for ``model``.

    | | ``features``: the parts | ``baseline``: what stands in for an absent part |
    | --- | --- | --- |
    | table | "auto" columns; a mapping group -> columns; "correlated" or ("correlated", 0.7); "one-hot" | "auto" background rows, \
one after the other; "median", "mean" or a given row; "copula" or ("copula", draws); "neighbours" or ("neighbours", k) |
    | image | "auto", "superpixels" or ("superpixels", 200); "patches" or ("patches", 64); label maps | "auto", "zeros" black; \
"mean", "blur", "inpaint", a given picture |
    | text | "auto" words, of long texts sentences; "words"; "sentences" | "auto", "remove"; "mask"; a word to put in its place |
    | series | "auto" or ("segments", 20): time segments x channels; one label per step | "auto" the channel's mean over the \
background; "zeros", "mean", "interpolate", "background", one value per channel |

    With "copula", "neighbours", "inpaint" and "interpolate" what stands in depends on the parts present: values are
    conditional, and differ from marginal ones where parts are correlated. ``background``: rows that stand for the population;
    default is the model's own, of which at most 100 are used, drawn with ``seed`` (of rows given here 500; of either more where all
    coalitions of the columns are few; 10,000 where a conditional absence is fitted to them). The notes say when fewer are used than came.
    Raises Unsupported when a table has neither background nor baseline, UnknownName and InvalidInput for arguments that do
    not fit.
    """
    given = model.background if background is None else model.canonical(background)
    _fits("features", features, FEATURES, model.modality)
    if model.modality != "text":  # any word may stand in for a word
        _fits("baseline", baseline, BASELINES, model.modality)
    most = BACKGROUND_ROWS if background is None else GIVEN_ROWS
    return _BUILDERS[model.modality](model, inputs, features, baseline, given, seed, most)


def _columns(model: Any, inputs: Any, features: Any, baseline: Any, background: Any, seed: int, most: int) -> Features:
    from explainer.features.conditional import Copula, Neighbours, nearest_count
    from explainer.features.tabular import Columns, mean_row, typical_row

    groups, notes = _groups(model, inputs, features, background, seed)
    if not _named(baseline):
        parts = Columns(inputs, model.canonical(baseline).iloc[:1], groups)
    else:
        if background is None:
            raise Unsupported(
                f"{model.name} has no background rows, so an absent column has no value to take. Pass background=training_rows to "
                "explain() or wrap(), or baseline=one_row."
            )
        word, number = word_and_number("table baseline", baseline, BASELINES["tabular"], ("copula", "neighbours"))
        if word in ("copula", "neighbours"):
            known = drawn(background, FITTED_ROWS, seed).reset_index(drop=True)
            if word == "copula":
                draws = _COPULA_DRAWS if number is None else max(2, round(number))
                parts = Columns(inputs, known, groups, Copula(inputs, known, draws, seed))
            else:
                count = nearest_count(len(known)) if number is None else min(len(known), max(1, round(number)))
                parts = Columns(inputs, known, groups, Neighbours(inputs, known, count, seed))
        elif word == "auto":
            used = drawn(background, max(most, _AFFORDED // 2 ** min(inputs.shape[1], 16)), seed)
            parts = Columns(inputs, used, groups, whole=background)
        else:
            row = typical_row(background) if word == "median" else mean_row(background)
            parts = Columns(inputs, row, groups, absence=f"value of the background's {word} row (words: the most frequent)")
    parts.notes = notes
    return parts


def _groups(model: Any, inputs: Any, features: Any, background: Any, seed: int) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
    """Groups of columns, and what is to be said about them."""
    from explainer.features import groups

    if isinstance(features, Mapping):
        return features, ()
    if not _named(features):
        raise InvalidInput(
            f"features= takes a mapping such as {{'address': ['street', 'town']}} for tables, or {_listed(FEATURES['tabular'])}; "
            f"{type(features).__name__} came."
        )
    word, number = word_and_number("table features", features, FEATURES["tabular"], ("correlated",))
    if word == "auto":
        alike = {} if background is None else groups.one_hot(inputs, background)
        named = "; ".join(f"{name}: {', '.join(members[:4])}{', ...' if len(members) > 4 else ''}" for name, members in alike.items())
        return None, (
            f"Columns that look like one category one-hot ({named}) are parts of their own; features='one-hot' makes them one.",
        ) * bool(alike)
    if background is None:
        raise InvalidInput(f"features={word!r} is read off background rows; pass background=training_rows, or the groups as a mapping.")
    if word == "one-hot":
        found = groups.one_hot(inputs, background)
        if not found:
            raise InvalidInput(
                "features='one-hot' found no columns that begin alike (as town_north, town_south), hold 0 and 1 and of which exactly "
                "one is on in every row; pass the groups as a mapping."
            )
        return found, ()
    threshold = groups.THRESHOLD if number is None else number
    if threshold > 1:
        raise InvalidInput(f"features=('correlated', {number:g}): an association is at most 1.")
    found = groups.correlated(background, threshold, seed)
    measure = "Spearman's rank correlation, Cramer's V, or the correlation ratio of mixed columns"
    how = f"every two of a group have an association of at least {threshold:g} ({measure})"
    return found, (f"Correlated columns are one part: {how}." if found else f"No columns were grouped as correlated; {how}.",)


def _superpixels(model: Any, inputs: Any, features: Any, baseline: Any, background: Any, seed: int, most: int) -> Features:
    from explainer.features.image import Superpixels

    return Superpixels(inputs, features, baseline)


def _words(model: Any, inputs: Any, features: Any, baseline: Any, background: Any, seed: int, most: int) -> Features:
    from explainer.features.text import Words

    if not isinstance(features, str):
        raise InvalidInput(f"features= takes {_listed(FEATURES['text'])} for text; {type(features).__name__} came.")
    make = getattr(model, "words", Words)  # a model that reads one place of the text keeps that place in sight
    return make(inputs, _replacement(model, baseline), features)


def _segments(model: Any, inputs: Any, features: Any, baseline: Any, background: Any, seed: int, most: int) -> Features:
    from explainer.features.series import Segments

    whole, stands_in = background, isinstance(baseline, str) and baseline == "background" and background is not None
    parts = Segments(inputs, model.feature_names, baseline, drawn(background, most, seed) if stands_in else background, features)
    if stands_in:
        parts.thinned = thinned(parts.repeats, len(whole), "series")
    return parts


_BUILDERS = {"tabular": _columns, "image": _superpixels, "text": _words, "series": _segments}


def _replacement(model: Any, baseline: Any) -> str:
    """What stands in for an absent word; nothing means it is removed."""
    if isinstance(baseline, str) and baseline.strip():
        if baseline in ("auto", "remove"):
            return ""
        if baseline == "mask":
            return str(getattr(getattr(model, "preprocess", None), "mask_token", "[UNK]"))
        if not any(baseline in words for words in BASELINES.values()):
            return baseline
    raise InvalidInput(
        f"baseline={baseline!r} is not for text; use 'auto' or 'remove' (the word is removed), 'mask', or a word to put in its place."
    )


def _fits(argument: str, given: Any, valid: Mapping[str, tuple[str, ...]], modality: str) -> None:
    """Refuse a word that is not for this modality: it may be for another, or mistyped."""
    word = given[0] if isinstance(given, tuple) and given else given
    if not isinstance(word, str) or word in valid[modality]:
        return
    others = [_KINDS[other] for other, words in valid.items() if word in words]
    if others:
        raise InvalidInput(
            f"{argument}={word!r} is for {' and '.join(others)}, not for {_KINDS[modality]}; use {_listed(valid[modality])}."
        )
    raise unknown(f"{argument} for {_KINDS[modality]}", word, valid[modality])


def _named(given: Any) -> bool:
    return isinstance(given, str) or (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str))


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(map(repr, words))
