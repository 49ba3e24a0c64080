"""Objects of Kubernetes as plain values: their pods, and whether Kubernetes knows each key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest

OLDEST, NEWEST = "1.25", "1.37"
OPERATOR = {"PrometheusRule", "ServiceMonitor"}
"""Kinds that Kubernetes itself does not know."""


def find_pod(one: dict[str, Any]) -> dict[str, Any] | None:
    """The metadata and specification of the pod that an object makes, None if it makes none."""
    match one["kind"]:
        case "StatefulSet" | "Deployment":
            return one["spec"]["template"]
        case "CronJob":
            return one["spec"]["jobTemplate"]["spec"]["template"]
        case "Pod":
            return one
    return None


def list_pods(objects: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The metadata and specification of each pod."""
    return [pod for each in objects if (pod := find_pod(each))]


def require_known_keys(objects: Sequence[dict[str, Any]]) -> None:
    """Compare objects with the schemas of the oldest and the newest version, strictly.

    Without kubernetes-validate the test is skipped, or failed when PROMAD_REQUIRE_REAL=1.
    """
    try:
        from kubernetes_validate import validate
    except ImportError:
        if os.environ.get("PROMAD_REQUIRE_REAL") == "1":
            raise
        pytest.skip("kubernetes-validate is not installed")
    for one in objects:
        for version in (OLDEST, NEWEST) if one["kind"] not in OPERATOR else ():
            validate(one, version, strict=True)


def assert_is_restricted(pod: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
