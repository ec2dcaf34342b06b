"""Who may ask, and what a browser may do with the answer: host and origin checks, password, headers, request limits."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Response, request
from werkzeug.exceptions import BadRequest, HTTPException

from explainer.errors import InvalidInput

if TYPE_CHECKING:
    import dash

log = logging.getLogger(__name__)
USER = "explainer"
MAX_BODY = 16 * 2**20
_LOCAL_NAMES = {"localhost", "ip6-localhost"}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host.lower() in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def guard(app: dash.Dash, *, host: str, password: str | None) -> None:
    """Put every check before and after the requests of ``app``. Raises InvalidInput for an open host without a password."""
    if not is_loopback(host) and not password:
        raise InvalidInput(
            f"Host {host!r} can be reached from other machines, so a password is needed: pass --password or set "
            "EXPLAINER_PASSWORD. Or keep to 127.0.0.1, which only this machine can reach."
        )
    server = app.server
    server.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    server.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY
    local = is_loopback(host)

    @server.before_request
    def check() -> Response | None:
        return _host(local) or _password(password) or _origin() or _body(app)

    policy: list[str] = []

    @server.after_request
    def headers(response: Response) -> Response:
        # Computed at the first answer: the hashes cover inline scripts, which are known once all callbacks are.
        if not policy:
            policy.append(_policy(app))
        response.headers["Content-Security-Policy"] = policy[0]
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=()"
        if request.path.startswith("/_dash-update") or response.mimetype == "text/html":
            response.headers["Cache-Control"] = "no-store"
        return response

    _refuse_malformed(app)


def _host(local: bool) -> Response | None:
    """On a loopback host a page elsewhere must not reach us by pointing its own name at 127.0.0.1 (DNS rebinding)."""
    if local and not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
        return _plain(403, "This dashboard answers to localhost only.")
    return None


def _password(password: str | None) -> Response | None:
    if password is None or _right(password):
        return None
    response = _plain(401, f"A password is needed (user name {USER!r}).")
    response.headers["WWW-Authenticate"] = 'Basic realm="Explainer", charset="UTF-8"'
    return response


def _right(password: str) -> bool:
    try:
        given = request.authorization
        user, secret = (given.username or "", given.password or "") if given is not None and given.type == "basic" else ("", "")
    except Exception:  # a header that cannot be read is no password, whatever the reason
        return False

    def digest(text: str) -> bytes:
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

    # Digests have one length, so the time taken tells nothing, not even how long the password is.
    same_user = hmac.compare_digest(digest(user), digest(USER))
    return hmac.compare_digest(digest(secret), digest(password)) and same_user


def _origin() -> Response | None:
    """A page of another site must not post here with the person's credentials."""
    origin = request.headers.get("Origin")
    if request.method not in ("GET", "HEAD", "OPTIONS") and origin is not None and urlsplit(origin).netloc != request.host:
        return _plain(403, "Requests from other sites are refused.")
    return None


def _body(app: dash.Dash) -> Response | None:
    """Callback requests must have the shape Dash gives them; anything else is the sender's mistake, not a server error."""
    if request.method != "POST":
        return None
    if not request.path.endswith("_dash-update-component"):
        return _plain(404, "Nothing takes a POST here.")
    length = request.content_length
    if length is not None and length > MAX_BODY:
        return _plain(413, f"The request is larger than {MAX_BODY // 2**20} MB.")
    try:
        body = json.loads(request.get_data(cache=True))
    except (ValueError, RecursionError):
        return _plain(400, "The body is not JSON.")
    if not _well_formed(body) or not request.is_json:
        return _plain(400, "The body is not a callback request.")
    if body["output"] not in app.callback_map:
        return _plain(400, "No such callback.")
    return None


def _well_formed(body: Any) -> bool:
    if not isinstance(body, dict) or not isinstance(body.get("output"), str):
        return False
    if not isinstance(body.get("outputs", {}), (dict, list)) or not isinstance(body.get("changedPropIds", []), list):
        return False
    if not all(isinstance(p, str) and "." in p for p in body.get("changedPropIds", [])):
        return False

    def prop(given: Any) -> bool:
        if isinstance(given, list):  # a pattern matches many
            return all(prop(one) for one in given)
        return isinstance(given, dict) and isinstance(given.get("id"), (str, dict)) and isinstance(given.get("property"), str)

    groups = (body.get("inputs", []), body.get("state", []))
    return all(isinstance(group, list) and all(prop(p) for p in group) for group in groups)


class CallbackFailed(Exception):
    """A callback of ours failed on a well-formed request: our own mistake, answered 500 and logged."""


def _refuse_malformed(app: dash.Dash) -> None:
    """Answer 400 when Dash itself trips over a request that only looks like one (wrong number of inputs, wrong nesting)."""
    server = app.server

    @server.errorhandler(Exception)
    def failed(error: Exception) -> Any:
        if isinstance(error, HTTPException):
            return error
        if request.path.endswith("_dash-update-component") and not isinstance(error, CallbackFailed):
            log.warning("refused a malformed callback request: %s: %s", type(error).__name__, error)
            return _plain(400, "The callback request is malformed.")
        log.error("request failed", exc_info=error)
        return _plain(500, "Something went wrong on the server; its log says what.")


def bad_request(message: str) -> BadRequest:
    """The error to raise when a callback was given something no browser of ours sends."""
    return BadRequest(message)


def _policy(app: dash.Dash) -> str:
    scripts = " ".join(["'self'", *app.csp_hashes()])
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {scripts}",
            "style-src 'self' 'unsafe-inline'",  # plotly, AG Grid and Mantine set styles from script
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "manifest-src 'self'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def _plain(status: int, message: str) -> Response:
    return Response(message + "\n", status=status, mimetype="text/plain")
