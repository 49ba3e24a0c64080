"""The web configuration file: what promad accepts is held to what promtool accepts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import structlog

from promad.cli.commands.check_config import check_web_config
from promad.errors import ConfigError
from promad.http_server import WatchedSecurity, load_security
from promad.http_server.cipher_suites import CIPHER_SUITES
from promad.http_server.security import RETRY_SECONDS
from promad.http_server.web_config import WebConfig
from tests.support.certificates import make_certificates
from tests.support.prometheus_server import require_binary

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
FILES = "cert_file: server.pem, key_file: server.key"
CLIENTS = f"{FILES}, client_ca_file: ca.pem, client_auth_type"


def tls(keys: str) -> str:
    return f"tls_server_config: {{{keys}}}"


def headers(pairs: str) -> str:
    return f"http_server_config: {{headers: {{{pairs}}}}}"


ACCEPTED = [
    tls(FILES),
    tls(f"{FILES}, min_version: TLS12, max_version: TLS12"),
    tls(f"{FILES}, min_version: TLS13, max_version: TLS13, prefer_server_cipher_suites: false"),
    tls(f"{FILES}, client_auth_type: NoClientCert"),
    tls(f"{CLIENTS}: RequireAndVerifyClientCert"),
    tls(f"{CLIENTS}: VerifyClientCertIfGiven"),
    tls(f"{FILES}, cipher_suites: [{', '.join(CIPHER_SUITES)}]"),
    tls(f"{FILES}, cipher_suites: [TLS_AES_128_GCM_SHA256]"),
    *[tls(f"{FILES}, curve_preferences: [{curve}]")
      for curve in ("CurveP256", "CurveP384", "CurveP521", "X25519")],
    "http_server_config: {http2: false}",
    headers("X-Frame-Options: deny, X-Content-Type-Options: nosniff, X-XSS-Protection: '1'"),
    headers("Strict-Transport-Security: max-age=31536000, Content-Security-Policy: ''"),
    f"basic_auth_users: {{alice: {HASH}, bob: {HASH.replace('2y', '2b')}}}",
    f"{tls(FILES)}\nbasic_auth_users:\n  alice: {HASH}\n",
]  # fmt: skip
"""By both."""

REFUSED = {
    "tls_server_config: {cert_file: server.pem}": ": key_file is missing — add it",
    "tls_server_config: {key_file: server.key}": ": cert_file is missing — add it",
    tls("cert_file: no.pem, key_file: server.key"): ".cert_file: cannot read",
    tls("cert_file: ca.key, key_file: server.key"): ".cert_file: certificate and key cannot be "
    "loaded",
    tls("cert_file: ca.pem, key_file: server.key"): ".cert_file: certificate and key cannot be "
    "loaded (key values mismatch) — check that both are PEM and belong together",
    tls("cert_file: server.pem, key_file: locked.key"): ".key_file: the key is encrypted",
    tls(f"{FILES}, client_ca_file: ca.pem"): "client_ca_file needs client_auth_type — set both",
    tls(f"{FILES}, client_ca_file: no.pem, client_auth_type: VerifyClientCertIfGiven"):
    ".client_ca_file: cannot read",
    tls(f"{CLIENTS}: Sometimes"): ".client_auth_type: unknown value (Sometimes) — use one of",
    tls(f"{FILES}, min_version: SSL3"): ".min_version: unknown value (SSL3) — use one of TLS10",
    tls(f"{FILES}, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]"): ".cipher_suites.0: unknown cipher",
    tls(f"{FILES}, curve_preferences: [P256]"): ".curve_preferences.0: unknown value (P256)",
    tls(f"{FILES}, cert_fiel: x"): ".cert_fiel: unknown key — did you mean cert_file?",
    "basic_auth: {}": "1: basic_auth: unknown key — did you mean basic_auth_users?",
    "basic_auth_users: {alice: secret}": ".alice: not a bcrypt hash (hidden) — write the output",
    f"basic_auth_users: {{alice: {HASH}, alice: {HASH}}}": ".alice: duplicate key",
    f"basic_auth_users: {{alice: {HASH.replace('$10', '$99')}}}": ".alice: not a bcrypt hash",
    headers("Server: promad"): "headers: Server cannot be set — use one of Strict-Transport",
    headers("X-Frame-Options: allow"): "headers: X-Frame-Options has an invalid value — use deny",
    "- a list": "1: not a mapping of keys to values — see docs/security-of-the-port.md",
    "a: [": "1: invalid YAML: ",
}  # fmt: skip
"""By both; promad with this message."""

STRICTER = {
    "": "1: empty file — see docs/security-of-the-port.md",
    "tls_server_config: {min_version: TLS13}": ": cert_file is missing — add it",
    "basic_auth_users: {}": "basic_auth_users: must not be empty — add at least one entry",
    "tls_server_config:": "tls_server_config: has no value — set one, or remove the key",
    "basic_auth_users:": "basic_auth_users: has no value — set one, or remove the key",
    "http_server_config: {http2: true}": "http2: not supported: promad serves HTTP/1.1 (true) — "
    "write false, or remove the key",
    tls(f"{CLIENTS}: RequestClientCert"): ".client_auth_type: not supported: it accepts "
    "certificates that nobody signed (RequestClientCert) — write RequireAndVerifyClientCert",
    tls(f"{CLIENTS}: RequireAnyClientCert"): ".client_auth_type: not supported",
    tls(f"{CLIENTS}: RequireClientCert"): ".client_auth_type: not supported",
    tls(f"{FILES}, client_auth_type: RequireAndVerifyClientCert"):
    "client_auth_type needs client_ca_file",
    tls(f"{FILES}, client_ca_file: ca.key, client_auth_type: VerifyClientCertIfGiven"):
    ".client_ca_file: cannot be loaded",
    tls(f"{FILES}, min_version: TLS10"): ".min_version: not supported: insecure (TLS10) — write",
    tls(f"{FILES}, min_version: TLS11"): ".min_version: not supported: insecure (TLS11) — write",
    tls(f"{FILES}, min_version: TLS13, max_version: TLS12"): "min_version is above max_version",
    tls(f"{FILES}, max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]"):
    ".cipher_suites: all: not offered",
    tls(f"{FILES}, curve_preferences: [CurveP256, X25519]"): ".curve_preferences: several curves "
    "are not supported — name one, or remove the key",
    f"basic_auth_users: {{alice: {HASH.replace('$10', '$19')}}}": ".alice: cost above 18",
    headers("Content-Security-Policy: \"a\\nb\""): "has an invalid value — write it in one line",
}  # fmt: skip
"""Accepted by promtool: what promad cannot do, or what would protect less than it seems to."""

NEWER_ACCEPTED = [
    tls(f"{CLIENTS}: RequireAndVerifyClientCert, client_allowed_sans: [a.example, 10.0.0.1]"),
    "rate_limit: {interval: 100ms, burst: 20}",
    "rate_limit: {interval: 0, burst: 1}",
]
NEWER_REFUSED = {
    tls(f"{FILES}, cert: x"): "cert and cert_file are both set — remove one of the two",
    tls("cert: x, key: y"): ".cert: certificate and key cannot be loaded",
    tls(f"{CLIENTS}: VerifyClientCertIfGiven, client_allowed_sans: [a.example]"):
    "client_allowed_sans needs a certificate of every client",
    tls(f"{CLIENTS}: RequireAndVerifyClientCert, client_allowed_sans: []"):
    ".client_allowed_sans: must not be empty",
    "rate_limit: {interval: 5, burst: 1}": ".interval: not a duration (5) — write it like 15s",
    "rate_limit: {interval: 1s, burst: 0}": ".burst: out of range (0) — must be at least 1",
}  # fmt: skip
"""Keys that the promtool of Debian does not know yet."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    command = [require_binary("openssl"), "pkey", "-in", "server.key", "-aes256"]
    command += ["-passout", "pass:secret", "-out", "locked.key"]
    subprocess.run(command, cwd=made, check=True, capture_output=True)
    return made


def write(directory: Path, text: str) -> Path:
    path = directory / "web.yml"
    path.write_text(text)
    return path


def find_problem(path: Path) -> str:
    """The one problem of a file; empty if it is accepted."""
    try:
        load_security(path)
    except ConfigError as error:
        (problem,) = error.problems
        return problem
    return ""


def promtool_accepts(path: Path) -> bool:
    command = [require_binary("promtool"), "check", "web-config", str(path)]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, check=False, timeout=30)
    return done.returncode == 0


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_promtool_accepts_is_accepted(directory: Path, text: str) -> None:
    path = write(directory, text)
    assert (find_problem(path), promtool_accepts(path)) == ("", True)


@pytest.mark.parametrize("text", REFUSED)
def test_what_promtool_refuses_is_refused(directory: Path, text: str) -> None:
    path = write(directory, text)
    assert not promtool_accepts(path)
    problem = find_problem(path)
    assert problem.startswith(f"{path}:")
    assert REFUSED[text] in problem


@pytest.mark.parametrize("text", STRICTER)
def test_what_cannot_be_honoured_is_refused(directory: Path, text: str) -> None:
    path = write(directory, text)
    assert promtool_accepts(path)
    assert STRICTER[text] in find_problem(path)


@pytest.mark.parametrize("text", NEWER_ACCEPTED)
def test_newer_keys_are_accepted(directory: Path, text: str) -> None:
    assert find_problem(write(directory, text)) == ""


@pytest.mark.parametrize("text", NEWER_REFUSED)
def test_newer_keys_are_checked(directory: Path, text: str) -> None:
    assert NEWER_REFUSED[text] in find_problem(write(directory, text))


def test_the_line_of_each_mistake_is_given(directory: Path) -> None:
    text = "tls_server_config:\n  cert_file: a\n  kye_file: b\nbasic_auth_users:\n  bob: x\n"
    path = write(directory, text)
    with pytest.raises(ConfigError) as caught:
        load_security(path)
    assert [line.partition(" ")[0] for line in caught.value.problems] == [
        f"{path}:3:",
        f"{path}:5:",
    ]
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert find_problem(tmp_path / "web.yml") == (
        f"{tmp_path}/web.yml: cannot read the file (No such file or directory) — check path and "
        "permissions"
    )


@pytest.mark.parametrize("name", ["cert_file", "key_file"])
def test_what_is_no_plain_file_or_too_large_is_refused(directory: Path, name: str) -> None:
    os.mkfifo(directory / f"{name}.fifo")
    (directory / f"{name}.large").write_bytes(b" " * 1_000_001)
    for other, reason in (
        ("fifo", "not a regular file"),
        ("large", "at most 1,000,000 are"),
    ):
        keys = FILES.replace(f"{name}: server", f"{name}: {name}").replace(
            *((".pem", f".{other}") if name == "cert_file" else (".key", f".{other}"))
        )
        assert f".{name}: cannot read" in (problem := find_problem(write(directory, tls(keys))))
        assert reason in problem


def test_certificates_may_be_in_the_file(directory: Path) -> None:
    def indent(name: str) -> str:
        return (directory / name).read_text().replace("\n", "\n    ")

    text = "tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n"
    for key, name in (("cert", "server.pem"), ("key", "server.key"), ("client_ca", "ca.pem")):
        text += f"  {key}: |\n    {indent(name)}\n"
    security = load_security(write(directory, text))
    assert security.tls is not None
    assert len(security.tls.context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (tls(FILES), "TLS, 0 users"),
        (f"basic_auth_users: {{alice: {HASH}}}", "no TLS, 1 user"),
        (tls(f"{CLIENTS}: RequireAndVerifyClientCert"), "TLS with client certificates, 0 users"),
        (tls(f"{CLIENTS}: VerifyClientCertIfGiven"), "TLS with optional client certificates, 0"),
    ],
)
def test_check_config_says_what_the_file_turns_on(directory, text: str, expected: str) -> None:
    path = write(directory, text)
    assert check_web_config(path).startswith(f"{path}: {expected}")
    with pytest.raises(ConfigError):
        check_web_config(write(directory, "nonsense: 1"))


def test_a_key_is_in_no_repr(directory: Path) -> None:
    config = WebConfig.model_validate({"tls_server_config": {"cert": "a", "key": "very secret"}})
    assert "very secret" not in repr(config)


@pytest.mark.parametrize(
    ("allowed", "names", "expected"),
    [
        (["a.example"], [("DNS", "a.example")], True),
        (["a.example"], [("DNS", "b.example"), ("DNS", "a.example")], True),
        (["a.example"], [("DNS", "A.example")], False),
        (["a.example"], [("URI", "a.example2")], False),
        (["10.0.0.1"], [("IP Address", "10.0.0.1")], True),
        (["2001:db8::1"], [("IP Address", "2001:DB8:0:0:0:0:0:1")], True),
        (["me@a.example"], [("email", "me@a.example")], True),
        (["spiffe://a/b"], [("URI", "spiffe://a/b")], True),
        (["a.example"], [], False),
    ],
)
def test_a_client_needs_one_of_the_allowed_names(directory, allowed, names, expected) -> None:
    text = tls(f"{CLIENTS}: RequireAndVerifyClientCert, client_allowed_sans: {allowed}")
    security = load_security(write(directory, text.replace("'", '"')))
    assert security.tls is not None
    assert security.tls.allows({"subjectAltName": names}) is expected


# Changes of the file


