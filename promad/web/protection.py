"""Who may use the port: rate limit, passwords, and the headers of the web configuration file."""

from __future__ import annotations

import binascii
import ipaddress
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from promad.http_server.passwords import PasswordCheck, Verdict
from promad.http_server.rate_limit import RateLimit
from promad.http_server.security import Security
from promad.web.headers import HEADERS
from promad.web.prefix import RoutePrefix
from promad.web.problems import respond_with_problem

log = structlog.get_logger()

PROBES = ("/-/healthy", "/-/ready")
RATE_LIMIT = "rate_limit"
REFUSAL_REASONS = (
    *(str(each) for each in Verdict if each is not Verdict.RIGHT),
    RATE_LIMIT,
)
"""Why requests are refused before anything looks at them; one without a password is not counted."""


def protect(
    app: ASGIApp,
    find_security: Callable[[], Security],
    on_refusal: Callable[[str], None] = lambda reason: None,
    prefix: str = "",
    open_probes: bool = False,
) -> ASGIApp:
    """The application below a prefix, if there is one, and behind its passwords.

    Args:
        open_probes: health and readiness need no password.
    """
    served = RoutePrefix(app, prefix) if prefix else app
    probes = [prefix + path for path in PROBES] if open_probes else []
    return Protection(served, find_security, on_refusal, probes)


class Protection:
    """Asks for a password before anything else, as far as the security of the port says so."""

    def __init__(
        self,
        app: ASGIApp,
        find_security: Callable[[], Security],
        on_refusal: Callable[[str], None] = lambda reason: None,
        open_paths: Collection[str] = (),
    ) -> None:
        """Protect `app`.

        Args:
            find_security: is asked at each request.
            on_refusal: is called with one of `REFUSAL_REASONS`.
            open_paths: what needs no password.
        """
        self._app = app
        self._find_security = find_security
        self._on_refusal = on_refusal
        self._open_paths = frozenset(open_paths)
        self._passwords = PasswordCheck()
        self._warnings = RateLimit(5, 60.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        security = self._find_security()
        send = _add_headers(send, security.headers)
        refusal = await self._find_refusal(scope, security)
        await (refusal or self._app)(scope, receive, send)

    async def _find_refusal(self, scope: Scope, security: Security) -> Response | None:
        """What to answer instead of what was asked for; None if it may be."""
        if security.rate_limit is not None and not security.rate_limit.admit():
            return self._refuse(RATE_LIMIT, 429, "too many requests — retry later")
        if not security.users or scope["path"] in self._open_paths:
            return None
        given = read_credentials(Headers(scope=scope).get("authorization", ""))
        if given is None:
            return _ask("a user name and a password are required — send them as basic auth")
        client = _identify_client(scope)
        verdict = await self._passwords.check(security.users, *given, client)
        if verdict is Verdict.RIGHT:
            return None
        if self._warnings.admit():
            log.warning("authentication failed", client=client, reason=str(verdict))
        if verdict is Verdict.WRONG:
            self._on_refusal(verdict)
            return _ask("user name or password is wrong — check both")
        if verdict is Verdict.TOO_MANY_FAILURES:
            return self._refuse(verdict, 429, "too many wrong passwords — retry later")
        return self._refuse(verdict, 503, "too many passwords to verify — retry later")

    def _refuse(self, reason: str, status: int, detail: str) -> Response:
        self._on_refusal(reason)
        return respond_with_problem(status, detail, {**HEADERS, "Retry-After": "2"})


def _identify_client(scope: Scope) -> str:
    """The address of the client; of IPv6 the network, all of whose addresses it may use."""
    try:
        address = ipaddress.ip_address((scope.get("client") or ("",))[0].partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _ask(detail: str) -> Response:
    headers = {**HEADERS, "WWW-Authenticate": 'Basic realm="promad", charset="UTF-8"'}
    return respond_with_problem(401, detail, headers)


def read_credentials(authorization: str) -> tuple[bytes, bytes] | None:
    """The name and the password of a header; None if it has none.

    >>> read_credentials("Basic YTpiOmM=")
    (b'a', b'b:c')
    """
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (name, password) if colon else None


def _add_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """Set headers of every response, in place of promad's own."""
    if not headers:
        return send

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers
