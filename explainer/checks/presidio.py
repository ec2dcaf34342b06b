"""The one file that knows presidio: its recognisers that work by pattern, with no language model and no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from explainer.checks.context import NotRun
from explainer.checks.recognisers import TEXT_LETTERS, Hit

SCORE = 0.7  # presidio gives 1.0 to what a checksum confirms, 0.4 to 0.6 to a form, and 0.35 more to one with a word beside it
WORD_LEAST = frozenset({"CREDIT_CARD", "UK_NHS", "MEDICAL_LICENSE"})  # chance passes one checksum in ten: a word must say the same
KINDS = {
    "EMAIL_ADDRESS": "email address",
    "IBAN_CODE": "account number",
    "CREDIT_CARD": "card number",
    "IP_ADDRESS": "IP address",
    "PHONE_NUMBER": "phone number",
    "CRYPTO": "crypto wallet",
    "US_SSN": "national id",
    "US_ITIN": "national id",
    "UK_NINO": "national id",
    "UK_NHS": "health number",
    "MEDICAL_LICENSE": "medical licence",
}


@cache
def recogniser() -> Callable[[Iterable[str]], list[Hit]]:
    """A function like :func:`explainer.checks.recognisers.scan`. Raises NotRun where presidio is not installed."""
    try:
        engine = _engine()
    except ImportError:
        raise NotRun('presidio is not installed; install it with pip install "explainer-toolkit[privacy]".') from None

    def find(texts: Iterable[str]) -> list[Hit]:
        hits = []
        for i, text in enumerate(texts):
            found = engine.analyze(text[:TEXT_LETTERS], language="en", entities=list(KINDS), return_decision_process=True)
            hits += [Hit(i, KINDS[r.entity_type], r.start, r.end) for r in found if _confirmed(r, text)]
        return hits

    return find


def _confirmed(result: Any, text: str) -> bool:
    """Sure enough; of a form that chance fills, by a word beside it. A number after a plus that its country's plan has is a telephone's."""
    if result.entity_type == "PHONE_NUMBER" and text[result.start] == "+":
        return True
    told = result.entity_type not in WORD_LEAST or bool(result.analysis_explanation.supportive_context_word)
    return bool(result.score >= SCORE and told)


def _engine() -> Any:
    """An analyser over a blank pipeline: presidio's own would download a language model and a list of domains."""
    import presidio_analyzer.predefined_recognizers as known
    import spacy
    import tldextract
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    domains = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)  # the list that comes with the package

    class Words(SpacyNlpEngine):
        """Words cut and lower-cased; presidio looks for its context words among lemmas, which a blank pipeline has none of."""

        def load(self) -> None:
            self.nlp = {"en": spacy.blank("en")}

        def process_text(self, text: str, language: str) -> Any:
            words = self.nlp[language](text)
            for word in words:
                word.lemma_ = word.lower_
            return self._doc_to_nlp_artifact(words, language)

    class Email(known.EmailRecognizer):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool:
            return bool(domains(pattern_text.rpartition("@")[2]).suffix)

    names = ("IbanRecognizer", "CreditCardRecognizer", "IpRecognizer", "PhoneRecognizer", "CryptoRecognizer", "UsSsnRecognizer",
             "UsItinRecognizer", "UkNinoRecognizer", "NhsRecognizer", "MedicalLicenseRecognizer")  # fmt: skip
    registry = RecognizerRegistry([Email(), *(getattr(known, name)() for name in names)])
    words = Words(models=[{"lang_code": "en", "model_name": "blank"}])
    words.load()
    return AnalyzerEngine(registry=registry, nlp_engine=words, supported_languages=["en"])