class Followed:
    """A watched file, whose looks a test calls, on a clock that it turns."""

    def __init__(self, directory: Path, text: str) -> None:
        self.path = write(directory, text)
        self.now = 0.0
        self.results: list[bool] = []
        self.watched = WatchedSecurity(self.path, self.results.append, lambda: self.now)

    def change(self, text: str) -> None:
        write(self.path.parent, text)
        self.watched.look()
        assert self.results == [], "the file may be incomplete yet"
        self.watched.look()

    @property
    def users(self) -> list[bytes]:
        return list(self.watched.current.users)


def users(*names: str) -> str:
    return f"basic_auth_users: {{{', '.join(f'{name}: {HASH}' for name in names)}}}"


def test_a_change_is_used_once_two_looks_find_the_same(tmp_path: Path) -> None:
    followed = Followed(tmp_path, users("alice"))
    followed.watched.look()
    followed.change(users("bob"))
    assert (followed.users, followed.results) == ([b"bob"], [True])
    followed.watched.look()
    assert followed.results == [True]


def test_a_file_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    followed = Followed(tmp_path, users("alice", "bob"))
    for text in (f"{users('alice')}\n#", f"{users('alice')}\n##", users("alice", "bob")):
        write(tmp_path, text)
        followed.watched.look()
    assert (followed.users, followed.results) == ([b"alice", b"bob"], [])


def test_a_bad_file_keeps_the_one_before_and_is_logged_once(tmp_path: Path) -> None:
    followed = Followed(tmp_path, users("alice"))
    with structlog.testing.capture_logs() as lines:
        followed.change("basic_auth_users: {bob: x}")
        followed.now += RETRY_SECONDS
        followed.watched.look()
        assert followed.users == [b"alice"]
        assert followed.results == [False, False]
        write(tmp_path, users("carol"))
        followed.watched.look()
        followed.watched.look()
    assert (followed.users, followed.results[2:]) == ([b"carol"], [True])
    assert [line["event"] for line in lines] == [
        "web configuration reload failed",
        "web configuration reloaded",
    ]
    assert ".bob: not a bcrypt hash" in lines[0]["error"]


def test_the_file_as_it_was_ends_the_failure(tmp_path: Path) -> None:
    followed = Followed(tmp_path, users("alice"))
    followed.change("nonsense: 1")
    write(tmp_path, users("alice"))
    for _ in range(3):
        followed.watched.look()
    assert (followed.users, followed.results) == ([b"alice"], [False, True])


@pytest.mark.parametrize("before", [tls(FILES), users("alice")])
def test_tls_does_not_disappear_without_a_restart(tmp_path: Path, before: str) -> None:
    make_certificates(tmp_path)
    after = users("alice") if before == tls(FILES) else tls(FILES)
    followed = Followed(tmp_path, before)
    followed.change(after)
    assert followed.results == [False]
    assert (followed.watched.current.tls is None) == (before != tls(FILES))


def test_a_new_certificate_is_used_and_half_of_one_is_not(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    followed = Followed(tmp_path, tls(FILES))
    before = followed.watched.current.tls
    certificate, key = ((tmp_path / f"client.{end}").read_text() for end in ("pem", "key"))
    (tmp_path / "server.pem").write_text(certificate)
    followed.watched.look()
    followed.watched.look()
    assert (followed.results, followed.watched.current.tls is before) == ([False], True)
    (tmp_path / "server.key").write_text(key)
    followed.watched.look()
    followed.watched.look()
    assert (followed.results, followed.watched.current.tls is before) == ([False, True], False)


def test_a_secret_that_kubernetes_swaps_is_followed(tmp_path: Path) -> None:
    """Each file is a link into `..data`, which is a link that changes at once."""
    for number, name in enumerate(("alice", "bob")):
        (tmp_path / f"v{number}").mkdir()
        write(tmp_path / f"v{number}", users(name))
    (tmp_path / "..data").symlink_to("v0")
    (tmp_path / "web.yml").symlink_to("..data/web.yml")
    watched = WatchedSecurity(tmp_path / "web.yml")
    (tmp_path / "next").symlink_to("v1")
    (tmp_path / "next").rename(tmp_path / "..data")
    watched.look()
    watched.look()
    assert list(watched.current.users) == [b"bob"]


def test_a_file_that_was_named_but_missing_is_tried_again(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    followed = Followed(tmp_path, tls(FILES))
    followed.change(tls(f"{FILES.replace('server.', 'new.')}"))
    assert followed.results == [False]
    for end in ("pem", "key"):
        (tmp_path / f"client.{end}").rename(tmp_path / f"new.{end}")
    followed.watched.look()
    assert followed.results == [False]
    followed.now += RETRY_SECONDS
    followed.watched.look()
    assert followed.results == [False, True]
    assert tmp_path / "new.pem" in followed.watched.current.files
