"""What `promad doctor` finds in files of the host: who can read secrets, and room on the disk."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from promad.config import PrometheusSettings
from promad.diagnosis.checks import CHECKS
from promad.diagnosis.evidence import Host
from promad.diagnosis.files import (
    find_write_problem,
    list_secrets,
    measure_free_bytes,
    read_memory_limit,
)
from promad.diagnosis.findings import Fact, Finding

CONFIG = Path("config.yaml")


@pytest.fixture
def open_path():
    """A directory that every user can enter; those of pytest are private."""
    with TemporaryDirectory() as folder:
        path = Path(folder).resolve()
        path.chmod(0o755)
        if not all(parent.stat().st_mode & 0o001 for parent in path.parents):
            pytest.skip(f"other users cannot enter {path.parent}")
        yield path


def write(path, mode=0o600):
    path.write_text("secret")
    path.chmod(mode)
    return path


def find(check, **known):
    known = {"artifacts_dir": Path("/a"), "problem": "", "secrets": (), "free_bytes": None} | known
    return list(CHECKS[check].find(Host(**{"needed_bytes": 120_000_000, **known})))


def find_in(check, settings, config=CONFIG):
    secrets = list_secrets(PrometheusSettings.model_validate(settings), "prometheus", config)
    return find(check, secrets=secrets)


def basic(path):
    return {"basic_auth": {"username": "u", "password_file": path}}


def test_a_secret_that_only_its_owner_can_read_is_no_finding(open_path):
    settings = basic(write(open_path / "password"))
    assert find_in("exposed_secret", settings) == find_in("unreadable_secret", settings) == []


def test_a_secret_that_any_user_can_read_is_found(open_path):
    path = write(open_path / "password", 0o644)
    assert find_in("exposed_secret", basic(path)) == [
        Finding(
            "warning",
            f"prometheus.basic_auth.password_file ({path})",
            "any local user can read it (mode 0644)",
            f"chmod o-rwx {path}",
        )
    ]


def test_a_secret_below_a_private_directory_is_out_of_reach(open_path):
    folder = open_path / "secrets"
    folder.mkdir(mode=0o700)
    assert find_in("exposed_secret", basic(write(folder / "password", 0o644))) == []


def test_a_secret_that_is_not_there_is_found(open_path):
    path = open_path / "none"
    assert find_in("unreadable_secret", {"authorization": {"credentials_file": path}}) == [
        Finding(
            "error",
            f"prometheus.authorization.credentials_file ({path})",
            "cannot be read: No such file or directory",
            "create the file, and give the user of promad read access to it",
        )
    ]


def test_keys_and_headers_are_secrets_and_certificates_are_not(open_path):
    path = write(open_path / "file", 0o644)
    found = find_in(
        "exposed_secret",
        {
            "tls_config": {"ca_file": path, "cert_file": path, "key_file": path},
            "http_headers": {"X-Key": {"files": [path]}},
        },
    )
    assert [each.subject.partition(" ")[0] for each in found] == [
        "prometheus.tls_config.key_file",
        "prometheus.http_headers.X-Key.files",
    ]


def test_a_secret_in_the_configuration_makes_that_file_secret(open_path):
    config = write(open_path / "config.yaml", 0o644)
    settings = {"basic_auth": {"username": "u", "password": "p"}}
    (found,) = find_in("exposed_secret", settings, config)
    assert found.subject == f"prometheus.basic_auth.password ({config})"
    assert find_in("exposed_secret", {}, config) == []


def test_a_directory_that_does_not_exist_yet_is_judged_by_the_one_above(tmp_path):
    assert find_write_problem(tmp_path / "artifacts" / "deep") == ""


def test_a_file_in_the_place_of_the_directory_is_found(tmp_path):
    path = write(tmp_path / "artifacts")
    problem = find_write_problem(path)
    assert find("artifacts_dir", artifacts_dir=path, problem=problem) == [
        Finding(
            "error",
            f"artifacts_dir ({path})",
            f"{path} is not a directory",
            "give the user of promad write access to it, or set another artifacts_dir",
        )
    ]
    assert find("artifacts_dir") == []


def test_a_directory_without_write_access_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert find_write_problem(tmp_path) == f"{tmp_path} cannot be written by this user"


def test_too_little_space_is_found():
    assert find("disk_space", free_bytes=50_000_000) == [
        Finding(
            "error",
            "artifacts_dir (/a)",
            "50 MB free, collect and the stages after it need about 120 MB",
            "free space, shorten collection_period_hours, or set another artifacts_dir",
        )
    ]
    assert find("disk_space", free_bytes=52_000_000_000) == [
        Fact("disk", "52 GB free, collect and the stages after it need about 120 MB")
    ]
    assert find("disk_space", free_bytes=None) == []


def test_space_is_measured_where_the_directory_will_be(tmp_path):
    assert measure_free_bytes(tmp_path / "artifacts") > 0


@pytest.mark.parametrize(("text", "limited"), [("1048576\n", True), ("max\n", False)])
def test_the_limit_of_the_control_group_counts(tmp_path, text, limited):
    path = tmp_path / "memory.max"
    path.write_text(text)
    machine = read_memory_limit(tmp_path / "none")
    assert machine > 2**20
    assert read_memory_limit(path) == (2**20 if limited else machine)
