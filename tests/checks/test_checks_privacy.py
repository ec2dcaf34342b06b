"""Personal data are found by what makes them valid, look-alikes are left alone, and the cures keep what they promise."""

from __future__ import annotations

import hashlib
import hmac
import socket
import uuid

import numpy as np
import pandas as pd
import pytest

from explainer.checks import privacy
from explainer.checks.privacy import mask, pseudonymise, spelled
from explainer.checks.recognisers import _aadhaar, card, iban, luhn, scan
from explainer.checks.run import check
from explainer.errors import InvalidInput


def sentences(n=200, seed=0):
    rng = np.random.default_rng(seed)
    words = ["river", "ran", "past", "market", "old", "stone", "bridge", "where", "we", "met", "count", "12 boats", "10:45", "2021-03-04"]
    return [" ".join(rng.choice(words, rng.integers(8, 20))) for _ in range(n)]


def look_alikes(n=300, seed=0):
    """Columns whose values have the form of personal data, and are none."""
    rng = np.random.default_rng(seed)

    def digits(k, first=""):
        return [first + "".join(map(str, rng.integers(0, 10, k - len(first)))) for _ in range(n)]

    return pd.DataFrame(
        {
            "order": digits(16, "4"),
            "invoice": digits(10),
            "batch": [int(d) for d in digits(13, "1")],
            "part": [f"{a}-{b:02d}-{c:04d}" for a, b, c in rng.integers((100, 0, 0), (999, 99, 9999), (n, 3))],
            "article": [f"{d}{c}" for d, c in zip(digits(8), rng.choice(list("ABCDEFGHJKLMNPQRSTVWXYZ"), n), strict=True)],
            "version": [".".join(map(str, v)) for v in rng.integers(0, 10, (n, 4))],
            "hash": [hashlib.sha256(str(v).encode()).hexdigest() for v in rng.integers(0, 10**9, n)],
            "uuid": [str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(n)],
            "seen": [f"2021-{m:02d}-{d:02d} {h:02d}:{s:02d}:00" for m, d, h, s in rng.integers((1, 1, 0, 0), (13, 29, 24, 60), (n, 4))],
            "stamp": rng.integers(1_500_000_000, 1_700_000_000, n),
            "price": rng.lognormal(5, 2, n).round(2),
            "product name": rng.choice(["Blue Chair", "Oak Table", "Desk Lamp"], n),
            "address space": rng.choice(["user", "kernel"], n),
            "image": [f"icon@{k}x.png" for k in rng.integers(1, 4, n)],
        }
    )  # fmt: skip


def luhn_number(rng, start, length):
    body = start + "".join(map(str, rng.integers(0, 10, length - len(start) - 1)))
    return next(body + d for d in "0123456789" if luhn(body + d))


def iban_number(rng):
    body = "".join(map(str, rng.integers(0, 10, 18)))
    return next(f"DE{k:02d}{body}" for k in range(2, 99) if iban(f"DE{k:02d}{body}"))


MAKE = {
    "email address": lambda rng: f"{rng.choice(['ann', 'bo', 'cem'])}.{rng.integers(1000)}@mail{rng.integers(99)}.example.org",
    "account number": iban_number,
    "card number": lambda rng: luhn_number(rng, str(rng.choice(["4", "51", "2221", "6011"])), 16),
    "phone number": lambda rng: f"+{rng.integers(31, 49)} {rng.integers(100, 999)} {rng.integers(1000000, 9999999)}",
    "IP address": lambda rng: ".".join(map(str, rng.integers(130, 220, 4))),
    "national id": lambda rng: f"{rng.integers(100, 660)}-{rng.integers(10, 99)}-{rng.integers(1000, 9999)}",
    "address": lambda rng: f"{rng.integers(1, 400)} {rng.choice(['Main', 'Oak', 'Station'])} {rng.choice(['Street', 'Road', 'Lane'])}",
    "date of birth": lambda rng: f"born on {rng.integers(1, 28)} May {rng.integers(1930, 2005)}",
}


@pytest.mark.parametrize("kind", MAKE)
def test_each_kind_is_found_in_a_column_and_in_running_text(kind, found):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        frame = look_alikes(120, seed).drop(columns=["part"]).assign(note=[MAKE[kind](rng) for _ in range(120)])
        finding = found("personal data", frame)
        assert (finding.state, finding.columns) == ("fail", ("note",)), (seed, finding.message)
        assert finding.evidence["note"]["kinds"] == {kind: 120}
        texts = sentences(seed=seed)
        before = {"national id": "SSN: ", "card number": "paid by card "}.get(kind, "see ")
        texts[17] += f" {before}{MAKE[kind](rng)}"
        finding = found("personal data", texts)
        assert finding.rows == (17,), (seed, finding.message)
        assert list(finding.evidence["kinds"]) == [kind]


def test_look_alikes_and_clean_data_are_left_alone(found):
    for seed in range(20):
        assert found("personal data", look_alikes(seed=seed)).state == "pass", seed
        assert found("personal data", sentences(seed=seed)).state == "pass", seed


