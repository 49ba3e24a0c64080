"""Which proxy a server is asked through, by the rules that Prometheus has from Go.

(https://pkg.go.dev/golang.org/x/net/http/httpproxy)
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from urllib3.connection import port_by_scheme
from urllib3.util import Url

from promad.config import ClientSettings, Oauth2


def choose_proxy(
    settings: ClientSettings | Oauth2, url: Url, environment: Mapping[str, str]
) -> str | None:
    """The URL of the proxy for a server; None if it is asked directly."""
    if not settings.proxy_from_environment:
        named = settings.proxy_url
        return None if settings.no_proxy and _is_excepted(url, settings.no_proxy) else named
    found = _read_variable(environment, f"{url.scheme}_proxy")
    if not found or _is_excepted(url, _read_variable(environment, "no_proxy")):
        return None
    return found if "://" in found else f"http://{found}"


def _read_variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name) or ""


def _is_excepted(url: Url, exceptions: str) -> bool:
    """Whether a list of hosts has that of `url`; this machine is always excepted."""
    host = (url.host or "").strip("[]").lower().rstrip(".")
    port = url.port or port_by_scheme.get(url.scheme or "", 0)
    address = _parse_address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = (entry.strip().lower() for entry in exceptions.split(","))
    return any(_matches(entry, host, address, port) for entry in entries if entry)


def _matches(entry: str, host: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
    """Whether an entry is the host: `*`, a network, an address or a domain, with a port or not."""
    if entry == "*":
        return True
    if "/" in entry:
        with suppress(ValueError):
            return address is not None and address in ip_network(entry, strict=False)
        return False
    name, wanted = _split_port(entry)
    if wanted not in {None, port}:
        return False
    if address is not None:
        return _parse_address(name) == address
    domain = name.removeprefix("*")
    if domain.startswith("."):
        return host.endswith(domain)
    return host == domain or host.endswith(f".{domain}")


def _split_port(entry: str) -> tuple[str, int | None]:
    """The host and the port of an entry; an IPv6 address has a port only after its brackets."""
    head, colon, tail = entry.rpartition(":")
    is_whole = not colon or (head.count(":") and not head.endswith("]"))
    if is_whole or not tail.isdecimal():
        return entry.strip("[]"), None
    return head.strip("[]"), int(tail)


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    with suppress(ValueError):
        return ip_address(text)
    return None
