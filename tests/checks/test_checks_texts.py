"""The checks that only texts need, planted and clean, on made-up prose and on sound sentences of many languages."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from explainer.checks.damage import PAGES, find
from explainer.checks.language import script_of, small_words
from explainer.checks.wording import forms

spec = importlib.util.spec_from_file_location("checks_clean_texts", Path(__file__).parent / "conftest.py")
clean = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clean)

SEEDS = range(20)
PROSE = {
    "English": "We went to the market on that morning, and there was not a single stall that had opened by the time we came back home.",
    "German": "Wir sind am Morgen auf den Markt gegangen, und es war nicht ein einziger Stand geöffnet, als wir wieder nach Hause kamen.",
    "French": "Nous sommes allés au marché dans la matinée, et il n'y avait pas un seul étal ouvert quand nous sommes rentrés à la maison.",
    "Spanish": "Fuimos al mercado por la mañana, y no había ni un solo puesto abierto cuando volvimos a la casa con las manos vacías.",
    "Italian": "Siamo andati al mercato di mattina, e non c'era un solo banco aperto quando siamo tornati a casa con le mani vuote.",
    "Portuguese": "Fomos ao mercado de manhã, e não havia uma só banca aberta quando voltamos para casa com as mãos vazias e muito frio.",
    "Dutch": "Wij zijn in de ochtend naar de markt gegaan, en er was niet een kraam open toen wij weer naar huis kwamen met de fiets.",
    "Polish": "Poszliśmy rano na targ i nie było tam ani jednego stoiska, które byłoby otwarte, gdy wróciliśmy do domu z pustymi rękami.",
    "Russian": "Утром мы пошли на рынок, и там не было ни одного открытого прилавка, когда мы вернулись домой с пустыми руками.",
    "Greek": "Το πρωί πήγαμε στην αγορά και δεν υπήρχε ούτε ένας πάγκος ανοιχτός όταν γυρίσαμε στο σπίτι με άδεια χέρια.",
    "Japanese": "朝に市場へ行きましたが、手ぶらで家に帰った時には開いている店は一つもありませんでした。",
}  # fmt: skip
SOUND = (
    "« CAFÉ », « voilà\u00a0» et « déjà »… L’été à Paris : « LIBERTÉ » — “café”… “é” ‘à’ — À l’œuvre, ça coûte 5\u00a0€.",
    "„Spaß“, „Äpfel“, „GRÖSSE“, ‚Äpfel‘ und „Öl“ – § 5 Abs. 2; 20 °C, 5 × 3 = 15, ±2 %. Ä… Ö…Ü…",
    "¡ESPAÑA! «MAÑANA»… El Nº 5, 1ª y 2º. “SEÑOR” … AMANHÃ” MANHû “IRMÔ, a maçã é “NÃO”… “MAÇÔ —",
    "Příliš žluťoučký kůň. „Vidíš“, „mládež“ — „ÚŽAS“. Zażółć gęślą jaźń. „ŁÓDŹ”… Årets «SMÅ» og ”SMÅ” — TRÄ” Å”… «ØL».",
    "СССР», «РС», «Різдво», Сім, Рік… «ГДР» — „В“ В… Љубав, Ђорђе, Његош. Ελλάδα «ΑΒΓ» … “Ω”. “İSTANBUL”… “Ğ”.",
    "Việt Nam “CÂN” … Ô “À” ơi. „ÎN” «Ă» — „”. 日本語の文章です。「こんにちは」…“你好”！한국어. שלום “עולם” مرحبا «بالعالم» می‌خواهم",
    "2√π, √2, ≈±5, ¬a, x√π, Ø±0.1 mm, 10×², AT&T; R&D; ?a=1&copy=2 “naïve” £5 ©2020 ®™ ┌─┬─┐ ├─┤ ░▒▓ 👍🏽 👩‍👩‍👧 fi\ufb01 1½ µm",
)


def misread(text, page):
    """UTF-8 read in another code page; bytes it does not define become control characters."""
    return "".join(bytes([byte]).decode(page, "ignore") or chr(byte) for byte in text.encode())


@pytest.mark.parametrize("text", [*SOUND, *PROSE.values()])
def test_sound_prose_of_many_languages_is_not_damaged(text):
    assert find(text) is None
    assert [find(word) for word in text.split()] == [None] * len(text.split())


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "text", ["L’été à Paris", "größer über", "zażółć gęślą jaźń", "el niño está aquí", "Привет мир", "καλημέρα", "世界"]
)
def test_a_misreading_is_found_in_every_code_page_and_twice_over(text, page):
    for times in (1, 2):
        text = misread(text, page)
        assert find(text).kind in ("wrong code page", "control character"), (times, text)
        if times == 1:
            assert find(text).kind == "wrong code page"


def test_what_was_meant_is_told_even_when_misread_twice():
    assert find(misread("größe", "cp1252")).meant == "öß"
    assert find(misread(misread("größe", "cp1252"), "cp1252")).meant == "öß"


@pytest.mark.parametrize(
    ("text", "kind", "meant"),
    [
        ("caf&eacute;", "HTML entity", "é"),
        ("it&#39;s", "HTML entity", "'"),
        ("nothing\u200b here", "hidden character", ""),
        ("\ufeffBegin", "hidden character", ""),
        ("caf\ufffd", "replacement character", ""),
        ("bell\x07", "control character", ""),
        ("said \x93yes\x94", "control character", "“"),
        ("it=E2=80=99s", "escape sequence", ""),
        ("caf\\u00e9", "escape sequence", ""),
        ("voilÃ tout", "wrong code page", "à"),
    ],
)
def test_damage_of_other_kinds_is_named(text, kind, meant):
    assert (find(text).kind, find(text).meant) == (kind, meant)


def prose(n=200, seed=0, language="English"):
    """Sentences with the small words of a language in between, as running text has them."""
    rng = np.random.default_rng(seed)
    small = sorted(small_words()[language])
    return [" ".join(w for word in rng.choice(clean.WORDS, rng.integers(12, 40)) for w in (rng.choice(small), word)) for _ in range(n)]


@pytest.mark.parametrize("language", [name for name in PROSE if name not in ("English", "Japanese")])
def test_a_text_in_another_language_is_found_and_named(language, found):
    finding = found("language", [*prose(), PROSE[language]])
    assert finding.state == "fail"
    assert finding.rows == (200,)
    assert language in finding.message


def test_the_bulk_may_be_of_any_language_even_one_that_is_not_listed(found):
    german = prose(language="German")
    assert found("language", german).state == "pass"
    assert found("language", [*german, PROSE["English"]]).rows == (200,)
    rng = np.random.default_rng(0)
    invented = ["kax", "lom", "mib", "suf", "tep", "wab"]
    unknown = [" ".join(w for word in rng.choice(clean.WORDS, 30) for w in (rng.choice(invented), word)) for _ in range(200)]
    assert found("language", unknown).state == "pass"
    assert found("language", [*unknown, PROSE["French"]]).rows == (200,)


def test_another_script_is_another_language_and_short_texts_are_left_alone(found):
    assert found("language", [*prose(), PROSE["Japanese"]]).rows == (200,)
    assert script_of(PROSE["Greek"]) == "Greek"
    assert found("language", [*prose(), "Guten Tag und auf Wiedersehen", "ラーメン", "12345"]).state == "pass"
    assert found("language", ["ab"] * 40).state == "not run"


def test_gibberish_is_in_no_language(found):
    rng = np.random.default_rng(1)
    keys = " ".join("".join(rng.choice(list("qxzjkvw"), 7)) for _ in range(30))
    finding = found("language", [*prose(), keys])
    assert finding.rows == (200,)
    assert "no language told" in finding.message


def test_one_language_gives_no_alarm_on_twenty_seeds(found):
    for seed in SEEDS:
        assert found("language", prose(seed=seed)).state == "pass"
        assert found("text lengths", prose(seed=seed)).state == "pass"
        assert found("damaged characters", prose(seed=seed)).state == "pass"


def test_texts_far_too_short_or_too_long_are_named(found):
    texts = prose()
    finding = found("text lengths", [*texts, "of one", " ".join(texts)])
    assert finding.state == "fail"
    assert finding.rows == (200, 201)
    assert "1 too short, 1 too long" in finding.message
    assert found("text lengths", texts[:20]).state == "not run"


class Reader:
    """Reads the first ``max_length`` words; the first three letters of the alphabet begin unknown ones."""

    max_length = 40

    def unknown_share(self, texts):
        return np.array([np.mean([word[0] in "qxz" for word in text.split() or ["q"]]) for text in texts])

    def offsets(self, texts):
        places = []
        for text in texts:
            ends = np.cumsum([len(word) + 1 for word in text.split(" ")])
            places.append(
                [(int(end - len(word) - 1), int(end - 1)) for word, end in zip(text.split(" "), ends, strict=True)][: self.max_length]
            )
        return places


def model(reader):
    return SimpleNamespace(modality="text", preprocess=reader, task="classification", class_names=("a", "b"), feature_names=())


def test_texts_longer_than_the_model_reads_are_counted_with_what_they_lose(found):
    texts = [" ".join(["word"] * n) for n in [20] * 50 + [80] * 5]
    finding = found("truncated texts", texts, model=model(Reader()))
    assert finding.state == "fail"
    assert finding.rows == (50, 51, 52, 53, 54)
    assert finding.evidence["lost of a cut text, median"] == pytest.approx(0.5, abs=0.01)
    assert found("truncated texts", texts[:50], model=model(Reader())).state == "pass"
    assert found("truncated texts", texts).message == "Not run: No model was given."
    assert "does not say how far" in found("truncated texts", texts, model=model(None)).message


def test_words_that_the_model_does_not_know_are_counted(found):
    texts = prose()
    assert found("unknown words", texts, model=model(Reader())).state == "pass"
    strange = " ".join(["qzx", "xqz"] * 10)
    finding = found("unknown words", [*texts, strange], model=model(Reader()))
    assert finding.state == "fail"
    assert finding.rows == (200,)
    assert "It needs model=" in found("unknown words", texts).message


def test_words_that_the_reference_does_not_hold_are_counted(found):
    for seed in SEEDS:
        texts, reference = prose(seed=seed), prose(400, seed=seed + 50)
        assert found("unknown words", texts, reference=reference).state == "pass"
    finding = found("unknown words", [*texts, PROSE["German"]], reference=reference)
    assert finding.state == "fail"
    assert finding.rows == (200,)
    other = [text.replace("e", "è") for text in texts]
    assert found("unknown words", other, reference=reference).state == "fail"
    assert "at least 50" in found("unknown words", texts, reference=reference[:20]).message


def test_the_words_of_a_label_are_found_in_its_texts_with_their_stems_and_initials(found):
    texts, y = prose(), clean.halves(200)
    names = np.array(["Student loans", "Annual percentage rates"])[y]
    assert found("label words", texts, names).state == "pass"
    told = [f"{t} my student loan" if k == 0 and i % 3 == 0 else t for i, (t, k) in enumerate(zip(texts, y, strict=True))]
    finding = found("label words", told, names)
    assert finding.state == "fail"
    assert set(finding.columns) == {"student...", "loan..."}
    told = [f"{t} the APR" if k == 1 and i % 3 == 0 else t for i, (t, k) in enumerate(zip(texts, y, strict=True))]
    assert found("label words", told, names).columns == ("apr",)
    assert "hold no words" in found("label words", texts, y).message
    assert forms("Not for the other 12") == []


def test_label_words_that_stand_everywhere_are_no_alarm_on_twenty_seeds(found):
    for seed in SEEDS:
        names = np.array(["river stone", "market window"])[clean.halves(200, seed + 7)]
        assert found("label words", prose(seed=seed), names).state == "pass"


def test_toxic_words_are_looked_for_only_when_asked_and_counted_by_class(found):
    from explainer.checks.run import check

    texts, y = prose(), clean.halves(200)
    assert "toxic words" not in [f.check for f in check(texts)]
    assert found("toxic words", texts, y).state == "pass"
    marked = [f"{t} you idiot" if i in (3, 8) else t for i, t in enumerate(texts)]
    finding = found("toxic words", marked, y)
    assert finding.rows == (3, 8)
    assert set(finding.evidence["share of each class"]) == {"0", "1"}
    assert found("toxic words", marked, words=["lantern"]).evidence["texts with each word"].keys() == {"lantern"}
