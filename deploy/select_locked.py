"""Print the locked requirements, hashes included, of what pip would install for a wheel.

    pip install --dry-run --report report.json --constraint versions.txt WHEEL
    python select_locked.py report.json locked.txt > selected.txt

`locked.txt` is what `pipenv requirements --hash` prints: a requirement per line.
"""

import json
import re
import sys
from pathlib import Path


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    report, locked = map(Path, sys.argv[1:])
    installed = json.loads(report.read_text())["install"]
    wanted = {normalize(each["metadata"]["name"]) for each in installed} - {"promad-exporter"}
    lines = {
        normalize(match.group()): line
        for line in locked.read_text().splitlines()
        if (match := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line))
    }
    missing = sorted(wanted - set(lines))
    if missing:
        sys.exit(f"not in Pipfile.lock: {', '.join(missing)}")
    sys.stdout.writelines(lines[name] + "\n" for name in sorted(wanted))


if __name__ == "__main__":
    main()
