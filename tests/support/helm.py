"""The Helm chart as the cluster would see it: `helm template` on loopback, without a cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "promad"


@dataclass(frozen=True)
class Helm:
    """A program `helm`, and a directory for values."""

    program: str
    directory: Path
    rendered: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        home = {name: str(self.directory) for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME")}
        return subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.defpath, "HOME": str(self.directory), **home},
        )

    def template(
        self, values: dict[str, Any], *arguments: str | Path
    ) -> subprocess.CompletedProcess[str]:
        """What `helm template` did, with values beside those of the chart."""
        file = self.directory / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        return self.run("template", "promad", CHART, "--values", file, *arguments)

    def render(self, values: dict[str, Any], *arguments: str | Path) -> list[dict[str, Any]]:
        """The objects of a release `promad`; the same for the same arguments."""
        key = json.dumps([values, *map(str, arguments)])
        if key not in self.rendered:
            done = self.template(values, *arguments)
            assert done.returncode == 0, done.stderr
            self.rendered[key] = [each for each in yaml.safe_load_all(done.stdout) if each]
        return self.rendered[key]


def find_helm(directory: Path) -> Helm:
    """The program that PROMAD_HELM names, or `helm` on the path; else the test is skipped."""
    program = os.environ.get("PROMAD_HELM") or shutil.which("helm")
    if not program:
        pytest.skip("helm is not installed, and PROMAD_HELM names none")
    return Helm(program, directory)
