"""Requests to one endpoint: rate, time-out, retries with back-off, and secrets that are never shown."""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from explainer.errors import InvalidInput
from explainer.faults import Unreachable

_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 120.0  # seconds
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_FOR_GOOD = (401, 402, 403, 404, 405, 407, 410, 501)  # the same for every row
_MOST_REDIRECTS = 3
_MOST_FAILURES = 12  # in a row, of requests that a single bad row could be to blame for


class Refused(InvalidInput):
    """The endpoint refused this batch; another one may do."""


class TooLarge(Refused):
    """The endpoint says that the request is too large."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects come back as answers: where the rows go next is decided here, not by the endpoint."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Sender:
    """Posts JSON to one address. ``shown`` is the address as it may be shown; ``identity`` as it goes into a fingerprint."""

    def __init__(
        self, address: str, shown: str, identity: str, headers: Mapping[str, str], *, retries: int, timeout: float, rate: float | None,
        largest: int, direct: bool,
    ) -> None:  # fmt: skip
        self._address, self.shown, self.identity = address, shown, identity
        self._headers = dict(headers)
        self._retries, self._timeout, self._rate, self._largest = retries, timeout, rate, largest
        self._opener = urllib.request.build_opener(_Stay(), *([urllib.request.ProxyHandler({})] if direct else []))
        self._lock = threading.Lock()
        self._next = 0.0
        self._failures = 0
        for name, value in self._headers.items():
            plain = isinstance(value, str) and value.isascii() and value.isprintable()
            if not plain or not isinstance(name, str) or not _HEADER.fullmatch(name):
                raise InvalidInput("headers= takes names and values of plain text, as in {'Authorization': 'Bearer env:MY_TOKEN'}.")

    def __repr__(self) -> str:
        return f"<Sender to {self.shown}, headers: {', '.join(self._headers) or 'none'}>"

    def post(self, body: Any) -> Any:
        """The answer to ``body``, read as JSON. Raises Refused, or Unreachable where another row would fare no better."""
        try:
            content = json.dumps(body, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"The request to {self.shown} is not JSON: {error}. Give what request= or preprocess= makes as lists."
            ) from None
        wait = _FIRST_WAIT
        for left in range(self._retries, -1, -1):
            secrets = self._values()
            try:
                answer = self._read(content, secrets)
            except _Again as again:
                if not left:
                    self._failed(again)
                pause = again.pause if again.pause is not None else wait
                if pause > _LONGEST_WAIT:
                    raise Unreachable(f"{self.shown} asks to wait {pause:.0f} s before the next request; try again then.") from None
                time.sleep(pause)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                self._failures = 0
                return self._parsed(answer, secrets)
        raise AssertionError("the loop ends in an answer or an error")

    def _failed(self, again: _Again) -> None:
        """Give up on this request; on the endpoint too, unless single rows may be to blame."""
        self._failures += 1
        tries = f"after {self._retries + 1} tries" if self._retries else "at once"
        if again.status == 500 and self._failures < _MOST_FAILURES:
            raise Refused(f"{again.why}, {tries}.") from None
        raise Unreachable(f"{again.why}, {tries}. Is the endpoint up? retries= and timeout= say how long it is waited for.") from None

    def _values(self) -> dict[str, str]:
        """The headers with what the environment holds."""
        return {name: _filled(name, value) for name, value in self._headers.items()}

    def _read(self, content: bytes, secrets: Mapping[str, str]) -> bytes:
        sent = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "explainer-toolkit", **secrets}
        for _ in range(_MOST_REDIRECTS):
            self._wait_turn()
            try:
                with self._opener.open(
                    urllib.request.Request(self._address, content, sent, method="POST"), timeout=self._timeout
                ) as answer:
                    return self._body(answer)
            except urllib.error.HTTPError as error:
                with error:
                    if error.code in (301, 302, 303, 307, 308):
                        self._follow(error.headers.get("Location", ""))
                        continue
                    raise self._refusal(error, secrets) from None
            except (TimeoutError, urllib.error.URLError, http.client.HTTPException, ConnectionError) as error:
                why = getattr(error, "reason", None) or error
                took = f" within {self._timeout:g} s" if isinstance(why, TimeoutError) else ""
                raise _Again(
                    f"{self.shown} did not answer{took} ({_hidden(str(why) or type(why).__name__, secrets)})", None, None
                ) from None
        raise Unreachable(f"{self.shown} redirects in a circle.")

    def _follow(self, location: str) -> None:
        """Go on at the same machine only: rows and headers are for whom the person named."""
        new = urljoin(self._address, location)
        here, there = urlsplit(self._address), urlsplit(new)
        if (here.scheme, here.hostname, here.port) != (there.scheme, there.hostname, there.port):
            raise Unreachable(
                f"{self.shown} redirects to {there.scheme}://{there.hostname or '?'}, which is not the machine that was named; nothing was "
                "sent there. If that is right, wrap that address."
            )
        self._address = new

    def _refusal(self, error: urllib.error.HTTPError, secrets: Mapping[str, str]) -> Exception:
        said = _hidden(" ".join(error.read(2000).decode(errors="replace").split()), secrets)
        why = f"{self.shown} answered {error.code} {error.reason}" + (f": {said[:200]}" if said else "")
        if error.code in _AGAIN:
            return _Again(why, error.code, _pause(error.headers.get("Retry-After")))
        if error.code == 413:
            return TooLarge(f"{why}. The request is too large; pass a smaller batch=.")
        if error.code in _FOR_GOOD:
            return Unreachable(f"{why}. Check the address and headers=.")
        return Refused(f"{why}. Check request= and the inputs.")

    def _body(self, answer: Any) -> bytes:
        body = answer.read(self._largest + 1)
        if len(body) > self._largest:
            raise Unreachable(f"{self.shown} answered more than {self._largest:,} bytes; if that is right, raise largest=.")
        return body

    def _parsed(self, body: bytes, secrets: Mapping[str, str]) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            start = _hidden(" ".join(body[:2000].decode(errors="replace").split()), secrets)[:200]
            raise Unreachable(f"{self.shown} did not answer JSON: {start or 'nothing'!r}. Check the address.") from None

    def _wait_turn(self) -> None:
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + 1 / self._rate
        if turn > now:
            time.sleep(turn - now)


class _Again(Exception):
    """A failure that may pass: why, the HTTP status, and how long the endpoint asks to wait."""

    def __init__(self, why: str, status: int | None, pause: float | None) -> None:
        super().__init__(why)
        self.why, self.status, self.pause = why, status, pause


def _filled(header: str, value: str) -> str:
    return _ENV.sub(lambda found: _secret(found[1], header), value)


def _secret(variable: str, header: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise Unreachable(f"The environment variable {variable}, for the header {header}, is not set; set it before explaining.")
    if not value.isascii() or not value.isprintable():
        raise Unreachable(f"The environment variable {variable} holds characters that a header cannot carry; set it anew.")
    return value


def _hidden(text: str, secrets: Mapping[str, str]) -> str:
    """``text`` without any word of a header's value in it: endpoints like to repeat what they were sent."""
    words = {word for value in secrets.values() for word in [value, *value.split()] if len(word) >= 4}
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "***")
    return text


def _pause(told: str | None) -> float | None:
    """Seconds in a Retry-After header, which holds seconds or a date."""
    if told is None:
        return None
    if told.strip().isdigit():
        return float(told)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