def test_one_valid_number_among_order_numbers_is_luck_and_a_word_beside_it_is_not(found):
    rng = np.random.default_rng(0)
    numbers = [luhn_number(rng, "4", 16), *look_alikes(50)["order"]]
    assert found("personal data", [f"order {n} was sent" for n in numbers]).state == "pass"
    assert found("personal data", [f"paid with card {numbers[0]}", *sentences(40)]).rows == (0,)


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("first_name", ["Ann", "Bo", "Zoë", "Jean-Luc", "O'Neil"], "name of a person"),
        ("Surname", ["Smith", "Müller", "de la Cruz", "Li", "Nagy"], "name of a person"),
        ("patientName", ["Smith, Ann", "Müller, Bo", "Cruz, Eva", "Li, Wei", "Nagy, J."], "name of a person"),
        ("DateOfBirth", ["1980-05-12", "1975-01-30", "2001-12-31", "1969-07-20", "1990-10-03"], "date of birth"),
        ("dob", pd.to_datetime(["1980-05-12", "1975-01-30", "2001-12-31", "1969-07-20", "1990-10-03"]), "date of birth"),
        ("phone_number", [4915112345678, 4915112345679, 4915112345670, 4915112345671, 4915112345672], "phone number"),
        ("ssn", [123456789, 223456789, 323456789, 423456789, 523456789], "national id"),
        ("home address", ["4 Elm", "12 High", "9 Low", "7 Oak", "1 End"], "address"),
    ],
)
def test_a_column_is_taken_at_its_name_where_its_values_agree(name, values, kind, found):
    frame = pd.DataFrame({name: np.tile(np.asarray(values, dtype=object), 10), "x": np.arange(50) % 7})
    finding = found("personal data", frame)
    assert finding.columns == (name,), finding.message
    assert finding.evidence[name]["kinds"] == {kind: 50}
    other = found("personal data", pd.DataFrame({name: np.tile([0.5, 1.5], 25), "x": np.arange(50) % 7}))
    assert other.state == "pass", other.message  # the name alone is no proof


def test_the_finding_itself_holds_no_personal_data(found):
    texts = [*sentences(40), "write to jane.doe@example.org or +49 170 1234567"]
    finding = found("personal data", texts)
    assert finding.state == "fail"
    told = str(finding)
    assert "jane" not in told and "doe" not in told and "1234567" not in told
    assert "j***.d**@e******.o**" in told


def test_pictures_have_no_such_check_and_an_empty_table_passes_nothing(found):
    assert "personal data" not in {f.check for f in check(np.random.default_rng(0).random((40, 8, 8)))}
    assert found("personal data", pd.DataFrame({"a": []})).state == "not run"


def test_checksums_against_published_examples():
    assert card("4111 1111 1111 1111") and card("378282246310005") and card("30569309025904")
    assert not card("4111 1111 1111 1112") and not card("0000 0000 0000 0000")
    assert iban("GB82 WEST 1234 5698 7654 32") and iban("FR14 2004 1010 0505 0001 3M02 606")
    assert not iban("GB82 WEST 1234 5698 7654 33") and not iban("GB82 WEST 1234 5698 7654 3")
    assert _aadhaar("2363") and not _aadhaar("2364")  # Verhoeff: 236 has check digit 3
    kinds = [
        h.kind for h in scan(["codice RSSMRA85T10A562S", "12345678Z is my dni? dni 12345678Z", "HETU 131052-308T", "CPF 111.444.777-35"])
    ]
    assert kinds == ["national id"] * 4


def test_presidio_finds_the_same_without_the_network(monkeypatch, found):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    texts = sentences(60)
    texts[3] += " write to jane.doe@example.org"
    texts[9] += " IBAN GB82WEST12345698765432"
    texts[20] += " her card number 4111111111111111"
    finding = found("personal data, presidio", texts)
    assert finding.rows == (3, 9, 20)
    assert "presidio" in finding.message
    assert found("personal data, presidio", sentences(60, seed=3)).state == "pass"
    assert found("personal data, presidio", look_alikes(100)).state == "pass"
    called = found("personal data, presidio", [*texts, "it is +1 617-555-2368 there", "part 617-55-2368", "SSN 617-55-2368"])
    assert called.rows == (3, 9, 20, 60, 62)
    assert found("personal data, presidio", pd.DataFrame({"mail": texts[:8], "x": range(8)})).columns == ("mail",)


def test_presidio_runs_only_when_asked_and_names_its_extra_when_it_is_absent(monkeypatch, found):
    from explainer.checks import presidio

    assert "personal data, presidio" not in {f.check for f in check(sentences(40))}

    def absent():
        raise ImportError("presidio_analyzer")

    monkeypatch.setattr(presidio, "_engine", absent)
    presidio.recogniser.cache_clear()
    finding = found("personal data, presidio", sentences(40))
    presidio.recogniser.cache_clear()
    assert finding.state == "not run"
    assert "explainer-toolkit[privacy]" in finding.message


