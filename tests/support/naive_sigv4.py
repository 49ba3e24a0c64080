"""AWS Signature Version 4, checked step by step as the AWS documentation describes it.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote


def find_fault(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Mapping[str, str],
    region: str,
    service: str,
) -> str:
    """Why a server refuses a request; empty if its signature is right.

    Args:
        target: path and query as they were sent.
        secrets: by access key.
    """
    known = {name.lower(): value.strip() for name, value in headers.items()}
    algorithm, _, rest = known.get("authorization", "").partition(" ")
    if algorithm != "AWS4-HMAC-SHA256":
        return "not signed"
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    access_key, *scope = parts["Credential"].split("/")
    date = known.get("x-amz-date", "")
    if scope != [date[:8], region, service, "aws4_request"]:
        return f"scope {scope}"
    if access_key not in secrets:
        return "unknown access key"
    signed = parts["SignedHeaders"].split(";")
    required = {"host"} | {name for name in known if name.startswith("x-amz-")}
    if missing := required - set(signed):
        return f"not signed: {missing}"
    expected = sign(method, target, known, signed, body, scope, secrets[access_key])
    return "" if hmac.compare_digest(expected, parts["Signature"]) else "wrong signature"


def sign(
    method: str,
    target: str,
    headers: Mapping[str, str],
    signed: Sequence[str],
    body: bytes,
    scope: Sequence[str],
    secret: str,
) -> str:
    """The signature in hexadecimal digits; the names of `headers` are in lower case."""
    path, _, query = target.partition("?")
    canonical = "\n".join(
        [
            method,
            quote(path, safe="/~"),
            _sort_query(query),
            *(f"{name}:{' '.join(headers[name].split())}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], "/".join(scope), digest])
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _sort_query(query: str) -> str:
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
    encoded = sorted((quote(unquote(k), safe="~"), quote(unquote(v), safe="~")) for k, v in pairs)
    return "&".join(f"{key}={value}" for key, value in encoded)
