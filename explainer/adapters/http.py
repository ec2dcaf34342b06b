"""Adapter for models behind an HTTP endpoint: rows go out as JSON, scores come back; nothing is sent before it is needed."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import numpy as np

from explainer.adapters.answers import REQUESTS, rows_of, scores_in
from explainer.adapters.outputs import as_rows, held, names_of_classes
from explainer.adapters.sender import Sender, TooLarge
from explainer.errors import InvalidInput, unknown
from explainer.inputs import Modality, canonical, take
from explainer.model import Model

_SECRET = ("key", "token", "secret", "sig", "auth", "password", "passwd", "credential")


class HttpModel(Model):
    """An endpoint behind the Model face. What it is asked and how it is waited for is the :class:`Sender`'s affair."""

    framework = "http"

    def __init__(self, sender: Sender, request: Any, response: Any, preprocess: Any, batch: int, told: Any, **names: Any) -> None:
        self.preprocess = preprocess
        self._sender = sender
        self._request, self._response, self._told = request, response, told
        self._batch = batch
        super().__init__(**names)

    def raw(self, inputs: Any, at_once: int | None = None) -> np.ndarray:
        parts = []
        start = 0
        while start < len(inputs):
            rows = take(inputs, slice(start, start + self._batch))
            try:
                parts.append(self._ask(rows))
            except TooLarge:
                if len(rows) == 1:
                    raise
                self._batch = (len(rows) + 1) // 2
                continue
            start += len(rows)
        return np.concatenate(parts)

    def rows_at_once(self, inputs: Any, measured: bool = False) -> int:
        """One request at a time, so that a person sees progress and can stop between two."""
        return self._batch

    def unscorable(self, given: Any, row: int, count: int = 1) -> str:
        return f"{count} of {len(given)} inputs have no finite score, the first is row {row}: {self.name} answered null or NaN for it."

    def _ask(self, rows: Any) -> np.ndarray:
        given = self.handed_out(rows)
        given = given if self.preprocess is None else self.preprocess(given)
        body = self._request(given) if callable(self._request) else rows_of(given, self._request)
        answer = self._sender.post(body)
        if callable(self._response):
            try:
                found = self._response(answer)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise InvalidInput(f"response= failed on what {self.name} answered: {type(error).__name__}: {error}.") from error
        else:
            found = scores_in(answer, self._response, self.class_names, self.name)
        scores = as_rows(found, len(rows), self.name)
        if self.task == "classification":
            held(scores, self._told, self.name)
        return scores

    @property
    def unhashed(self) -> str:
        return "The model is behind an address; its sha256 covers the address and the form of requests, not the model that answers."

    def fingerprint(self) -> str:
        """sha256 of the address, the form of request and answer, and the class names; the model behind it is not seen."""
        forms = [form if isinstance(form, str) else getattr(form, "__qualname__", "") for form in (self._request, self._response)]
        return hashlib.sha256(f"{self._sender.identity}{forms}{self.class_names}".encode()).hexdigest()