def people(n=2000, seed=0, bands=4):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(0, bands, n) * 20 + 10,
            "sex": rng.choice(["f", "m"], n),
            "city": rng.choice(["Roma", "Paris", "Berlin"], n),
            "income": rng.lognormal(10, 0.5, n),
        }
    )


def test_rows_alone_in_their_class_can_be_found_again(found):
    frame = people()
    finding = found("re-identification", frame)
    assert finding.state == "pass", finding.message
    assert finding.evidence["k"] == frame.groupby(["age", "sex", "city"]).size().min()
    fine = frame.assign(
        age=np.random.default_rng(1).integers(0, 100, 2000), zip=[f"{v:05d}" for v in np.random.default_rng(2).integers(0, 200, 2000)]
    )
    finding = found("re-identification", fine)
    sizes = fine.groupby(["age", "sex", "city", "zip"])["income"].transform("size")
    assert finding.state == "fail"
    assert finding.value == pytest.approx((sizes < 5).mean())
    assert finding.count == (sizes < 5).sum()
    assert set(finding.columns) == {"age", "sex", "city", "zip"}
    assert finding.evidence["rows alone in their class"] == (sizes == 1).sum()


def test_re_identification_over_seeds(found):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert found("re-identification", people(seed=seed)).state == "pass", seed
        dob = pd.to_datetime("1950-01-01") + pd.to_timedelta(rng.integers(0, 20000, 2000), unit="D")
        assert found("re-identification", people(seed=seed).assign(dob=dob)).state == "fail", seed


def test_a_class_of_one_label_tells_it(found):
    frame = people()
    labels = np.where(np.random.default_rng(0).random(2000) < 0.5, "ill", "well")
    finding = found("re-identification", frame, labels)
    assert finding.state == "pass"
    assert finding.evidence["rows of a class with one label only"] == 0
    told = (frame["city"] == "Roma") & (frame["sex"] == "f")
    finding = found("re-identification", frame, np.where(told, "ill", labels))
    assert finding.state == "fail"
    assert "l = 1" in finding.message
    assert finding.count == told.sum()


def test_too_few_quasi_identifiers_are_not_judged_and_groups_add_to_them(found):
    frame = people().drop(columns=["city"])
    assert found("re-identification", frame).state == "not run"
    street = np.random.default_rng(5).integers(0, 900, 2000)
    finding = found("re-identification", frame, groups={"street": street})
    assert finding.state == "fail"
    assert "street" in finding.columns


def test_names_are_read_as_words():
    assert [spelled(n) for n in ("DateOfBirth", "date_of_birth", "first-name", "ZIP")] == [
        "date of birth",
        "date of birth",
        "first name",
        "zip",
    ]


def test_masking_hides_values_or_their_parts():
    assert mask(["a", None, 3]) == ["[masked]", None, "[masked]"]
    series = pd.Series(["write to ann@example.org now", "nothing", None], index=[5, 6, 9], name="note")
    hidden = mask(series, parts=True)
    assert hidden.tolist()[:2] == ["write to [email address] now", "nothing"]
    assert hidden.isna().tolist() == [False, False, True]
    assert hidden.index.tolist() == [5, 6, 9] and hidden.name == "note"
    assert series[5] == "write to ann@example.org now"


def test_pseudonyms_are_keyed_hashes_that_agree_across_tables():
    key = b"0123456789abcdef"
    tokens = pseudonymise(["ann", "bo", "ann", None, 5, 5.0], key=key)
    assert tokens[0] == hmac.new(key, b"ann", hashlib.sha256).hexdigest()[:32]
    assert tokens[0] == tokens[2] != tokens[1]
    assert tokens[3] is None
    assert tokens[4] == tokens[5]
    assert pseudonymise(pd.Series(["ann"]), key=key)[0] == tokens[0]
    assert pseudonymise(["ann"], key="another key of sixteen")[0] != tokens[0]
    inside = pseudonymise(["to ann@example.org", "from ann@example.org"], key=key, parts=True)
    assert inside[0].removeprefix("to ") == inside[1].removeprefix("from ")
    assert "ann" not in inside[0] and inside[0].startswith("to [email address ")


@pytest.mark.parametrize(("key", "length"), [("", 0), (b"", 0), (" " * 20, 0), ("k", 1), (b"fifteen bytes..", 15)])
def test_a_key_that_can_be_guessed_is_refused(key, length):
    with pytest.raises(InvalidInput, match=f"key has {length} bytes; at least 16 are needed"):
        pseudonymise(["ann"], key=key)


def test_a_sample_is_read_where_there_are_very_many_values_and_says_so(monkeypatch, found):
    monkeypatch.setattr(privacy, "TEXTS_MOST", 50)
    rng = np.random.default_rng(0)
    finding = found("personal data", pd.DataFrame({"note": [MAKE["email address"](rng) for _ in range(200)], "x": rng.normal(size=200)}))
    assert finding.state == "fail"
    assert "in 50 drawn with seed 0" in finding.message