def wrap_http(
    address: str,
    *,
    modality: Modality | None = None,
    feature_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    preprocess: Any = None,
    background: Any = None,
    task: Any = None,
    returns: Any = None,
    name: str | None = None,
    device: Any = None,
    headers: Mapping[str, str] | None = None,
    request: str | Callable[[Any], Any] = "instances",
    response: str | Callable[[Any], Any] = "auto",
    batch: int = 32,
    retries: int = 4,
    timeout: float = 30.0,
    rate: float | None = None,
    largest: int = 2**26,
    allow_http: bool = False,
    probe: bool = False,
) -> HttpModel:
    """Wrap an endpoint that scores rows; see :func:`explainer.wrap` for the parameters. Nothing is sent here, except with probe.

    Parameters
    ----------
    headers : as in ``{"Authorization": "Bearer env:MY_TOKEN"}``: env:NAME is read from the environment at each request, and
        no value of a header is ever shown or stored.
    request : the JSON sent: "instances" ``{"instances": [...]}`` (KServe, TensorFlow Serving), "inputs" ``{"inputs": [...]}``,
        "records" (instances that are objects column: value), "dataframe_split" (MLflow), or a function from a batch to the body.
    response : where the scores are in the answer: "auto", a key of it, or a function from the answer to ``(n, outputs)``.
    batch : rows per request; halved when the endpoint says 413. rate : requests per second at most.
    retries : of a request answered by 429 or 5xx, or not at all, waiting 0.5 s, 1 s, 2 s, ... or as Retry-After says.
    timeout : seconds one request may take. largest : bytes an answer may have.
    allow_http : send to http:// addresses of other machines, unencrypted.
    probe : send one background row now, to count the outputs where class_names are not told.
    returns : without it every answer must hold probabilities that sum to 1.

    Raises InvalidInput, UnknownName.
    """
    url = _checked(address, allow_http)
    shown = f"{url.scheme}://{url.hostname}{f':{url.port}' if url.port else ''}{url.path}"
    if modality is None:
        raise InvalidInput(f"What kind of input {shown} takes cannot be told: pass modality='tabular', 'image', 'text' or 'series'.")
    if device is not None:
        raise InvalidInput("device= is for models that run on this machine; leave it out for an endpoint.")
    if isinstance(request, str) and request not in REQUESTS:
        raise unknown("request", request, REQUESTS)
    for word, number, least in (("batch", batch, 1), ("retries", retries, 0), ("timeout", timeout, 1e-3), ("largest", largest, 1)):
        if isinstance(number, bool) or not isinstance(number, (int, float)) or number < least:
            raise InvalidInput(f"{word}={number!r} is not valid; a number of at least {least:g} is needed.")
    if rate is not None and not rate > 0:
        raise InvalidInput(f"rate={rate!r} is not valid; it is the number of requests per second at most, above 0.")
    sender = Sender(
        address, shown, _identity(url), dict(headers or {}), retries=int(retries), timeout=float(timeout), rate=rate, largest=int(largest),
        direct=_loopback(url.hostname or ""),
    )  # fmt: skip
    task = task or ("regression" if returns == "value" else "classification")
    names = tuple(str(n) for n in feature_names) if feature_names is not None else ()
    if feature_names is None and background is not None and modality == "tabular":
        names = tuple(str(c) for c in canonical(background, modality).columns)
    common = {
        "modality": modality, "feature_names": names, "background": background, "task": task, "returns": returns or "probability",
        "name": name or shown,
    }  # fmt: skip
    if class_names is None:
        class_names = _counted(HttpModel(sender, request, response, preprocess, 1, returns, class_names=("?",), **common), probe)
    return HttpModel(sender, request, response, preprocess, int(batch), returns, class_names=list(class_names), **common)


def _counted(draft: HttpModel, probe: bool) -> list[str]:
    if not probe:
        raise InvalidInput(
            "wrap() of an endpoint sends nothing, so class_names=[...] must be told; or pass probe=True and background=, and one "
            "background row is sent to count the outputs."
        )
    if draft.background is None:
        raise InvalidInput("probe=True sends one background row; pass background=, or class_names= instead.")
    width = draft.raw(take(draft.background, slice(0, 1))).shape[1]
    return names_of_classes(None, width, draft.task, draft.name)


def _checked(address: str, allow_http: bool) -> SplitResult:
    try:
        url = urlsplit(str(address))
        host = url.hostname or ""
        _ = url.port
    except ValueError as error:
        raise InvalidInput(f"The address of the endpoint cannot be read ({error}); pass https://host[:port]/path.") from None
    if not host or any(c.isspace() or ord(c) < 33 or ord(c) > 126 for c in str(address)):
        raise InvalidInput("The address of the endpoint cannot be read; pass https://host[:port]/path, without spaces.")
    if url.username or url.password:
        raise InvalidInput(
            "The address holds a user name or password, which would show in logs; pass headers={'Authorization': 'Basic env:NAME'} instead."
        )
    if url.scheme.lower() == "http" and not allow_http and not _loopback(host):
        raise InvalidInput(
            f"http://{host} is another machine, and the rows would go there unencrypted. Use https://, or pass allow_http=True."
        )
    return url


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _identity(url: SplitResult) -> str:
    """The address without what may be secret in it, for the fingerprint."""
    open_ = [(key, value) for key, value in parse_qsl(url.query) if not any(word in key.lower() for word in _SECRET)]
    return f"{url.scheme}://{url.netloc}{url.path}?{urlencode(open_)}"
